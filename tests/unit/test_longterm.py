"""XMem's memory manager and inference loop where no published number says what is right: small cases by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.xmem import XMem, XMemConfig, address_memory, address_query
from lazyvos.backbones.xmem_core import XMemCore
from lazyvos.geometry import MEAN, STD
from lazyvos.memory import LongTermMemory, Memory, Unbounded, Want
from lazyvos.tracker import Tracker

torch.set_num_threads(1)
C, GRID = 3, (1, 2)
HW = 2
ARRIVALS = {1: 0, 2: 3, 3: 6}  # object: frame


def parts(t: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Key ``[C, HW]``, shrinkage ``[1, HW]`` and selection ``[C, HW]`` of frame t."""
    rng = torch.Generator().manual_seed(t + 1)
    key = torch.randn(C, HW, generator=rng)
    return key, 1 + torch.rand(1, HW, generator=rng), torch.rand(C, HW, generator=rng)


def entry(t: int, objects: tuple[int, ...] = (1,)) -> Entry:
    """Values say what they are: (object, frame, position)."""
    key, shrinkage, selection = parts(t)
    value = torch.tensor([[[o, t, p] for p in range(HW)] for o in objects]).float().transpose(1, 2).unflatten(2, GRID)
    return Entry(
        t, key.view(1, C, *GRID), address_memory(key, shrinkage)[None], value, objects,
        shrinkage=shrinkage.view(1, 1, *GRID), query_address=address_query(key, selection)[None],
    )  # fmt: skip


def query(t: int) -> Query:
    key, _, selection = parts(t + 1000)
    return Query(key.view(C, *GRID), address_query(key, selection), None)


def present(t: int, arrivals: dict[int, int] = ARRIVALS) -> tuple[int, ...]:
    return tuple(o for o, first in arrivals.items() if first <= t)


def run(memory: LongTermMemory, frames: int, arrivals: dict[int, int] = ARRIVALS) -> LongTermMemory:
    """Read and store every frame."""
    for t in range(frames):
        if memory.objects:
            memory.read(query(t), memory.objects, 5)
        memory.offer(entry(t, present(t, arrivals)), t, force=True)
    return memory


class Oracle:
    """Section 3.3 of the paper position by position: plain lists of dicts, float64, similarities by their definition."""

    def __init__(self, max_frames: int, min_frames: int, prototypes: int) -> None:
        self.limits = max_frames, min_frames, prototypes
        self.long: list[dict[str, Any]] = []
        self.work: list[dict[str, Any]] = []
        self.groups: list[dict[str, Any]] = []  # objects, long values, work values (a list of [n, C_v] each)

    @staticmethod
    def similarity(m: dict[str, Any], q: dict[str, Any]) -> float:
        return float(-m["s"] * (q["e"] * (m["k"] - q["k"]) ** 2).sum() / C**0.5)

    def read(self, t: int, top_k: int, count: bool) -> dict[int, np.ndarray]:
        key, _, selection = (x.double().numpy() for x in parts(t + 1000))
        out: dict[int, list[np.ndarray]] = {}
        use = np.zeros(len(self.long) + len(self.work))
        for g, group in enumerate(self.groups):
            first_long, first_work = len(self.long) - len(group["long"]), len(self.work) - len(group["work"])
            memory = self.long[first_long:] + self.work[first_work:]
            values = group["long"] + group["work"]
            assert len(memory) == len(values)
            for p in range(HW):
                scores = np.array([self.similarity(m, {"k": key[:, p], "e": selection[:, p]}) for m in memory])
                best = np.argsort(-scores)[:top_k]
                weight = np.exp(scores[best]) / np.exp(scores[best]).sum()
                if g == 0:
                    use[best] += weight
                got = sum(w * values[i] for w, i in zip(weight, best, strict=True))
                for n, o in enumerate(group["objects"]):
                    out.setdefault(o, []).append(got[n])
        for m, u in zip(self.long + self.work, use, strict=True) if count else ():
            m["use"], m["life"] = m["use"] + u, m["life"] + 1
        return {o: np.stack(v) for o, v in out.items()}

    def add(self, t: int, objects: tuple[int, ...]) -> None:
        key, shrinkage, selection = (x.double().numpy() for x in parts(t))
        for p in range(HW):
            self.work.append({"k": key[:, p], "s": shrinkage[0, p], "e": selection[:, p], "use": 0.0, "life": 1e-7})
        known = [o for g in self.groups for o in g["objects"]]
        if set(objects) - set(known):
            self.groups.append({"objects": [o for o in objects if o not in known], "long": [], "work": []})
        for group in self.groups:
            group["work"] += [np.array([[o, t, p] for o in group["objects"]], float) for p in range(HW)]
        frames, stay, prototypes = self.limits
        if len(self.work) >= frames * HW:
            self.condense(stay, prototypes)

    def condense(self, stay: int, prototypes: int) -> None:
        cut = slice(HW, len(self.work) - stay * HW + HW)
        candidates = self.work[cut]
        order = sorted(range(len(candidates)), key=lambda i: -candidates[i]["use"] / candidates[i]["life"])[:prototypes]
        new: list[dict[str, Any]] = []
        for g, group in enumerate(self.groups):
            own = slice(HW, len(group["work"]) - stay * HW + HW)
            if g == 0 or len(group["work"]) > stay * HW + HW:
                values = group["work"][own]
                offset = len(candidates) - len(values)
                for i in order:
                    if i < offset:
                        continue
                    scores = np.array([self.similarity(m, candidates[i]) for m in candidates[offset:]])
                    weight = np.exp(scores) / np.exp(scores).sum()
                    group["long"].append(sum(w * v for w, v in zip(weight, values, strict=True)))
                    if g == 0:
                        s = float(sum(w * m["s"] for w, m in zip(weight, candidates, strict=True)))
                        new.append({"k": candidates[i]["k"], "s": s, "use": 0.0, "life": 1e-7})
            if len(group["work"]) >= stay * HW + HW:
                del group["work"][own]
        self.long += new
        del self.work[cut]


