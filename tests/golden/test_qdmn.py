"""QDMN against numbers of the authors' network and inference: every output of every case."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone
from lazyvos.backbones.qdmn import QDMN
from lazyvos.backbones.qdmn_core import QDMNCore
from lazyvos.memory.qdmn import QdmnBank

NAME = "qdmn"
Case = dict[str, Any]


@pytest.fixture(scope="module")
def net(golden) -> QDMN:
    return golden.fill(QDMN())


def test_layout_and_published_settings(golden, net: QDMN) -> None:
    golden.check(net)
    hyper = golden.manifest["hyper"]
    assert isinstance(net, Backbone)
    assert (net.top_k, net.config.key_dim, net.config.value_dim) == (hyper["top_k"], hyper["key_dim"], hyper["value_dim"])
    for kind in (QDMNCore, QdmnBank):
        default = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
        bank = default["every"], default["threshold"], default["minimum"]
        assert bank == (hyper["mem_freq"], hyper["memory_thr"], hyper["score_threshold"]), kind
    assert inspect.signature(QDMNCore).parameters["top_k"].default == hyper["top_k"]


@torch.inference_mode()
def test_case(golden, net: QDMN, case: Case) -> None:
    golden.compare(case, compute(case)(golden, net, case))


def compute(case: Case) -> Any:
    """What computes a case, by its inputs."""
    inputs = set(case["inputs"])
    if case["kind"] == "sequence" and {"frames", "mask", "mem_freq"} <= inputs:
        return sequence
    unknown = f"no test knows case {case['name']} of kind {case['kind']!r} with the inputs {sorted(inputs)}"
    assert case["kind"] == "module", unknown
    for function, needs in ((query, {"frames", "previous_mask"}), (memorise, {"frame", "masks"}), (segment, {"query", "memory"})):
        if needs <= inputs:
            return function
    assert inputs == {"x"}, unknown
    return block


def previous(golden, case: Case) -> tuple[int, Tensor]:
    """The frame that a case's previous mask gates, and the mask ``[1, 1, H, W]``."""
    text = case["inputs"]["previous_mask"]
    found = re.search(r"\bframe (\d+)", text)
    assert found, text
    return int(found.group(1)), golden.tensor(text)


def query(golden, net: QDMN, case: Case) -> dict[str, Tensor]:
    frames = golden.tensor(case["inputs"]["frames"])
    at, mask = previous(golden, case)
    f16, f8, f4 = net.rgb_encoder(frames)
    key, gated = net.encode_query(frames[at : at + 1], mask)
    gate = net.gate(f16[at : at + 1], mask)
    return {"f16": f16, "f8": f8, "f4": f4, "gate": gate, "f16_gated": gated.f16, "key": key, "value": gated.value}


def masks_of(golden, text: str) -> Tensor:
    """Masks of a case, grouped: ``[1, n, H, W]``."""
    return golden.tensor(text).transpose(0, 1)


def memorise(golden, net: QDMN, case: Case) -> dict[str, Tensor]:
    image, got = golden.frame(case["inputs"]["frame"]), {}
    for tail, given in (("", "masks"), ("_single", "single")):
        if given in case["inputs"]:
            key, value, score = net.encode_memory(image, masks_of(golden, case["inputs"][given]))
            got |= {"key" + tail: key[0].unsqueeze(2), "value" + tail: value[0].unsqueeze(2), "score" + tail: score.T}
    return got


def block(golden, net: QDMN, case: Case) -> dict[str, Tensor]:
    """ASPP (``y``) or the quality head (``score``) on a ready feature map."""
    (name,) = case["outputs"]
    return {name: {"y": net.aspp, "score": net.score}[name](golden.tensor(case["inputs"]["x"]))}


def segment(golden, net: QDMN, case: Case) -> dict[str, Tensor]:
    source = golden.other(case["inputs"]["query"], "frames", "previous_mask")
    image, mask = golden.frame(case["inputs"]["query"])[0], previous(golden, source)[1]
    stored = golden.other(case["inputs"]["memory"], "frame", "masks")["inputs"]
    masks = masks_of(golden, stored["masks"])[0]
    bank, objects = QdmnBank(), tuple(range(1, 1 + len(masks)))
    bank.pin(net.entry(0, golden.frame(stored["frame"])[0], masks, objects), 0)
    asked = net.encode(image, mask[0])
    logits, _ = net.decode(asked, bank.read(asked, objects, golden.manifest["hyper"]["top_k"]).value, None)
    return {"prob": torch.sigmoid(logits).unsqueeze(1), "decoder_logits": logits.unsqueeze(1)}


def test_clamp_of_given_masks(golden) -> None:
    golden.given_masks(lambda case: {0: golden.tensor(case["inputs"]["mask"])})


def sequence(golden, net: QDMN, case: Case) -> dict[str, Any]:
    given = case["inputs"]
    frames, mask = golden.tensor(given["frames"]), golden.tensor(given["mask"])
    assert re.search(r"on frame 0\b", given["mask"]), given["mask"]
    core = QDMNCore(
        net, frames, len(mask), every=given["mem_freq"], threshold=given["memory_thr"], minimum=given["score_threshold"],
        top_k=given["top_k"],
    )  # fmt: skip
    outputs: dict[str, Any] = {"masks": core.interact(mask)}
    outputs["scores"] = torch.stack(core.scores)
    outputs["memory_frames_seen"] = torch.tensor([len(frames) for frames in core.read])
    for t, prob in enumerate(core.unpadded(core.prob).unbind(1)):
        outputs[f"prob_{t:02d}"] = prob
    return outputs
