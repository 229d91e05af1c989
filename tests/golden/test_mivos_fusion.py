"""MiVOS's fusion network and interaction rounds against their golden numbers: every output of every case."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lazyvos.backbones.fusion import FusionNet, difference_attention
from lazyvos.backbones.mivos import MiVOS, address_memory
from lazyvos.backbones.mivos_core import MiVOSCore

Case = dict[str, Any]


@pytest.fixture(scope="module")
def golden(network):
    return network("mivos_fusion")


@pytest.fixture(scope="module")
def net(golden) -> FusionNet:
    return golden.fill(FusionNet())


def compare(golden, case: Case, got: dict[str, Tensor]) -> None:
    """All outputs of a case, neither more nor less."""
    assert set(got) == set(case["outputs"]), f"{case['name']}: {sorted(set(got) ^ set(case['outputs']))}"
    for name, value in got.items():
        golden.expect(case, name, value)


def soft(golden, text: str, size: tuple[int, int]) -> Tensor:
    """``soft_mask(<seed>, ..., <objects>)`` of a size that the text may leave out."""
    seed, *_, objects = golden.numbers_in(text, "soft_mask")
    return torch.from_numpy(golden.recipe.soft_mask(seed, *size, objects))


def test_parameters(golden, net: FusionNet) -> None:
    assert sum(p.numel() for p in net.parameters()) == golden.manifest["parameter_count"]


@torch.inference_mode()
def test_network(golden, net: FusionNet) -> None:
    cases = golden.with_outputs("logit")
    assert cases
    for case in cases:
        given = case["inputs"]
        image, attention = golden.tensor(given["image"]), golden.tensor(given["attention"])
        old, new = (soft(golden, given[n], tuple(image.shape[2:]))[None] for n in ("previous", "current"))
        logit = net(image, old, new, attention, tuple(given["distance"]))
        compare(golden, case, {"logit": logit})


def test_attention(golden) -> None:
    cases = golden.with_outputs("attention")
    assert cases
    for case in cases:
        given, size = case["inputs"], tuple(case["outputs"]["attention"]["shape"][-2:])
        memory, query = golden.tensor(given["memory_key"]).flatten(2), golden.tensor(given["query_key"])
        positive, negative = (soft(golden, given[n], size) for n in ("positive", "negative"))
        got = difference_attention(
            address_memory(memory), query[0].flatten(1), positive, negative, tuple(query.shape[2:])
        )
        compare(golden, case, {"attention": got})


def test_rounds(golden, net: FusionNet, network) -> None:
    cases = golden.with_outputs(kind="sequence")
    assert cases
    propagation = network("mivos")
    propagation.fill(tracker := MiVOS())
    for case in cases:
        given = case["inputs"]
        frames, rounds = golden.tensor(given["frames"]), given["rounds"]
        count = next(o["shape"][0] for n, o in case["outputs"].items() if n.startswith("prob")) - 1
        core = MiVOSCore(tracker, frames, count, mem_freq=given["mem_freq"], top_k=given["top_k"], fusion=net)
        got: dict[str, Tensor] = {}
        for index, turn in enumerate(rounds):
            seed = golden.numbers_in(turn["mask"], "mask")[0]
            mask = torch.from_numpy(golden.recipe.mask(seed, *frames.shape[2:], count))
            got[f"masks_round_{index}"] = core.interact(torch.cat([1 - mask.sum(0, keepdim=True), mask]), turn["frame"])
            for t in range(len(frames)):
                name = f"prob_padded_round_{index}_frame_{t}"
                if name in case["outputs"]:
                    got[name] = core.clip.prob[:, t].unsqueeze(1).clone()
        compare(golden, case, got)