def test_several_groups_are_condensed_position_by_position_as_defined() -> None:
    memory, oracle = LongTermMemory(4, 2, 3, 1000, every=1), Oracle(4, 2, 3)
    for t in range(20):
        if memory.objects:
            # The read that counts is of everything: ties between positions that were never read have no defined order.
            for k, count in ((5, False), (1000, True)):
                wanted, got = oracle.read(t, k, count), memory.read(query(t), memory.objects, k)
                for o, value in zip(got.objects, got.value, strict=True):
                    np.testing.assert_allclose(value.flatten(1).T, wanted[o], rtol=2e-4, atol=2e-4)
        memory.offer(entry(t, present(t)), t, force=True)
        oracle.add(t, present(t))
        (store,) = memory.stores
        every = oracle.long + oracle.work
        assert store.long == len(oracle.long)
        np.testing.assert_allclose(store.key, np.stack([m["k"] for m in every]), atol=1e-6)
        np.testing.assert_allclose(store.shrinkage, [m["s"] for m in every], rtol=1e-4)
        np.testing.assert_allclose(store.usage, [m["use"] / m["life"] for m in every], rtol=1e-3, atol=1e-4)
        scaled = address_memory(store.key.T, store.shrinkage[None])
        np.testing.assert_allclose(store.address.T, scaled, rtol=1e-4, atol=1e-5)
        for group, other in zip(store.groups, oracle.groups, strict=True):
            assert list(group.objects) == other["objects"]
            assert group.long == len(other["long"])
            values = np.stack(other["long"] + other["work"]).transpose(1, 0, 2)
            np.testing.assert_allclose(group.value, values, rtol=1e-3, atol=1e-3)
    # The late groups are in the long-term memory too, with fewer prototypes than the first.
    longs = [g.long for g in store.groups]
    assert longs[0] > longs[1] > longs[2] > 0


def test_the_first_and_the_latest_frames_stay() -> None:
    memory = run(LongTermMemory(5, 3, 2, 100, every=1), 5, {1: 0})
    (store,) = memory.stores
    assert sorted(set(store.frame[store.long :].tolist())) == [0, 3, 4]
    assert set(store.frame[: store.long].tolist()) <= {1, 2}
    assert memory.frames()[-3:] == (0, 3, 4)
    assert (store.long, store.work) == (2, 3 * HW)


