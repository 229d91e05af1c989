"""Measures of the VOTS challenge: overlaps with absences, and what they sum up to.

Source: M. Kristan et al., "The First Visual Object Tracking Segmentation VOTS2023 Challenge Results", ICCVW 2023 (measures
Q, Acc, Rob, NRE, DRE, ADQ). Two empty masks overlap 1. Every number of a data set is a mean over its sequences of means
over their objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazyvos.metrics.davis import nanmean
from lazyvos.metrics.jf import region

ABSENT_FRAMES = 10
"""An object has an ADQ if it is absent in more frames than this."""


def overlap(pred: Any, gt: Any, ignore: Any | None = None) -> float:
    """Intersection over union of two masks ``[H, W]`` (bool or integer), 0..1; 1 if both are empty.

    Pixels of ``ignore`` are removed first. Raises ValueError for masks of different sizes.
    """
    return region(pred, gt, ignore)


@dataclass(frozen=True)
class VotsObject:
    """One object's overlaps and flags over all frames of a sequence.

    ``overlaps`` is float64 ``[T]``; ``visible`` and ``predicted`` (bool ``[T]``) say whether the mask of the truth and that of
    the prediction hold a pixel. ``first_frame_as_init`` says that the first prediction was replaced, see `vots_object`.
    """

    sequence: str
    id: int
    overlaps: np.ndarray = field(repr=False, compare=False)
    visible: np.ndarray = field(repr=False, compare=False)
    predicted: np.ndarray = field(repr=False, compare=False)
    first_frame_as_init: bool = False

    @property
    def tracked(self) -> int:
        """T: frames that show the object, overlap above 0."""
        return int(np.sum(self.visible & (self.overlaps > 0)))

    @property
    def drifted(self) -> int:
        """F: frames that show the object, prediction not empty, overlap 0."""
        return int(np.sum(self.visible & (self.overlaps <= 0) & self.predicted))

    @property
    def missed(self) -> int:
        """M: frames that show the object, prediction empty."""
        return int(np.sum(self.visible & (self.overlaps <= 0) & ~self.predicted))

    @property
    def hallucinated(self) -> int:
        """H: frames without the object, prediction not empty."""
        return int(np.sum(~self.visible & self.predicted))

    @property
    def noticed(self) -> int:
        """N: frames without the object, prediction empty."""
        return int(np.sum(~self.visible & ~self.predicted))

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """T, F, M, H, N."""
        return self.tracked, self.drifted, self.missed, self.hallucinated, self.noticed

    @property
    def Q(self) -> float:
        """Quality: mean overlap over all frames, those without the object included."""
        return nanmean(self.overlaps)

    @property
    def ACC(self) -> float:
        """Accuracy: mean overlap over the tracked frames; 0 if there is none."""
        counted = self.visible & (self.overlaps > 0)
        if self.first_frame_as_init:
            counted[:1] = self.visible[:1]  # the toolkit counts its mark of initialisation, with overlap 0
        good = self.overlaps[counted]
        return float(good.mean()) if good.size else 0.0

    @property
    def ROB(self) -> float:
        """Robustness T / (T + F + M); NaN for an object that no frame shows. ROB + NRE + DRE = 1."""
        return self._share(self.tracked)

    @property
    def NRE(self) -> float:
        """Not-reported error M / (T + F + M); NaN for an object that no frame shows."""
        return self._share(self.missed)

    @property
    def DRE(self) -> float:
        """Drift-rate error F / (T + F + M); NaN for an object that no frame shows."""
        return self._share(self.drifted)

    @property
    def ADQ(self) -> float:
        """Absence-detection quality N / (N + H); NaN unless more than `ABSENT_FRAMES` frames lack the object."""
        absent = self.noticed + self.hallucinated
        return self.noticed / absent if absent > ABSENT_FRAMES else math.nan

    def _share(self, count: int) -> float:
        shown = int(np.sum(self.visible))
        return count / shown if shown else math.nan


MEASURES = ("Q", "ACC", "ROB", "NRE", "DRE", "ADQ")


def vots_object(
    overlaps: Any, visible: Any, predicted: Any, *, sequence: str = "", id: int = 1, first_frame_as_init: bool = False
) -> VotsObject:
    """One object from its series ``[T]``: overlap (0..1), and whether truth and prediction are not empty.

    ``first_frame_as_init`` treats the first prediction as empty, as the toolkit does when it runs the tracker itself and
    stores a mark of initialisation there: the frame then counts as missed, and with overlap 0 in ACC. Raises ValueError for series of different lengths.
    """
    v, gt, pred = np.array(overlaps, np.float64), np.asarray(visible, bool), np.array(predicted, bool)
    if v.ndim != 1 or not v.shape == gt.shape == pred.shape:
        raise ValueError(f"overlaps {v.shape}, visible {gt.shape} and predicted {pred.shape} must be series of one length.")
    if first_frame_as_init and v.size:
        v[0], pred[0] = float(not gt[0]), False
    return VotsObject(sequence, id, v, gt, pred, first_frame_as_init)


def vots_masks(
    pred: Iterable[Any], gt: Iterable[Any], ignore: Iterable[Any] | None = None, *, sequence: str = "", id: int = 1,
    first_frame_as_init: bool = False,
) -> VotsObject:  # fmt: skip
    """One object from its masks, two iterables of ``[H, W]`` (bool or integer) read one pair at a time.

    ``ignore`` gives one mask of pixels to leave out for each frame; whether a mask is empty is asked before that.
    Raises ValueError if the iterables end at different frames.

    >>> full, none = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    >>> vots_masks([full, none, none], [full, full, none]).counts
    (1, 0, 1, 0, 1)
    """
    rows: list[tuple[float, bool, bool]] = []
    if ignore is None:
        for p, g in zip(pred, gt, strict=True):
            rows.append((overlap(p, g), bool(np.any(g)), bool(np.any(p))))
    else:
        for p, g, i in zip(pred, gt, ignore, strict=True):
            rows.append((overlap(p, g, i), bool(np.any(g)), bool(np.any(p))))
    series = np.array(rows, np.float64).reshape(-1, 3).T
    return vots_object(series[0], series[1] > 0, series[2] > 0, sequence=sequence, id=id, first_frame_as_init=first_frame_as_init)


@dataclass(frozen=True)
class VotsScore:
    """Score of a sequence or a data set: means over sequences of means over objects; NaN values are left out."""

    objects: tuple[VotsObject, ...]

    @property
    def sequences(self) -> dict[str, VotsScore]:
        """The score of each sequence by itself, in order."""
        names = dict.fromkeys(o.sequence for o in self.objects)
        return {name: VotsScore(tuple(o for o in self.objects if o.sequence == name)) for name in names}

    def mean(self, value: str | Callable[[VotsObject], float]) -> float:
        """Mean over sequences of means over objects of a measure of `VotsObject`, given by name or as a function."""
        ask = (lambda o: float(getattr(o, value))) if isinstance(value, str) else value
        by: dict[str, list[float]] = {}
        for o in self.objects:
            by.setdefault(o.sequence, []).append(ask(o))
        return nanmean([nanmean(values) for values in by.values()])

    @property
    def Q(self) -> float:
        """Quality, the challenge's primary measure."""
        return self.mean("Q")

    @property
    def ACC(self) -> float:
        """Accuracy."""
        return self.mean("ACC")

    @property
    def ROB(self) -> float:
        """Robustness."""
        return self.mean("ROB")

    @property
    def NRE(self) -> float:
        """Not-reported error."""
        return self.mean("NRE")

    @property
    def DRE(self) -> float:
        """Drift-rate error."""
        return self.mean("DRE")

    @property
    def ADQ(self) -> float:
        """Absence-detection quality."""
        return self.mean("ADQ")

    def quality_curve(self, thresholds: int = 100) -> tuple[np.ndarray, np.ndarray]:
        """Success plot: thresholds ``[N]`` from 0 to 1 and the share of frames with a larger overlap (equal counts at 1)."""
        at = np.linspace(0, 1, thresholds)
        return at, np.array([self.mean(lambda o, a=a: _success(o.overlaps, a)) for a in at])  # type: ignore[misc]


def _success(overlaps: np.ndarray, threshold: float) -> float:
    return nanmean(overlaps >= 1 if threshold == 1 else overlaps > threshold)
