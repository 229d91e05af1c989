"""XMem against the published network and code: modules, sequences, and the long-term memory over many frames."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.xmem import XMem, XMemConfig, address_memory, address_query
from lazyvos.backbones.xmem_core import XMemCore
from lazyvos.memory import LongTermMemory
from lazyvos.memory.prototypes import Store

KEYS, VALUES, READ, SEGMENT = (
    ("key", "selection"),
    ("value", "hidden_deep"),
    ("similarity", "affinity_full_softmax"),
    ("decoder_logits",),
)


@pytest.fixture(scope="module")
def golden(network: Any) -> Any:
    return network("xmem")


@pytest.fixture(scope="module")
def net(golden: Any) -> XMem:
    hyper = golden.manifest["hyper"]
    with torch.device("meta"):
        empty = XMem(XMemConfig(key_dim=hyper["key_dim"], value_dim=hyper["value_dim"], hidden_dim=hyper["hidden_dim"]))
    return golden.fill(empty.to_empty(device="cpu"))


def only(golden: Any, *outputs: str) -> dict[str, Any]:
    """The module case that records ``outputs``."""
    (case,) = golden.with_outputs(*outputs, kind="module")
    return case


def number(text: str, word: str) -> int:
    found = re.search(rf"\b{word} (\d+)", text)
    assert found, f"{text!r} names no {word}"
    return int(found.group(1))


def encoded(golden: Any, net: XMem, text: str) -> tuple[Tensor, Any]:
    """The frame that ``text`` names of the case of the keys, and its features."""
    frames = golden.tensor(only(golden, *KEYS)["inputs"]["frames"])
    at = number(text, "frame")
    return frames[at : at + 1], net.encode_key(frames[at : at + 1])[3]


def test_layout_and_number_of_parameters(golden: Any, net: XMem) -> None:
    assert sum(p.numel() for p in net.parameters()) == golden.manifest["parameter_count"]
    assert list(net.state_dict()) == list(golden.manifest["checkpoint"])


def test_every_case_has_a_test(golden: Any) -> None:
    for case in golden.cases:
        known = case["kind"] == "sequence" or any(set(names) <= set(case["outputs"]) for names in (KEYS, VALUES, READ, SEGMENT))
        assert known, f"no test reads case {case['name']}"


@torch.no_grad()
def test_keys(golden: Any, net: XMem) -> None:
    case = only(golden, *KEYS)
    key, shrinkage, selection, features = net.encode_key(golden.tensor(case["inputs"]["frames"]))
    outputs = {"key": key, "shrinkage": shrinkage, "selection": selection, **features._asdict()}
    for name in case["outputs"]:
        golden.expect(case, name, outputs[name])


@torch.no_grad()
def test_values(golden: Any, net: XMem) -> None:
    case = only(golden, *VALUES)
    inputs = case["inputs"]
    frame, features = encoded(golden, net, inputs["frame"])
    hidden, masks = golden.tensor(inputs["hidden"]), golden.tensor(inputs["masks"])
    value, deep = net.encode_value(frame, features, masks, hidden, True)
    same, kept = net.encode_value(frame, features, masks, hidden, False)
    assert torch.equal(same, value)
    assert kept is hidden
    alone = golden.tensor(inputs["single_object"])
    single, single_hidden = net.encode_value(frame, features, alone, hidden[:, : alone.shape[1]], True)
    outputs = {
        "value": value, "hidden_deep": deep, "value_single_object_hard_mask": single, "hidden_single_object": single_hidden,
    }  # fmt: skip
    for name in case["outputs"]:
        golden.expect(case, name, outputs[name])


class ReadCase:
    """The tensors of the case of the memory read, and one stored frame with them."""

    def __init__(self, golden: Any) -> None:
        self.case = only(golden, *READ)
        names = ("memory_key", "memory_shrinkage", "query_key", "query_selection", "memory_value")
        self.key, self.shrinkage, self.query, self.selection, self.value = (
            golden.tensor(self.case["inputs"][name]) for name in names
        )
        self.k = self.case["inputs"]["top_k"]

    def similarity(self, shrinkage: Tensor | None, selection: Tensor | None) -> Tensor:
        return address_memory(self.key, shrinkage).transpose(1, 2) @ address_query(self.query, selection)

    def read(self, values: Tensor, top_k: int | None) -> tuple[Tensor, Tensor]:
        """``values [O, C_v, N]`` give the readout ``[O, C_v, Q]`` and the usage ``[1, N]``."""
        store, objects = Store(), tuple(range(1, len(values) + 1))
        address = address_memory(self.key, self.shrinkage)
        entry = Entry(0, self.key.unsqueeze(2), address, values.unsqueeze(2), objects, query_address=address)
        store.append(entry, 0, range(len(objects)))
        out, usage = store.read(address_query(self.query, self.selection)[0], top_k, objects)
        return torch.stack([out[o].T for o in objects]), usage.unsqueeze(0)


@torch.no_grad()
def test_read(golden: Any) -> None:
    at = ReadCase(golden)
    identity = torch.eye(at.key.shape[2]).unsqueeze(0)  # reading unit vectors gives the affinity itself
    readout, usage = at.read(at.value, at.k)
    outputs = {
        "similarity": at.similarity(at.shrinkage, at.selection),
        "similarity_no_selection": at.similarity(at.shrinkage, None),
        "similarity_no_shrinkage": at.similarity(None, at.selection),
        "similarity_plain": at.similarity(None, None),
        "affinity_full_softmax": at.read(identity, None)[0],
        f"affinity_top{at.k}": at.read(identity, at.k)[0],
        f"usage_top{at.k}": usage,
        f"readout_top{at.k}": readout,
    }
    for name in at.case["outputs"]:
        golden.expect(at.case, name, outputs[name])


@torch.no_grad()
def test_another_top_k_is_noticed(golden: Any) -> None:
    at = ReadCase(golden)
    for wrong in (at.k - 1, at.k + 1):
        with pytest.raises(AssertionError, match="readout"):
            golden.expect(at.case, f"readout_top{at.k}", at.read(at.value, wrong)[0])


@torch.no_grad()
def test_segment(golden: Any, net: XMem) -> None:
    case = only(golden, *SEGMENT)
    inputs = case["inputs"]
    text = inputs["hidden"]
    if text.startswith("as in"):
        text = only(golden, *VALUES)["inputs"]["hidden"]
    _, features = encoded(golden, net, inputs["features"])
    logits, hidden = net.segment(features, golden.tensor(inputs["memory_readout"]), golden.tensor(text))
    joined, prob = aggregate(torch.sigmoid(logits), 1)
    outputs = {"hidden": hidden, "logits_aggregated": joined, "prob_with_background": prob, "decoder_logits": logits}
    for name in case["outputs"]:
        golden.expect(case, name, outputs[name])


def given_mask(golden: Any, text: str) -> Tensor:
    """``mask(…)``, perhaps followed by "with channels [..] set to zero"."""
    mask = golden.tensor(text)
    cleared = re.search(r"with channels \[([\d, ]*)\] set to zero", text)
    if cleared:
        mask[[int(n) for n in cleared.group(1).split(",")]] = 0
    return mask


def play(golden: Any, net: XMem, case: dict[str, Any]) -> dict[str, Any]:
    """Everything that a sequence case may record."""
    inputs, config = case["inputs"], case["inputs"]["config"]
    assert config["hidden_dim"] == net.config.hidden_dim
    memory = LongTermMemory(
        max_mid_term_frames=config["max_mid_term_frames"],
        min_mid_term_frames=config["min_mid_term_frames"],
        prototypes=config["num_prototypes"],
        max_long_term=config["max_long_term_elements"],
        every=config["mem_every"],
        long_term=config["enable_long_term"],
        count_usage=config["enable_long_term_count_usage"],
    )
    core = XMemCore(net, memory, deep_update_every=config["deep_update_every"], top_k=config["top_k"])
    events = {event["frame"]: event for event in inputs["events"]}
    device = net.decoder.pred.weight.device
    frames = golden.tensor(inputs["frames"]).to(device)
    last = len(frames) - 1 if inputs["last_frame_flag"].startswith("end=True") else len(frames)
    outputs: dict[str, Any] = {}
    work, long = [], []
    for t, frame in enumerate(frames):
        mask = valid = None
        if t in events:
            mask, valid = given_mask(golden, events[t]["mask"]).to(device), events[t]["valid_labels"]
            core.labels = tuple(events[t]["all_labels"])
        prob = core.step(frame, mask, valid, end=t == last)
        outputs[f"prob_{t:02d}"], outputs[f"mask_{t:02d}"] = prob, prob.argmax(0).to(torch.uint8)
        work.append(memory.stores[0].work)
        long.append(memory.stores[0].long)
    (store,) = memory.stores
    cut, usage = store.long, store.usage.view(1, 1, -1)
    outputs |= {
        "work_elements": np.array(work, np.int32), "long_elements": np.array(long, np.int32),
        "final_hidden": None if core.hidden is None else core.hidden.unsqueeze(0),
        "work_key": store.key[cut:].T.unsqueeze(0), "work_shrinkage": store.shrinkage[cut:].view(1, 1, -1),
        "work_usage": usage[..., cut:], "long_key": store.key[:cut].T.unsqueeze(0),
        "long_shrinkage": store.shrinkage[:cut].view(1, 1, -1), "long_usage": usage[..., :cut],
    }  # fmt: skip
    for n, group in enumerate(store.groups):
        outputs[f"long_value_{n}"] = group.value[:, : group.long].transpose(1, 2)
        outputs[f"work_value_{n}"] = group.value[:, group.long :].transpose(1, 2)
    return outputs


def test_sequences(golden: Any, net: XMem) -> None:
    cases = [case for case in golden.cases if case["kind"] == "sequence"]
    assert cases
    seen = set()
    for case in cases:
        outputs = play(golden, net, case)
        for name in case["outputs"]:
            golden.expect(case, name, outputs[name])
            seen.add(name)
    assert "long_usage" in seen, "no case checks the long-term memory"