def test_a_late_group_with_one_candidate_frame_loses_it() -> None:
    # At t=3 object 2 has its frames 1, 2, 3: one more than stay.
    memory = run(LongTermMemory(4, 2, 3, 100, every=1), 4, {1: 0, 2: 1})
    first, late = memory.stores[0].groups
    assert (first.long, first.work) == (3, 2 * HW)
    assert (late.long, late.work) == (0, 2 * HW)
    assert late.value[0, :, 1].unique().tolist() == [1, 3]  # its own first frame and the latest


def test_a_late_group_that_is_too_short_stays_whole() -> None:
    memory = run(LongTermMemory(4, 2, 3, 100, every=1), 4, {1: 0, 2: 2})
    late = memory.stores[0].groups[1]
    assert (late.long, late.value[0, :, 1].unique().tolist()) == (0, [2, 3])


# Making room.


def filled(usage: list[float], arrivals: dict[int, int] | None = None) -> Any:
    """A store with as many long-term positions as ``usage`` and that usage."""
    memory = run(LongTermMemory(3, 2, len(usage), 100, every=1), 8, arrivals or {1: 0})
    store = memory.stores[0]
    assert store.long >= len(usage)
    store.evict(0)
    assert store.long == 0
    t = 8
    while store.long < len(usage):
        memory.offer(entry(t, memory.objects), t, force=True)
        t += 1
    store.use = torch.cat([torch.tensor(usage)[: store.long], store.use[store.long :]])
    store.life = torch.cat([torch.ones(store.long), store.life[store.long :]])
    return store


def test_ties_at_the_threshold_all_go() -> None:
    store = filled([0.1, 0.5, 0.3, 0.3])
    kept = store.key[[1]]
    store.evict(2)  # two must go; 0.1 and 0.3, and with it the other 0.3
    assert store.long == 1
    assert torch.equal(store.key[:1], kept)
    assert store.groups[0].long == 1
    assert store.usage[0] == 0.5
    assert len(store.key) == len(store.address) == len(store.frame) == store.groups[0].value.shape[1]


def test_nothing_goes_at_exactly_the_limit() -> None:
    store = filled([0.1, 0.5, 0.3, 0.3])
    before = store.key.clone()
    store.evict(4)
    assert store.long == 4
    assert torch.equal(store.key, before)


def test_equality_is_met_while_running() -> None:
    # Two prototypes at a time, room for six: at the third condensation the memory holds 6 - 2 exactly.
    memory = run(LongTermMemory(3, 2, 2, 6, every=1), 30, {1: 0})
    assert 2 <= memory.stores[0].long <= 6


def test_every_group_loses_its_values_at_evicted_positions() -> None:
    memory = run(LongTermMemory(4, 2, 3, 1000, every=1), 16)
    store = memory.stores[0]
    before = [(g.long, {tuple(v) for v in g.value[0, : g.long].tolist()}) for g in store.groups]
    keep = store.usage[: store.long] > store.usage[: store.long].kthvalue(4).values
    store.evict(store.long - 4)
    assert store.long == int(keep.sum())
    for group, (count, values) in zip(store.groups, before, strict=True):
        assert group.long == int(keep[len(keep) - count :].sum())
        assert {tuple(v) for v in group.value[0, : group.long].tolist()} <= values
        assert group.work == store.work
    memory.read(query(99), memory.objects, 5)


def test_memory_stays_within_its_limits_for_long() -> None:
    memory = LongTermMemory(4, 2, 3, 9, every=1)
    for t in range(120):
        run_one = present(t, {1: 0, 2: 5})
        if memory.objects:
            memory.read(query(t), memory.objects, 5)
        memory.offer(entry(t, run_one), t, force=True)
        (store,) = memory.stores
        assert store.long <= 9
        assert store.work < 4 * HW
        assert [g.value.shape[1] for g in store.groups] == sorted((g.value.shape[1] for g in store.groups), reverse=True)


def test_without_usage_counts_the_long_term_memory_is_read_but_may_not_fill_up() -> None:
    memory = run(LongTermMemory(4, 2, 3, 6, every=1, count_usage=False), 4, {1: 0})
    store = memory.stores[0]
    memory.read(query(50), (1,), 30)
    memory.wants(50)
    assert store.long == 3
    assert not store.use[: store.long].any()
    assert (store.life[: store.long] < 1e-6).all()
    assert (store.life[store.long :] >= 1).all()
    counted = run(LongTermMemory(4, 2, 3, 6, every=1), 4, {1: 0})
    assert torch.equal(counted.read(query(50), (1,), 30).value, memory.read(query(50), (1,), 30).value)
    for t in range(4, 7):
        memory.offer(entry(t), t, force=True)
    assert (store.long, store.work) == (6, 3 * HW)
    with pytest.raises(RuntimeError, match="count_usage"):
        memory.offer(entry(7), 7, force=True)
    assert (store.long, store.work) == (6, 3 * HW)


