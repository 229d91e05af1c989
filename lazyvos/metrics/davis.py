"""DAVIS-2017 semi-supervised protocol: J, F and J&F of sequences and data sets.

Sources: F. Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016 (mean, recall, decay); J. Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object
Segmentation", arXiv:1704.00675 (several objects, J&F, mean over objects).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from lazyvos.metrics.jf import crop, crop_contour, crop_region, mask_pair, tolerance_radius

VOID = 255
"""Label that means "do not care" in DAVIS annotations."""


@dataclass(frozen=True)
class Statistics:
    """Mean, recall and decay of one object's series of J or F values (see `series_statistics`)."""

    mean: float
    recall: float
    decay: float


def series_statistics(values: Any, uint8_decay: bool = False) -> Statistics:
    """DAVIS statistics of per-frame values ``[T]`` in 0..1; all NaN if there is no value.

    mean ignores NaN; recall is the share of frames above 0.5; decay is the mean of the first quarter less the
    mean of the last one (neighbouring quarters share one frame). The official code keeps the quarter limits in
    8 bits, which breaks decay (mostly NaN) from 256 frames on; ``uint8_decay=True`` reproduces that.

    >>> series_statistics([1.0, 0.8, 0.6, 0.4])
    Statistics(mean=0.7, recall=0.75, decay=0.4)
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1:
        raise ValueError(f"values has shape {v.shape}; give one series [frames].")
    if not v.size:
        return Statistics(math.nan, math.nan, math.nan)
    cuts = [int(c) - 1 for c in np.round(np.linspace(1, v.size, 5) + 1e-10)]
    ends = [c + 1 for c in cuts]
    if uint8_decay:
        cuts, ends = [c % 256 for c in cuts], [(c % 256 + 1) % 256 for c in cuts]
    decay = nanmean(v[cuts[0] : ends[1]]) - nanmean(v[cuts[3] : ends[4]])
    return Statistics(nanmean(v), float(np.mean(v > 0.5)), decay)


def nanmean(values: Any) -> float:
    """Mean of the values ``[N]`` that are not NaN; NaN, without a warning, if there is none."""
    v = np.asarray(values, dtype=np.float64)
    v = v[~np.isnan(v)]
    return float(v.mean()) if v.size else math.nan


@dataclass(frozen=True)
class ObjectScore:
    """Score of one object in one sequence.

    ``J`` and ``F`` hold the statistics over the scored frames, ``frames`` their number. The series ``j``, ``f``
    (float64 ``[T]``) and ``present`` (bool ``[T]``, object is in the truth) cover **all** frames from
    number ``start`` on, the ones that the protocol drops included.
    """

    sequence: str
    id: int
    frames: int
    J: Statistics
    F: Statistics
    start: int = 0
    j: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.empty(0))
    f: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.empty(0))
    present: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.empty(0, bool))

    @property
    def JF(self) -> float:
        """(mean J + mean F) / 2, in 0..1."""
        return (self.J.mean + self.F.mean) / 2


@dataclass(frozen=True)
class Score:
    """Score of a sequence or a data set: every number is a mean over ``objects``, in 0..1 (decay: -1..1).

    Objects without a scored frame (NaN) are left out of the means; no object at all gives NaN.
    """

    objects: tuple[ObjectScore, ...]

    def mean(self, measure: str, statistic: str = "mean") -> float:
        """Mean over objects of ``measure`` ("J" or "F") and ``statistic`` ("mean", "recall" or "decay")."""
        return nanmean([getattr(getattr(o, measure), statistic) for o in self.objects])

    @property
    def J(self) -> float:
        """Mean region similarity."""
        return self.mean("J")

    @property
    def F(self) -> float:
        """Mean contour accuracy."""
        return self.mean("F")

    @property
    def JF(self) -> float:
        """J&F, (J + F) / 2."""
        return (self.J + self.F) / 2

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON (NaN becomes None): J, F, JF, their recall and decay, and every object."""

        def clean(x: float) -> float | None:
            return None if math.isnan(x) else x

        out: dict[str, Any] = {"J": clean(self.J), "F": clean(self.F), "JF": clean(self.JF)}
        for m in "JF":
            for s in ("recall", "decay"):
                out[f"{m}_{s}"] = clean(self.mean(m, s))
        out["objects"] = [
            {"sequence": o.sequence, "id": o.id, "frames": o.frames}
            | {"J": clean(o.J.mean), "F": clean(o.F.mean), "JF": clean(o.JF)}
            for o in self.objects
        ]
        return out


