"""The plain strategies against records of released code (memory_baselines.json)."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lazyvos.backbones.base import Entry
from lazyvos.memory import FifoMemory, Want


def _entry(t: int) -> Entry:
    return Entry(t, torch.full((1, 1, 1, 1), float(t)), torch.full((1, 1, 1), float(t)), torch.zeros(1, 1, 1, 1), (1,))


def test_fifo_and_adjacent_frame(golden_dir: Path) -> None:
    cases = json.loads((golden_dir / "memory_baselines.json").read_text())["fifo"]
    assert cases
    for case in cases:
        memory = FifoMemory(case["slots"], case["s_r"], adjacent=case["adjacent"], pin_annotated=False)
        for t, wanted in enumerate(case["frames_after_step"]):
            if t == 0:
                memory.pin(_entry(t), t)
            else:
                want = memory.wants(t)
                decision = memory.offer(_entry(t), t) if want is not Want.NO else None
                assert (want is Want.REGULAR) == bool(decision and decision.kept)
            assert list(memory.frames()) == wanted, (case["slots"], case["s_r"], case["adjacent"], t)