def test_without_long_term_memory_everything_stays() -> None:
    memory = run(LongTermMemory(2, 2, 3, 6, every=1, long_term=False), 9, {1: 0})
    assert memory.frames() == tuple(range(9))
    assert memory.stores[0].long == 0


# Limits.


def test_equal_limits_condense_one_frame_at_a_time() -> None:
    memory = run(LongTermMemory(2, 2, 2, 100, every=1), 6, {1: 0})
    (store,) = memory.stores
    assert sorted(set(store.frame[store.long :].tolist())) == [0, 5]
    assert store.long == 4 * 2


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"min_mid_term_frames": 1}, "min_mid_term_frames is 1"),
        ({"max_mid_term_frames": 3}, "below min_mid_term_frames"),
        ({"prototypes": 0}, "prototypes is 0"),
        ({"max_long_term": 100}, "max_long_term is 100"),
        ({"every": 0}, "every is 0"),
    ],
)
def test_limits_that_contradict_one_another_are_refused(settings: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        LongTermMemory(**settings)


# The protocol.


def test_it_is_a_memory_with_a_flexible_interval() -> None:
    memory = LongTermMemory(every=3)
    assert isinstance(memory, Memory)
    assert memory.wants(7) is Want.REGULAR
    memory.pin(entry(7), 7)
    assert [memory.wants(t) for t in (8, 9, 10)] == [Want.NO, Want.NO, Want.REGULAR]
    assert memory.offer(entry(8), 8).reason == "interval"
    assert memory.offer(entry(8), 8, force=True).reason == "forced"
    assert memory.wants(10) is Want.NO


@pytest.mark.parametrize("top_k", [4, 30, None])
def test_before_anything_is_condensed_a_read_is_a_plain_read(top_k: int | None) -> None:
    arrivals = {1: 0, 2: 2}
    memory, plain = run(LongTermMemory(every=1), 6, arrivals), Unbounded(1)
    for t in range(6):
        plain.offer(entry(t, present(t, arrivals)), t, force=True)
    for objects in ((1,), (2, 1)):
        got, wanted = (m.read(query(7), objects, top_k).value for m in (memory, plain))
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_objects_with_their_own_keys_have_their_own_memory() -> None:
    memory, plain = LongTermMemory(3, 2, 2, 100, every=1), Unbounded(1)

    def own(t: int, objects: tuple[int, ...]) -> Entry:
        keys = torch.stack([parts(100 * o + t)[0].view(C, *GRID) for o in objects])
        return Entry(t, keys, keys.flatten(2) / C**0.5, entry(t, objects).value, objects)

    for t in range(2):
        for m in (memory, plain):
            m.offer(own(t, (1,) if t == 0 else (1, 2)), t, force=True)
    ask = Query(query(0).key, query(0).key.flatten(1), None)
    torch.testing.assert_close(memory.read(ask, (1, 2), 30).value, plain.read(ask, (1, 2), 30).value)
    for t in range(2, 6):
        memory.offer(own(t, (1, 2)), t, force=True)
    assert [store.objects for store in memory.stores] == [(1,), (2,)]
    assert all(store.long for store in memory.stores)
    with pytest.raises(ValueError, match="cannot be mixed"):
        memory.offer(entry(6, (1, 2)), 6, force=True)
    memory.drop(1)
    assert memory.objects == (2,)


def test_usage_counts_once_and_only_for_frames_that_go_on() -> None:
    memory = run(LongTermMemory(every=1), 2, {1: 0})
    before = memory.stores[0].use.clone()
    state = memory.state()
    memory.read(query(3), (1,), 30)
    memory.read(query(4), (1,), 30)  # the frame before was refused
    assert torch.equal(memory.stores[0].use, before)
    memory.wants(4)
    memory.wants(4)
    added = memory.stores[0].use - before
    assert added.sum().item() == pytest.approx(HW, abs=1e-5)
    memory.load_state(state)
    assert torch.equal(memory.stores[0].use, before)


def test_dropping_the_first_object_leaves_what_the_others_read() -> None:
    memory = run(LongTermMemory(4, 2, 3, 1000, every=1), 18)
    wanted = memory.read(query(50), (2, 3), 5).value
    memory.drop(1)
    assert memory.objects == (2, 3)
    assert memory.stores[0].groups[0].value.shape[1] == len(memory.stores[0].key)
    torch.testing.assert_close(memory.read(query(50), (2, 3), 5).value, wanted)
    memory.offer(entry(18, (2, 3)), 18, force=True)
    memory.drop(2)
    memory.drop(3)
    assert memory.stores == ()
    memory.pin(entry(19, (4,)), 19)
    assert memory.frames() == (19,)


def test_a_frame_given_again_replaces_itself() -> None:
    memory = run(LongTermMemory(every=1), 3, {1: 0})
    again = memory.pin(entry(2, (1, 2)), 2)
    assert (again.reason, again.slot) == ("rewritten", 2)
    assert memory.frames() == (0, 1, 2)
    assert [g.value.shape[1] for g in memory.stores[0].groups] == [3 * HW, HW]


def test_entries_that_do_not_fit_are_refused_before_anything_changes() -> None:
    memory = run(LongTermMemory(every=1), 4, {1: 0, 2: 1})
    state = memory.state()
    good = entry(9, (1, 2))
    wide = Entry(9, torch.zeros(1, C, 2, 2), torch.zeros(1, 2 * C + 1, 4), torch.zeros(2, 3, 2, 2), (1, 2))
    for bad, word in (
        (entry(9, (1,)), "holds no value of the objects"),
        (entry(1, (1, 2)), "in order"),
        (wide, "grid"),
        (Entry(9, good.key, good.address, good.value, (1,)), "give a value per object"),
        (Entry(9, good.key, good.address, good.value, (1, 2)), "query_address"),
    ):
        with pytest.raises(ValueError, match=word):
            memory.offer(bad, 9, force=True)
    assert torch.equal(memory.stores[0].key, state["stores"][0]["key"])  # type: ignore[index]
    with pytest.raises(ValueError, match="object 7"):
        memory.read(query(1), (7,), 5)
    with pytest.raises(ValueError, match="object 7"):
        memory.drop(7)
    with pytest.raises(ValueError, match="fifo"):
        memory.load_state({"kind": "fifo"})


# With networks.

SIZE = (40, 56)


def small(hidden: int = 8) -> XMem:
    torch.manual_seed(0)
    return XMem(XMemConfig("mobilenetv2", 8, 16, hidden, (16, 8, 8), 16, attention=False)).eval()


def clip(count: int) -> list[np.ndarray]:
    base = np.random.default_rng(3).integers(0, 255, (*SIZE, 3), np.uint8)
    return [np.roll(base, t, 1) for t in range(count)]


def image(frame: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def box(x: int, y: int, identity: int = 1, side: int = 14) -> np.ndarray:
    out = np.zeros(SIZE, np.uint8)
    out[y : y + side, x : x + side] = identity
    return out


def planes(labels: np.ndarray, objects: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(labels == o + 1).float() for o in range(objects)])


def limited(every: int = 2) -> LongTermMemory:
    return LongTermMemory(3, 2, 4, 12, every)


@pytest.mark.parametrize("hidden", [8, 0])
def test_the_tracker_is_the_published_loop(hidden: int) -> None:
    """Both, frame by frame, through condensation and eviction; without sensory memory too."""
    net, labels = small(hidden), box(6, 8) + box(30, 10, 2)
    tracker, core = Tracker(net, limited(), size=None), XMemCore(net, limited())
    core.labels = (1, 2)
    for t, frame in enumerate(clip(20)):
        wanted = core.step(image(frame), planes(labels, 2) if t == 0 else None, (1, 2) if t == 0 else None)
        tracker.predict(frame)
        if t == 0:
            tracker.correct(mask=labels)
        got = tracker._current().current.probabilities
        tracker.commit()
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert core.memory.stores[0].long > 0
    assert (core.hidden is None) == (hidden == 0)
    assert core.hidden is None or core.hidden.abs().max() > 0


def test_a_tracker_goes_on_from_a_snapshot_taken_in_the_middle_of_a_frame() -> None:
    frames, first = clip(22), Tracker(small(), limited(), size=None)
    for t, frame in enumerate(frames[:14]):
        first.predict(frame)
        if t in (0, 5):
            first.correct(mask=box(6, 8) if t == 0 else box(30, 10, 2))
        first.commit()
    first.predict(frames[14])
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second = Tracker(small(), limited(), size=None)
    second.load_state(torch.load(file, weights_only=True))
    first.commit()
    second.predict(frames[14])
    second.commit()
    for frame in frames[15:]:
        a, b = first.step(frame), second.step(frame)
        assert torch.equal(a.prediction.probabilities, b.prediction.probabilities)
    assert first.memory.stores[0].long > 0  # type: ignore[attr-defined]
    assert torch.equal(first.memory.stores[0].use, second.memory.stores[0].use)  # type: ignore[attr-defined]
    first.drop(1)
    assert first.step(frames[0]).prediction.objects == (2,)


def started(net: XMem, every: int = 2, deep: int = -1) -> tuple[XMemCore, list[torch.Tensor]]:
    """A core with object 1 at frame 0, and the images of its clip."""
    core, images = XMemCore(net, LongTermMemory(every=every), deep_update_every=deep), [image(f) for f in clip(6)]
    core.labels = (1,)
    core.step(images[0], planes(box(6, 8), 1), (1,))
    return core, images


def test_a_mask_without_valid_labels_replaces_a_frame_that_is_segmented_all_the_same() -> None:
    core, images = started(small(), every=9)
    other, _ = started(small(), every=9)
    given, life = planes(box(20, 20), 1), core.memory.stores[0].life.clone()
    prob = core.step(images[1], given, None)
    torch.testing.assert_close(prob, aggregate(given, 0)[1])
    assert (core.memory.stores[0].life[: len(life)] - life).min() == 1  # the frame was read
    assert core.memory.frames() == (0, 1)
    other.step(images[1], given, (1,))
    assert (other.memory.stores[0].life < 1).all()  # with all labels valid it is not


def test_a_given_mask_silences_the_prediction_below_it() -> None:
    core, images = started(small())
    twin, _ = started(small())
    core.labels = (1, 2)
    predicted = twin.step(images[1])[1]
    given = planes(box(8, 10, 2), 2)
    prob = core.step(images[1], given, (2,))
    under = given[1] > 0.5
    assert predicted[under].max() > 1e-3  # there was something to silence
    assert prob[1][under].max() < 1e-12  # two clamped odds; a prediction of 1e-3 would leave 1e-10
    expected = aggregate(torch.stack([predicted * ~under, given[1]]), 0)[1]
    torch.testing.assert_close(prob, expected, rtol=1e-4, atol=1e-5)
    assert core.hidden is not None
    assert len(core.hidden) == 2
    assert core.memory.objects == (1, 2)


def test_the_last_frame_leaves_everything_as_it_is() -> None:
    core, images = started(small(), every=1)
    hidden = core.hidden
    prob = core.step(images[1], end=True)
    assert core.hidden is hidden
    assert core.memory.frames() == (0,)
    twin, _ = started(small(), every=1)
    assert torch.equal(prob, twin.step(images[1]))


def test_deep_updates_of_their_own_rhythm_need_a_memory_frame() -> None:
    core, images = started(small(), every=2, deep=3)
    deep = []
    memorise = core.network.memorise

    def spy(t: int, *rest: Any) -> Any:
        deep.append((t, rest[-1]))
        return memorise(t, *rest)

    core.network.memorise = spy  # type: ignore[method-assign]
    for x in images[1:]:
        core.step(x)
    # Frame 0 was deep. Frame 3 would be due but stores nothing, so frame 4 is deep.
    assert deep == [(2, False), (4, True)]


def test_a_core_without_a_mask_is_refused() -> None:
    core = XMemCore(small(), LongTermMemory())
    with pytest.raises(ValueError, match="give a mask"):
        core.step(image(clip(1)[0]))
    core.labels = (1, 2)
    with pytest.raises(ValueError, match="2 labels"):
        core.step(image(clip(1)[0]), planes(box(6, 8), 1), (1,))
    with pytest.raises(ValueError, match="deep_update_every is 0"):
        XMemCore(small(), LongTermMemory(), deep_update_every=0)
