"""The study of estimators: which experiments it asks for, what becomes of their series, and one run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lazyvos.experiments.study_uncertainty import (
    ENTROPIES,
    EVIDENCE,
    PARTS,
    arms,
    available,
    condense,
    estimators,
    study,
)
from lazyvos.hub import shipped
from lazyvos.metrics.correlation import object_correlation
from lazyvos.metrics.risk import aurc, failure_auroc
from lazyvos.types import InputError

IOU = [1.0, 0.9, 0.8, 0.2, 0.1, 0.7]
DOUBT = [None, 0.1, 0.2, 0.6, 0.0, 0.3]
AREA = [None, 50.0, 40.0, 20.0, 0.0, 30.0]


def record(**series):
    found = {"t": list(range(6)), "j": IOU, "f": IOU, "present": [1] * 6, "predicted": [1] * 6, "area": AREA, "score": DOUBT, **series}
    return {"objects": [{"id": 1, "series": found}], "seconds": 2.0}


def test_every_tracker_watches_what_it_can() -> None:
    found = {e.name: e for e in arms("generated:smoke", {}, trackers=("X", "E", "M", "D"), passes=3, seed=4)}
    assert list(found) == ["X", "E", "M", "D", *(f"D-{part}" for part in EVIDENCE)]
    assert dict(found["X"].watch) == dict(found["D"].watch) == ENTROPIES
    assert dict(found["E"].watch) == dict(found["M"].watch) == ENTROPIES | PARTS
    assert found["M"].uncertainty_options == {"passes": 3, "seed": 4}
    assert found["E"].backbone == "tiny+tiny-b+tiny-c"
    assert {e.memory for e in found.values()} == {"longterm"}
    assert not any(e.clicks for e in found.values())


def test_only_what_has_weights_by_default() -> None:
    found = arms("generated:smoke", {})
    assert found
    assert {n for e in found for n in e.backbone.split("+")} <= set(shipped())
    assert set(available()) == {e.name for e in found if "-" not in e.name}


def test_an_unknown_tracker() -> None:
    with pytest.raises(InputError, match="'Z' is not part of this study; choose from X, E, M, D"):
        arms("generated:smoke", {}, trackers=("X", "Z"))


def test_series_become_estimators() -> None:
    records = [record(S=DOUBT, S_R=DOUBT)]
    assert list(estimators("X", records)) == ["X-S", "X-S_R"]
    assert list(estimators("D-V_R", records)) == ["D-V_R"]
    (one,) = estimators("X", records)["X-S"]
    assert math.isnan(one["u"][0])
    assert one["u"][3] == 0.6
    assert one["j"].tolist() == IOU


def test_masked_scores_count_only_where_there_is_a_mask() -> None:
    """The frame whose mask vanished has doubt 0 and IoU 0.1: it spoils the correlation of S, not of S_R, and no risk."""
    rows = condense({"X": [record(S=DOUBT, S_R=DOUBT)]}).set_index("estimator")
    plain, masked = rows.loc["X-S"], rows.loc["X-S_R"]
    assert masked["median"] == 1.0
    assert plain["median"] == object_correlation([np.nan if d is None else d for d in DOUBT], IOU) < 1
    for row in (plain, masked):
        assert (row["units"], row["vanished"], row["failed"], row["objects"], row["undefined"]) == (4, 1, 0.25, 1, 0)
        assert row["AURC"] == pytest.approx(aurc([0.1, 0.2, 0.6, 0.3], [0.9, 0.8, 0.2, 0.7]))
        assert row["E-AURC"] == 0
        assert row["AUROC"] == row["AUROC/object"] == failure_auroc([0.1, 0.2, 0.6, 0.3], [0.9, 0.8, 0.2, 0.7]) == 1
    assert math.isnan(masked["low"])
    assert masked["seconds"] == 2.0


def test_within_an_object_and_over_all() -> None:
    """A second object is always a level more doubtful: the order within each stays right, that over both does not."""
    higher = [None if d is None else d + 0.55 for d in DOUBT]
    row = condense({"X": [record(S_R=DOUBT), record(S_R=higher)]}).iloc[0]
    assert row["AUROC/object"] == 1
    assert row["AUROC"] < 1
    assert row["objects"] == 2
    assert row["low"] == row["high"] == row["median"] == 1


def test_constant_series_are_counted() -> None:
    row = condense({"X": [record(S_R=[None, 0.5, 0.5, 0.5, 0.5, 0.5])]}).iloc[0]
    assert (row["objects"], row["undefined"]) == (0, 1)
    assert math.isnan(row["median"])
    assert row["AUROC"] == 0.5


def test_a_small_study_runs_and_is_kept(tmp_path: Path) -> None:
    options = {"seeds": (1,), "cases": ("crowd",), "length": 7, "size": 64, "trackers": ("X", "M"), "passes": 2, "device": "cpu", "progress": False}
    table = study(tmp_path, **options)
    assert list(table["estimator"]) == [*(f"X-{n}" for n in ENTROPIES), *(f"M-{n}" for n in (ENTROPIES | PARTS))]
    of_m = table[table["estimator"].str.startswith("M")]
    assert (table["objects"] + table["undefined"] == 3).all()
    assert of_m["units"].nunique() == 1
    assert (table["units"] + table["vanished"] == 18).all()
    again = study(tmp_path, **options)
    assert again.equals(table)
