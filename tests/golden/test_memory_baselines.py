"""The plain strategies and QDMN's bank against records of released code (memory_baselines.json)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lazyvos.backbones.base import Entry
from lazyvos.memory import FifoMemory, Want
from lazyvos.memory.qdmn import QdmnBank


def _entry(t: int, scores: list[float] | None = None) -> Entry:
    objects = tuple(range(1, 2 if scores is None else 1 + len(scores)))
    count = len(objects)
    key, address = torch.full((count, 1, 1, 1), float(t)), torch.full((count, 1, 1), float(t))
    quality = None if scores is None else torch.tensor(scores)
    return Entry(t, key, address, torch.zeros(count, 1, 1, 1), objects, quality)


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


@pytest.fixture(scope="module")
def qdmn(golden_dir: Path) -> list[dict]:
    """Cases of QDMN's bank; the networks were stubbed, frame t has the scores ``scores[t]``."""
    cases = json.loads((golden_dir / "memory_baselines.json").read_text())["qdmn"]
    assert cases
    return cases


def _play(case: dict, published: bool) -> Iterator[tuple[int, QdmnBank]]:
    """The bank as frame t reads it, for t = 1, 2, …"""
    bank = QdmnBank(case["bank_threshold"], case["interval"], published=published)
    bank.pin(_entry(0, case["first_frame_scores"]), 0)
    for t in range(1, case["frames"]):
        yield t, bank
        bank.offer(_entry(t, case["scores"][t]), t)


def test_qdmn_bank_reads_the_frames_of_the_published_code(qdmn: list[dict]) -> None:
    compared = 0
    for case in qdmn:
        read = case["memory_read_at_frame"]
        for t, bank in _play(case, published=True):
            if str(t) in read:
                assert list(bank.frames()) == read[str(t)], (case["bank_threshold"], case["interval"], t)
                compared += 1
    assert compared == sum(len(case["memory_read_at_frame"]) for case in qdmn) > 0


def test_corrected_qdmn_bank_keeps_the_annotated_frame_and_as_many_others(qdmn: list[dict]) -> None:
    differing = 0
    for case in qdmn:
        for (t, published), (_, corrected) in zip(_play(case, True), _play(case, False), strict=True):
            assert corrected.stored[0] == 0, t
            assert len(corrected.stored) == len(published.stored), t
            differing += corrected.stored != published.stored
    assert differing
