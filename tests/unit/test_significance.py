"""Paired bootstrap: right about what is known, and careful where there is little to know."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lazyvos.experiments import compare, paired_bootstrap
from lazyvos.types import InputError


def test_interval_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(0.7, 0.1, 400)
    second = first - rng.normal(0.01, 0.05, 400)
    difference, low, high, p = paired_bootstrap(first, second)
    assert difference == pytest.approx((first - second).mean(), abs=1e-12)
    error = (first - second).std(ddof=1) / 20
    assert low == pytest.approx(difference - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(difference + 1.96 * error, abs=0.1 * error)
    assert p == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.01)


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    ps = [paired_bootstrap(rng.normal(size=60), rng.normal(size=60), resamples=500, seed=i)[3] for i in range(300)]
    assert 0.02 < np.mean(np.array(ps) < 0.05) < 0.1
    assert 0.4 < np.mean(ps) < 0.6


def test_seed_repeats_and_sides_mirror() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(30), rng.random(30)
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3)
    assert paired_bootstrap(a, b, seed=3) != paired_bootstrap(a, b, seed=4)
    there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert there[0] == -back[0]
    assert (there[1], there[2]) == pytest.approx((-back[2], -back[1]))


def test_equal_rows_differ_by_nothing() -> None:
    same = np.array([0.3, 0.5, 0.9])
    assert paired_bootstrap(same, same) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("pairs", "least"), [(1, 1.0), (2, 0.5), (5, 0.0625)])
def test_few_pairs_prove_little(pairs: int, least: float) -> None:
    assert paired_bootstrap(np.full(pairs, 0.9), np.full(pairs, 0.1))[3] == least


def test_groups_widen_the_interval_where_objects_are_alike() -> None:
    rng = np.random.default_rng(5)
    effect = np.repeat(rng.normal(0.02, 0.1, 30), 8)  # eight objects of a video share its effect
    second = rng.random(240)
    groups = np.repeat(np.arange(30), 8)
    alone, together = paired_bootstrap(second + effect, second), paired_bootstrap(second + effect, second, groups=groups)
    assert together[0] == alone[0]
    assert together[2] - together[1] > 2 * (alone[2] - alone[1])


def test_ten_thousand_resamples_of_500_objects_are_quick() -> None:
    a, b = np.random.default_rng(0).random((2, 500))
    began = time.process_time()
    paired_bootstrap(a, b)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("a", "b", "options", "words"),
    [
        ([0.1, 0.2], [0.1], {}, "two series of one length"),
        ([], [], {}, "two series"),
        ([np.nan], [0.1], {}, "NaN"),
        ([0.1], [0.1], {"resamples": 0}, "resamples 0"),
        ([0.1], [0.1], {"level": 1.0}, "level 1.0"),
    ],
)
def test_what_cannot_be_compared(a: list, b: list, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        paired_bootstrap(np.array(a), np.array(b), **options)


def _table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"experiment": name, "dataset": "d", "sequence": f"s{s}", "object": o, "JF": rng.random() + (0.3 if name == "new" else 0)}
        for name in ("old", "new") for s in range(12) for o in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=1)  # rows in no order


def test_rows_of_a_table_are_paired_by_object() -> None:
    table = _table()
    found = compare(table, "new", "old")
    wide = table.pivot(index=["sequence", "object"], columns="experiment", values="JF")
    assert found.difference == pytest.approx((wide["new"] - wide["old"]).mean(), abs=1e-12)
    assert (found.n, found.first, found.measure) == (24, "new", "JF")
    assert compare(table, "new", "old", over="sequences").n == 12
    table.loc[(table["experiment"] == "old") & (table["sequence"] == "s0"), "JF"] = np.nan
    assert compare(table, "new", "old").n == 22


@pytest.mark.parametrize(
    ("first", "options", "words"),
    [("newest", {}, "no experiment 'newest'"), ("new", {"measure": "G"}, "no measure 'G'"), ("new", {"over": "frames"}, "over is 'frames'")],
)
def test_unknown_rows_are_named(first: str, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare(_table(), first, "old", **options)


def test_other_objects_are_no_pair() -> None:
    table = _table()
    with pytest.raises(InputError, match="not run on the same objects"):
        compare(table[~((table["experiment"] == "old") & (table["sequence"] == "s3"))], "new", "old")
