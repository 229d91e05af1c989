"""The plain strategies, QDMN's bank and RMem against records of released code (memory_baselines.json)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from lazyvos.backbones.base import Entry, Query
from lazyvos.memory import FifoMemory, RMem, Want
from lazyvos.memory.qdmn import QdmnBank
from lazyvos.memory.rmem import Bandit, relevance


def _entry(t: int, scores: list[float] | None = None) -> Entry:
    objects = tuple(range(1, 2 if scores is None else 1 + len(scores)))
    count = len(objects)
    key, address = torch.full((count, 1, 1, 1), float(t)), torch.full((count, 1, 1), float(t))
    quality = None if scores is None else torch.tensor(scores)
    return Entry(t, key, address, torch.zeros(count, 1, 1, 1), objects, quality)


def test_fifo_and_adjacent_frame(load: Any) -> None:
    cases = load("memory_baselines", arrays=False)[0]["fifo"]
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
def qdmn(load: Any) -> list[dict]:
    """Cases of QDMN's bank; the networks were stubbed, frame t has the scores ``scores[t]``."""
    cases = load("memory_baselines", arrays=False)[0]["qdmn"]
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
    for case in qdmn:
        differing = 0
        for (t, published), (_, corrected) in zip(_play(case, True), _play(case, False), strict=True):
            assert corrected.stored[0] == 0, t
            assert len(corrected.stored) == len(published.stored), t
            differing += corrected.stored != published.stored
        deleted = any(0 not in read for read in case["memory_read_at_frame"].values())  # the annotated frame, as published
        assert differing or not deleted


@pytest.fixture(scope="module")
def rmem(load: Any) -> dict[str, Any]:
    """RMem's case: at each step the attention of Q query positions on the stored frames, and their foreground probability."""
    manifest = load("memory_baselines", arrays=False)[0]
    assert set(manifest) - {"source", "notes"} == {"fifo", "qdmn", "rmem"}
    case = manifest["rmem"]
    assert set(case) == {"capacity_total", "pinned_first", "steps"}
    assert case["pinned_first"] == 1
    assert any(step["dropped"] is not None for step in case["steps"])
    return case


def test_rmem_bandit_is_that_of_the_released_code(rmem: dict[str, Any]) -> None:
    bandit, stored = Bandit(), [0]
    for step in rmem["steps"]:
        t, rated = step["t"], tuple(stored)
        stored.append(t)
        if len(stored) > rmem["capacity_total"]:
            share = relevance(np.array(step["attention"]), np.array(step["foreground"]))
            bandit.rate(dict(zip(rated, share, strict=True)), t)
            assert bandit.survival == {int(k): n for k, n in step["survival"].items()}, t
            assert bandit.relevance.keys() == {int(k) for k in step["relevance"]}, t
            for key, value in step["relevance"].items():
                assert bandit.relevance[int(key)] == pytest.approx(value, abs=1e-9), (t, key)
            scores = bandit.scores(rated, [0])
            dropped = min((f for f in rated if f != 0), key=scores.__getitem__)
            assert dropped == step["dropped"], t
            stored.remove(dropped)
            bandit.forget(dropped)
        else:
            assert not step["relevance"]
            assert step["dropped"] is None
        assert stored == step["frames_after"], t


def test_rmem_drops_the_frames_of_the_released_code(rmem: dict[str, Any]) -> None:
    """The memory itself, with addresses that make its read the recorded attention.

    The query of step t is one of a set of unit vectors for each position, and each stored frame holds the logarithm of what it is to
    get from that position, shared among its own positions.
    """
    steps = rmem["steps"]
    count = len(steps[0]["attention"])
    before = [[0], *(step["frames_after"] for step in steps[:-1])]
    logs = {0: torch.full((len(steps), count), -80.0)}
    logs |= {step["t"]: torch.full((len(steps), count), -80.0) for step in steps}
    for n, (step, frames) in enumerate(zip(steps, before, strict=True)):
        assert len(step["attention"]) == count
        for column, t in enumerate(frames):
            share = torch.tensor([row[column] for row in step["attention"]])
            logs[t][n] = (share / count).clamp(min=1e-30).log()

    def entry(t: int, foreground: list[float]) -> Entry:
        address = logs[t].flatten().view(1, -1, 1).expand(-1, -1, count)
        mask = torch.tensor(foreground).view(1, 1, count)
        return Entry(t, torch.zeros(1, 1, 1, count), address, torch.zeros(1, 1, 1, count), (1,), masks=mask)

    memory = RMem(rmem["capacity_total"], 1, adjacent=False)
    memory.pin(entry(0, [0.0] * count), 0)
    for n, step in enumerate(steps):
        ask = torch.zeros(len(steps), count, count)
        ask[n] = torch.eye(count)
        memory.read(Query(torch.zeros(1, 1, count), ask.flatten(0, 1), None), (1,), None)
        decision = memory.offer(entry(step["t"], step["foreground"]), step["t"])
        assert decision.kept
        assert decision.replaced == step["dropped"], step["t"]
        assert list(memory.frames()) == step["frames_after"], step["t"]
        for key, value in step["relevance"].items():
            if int(key) != step["dropped"]:
                assert memory.bandit.relevance[int(key)] == pytest.approx(value, abs=1e-5), (step["t"], key)