class _Series:
    """Growing values of one object: 17 bytes a frame."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.j, self.f, self.present = array("d"), array("d"), bytearray()


class DavisScorer:
    """Scores one sequence frame by frame by the semi-supervised rules of DAVIS 2017.

    Objects are 1..(largest id of the first annotation); later ids in the truth are ignored. Id 255 in the truth
    is void and counts as background (``use_void=True`` leaves these pixels out instead, as the unsupervised
    protocol does). A missing object is an empty mask. The first and the last frame are not scored unless
    ``skip_ends=False``. ``tolerance`` is that of `contour`, ``uint8_decay`` that of `series_statistics`.

    ``discover=True`` follows the vos-benchmark tool where it differs: an object is scored from the first
    (not skipped) frame on that shows its id in truth or prediction, and reported if it occurs in the truth;
    the number of objects is then not fixed by the first annotation.

    Masks are never kept; the state is two numbers and a flag per object and frame.
    """

    def __init__(
        self,
        sequence: str = "",
        *,
        tolerance: float = 0.008,
        skip_ends: bool = True,
        uint8_decay: bool = False,
        use_void: bool = False,
        discover: bool = False,
    ) -> None:
        tolerance_radius((1, 1), tolerance)
        self.sequence, self.tolerance, self.skip_ends = sequence, tolerance, skip_ends
        self.uint8_decay, self.use_void, self.discover = uint8_decay, use_void, discover
        self.frames = 0
        self._shape: tuple[int, ...] = ()
        self._series: dict[int, _Series] = {}

    def update(self, pred: Any, gt: Any) -> None:
        """Score one frame: label maps ``[H, W]`` (integer, 0 = background) of prediction and truth.

        Raises ValueError for other shapes or types, and for an id in ``pred`` that no object has.
        """
        p, g = self._check(pred, gt)
        void = (g == VOID) if self.use_void else None
        g = np.where(g == VOID, 0, g)
        if self.discover:
            if self.frames or not self.skip_ends:
                found = set(np.unique(p).tolist()) | set(np.unique(g).tolist())
                for k in sorted(found - {0} - self._series.keys()):
                    self._series[k] = _Series(self.frames)
        else:
            if not self.frames:
                if not g.max():
                    raise ValueError(f"{self._where()}the first annotation shows no object; start where one is.")
                self._series = {k: _Series(0) for k in range(1, int(g.max()) + 1)}
            if p.max() > len(self._series):
                hint = " (a binary mask must be saved with 1, not 255)" if p.max() == 255 else ""
                raise ValueError(
                    f"{self._where()}frame {self.frames}: the prediction has id {p.max()}, but the first annotation"
                    f" only has ids up to {len(self._series)}{hint}; renumber the prediction."
                )
        radius = tolerance_radius((p.shape[0], p.shape[1]), self.tolerance)
        for k, s in self._series.items():
            a, b = mask_pair(p == k, g == k, void)
            s.present.append(bool(b.any()))
            a, b = crop(a, b)
            s.j.append(crop_region(a, b))
            s.f.append(crop_contour(a, b, radius))
        self.frames += 1

    def result(self) -> Score:
        """Score of the frames so far; objects without a scored frame (a sequence too short) are NaN."""
        stop = self.frames - 1 if self.skip_ends else self.frames
        objects = []
        for k, s in sorted(self._series.items()):
            first = max(s.start, 1 if self.skip_ends else 0) - s.start
            last = max(stop - s.start, first)
            if self.discover and not any(s.present[first:last]):
                continue
            j, f = np.array(s.j), np.array(s.f)
            objects.append(
                ObjectScore(
                    sequence=self.sequence,
                    id=k,
                    frames=last - first,
                    J=series_statistics(j[first:last], self.uint8_decay),
                    F=series_statistics(f[first:last], self.uint8_decay),
                    start=s.start,
                    j=j,
                    f=f,
                    present=np.array(s.present, dtype=bool),
                )
            )
        return Score(tuple(objects))

    def _where(self) -> str:
        return f"{self.sequence}: " if self.sequence else ""

    def _check(self, pred: Any, gt: Any) -> tuple[np.ndarray, np.ndarray]:
        p, g = np.asarray(pred), np.asarray(gt)
        for name, m in (("prediction", p), ("annotation", g)):
            if m.ndim != 2 or not m.size or m.dtype.kind not in "bui" or m.min() < 0:
                raise ValueError(
                    f"{self._where()}frame {self.frames}: the {name} is {m.dtype} {list(m.shape)}; give a label map"
                    " [height, width] of integers from 0 on."
                )
        if p.shape != g.shape or g.shape != (self._shape or g.shape):
            raise ValueError(
                f"{self._where()}frame {self.frames}: the prediction is {list(p.shape)}, the annotation"
                f" {list(g.shape)}; all frames of a sequence must have one size."
            )
        self._shape = g.shape
        return p, g


_END = object()


def evaluate_sequence(preds: Iterable[Any], gts: Iterable[Any], sequence: str = "", **options: Any) -> Score:
    """Score predictions against annotations, two iterables of label maps ``[H, W]``, read one pair at a time.

    ``options`` are those of `DavisScorer`. Raises ValueError if one iterable ends before the other.

    >>> truth = np.zeros((4, 16, 16), np.uint8)
    >>> truth[:, 4:9, 4:9] = 1
    >>> evaluate_sequence(truth, truth).JF
    1.0
    """
    scorer = DavisScorer(sequence, **options)
    for p, g in zip_longest(preds, gts, fillvalue=_END):
        if p is _END or g is _END:
            few, many = ("predictions", "annotations") if p is _END else ("annotations", "predictions")
            raise ValueError(
                f"{scorer._where()}only {scorer.frames} {few}, but more {many}; give one of each per frame."
            )
        scorer.update(p, g)
    return scorer.result()


def summarise(sequences: Iterable[Score]) -> Score:
    """Data set score: pool the objects of all sequences (objects, not sequences, weigh the same)."""
    return Score(tuple(o for s in sequences for o in s.objects))
