"""Robustness R@tau: how often the tracker still holds the object.

Source: thesis Eq. 6.6. The equation sums over the frames that show the object; the sentence after it also
scores the frames that do not, as the VOTS challenge does. No public code computes R@tau, so the two readings
below are definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lazyvos.metrics.davis import ObjectScore, Score, nanmean

THRESHOLDS = (0.1, 0.25, 0.5)
"""The thresholds tau of the thesis."""


def success_rate(
    iou: Any, gt_present: Any, pred_present: Any, tau: float, *, start: int = 0, present_only: bool = False
) -> float:
    """Share of one object's frames with IoU >= ``tau`` (inclusive), in 0..1.

    ``iou`` (float), ``gt_present`` and ``pred_present`` (bool: is the mask of truth or prediction not empty)
    are series ``[T]``; frames before ``start``, the object's first annotated one, are left out. A frame without
    the object counts 1 if the prediction is empty, else 0; with ``present_only`` it is left out. NaN if no frame
    is left. Raises ValueError for series of different lengths and for an IoU or ``tau`` outside 0..1.

    >>> success_rate([0.5, 0.2, 0.0, 0.0], [1, 1, 0, 0], [1, 1, 0, 1], 0.5)
    0.5
    """
    v = np.asarray(iou, dtype=np.float64)
    gt, pred = np.asarray(gt_present, dtype=bool), np.asarray(pred_present, dtype=bool)
    if v.ndim != 1 or not v.shape == gt.shape == pred.shape:
        raise ValueError(
            f"iou {v.shape}, gt_present {gt.shape} and pred_present {pred.shape} must be series of one length."
        )
    if not (math.isfinite(tau) and 0 <= tau <= 1):
        raise ValueError(f"tau is {tau}; give a threshold in 0..1.")
    if not ((v >= 0) & (v <= 1)).all():
        raise ValueError("iou has a value outside 0..1 (or NaN); give shares, not percent.")
    if start < 0:
        raise ValueError(f"start is {start}; give the number of the first annotated frame, from 0 on.")
    v, gt, pred = v[start:], gt[start:], pred[start:]
    if present_only:
        v, pred, gt = v[gt], pred[gt], gt[gt]
    success = np.where(gt, v >= tau, ~pred)
    return float(success.mean()) if success.size else math.nan


def robustness_at(
    iou: Sequence[Any],
    gt_present: Sequence[Any],
    pred_present: Sequence[Any],
    thresholds: Iterable[float] = THRESHOLDS,
    *,
    start: Sequence[int] | int = 0,
    present_only: bool = False,
) -> dict[float, float]:
    """R@tau for each threshold: the mean over objects of `success_rate`, in 0..1.

    The first three arguments are ``[objects][T]``: arrays, or lists of series of different lengths. ``start`` is
    one number for all objects or one per object. Objects without a frame to score are left out (NaN if none
    is left). Raises ValueError as `success_rate` does, and if the numbers of objects differ.
    """
    starts = [start] * len(iou) if isinstance(start, int) else list(start)
    if not len(iou) == len(gt_present) == len(pred_present) == len(starts):
        raise ValueError(
            f"iou, gt_present, pred_present and start are given for {len(iou)}, {len(gt_present)},"
            f" {len(pred_present)} and {len(starts)} objects; give each for the same objects."
        )
    rows = list(zip(iou, gt_present, pred_present, starts, strict=True))
    return {
        tau: nanmean([success_rate(v, g, p, tau, start=s, present_only=present_only) for v, g, p, s in rows])
        for tau in thresholds
    }


def robustness_of(
    score: Score, thresholds: Iterable[float] = THRESHOLDS, *, present_only: bool = False
) -> dict[float, float]:
    """R@tau of a score that `DavisScorer` made, over all frames from each object's first visible one on.

    The frames that the DAVIS protocol drops (first and last) count here. An object that no frame shows is
    left out.
    """
    objects: list[ObjectScore] = [o for o in score.objects if o.present.any()]
    return robustness_at(
        [np.where(o.present, o.j, 0.0) for o in objects],
        [o.present for o in objects],
        [o.present | (o.j < 1) for o in objects],  # where the object is absent, J is 1 if the prediction is empty
        thresholds,
        start=[int(o.present.argmax()) for o in objects],
        present_only=present_only,
    )
