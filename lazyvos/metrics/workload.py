"""How much work a tracker makes for its user: NoC, IDI, ACI, and how unevenly the work comes.

Source: thesis section 6.5.2, Eq. 6.7. The prompts of an object are its first frame, every frame that the user
corrected, and its last frame; a gap is the number of frames between two prompts. A gap of 0 (a second
correction on one frame, or one on the first or last frame) is ignored.

**ACI does not see how corrections are spread.** It is meant to tell corrections that come in clusters from ones
that come evenly. But in Eq. 6.7 each gap g is counted for i = g..T, so it adds T - g + 1, and the gaps always
sum to the span T - 1. With P gaps that leaves::

    ACI = P (1 + 1/T) - (T - 1)/T        ( = NoC + (NoC + 2)/T  if no gap is 0)

which depends on the number of corrections and of frames only: ACI is NoC per object plus a small term. For the
same reason the pooled IDI is the total span over (NoC + number of objects). Both are computed as defined, for
comparison with published numbers; `unevenness` is a measure that does see the spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lazyvos.metrics.davis import nanmean


def gaps(corrections: Iterable[int], frames: int) -> np.ndarray:
    """Gaps between the prompts of one object, in frames: int64 ``[P]``, each at least 1.

    ``corrections`` are frame numbers in 0..``frames`` - 1, in any order. Raises ValueError for another number.

    >>> gaps([3, 5], 10).tolist()
    [3, 2, 4]
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}; give the length of the sequence, at least 1.")
    given = sorted(corrections)
    if given and not 0 <= given[0] <= given[-1] < frames:
        bad = given[0] if given[0] < 0 else given[-1]
        raise ValueError(f"correction at frame {bad} is outside the sequence; its frames are 0..{frames - 1}.")
    return np.diff(np.array(sorted({0, *given, frames - 1}), dtype=np.int64))


def aci(corrections: Iterable[int], frames: int) -> float:
    """ACI of one object: 1/T times the sum over i = 1..T of the number of gaps <= i (thesis Eq. 6.7).

    It equals P (1 + 1/T) - (T - 1)/T for P gaps, wherever the corrections are: see the module's text.

    >>> aci([3, 5], 10), aci([1, 2], 10)
    (2.4, 2.4)
    """
    counts = np.bincount(gaps(corrections, frames), minlength=frames + 1)[1:]
    return float(counts.cumsum().sum() / frames)


def idi(corrections: Iterable[int], frames: int, fps: float) -> float:
    """IDI of one object in seconds: its mean gap over ``fps``; NaN for a single frame."""
    _check_fps(fps)
    return nanmean(gaps(corrections, frames)) / fps


def unevenness(corrections: Iterable[int], frames: int) -> float:
    """How unevenly one object's corrections are spread: 1 - (sum g)^2 / (P sum g^2) over its P gaps g.

    0 for equal gaps; near 1 when all corrections come at once. With c the coefficient of variation of the gaps
    it is c^2 / (1 + c^2). NaN with fewer than two gaps, where nothing can be uneven. (Our own measure.)

    >>> round(unevenness([3, 6], 10), 3), round(unevenness([3, 5], 10), 3), round(unevenness([1, 2], 10), 3)
    (0.0, 0.069, 0.471)
    """
    g = gaps(corrections, frames)
    if g.size < 2:
        return math.nan
    return max(0.0, 1.0 - float(g.sum()) ** 2 / (g.size * float(np.square(g, dtype=np.float64).sum())))


@dataclass(frozen=True)
class Workload:
    """User workload over a data set.

    ``NoC``: number of corrections, the initial prompts not counted. ``IDI``: seconds between prompts. ``ACI``:
    see `aci`. ``unevenness``: mean over the objects with at least two gaps (NaN if none). ``objects``: how many.
    """

    NoC: int
    IDI: float
    ACI: float
    unevenness: float
    objects: int


def user_workload(
    objects: Iterable[tuple[Sequence[int], int]],
    fps: float,
    *,
    idi_over: Literal["pooled", "objects"] = "pooled",
    aci_over: Literal["mean", "sum"] = "mean",
) -> Workload:
    """Workload of a data set; ``objects`` gives (frame numbers of the corrections, number of frames) of each.

    ``fps`` is the rate of the frame numbers (6 for LVOS, which annotates 6 frames a second). IDI is the mean of
    all gaps pooled, or, with ``idi_over="objects"``, the mean of the objects' own. ACI is the mean over objects,
    as published tables have it, or, with ``aci_over="sum"``, the sum that Eq. 6.7 literally writes. Every entry
    of a correction list counts in NoC, also two on one frame. Raises ValueError for a frame number outside the
    sequence, an ``fps`` that is not above 0, an unknown option, or no object at all.

    >>> user_workload([([3, 5], 10), ([], 10)], fps=1).ACI
    1.3
    """
    _check_fps(fps)
    if idi_over not in ("pooled", "objects"):
        raise ValueError(f"idi_over is {idi_over!r}; choose 'pooled' or 'objects'.")
    if aci_over not in ("mean", "sum"):
        raise ValueError(f"aci_over is {aci_over!r}; choose 'mean' or 'sum'.")
    rows = [(list(c), n) for c, n in objects]
    if not rows:
        raise ValueError("objects is empty; give (corrections, frames) of at least one object.")
    acis = [aci(c, n) for c, n in rows]
    if idi_over == "pooled":
        idis = nanmean(np.concatenate([gaps(c, n) for c, n in rows])) / fps
    else:
        idis = nanmean([idi(c, n, fps) for c, n in rows])
    return Workload(
        NoC=sum(len(c) for c, _ in rows),
        IDI=idis,
        ACI=sum(acis) if aci_over == "sum" else sum(acis) / len(acis),
        unevenness=nanmean([unevenness(c, n) for c, n in rows]),
        objects=len(rows),
    )


def _check_fps(fps: float) -> None:
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps is {fps}; give the frame rate, above 0.")
