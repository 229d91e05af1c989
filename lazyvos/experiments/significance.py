"""Is one row of a table better than another? A paired bootstrap over objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from lazyvos.types import InputError


@dataclass(frozen=True)
class Comparison:
    """``first`` less ``second``: mean ``difference`` and the bounds ``low``, ``high`` of its interval; ``p`` two-sided.

    ``n`` is the number of pairs, or of groups of them, that were drawn from.
    """

    first: str
    second: str
    measure: str
    difference: float
    low: float
    high: float
    p: float
    n: int


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, groups: np.ndarray | None = None, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Mean of ``first - second`` over pairs, its percentile interval, and a two-sided p.

    Pairs (or whole ``groups`` of pairs, one label for each pair) are drawn with replacement ``resamples`` times. ``p`` is twice the
    share of resampled means on the other side of 0, counting the sample itself, at most 1 (Efron and Tibshirani, "An Introduction
    to the Bootstrap", 1993, chapters 13 and 15). It is never below 2^(1 - n), what n pairs of equal sign can prove by
    signs alone, because the bootstrap of very few pairs is too sure of itself.

    Raises :class:`InputError` for series of different lengths, without a pair, or with NaN.

    >>> difference, low, high, p = paired_bootstrap(np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.6, 0.7, 0.5, 0.5]))
    >>> round(difference, 2), low > 0, p
    (0.25, True, 0.125)
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise InputError(f"a paired comparison needs two series of one length, not {list(a.shape)} and {list(b.shape)}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise InputError("a paired comparison cannot use NaN; leave those pairs out")
    if resamples < 1 or not 0 < level < 1:
        raise InputError(f"resamples {resamples} must be 1 or more and level {level} between 0 and 1")
    difference = a - b
    members = np.arange(len(difference)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, counts = np.bincount(members, difference), np.bincount(members)
    rng, n = np.random.default_rng(seed), len(sums)
    chunk = max(1, 2_000_000 // n)
    means = np.empty(resamples)
    for i in range(0, resamples, chunk):
        drawn = rng.integers(0, n, (min(chunk, resamples - i), n))
        means[i : i + len(drawn)] = sums[drawn].sum(1) / counts[drawn].sum(1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    side = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, max(2.0 ** (1 - n), 2 * (side + 1) / (resamples + 1)))
    return float(difference.mean()), float(low), float(high), float(p)


def compare(
    table: pd.DataFrame, first: str, second: str, measure: str = "JF", *, over: Literal["objects", "sequences"] = "objects",
    resamples: int = 10_000, seed: int = 0, level: float = 0.95,
) -> Comparison:  # fmt: skip
    """Compare two experiments of a tidy table (:func:`lazyvos.experiments.frame.tidy`) on the objects that both have.

    Objects of one video are alike; ``over="sequences"`` draws whole videos and is the more careful choice where there are
    enough of them. Objects without a number (NaN) in either are left out.

    Raises :class:`InputError` for a name or measure that the table does not have, and for sets of objects that differ.
    """
    if measure not in table.columns:
        raise InputError(f"the table has no measure {measure!r}; it has {', '.join(map(str, table.columns))}")
    if over not in ("objects", "sequences"):
        raise InputError(f"over is {over!r}; choose objects or sequences")
    where = ["dataset", "sequence", "object"]
    sides = []
    for name in (first, second):
        part = table[table["experiment"] == name]
        if part.empty:
            raise InputError(f"the table has no experiment {name!r}; it has {', '.join(table['experiment'].unique())}")
        sides.append(part.set_index(where)[measure])
    if set(sides[0].index) != set(sides[1].index):
        raise InputError(f"{first!r} and {second!r} were not run on the same objects; run both on the same data set")
    both = pd.concat(sides, axis=1, keys=["a", "b"]).dropna().sort_index()
    if both.empty:
        raise InputError(f"no object has {measure} in both {first!r} and {second!r}")
    groups = None
    if over == "sequences":
        groups = np.array([f"{dataset}\0{sequence}" for dataset, sequence, _ in both.index])
    found = paired_bootstrap(both["a"].to_numpy(), both["b"].to_numpy(), groups=groups, resamples=resamples, seed=seed, level=level)
    n = len(both) if groups is None else len(set(groups))
    return Comparison(first, second, measure, *found, n)
