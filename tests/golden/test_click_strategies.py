"""Click strategies a1, a2, a3 against clicks of the released code (click_strategies.json, click_strategies.npz)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazyvos.datasets import Scribble
from lazyvos.interact.strategies import Spot, Strategy, components, rasterise, to_clicks
from lazyvos.masks.labels import object_ids

SETTING = re.compile(r"(a\d)(_first_round)?_limit(\d+)(?:_minarea(\d+))?")
GROUP = re.compile(r"components_.*?(\d+)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case and setting; an unreadable manifest gives one test, which fails."""
    if "setting" in metafunc.fixturenames:
        try:
            text = (Path(os.environ.get("LAZYVOS_GOLDEN") or Path(__file__).parent) / "click_strategies.json").read_text()
            cases = [(i, name) for i, case in enumerate(json.loads(text)["cases"]) for name in case["clicks"]]
        except (OSError, ValueError, LookupError, TypeError):
            cases = []
        metafunc.parametrize("setting", cases or [(0, "unreadable")], ids=lambda s: f"{s[0]}-{s[1]}")


@pytest.fixture(scope="module")
def golden(load: Any) -> tuple[dict[str, Any], Any]:
    data, arrays = load("click_strategies")
    assert data["cases"], "the golden file has no case"
    return data, arrays


def _strokes(case: dict[str, Any], arrays: Any) -> list[Scribble]:
    return [Scribble(arrays[path["array"]], path["object_id"]) for path in case["paths"]]


def test_every_array_is_read(golden):
    data, arrays = golden
    used = {path["array"] for case in data["cases"] for path in case["paths"]} | {case[part] for case in data["cases"] for part in ("gt", "pred")}
    groups = {name for name in arrays.files if GROUP.fullmatch(name)}
    assert groups
    assert used | groups | {"components_in"} == set(arrays.files)
    assert all(set(clicks) == {"positive", "negative"} for case in data["cases"] for clicks in case["clicks"].values())


def test_clicks(golden, setting: tuple[int, str]):
    data, arrays = golden
    case, wanted = data["cases"][setting[0]], data["cases"][setting[0]]["clicks"][setting[1]]
    parts = SETTING.fullmatch(setting[1])
    assert parts, f"no test knows {setting[1]}"
    truth, prediction = arrays[case["gt"]], arrays[case["pred"]]
    assert list(truth.shape) == case["size"]
    strategy = Strategy(kind=parts[1], limit=int(parts[3]), min_area=int(parts[4] or 0))
    first = bool(parts[2])
    spots = strategy.spots(
        _strokes(case, arrays), truth.shape, objects=object_ids(truth), truth=truth, prediction=None if first else prediction
    )
    for sign in ("positive", "negative"):
        got = [[s.object, s.row, s.column] for s in spots if s.positive == (sign == "positive")]
        np.testing.assert_allclose(
            np.array(got).reshape(-1, 3), np.array(wanted[sign]).reshape(-1, 3), rtol=0, atol=data["tolerance"], err_msg=sign
        )
    assert len(spots) == len(wanted["positive"]) + len(wanted["negative"])


def test_pixels_of_clicks_are_those_of_the_fractions(golden):
    data, arrays = golden
    for case in data["cases"]:
        height, width = case["size"]
        canvas = rasterise(_strokes(case, arrays), (height, width))
        for name, clicks in case["clicks"].items():
            if not name.startswith("a2"):
                continue
            spots = [Spot(int(o), row, column) for o, row, column in clicks["positive"]]
            assert spots
            for spot, click in zip(spots, to_clicks(spots, (height, width)), strict=True):
                assert abs(click.y - spot.row * height) < 1e-3
                assert abs(click.x - spot.column * width) < 1e-3
                assert canvas[int(click.y), int(click.x)] == spot.object


def test_components(golden):
    _, arrays = golden
    for name in arrays.files:
        if found := GROUP.fullmatch(name):
            np.testing.assert_array_equal(components(arrays["components_in"] == int(found[1])), arrays[name], err_msg=name)
