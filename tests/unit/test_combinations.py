"""Every backbone with every memory, policy and refiner: two objects, a third one later, requests answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lazyvos.backbones.mivos import MiVOS, MiVOSConfig
from lazyvos.backbones.qdmn import QDMN, QDMNConfig
from lazyvos.backbones.stcn import STCN, STCNConfig
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.build import MEMORIES, make_memory
from lazyvos.datasets import SyntheticClip
from lazyvos.interact import Always, Lazy, Never, RandomBudget, SimulatedUser
from lazyvos.refine.clicknet import ClickNet
from lazyvos.refine.ritm import H18S, RitmNet
from lazyvos.refine.ritm_predictor import RitmRefiner
from lazyvos.refine.tiny import TinyRefiner
from lazyvos.tracker import Tracker
from lazyvos.types import Click

BACKBONES = {
    "tiny": lambda: XMem(XMemConfig.tiny()),
    "tiny-stm": lambda: XMem(XMemConfig.tiny_stm()),
    "xmem": lambda: XMem(XMemConfig(key_dim=16, value_dim=32, hidden_dim=8, widths=(32, 16, 16))),
    "stcn": lambda: STCN(STCNConfig.small()),
    "mivos": lambda: MiVOS(MiVOSConfig.small()),
    "qdmn": lambda: QDMN(QDMNConfig.small()),
}
POLICIES = {"never": Never, "lazy": lambda: Lazy(tau_user=-0.001, tau_pseudo=-9.0), "always": Always, "random": lambda: RandomBudget(rate=0.5, seed=1)}
REFINERS = {"tiny": lambda: TinyRefiner(ClickNet().eval(), sizes=(64,)), "ritm": lambda: RitmRefiner(RitmNet(H18S), zoom=False, brs=False)}


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    torch.manual_seed(3)
    return {name: make().eval() for name, make in BACKBONES.items()}


@pytest.fixture(scope="module")
def refiners() -> dict[str, Any]:
    torch.manual_seed(4)
    return {name: make() for name, make in REFINERS.items()}


CLIP = SyntheticClip(seed=2, length=8, size=(64, 96), objects=2, difficulty="easy")
PAIRS = [(frame.copy(), mask.copy()) for frame, mask in CLIP.pairs()]


def small(memory: str) -> Any:
    options: dict[str, Any] = {"fifo": {"slots": 3, "every": 1}, "readmem": {"slots": 3, "every": 1},
                               "longterm": {"max_mid_term_frames": 3, "min_mid_term_frames": 2, "prototypes": 8, "max_long_term": 40, "every": 1},
                               "qdmn": {}, "unbounded": {}, "rmem": {"slots": 4, "every": 1}, "dam4sam": {}, "sam2long": {}}  # fmt: skip
    return make_memory(memory, **options[memory])


def walk(tracker: Tracker, late: int | None = 4) -> list[Any]:
    user = SimulatedUser(lambda t: PAIRS[t][1])
    steps = []
    for t, (frame, mask) in enumerate(PAIRS):
        if t == 0 or t == late:
            tracker.predict(frame)
            tracker.correct(mask=mask) if t == 0 else tracker.correct([Click(10, 50, 7)])
            tracker.commit()
        else:
            steps.append(tracker.step(frame, user))
    return steps


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone_with_memory(networks: dict[str, Any], refiners: dict[str, Any], backbone: str, memory: str) -> None:
    tracker = Tracker(networks[backbone], small(memory), policy=Lazy(tau_user=-0.001, tau_pseudo=-9.0), refiner=refiners["tiny"], size=None)
    steps = walk(tracker)
    assert tracker.objects == (1, 2, 7)
    for step in steps:
        prob = step.prediction.probabilities
        assert prob.shape[-2:] == (64, 96)
        assert torch.isfinite(prob).all()
        assert torch.allclose(prob.sum(0), torch.ones(64, 96), atol=1e-4)
    assert {c.kind for step in steps for c in step.corrections} & {"user", "pseudo"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone_with_policy(networks: dict[str, Any], refiners: dict[str, Any], backbone: str, policy: str) -> None:
    tracker = Tracker(networks[backbone], small("fifo"), policy=POLICIES[policy](), refiner=refiners["tiny"], size=None)
    asked = sum(len(step.requests) for step in walk(tracker, late=None))
    assert asked == 0 if policy == "never" else asked > 0


@pytest.mark.parametrize("refiner", REFINERS)
@pytest.mark.parametrize("backbone", ["tiny-stm", "xmem", "mivos"])
def test_backbone_with_refiner(networks: dict[str, Any], refiners: dict[str, Any], backbone: str, refiner: str) -> None:
    tracker = Tracker(networks[backbone], small("readmem"), policy=Never(), refiner=refiners[refiner], size=None)
    walk(tracker)
    assert tracker.t == len(PAIRS) - 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_same_input_same_answer(networks: dict[str, Any], backbone: str) -> None:
    def labels() -> np.ndarray:
        tracker = Tracker(networks[backbone], small("readmem"), size=None)
        return np.stack([s.prediction.labels for s in tracker.track((f for f, _ in PAIRS), mask=PAIRS[0][1])])

    first = labels()
    np.testing.assert_array_equal(first, labels())
    assert (first[0] == PAIRS[0][1]).all()
