"""MiVOS's propagation network against its golden numbers: every output of every case."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone
from lazyvos.backbones.mivos import MiVOS, address_memory
from lazyvos.backbones.mivos_core import MiVOSCore
from lazyvos.memory import Unbounded
from lazyvos.memory.read import Part, read_values

Case = dict[str, Any]


@pytest.fixture(scope="module")
def golden(network):
    return network("mivos")


@pytest.fixture(scope="module")
def net(golden) -> MiVOS:
    return golden.fill(MiVOS())


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


def test_parameters(golden, net: MiVOS) -> None:
    assert sum(p.numel() for p in net.parameters()) == golden.manifest["parameter_count"]
    assert isinstance(net, Backbone)
    assert net.top_k == golden.manifest["hyper"]["top_k"]


@torch.inference_mode()
def test_encoders(golden, net: MiVOS) -> None:
    queries = golden.with_outputs("f16", "key")
    memories = golden.with_outputs("key", "key_single")
    assert queries
    assert memories
    for case in queries:
        key, features = net.encode_query(golden.tensor(case["inputs"]["frames"]))
        compare(golden, case, {"key": key, **features._asdict()})
    for case in memories:
        image = frame_of(golden, case["inputs"]["frame"])[None]
        got = {}
        for tail, given in (("", "masks"), ("_single", "single")):
            key, value = net.encode_memory(image, golden.tensor(case["inputs"][given])[None, :, 0])
            got |= {"key" + tail: key[0].unsqueeze(2), "value" + tail: value[0].unsqueeze(2)}
        compare(golden, case, got)


def read(memory: Tensor, value: Tensor, query: Tensor, top_k: int | None) -> Tensor:
    """One object: ``memory [C, N]``, ``value [C_v, N]``, ``query [C, Q]`` to the readout ``[C_v, Q]``."""
    out = torch.zeros(1, query.shape[1], len(value))
    address = address_memory(memory).T.contiguous()
    read_values(address, query, value.T[None, None].contiguous(), [0], [Part((0,), (0,))], top_k, out)
    return out[0].T


def test_read(golden) -> None:
    cases = golden.with_outputs("readout")
    assert cases
    for case in cases:
        given = case["inputs"]
        memory, value = (golden.tensor(given[name]).flatten(2) for name in ("memory_key", "memory_value"))
        query, k = golden.tensor(given["query_key"]), given["top_k"]

        def readout(top_k: int | None, memory=memory, value=value, query=query) -> Tensor:
            got = [read(m, v, q.flatten(1), top_k) for m, v, q in zip(memory, value, query, strict=True)]
            return torch.stack(got).unflatten(2, query.shape[2:])

        compare(golden, case, {"readout": readout(k), "readout_full_softmax": readout(None)})
        with pytest.raises(AssertionError, match="readout"):
            golden.expect(case, "readout", readout(k - 10))


@torch.inference_mode()
def test_segment(golden, net: MiVOS) -> None:
    cases = golden.with_outputs("decoder_logits")
    assert cases
    for case in cases:
        source = re.search(r"of the (\w+) case", case["inputs"]["memory"])
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
        compare(golden, case, {"prob": torch.sigmoid(logits).unsqueeze(1), "decoder_logits": logits.unsqueeze(1)})


def test_sequences(golden, net: MiVOS) -> None:
    cases = golden.with_outputs("masks", kind="sequence")
    assert cases
    for case in cases:
        given = case["inputs"]
        frames, mask = golden.tensor(given["frames"]), golden.tensor(given["mask"])
        begin = re.search(r"on frame (\d+)", given["mask"])
        assert begin
        core = MiVOSCore(net, frames, len(mask), mem_freq=given["mem_freq"], top_k=given["top_k"])
        labels = core.interact(torch.cat([1 - mask.sum(0, keepdim=True), mask]), int(begin.group(1)))
        got = {f"prob_padded_{t:02d}": core.clip.prob[:, t].unsqueeze(1) for t in range(len(frames))}
        compare(golden, case, {**got, "masks": labels})
