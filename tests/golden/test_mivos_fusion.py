"""MiVOS's fusion network and interaction rounds against their golden numbers: every output of every case."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from lazyvos.backbones.fusion import FusionNet, difference_attention
from lazyvos.backbones.mivos import MiVOS, address_memory
from lazyvos.backbones.mivos_core import MiVOSCore

NAME = "mivos_fusion"
Case = dict[str, Any]


@pytest.fixture(scope="module")
def net(golden) -> FusionNet:
    return golden.fill(FusionNet())


@pytest.fixture(scope="module")
def tracker(network) -> MiVOS:
    """The propagation network of the rounds."""
    return network("mivos").fill(MiVOS())


def test_layout(golden, net: FusionNet) -> None:
    golden.check(net)


@torch.inference_mode()
def test_case(golden, net: FusionNet, case: Case, request: pytest.FixtureRequest) -> None:
    inputs = set(case["inputs"])
    if case["kind"] == "sequence" and {"frames", "rounds"} <= inputs:
        got = rounds(golden, net, request.getfixturevalue("tracker"), case)
    elif case["kind"] == "module" and {"image", "previous", "current"} <= inputs:
        got = fused(golden, net, case)
    elif case["kind"] == "module" and {"memory_key", "positive", "negative"} <= inputs:
        got = attention(golden, case)
    else:
        pytest.fail(f"no test knows case {case['name']} of kind {case['kind']!r} with the inputs {sorted(inputs)}")
    golden.compare(case, got)


def soft(golden, text: str, size: tuple[int, int]) -> Tensor:
    """``soft_mask(<seed>, ..., <objects>)`` of a size that the text may leave out."""
    seed, *_, objects = golden.numbers_in(text, "soft_mask")
    return torch.from_numpy(golden.recipe.soft_mask(seed, *size, objects)).to(golden.device)


def fused(golden, net: FusionNet, case: Case) -> dict[str, Tensor]:
    given = case["inputs"]
    image, attended = golden.tensor(given["image"]), golden.tensor(given["attention"])
    old, new = (soft(golden, given[n], tuple(image.shape[2:]))[None] for n in ("previous", "current"))
    return {"logit": net(image, old, new, attended, tuple(given["distance"]))}


def attention(golden, case: Case) -> dict[str, Tensor]:
    given, size = case["inputs"], tuple(case["outputs"]["attention"]["shape"][-2:])
    memory, query = golden.tensor(given["memory_key"]).flatten(2), golden.tensor(given["query_key"])
    positive, negative = (soft(golden, given[n], size) for n in ("positive", "negative"))
    got = difference_attention(address_memory(memory), query[0].flatten(1), positive, negative, tuple(query.shape[2:]))
    return {"attention": got}


def objects_of(golden, case: Case) -> int:
    """Number of objects: said by the mask of one of the rounds, or else by the channels of a probability."""
    for turn in case["inputs"]["rounds"]:
        _, *rest = golden.numbers_in(turn["mask"], "mask")
        if rest:
            return rest[-1]
    return next(o["shape"][0] for name, o in case["outputs"].items() if name.startswith("prob")) - 1


def rounds(golden, net: FusionNet, tracker: MiVOS, case: Case) -> dict[str, Any]:
    given = case["inputs"]
    frames, count = golden.tensor(given["frames"]), objects_of(golden, case)
    core = MiVOSCore(tracker, frames, count, mem_freq=given["mem_freq"], top_k=given["top_k"], fusion=net)
    wanted = [re.fullmatch(r"prob_padded_round_(\d+)_frame_(\d+)", name) for name in case["outputs"]]
    got: dict[str, Any] = {}
    for index, turn in enumerate(given["rounds"]):
        seed = golden.numbers_in(turn["mask"], "mask")[0]
        mask = torch.from_numpy(golden.recipe.mask(seed, *frames.shape[2:], count)).to(golden.device)
        got[f"masks_round_{index}"] = core.interact(torch.cat([1 - mask.sum(0, keepdim=True), mask]), turn["frame"])
        for found in wanted:
            if found and int(found.group(1)) == index:
                got[found.group(0)] = core.clip.prob[:, int(found.group(2))].unsqueeze(1).clone()
    return got
