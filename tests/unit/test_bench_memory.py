"""READMem against its plain translation, and the two benchmarks of it in small."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.mivos import MiVOS, MiVOSConfig
from lazyvos.bench_flat import bench_flat
from lazyvos.bench_memory import agree, bench_memory, log_gap
from lazyvos.memory import ReadMem
from lazyvos.plain_readmem import PlainReadMem, align, similarity, softmax_of_best
from lazyvos.types import InputError

torch.set_num_threads(1)
CHANNELS, GRID = 6, (4, 5)


def sequence(objects: int, seed: int, frames: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys ``[T, O, C_k, hw]`` that wander away from the first one, now and then far off, and queries ``[T, C_k, hw]``."""
    rng = torch.Generator().manual_seed(seed)
    area = GRID[0] * GRID[1]
    common = torch.randn(objects, CHANNELS, area, generator=rng)
    keys, drift = [], torch.zeros(objects, CHANNELS, area)
    for t in range(frames):
        drift = 0.9 * drift + 0.3 * torch.randn(objects, CHANNELS, area, generator=rng)
        far = 3.0 if t % 11 == 10 else 0.4
        keys.append(common + drift + far * torch.randn(objects, CHANNELS, area, generator=rng))
    stack = torch.stack(keys)
    return stack, stack.mean(1) + 0.3 * torch.randn(frames, CHANNELS, area, generator=rng)


@pytest.mark.parametrize("objects", [1, 2])
@pytest.mark.parametrize(("aligned", "top_k", "bound"), [(True, 6, 0.25), (True, None, 0.45), (False, 6, 0.6)])
@pytest.mark.parametrize("every", [1, 2])
def test_plain_and_fast_decide_alike(objects: int, aligned: bool, top_k: int | None, bound: float, every: int) -> None:
    ids = tuple(range(1, objects + 1))
    reasons: dict[str, int] = {}
    for seed in (0, 1):
        keys, queries = sequence(objects, seed)
        fast = ReadMem(slots=5, every=every, lower_bound=bound, transition="column argmax" if aligned else None)
        plain = PlainReadMem(5, every, bound)
        for t, (key, asked) in enumerate(zip(keys, queries, strict=True)):
            maps = key.unflatten(2, GRID)
            entry = Entry(t, maps, key / CHANNELS**0.5, maps[:, :1], ids)
            if t == 0:
                fast.pin(entry, 0)
                plain.pin(0, key)
                continue
            fast.read(Query(asked.unflatten(1, GRID), asked, None), ids, top_k)
            theirs = plain.offer(t, key, plain.affinity(asked, top_k) if aligned else None)
            ours = fast.offer(entry, t)
            assert agree(ours, theirs), (seed, t, ours, theirs)
            assert list(fast.stored) == plain.frames
            np.testing.assert_allclose(fast.gram, plain.gram, atol=2e-5)
            if ours.reason != "interval":
                assert log_gap(ours, theirs) < 1e-3, (seed, t, ours, theirs)
            reasons[ours.reason] = reasons.get(ours.reason, 0) + 1
    assert {"filled", "replaced", "no gain"} <= set(reasons), reasons
    if top_k is not None:
        assert "lower bound" in reasons


def test_alignment_moves_positions_and_takes_the_first_where_nothing_was_read() -> None:
    keys = torch.arange(6.0).view(1, 2, 3)
    weights = torch.tensor([[[0.0, 0.0, 0.2], [0.0, 0.0, 0.0], [0.7, 0.0, 0.1]]])
    assert torch.equal(align(keys, weights), keys[:, :, [2, 0, 0]])
    best = softmax_of_best(torch.tensor([[1.0], [3.0], [2.0]]), 2)
    assert best[0] == 0
    assert best.sum() == pytest.approx(1.0)
    assert similarity(keys, keys) == 1.0
    assert similarity(keys[:, :, :1], -keys[:, :, :1]) == -1.0


def test_disagreement_is_seen() -> None:
    memory, other = PlainReadMem(2, 1, -1.0), PlainReadMem(2, 1, -1.0)
    keys, _ = sequence(1, 0, 3)
    for one in (memory, other):
        one.pin(0, keys[0])
    same, off = memory.offer(1, keys[1]), other.offer(1, keys[2])
    assert agree(same, off)
    assert log_gap(same, off) > 1e-6
    assert log_gap(same, same) == 0.0
    assert not agree(same, replace(off, replaced=0))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MiVOS(MiVOSConfig.small()).eval()
    return bench_memory(net=net, size=(96, 128), slots=4, rounds=3, trials=3, device="cpu", precision="fp32")


def test_the_memory_benchmark_compares_equal_decisions(measured: dict[str, Any]) -> None:
    assert measured["decisions"] == 3
    assert measured["decisions_differ"] == 0
    assert measured["log_gram_difference"] < 1e-3
    assert measured["grid"] == [6, 8]


def test_the_memory_benchmark_reports_what_it_measured(measured: dict[str, Any]) -> None:
    assert json.loads(json.dumps(measured)) == measured
    frame, offer, plain, again = (measured[k] for k in ("frame_ms", "offer_ms", "plain_ms", "repeated_ms"))
    assert 0 < measured["readmem_offer_over_frame"] < 1
    assert measured["readmem_offer_over_frame"] >= max(o / f for o, f in zip(offer, frame, strict=True)) - 1e-9
    assert measured["plain_over_readmem"] == pytest.approx(min(p / a for p, a in zip(plain, again, strict=True)))
    assert measured["readmem_fps"] == pytest.approx(1000 / frame[0])


def test_numbers_that_cannot_be_measured_are_refused() -> None:
    with pytest.raises(InputError, match="slots is 1"):
        bench_memory(slots=1)
    with pytest.raises(InputError, match="rounds is 0"):
        bench_memory(rounds=0)
    with pytest.raises(InputError, match="frames is 20"):
        bench_flat(frames=20)


def test_a_short_run_stays_flat() -> None:
    found = bench_flat(frames=140, size=(64, 96), memory_options={"slots": 4}, device="cpu", precision="fp32")
    assert json.loads(json.dumps(found))["frames"] == 140
    assert sum(found["kept"].values()) == 140
    assert found["kept"]["replaced"] > 0
    assert found["entries"] <= 5
    assert [t for t, _ in found["points"]][-1] == 139
    assert found["early"] == [7, 14]
    assert found["late"] == [133, 140]
    assert found["times"] == pytest.approx(found["ms"][1] / found["ms"][0])
    if found["spread_mb"] is None:
        pytest.skip("this system does not tell the resident memory")
    assert found["spread_mb"] < 10
    assert abs(found["growth_mb"]) <= found["spread_mb"]
