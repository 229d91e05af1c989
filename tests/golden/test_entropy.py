"""Entropy maps, dilation, scores, triggers and the ensemble decomposition against golden numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from lazyvos.interact import Lazy
from lazyvos.types import Action, Prediction
from lazyvos.uncertainty import (
    Entropy,
    decompose,
    dilate_mask,
    dilation_kernel,
    entropy_map,
    kernel_side,
    score_changes,
)


@pytest.fixture(scope="module")
def golden(load):
    data, arrays = load("entropy")
    for block in ("cases", "kernels"):
        assert data[block], f"the golden file has no {block}"
    return data, arrays


def test_every_array_is_read_and_every_frame_has_its_record(golden):
    data, arrays = golden
    assert {case[part] for case in data["cases"] for part in ("probabilities", "entropy")} == set(arrays.files)
    for case in data["cases"]:
        assert arrays[case["probabilities"]].shape[1] == 1 + case["objects"]
        assert [record["t"] for record in case["frames"]] == list(range(len(arrays[case["entropy"]])))


def frames(data, arrays):
    """Every frame: the case, its record, probabilities float64 [K, H, W], golden entropy, labels."""
    for case in data["cases"]:
        p = np.clip(arrays[case["probabilities"]].astype(np.float64), 1e-6, None)
        p /= p.sum(1, keepdims=True)
        want = arrays[case["entropy"]]
        assert len(p) == len(want) == len(case["frames"]) > 0
        for record in case["frames"]:
            t = record["t"]
            yield case, record, torch.from_numpy(p[t]), want[t], p[t].argmax(0).astype(np.uint8)


def prediction(t, scores, deltas):
    o = tuple(scores)
    shape = (2, 2)
    return Prediction(
        t,
        np.zeros(shape, np.uint8),
        torch.zeros(1 + len(o), *shape),
        o,
        np.zeros(shape, np.float32),
        scores,
        deltas,
    )


def test_maps(golden):
    data, arrays = golden
    tolerance = data["tolerance"]["entropy"]
    for case, record, p, want, _ in frames(data, arrays):
        name = f"{case['probabilities']} frame {record['t']}"
        for given in (p, p.float()):
            got = entropy_map(given).numpy()
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=name)
        exact = entropy_map(p).numpy()
        assert (np.abs(exact - want) > 1e-6).mean() < 1e-3, f"{name}: rounding differs"
        np.testing.assert_allclose(entropy_map(p, None).numpy(), want, rtol=0, atol=5.1e-5, err_msg=name)


def test_regions_scores_changes_and_decisions(golden):
    data, arrays = golden
    tolerance = data["tolerance"]["scores"]
    by_mask, by_region, lazy = Entropy(), Entropy(normalise="region"), Lazy()
    earlier: dict[int, float] = {}
    for _, record, p, _, labels in frames(data, arrays):
        t, objects = record["t"], tuple(range(1, len(p)))
        assert {str(o) for o in objects} == set(record["objects"])
        doubt, thesis = by_mask(p, labels, objects), by_region(p, labels, objects)
        earlier = {} if t <= 1 else earlier
        changes = score_changes(doubt.scores, earlier)
        for o in objects:
            want, name = record["objects"][str(o)], f"frame {t}, object {o}"
            area, region = int((labels == o).sum()), dilate_mask(labels == o)
            assert area == want["area"], name
            assert kernel_side(area) == want["kernel_size"], name
            assert int(region.sum()) == want["dilated_area"], name
            assert doubt.scores[o] == pytest.approx(want["score_code"], rel=0, abs=tolerance), name
            assert doubt.map[region].sum(dtype=float) == pytest.approx(
                want["sum"], rel=0, abs=tolerance * area
            ), name
            assert thesis.scores[o] == pytest.approx(want["score_thesis"], rel=0, abs=tolerance), name
            if want["delta_code"] is None:
                assert changes[o] is None, name
            else:
                assert changes[o] == pytest.approx(want["delta_code"], rel=0, abs=tolerance), name
            alone = prediction(t, {o: doubt.scores[o]}, {o: changes[o]})
            action = lazy.decide(alone)[o]
            assert (action is Action.ASK) == want["user_call"], name
            assert (action is Action.PSEUDO) == want["pseudo_call"], name
            blocked = {float(found[1]): key for key in want if (found := re.fullmatch(r"memory_blocked_at_(.+)", key))}
            assert lazy.tau_memory in blocked, f"{name}: no record of what the memory refuses as published"
            for tau, key in blocked.items():
                assert Lazy(tau_memory=tau).admits(alone) != want[key], name
        earlier = doubt.scores


def test_float32_scores(golden):
    data, arrays = golden
    for _, record, p, _, labels in frames(data, arrays):
        scores = Entropy()(p.float(), labels, tuple(range(1, len(p)))).scores
        for o, score in scores.items():  # a few pixels of the map may differ by one rounding step
            want = record["objects"][str(o)]
            assert score == pytest.approx(want["score_code"], rel=0, abs=1e-6 + 5e-4 / max(1, want["area"]))


def test_kernels(golden):
    data, _ = golden
    for area, want in data["kernels"].items():
        kernel = dilation_kernel(kernel_side(int(area)))
        if isinstance(want, dict):
            assert (len(kernel), int(kernel.sum())) == (want["size"], want["ones"]), area
        else:
            assert ["".join(map(str, row)) for row in kernel.tolist()] == want, area


def test_trigger_table(golden):
    table = golden[0]["trigger_table"]
    assert table["rows"]
    assert (Lazy().tau_user, Lazy().tau_pseudo) == (table["tau_user"], table["tau_pseudo"])
    for row in table["rows"]:
        for trigger in ("delta", "level"):
            lazy = Lazy(table["tau_user"], table["tau_pseudo"], trigger=trigger)
            action = lazy.decide(prediction(5, {1: row["S"]}, {1: row["dS"]}))[1]
            want = row[f"{trigger}_trigger"]
            assert (action is Action.ASK, action is Action.PSEUDO) == (want["user"], want["pseudo"]), row


def test_ensemble(golden):
    block = golden[0]["ensemble"]
    members = torch.tensor(block["member_probabilities"], dtype=torch.float64)
    members = members / members.sum(1, keepdim=True)  # stored with 8 decimals
    for given in (members, members.float()):
        parts = decompose(given)
        for name in ("total", "aleatoric", "epistemic"):
            got = getattr(parts, name).numpy()
            np.testing.assert_allclose(got, np.array(block[name]), rtol=0, atol=1e-6, err_msg=name)
