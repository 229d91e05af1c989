"""The robot of interactive DAVIS, stage by stage, and the curves of its reports (davis_interactive.json, davis_interactive.npz)."""

from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lazyvos.datasets import Scribble
from lazyvos.experiments.interactive import Benchmark, measure, worst_frame
from lazyvos.interact.robot import Robot, bezier, error_mask, opening, skeleton, skeleton_paths
from lazyvos.interact.strategies import polyline, rasterise
from lazyvos.metrics.interactive import curves

NAMES = {
    "sequence": "sequence", "scribble_idx": "sample", "interaction": "round", "object_id": "object", "frame": "frame", "jaccard": "J",
    "contour": "F", "j_and_f": "JF", "timing": "seconds",
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case or curve; an unreadable manifest gives one test, which fails."""
    for fixture, block in (("number", "cases"), ("curve", "curves")):
        if fixture in metafunc.fixturenames:
            try:
                text = (Path(os.environ.get("LAZYVOS_GOLDEN") or Path(__file__).parent) / "davis_interactive.json").read_text()
                count = len(json.loads(text)[block])
            except (OSError, ValueError, LookupError, TypeError):
                count = 0
            metafunc.parametrize(fixture, range(max(count, 1)))


@pytest.fixture(scope="module")
def golden(load: Any) -> tuple[dict[str, Any], Any]:
    data, arrays = load("davis_interactive")
    for block in ("cases", "misc", "curves"):
        assert data[block], f"the golden file has no {block}"
    return data, arrays


class Case:
    """Label maps of a clip, the frame that is worst, and what the robot drew there."""

    def __init__(self, case: dict[str, Any], arrays: Any) -> None:
        self.case, self.truths, self.predictions = case, arrays[case["gt"]], arrays[case["pred"]]
        self.t = case["worst_frame"]
        self.truth, self.prediction = self.truths[self.t], self.predictions[self.t]
        self.objects = list(range(1, int(self.truths.max()) + 1))
        tail = case["gt"].removeprefix("gt")
        stored = {k: (f"err{tail}_{k}", f"skel{tail}_{k}") for k in (0, *self.objects)}
        self.stages = {k: (arrays[e], arrays[s]) for k, (e, s) in stored.items() if e in arrays.files}
        self.names = {name for k in self.stages for name in stored[k]}
        self.render = arrays[case["render"]]
        self.drawn = case["scribbles"]
        self.paths = {k: [s["polyline_xy"] for s in group] for k, group in groupby(self.drawn, key=lambda s: s["object_id"])}


@pytest.fixture
def case(golden: Any, number: int) -> Case:
    return Case(golden[0]["cases"][number], golden[1])


def _same_curve(points: np.ndarray, wanted: dict[str, Any], tolerance: float) -> None:
    assert len(points) == wanted["n_points"]
    for got, name in ((points[0], "first"), (points[-1], "last"), (points[::100], "every_100th")):
        np.testing.assert_allclose(got, wanted[name], rtol=0, atol=tolerance, err_msg=name)


def test_every_array_is_read(golden):
    data, arrays = golden
    used: set[str] = set()
    for one in data["cases"]:
        used |= Case(one, arrays).names | {one[part] for part in ("gt", "pred", "render")}
    assert used == set(arrays.files)
    assert set(data["misc"]) == {"bezier", "bresenham"}


def test_worst_frame(golden, case: Case):
    pairs = [measure(truth, labels, case.objects) for truth, labels in zip(case.truths, case.predictions, strict=True)]
    j, f = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    np.testing.assert_allclose(j.mean(1), case.case["jaccard_mean_per_frame"], rtol=0, atol=golden[0]["tolerance"])
    np.testing.assert_allclose(f.mean(1), case.case["f_mean_per_frame"], rtol=0, atol=golden[0]["tolerance"])
    frames = range(len(j))
    assert worst_frame(j, f, frames, Benchmark(metric="J")) == case.t
    assert worst_frame(j, f, frames, Benchmark(choose="thesis")) == case.t


def test_error_masks(case: Case):
    assert case.stages
    for k in (0, *case.objects):
        mask = error_mask(case.truth, case.prediction, k)
        assert mask.any() == (k in case.stages)
        if k in case.stages:
            np.testing.assert_array_equal(mask, case.stages[k][0])


def test_skeletons_of_the_stored_errors(case: Case):
    """Opening and medial axis; the order in which the latter removes equal pixels is that of seed 0."""
    for k, (error, wanted) in case.stages.items():
        opened = opening(error)
        got = np.zeros_like(wanted) if opened is None else skeleton(opened)
        np.testing.assert_array_equal(got, wanted, err_msg=f"object {k}")


def test_paths_of_the_stored_skeletons(case: Case):
    assert set(case.paths) <= set(case.stages)
    for k, (_, pixels) in case.stages.items():
        assert [path.tolist() for path in skeleton_paths(pixels)] == case.paths.get(k, []), f"object {k}"


def test_curves_of_the_stored_paths(golden, case: Case):
    height, width = case.truth.shape
    for wanted in case.drawn:
        curve = bezier(np.array(wanted["polyline_xy"])) / (width, height)
        _same_curve(curve, wanted, golden[0]["tolerance"])


def test_raster_of_the_stored_paths(case: Case):
    height, width = case.truth.shape
    strokes = [Scribble(bezier(np.array(s["polyline_xy"])) / (width, height), s["object_id"]) for s in case.drawn]
    np.testing.assert_array_equal(rasterise(strokes, (height, width)), case.render)


def test_whole_robot(golden, case: Case):
    strokes = Robot().scribbles(case.truth, case.prediction, case.objects)
    assert [s.object for s in strokes] == [s["object_id"] for s in case.drawn]
    for stroke, wanted in zip(strokes, case.drawn, strict=True):
        _same_curve(stroke.points, wanted, golden[0]["tolerance"])
    np.testing.assert_array_equal(rasterise(strokes, case.truth.shape), case.render)


def test_bezier_and_bresenham(golden):
    data, _ = golden
    one = data["misc"]["bezier"]
    np.testing.assert_allclose(bezier(np.array(one["points"]), one["n"]), one["curve"], rtol=0, atol=data["tolerance"])
    assert polyline(np.array(data["misc"]["bresenham"]["points"])).tolist() == data["misc"]["bresenham"]["out"]


def test_summary_of_a_report(golden, curve: int):
    data, _ = golden
    one, tolerance = data["curves"][curve], data["tolerance"]
    assert set(one["rows_columns"]) == set(NAMES)
    report = pd.DataFrame(one["rows"], columns=one["rows_columns"]).rename(columns=NAMES)
    samples = [
        (name, sample, o) for name, facts in one["sequences"].items()
        for sample in range(1, facts["num_scribbles"] + 1) for o in range(1, facts["num_objects"] + 1)
    ]  # fmt: skip
    got = curves(report, one["max_rounds"], seconds_per_object=one["max_time_per_object"], samples=samples)
    mine = {
        "time_summary": {"auc": got.auc, "metric_at_60s": got.at(60), "time": got.over_time[0], "metric": got.over_time[1]},
        "round_summary": {
            "r_auc": got.r_auc(), "axis": got.over_rounds[0], "metric": got.over_rounds[1],
            "metric_at_60_on_round_axis": np.interp(60, *got.over_rounds),
        },
    }  # fmt: skip
    for block, numbers in mine.items():
        assert set(numbers) == set(one[block])
        for name, value in numbers.items():
            np.testing.assert_allclose(value, one[block][name], rtol=0, atol=tolerance, err_msg=f"{block} {name}")
