"""What calibration needs to know of each pixel of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyvos.types import InputError

FLOOR = 1e-7
"""Smallest probability that goes into a logarithm."""
VOID = 255


def as_array(values: Any) -> np.ndarray:
    """An array or a tensor of any device as an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


@dataclass(frozen=True, eq=False)
class Pixels:
    """The N pixels of a region that are not void.

    Attributes
    ----------
    confidence: largest class probability, ``float64 [N]``.
    correct: is that class the true one, ``bool [N]``.
    brier: sum_c (p_c - [c = y])^2, ``float64 [N]``. nll: -ln max(p_y, 1e-7), ``float64 [N]``.
    known: what is not void, ``bool [...]`` of the frame; its N true places are the pixels above, in order.
    predicted, true: channel numbers ``[...]`` of the frame, 0 background (void as well).
    """

    confidence: np.ndarray
    correct: np.ndarray
    brier: np.ndarray
    nll: np.ndarray
    known: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    @staticmethod
    def of(probabilities: Any, truth: Any, objects: Sequence[int] | None = None) -> Pixels:
        """From probabilities ``[K, ...]`` and a label map ``[...]``; see `lazyvos.metrics.calibration.top_label`."""
        p, y = as_array(probabilities), as_array(truth)
        if p.ndim < 2 or p.dtype.kind != "f" or p.shape[1:] != y.shape or y.dtype.kind not in "bui":
            raise InputError(
                f"probabilities are {p.dtype} {p.shape} and truth {y.dtype} {y.shape}; "
                "give floats [classes, ...] and a label map [...] of integers"
            )
        ids = list(range(1, len(p))) if objects is None else [int(o) for o in objects]
        if len(set(ids)) != len(p) - 1 or len(ids) != len(p) - 1 or any(not 0 < i < VOID for i in ids):
            raise InputError(f"objects are {ids} for {len(p)} channels; give one id in 1..254 for each channel after the background")
        if y.size and not 0 <= y.min() <= y.max() <= VOID:
            raise InputError(f"truth has id {y.min() if y.min() < 0 else y.max()}; ids run from 0 to 254, and 255 is void")
        known = y != VOID
        table = np.zeros(VOID + 1, np.intp)
        table[ids] = np.arange(1, len(p))
        predicted, true = p.argmax(0), table[y.astype(np.intp)]
        q, t = _checked(p)[:, known], true[known]
        squares = np.zeros(t.shape)
        for channel, row in enumerate(q):
            squares += np.square(row - (t == channel), dtype=np.float64)
        logs = -np.log(np.clip(np.take_along_axis(q, t[None], 0)[0].astype(np.float64), FLOOR, 1.0))
        confidence = q.max(0, initial=0.0).astype(np.float64).clip(0.0, 1.0)
        return Pixels(confidence, predicted[known] == t, squares, logs, known, predicted, true)

    def at(self, region: np.ndarray) -> Pixels:
        """The pixels inside ``region``, ``bool [...]`` of the frame."""
        inside = region[self.known]
        return Pixels(
            self.confidence[inside], self.correct[inside], self.brier[inside], self.nll[inside],
            self.known & region, self.predicted, self.true,
        )  # fmt: skip


def _checked(p: np.ndarray) -> np.ndarray:
    """Probabilities ``[K, ...]`` in float32 or float64, or `InputError` where they are none."""
    tolerance = 1e-2 if p.dtype.itemsize < 4 else 1e-4
    p = p.astype(np.float32) if p.dtype.itemsize < 4 else p
    total = p.sum(0)
    if p.size and not (np.abs(total - 1).max() <= tolerance and p.min() >= -tolerance):  # also for NaN
        raise InputError(
            f"probabilities sum to {total.min():.6g}..{total.max():.6g}, the smallest is {p.min():.6g}; "
            "they must be at least 0 and sum to 1 over the first axis (background included)"
        )
    return p
