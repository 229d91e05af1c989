"""J, F and the DAVIS-2017 protocol against numbers of the official evaluation code."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from lazyvos.metrics import (
    boundary_map,
    contour,
    disk,
    evaluate_sequence,
    region,
    series_statistics,
    stability,
    summarise,
    tolerance_radius,
)


@pytest.fixture(scope="module")
def golden(load):
    data, arrays = load("davis_metrics")
    assert data["cases"], "the golden file has no case"
    return data, arrays, data["tolerance"]


@pytest.fixture(scope="module")
def scored(golden):
    data, z, _ = golden
    return [(c, evaluate_sequence(z[c["pred"]], z[c["gt"]], c["name"])) for c in data["cases"]]


def close(actual, expected, tolerance, label):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=label)


def test_every_array_is_read(golden):
    data, z, _ = golden
    void = {f"void_{part}" for part in ("gt", "pred", "mask", "gt_boundary")}
    assert {case[part] for case in data["cases"] for part in ("gt", "pred")} | void == set(z.files)
    known = {"J", "F", "J_no_void", "F_no_void"}
    assert all(key in known or re.fullmatch(r"F_bound_\d+px", key) for key in data["void"])
    for block in ("edge_cases", "decay", "tolerance_radius_px", "disk_pixels"):
        assert data[block], f"the golden file has no {block}"


def test_every_frame(golden, scored):
    for case, score in scored:
        assert len(score.objects) == case["objects"]
        for o, j, f in zip(score.objects, case["J_all_frames"], case["F_all_frames"], strict=True):
            close(o.j, j, golden[2], f"{case['name']} J of object {o.id}")
            close(o.f, f, golden[2], f"{case['name']} F of object {o.id}")


def test_single_frame_functions(golden):
    data, z, tol = golden
    for case in data["cases"]:
        for t in (0, len(z[case["gt"]]) // 2):
            for k in range(1, case["objects"] + 1):
                p, g = z[case["pred"]][t] == k, z[case["gt"]][t] == k
                close(region(p, g), case["J_all_frames"][k - 1][t], tol, f"{case['name']} J")
                close(contour(p, g), case["F_all_frames"][k - 1][t], tol, f"{case['name']} F")


def test_per_object_statistics(golden, scored):
    for case, score in scored:
        for o, want in zip(score.objects, case["per_object_skip_first_last"], strict=True):
            assert o.frames == len(o.j) - 2
            for m in "JF":
                for s in ("mean", "recall", "decay"):
                    got = getattr(getattr(o, m), s)
                    close(got, want[f"{m}_{s}"], golden[2], f"{case['name']} {o.id} {m} {s}")
            close(stability(o.j[1:-1], o.f[1:-1]), want["V_lvos"], golden[2], f"{case['name']} {o.id} V")


def test_sequence_means(golden, scored):
    for case, score in scored:
        for m in "JF":
            close(getattr(score, m), case["global"][m], golden[2], f"{case['name']} {m}")


def test_dataset_mean_weighs_objects(golden, scored):
    rows = [r for case, _ in scored for r in case["per_object_skip_first_last"]]
    total = summarise(score for _, score in scored)
    close(total.J, np.mean([r["J_mean"] for r in rows]), golden[2], "J")
    close(total.F, np.mean([r["F_mean"] for r in rows]), golden[2], "F")
    close(total.JF, np.mean([(r["J_mean"] + r["F_mean"]) / 2 for r in rows]), golden[2], "J&F")


def test_vos_benchmark(golden):
    data, z, tol = golden
    for case in data["cases"]:
        want = case["vos_benchmark_percent"]
        score = evaluate_sequence(z[case["pred"]], z[case["gt"]], discover=True)
        for m in "JF":
            got = {str(o.id): 100 * getattr(o, m).mean for o in score.objects}
            assert got.keys() == want[m].keys()
            for k, value in got.items():
                close(value, want[m][k], 100 * tol, f"{case['name']} {m} of object {k}")


def test_void(golden):
    data, z, tol = golden
    want, p, g, void = data["void"], z["void_pred"], z["void_gt"], z["void_mask"]
    close(region(p, g, void), want["J"], tol, "J")
    close(contour(p, g, void), want["F"], tol, "F")
    close(region(p, g), want["J_no_void"], tol, "J without void")
    close(contour(p, g), want["F_no_void"], tol, "F without void")
    for key in want:
        if pixels := re.fullmatch(r"F_bound_(\d+)px", key):
            close(contour(p, g, tolerance=int(pixels[1])), want[key], tol, key)
    np.testing.assert_array_equal(boundary_map(g), z["void_gt_boundary"])


def test_edge_cases(golden):
    empty, full = np.zeros((40, 50), bool), np.ones((40, 50), bool)
    box = empty.copy()
    box[10:20, 15:30] = True
    masks = {
        "both_empty": (empty, empty),
        "pred_empty": (empty, box),
        "gt_empty": (box, empty),
        "full_vs_full": (full, full),
    }
    for name, want in golden[0]["edge_cases"].items():
        p, g = masks[name]
        assert (region(p, g), contour(p, g)) == (want["J"], want["F"]), name
        if "boundary_pixels" in want:
            assert boundary_map(g).sum() == want["boundary_pixels"], name


def test_decay(golden):
    data, _, tol = golden
    for row in data["decay"]:
        n, values = row["n"], row["values"]
        if isinstance(values, str):  # a formula in i and n; NumPy's rounding differs from Python's in ties
            values = eval(values, {"__builtins__": {}, "round": np.round, "i": np.arange(n), "n": n})
        assert len(values) == n
        got, wrapped = series_statistics(values), series_statistics(values, uint8_decay=True)
        official = math.nan if row["decay_official"] is None else row["decay_official"]
        close(got.mean, row["mean"], tol, f"mean of {n}")
        close(got.recall, row["recall"], tol, f"recall of {n}")
        close(got.decay, row["decay_without_8bit_wrap"], tol, f"decay of {n}")
        close(wrapped.decay, official, tol, f"8-bit decay of {n}")


def test_radius_and_disk(golden):
    for size, radius in golden[0]["tolerance_radius_px"].items():
        height, width = map(int, size.split("x"))
        assert tolerance_radius((height, width)) == radius, size
    for radius, pixels in golden[0]["disk_pixels"].items():
        assert disk(int(radius)).sum() == pixels, radius


def test_folders_of_masks(golden, tmp_path):
    """The engine that reads files gives the same numbers."""
    from lazyvos.masks import write_mask
    from lazyvos.score import score_folder

    data, z, tol = golden
    for case in data["cases"]:
        for kind in ("gt", "pred"):
            for t, labels in enumerate(z[case[kind]]):
                write_mask(tmp_path / kind / case["name"] / f"{t:05d}.png", labels)
    want = {(c["name"], k): row for c in data["cases"] for k, row in enumerate(c["per_object_skip_first_last"], 1)}
    tables = {p: score_folder(tmp_path / "gt", tmp_path / "pred", p) for p in ("davis", "vos-benchmark", "interactive")}
    for row in tables["davis"].objects:
        numbers = want[row["sequence"], row["id"]]
        for m in ("J", "F"):
            close([row[m], row[f"{m}_recall"], row[f"{m}_decay"]], [numbers[f"{m}_{s}"] for s in ("mean", "recall", "decay")], tol, str(row))
        close(row["V"], numbers["V_lvos"], tol, str(row))
    assert len(tables["davis"].objects) == len(want)
    for row in tables["davis"].sequences:
        case = next(c for c in data["cases"] if c["name"] == row["sequence"])
        close([row["J"], row["F"]], [case["global"]["J"], case["global"]["F"]], tol, row["sequence"])
    percent = {c["name"]: c["vos_benchmark_percent"] for c in data["cases"]}
    assert len(tables["vos-benchmark"].objects) == sum(len(p["J"]) for p in percent.values())
    for row in tables["vos-benchmark"].objects:
        for m in ("J", "F"):
            close(100 * row[m], percent[row["sequence"]][m][str(row["id"])], 100 * tol, str(row))
    for row in tables["interactive"].objects:
        case = next(c for c in data["cases"] if c["name"] == row["sequence"])
        for m in ("J", "F"):
            close(row[m], np.mean(case[f"{m}_all_frames"][row["id"] - 1]), tol, str(row))
            series = tables["interactive"].series[row["sequence"], row["id"]]
            close(getattr(series, m.lower()), case[f"{m}_all_frames"][row["id"] - 1], tol, str(row))
