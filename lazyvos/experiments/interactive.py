"""The interactive DAVIS benchmark on any data set: rounds of clicks, each on the frame that is worst after the last one.

A session starts from scribbles on one frame. In each round a strategy makes clicks of the scribbles, the tracker answers with masks of
the whole clip, these are scored against the truth, and a robot scribbles on the errors of the next frame (Caelles et al., 2018,
arXiv:1803.00557; thesis, sections 4.3 and 4.5). J and F count on all frames with truth, the clicked ones included.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any, Literal, Protocol
from zlib import crc32

import numpy as np
from tqdm import tqdm

from lazyvos.bench import machine
from lazyvos.datasets.davis import Scribble, Scribbles
from lazyvos.experiments.data import fingerprint
from lazyvos.experiments.experiment import code_version
from lazyvos.experiments.interactive_report import Sessions
from lazyvos.experiments.store import Store
from lazyvos.interact.clicks import object_centre
from lazyvos.interact.robot import Robot
from lazyvos.interact.strategies import Strategy, to_clicks
from lazyvos.masks.labels import VOID, object_ids
from lazyvos.metrics.jf import crop, crop_contour, crop_region, mask_pair, tolerance_radius
from lazyvos.types import Click, InputError

MOST_ROUNDS, MOST_SECONDS = 16, 600.0
"""Hard limits of the interactive framework: rounds, and seconds per object."""


class Interactive(Protocol):
    """A tracker that works in rounds, on one clip. A method ``close`` is called at the end where there is one."""

    def interact(self, frame: int, clicks: Sequence[Click]) -> Any:
        """One round: clicks on ``frame``, in pixels, of one or several objects; all frames are done when it returns.

        An object's first clicks contain a positive one.
        """
        ...

    def labels(self, t: int) -> np.ndarray:
        """Label map ``uint8 [H, W]`` of frame ``t`` after the last round."""
        ...


Make = Callable[[Any], Interactive]
"""A fresh tracker for a sequence of the data set."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The rules of a session.

    Attributes
    ----------
    strategy: makes clicks of scribbles. robot: draws scribbles.
    rounds: 1 to 16.
    seconds: wall time per object and round. A sample whose rounds together take longer than that times its objects and rounds ends,
        and the submission that came too late does not count. ``None`` for no limit.
    choose: next frame. ``"framework"`` has the smallest mean over objects of ``metric`` (``"JF"``, ``"J"``, ``"F"``), ``"thesis"`` the
        smallest sum of IoU (Eq. 4.4). Frames chosen before come again only when all were; the first one was not chosen so.
    candidates: only these frames may be chosen; default all with truth.
    sets: most first scribbles per sequence, each a sample of its own.
    first: where scribbles do not come with the data set, the first set is drawn on the sequence's ``"start"`` or, as the others are, on a
        ``"random"`` frame that shows all objects of that one.
    seed: of those frames, and of strategies that draw.

    Raises :class:`InputError` for values outside these.
    """

    strategy: Strategy = field(default_factory=lambda: Strategy(kind="a2", limit=2))
    robot: Robot = field(default_factory=Robot)
    rounds: int = 8
    seconds: float | None = 30.0
    choose: Literal["framework", "thesis"] = "framework"
    metric: Literal["JF", "J", "F"] = "JF"
    candidates: tuple[int, ...] | None = None
    sets: int = 3
    first: Literal["start", "random"] = "start"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("choose", ("framework", "thesis")), ("metric", ("JF", "J", "F")), ("first", ("start", "random"))):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} {getattr(self, name)!r} is unknown; choose {', '.join(allowed)}")
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise InputError(f"rounds is {self.rounds}; the benchmark has 1 to {MOST_ROUNDS}")
        if self.seconds is not None and not 0 < self.seconds * self.rounds <= MOST_SECONDS:
            raise InputError(f"{self.rounds} rounds of {self.seconds:g} s are {self.rounds * self.seconds:g} s per object; "
                             f"give more than 0 and at most {MOST_SECONDS:g}, or no limit")  # fmt: skip
        if self.sets < 1:
            raise InputError(f"sets is {self.sets}; give at least 1 per sequence")
        if self.candidates is not None and not self.candidates:
            raise InputError("candidates is empty; give at least one frame, or None for all")


def worst_frame(
    j: np.ndarray, f: np.ndarray, frames: Sequence[int], rules: Benchmark | None = None, used: Collection[int] = ()
) -> int:
    """The frame to correct next: where :class:`Benchmark` says it is worst, the first of several.

    ``j`` and ``f`` are ``float [T, O]`` of the frames with the numbers ``frames``. Raises :class:`InputError` where no candidate is among them.
    """
    rules = rules or Benchmark()
    if rules.choose == "thesis":
        value = j.sum(1)
    else:
        value = {"J": j, "F": f, "JF": (j + f) / 2}[rules.metric].mean(1)
    able = [i for i, t in enumerate(frames) if rules.candidates is None or t in rules.candidates]
    if not able:
        raise InputError(f"none of the candidates {list(rules.candidates or ())[:8]} is a frame with truth; give some that are")
    fresh = [i for i in able if frames[i] not in used] or able
    return int(frames[min(fresh, key=lambda i: value[i])])


def measure(truth: np.ndarray, labels: np.ndarray, objects: Sequence[int]) -> tuple[list[float], list[float]]:
    """J and F of every object in one frame; label maps ``uint8 [H, W]``, truth 255 is void."""
    if np.shape(labels) != truth.shape:
        raise InputError(f"the tracker's labels are {list(np.shape(labels))} but the truth {list(truth.shape)}; give the frame's size")
    void = truth == VOID
    radius = tolerance_radius((truth.shape[0], truth.shape[1]))
    pairs = [crop(*mask_pair(labels == o, truth == o, void if void.any() else None)) for o in objects]
    return [crop_region(p, g) for p, g in pairs], [crop_contour(p, g, radius) for p, g in pairs]


def first_scribbles(dataset: Any, sequence: Any, rules: Benchmark) -> list[tuple[int, Scribbles]]:
    """The scribbles that samples of a sequence start from, with their numbers (from 1): those of the data set, or generated ones.

    Generated ones give every object that the frame shows one scribble, along the longest path through its true mask; a dot
    in its middle where it is too small for the robot.
    """
    given = [n for name, n in getattr(dataset, "samples", ()) if name == sequence.name][: rules.sets]
    if given:
        return [(n, dataset.scribbles(sequence.name, n)) for n in given]
    return [(n, _generated(sequence, t, rules.robot)) for n, t in enumerate(_frames(sequence, rules), 1)]


def _frames(sequence: Any, rules: Benchmark) -> list[int]:
    chosen = [int(sequence.start)] if rules.first == "start" else []
    order = np.random.default_rng([rules.seed, crc32(sequence.name.encode())]).permutation(sequence.annotated).tolist()
    for t in order:
        if len(chosen) >= rules.sets:
            break
        if t not in chosen and set(sequence.objects) <= set(object_ids(sequence.mask(t))):
            chosen.append(t)
    return chosen


def _generated(sequence: Any, t: int, robot: Robot) -> Scribbles:
    truth = sequence.mask(t)
    height, width = truth.shape
    strokes = []
    for o in object_ids(truth):
        drawn = robot.scribbles(np.where(truth == o, truth, 0).astype(np.uint8), np.zeros_like(truth), [o])
        if drawn:
            strokes.append(max(drawn, key=lambda s: np.linalg.norm(np.diff(s.points * (width, height), axis=0), axis=1).sum()))
        elif (centre := object_centre(truth == o)) is not None:
            strokes.append(Scribble(np.array([centre], np.float64) / (width, height), o))
    return Scribbles(sequence.name, t, tuple(strokes))


def play(
    sequence: Any, number: int, first: Scribbles, make: Make, rules: Benchmark, *,
    clock: Callable[[], float] = time.perf_counter, tick: Callable[[], Any] = lambda: None,
) -> dict[str, Any]:  # fmt: skip
    """One sample from its first scribbles to its last round; a record of plain values.

    A round takes from handing out the scribbles to the end of :meth:`Interactive.interact`, by ``clock``; without clicks the masks stay as
    they are. Clicks of an object that was never clicked positively are left out. ``tick`` is called after each round.

    Raises :class:`InputError` for a sequence without truth.
    """
    objects, frames = sorted(int(o) for o in sequence.entries), [int(t) for t in sequence.annotated]
    if not objects or not frames:
        raise InputError(f"sequence {sequence.name} has no truth; the benchmark needs masks to draw scribbles and to score")
    record: dict[str, Any] = {"video": sequence.name, "sample": number, "objects": objects, "frames": frames, "late": False, "rounds": []}
    budget = None if rules.seconds is None else rules.seconds * rules.rounds * len(objects)
    frame, strokes = first.frame, list(first.strokes)
    used: list[int] = []
    started: set[int] = set()
    spent, scores = 0.0, _Scores(sequence, frames, objects)
    tracker = make(sequence)
    with closing(tracker) if hasattr(tracker, "close") else nullcontext():  # type: ignore[type-var]
        for n in range(1, rules.rounds + 1):
            truth = sequence.mask(frame)
            rng = np.random.default_rng([rules.seed, crc32(sequence.name.encode()), number, n])
            began = clock()
            before = tracker.labels(frame) if started else np.zeros(sequence.size, np.uint8)
            prediction = None if n == 1 else before
            spots = rules.strategy.spots(strokes, sequence.size, objects=objects, truth=truth, prediction=prediction, rng=rng)
            clicks = to_clicks(spots, sequence.size)
            started |= {c.object for c in clicks if c.positive}
            clicks = [c for c in clicks if c.object in started]
            if clicks:
                tracker.interact(frame, clicks)
            seconds = clock() - began
            spent += seconds
            if budget is not None and spent > budget:
                record["late"] = True
                break
            j, f = scores(tracker.labels if started else None)
            plain = [[c.object, int(c.x), int(c.y), c.positive] for c in clicks]
            record["rounds"].append({"frame": frame, "seconds": seconds, "clicks": plain, "J": j.tolist(), "F": f.tolist()})
            tick()
            if n < rules.rounds:
                frame = worst_frame(j, f, frames, rules, used)
                used.append(frame)
                shown = tracker.labels(frame) if started else np.zeros(sequence.size, np.uint8)
                strokes = rules.robot.scribbles(sequence.mask(frame), shown, objects)
    return record


class _Scores:
    """J and F of all frames, measured again only where the labels changed."""

    def __init__(self, sequence: Any, frames: Sequence[int], objects: Sequence[int]) -> None:
        self.sequence, self.frames, self.objects = sequence, frames, objects
        self.j, self.f = (np.zeros((len(frames), len(objects))) for _ in range(2))
        self._seen: dict[int, bytes] = {}

    def __call__(self, labels: Callable[[int], np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
        """``float64 [T, O]`` each; without ``labels`` nothing was segmented."""
        for i, t in enumerate(self.frames):
            own = np.zeros(self.sequence.size, np.uint8) if labels is None else np.ascontiguousarray(labels(t))
            digest = hashlib.blake2b(own.tobytes(), digest_size=16).digest()
            if self._seen.get(t) != digest:
                self.j[i], self.f[i] = measure(self.sequence.mask(t), own, self.objects)
                self._seen[t] = digest
        return self.j.copy(), self.f.copy()


def run(
    dataset: Any, make: Make, rules: Benchmark | None = None, *, identity: Mapping[str, Any] | None = None,
    sequences: Collection[str] | None = None, out: str | PathLike[str] | None = None, device: str = "cpu",
    progress: bool = True, clock: Callable[[], float] = time.perf_counter,
) -> Sessions:  # fmt: skip
    """Play every sample of a data set.

    Parameters
    ----------
    dataset: any :class:`lazyvos.datasets.base.Dataset` with truth, or another iterable of sequences. Scribbles come from those that
        have them (:class:`lazyvos.datasets.InteractiveDavis`), else they are generated. make: see :data:`Make`; not called before it is needed.
    identity: plain values that say what ``make`` makes (network, weights, options); results of another one are not taken for its own.
    sequences: only these. device: where the tracker computes, for the record. clock: seconds, for tests.
    out: folder with a file for every finished sample (:class:`lazyvos.experiments.store.Store`), written whole; a run that was
        killed goes on after the last of them. Without it nothing is kept.

    Raises :class:`InputError` for sequences that do not exist.
    """
    rules = rules or Benchmark()
    chosen = [s for s in dataset if sequences is None or s.name in sequences]
    missing = sorted(set(sequences or ()) - {s.name for s in chosen})
    if missing or not chosen:
        raise InputError(f"the data set has no sequence {missing[0]!r}" if missing else "the data set has no sequences")
    store = None if out is None else Store.at(out)
    facts = {"rules": asdict(rules), "tracker": dict(identity or {}), "device": device.partition(":")[0], "code": code_version()}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:20]
    records, reused, where = [], 0, machine(device)
    with tqdm(total=len(chosen) * rules.rounds, unit="round", disable=not progress) as bar:
        for sequence in chosen:
            samples = first_scribbles(dataset, sequence, rules)
            bar.total += (len(samples) - 1) * rules.rounds
            clip = fingerprint(sequence)
            for number, first in samples:
                name, source = f"{sequence.name} {number:03d}", f"{clip} {_digest(first)}"
                bar.set_description(name)
                at = bar.n
                record = None if store is None else store.load(key, name, source)
                reused += record is not None
                if record is None:
                    record = play(sequence, number, first, make, rules, clock=clock, tick=bar.update)
                    record |= {"key": key, "sequence": name, "clip": source, "facts": facts, "machine": where}
                    if store is not None:
                        store.save(json.loads(json.dumps(record, default=str)))
                bar.update(at + rules.rounds - bar.n)
                records.append(record)
    return Sessions(tuple(records), rules.rounds, None if rules.seconds is None else rules.seconds * rules.rounds, reused)


def collect(out: str | PathLike[str]) -> Iterator[dict[str, Any]]:
    """Records of all finished samples in a folder, by key and name."""
    return iter(Store.at(out))


def _digest(first: Scribbles) -> str:
    digest = hashlib.sha256(str(first.frame).encode())
    for stroke in first.strokes:
        digest.update(f"{stroke.object}".encode() + np.ascontiguousarray(stroke.points).tobytes())
    return digest.hexdigest()[:16]
