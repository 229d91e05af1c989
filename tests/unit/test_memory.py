from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyvos.backbones.base import Entry, Query
from lazyvos.memory import FifoMemory, Interval, Memory, QdmnBank, ReadMem, Unbounded, Want
from lazyvos.memory.associate import associate, from_top_k
from lazyvos.memory.bank import Bank
from lazyvos.memory.gram import aligned_similarity, log_abs_det, replaced, replacement_log_dets
from lazyvos.memory.read import Part, block_top_k, pad_length, read_values

torch.set_num_threads(1)
CHANNELS, GRID = 3, (2, 3)
AREA = GRID[0] * GRID[1]
quick = settings(max_examples=15, deadline=None)


def entry(t: int, objects: tuple[int, ...] = (1,), shared: bool = True, seed: int = 0, spread: float = 0.7) -> Entry:
    """A frame whose keys resemble those of every other one; values are those of (t, object) alone."""
    groups = [0] if shared else list(objects)
    keys = []
    for group in groups:
        common = torch.randn(CHANNELS, *GRID, generator=torch.Generator().manual_seed(1000 * seed + group))
        own = torch.randn(CHANNELS, *GRID, generator=torch.Generator().manual_seed(7919 * seed + 31 * t + group + 1))
        keys.append(common + spread * own)
    key = torch.stack(keys)
    value = torch.stack([torch.full((2, *GRID), float(100 * t + identity)) for identity in objects])
    return Entry(t, key, key.flatten(2) / CHANNELS**0.5, value, objects)


def query(t: int, seed: int = 0) -> Query:
    key = entry(t, seed=seed).key[0]
    return Query(key, 3 * key.flatten(1), None)


def small(**settings: Any) -> ReadMem:
    return ReadMem(**{"slots": 4, "every": 1, "lower_bound": 0.0, **settings})


# Reading.


@quick
@given(st.integers(1, 5), st.integers(1, 700), st.integers(1, 12), st.integers(0, 99), st.booleans())
def test_block_top_k_is_top_k(rows: int, length: int, k: int, seed: int, ties: bool) -> None:
    scores = torch.randn(rows, length, generator=torch.Generator().manual_seed(seed))
    scores = (scores * 4).round() if ties else scores
    values, index = block_top_k(scores, k)
    wanted = scores.topk(min(k, length), 1)
    assert torch.equal(values, wanted.values)
    assert torch.equal(scores.gather(1, index), values)
    assert all(len(set(row.tolist())) == values.shape[1] for row in index)


def test_block_top_k_searches_few_blocks() -> None:
    scores = torch.randn(3, 64 * 100, generator=torch.Generator().manual_seed(1))
    assert pad_length(scores.shape[1]) == scores.shape[1]
    scores[0, 640:670] += 100  # all the largest in one block
    scores[1] = torch.arange(6400.0)
    values, index = block_top_k(scores, 30)
    assert torch.equal(index, scores.topk(30, 1).indices)
    assert torch.equal(values, scores.topk(30, 1).values)


def naive(address: torch.Tensor, queries: torch.Tensor, values: torch.Tensor, top_k: int | None) -> torch.Tensor:
    """``[M, C]``, ``[C, Q]``, ``[M, C_v]`` give ``[Q, C_v]``, by the definition."""
    scores = address.double() @ queries.double()
    if top_k is not None:
        kept = scores.topk(min(top_k, len(scores)), 0)
        scores = torch.full_like(scores, -torch.inf).scatter_(0, kept.indices, kept.values)
    return (scores.softmax(0).T @ values.double()).float()


