"""The same numbers on a GPU as on the CPU: every backbone and memory, autocast, and what a frame may take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lazyvos.build import BACKBONES, MEMORIES, make_memory
from lazyvos.datasets import SyntheticClip
from lazyvos.device import compile_network
from lazyvos.hub import load
from lazyvos.refine.ritm_predictor import RitmRefiner
from lazyvos.refine.tiny import TinyRefiner
from lazyvos.tracker import Tracker
from lazyvos.types import Click

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CLIP = SyntheticClip(seed=5, length=10, size=(112, 176), objects=2, difficulty="easy")
PAIRS = [(frame.copy(), mask.copy()) for frame, mask in CLIP.pairs()]


def probabilities(name: str, device: str, memory: str = "fifo", precision: str = "fp32", compiled: bool = False) -> np.ndarray:
    net: Any = load(name, seed=0, device=device)
    if compiled:
        compile_network(net, device)
    options = {"every": 2} if memory in ("fifo", "readmem", "longterm") else {}
    tracker = Tracker(net, make_memory(memory, **options), size=None, device=device, precision=precision)
    steps = tracker.track((f for f, _ in PAIRS), mask=PAIRS[0][1])
    return np.stack([step.prediction.probabilities.float().cpu().numpy() for step in steps])


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_in_full_precision(name: str, record_property: Any) -> None:
    ours, theirs = probabilities(name, DEVICE), probabilities(name, "cpu")
    record_property("largest difference", float(np.abs(ours - theirs).max()))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("memory", MEMORIES)
def test_memory(memory: str) -> None:
    np.testing.assert_allclose(probabilities("tiny", DEVICE, memory), probabilities("tiny", "cpu", memory), atol=2e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", BACKBONES)
def test_autocast_is_near(name: str, precision: str) -> None:
    found = probabilities(name, DEVICE, precision=precision)
    assert np.isfinite(found).all()
    assert np.abs(found - probabilities(name, DEVICE)).mean() < 0.05


def test_compiled_is_equal() -> None:
    np.testing.assert_allclose(probabilities("tiny", DEVICE, compiled=True), probabilities("tiny", DEVICE), atol=5e-3)


@pytest.mark.parametrize("kind", ["tiny-click", "ritm-h18s"])
def test_refiner(kind: str) -> None:
    def mask(device: str) -> np.ndarray:
        net: Any = load(kind, seed=0, device=device)
        refiner = TinyRefiner(net) if kind == "tiny-click" else RitmRefiner(net)
        return refiner.refine(PAIRS[0][0], [Click(80, 50)]).float().cpu().numpy()

    np.testing.assert_allclose(mask(DEVICE), mask("cpu"), atol=5e-3)


def test_allocated_memory_does_not_grow() -> None:
    net: Any = load("tiny", device=DEVICE)
    tracker = Tracker(net, make_memory("fifo", every=1), size=None, device=DEVICE)
    tracker.predict(PAIRS[0][0])
    tracker.correct(mask=PAIRS[0][1])
    tracker.commit()
    sizes = []
    for t in range(120):
        tracker.step(PAIRS[t % len(PAIRS)][0])
        sizes.append(torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)
    assert max(sizes[60:]) <= max(sizes[20:60])
