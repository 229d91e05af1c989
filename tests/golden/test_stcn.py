"""STCN against its golden numbers: every output of every case."""

from __future__ import annotations

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

Case = dict[str, Any]


@pytest.fixture(scope="module")
def golden(network):
    return network("stcn")


@pytest.fixture(scope="module")
def net(golden) -> STCN:
    return golden.fill(STCN())


def compare(golden, case: Case, got: dict[str, Tensor]) -> None:
    """All outputs of a case, neither more nor less."""
    assert set(got) == set(case["outputs"]), f"{case['name']}: {sorted(set(got) ^ set(case['outputs']))}"
    for name, value in got.items():
        golden.expect(case, name, value)


def frame_of(golden, text: str) -> Tensor:
    """``frame <i> of <case>``: one image ``[3, H, W]``."""
    found = re.search(r"frame (\d+) of (\w+)", text)
    assert found, text
    return golden.tensor(golden.case(found.group(2))["inputs"]["frames"])[int(found.group(1))]


def read(memory: Tensor, value: Tensor, query: Tensor, top_k: int | None) -> Tensor:
    """``memory [C, N]``, ``value [n, C_v, N]``, ``query [C, Q]`` to the readout ``[n, C_v, Q]``."""
    rows, area = value.shape[0], query.shape[1]
    out = torch.zeros(rows, area, value.shape[1])
    parts = [Part(tuple(range(rows)), (0,))]
    store = value.transpose(1, 2).unsqueeze(1).contiguous()
    read_values(address_memory(memory).T.contiguous(), address_query(query), store, [0], parts, top_k, out)
    return out.transpose(1, 2)


def test_parameters(golden, net: STCN) -> None:
    assert sum(p.numel() for p in net.parameters()) == golden.manifest["parameter_count"]
    assert isinstance(net, Backbone)
    assert net.top_k == golden.manifest["hyper"]["top_k"]


@torch.inference_mode()
def test_encoders(golden, net: STCN) -> None:
    keys = golden.with_outputs("key", "f16_thin")
    values = golden.with_outputs("value")
    assert keys
    assert values
    for case in keys:
        key, features = net.encode_key(golden.tensor(case["inputs"]["frames"]))
        compare(golden, case, {
            "key": key, "f16_thin": features.thin, "f16": features.f16, "f8": features.f8, "f4": features.f4,
        })  # fmt: skip
    for case in values:
        image = frame_of(golden, case["inputs"]["frame"])[None]
        features = net.encode_key(image)[1]
        got = {}
        for name, given in (("value", "masks"), ("value_single", "single")):
            masks = golden.tensor(case["inputs"][given])[None, :, 0]
            got[name] = net.encode_value(image, features, masks)[0].unsqueeze(2)
        compare(golden, case, got)


def test_read(golden) -> None:
    cases = golden.with_outputs("readout")
    assert cases
    for case in cases:
        given = case["inputs"]
        memory, query = golden.tensor(given["memory_key"])[0].flatten(1), golden.tensor(given["query_key"])[0]
        value, k = golden.tensor(given["memory_value"]).flatten(2), given["top_k"]
        grid = query.shape[1:]
        affinity = read(memory, torch.eye(memory.shape[1])[None], query.flatten(1), k)
        readout = read(memory, value, query.flatten(1), k).unflatten(2, grid)
        compare(golden, case, {"affinity": affinity, "readout": readout})
        wrong = read(memory, value, query.flatten(1), k + 5).unflatten(2, grid)
        with pytest.raises(AssertionError, match="readout"):
            golden.expect(case, "readout", wrong)


@torch.inference_mode()
def test_segment(golden, net: STCN) -> None:
    cases = golden.with_outputs("decoder_logits")
    assert cases
    for case in cases:
        source = re.search(r"value of (\w+)", case["inputs"]["memory"])
        assert source
        stored = golden.case(source.group(1))["inputs"]
        first, image = frame_of(golden, stored["frame"]), frame_of(golden, case["inputs"]["query"])
        masks = golden.tensor(stored["masks"])[:, 0]
        objects = tuple(range(1, len(masks) + 1))
        memory = Unbounded()
        memory.pin(net.memorise(0, net.encode(first), first, masks, objects, None, True)[0], 0)
        query = net.encode(image)
        logits, state = net.decode(query, memory.read(query, objects, net.top_k).value, None)
        assert state is None
        prob = torch.sigmoid(logits)
        compare(golden, case, {
            "prob": prob.unsqueeze(1), "decoder_logits": logits.unsqueeze(1),
            "prob_aggregated": aggregate(prob, 0)[1].unsqueeze(1),
        })  # fmt: skip


def test_sequences(golden, net: STCN) -> None:
    cases = golden.with_outputs("masks", kind="sequence")
    assert cases
    for case in cases:
        given = case["inputs"]
        frames, text = golden.tensor(given["frames"]), given["mask"]
        mask = golden.tensor(text[text.index("mask(") :])
        late = text.startswith("objects")
        core = STCNCore(
            net, frames, len(mask), mem_every=given["mem_every"], top_k=given["top_k"],
            include_last=given.get("include_last", False), since_last=late,
        )  # fmt: skip
        begins = [int(t) for t in re.findall(r"frame (\d+)", text)]
        if late:
            found = re.match(r"objects (\d+)\.\.(\d+)", text)
            assert found
            first = list(range(int(found.group(1)), int(found.group(2)) + 1))
            core.interact(mask[: len(first)], begins[0], begins[1] + 1, first)
            labels = core.interact(mask[len(first) :], begins[1], None, range(len(first) + 1, len(mask) + 1))
        else:
            labels = core.interact(mask, begins[0])
        got = {f"prob_{t:02d}": core.clip.geometry.probabilities(core.clip.prob[:, t]) for t in range(len(frames))}
        compare(golden, case, {**got, "masks": labels})