@quick
@given(st.integers(1, 6), st.sampled_from([None, 1, 3, 200]), st.integers(400, 9000), st.integers(0, 50))
def test_tiled_read_is_the_definition(entries: int, top_k: int | None, tile_bytes: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    area, capacity = 11, 8
    slots = torch.randperm(capacity, generator=rng)[:entries].tolist()
    address = torch.randn(entries * area, 5, generator=rng)
    queries = torch.randn(5, 17, generator=rng)
    values = torch.randn(3, capacity, area, 4, generator=rng)
    parts = [Part((0, 2), tuple(range(entries))), Part((1,), tuple(range(entries // 2, entries)))]
    out = torch.zeros(3, 17, 4)
    read_values(address, queries, values, slots, parts, top_k, out, tile_bytes=tile_bytes)
    for part in parts:
        rows = torch.cat([address[i * area : (i + 1) * area] for i in part.entries])
        for row in part.rows:
            mine = torch.cat([values[row, slots[i]] for i in part.entries])
            torch.testing.assert_close(out[row], naive(rows, queries, mine, top_k), rtol=1e-4, atol=1e-5)


def test_read_keeps_full_precision_under_autocast() -> None:
    memory = FifoMemory(3, 1)
    for t in range(3):
        (memory.pin if t == 0 else memory.offer)(entry(t, (1, 2)), t)
    plain = memory.read(query(5), (1, 2), 4).value
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        assert torch.equal(memory.read(query(5), (1, 2), 4).value, plain)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("top_k", [None, 3])
def test_late_objects_never_read_entries_without_them(shared: bool, top_k: int | None) -> None:
    memory = FifoMemory(6, 1, adjacent=True)
    memory.pin(entry(0, (1,), shared), 0)
    memory.offer(entry(1, (1,), shared), 1)
    memory.pin(entry(2, (1, 2), shared), 2)
    memory.offer(entry(3, (1, 2), shared), 3)
    one, two = memory.read(query(4), (1, 2), top_k).value.flatten(1)
    assert two.min() >= 200 + 2 - 1e-3
    assert two.max() <= 300 + 2 + 1e-3
    assert one.min() < 200  # the first object reads all four frames
    assert torch.equal(memory.read(query(4), (2,), top_k).value.flatten(), two)
    stored = [entry(t, (1, 2) if t > 1 else (1,), shared) for t in range(4)]
    rows = torch.cat([e.address[0].T for e in stored])
    values = torch.cat([e.value[0].flatten(1).T for e in stored])
    torch.testing.assert_close(one.view(2, AREA).T, naive(rows, query(4).address, values, top_k))


def test_unknown_objects_and_other_sizes_are_refused() -> None:
    memory = FifoMemory(3, 1)
    with pytest.raises(ValueError, match="object 1 has no frame"):
        memory.read(query(0), (1,), 3)
    memory.pin(entry(0), 0)
    with pytest.raises(ValueError, match="object 2 has no frame"):
        memory.read(query(0), (1, 2), 3)
    with pytest.raises(ValueError, match="object 2 has no frame"):
        memory.drop(2)
    key = torch.zeros(1, CHANNELS, 5, 5)
    with pytest.raises(ValueError, match="5x5"):
        memory.offer(Entry(1, key, key.flatten(2), torch.zeros(1, 2, 5, 5), (1,)), 1)
    with pytest.raises(ValueError, match="grid"):
        memory.read(Query(key[0], key[0].flatten(1), None), (1,), 3)
    assert memory.frames() == (0,)


# Storing.


def test_bank_grows_and_keeps_what_it_holds() -> None:
    bank = Bank(None, keep_keys=True)
    for t in range(40):
        bank.insert(entry(t, (1,) if t < 20 else (1, 2, 3), shared=False))
    assert bank.values.shape[1] >= 40
    for slot, t in bank.frames.items():
        stored = entry(t, (1,) if t < 20 else (1, 2, 3), shared=False)
        for i, identity in enumerate(stored.objects):
            assert torch.equal(bank.address(bank.row(identity), [slot]), stored.address[i].T)
            assert torch.equal(bank.keys(bank.row(identity), [slot]), stored.key[i].flatten(1).T)
            assert torch.equal(bank.values[bank.row(identity), slot], stored.value[i].flatten(1).T)
    assert [bank.frames[s] for s in bank.slots()] == list(range(40))


def test_bank_replaces_deletes_and_drops() -> None:
    bank = Bank(2)
    first, second = bank.insert(entry(0, (1,))), bank.insert(entry(1, (1, 2)))
    with pytest.raises(ValueError, match="all 2 slots"):
        bank.insert(entry(2))
    assert bank.insert(entry(1, (2,))) == second
    assert bank.held(second) == {1, 2}
    bank.replace(second, entry(3, (2,)))
    assert bank.held(second) == {2}
    assert bank.slot_of(1) is None
    assert bank.drop(1) == (first,)
    assert bank.live == (2,)
    assert bank.insert(entry(4, (7, 2))) == first
    assert bank.live == (2, 7)
    assert torch.equal(bank.values[bank.row(7), first], entry(4, (7,)).value[0].flatten(1).T)
    bank.delete(first)
    assert len(bank) == 1


def test_buffers_are_not_reallocated_by_a_full_memory() -> None:
    memory = small(every=2)
    memory.pin(entry(0, (1, 2)), 0)
    place = memory._bank.values.data_ptr()
    for t in range(1, 30):
        memory.read(query(t), (1, 2), 4)
        memory.offer(entry(t, (1, 2)), t)
    assert memory._bank.values.data_ptr() == place
    assert memory._bank.values.shape[1] == 5


def test_interval() -> None:
    assert [t for t in range(20) if Interval(5, False).admits(t, 3)] == [0, 5, 10, 15]
    assert [t for t in range(4, 12) if Interval(5).admits(t, 4)] == [9, 10, 11]
    assert Interval(5).admits(3, None)
    with pytest.raises(ValueError, match="every is 0"):
        Interval(0)


def test_unbounded_never_forgets() -> None:
    memory = Unbounded(3)
    for t in range(31):
        if t == 0:
            memory.pin(entry(t), t)
        elif memory.wants(t) is Want.REGULAR:
            memory.offer(entry(t), t)
        else:
            assert memory.wants(t) is Want.NO
    assert memory.frames() == tuple(range(0, 31, 3))
    assert isinstance(memory, Memory)


def test_a_forced_frame_enters_at_once_and_restarts_the_interval() -> None:
    memory = FifoMemory(3, 5)
    memory.pin(entry(0), 0)
    assert memory.offer(entry(2), 2).reason == "interval"
    decision = memory.offer(entry(2), 2, force=True)
    assert decision.kept
    assert decision.reason == "forced"
    assert decision.slot == 1
    assert memory.wants(6) is Want.NO
    assert memory.wants(7) is Want.REGULAR
    assert memory.offer(entry(2), 2, force=True).reason == "rewritten"
    assert memory.frames() == (0, 2)


@quick
@given(
    st.sampled_from(["fifo", "readmem", "copies", "fixed"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(["offer", "force", "late", "drop", "again"]), min_size=5, max_size=15),
    st.integers(0, 20),
)
def test_bounds_and_pins_hold_whatever_happens(
    kind: str, shared: bool, adjacent: bool, acts: list[str], seed: int
) -> None:
    """N is never exceeded, the annotated frame stays, every object can be read, and only from entries that hold it."""
    slots = 4
    start = "annotated_copies" if kind == "copies" else "every_t"
    memory = (
        FifoMemory(slots, 1, adjacent=adjacent)
        if kind == "fifo"
        else ReadMem(slots=slots, every=1, adjacent=adjacent, lower_bound=-1.0, initialisation=start, reference="fixed" if kind == "fixed" else "query")
    )
    objects: tuple[int, ...] = (1,)
    first = {1: 0}
    memory.pin(entry(0, objects, shared, seed), 0)
    for t, act in enumerate(acts, 1):
        out = memory.read(query(t, seed), objects, 3)
        if act == "late" and len(objects) < 3:
            objects = (*objects, max(objects) + 1)
            first[objects[-1]] = t
            memory.pin(entry(t, objects, shared, seed), t)
        elif act == "drop" and len(objects) > 1:
            memory.drop(objects[-1])
            objects = objects[:-1]
        else:
            decision = memory.offer(entry(t, objects, shared, seed), t, force=act == "force")
            assert decision.kept or act != "force"
            if act == "again":
                memory.offer(entry(t, objects, shared, seed), t, force=True)
        frames = memory.frames()
        assert len(frames) == len(set(frames)) <= slots + adjacent
        assert frames[0] == 0
        assert 0 in memory.pinned
        assert len(memory.stored) <= slots
        assert {first[identity] for identity in objects} <= memory.pinned
        out = memory.read(query(t, seed), objects, 3)
        for identity, value in zip(objects, out.value, strict=True):
            assert value.min() >= 100 * first[identity] + identity - 1e-2
        if isinstance(memory, ReadMem):
            assert memory.gram.shape == (len(memory.stored),) * 2
            np.testing.assert_array_equal(memory.gram, memory.gram.T)


def test_too_many_late_objects_give_up_the_middle_pins_only() -> None:
    for memory in (FifoMemory(3, 1), small(slots=3)):
        for t in range(5):
            memory.pin(entry(t, tuple(range(1, t + 2))), t)
        assert len(memory.stored) == 3
        assert memory.stored[0] == 0
        assert memory.stored[-1] == 4
    alone = FifoMemory(2, 1)
    alone.pin(entry(0, (1,)), 0)
    alone.pin(entry(1, (2,)), 1)
    with pytest.raises(ValueError, match="at least 3 slots"):
        alone.pin(entry(2, (3,)), 2)
    assert alone.frames() == (0, 1)


@pytest.mark.parametrize(("reference", "divisor"), [("annotated", 0.5), ("first predicted", 0.8)])
def test_qdmn_quality_is_relative_to_the_named_frame(reference: str, divisor: float) -> None:
    """``first predicted`` is the rule for YouTube-VOS; that frame need not be stored itself."""
    bank = QdmnBank(5, 2, minimum=0.0, reference=reference)

    def scored(t: int, quality: float) -> Entry:
        one = entry(t)
        return Entry(t, one.key, one.address, one.value, one.objects, torch.tensor([quality]))

    bank.pin(scored(0, 0.5), 0)
    for t, quality in ((1, 0.8), (2, 0.4), (3, 0.9), (4, 0.6)):
        bank.offer(scored(t, quality), t)
    assert bank.quality[2] == pytest.approx(0.4 / divisor)
    assert bank.quality[4] == pytest.approx(0.6 / divisor)
    with pytest.raises(ValueError, match="reference is 'none'"):
        QdmnBank(reference="none")


# READMem.


@quick
@given(st.integers(2, 7), st.integers(0, 10_000), st.sampled_from(["any", "singular", "copy", "nearly"]))
def test_replacement_determinants(size: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(size + 1, size + 2))
    if kind == "singular":
        points[1] = points[0]
    if kind == "nearly":
        points[1] = points[0] + 1e-9 * rng.normal(size=size + 2)
    if kind == "copy":
        points[-1] = points[0]
    gram = points[:-1] @ points[:-1].T
    row, own = points[:-1] @ points[-1], float(points[-1] @ points[-1])
    found = 10 ** replacement_log_dets(gram, row, own)
    wanted = [abs(np.linalg.det(replaced(gram, n, row, own))) for n in range(size)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9 * max(wanted))


def test_singular_gram_is_minus_infinity() -> None:
    assert log_abs_det(np.ones((3, 3))) == -np.inf
    assert log_abs_det(np.diag([10.0, 10.0])) == pytest.approx(2)


@quick
@given(st.integers(0, 500), st.booleans(), st.sampled_from(["column argmax", None]), st.sampled_from(["cosine", "dot"]))
def test_diversity_never_falls(seed: int, shared: bool, transition: str | None, similarity: str) -> None:
    memory = small(transition=transition, similarity=similarity, lower_bound=-1e9)
    objects = (1, 2)
    memory.pin(entry(0, objects, shared, seed), 0)
    full = False
    for t in range(1, 12):
        memory.read(query(t, seed), objects, 5)
        decision = memory.offer(entry(t, objects, shared, seed), t)
        if full and decision.log_gram_before is not None and decision.log_gram_after is not None:
            assert decision.log_gram_after >= decision.log_gram_before - 1e-9
            assert decision.kept == (decision.reason == "replaced") == (decision.replaced is not None)
        full = len(memory.stored) == 4
        assert decision.replaced != 0
    assert full


@quick
@given(st.integers(0, 500), st.booleans(), st.sampled_from([ReadMem, FifoMemory, partial(ReadMem, reference="fixed")]))
def test_permuting_objects_changes_nothing(seed: int, shared: bool, kind: Callable[..., Any]) -> None:
    there, back = (1, 2, 3), (3, 1, 2)
    memories = [kind(slots=3, every=1), kind(slots=3, every=1)]
    for t in range(8):
        for memory, objects in zip(memories, (there, back), strict=True):
            if t:
                memory.read(query(t, seed), objects, 4)
            (memory.offer if t else memory.pin)(entry(t, objects, shared, seed), t)
    assert memories[0].stored == memories[1].stored
    one, two = memories[0].read(query(9, seed), there, 4).value, memories[1].read(query(9, seed), back, 4).value
    torch.testing.assert_close(one, two[[1, 2, 0]], rtol=1e-6, atol=1e-6)


def test_forced_frame_takes_the_best_slot_and_never_the_annotated() -> None:
    memory = small(lower_bound=0.99)
    for t in range(4):
        memory.offer(entry(t, spread=0.05), t)
    assert memory.stored == (0, 1, 2, 3)
    odd = entry(9, seed=5, spread=3.0)
    assert memory.offer(odd, 9).reason == "lower bound"
    memory.read(query(10), (1,), 5)
    decision = memory.offer(entry(10, seed=5, spread=3.0), 10, force=True)
    assert decision.kept
    assert decision.reason == "forced"
    assert decision.slot == 3
    assert decision.replaced in (1, 2, 3)
    assert memory.stored[0] == 0
    assert memory.stored[-1] == 10


@pytest.mark.parametrize("make", [lambda: FifoMemory(3, 1), lambda: small(slots=3, lower_bound=-1.0)])
def test_a_pin_ends_with_its_object(make: Any) -> None:
    memory = make()
    memory.pin(entry(0), 0)
    memory.pin(entry(1, (1, 2)), 1)
    for t in range(2, 12):
        memory.offer(entry(t, (1, 2)), t, force=True)
        assert memory.stored[0] == 0
        assert 1 in memory.stored
    memory.drop(2)
    assert memory.pinned == {0}
    for t in range(12, 30):
        memory.offer(entry(t), t, force=True)
    assert 0 in memory.stored
    assert (1 not in memory.stored or isinstance(memory, ReadMem))


def test_an_old_read_does_not_align_a_later_frame() -> None:
    one, two = small(lower_bound=-1.0), small(lower_bound=-1.0, transition=None)
    for memory in (one, two):
        memory.pin(entry(0), 0)
        memory.read(query(1), (1,), 5)
        memory.offer(entry(1), 1)
    assert not np.array_equal(one.similarities, two.similarities)
    for memory in (one, two):
        memory.offer(entry(2), 2)
    np.testing.assert_array_equal(one.similarities, two.similarities)


def test_annotated_copies_are_replaced_first() -> None:
    memory = small(initialisation="annotated_copies", lower_bound=-1.0)
    memory.pin(entry(0), 0)
    assert memory.frames() == (0,)
    assert memory.gram.shape == (4, 4)
    assert log_abs_det(memory.gram) == -np.inf
    for t in range(1, 4):
        memory.read(query(t), (1,), 5)
        assert memory.offer(entry(t), t).reason == "filled"
        assert memory.frames() == tuple(range(t + 1))
    assert memory.stored == (0, 1, 2, 3)
    assert log_abs_det(memory.gram) > -np.inf


def test_a_rewritten_frame_renews_its_row() -> None:
    memory = small(transition=None, similarity="dot")
    for t in range(3):
        memory.offer(entry(t), t)
    memory.offer(entry(1, seed=3), 1, force=True)
    keys = [entry(0).key, entry(1, seed=3).key, entry(2).key]
    wanted = [[float((a * b).sum()) for b in keys] for a in keys]
    np.testing.assert_allclose(memory.gram, wanted, atol=1e-4)
    assert memory.stored == (0, 1, 2)


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("transition", ["column argmax", "row argmax", "hungarian"])
@pytest.mark.parametrize("affinity", ["W", "A"])
@pytest.mark.parametrize("empty", ["first", "zero", "affinity"])
def test_association_is_the_definition(top_k: int | None, transition: str, affinity: str, empty: str) -> None:
    from scipy.optimize import linear_sum_assignment

    rng = torch.Generator().manual_seed(3)
    address, queries = torch.randn(5 * AREA, 4, generator=rng), torch.randn(4, AREA, generator=rng)
    scores = (address @ queries).double()
    weights = scores.softmax(0)
    if top_k:
        kept = scores.topk(top_k, 0)
        weights = torch.zeros_like(scores).scatter_(0, kept.indices, kept.values.softmax(0))
    found = associate(address, queries, 5, top_k, transition, affinity, empty)
    assert found.shape == (5, AREA)
    empties = 0
    for i, index in enumerate(found):
        w, a = (m[i * AREA : (i + 1) * AREA].numpy() for m in (weights, scores))
        table = w if affinity == "W" else a
        if transition == "hungarian":
            assert sorted(index.tolist()) == list(range(AREA))
            rows, columns = linear_sum_assignment(table, maximize=True)
            assert table[index.numpy(), np.arange(AREA)].sum() == pytest.approx(table[rows, columns].sum(), abs=1e-5)
            continue
        axis = 0 if transition == "column argmax" else 1
        wanted = table.argmax(axis)
        void = (table == 0).all(axis)
        empties += int(void.sum())
        wanted = np.where(void, {"first": 0, "zero": -1, "affinity": a.argmax(axis)}[empty], wanted)
        np.testing.assert_array_equal(index.numpy(), wanted)
    if top_k and affinity == "W" and transition != "hungarian":
        assert empties > 0
    if top_k and transition == "column argmax" and affinity == "W" and empty == "zero":
        assert torch.equal(from_top_k(scores.float().T.topk(top_k, 1).indices, 5, AREA), found)


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("affinity", ["W", "A"])
@pytest.mark.parametrize("empty", ["zero", "affinity"])
def test_rows_that_add_up(top_k: int | None, affinity: str, empty: str) -> None:
    """``row argmax sum``: K̂ = K T with T(i, j) = 1 where j is the argmax of row i; a row of zeros stays one."""
    rng = torch.Generator().manual_seed(4)
    address, queries = torch.randn(2 * AREA, 4, generator=rng), torch.randn(4, AREA, generator=rng)
    store, key = torch.randn(3, AREA, CHANNELS, generator=rng), torch.randn(AREA, CHANNELS, generator=rng)
    scores = address @ queries
    weights = scores.softmax(0)
    if top_k:
        kept = scores.topk(top_k, 0)
        weights = torch.zeros_like(scores).scatter_(0, kept.indices, kept.values.softmax(0))
    found = associate(address, queries, 2, top_k, "row argmax sum", affinity, empty)
    got = aligned_similarity(store, [2, 0], key, found, cosine=False, add=True, decimals=None)
    for i, slot in enumerate((2, 0)):
        w, a = weights[i * AREA : (i + 1) * AREA], scores[i * AREA : (i + 1) * AREA]
        table = a if affinity == "A" else w
        transition = torch.nn.functional.one_hot(table.argmax(1), AREA).float()
        void = (table == 0).all(1)
        transition[void] = torch.nn.functional.one_hot(a.argmax(1), AREA).float()[void] if empty == "affinity" else 0
        assert got[i] == pytest.approx(float(((store[slot].T @ transition).T * key).sum()), abs=1e-4)
    whole = small(transition="row argmax sum", empty_column=empty, affinity=affinity)
    whole.pin(entry(0), 0)
    for t in range(1, 8):
        whole.read(query(t), (1,), top_k)
        whole.offer(entry(t), t)
    assert len(whole.stored) == 4


@quick
@given(st.booleans(), st.integers(0, 99), st.sampled_from(["index", "zero", "none"]), st.booleans())
def test_aligned_similarity_is_that_of_the_gathered_keys(cosine: bool, seed: int, kind: str, half: bool) -> None:
    rng = torch.Generator().manual_seed(seed)
    store, key = torch.randn(5, AREA, CHANNELS, generator=rng), torch.randn(AREA, CHANNELS, generator=rng)
    store = store.half() if half else store
    index = torch.randint(-1 if kind == "zero" else 0, AREA, (2, AREA), generator=rng)
    got = aligned_similarity(store, [4, 1], key, None if kind == "none" else index, cosine, zero=True)
    for i, slot in enumerate((4, 1)):
        stored = store[slot].double()
        moved = stored if kind == "none" else stored[index[i].clamp(min=0)] * (index[i] >= 0).unsqueeze(1)
        wanted = float((moved * key.double()).sum())
        if cosine:
            wanted /= max(1e-8, float(moved.norm() * key.double().norm()))
        assert got[i] == pytest.approx(wanted, abs=2e-5)


@quick
@given(
    st.booleans(), st.sampled_from(["cosine", "dot"]), st.integers(0, 500),
    st.lists(st.sampled_from(["offer", "offer", "late", "drop", "again", "unread"]), min_size=4, max_size=14),
)  # fmt: skip
def test_fixed_reference_gives_a_true_gram_matrix(shared: bool, similarity: str, seed: int, acts: list[str]) -> None:
    """Γ is positive semi-definite and symmetric, |Γ| never falls, with objects that come and go."""
    memory = small(reference="fixed", similarity=similarity, lower_bound=-1e9)
    objects: tuple[int, ...] = (1,)
    memory.pin(entry(0, objects, shared, seed), 0)
    for t, act in enumerate(acts, 1):
        if act != "unread":
            memory.read(query(t, seed), objects, 5)
        if act == "late" and len(objects) < 3:
            objects = (*objects, max(objects) + 1)
            memory.pin(entry(t, objects, shared, seed), t)
        elif act == "drop" and len(objects) > 1:
            memory.drop(objects[-1])
            objects = objects[:-1]
        else:
            decision = memory.offer(entry(t, objects, shared, seed), t, force=act == "again")
            if decision.reason in ("replaced", "no gain"):
                assert decision.log_gram_before is not None
                assert decision.log_gram_after is not None
                assert decision.log_gram_after >= decision.log_gram_before - 1e-9
            if act == "again":
                memory.offer(entry(t, objects, shared, seed + 1), t, force=True)
        gram = memory.gram
        np.testing.assert_array_equal(gram, gram.T)
        assert np.linalg.eigvalsh(gram).min() >= -1e-5 * np.abs(gram).max()
        if similarity == "cosine" and (shared or len(objects) == 1):
            np.testing.assert_allclose(np.diag(gram), 1, atol=1e-6)


def test_fixed_reference_projects_each_key_once() -> None:
    memory = small(reference="fixed", similarity="dot", lower_bound=-1e9, slots=5)
    memory.pin(entry(0), 0)
    moved = [entry(0).key[0].flatten(1)]
    for t in range(1, 4):
        memory.read(query(t), (1,), 2)
        memory.offer(entry(t), t)
        best = (entry(0).address[0].T @ query(t).address).argmax(1)  # for each position of frame 0
        moved.append(entry(t).key[0].flatten(1)[:, best])
    wanted = [[float((one * other).sum()) for other in moved] for one in moved]
    np.testing.assert_allclose(memory.gram, wanted, atol=1e-4)
    plain = small(reference="fixed", transition=None, similarity="dot", lower_bound=-1e9, slots=5)
    for t in range(4):
        if t:
            plain.read(query(t), (1,), 2)
        plain.offer(entry(t), t)
    wanted = [[float((entry(a).key * entry(b).key).sum()) for a in range(4)] for b in range(4)]
    np.testing.assert_allclose(plain.gram, wanted, atol=1e-4)


def test_each_candidate_is_what_its_replacement_would_give() -> None:
    memory = small(slots=4)
    for t in range(4):
        memory.read(query(t), (1,), 5) if t else None
        assert memory.offer(entry(t), t).reason == "filled"
        assert memory.candidates == {}
    for t in range(4, 9):
        memory.read(query(t), (1,), 5)
        before, stored = memory.gram, memory.stored
        decision = memory.offer(entry(t), t)
        row = np.asarray(memory.similarities)
        wanted = {f: log_abs_det(replaced(before, n, row[:-1], row[-1])) for n, f in enumerate(stored)}
        assert memory.candidates == pytest.approx(wanted, abs=1e-6)
        assert decision.log_gram_before == pytest.approx(log_abs_det(before))
        best = max(f for f in list(stored)[1:] if wanted[f] == max(wanted[g] for g in list(stored)[1:]))
        assert decision.kept == (wanted[best] >= log_abs_det(before))
        assert decision.replaced == (best if decision.kept else None)
        assert decision.log_gram_after == pytest.approx(max(wanted[best], log_abs_det(before)), abs=1e-6)


def test_every_offer_says_how_diverse_the_memory_is() -> None:
    memory = small(every=3)
    assert memory.pin(entry(0), 0).log_gram_after == pytest.approx(0)
    for t in range(1, 25):
        decision = memory.offer(entry(t), t)
        assert decision.log_gram_after is not None
        assert decision.log_gram_before is not None
        assert decision.log_gram_after == pytest.approx(log_abs_det(memory.gram))
        assert decision.kept or decision.log_gram_before == decision.log_gram_after
        assert decision.milliseconds > 0


@pytest.mark.parametrize("shared", [True, False])
def test_the_dynamic_bound_falls_where_the_latest_frames_differ(shared: bool) -> None:
    objects = (1, 2)

    def walk(bound: float, frames: int, short: int = 3) -> tuple[ReadMem, Any]:
        memory = small(lsb="dynamic", short_term=short, transition=None, lower_bound=bound, slots=9, every=5)
        decision = None
        for t in range(frames):
            decision = memory.offer(entry(t, objects, shared), t)
        return memory, decision

    memory, _ = walk(-9.0, 6)
    keys = [entry(t, objects, shared).key.flatten(1).double() for t in (3, 4, 5)]
    cosine = [[float((a * b).sum(1).div(a.norm(dim=1) * b.norm(dim=1)).mean()) for b in keys] for a in keys]
    gamma = 1 - (cosine[0][1] + cosine[0][2] + cosine[1][2]) / 3
    own = float(np.asarray(memory.similarities)[0])
    assert walk(own + gamma - 1e-4, 6)[1].kept
    assert not walk(own + gamma + 1e-4, 6)[1].kept
    assert walk(own - 1e-4, 6, short=1)[1].kept  # one frame, as published: nothing is lowered
    assert not walk(own + 1e-4, 6, short=1)[1].kept


@pytest.mark.parametrize("bound", ["annotated", "ensemble max", "ensemble mean", "last", "annotated+last", "annotated+max"])
def test_lower_bound_rules_use_stored_entries_only(bound: str) -> None:
    memory = small(lsb=bound, transition=None, lower_bound=-1.0, annotated_weight=0.25)
    for t in range(3):
        memory.offer(entry(t), t)
    memory.offer(entry(3), 3)
    s = np.asarray(memory.similarities)[:-1]
    wanted = {
        "annotated": s[0],
        "ensemble max": s.max(),
        "ensemble mean": s.mean(),
        "last": s[-1],
        "annotated+last": 0.25 * s[0] + 0.75 * s[-1],
        "annotated+max": 0.25 * s[0] + 0.75 * s.max(),
    }[bound]
    for step, kept in ((-1e-6, True), (1e-6, False)):
        again = small(lsb=bound, transition=None, lower_bound=wanted + step, annotated_weight=0.25)
        again.load_state({**_after(3)})
        assert again.offer(entry(3), 3).kept is kept


def _after(count: int) -> dict[str, object]:
    memory = small(transition=None, lower_bound=-1.0)
    for t in range(count):
        memory.offer(entry(t), t)
    return memory.state()


# Going back.


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: small(every=2, flexible=True),
        lambda: small(reference="fixed"),
        lambda: small(lsb="dynamic", short_term=3, lower_bound=0.9),
        lambda: FifoMemory(4, 2, adjacent=True),
        lambda: Unbounded(2),
    ],
    ids=["readmem", "fixed", "dynamic", "fifo", "unbounded"],
)
def test_a_saved_memory_goes_on_as_if_nothing_had_happened(make: Any, shared: bool) -> None:
    def walk(memory: Any, frames: range) -> list[Any]:
        seen: list[Any] = []
        for t in frames:
            if t:
                seen.append(memory.read(query(t), (1, 2), 4).value)
            if t == 6:  # between a read and the offer that builds on it
                buffer = io.BytesIO()
                torch.save(memory.state(), buffer)
                buffer.seek(0)
                seen.append(torch.load(buffer, weights_only=True))
            decision = memory.offer(entry(t, (1, 2), shared), t)
            seen.append((decision.kept, decision.reason, decision.replaced, memory.frames()))
        return seen

    memory = make()
    seen = walk(memory, range(14))
    at = next(i for i, x in enumerate(seen) if isinstance(x, dict))
    other = make()
    with torch.inference_mode():
        other.load_state(seen[at])
    first = other.offer(entry(6, (1, 2), shared), 6)
    again = [(first.kept, first.reason, first.replaced, other.frames()), *walk(other, range(7, 14))]
    assert len(again) == len(seen[at + 1 :])
    for one, two in zip(again, seen[at + 1 :], strict=True):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


def test_states_of_other_memories_are_refused() -> None:
    state = FifoMemory(4, 1).state()
    with pytest.raises(ValueError, match="'fifo' memory"):
        ReadMem().load_state(state)
    big = FifoMemory(6, 1)
    for t in range(6):
        big.offer(entry(t), t)
    with pytest.raises(ValueError, match="6 entries"):
        FifoMemory(4, 1).load_state(big.state())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": 1}, "slots is 1"),
        ({"similarity": "l2"}, "similarity is 'l2'"),
        ({"transition": "none"}, "transition is 'none'"),
        ({"every": 0}, "every is 0"),
        ({"lower_bound": float("nan")}, "lower_bound is nan"),
        ({"reference": "frame"}, "reference is 'frame'"),
        ({"short_term": 0}, "short_term is 0"),
    ],
)
def test_bad_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReadMem(**settings)
    with pytest.raises(ValueError, match="at least 2"):
        FifoMemory(1)
    with pytest.raises(TypeError):
        ReadMem(slot=3)
