"""The course of a session in a bounded number of bins, however long the clip."""

from __future__ import annotations

from typing import Any

from lazyvos.journal import Moment

ASKED, PSEUDO, CLICKED, KEPT = 1, 2, 4, 8


class Timeline:
    """Presence, scores and marks of every committed frame in at most ``bins`` bins.

    A bin covers ``span`` frames. When all are full, neighbours are joined and ``span`` doubles: a bin keeps the
    highest score and every mark of its frames.
    """

    def __init__(self, bins: int = 512) -> None:
        self.bins, self.span = bins, 1
        self._scores: list[dict[int, float]] = []
        self._present: list[set[int]] = []
        self._marks: list[int] = []

    def add(self, moment: Moment) -> None:
        """Enter one committed frame."""
        while moment.t // self.span >= self.bins:
            self._halve()
        index = moment.t // self.span
        while len(self._marks) <= index:
            self._scores.append({})
            self._present.append(set())
            self._marks.append(0)
        scores = self._scores[index]
        for name, area, score in zip(moment.objects, moment.areas, moment.scores, strict=True):
            if area:
                self._present[index].add(name)
            if score is not None:
                scores[name] = max(score, scores.get(name, 0.0))
        self._marks[index] |= (ASKED * bool(moment.asked) | PSEUDO * bool(moment.pseudo)
                               | CLICKED * bool(moment.clicked) | KEPT * moment.kept)

    def _halve(self) -> None:
        self.span *= 2
        pairs = range(0, len(self._marks), 2)
        self._scores = [self._joined(i) for i in pairs]
        self._present = [set().union(*self._present[i:i + 2]) for i in pairs]
        self._marks = [self._marks[i] | (self._marks[i + 1] if i + 1 < len(self._marks) else 0) for i in pairs]

    def _joined(self, i: int) -> dict[int, float]:
        both = self._scores[i:i + 2]
        return {name: max(scores.get(name, 0.0) for scores in both) for name in set().union(*both)}

    def data(self) -> dict[str, Any]:
        """Plain lists for the page: ``present`` and ``scores`` per object, ``marks`` as bits, one entry per bin."""
        names = sorted(set().union(*self._present, *self._scores))
        return {
            "span": self.span, "objects": names, "marks": list(self._marks),
            "present": {name: [int(name in seen) for seen in self._present] for name in names},
            "scores": {name: [None if name not in s else round(s[name], 3) for s in self._scores] for name in names},
        }
