"""STCN against its golden numbers: every output of every case."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone
from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.stcn import STCN, address_memory, address_query
from lazyvos.backbones.stcn_core import STCNCore
from lazyvos.memory import Unbounded
from lazyvos.memory.read import Part, read_values

NAME = "stcn"
Case = dict[str, Any]


@pytest.fixture(scope="module")
def net(golden) -> STCN:
    return golden.fill(STCN())


def test_layout_and_published_settings(golden, net: STCN) -> None:
    golden.check(net)
    hyper = golden.manifest["hyper"]
    assert isinstance(net, Backbone)
    assert (net.top_k, net.config.key_dim, net.config.value_dim) == (hyper["top_k"], hyper["key_dim"], hyper["value_dim"])
    assert inspect.signature(STCNCore).parameters["mem_every"].default == hyper["mem_every"]


@torch.inference_mode()
def test_case(golden, net: STCN, case: Case) -> None:
    golden.compare(case, compute(case)(golden, net, case))


def compute(case: Case) -> Any:
    """What computes a case, by its inputs."""
    inputs = set(case["inputs"])
    if case["kind"] == "sequence" and {"frames", "mask", "mem_every"} <= inputs:
        return sequence
    unknown = f"no test knows case {case['name']} of kind {case['kind']!r} with the inputs {sorted(inputs)}"
    assert case["kind"] == "module", unknown
    for function, needs in ((value, {"frame", "masks"}), (readout, {"memory_key"}), (segment, {"query", "memory"})):
        if needs <= inputs:
            return function
    assert inputs == {"frames"}, unknown
    return key


def key(golden, net: STCN, case: Case) -> dict[str, Tensor]:
    found, features = net.encode_key(golden.tensor(case["inputs"]["frames"]))
    return {"key": found, "f16_thin": features.thin, "f16": features.f16, "f8": features.f8, "f4": features.f4}


def value(golden, net: STCN, case: Case) -> dict[str, Tensor]:
    image, got = golden.frame(case["inputs"]["frame"]), {}
    features = net.encode_key(image)[1]
    for name, given in (("value", "masks"), ("value_single", "single")):
        if given in case["inputs"]:
            masks = golden.tensor(case["inputs"][given])[None, :, 0]
            got[name] = net.encode_value(image, features, masks)[0].unsqueeze(2)
    return got


def read(memory: Tensor, values: Tensor, query: Tensor, top_k: int | None) -> Tensor:
    """``memory [C, N]``, ``values [n, C_v, N]``, ``query [C, Q]`` to the readout ``[n, C_v, Q]``."""
    rows, area = values.shape[0], query.shape[1]
    out = torch.zeros(rows, area, values.shape[1])
    parts = [Part(tuple(range(rows)), (0,))]
    store = values.transpose(1, 2).unsqueeze(1).contiguous()
    read_values(address_memory(memory).T.contiguous(), address_query(query), store, [0], parts, top_k, out)
    return out.transpose(1, 2)


def readout(golden, net: STCN, case: Case, more: int = 0) -> dict[str, Tensor]:
    """``more``: added to the top-k."""
    given = case["inputs"]
    memory, query = golden.tensor(given["memory_key"])[0].flatten(1), golden.tensor(given["query_key"])[0]
    values, k = golden.tensor(given["memory_value"]).flatten(2), given["top_k"] + more
    affinity = read(memory, torch.eye(memory.shape[1])[None], query.flatten(1), k)
    return {"affinity": affinity, "readout": read(memory, values, query.flatten(1), k).unflatten(2, query.shape[1:])}


def segment(golden, net: STCN, case: Case) -> dict[str, Tensor]:
    stored = golden.other(case["inputs"]["memory"], "frame", "masks")["inputs"]
    first, image = golden.frame(stored["frame"])[0], golden.frame(case["inputs"]["query"])[0]
    masks = golden.tensor(stored["masks"])[:, 0]
    objects = tuple(range(1, len(masks) + 1))
    memory = Unbounded()
    memory.pin(net.memorise(0, net.encode(first), first, masks, objects, None, True)[0], 0)
    query = net.encode(image)
    logits, state = net.decode(query, memory.read(query, objects, golden.manifest["hyper"]["top_k"]).value, None)
    assert state is None
    prob = torch.sigmoid(logits)
    return {
        "prob": prob.unsqueeze(1), "decoder_logits": logits.unsqueeze(1),
        "prob_aggregated": aggregate(prob, 0)[1].unsqueeze(1),
    }  # fmt: skip


def sequence(golden, net: STCN, case: Case) -> dict[str, Any]:
    given = case["inputs"]
    frames, text = golden.tensor(given["frames"]), given["mask"]
    mask = golden.tensor(text[text.index("mask(") :])
    late = text.startswith("objects")
    core = STCNCore(
        net, frames, len(mask), mem_every=given["mem_every"], top_k=given["top_k"],
        include_last=given.get("include_last", False), since_last=late,
    )  # fmt: skip
    begins = [int(t) for t in re.findall(r"frame (\d+)", text)]
    assert len(begins) == 1 + late, text
    if late:
        found = re.match(r"objects (\d+)\.\.(\d+)", text)
        assert found
        first = list(range(int(found.group(1)), int(found.group(2)) + 1))
        core.interact(mask[: len(first)], begins[0], begins[1] + 1, first)
        labels = core.interact(mask[len(first) :], begins[1], None, range(len(first) + 1, len(mask) + 1))
    else:
        labels = core.interact(mask, begins[0])
    got = {f"prob_{t:02d}": core.clip.geometry.probabilities(core.clip.prob[:, t]) for t in range(len(frames))}
    return {**got, "masks": labels}


def test_clamp_of_given_masks(golden) -> None:
    def frames(case: Case) -> dict[int, Tensor]:
        text = case["inputs"]["mask"]
        found = re.match(r"mask\(.*? on frame (\d+)", text)
        return {int(found.group(1)): golden.tensor(text)} if found else {}

    golden.given_masks(frames)


def test_another_top_k_is_noticed(golden, net: STCN) -> None:
    for case in (c for c in golden.cases if "memory_key" in c["inputs"]):
        if golden.tensor(case["inputs"]["memory_key"])[0, 0].numel() > case["inputs"]["top_k"]:
            with pytest.raises(AssertionError, match="readout"):
                golden.compare(case, readout(golden, net, case, 1))
