"""S_R, ΔS_R and what happened, frame by frame, in a bounded number of bins, and any part of it for a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lazyvos.curves import POINTS, Curves, Line, Mark
from lazyvos.journal import Moment
from lazyvos_widgets.timeline import ASKED, CLICKED, KEPT, PSEUDO

EVENTS = {"asked": ASKED, "pseudo": PSEUDO, "clicked": CLICKED}
MEASURES = ("score", "delta")


class _Rows:
    """Of one object: lowest and highest S, lowest and highest ΔS ``float32 [n, 4]`` (NaN: none) and marks ``uint8 [n]``."""

    def __init__(self, room: int) -> None:
        self.values = np.full((room, 4), np.nan, np.float32)
        self.marks = np.zeros(room, np.uint8)

    def grow(self, room: int) -> None:
        more = room - len(self.marks)
        self.values = np.concatenate([self.values, np.full((more, 4), np.nan, np.float32)])
        self.marks = np.concatenate([self.marks, np.zeros(more, np.uint8)])

    def halve(self) -> None:
        half = len(self.marks) // 2
        values, marks = _joined(self.values, 2), np.bitwise_or.reduce(self.marks.reshape(-1, 2), 1)
        self.values[:], self.marks[:] = np.nan, 0
        self.values[:half], self.marks[:half] = values, marks


class Course:
    """The numbers of every committed frame.

    Exact up to ``bins`` frames; then neighbours are joined, lowest and highest values and every mark survive, and a bin
    covers ``span`` frames. ``bins`` is a power of two.

    Attributes
    ----------
    frames: one more than the number of the newest frame.
    """

    def __init__(self, bins: int = 32768) -> None:
        self.bins, self.span, self.frames = bins, 1, 0
        self._room = min(1024, bins)
        self._rows: dict[int, _Rows] = {}
        self._kept = np.zeros(self._room, np.uint8)

    @property
    def objects(self) -> list[int]:
        """Ids in order."""
        return sorted(self._rows)

    def add(self, moment: Moment) -> None:
        """Enter one committed frame."""
        while moment.t // self.span >= self.bins:
            self._halve()
        i = moment.t // self.span
        while i >= self._room:
            self._grow()
        for name, score, delta in zip(moment.objects, moment.scores, moment.deltas, strict=True):
            row = self._row(name).values[i]
            for at, value in ((0, score), (2, delta)):
                if value is not None:
                    row[at], row[at + 1] = np.fmin(row[at], value), np.fmax(row[at + 1], value)
        for names, bit in ((moment.asked, ASKED), (moment.pseudo, PSEUDO), (moment.clicked, CLICKED)):
            for name in names:
                self._row(name).marks[i] |= bit
        self._kept[i] |= KEPT * bool(moment.kept)
        self.frames = max(self.frames, moment.t + 1)

    def _row(self, name: int) -> _Rows:
        if name not in self._rows:
            self._rows[name] = _Rows(self._room)
        return self._rows[name]

    def _grow(self) -> None:
        for rows in self._rows.values():
            rows.grow(2 * self._room)
        self._kept = np.concatenate([self._kept, np.zeros(self._room, np.uint8)])
        self._room *= 2

    def _halve(self) -> None:
        self.span *= 2
        for rows in self._rows.values():
            rows.halve()
        kept = np.bitwise_or.reduce(self._kept.reshape(-1, 2), 1)
        self._kept[:] = 0
        self._kept[: len(kept)] = kept

    # Looking ------------------------------------------------------------------------------------------------------

    def window(self, first: int, last: int, buckets: int = 600, marks: int = 300) -> dict[str, Any]:
        """Frames ``first`` to ``last`` in at most ``buckets`` steps (fewer with many objects).

        Returns ``start`` and ``step`` in frames, ``objects``, ``values`` by id as bytes of ``float32 [n, 4]`` (lowest and
        highest S, lowest and highest ΔS; NaN where there is none), ``events`` as ``[kind, object, t, S, ΔS]`` and ``kept``, the frames
        stored; of each kind at most ``marks``, evenly, and ``left_out``, how many are not among them.
        """
        low, high = max(0, first) // self.span, min(last, self.frames - 1) // self.span + 1
        number = max(0, high - low)
        most = max(60, min(buckets, 6000 // max(1, len(self._rows))))
        group = max(1, -(-number // most))
        events: list[list[Any]] = []
        left_out = 0
        for kind, bit in EVENTS.items():
            found = [(name, int(i)) for name in self.objects for i in low + np.flatnonzero(self._rows[name].marks[low:high] & bit)]
            chosen = _thinned(found, marks)
            left_out += len(found) - len(chosen)
            events += [[kind, name, i * self.span, *self._peak(name, i)] for name, i in chosen]
        stored = (low + np.flatnonzero(self._kept[low:high])).tolist()
        kept = _thinned(stored, marks)
        return {
            "start": low * self.span, "step": group * self.span, "objects": self.objects, "events": events,
            "kept": [i * self.span for i in kept], "left_out": left_out + len(stored) - len(kept),
            "values": {str(name): _joined(self._rows[name].values[low:high], group).tobytes() for name in self.objects},
        }

    def pick(self, first: int, until: int, measure: str) -> int:
        """Of frames ``first`` to ``until - 1`` the one with the highest value of any object; ``first`` where there is none."""
        low, high = first // self.span, max(first + 1, until - 1) // self.span + 1
        column = 1 + 2 * MEASURES.index(measure)
        planes = [rows.values[low:high, column] for rows in self._rows.values()]
        best = np.fmax.reduce(planes, 0) if planes and high - low > 1 else np.empty(0)
        if not np.isfinite(best).any():
            return first
        return min(max(first, (low + int(np.nanargmax(best))) * self.span), max(first, until - 1))

    def next_mark(self, t: int, by: int) -> int | None:
        """The nearest frame after (``by`` 1) or before (-1) frame ``t`` with a request, pseudo-correction or click."""
        any_mark = np.zeros(self._room, np.uint8)
        for rows in self._rows.values():
            any_mark |= rows.marks
        found = np.flatnonzero(any_mark) * self.span
        wanted = found[found > t] if by > 0 else found[found < t]
        return None if not len(wanted) else int(wanted[0] if by > 0 else wanted[-1])

    def facts(self, t: int) -> list[dict[str, Any]]:
        """Per object of frame ``t``: its ``id``, ``score``, ``delta`` (``None`` where unknown) and ``marks`` as bits."""
        i = t // self.span
        if not 0 <= t < self.frames:
            return []
        found = []
        for name in self.objects:
            score, delta = self._peak(name, i)
            if score is not None or self._rows[name].marks[i]:
                found.append({"id": name, "score": score, "delta": delta, "marks": int(self._rows[name].marks[i])})
        return found

    def kept(self, t: int) -> bool:
        """Whether the memory took frame ``t``."""
        return 0 <= t < self.frames and bool(self._kept[t // self.span])

    def _peak(self, name: int, i: int) -> tuple[float | None, float | None]:
        row = self._rows[name].values[i]
        score, delta = (None if np.isnan(v) else round(float(v), 4) for v in (row[1], row[3]))
        return score, delta

    def curves(self, points: int = POINTS) -> Curves:
        """The same as :class:`lazyvos.curves.Curves`, for the still picture."""
        shown = self.window(0, self.frames - 1, points // 2 if self.frames > points else points)
        found = Curves(gram=Line(shown["step"]), frames=self.frames)
        for name in self.objects:
            line, table = Line(shown["step"]), np.frombuffer(shown["values"][str(name)], np.float32).reshape(-1, 4)
            for i in np.flatnonzero(~np.isnan(table[:, 1])):
                line.t += [shown["start"] + int(i) * shown["step"]] * (1 if shown["step"] == 1 else 2)
                line.values += [float(v) for v in (table[i, 1:2] if shown["step"] == 1 else table[i, :2])]
            found.scores[name] = line
        for kind, name, t, score, _ in shown["events"]:
            known = "start" if kind == "clicked" and score is None else {"asked": "request", "clicked": "user"}.get(kind, kind)
            found.marks[known].add(Mark(t, name, score))
        for t in shown["kept"]:
            found.marks["memory"].add(Mark(t, 0, None))
        return found


def moments_of(events: Iterable[dict[str, Any]]) -> list[Moment]:
    """The committed frames of a session's log in order; of a frame that a resumed session did again, the last version.

    Where the log has no ΔS_R, it is the score minus that of the frame before.
    """
    commits: dict[int, dict[str, Any]] = {}
    asked: dict[int, set[int]] = {}
    for event in events:
        if event.get("event") == "request":
            asked.setdefault(int(event["t"]), set()).add(int(event["object"]))
        elif event.get("event") == "commit":
            commits[int(event["t"])] = event
    found = []
    for t, event in sorted(commits.items()):
        scores, deltas = _by_object(event.get("scores")), _by_object(event.get("deltas"))
        if "deltas" not in event:
            earlier = _by_object(commits.get(t - 1, {}).get("scores"))
            deltas = {o: s - e for o, s in scores.items() if s is not None and (e := earlier.get(o)) is not None}
        names = tuple(sorted(scores))
        found.append(Moment(
            t, names, (0,) * len(names), tuple(scores[o] for o in names), tuple(deltas.get(o) for o in names),
            tuple(sorted(asked.get(t, ()))), tuple(int(o) for o in event.get("pseudo", ())),
            tuple(int(o) for o in event.get("clicked", ())), bool(event.get("kept")), None, 0.0,
        ))  # fmt: skip
    return found


def _by_object(values: dict[str, float | None] | None) -> dict[int, float | None]:
    return {int(name): value for name, value in (values or {}).items()}


def _joined(values: np.ndarray, group: int) -> np.ndarray:
    """``group`` neighbours as one: ``[n, 4]`` with lowest, highest, lowest, highest."""
    if group == 1 or not len(values):
        return values
    short = -len(values) % group
    padded = np.concatenate([values, np.full((short, 4), np.nan, np.float32)]).reshape(-1, group, 4)
    low, high = np.fmin.reduce(padded, 1), np.fmax.reduce(padded, 1)
    return np.stack([low[:, 0], high[:, 1], low[:, 2], high[:, 3]], 1)


def _thinned(found: list[Any], most: int) -> list[Any]:
    """At most ``most`` of a list, evenly, the last one included."""
    return found if len(found) <= most else [found[i] for i in np.linspace(0, len(found) - 1, most).round().astype(int)]
