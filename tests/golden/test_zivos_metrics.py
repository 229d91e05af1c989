"""User workload and robustness against golden numbers."""

from __future__ import annotations

import pytest

from lazyvos.metrics import aci, gaps, idi, robustness_at, user_workload


@pytest.fixture(scope="module")
def golden(load):
    data, arrays = load("zivos_metrics")
    assert data["workload"], "the golden file has no workload case"
    assert data["robustness"], "the golden file has no robustness case"
    return data, arrays, {"rel": 0, "abs": data["tolerance"]}


def test_workload_of_each_object(golden):
    data, _, tol = golden
    for case in data["workload"]:
        for o in case["objects"]:
            c, n = o["corrections"], o["frames"]
            assert gaps(c, n).tolist() == [g for g in o["gaps"] if g > 0], case["name"]
            assert len(c) == o["noc"], case["name"]
            assert aci(c, n) == pytest.approx(o["aci"], **tol), case["name"]
            assert idi(c, n, case["fps"]) == pytest.approx(o["mean_gap_seconds"], **tol), case["name"]


def test_workload_of_the_dataset(golden):
    data, _, tol = golden
    for case in data["workload"]:
        objects = [(o["corrections"], o["frames"]) for o in case["objects"]]
        default = user_workload(objects, case["fps"])
        other = user_workload(objects, case["fps"], idi_over="objects", aci_over="sum")
        assert (default.NoC, default.objects) == (case["NoC"], len(objects)), case["name"]
        assert default.IDI == pytest.approx(case["IDI_pooled"], **tol), case["name"]
        assert default.ACI == pytest.approx(case["ACI_mean"], **tol), case["name"]
        assert other.IDI == pytest.approx(case["IDI_mean_of_objects"], **tol), case["name"]
        assert other.ACI == pytest.approx(case["ACI_sum"], **tol), case["name"]


def test_robustness(golden):
    data, z, tol = golden
    assert {case[part] for case in data["robustness"] for part in ("iou", "gt_present", "pred_present")} == set(z.files)
    for case in data["robustness"]:
        assert case["R"]
        series = z[case["iou"]], z[case["gt_present"]], z[case["pred_present"]]
        thresholds = [float(t) for t in case["R"]]
        every = robustness_at(*series, thresholds)
        present = robustness_at(*series, thresholds, present_only=True)
        for key, want in case["R"].items():
            assert every[float(key)] == pytest.approx(want["with_absence_rule"], **tol), key
            assert present[float(key)] == pytest.approx(want["present_frames_only"], **tol), key
