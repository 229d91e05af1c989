"""READMem against step-by-step records of the released code (readmem.json, readmem.npz)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lazyvos.backbones.base import Entry, Query
from lazyvos.memory import ReadMem
from lazyvos.memory.gram import log_abs_det, replaced, replacement_log_dets

ACTIONS = {
    "appended": {"filled"},
    "replaced": {"replaced"},
    "rejected_lsb": {"lower bound"},
    "not_sampled": {"interval"},
    "kept": {"no gain"},
}
BOUNDS = {
    "static lower bound": "annotated", "ensemble max": "ensemble max", "ensemble mean": "ensemble mean", "last": "last",
}  # fmt: skip
TRANSITIONS = {"column_argmax": "column argmax", "row_argmax_as_coded": "row argmax", "hungarian": "hungarian"}
STEP = {"t", "read_frames", "action", "lt_frames", "removed_frame", "similarities", "gram", "det_current", "det_candidates"}
ULP = 2.4e-7  # two steps of single precision, in which large inner products were recorded


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
    assert [step["t"] for step in case["steps"]] == list(range(1, len(keys))), name
    for step in case["steps"]:
        t, where = step["t"], f"{name}, t={step['t']}"
        assert set(step) <= STEP, f"{where}: no test reads {sorted(set(step) - STEP)}"
        assert list(memory.frames()) == step["read_frames"], where
        memory.read(Query(queries[t], queries[t].flatten(1), None), objects, case["params"]["top_k"])
        decision = memory.offer(entry(t), t)
        assert decision.reason in ACTIONS[step["action"]], where
        assert list(memory.stored) == step["lt_frames"], where
        assert decision.replaced == step.get("removed_frame"), where
        if "similarities" in step:
            np.testing.assert_allclose(memory.similarities, step["similarities"], atol=2e-5, rtol=ULP, err_msg=where)
        if "gram" in step:
            np.testing.assert_allclose(memory.gram, step["gram"], atol=2e-5, rtol=ULP, err_msg=where)
        if "det_current" in step:
            _determinant(decision.log_gram_before, step["det_current"], where)
            if step["action"] == "replaced":
                _determinant(decision.log_gram_after, max(step["det_candidates"]), where)
    return len(case["steps"])


def test_every_decision_is_that_of_the_released_code(load: Any) -> None:
    manifest, arrays = load("readmem")
    assert manifest["cases"]
    assert {case[part] for case in manifest["cases"].values() for part in ("keys", "query")} == set(arrays.files)
    for name, case in manifest["cases"].items():
        keys, queries = (torch.from_numpy(arrays[case[part]]) for part in ("keys", "query"))
        assert _play(case, keys, queries, name) > 0


def test_all_determinants(load: Any) -> None:
    """Those of all candidates, each by itself and all from one factorisation, of the recorded similarities."""
    manifest, _ = load("readmem")
    seen = 0
    for name, case in manifest["cases"].items():
        before: np.ndarray | None = None
        for step in case["steps"]:
            if "det_candidates" in step:
                assert before is not None, name
                own, where = before[0, 0], f"{name}, t={step['t']}"
                gram, row = before / own, np.array(step["similarities"]) / own
                each = [log_abs_det(replaced(gram, n, row[:-1], row[-1])) for n in range(1, len(gram))]
                quick = replacement_log_dets(gram, row[:-1], row[-1])[1:]
                for one, other, wanted in zip(each, quick, step["det_candidates"], strict=True):
                    _determinant(one, wanted, where)
                    _determinant(other, wanted, where)
                    seen += 1
            before = np.array(step["gram"]) if "gram" in step else before
    assert seen, "no case records a candidate"
