"""READMem against step-by-step records of the released code (readmem.json, readmem.npz)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lazyvos.backbones.base import Entry, Query
from lazyvos.memory import ReadMem

ACTIONS = {
    "appended": {"filled"},
    "replaced": {"replaced"},
    "rejected_lsb": {"lower bound"},
    "not_sampled": {"interval"},
    "kept": {"no gain"},
}
BOUNDS = {"static lower bound": "annotated", "ensemble max": "ensemble max"}
TRANSITIONS = {"column_argmax": "column argmax", "row_argmax_as_coded": "row argmax", "hungarian": "hungarian"}


def _memory(params: dict[str, Any]) -> ReadMem:
    assert params["short_term_slots"] == 1
    assert params["short_term_interval"] == 1
    return ReadMem(
        slots=params["N"],
        every=params["s_r"],
        flexible=False,
        adjacent=True,
        lower_bound=params["lower_bound"],
        lsb=BOUNDS[params["lsb_rule"]],
        similarity="cosine" if params["cosine"] else "dot",
        transition=TRANSITIONS[params["transition"]] if params["use_affinity"] else None,
        affinity=params["affinity"],
        empty_column=params["empty_column"] or "first",
        last_object_affinity=True,
    )


def _determinant(log: float | None, wanted: float, where: str) -> None:
    assert log is not None
    assert np.isclose(10**log, wanted, rtol=1e-3, atol=1e-9), (where, 10**log, wanted)


def _play(case: dict[str, Any], keys: torch.Tensor, queries: torch.Tensor, name: str) -> int:
    memory = _memory(case["params"])
    count, channels = keys.shape[1:3]
    objects = tuple(range(1, count + 1))
    scale = channels**-0.5

    def entry(t: int) -> Entry:
        value = keys[t, :, :1]
        return Entry(t, keys[t], keys[t].flatten(2) * scale, value, objects)

    memory.pin(entry(0), 0)
    for step in case["steps"]:
        t, where = step["t"], f"{name}, t={step['t']}"
        assert list(memory.frames()) == step["read_frames"], where
        memory.read(Query(queries[t], queries[t].flatten(1), None), objects, case["params"]["top_k"])
        decision = memory.offer(entry(t), t)
        assert decision.reason in ACTIONS[step["action"]], where
        assert list(memory.stored) == step["lt_frames"], where
        assert decision.replaced == step.get("removed_frame"), where
        if "similarities" in step:
            np.testing.assert_allclose(memory.similarities, step["similarities"], atol=2e-5, rtol=2e-5, err_msg=where)
        if "gram" in step:
            np.testing.assert_allclose(memory.gram, step["gram"], atol=2e-5, rtol=2e-5, err_msg=where)
        if "det_current" in step:
            _determinant(decision.log_gram_before, step["det_current"], where)
            if step["action"] == "replaced":
                _determinant(decision.log_gram_after, max(step["det_candidates"]), where)
    return len(case["steps"])


def test_every_decision_is_that_of_the_released_code(load: Any) -> None:
    manifest, arrays = load("readmem")
    decisions = 0
    for name, case in manifest["cases"].items():
        keys, queries = (torch.from_numpy(arrays[case[part]]) for part in ("keys", "query"))
        decisions += _play(case, keys, queries, name)
    assert decisions > 100


def test_all_determinants_from_one_factorisation(load: Any) -> None:
    from lazyvos.memory.gram import replacement_log_dets

    manifest, _ = load("readmem")
    seen = 0
    for case in manifest["cases"].values():
        before: np.ndarray | None = None
        for step in case["steps"]:
            if "det_candidates" in step and before is not None:
                own = before[0, 0]
                row = np.array(step["similarities"]) / own
                found = 10 ** replacement_log_dets(before / own, row[:-1], float(row[-1]))[1:]
                np.testing.assert_allclose(found, step["det_candidates"], rtol=5e-3, atol=1e-6)
                seen += 1
            before = np.array(step["gram"]) if "gram" in step else before
    assert seen > 50
