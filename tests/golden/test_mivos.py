"""MiVOS's propagation network against its golden numbers: every output of every case."""

from __future__ import annotations

import inspect
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

NAME = "mivos"
Case = dict[str, Any]


@pytest.fixture(scope="module")
def net(golden) -> MiVOS:
    return golden.fill(MiVOS())


def test_layout_and_published_settings(golden, net: MiVOS) -> None:
    golden.check(net)
    hyper = golden.manifest["hyper"]
    assert isinstance(net, Backbone)
    assert (net.top_k, net.config.key_dim, net.config.value_dim) == (hyper["top_k"], hyper["key_dim"], hyper["value_dim"])
    assert inspect.signature(MiVOSCore).parameters["mem_freq"].default == hyper["mem_freq"]


@torch.inference_mode()
def test_case(golden, net: MiVOS, case: Case) -> None:
    golden.compare(case, compute(case)(golden, net, case))


def compute(case: Case) -> Any:
    """What computes a case, by its inputs."""
    inputs = set(case["inputs"])
    if case["kind"] == "sequence" and {"frames", "mask", "mem_freq"} <= inputs:
        return sequence
    unknown = f"no test knows case {case['name']} of kind {case['kind']!r} with the inputs {sorted(inputs)}"
    assert case["kind"] == "module", unknown
    for function, needs in ((memorise, {"frame", "masks"}), (readout, {"memory_key"}), (segment, {"query", "memory"})):
        if needs <= inputs:
            return function
    assert inputs == {"frames"}, unknown
    return query


def query(golden, net: MiVOS, case: Case) -> dict[str, Tensor]:
    key, features = net.encode_query(golden.tensor(case["inputs"]["frames"]))
    return {"key": key, **features._asdict()}


def memorise(golden, net: MiVOS, case: Case) -> dict[str, Tensor]:
    image, got = golden.frame(case["inputs"]["frame"]), {}
    for tail, given in (("", "masks"), ("_single", "single")):
        if given in case["inputs"]:
            key, value = net.encode_memory(image, golden.tensor(case["inputs"][given])[None, :, 0])
            got |= {"key" + tail: key[0].unsqueeze(2), "value" + tail: value[0].unsqueeze(2)}
    return got


def read(memory: Tensor, value: Tensor, query: Tensor, top_k: int | None) -> Tensor:
    """One object: ``memory [C, N]``, ``value [C_v, N]``, ``query [C, Q]`` to the readout ``[C_v, Q]``."""
    out = torch.zeros(1, query.shape[1], len(value))
    address = address_memory(memory).T.contiguous()
    read_values(address, query, value.T[None, None].contiguous(), [0], [Part((0,), (0,))], top_k, out)
    return out[0].T


def readout(golden, net: MiVOS, case: Case, more: int = 0) -> dict[str, Tensor]:
    """``more``: added to the top-k."""
    given = case["inputs"]
    memory, value = (golden.tensor(given[name]).flatten(2) for name in ("memory_key", "memory_value"))
    asked = golden.tensor(given["query_key"])
    asked = asked.expand(len(memory), -1, -1, -1)

    def every(top_k: int | None) -> Tensor:
        got = [read(m, v, q.flatten(1), top_k) for m, v, q in zip(memory, value, asked, strict=True)]
        return torch.stack(got).unflatten(2, asked.shape[2:])

    return {"readout": every(given["top_k"] + more), "readout_full_softmax": every(None)}


def segment(golden, net: MiVOS, case: Case) -> dict[str, Tensor]:
    stored = golden.other(case["inputs"]["memory"], "frame", "masks")["inputs"]
    first, image = golden.frame(stored["frame"])[0], golden.frame(case["inputs"]["query"])[0]
    masks = golden.tensor(stored["masks"])[:, 0]
    objects = tuple(range(1, len(masks) + 1))
    memory = Unbounded()
    memory.pin(net.memorise(0, net.encode(first), first, masks, objects, None, True)[0], 0)
    asked = net.encode(image)
    logits, state = net.decode(asked, memory.read(asked, objects, golden.manifest["hyper"]["top_k"]).value, None)
    assert state is None
    return {"prob": torch.sigmoid(logits).unsqueeze(1), "decoder_logits": logits.unsqueeze(1)}


def sequence(golden, net: MiVOS, case: Case) -> dict[str, Any]:
    given = case["inputs"]
    frames, mask = golden.tensor(given["frames"]), golden.tensor(given["mask"])
    begin = re.search(r"on frame (\d+)", given["mask"])
    assert begin, given["mask"]
    core = MiVOSCore(net, frames, len(mask), mem_freq=given["mem_freq"], top_k=given["top_k"])
    labels = core.interact(torch.cat([1 - mask.sum(0, keepdim=True), mask]), int(begin.group(1)))
    got = {f"prob_padded_{t:02d}": core.clip.prob[:, t].unsqueeze(1) for t in range(len(frames))}
    return {**got, "masks": labels}


def test_another_top_k_is_noticed(golden, net: MiVOS) -> None:
    for case in (c for c in golden.cases if "memory_key" in c["inputs"]):
        if golden.tensor(case["inputs"]["memory_key"])[0, 0].numel() > case["inputs"]["top_k"]:
            with pytest.raises(AssertionError, match=r"/readout:"):
                golden.compare(case, readout(golden, net, case, 1))
