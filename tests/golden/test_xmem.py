"""XMem against the published network and code: modules, sequences, and the long-term memory over many frames."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone, Entry
from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.xmem import XMem, XMemConfig, address_memory, address_query
from lazyvos.backbones.xmem_core import XMemCore
from lazyvos.memory import LongTermMemory
from lazyvos.memory.prototypes import Store
from lazyvos.tracker import Tracker

NAME = "xmem"
Case = dict[str, Any]
CONFIG = {
    "mem_every", "deep_update_every", "enable_long_term", "enable_long_term_count_usage", "hidden_dim", "top_k",
    "max_mid_term_frames", "min_mid_term_frames", "num_prototypes", "max_long_term_elements",
}  # fmt: skip


@pytest.fixture(scope="module")
def net(golden: Any) -> XMem:
    hyper = golden.manifest["hyper"]
    with torch.device("meta"):
        empty = XMem(XMemConfig(key_dim=hyper["key_dim"], value_dim=hyper["value_dim"], hidden_dim=hyper["hidden_dim"]))
    return golden.fill(empty.to_empty(device="cpu"))


def test_layout_and_published_settings(golden: Any, net: XMem) -> None:
    golden.check(net)
    assert isinstance(net, Backbone)
    assert net.config == XMemConfig()
    wanted = golden.manifest["hyper"]["published_defaults"]
    default = {name: p.default for name, p in inspect.signature(LongTermMemory).parameters.items()}
    core = {name: p.default for name, p in inspect.signature(XMemCore).parameters.items()}
    own = {
        "mem_every": default["every"], "top_k": net.top_k, "deep_update_every": core["deep_update_every"],
        "enable_long_term": default["long_term"], "min_mid_term_frames": default["min_mid_term_frames"],
        "max_mid_term_frames": default["max_mid_term_frames"], "num_prototypes": default["prototypes"],
        "max_long_term_elements": default["max_long_term"], "size": inspect.signature(Tracker).parameters["size"].default,
    }  # fmt: skip
    assert {name: own[name] for name in wanted} == wanted
    assert core["top_k"] == wanted["top_k"]


@torch.no_grad()
def test_case(golden: Any, net: XMem, case: Case) -> None:
    golden.compare(case, compute(case)(golden, net, case))


def compute(case: Case) -> Any:
    """What computes a case, by its inputs."""
    inputs = set(case["inputs"])
    if case["kind"] == "sequence" and {"frames", "config", "events"} <= inputs:
        return play
    unknown = f"no test knows case {case['name']} of kind {case['kind']!r} with the inputs {sorted(inputs)}"
    assert case["kind"] == "module", unknown
    for function, needs in ((value, {"frame", "masks"}), (read, {"memory_key"}), (segment, {"features", "memory_readout"})):
        if needs <= inputs:
            return function
    assert inputs == {"frames"}, unknown
    return key


def key(golden: Any, net: XMem, case: Case) -> dict[str, Any]:
    found, shrinkage, selection, features = net.encode_key(golden.tensor(case["inputs"]["frames"]))
    return {"key": found, "shrinkage": shrinkage, "selection": selection, **features._asdict()}


def hidden_of(golden: Any, text: str) -> Tensor:
    """A hidden state, or the one of the case that the text names."""
    return golden.tensor(golden.other(text, "hidden", "masks")["inputs"]["hidden"] if text.startswith("as in") else text)


def value(golden: Any, net: XMem, case: Case) -> dict[str, Any]:
    inputs = case["inputs"]
    frame = golden.frame(inputs["frame"])
    features = net.encode_key(frame)[3]
    hidden, masks = hidden_of(golden, inputs["hidden"]), golden.tensor(inputs["masks"])
    found, deep = net.encode_value(frame, features, masks, hidden, True)
    same, kept = net.encode_value(frame, features, masks, hidden, False)
    assert torch.equal(same, found)
    assert kept is hidden
    got = {"value": found, "hidden_deep": deep}
    if "single_object" in inputs:
        alone = golden.tensor(inputs["single_object"])
        single, single_hidden = net.encode_value(frame, features, alone, hidden[:, : alone.shape[1]], True)
        got |= {"value_single_object_hard_mask": single, "hidden_single_object": single_hidden}
    return got


class ReadCase:
    """The tensors of a case of the memory read, and one stored frame with them."""

    def __init__(self, golden: Any, case: Case) -> None:
        names = ("memory_key", "memory_shrinkage", "query_key", "query_selection", "memory_value")
        self.key, self.shrinkage, self.query, self.selection, self.value = (golden.tensor(case["inputs"][name]) for name in names)
        self.k = case["inputs"]["top_k"]

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


def read(golden: Any, net: XMem, case: Case, more: int = 0) -> dict[str, Any]:
    """``more``: added to the top-k."""
    at = ReadCase(golden, case)
    identity = torch.eye(at.key.shape[2]).unsqueeze(0)  # reading unit vectors gives the affinity itself
    readout, usage = at.read(at.value, at.k + more)
    return {
        "similarity": at.similarity(at.shrinkage, at.selection),
        "similarity_no_selection": at.similarity(at.shrinkage, None),
        "similarity_no_shrinkage": at.similarity(None, at.selection),
        "similarity_plain": at.similarity(None, None),
        "affinity_full_softmax": at.read(identity, None)[0],
        f"affinity_top{at.k}": at.read(identity, at.k + more)[0],
        f"usage_top{at.k}": usage,
        f"readout_top{at.k}": readout,
    }


def test_another_top_k_is_noticed(golden: Any, net: XMem) -> None:
    for case in (c for c in golden.cases if "memory_key" in c["inputs"]):
        for more in (-1, 1):
            if golden.tensor(case["inputs"]["memory_key"]).shape[2] >= case["inputs"]["top_k"] + max(0, more) > 1:
                with pytest.raises(AssertionError, match="readout"):
                    golden.compare(case, read(golden, net, case, more))


def segment(golden: Any, net: XMem, case: Case) -> dict[str, Any]:
    inputs = case["inputs"]
    features = net.encode_key(golden.frame(inputs["features"]))[3]
    logits, hidden = net.segment(features, golden.tensor(inputs["memory_readout"]), hidden_of(golden, inputs["hidden"]))
    joined, prob = aggregate(torch.sigmoid(logits), 1)
    return {"hidden": hidden, "logits_aggregated": joined, "prob_with_background": prob, "decoder_logits": logits}


def given_mask(golden: Any, text: str) -> Tensor:
    """``mask(…)``, perhaps followed by "with channels [..] set to zero"."""
    mask = golden.tensor(text)
    cleared = re.search(r"with channels \[([\d, ]*)\] set to zero", text)
    assert cleared or " with " not in text, text
    if cleared:
        mask[[int(n) for n in cleared.group(1).split(",")]] = 0
    return mask


def test_clamp_of_given_masks(golden: Any) -> None:
    def frames(case: Case) -> dict[int, Tensor]:
        whole = [e for e in case["inputs"]["events"] if set(e["valid_labels"]) == set(e["all_labels"])]
        return {event["frame"]: given_mask(golden, event["mask"]) for event in whole}

    golden.given_masks(frames)


def play(golden: Any, net: XMem, case: Case) -> dict[str, Any]:
    """Everything that a sequence case may record."""
    inputs, config = case["inputs"], case["inputs"]["config"]
    assert set(config) == CONFIG, f"case {case['name']} has another configuration: {sorted(set(config) ^ CONFIG)}"
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
    frames = golden.tensor(inputs["frames"])
    last = len(frames) - 1 if inputs["last_frame_flag"].startswith("end=True") else len(frames)
    outputs: dict[str, Any] = {}
    work, long = [], []
    for t, frame in enumerate(frames):
        mask = valid = None
        if t in events:
            mask, valid = given_mask(golden, events[t]["mask"]), events[t]["valid_labels"]
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
