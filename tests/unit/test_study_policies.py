"""The study of policies: its arms, its arithmetic, and one run end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lazyvos.experiments.study_policies import arms, condense, study
from lazyvos.types import InputError


def _table(scores: dict[str, tuple[float, float, int]]) -> pd.DataFrame:
    """Two objects per experiment; J&F of each and clicks of the first."""
    rows = []
    for name, (one, two, clicks) in scores.items():
        for o, (jf, noc) in enumerate(((one, clicks), (two, 0)), 1):
            rows.append({
                "experiment": name, "dataset": "d", "sequence": "s", "object": o, "J": jf, "F": jf, "JF": jf, "R@0.5": jf, "NoC": noc,
                "ACI": 1.0, "gaps": noc + 1, "span": 9.0, "clip_fps": 10.0, "pseudo": 0, "frames": 10, "seconds": 1.0, "peak_mib": np.nan,
                "hardware": "x",
            })  # fmt: skip
    return pd.DataFrame(rows)


def test_the_gain_is_over_chance_at_as_many_clicks() -> None:
    table = condense(_table({
        "alone": (0.2, 0.2, 0), "Lazy †": (0.3, 0.3, 0), "Lazy": (0.6, 0.6, 5), "Rand 0.1 / 0": (0.5, 0.5, 10), "Rand 0.1 / 1": (0.7, 0.7, 10),
    })).set_index("policy")  # fmt: skip
    # Rand: 0.3 at no click, 0.6 at 10, so 0.45 at 5
    assert table.loc["Lazy", "over_rand"] == pytest.approx(0.15)
    assert table.loc["Lazy", "low"] == pytest.approx(0.15) == table.loc["Lazy", "high"]
    assert table.loc["Lazy", "rand_spread"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert table.loc["Rand 0.1", "JF"] == pytest.approx(0.6)
    assert np.isnan(table.loc["alone", "over_rand"])


def test_more_clicks_than_any_chance_are_not_compared() -> None:
    table = condense(_table({"Lazy †": (0.3, 0.3, 0), "Lazy": (0.6, 0.6, 11), "Rand 0.1 / 0": (0.5, 0.5, 10)})).set_index("policy")
    assert np.isnan(table.loc["Lazy", "over_rand"])


def test_arms_and_their_errors() -> None:
    found = arms("generated:long", {}, fps=25.0, policies=("Lazy", "Budget"), rates=(0.01,), draws=2)
    assert [e.name for e in found] == ["Lazy", "Budget", "Rand 0.01 / 0", "Rand 0.01 / 1"]
    assert found[1].policy_options["fps"] == 25.0
    with pytest.raises(InputError, match="Lazier"):
        arms("generated:long", {}, fps=25.0, policies=("Lazier",))


def test_a_run(tmp_path: Path) -> None:
    table = study(tmp_path, seeds=(1,), cases=("hard",), length=8, size=64, draws=1, rates=(0.3,), policies=("alone", "Lazy"), progress=False)
    assert list(table["policy"]) == ["alone", "Lazy", "Rand 0.3"]
    assert table["JF"].between(0, 1).all()
    assert table["NoC"].iloc[2] > 0
