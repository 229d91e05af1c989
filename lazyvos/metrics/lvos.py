"""The protocol of LVOS: ranges of frames per object, stability V, seen and unseen categories.

Source: L. Hong et al., "LVOS: A Benchmark for Long-term Video Object Segmentation", ICCV 2023; details (rounding,
pre-filled results) as its evaluation tool behaves. That tool's decay is always 0, so none is given here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyvos.metrics.davis import nanmean


def stability(j: Any, f: Any) -> float:
    """Stability V of one object, lower is better: the spread of (J+F)/2 over its scored frames ``[T]``.

    The population variance is rounded to 4 decimals before the square root is taken, as the tool of LVOS does. NaN
    without a frame. Raises ValueError for series of different lengths.

    >>> stability([1.0, 0.8], [1.0, 0.8])
    0.1
    """
    a, b = np.asarray(j, np.float64), np.asarray(f, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"J has shape {a.shape} and F {b.shape}; give two series [frames] of one length.")
    return math.sqrt(round(float(np.var((a + b) / 2)), 4)) if a.size else math.nan


@dataclass(frozen=True)
class LvosObject:
    """Score of one object: mean J, F (0..1) and stability V over ``frames`` frames; ``unseen`` is None where unknown."""

    sequence: str
    id: int
    frames: int
    J: float
    F: float
    V: float
    unseen: bool | None = None

    @property
    def JF(self) -> float:
        """(J + F) / 2."""
        return (self.J + self.F) / 2


def lvos_series(j: Any, f: Any, frames: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """J and F ``[frames - 2]`` of the scored frames of one object's range.

    ``j`` and ``f`` ``[T]`` cover the annotated frames of the range in order; the first and the last are dropped. ``frames`` is
    the number of frames that the range should have (default T): frames without truth count as 0, as the tool of LVOS,
    which fills its results with zeros first, counts them. Raises ValueError if there are more values than ``frames``.
    """
    a, b = np.asarray(j, np.float64)[1:-1], np.asarray(f, np.float64)[1:-1]
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError("J and F must be series [frames] of one length.")
    room = max((a.size + 2 if frames is None else frames) - 2, 0)
    if a.size > room:
        raise ValueError(f"there are values for {a.size + 2} frames but the range has {frames}.")
    rest = np.zeros(room - a.size)
    return np.concatenate([a, rest]), np.concatenate([b, rest])


def lvos_object(
    j: Any, f: Any, frames: int | None = None, *, sequence: str = "", id: int = 1, unseen: bool | None = None
) -> LvosObject:
    """Score of one object from its J and F over its range; arguments are those of `lvos_series`."""
    a, b = lvos_series(j, f, frames)
    return LvosObject(sequence, id, a.size, nanmean(a), nanmean(b), stability(a, b), unseen)


def lvos_summary(objects: Iterable[LvosObject]) -> dict[str, float]:
    """Numbers of a data set: J, F, JF, V, and of each its ``_seen`` and ``_unseen`` mean and the mean of the halves.

    The halves are means over the objects of the videos with seen and with unseen categories; J = (J_seen + J_unseen) / 2, and
    so on. A half without objects is NaN and the other one counts alone; so do all objects where ``unseen`` is not known.
    """
    every = list(objects)
    halves = {"seen": [o for o in every if not o.unseen], "unseen": [o for o in every if o.unseen]}
    out: dict[str, float] = {}
    for m in ("J", "F", "JF", "V"):
        parts = {half: nanmean([getattr(o, m) for o in rows]) for half, rows in halves.items()}
        out[m] = nanmean(list(parts.values()))
        if any(o.unseen is not None for o in every):
            out |= {f"{m}_{half}": value for half, value in parts.items()}
    return out


def per_object_mean(objects: Iterable[LvosObject]) -> dict[str, float]:
    """J, F, JF and V as plain means over all objects, seen or not: the other reading of the tables in papers."""
    every = list(objects)
    return {m: nanmean([getattr(o, m) for o in every]) for m in ("J", "F", "JF", "V")}
