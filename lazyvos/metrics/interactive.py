"""Interactive DAVIS: from the report of a session to AUC, J&F at 60 seconds and R-AUC.

Sources: S. Caelles et al., "The 2018 DAVIS Challenge on Video Object Segmentation", arXiv:1803.00557 (curve over time); thesis, section
4.5.2 (curve over rounds, which needs no clock).

A report is a table with one row for each sample, round, object and frame and the columns ``sequence``, ``sample`` (which of the sequence's
first scribbles), ``round`` (from 1), ``object``, ``frame``, ``J``, ``F``, ``JF`` (0..1) and ``seconds`` (of the sample's round, the same in all of its rows).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from lazyvos.types import InputError

COLUMNS = ("sequence", "sample", "round", "object", "frame", "J", "F", "JF", "seconds")
Normalise = Literal["code", "rounds"]


@dataclass(frozen=True, eq=False)
class Curves:
    """A metric after every round.

    Attributes
    ----------
    metric: ``float64 [rounds]``, mean over samples and objects.
    seconds: ``float64 [rounds]``, wall time so far, mean over samples.
    timeout: seconds at which the curve over time ends.
    """

    metric: np.ndarray
    seconds: np.ndarray
    timeout: float

    @property
    def over_time(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and metric: (0, 0), every round, and the last value once more at the timeout."""
        return np.concatenate([[0.0], self.seconds, [self.timeout]]), self._ordinates

    @property
    def over_rounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Rounds and metric: (0, 0), every round, and the last value once more one round later."""
        return np.arange(len(self.metric) + 2, dtype=np.float64), self._ordinates

    @property
    def _ordinates(self) -> np.ndarray:
        return np.concatenate([[0.0], self.metric, self.metric[-1:]])

    @property
    def auc(self) -> float:
        """Area under :attr:`over_time` by its largest abscissa; depends on the machine. NaN where no time passed."""
        seconds, metric = self.over_time
        return float(trapezoid(metric, seconds) / seconds.max()) if seconds.max() > 0 else float("nan")

    def at(self, seconds: float = 60.0) -> float:
        """The metric at a time, between rounds in a straight line, after the last one its value; depends on the machine."""
        return float(np.interp(seconds, *self.over_time))

    def r_auc(self, normalise: Normalise = "code") -> float:
        """Area under the curve over K rounds; does not depend on the machine.

        ``"code"``, as published: area under :attr:`over_rounds` divided by K + 1; it starts at (0, 0), so a constant metric m gives
        m (K + 0.5) / (K + 1), which is 0.944 m for 8 rounds. ``"rounds"``: area between round 1 and K divided by K − 1, so m gives m
        (of one round, its value). Raises :class:`InputError` for another word.
        """
        if normalise == "code":
            rounds, metric = self.over_rounds
            return float(trapezoid(metric, rounds) / rounds[-1])
        if normalise == "rounds":
            return float(trapezoid(self.metric) / (len(self.metric) - 1)) if len(self.metric) > 1 else float(self.metric[0])
        raise InputError(f"normalise is {normalise!r}; choose 'code' or 'rounds'")


def per_round(
    report: pd.DataFrame, rounds: int, columns: Iterable[str] = ("J", "F", "JF"), *, samples: Iterable[tuple[str, int, int]] | None = None
) -> pd.DataFrame:
    """A row for every round, sample and object: means over frames of ``columns``, and ``seconds``.

    Rounds that a sample did not come to, because its time was over, have the values of the round before (0 without one) and 0 seconds.

    Parameters
    ----------
    report: see the module. rounds: K, how many there should be; later ones are left out.
    samples: (sequence, sample, object) of all that should be there, also those without a row; default those of the report.

    Raises :class:`InputError` for a report without one of the columns, or with nothing in it.
    """
    columns = list(columns)
    missing = [c for c in ("sequence", "sample", "round", "object", "seconds", *columns) if c not in report.columns]
    if missing:
        raise InputError(f"the report has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; give 1 or more")
    keys = ["sequence", "sample", "object"]
    known = report[keys].drop_duplicates().itertuples(index=False, name=None)
    wanted = list(dict.fromkeys([*known, *(samples or ())]))
    if not wanted:
        raise InputError("the report is empty; there is no sample to average over")
    means = report.groupby([*keys, "round"])[[*columns, "seconds"]].mean()
    grid = pd.MultiIndex.from_tuples([(*key, n) for key in wanted for n in range(1, rounds + 1)], names=[*keys, "round"])
    full = means.reindex(grid)
    full["seconds"] = full["seconds"].fillna(0.0)
    full[columns] = full[columns].groupby(level=keys, sort=False).ffill().fillna(0.0)
    return full.reset_index()


def curves(
    report: pd.DataFrame, rounds: int = 8, metric: str = "JF", *, seconds_per_object: float | None = 240.0,
    samples: Iterable[tuple[str, int, int]] | None = None,
) -> Curves:  # fmt: skip
    """The metric after every round: each object of a sample counts once, as in the interactive framework.

    Parameters
    ----------
    report, rounds, samples: see :func:`per_round`.
    metric: a column, ``"JF"``, ``"J"`` or ``"F"``.
    seconds_per_object: budget of a whole sample for each of its objects; the curve over time ends at this times the mean number of objects
        per sequence (DAVIS-2017 val: 240 · 61 / 30 = 488 s), or at the last round where that took longer. ``None``, no budget: at the number
        of rounds times the longest round of any sample.
    """
    table = per_round(report, rounds, (metric,), samples=samples)
    values = table.groupby("round")[metric].mean().to_numpy(np.float64)
    times = table.drop_duplicates(["sequence", "sample", "round"])
    seconds = times.groupby("round")["seconds"].mean().cumsum().to_numpy(np.float64)
    if seconds_per_object is None:
        timeout = rounds * float(times["seconds"].max())
    else:
        timeout = seconds_per_object * float(table.groupby("sequence")["object"].nunique().mean())
    return Curves(values, seconds, max(timeout, float(seconds[-1])))
