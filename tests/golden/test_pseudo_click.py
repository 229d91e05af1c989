"""Pseudo-clicks, user clicks and negative clicks against golden numbers."""

from __future__ import annotations

import numpy as np
import pytest

from lazyvos.interact import (
    distance_field,
    nearest_to_centroid,
    negatives_from_others,
    object_centre,
    other_centres,
    pseudo_point,
)
from lazyvos.uncertainty import dilate_mask


@pytest.fixture(scope="module")
def golden(load):
    data, arrays = load("pseudo_click")
    for block in ("cases", "negative_clicks"):
        assert data[block], f"the golden file has no {block}"
    return data, arrays


def test_every_array_is_read(golden):
    data, arrays = golden
    assert {case[part] for case in data["cases"] for part in ("mask", "entropy")} | {"labels"} == set(arrays.files)


def row_column(point):
    return None if point is None else [point[1], point[0]]


def test_clicks_of_one_object(golden):
    data, arrays = golden
    for case in data["cases"]:
        mask, entropy, name = arrays[case["mask"]], arrays[case["entropy"]], case["mask"]
        default = pseudo_point(mask, entropy)
        assert row_column(default) == case["pseudo_click_default"], name
        dilated = pseudo_point(mask, entropy, field="dilated")
        assert row_column(dilated) == case["pseudo_click_thesis_dilated_field"], name
        centre = row_column(object_centre(mask))
        assert centre == case["click_distance_only"], name
        assert row_column(pseudo_point(mask, entropy, location="distance_only")) == centre, name
        assert row_column(nearest_to_centroid(mask)) == case["click_nearest_to_centroid"], name
        field = distance_field(mask)
        assert field.max() == pytest.approx(case["max_distance"], rel=0, abs=1e-12), name
        if default is None:
            assert case["score_at_default"] is None, name
            continue
        x, y = default
        score = field[y, x] * (1 - np.where(dilate_mask(mask), entropy, 0)[y, x])
        assert score == pytest.approx(case["score_at_default"], rel=1e-6), name


def test_negative_clicks(golden):
    data, arrays = golden
    labels = arrays["labels"]
    for case in data["negative_clicks"]:
        identity = case["obx_passed"]
        assert [list(p) for p in other_centres(labels, identity)] == case["clicks_wh"]
        assert len(case["labels"]) == len(case["clicks_wh"])
        assert not any(case["labels"])
        if identity:
            clicks = negatives_from_others(labels, identity)
            assert [[c.x, c.y] for c in clicks] == case["clicks_wh"]
            assert all(c.object == identity and not c.positive for c in clicks)
