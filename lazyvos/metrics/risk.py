"""Does an uncertainty score tell where a mask fails? Risk-coverage curve, AURC, E-AURC and AUROC of failure.

A unit is one object on one frame, with an uncertainty u and an IoU; its risk is 1 - IoU. Sorted by u ascending, the risk at
coverage k/n is the mean risk of the k most certain units, and AURC the mean of that over k = 1..n. The best any score can do
is to sort by the risk itself (the oracle); E-AURC is what AURC lies above it. Sources: R. El-Yaniv and Y. Wiener, JMLR 2010;
Y. Geifman, G. Uziel and R. El-Yaniv, ICLR 2019.

Units with the same u have no order: every value here is the mean over all orders of them, so the input's order never matters.
A unit whose uncertainty or IoU is NaN is left out and counted. A quality q (high is good) goes in as 1 - q.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyvos.metrics.pixels import as_array
from lazyvos.types import InputError


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """A risk-coverage curve over n units.

    Attributes
    ----------
    coverage: k/n, ``float64 [n]``.
    risk, oracle: mean 1 - IoU of the k most certain units, and in the best possible order, ``float64 [n]``.
    left_out: units without uncertainty or IoU (NaN).
    """

    coverage: np.ndarray
    risk: np.ndarray
    oracle: np.ndarray
    left_out: int = 0

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve, in 0..1, 0 is best; NaN without a unit."""
        return float(self.risk.mean()) if self.risk.size else math.nan

    @property
    def oracle_aurc(self) -> float:
        """The least AURC that any order of these units has."""
        return float(self.oracle.mean()) if self.oracle.size else math.nan

    @property
    def eaurc(self) -> float:
        """Excess AURC: AURC - AURC of the oracle order, at least 0."""
        return max(0.0, self.aurc - self.oracle_aurc) if self.risk.size else math.nan


def risk_coverage(uncertainty: Any, iou: Any) -> RiskCoverage:
    """Risk-coverage curve of ``uncertainty [n]`` (any finite numbers) and ``iou [n]`` (0..1); see the module's text.

    Raises `InputError` for other shapes or values.
    """
    u, v, left_out = _units(uncertainty, iou)
    risk = 1.0 - v
    _, tie = np.unique(u, return_inverse=True)
    shared = np.bincount(tie, risk) / np.bincount(tie) if u.size else risk  # mean risk of the units of one uncertainty
    k = np.arange(1, u.size + 1)
    return RiskCoverage(k / max(1, u.size), shared[np.sort(tie)].cumsum() / k, np.sort(risk).cumsum() / k, left_out)


def aurc(uncertainty: Any, iou: Any) -> float:
    """Area under the risk-coverage curve; arguments as in `risk_coverage`.

    >>> aurc([0.1, 0.9], [1.0, 0.5]), aurc([0.9, 0.1], [1.0, 0.5])
    (0.125, 0.375)
    """
    return risk_coverage(uncertainty, iou).aurc


def eaurc(uncertainty: Any, iou: Any) -> float:
    """AURC minus that of the oracle order; arguments as in `risk_coverage`."""
    return risk_coverage(uncertainty, iou).eaurc


def failure_auroc(uncertainty: Any, iou: Any, tau: float = 0.5) -> float:
    """AUROC of failure: how often a unit with IoU < ``tau`` is more uncertain than one with IoU >= ``tau``.

    Over all such pairs, equal uncertainties counting one half; 1 is best, 0.5 is chance. NaN if one of the two
    kinds is missing. Arguments as in `risk_coverage`; ``tau`` in 0..1, else `InputError`.
    """
    if not 0 <= tau <= 1:
        raise InputError(f"tau is {tau}; give a threshold of IoU in 0..1")
    u, v, _ = _units(uncertainty, iou)
    failed = v < tau
    bad = int(failed.sum())
    good = failed.size - bad
    if not bad or not good:
        return math.nan
    from scipy.stats import rankdata  # only here: it takes half a second to import

    return float((rankdata(u)[failed].sum() - bad * (bad + 1) / 2) / (bad * good))


class RiskMeter:
    """Collects units while a video runs: two numbers each (16 bytes), nothing else grows."""

    def __init__(self) -> None:
        self._uncertainty, self._iou = array("d"), array("d")

    def __len__(self) -> int:
        return len(self._iou)

    def add(self, uncertainty: float | None, iou: float | None) -> None:
        """One object on one frame; ``None`` is NaN. Raises `InputError` for a value that cannot be."""
        u, v = (math.nan if x is None else float(x) for x in (uncertainty, iou))
        _units([u], [v])
        self._uncertainty.append(u)
        self._iou.append(v)

    def merge(self, other: RiskMeter) -> None:
        """Add the units of another meter."""
        self._uncertainty.extend(other._uncertainty)
        self._iou.extend(other._iou)

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """Copies of uncertainty and IoU, ``float64 [n]``, in the order of `add`."""
        return np.array(self._uncertainty), np.array(self._iou)

    def curve(self) -> RiskCoverage:
        """`risk_coverage` of the units so far."""
        return risk_coverage(*self.units())

    def auroc(self, tau: float = 0.5) -> float:
        """`failure_auroc` of the units so far."""
        return failure_auroc(*self.units(), tau)


def _units(uncertainty: Any, iou: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """The units that have both numbers, and how many have not."""
    u, v = (as_array(x).astype(np.float64) for x in (uncertainty, iou))
    if u.ndim != 1 or u.shape != v.shape:
        raise InputError(f"uncertainty {u.shape} and iou {v.shape} must be series of one length")
    if np.isinf(u).any():
        raise InputError("uncertainty has an infinite value; give finite numbers, or NaN for none")
    if (v < 0).any() or (v > 1).any():
        raise InputError("iou has a value outside 0..1; give shares, not percent")
    keep = ~(np.isnan(u) | np.isnan(v))
    return u[keep], v[keep], int(keep.size - keep.sum())
