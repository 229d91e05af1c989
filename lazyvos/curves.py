"""The numbers of a run over time, from its log or its steps, thinned to a size that a plot can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from lazyvos.journal import journal_events
from lazyvos.types import InputError, Step

POINTS = 3000
MARKS = 600
KINDS = ("start", "request", "pseudo", "user", "memory")


class Line:
    """A curve of at most about ``2 * buckets`` points: of every bucket of frames the lowest and the highest value.

    Peaks survive, and memory does not grow with the number of frames. ``per_bucket`` frames fall into one bucket.
    """

    def __init__(self, per_bucket: int = 1) -> None:
        self.per_bucket = per_bucket
        self.t: list[int] = []
        self.values: list[float] = []
        self._bucket = -1
        self._low: tuple[int, float] | None = None
        self._high: tuple[int, float] | None = None

    def add(self, t: int, value: float | None) -> None:
        """One value of frame ``t``; frames come in order, ``None`` is a gap."""
        if value is None or not math.isfinite(value):
            return
        if self.per_bucket == 1:
            self.t.append(t)
            self.values.append(value)
            return
        if t // self.per_bucket != self._bucket:
            self.flush()
            self._bucket = t // self.per_bucket
        if self._low is None or value < self._low[1]:
            self._low = t, value
        if self._high is None or value > self._high[1]:
            self._high = t, value

    def flush(self) -> None:
        """Close the last bucket."""
        for t, value in sorted({p for p in (self._low, self._high) if p is not None}):
            self.t.append(t)
            self.values.append(value)
        self._low = self._high = None

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True)
class Mark:
    """Something that happened to ``object`` (0 = the frame) on frame ``t``; ``score`` is S_R there."""

    t: int
    object: int
    score: float | None


class Marks:
    """At most ``most`` marks; when there are more, every second is dropped and from then on fewer are taken."""

    def __init__(self, most: int = MARKS) -> None:
        self.most, self.total, self._stride = most, 0, 1
        self.kept: list[Mark] = []

    def add(self, mark: Mark) -> None:
        """Take a mark."""
        if self.total % self._stride == 0:
            self.kept.append(mark)
            if len(self.kept) > self.most:
                self.kept, self._stride = self.kept[::2], self._stride * 2
        self.total += 1

    def __iter__(self) -> Iterator[Mark]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)


@dataclass
class Curves:
    """What a run's numbers look like over time.

    Attributes
    ----------
    scores, iou: per object id, S_R before any correction, and J where the truth is known.
    gram: log10|Γ| after each frame where the memory has one.
    marks: ``start`` (an object given for the first time), ``request``, ``pseudo``, ``user`` and ``memory`` (a frame stored).
    frames: frames seen.
    """

    scores: dict[int, Line] = field(default_factory=dict)
    iou: dict[int, Line] = field(default_factory=dict)
    gram: Line = field(default_factory=Line)
    marks: dict[str, Marks] = field(default_factory=lambda: {k: Marks() for k in KINDS})
    frames: int = 0

    @staticmethod
    def from_log(path: str | PathLike[str], points: int = POINTS) -> Curves:
        """Read a ``session.jsonl``; at most about ``points`` points a curve, whatever the length of the log.

        Raises :class:`InputError` where the file is missing or holds no frame.
        """
        frames = sum(event["event"] == "commit" for event in journal_events(path))
        if not frames:
            raise InputError(f"{path} holds no tracked frame; give a session.jsonl file of a run")
        curves = Curves.empty(frames, points)
        for event in journal_events(path):
            if event["event"] == "request":
                curves.marks["request"].add(Mark(event["t"], int(event["object"]), event.get("score")))
            elif event["event"] == "commit":
                curves._commit(event)
        return curves._flushed()

    @staticmethod
    def from_steps(steps: Iterable[Step], points: int = POINTS) -> Curves:
        """The same from the steps of a tracker; without IoU, which steps do not know."""
        steps = list(steps)
        if not steps:
            raise InputError("there are no steps to plot; track at least one frame")
        curves = Curves.empty(len(steps), points)
        for step in steps:
            for request in step.requests:
                curves.marks["request"].add(Mark(step.t, request.object, request.score))
            kinds: dict[bool, list[int]] = {True: [], False: []}
            for correction in step.corrections:
                kinds[correction.kind == "pseudo"].append(correction.object)
            curves._commit({
                "t": step.t, "scores": dict(step.original.scores), "kept": step.decision.kept, "pseudo": kinds[True],
                "clicked": kinds[False], "log_gram_after": step.decision.log_gram_after,
            })  # fmt: skip
        return curves._flushed()

    @staticmethod
    def empty(frames: int, points: int = POINTS) -> Curves:
        """No frame yet; ``frames`` are expected."""
        return Curves(gram=Line(math.ceil(2 * frames / points) if frames > points else 1))

    @property
    def objects(self) -> list[int]:
        """Ids in order."""
        return sorted(self.scores.keys() | self.iou.keys())

    def _commit(self, event: dict[str, Any]) -> None:
        t = int(event["t"])
        self.frames = max(self.frames, t + 1)
        scores = {int(o): v for o, v in event.get("scores", {}).items()}
        for into, values in ((self.scores, scores), (self.iou, {int(o): v for o, v in event.get("iou", {}).items()})):
            for o, value in values.items():
                if o not in into:
                    into[o] = Line(self.gram.per_bucket)
                into[o].add(t, value)
        self.gram.add(t, event.get("log_gram_after"))
        for kind, name in (("pseudo", "pseudo"), ("user", "clicked")):
            for o in event.get(name, ()):
                known = int(o) in scores  # an object without a score was not tracked before this frame
                self.marks[kind if known else "start"].add(Mark(t, int(o), scores.get(int(o))))
        if event.get("kept"):
            self.marks["memory"].add(Mark(t, 0, None))

    def _flushed(self) -> Curves:
        for line in (*self.scores.values(), *self.iou.values(), self.gram):
            line.flush()
        return self
