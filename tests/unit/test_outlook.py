"""RMem, DAM4SAM and SAM2Long where no record says what is right, and every strategy under every network."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.mivos import MiVOS, MiVOSConfig
from lazyvos.backbones.qdmn import QDMN, QDMNConfig
from lazyvos.backbones.stcn import STCN, STCNConfig
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.memory import Dam4SamMemory, Memory, PathTree, ReadMem, RMem, Sam2LongMemory
from lazyvos.memory.chosen import View, expected_iou
from lazyvos.memory.dam4sam import (
    AnchorRule,
    Dam4SamConfig,
    DamTrack,
    distractor_overlap,
    select_drm,
    select_ram,
)
from lazyvos.memory.rmem import relevance
from lazyvos.memory.sam2long import key_weights, select_branches
from lazyvos.tracker import Tracker

torch.set_num_threads(1)
CHANNELS, GRID, SIZE = 3, (2, 3), (32, 48)
AREA = GRID[0] * GRID[1]
quick = settings(max_examples=15, deadline=None)
MAKES: dict[str, Callable[[], Any]] = {
    "rmem": lambda: RMem(4, 1),
    "dam4sam": lambda: Dam4SamMemory(total=5, drm=3, stride=2, gap=1),
    "sam2long": lambda: Sam2LongMemory(3),
}


def blob(level: float = 0.9, x: int = 10, y: int = 10, radius: int = 6, more: tuple[int, int, float] | None = None) -> torch.Tensor:
    """A soft mask ``[H, W]``: a disk, and another one at ``(x, y)`` with a probability of its own."""
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    mask = torch.where((rows - y) ** 2 + (columns - x) ** 2 <= radius**2, level, 0.01)
    if more is not None:
        mask = torch.where((rows - more[1]) ** 2 + (columns - more[0]) ** 2 <= radius**2, more[2], mask)
    return mask


def entry(
    t: int, objects: tuple[int, ...] = (1,), shared: bool = True, seed: int = 0, masks: list[torch.Tensor] | None = None, **more: Any
) -> Entry:
    """Values are those of (t, object) alone; masks come and go."""
    keys = []
    for group in [0] if shared else objects:
        common = torch.randn(CHANNELS, *GRID, generator=torch.Generator().manual_seed(1000 * seed + group))
        keys.append(common + 0.7 * torch.randn(CHANNELS, *GRID, generator=torch.Generator().manual_seed(7919 * seed + 31 * t + group + 1)))
    key = torch.stack(keys)
    value = torch.stack([torch.full((2, *GRID), float(100 * t + o)) for o in objects])
    if masks is None:
        masks = [blob(0.2 if (t + o + seed) % 4 == 0 else 0.9, more=(36, 20, 0.3) if (t + o) % 3 else None) for o in objects]
    return Entry(t, key, key.flatten(2) / CHANNELS**0.5, value, objects, masks=torch.stack(masks), **more)


def query(t: int, seed: int = 0) -> Query:
    key = entry(t, seed=seed).key[0]
    return Query(key, 3 * key.flatten(1), None)


@quick
@given(
    st.sampled_from(sorted(MAKES)), st.booleans(), st.integers(0, 20),
    st.lists(st.sampled_from(["offer", "offer", "force", "late", "drop", "again"]), min_size=5, max_size=25),
)  # fmt: skip
def test_bounds_and_annotated_frames_hold_whatever_happens(kind: str, shared: bool, seed: int, acts: list[str]) -> None:
    memory = MAKES[kind]()
    assert isinstance(memory, Memory)
    objects: tuple[int, ...] = (1,)
    first = {1: 0}
    memory.pin(entry(0, objects, shared, seed), 0)
    for t, act in enumerate(acts, 1):
        memory.read(query(t, seed), objects, 3)
        if act == "late" and len(objects) < 3:
            objects = (*objects, max(objects) + 1)
            first[objects[-1]] = t
            decision = memory.pin(entry(t, objects, shared, seed), t)
            assert decision.reason == "pinned"
        elif act == "drop" and len(objects) > 1:
            memory.drop(objects[-1])
            objects = objects[:-1]
            continue
        else:
            decision = memory.offer(entry(t, objects, shared, seed), t, force=act == "force")
            assert decision.kept or act != "force"
            if act == "again":
                memory.offer(entry(t, objects, shared, seed + 1), t, force=True)
        assert decision.milliseconds > 0
        assert decision.kept == (decision.slot is not None)
        assert decision.replaced not in first.values() or decision.replaced not in {first[o] for o in objects}
        frames = memory.frames()
        assert list(frames) == sorted(set(frames))
        assert {first[o] for o in objects} <= set(frames) & memory.pinned
        limit = {"rmem": 5, "dam4sam": 5 * len(objects), "sam2long": 4 * len(objects)}[kind]
        assert len(frames) <= limit
        assert len(memory.stored) <= {"rmem": 4, "dam4sam": 9 * len(objects), "sam2long": 5 * len(objects)}[kind]
        for identity, value in zip(objects, memory.read(query(t, seed), objects, 3).value, strict=True):
            assert value.min() >= 100 * first[identity] + identity - 1e-2  # never read where it was unknown
            assert value.max() <= 100 * t + identity + 1e-2


@quick
@given(st.sampled_from(sorted(MAKES)), st.booleans(), st.integers(0, 50))
def test_permuting_objects_changes_nothing(kind: str, shared: bool, seed: int) -> None:
    there, back = (1, 2, 3), (3, 1, 2)
    memories = [MAKES[kind](), MAKES[kind]()]
    for t in range(12):
        for memory, objects in zip(memories, (there, back), strict=True):
            if t:
                memory.read(query(t, seed), objects, 4)
            (memory.offer if t else memory.pin)(entry(t, objects, shared, seed), t)
        assert memories[0].stored == memories[1].stored
    one, two = memories[0].read(query(12, seed), there, 4).value, memories[1].read(query(12, seed), back, 4).value
    torch.testing.assert_close(one, two[[1, 2, 0]], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", sorted(MAKES))
def test_a_saved_memory_goes_on_as_if_nothing_had_happened(kind: str, shared: bool) -> None:
    def walk(memory: Any, frames: range) -> list[Any]:
        seen: list[Any] = []
        for t in frames:
            if t:
                seen.append(memory.read(query(t), (1, 2), 4).value)
            if t == 9:  # between a read and the offer that builds on it
                buffer = io.BytesIO()
                torch.save(memory.state(), buffer)
                buffer.seek(0)
                seen.append(torch.load(buffer, weights_only=True))
            decision = (memory.offer if t else memory.pin)(entry(t, (1, 2), shared), t)
            seen.append((decision.kept, decision.reason, decision.slot, decision.replaced, memory.frames()))
        return seen

    seen = walk(MAKES[kind](), range(22))
    at = next(i for i, x in enumerate(seen) if isinstance(x, dict))
    other = MAKES[kind]()
    with torch.inference_mode():
        other.load_state(seen[at])
    first = other.offer(entry(9, (1, 2), shared), 9)
    again = [(first.kept, first.reason, first.slot, first.replaced, other.frames()), *walk(other, range(10, 22))]
    assert len(again) == len(seen[at + 1 :])
    for one, two in zip(again, seen[at + 1 :], strict=True):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    with pytest.raises(ValueError, match="cannot go into"):
        ReadMem().load_state(other.state())


@pytest.mark.parametrize("kind", sorted(MAKES))
def test_nothing_grows_with_the_video(kind: str) -> None:
    memory = MAKES[kind]()
    memory.pin(entry(0, (1, 2)), 0)
    sizes = []
    for t in range(1, 160):
        memory.read(query(t % 7), (1, 2), 4)
        memory.offer(entry(t, (1, 2)), t)
        buffer = io.BytesIO()
        torch.save(memory.state(), buffer)
        sizes.append(buffer.getbuffer().nbytes)
    assert max(sizes[80:]) <= max(sizes[40:80]) * 1.02
    assert memory._bank.values.shape[1] <= 32


# RMem.


def test_relevance_is_the_share_that_the_foreground_reads() -> None:
    attention = np.array([[0.9, 0.1], [0.2, 0.8]])
    np.testing.assert_allclose(relevance(attention, np.array([0.0, 1.0])), [0.2, 0.8])
    np.testing.assert_allclose(relevance(attention, np.zeros(2)), [0.55, 0.45])
    np.testing.assert_allclose(relevance(np.zeros((2, 2)), np.ones(2)), [0.5, 0.5])


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("shared", [True, False])
def test_rmem_weighs_what_each_object_reads(top_k: int | None, shared: bool) -> None:
    memory = RMem(3, 1, adjacent=True)
    stored = [entry(t, (1, 2), shared) for t in range(3)]
    for t in range(3):
        (memory.offer if t else memory.pin)(stored[t], t)
    memory.offer(entry(3, (1, 2), shared), 3)  # nothing was read: frames 1 and 2 count alike, the older one goes
    assert memory.frames() == (0, 2, 3)
    memory.read(query(4), (1, 2), top_k)
    masks = [torch.zeros(GRID), torch.zeros(GRID)]
    masks[0][0, 1] = masks[1][1, 2] = 0.75
    memory.offer(entry(4, (1, 2), shared, masks=masks), 4)
    wanted = torch.zeros(3, dtype=torch.float64)
    held = [stored[0], stored[2], entry(3, (1, 2), shared)]
    for i, place in enumerate((1, 5)):
        rows = torch.cat([e.address[0 if shared else i].T for e in held])
        scores = (rows @ query(4).address[:, place]).double()
        if top_k:
            kept = scores.topk(top_k)
            scores = torch.full_like(scores, -torch.inf).scatter_(0, kept.indices, kept.values)
        wanted += 0.75 * scores.softmax(0).view(3, AREA).sum(1)
    wanted /= wanted.sum()
    old = {0: 1 / 3, 2: 1 / 3}
    for t, share in zip((0, 2, 3), wanted.tolist(), strict=True):
        if t in memory.bandit.relevance:
            smooth = 0.8 * share + 0.2 * old[t] if t in old else share
            assert memory.bandit.relevance[t] == pytest.approx(smooth, abs=1e-5)


# DAM4SAM.


def test_a_look_alike_that_is_half_believed_in_makes_an_anchor() -> None:
    memory = Dam4SamMemory()
    memory.pin(entry(0, masks=[blob()]), 0)
    reasons = []
    for t in range(1, 12):
        near = (38, 22, 0.35) if t in (4, 6, 10) else None
        reasons.append(memory.offer(entry(t, masks=[blob(more=near)]), t).reason)
    assert [t for t, reason in enumerate(reasons, 1) if reason == "anchor"] == [4, 10]  # 6 is too near to 4
    assert set(reasons) == {"anchor", "recent"}
    assert memory.frames() == (0, 4, 5, 10, 11)
    assert memory.tracks[1].reads() == sorted({*select_drm([4, 10], 12), *select_ram(range(12), [4, 10], 12, 4)})


def test_a_distractor_moves_the_box() -> None:
    mask = blob().numpy() > 0.5
    wide = blob(more=(38, 22, 0.9)).numpy() > 0.5
    assert distractor_overlap(mask, [mask]) == 1.0
    assert distractor_overlap(mask, [mask, wide]) < 0.3
    assert distractor_overlap(np.zeros_like(mask), [wide]) == 1.0
    speck = mask.copy()
    speck[31, 47] = True
    both = speck | (blob(x=18).numpy() > 0.5)  # of what an alternative adds only the largest part counts
    assert distractor_overlap(mask, [both]) == pytest.approx(13 * 13 / (21 * 13))


def test_an_absent_target_is_not_stored_and_a_corrected_frame_is_an_anchor() -> None:
    memory = Dam4SamMemory()
    memory.pin(entry(0, masks=[blob()]), 0)
    gone = memory.offer(entry(1, masks=[blob(0.2)]), 1)
    assert (gone.kept, gone.reason) == (False, "absent")
    assert memory.frames() == (0,)
    assert memory.offer(entry(2, masks=[blob()]), 2, force=True).reason == "anchor"
    memory.offer(entry(3, masks=[blob()]), 3)
    assert memory.tracks[1].anchors == [2]
    assert memory.frames() == (0, 2, 3)


def test_alternatives_and_quality_of_the_network_come_first() -> None:
    memory = Dam4SamMemory(score=0.99)
    wide = blob(more=(38, 22, 0.9))
    memory.pin(entry(0, masks=[blob()]), 0)
    memory.offer(entry(1, masks=[blob()]), 1)
    more = {"alternatives": torch.stack([wide]).unsqueeze(0)}
    assert memory.offer(entry(2, masks=[blob()], **more), 2).reason == "recent"  # the soft mask expects less than 0.99 of itself
    assert memory.offer(entry(3, masks=[blob()], quality=torch.tensor([0.999])), 3).reason == "recent"  # no alternative
    assert memory.offer(entry(4, masks=[blob()], quality=torch.tensor([0.999]), **more), 4).reason == "anchor"


def test_anchors_need_an_area_like_the_latest_ones() -> None:
    rule = AnchorRule(Dam4SamConfig(areas=3, span=20))
    wide = [blob(radius=6, more=(38, 22, 0.9)).numpy() > 0.5]

    def offer(t: int, radius: int) -> bool:
        return rule.offer(t, 0.9, blob(radius=radius).numpy() > 0.5, wide)

    assert not offer(1, 6)  # nothing to compare with
    assert not offer(2, 9)
    assert offer(8, 6) is False  # the median of two areas lies between them
    assert offer(9, 6)
    assert not offer(15, 12)
    assert not offer(60, 6)  # all areas are too old
    assert offer(66, 6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(2, 8), st.integers(1, 6))
def test_a_bounded_track_reads_what_the_whole_history_would_give(frames: list[tuple[bool, bool]], total: int, stride: int) -> None:
    config = Dam4SamConfig(total=total, drm=max(1, total // 2), stride=stride)
    track, visible, anchors = DamTrack(config, 0, 0), [], []
    for t, (seen, anchor) in enumerate(frames, 1):
        track.offer(View(t, torch.full((2, 2), 0.9 if seen else 0.1), None, None, certain=seen and anchor))
        visible += [t] if seen else []
        anchors += [t] if seen and anchor else []
        drm = select_drm(anchors, t + 1, config.drm)
        assert track.reads() == sorted({*drm, *select_ram(visible, anchors, t + 1, total - len(drm), stride)})
        assert len(track.needs()) <= total + config.drm + 1


def test_expected_iou() -> None:
    assert expected_iou(torch.zeros(2, 2)) == 0
    assert expected_iou(torch.tensor([[1.0, 0.0]])) == 1
    assert expected_iou(torch.tensor([[0.8, 0.4, 0.6, 0.3]])) == pytest.approx(1.4 / 2.4)  # 0.3 lies outside the box


# SAM2Long.


def test_key_weights() -> None:
    np.testing.assert_allclose(key_weights([3.0, -1.0, 2.0]), [1.05, 0.95, 1.0])
    np.testing.assert_allclose(key_weights([3.0]), [1])
    assert len(key_weights([])) == 0


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("top_k", [None, 4])
def test_certain_frames_weigh_more(inner: bool, top_k: int | None) -> None:
    """Inner products are scaled with their keys; where addresses are no keys the weight multiplies the share."""
    memory = Sam2LongMemory(3, low=0.5, high=2.0)
    levels = {0: 0.9, 1: 0.95, 2: 0.7, 3: 0.8}

    def made(t: int) -> Entry:
        one = entry(t, masks=[blob(levels[t])])
        wider = torch.cat([one.address, torch.zeros_like(one.address[:, :1])], 1)
        return one if inner else Entry(t, one.key, wider, one.value, one.objects, masks=one.masks)

    for t in range(4):
        (memory.offer if t else memory.pin)(made(t), t)
    asked = query(4)
    if not inner:
        asked = Query(asked.key, torch.cat([asked.address, torch.ones_like(asked.address[:1])]), None)
    weights = {0: 1.0, 2: 0.5, 3: 1.25, 1: 2.0}
    assert memory.weights(1) == pytest.approx(weights)
    scores = torch.cat([made(t).address[0].T @ asked.address * (weights[t] if inner else 1.0) for t in range(4)])
    if not inner:
        scores = scores + torch.tensor([weights[t] for t in range(4)]).log().repeat_interleave(AREA).unsqueeze(1)
    if top_k:
        kept = scores.topk(top_k, 0)
        scores = torch.full_like(scores, -torch.inf).scatter_(0, kept.indices, kept.values)
    values = torch.cat([made(t).value[0].flatten(1).T for t in range(4)])
    got = memory.read(asked, (1,), top_k).value[0].flatten(1).T
    torch.testing.assert_close(got, scores.softmax(0).T @ values, rtol=1e-4, atol=1e-3)


def test_doubtful_frames_are_read_once() -> None:
    memory = Sam2LongMemory(2)
    memory.pin(entry(0, masks=[blob()]), 0)
    memory.offer(entry(1, masks=[blob()]), 1)
    assert memory.offer(entry(2, masks=[blob(0.3)]), 2).reason == "doubtful"
    assert memory.frames() == (0, 1, 2)
    decision = memory.offer(entry(3, masks=[blob()]), 3)
    assert (decision.reason, decision.replaced) == ("recent", 2)
    assert memory.frames() == (0, 1, 3)


def test_a_tree_parts_its_pathways_only_in_doubt() -> None:
    tree = PathTree(2)
    assert [b.candidate for b in tree.step([[0.2, 0.7, 0.5]], [1.0])] == [1, 1]
    assert tree.scores == (0.0, 0.0)
    sure = [[0.9, 0.5, 0.4]] * 2
    assert [tuple(b[:2]) for b in tree.step(sure, [5.0, 5.0])] == [(0, 0), (1, 0)]
    assert [tuple(b[:2]) for b in tree.step(sure, [1.0, 1.0])] == [(0, 0), (0, 1)]
    assert tree.best == 0
    assert tree.reads(1) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="1 rows"):
        tree.step([[0.5]], [1.0])
    assert [n.candidate for n in tree.trace()] == [1, 0, 0]
    short = PathTree(2, traces=False)
    short.step([[0.5]], [1.0])
    with pytest.raises(ValueError, match="no traces"):
        short.trace()


def test_absent_and_present_candidates_of_one_iou_differ() -> None:
    got = select_branches([0.0, 0.0], [[0.5], [0.5]], [1.0, -1.0], 2)
    assert {b.pathway for b in got} == {0, 1}
    alike = select_branches([0.0, -5.0], [[0.5, 0.501], [0.5, 0.499]], [1.0, 1.0], 2)
    assert [tuple(b[:2]) for b in alike] == [(0, 1), (1, 0)]  # the second pathway would have died out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RMem(1), "slots is 1"),
        (lambda: Dam4SamMemory(total=4, drm=4), "drm is 4"),
        (lambda: Dam4SamMemory(stride=0), "stride is 0"),
        (lambda: Dam4SamMemory(levels=(0.6,)), "levels are"),
        (lambda: Sam2LongMemory(0), "recent is 0"),
        (lambda: Sam2LongMemory(low=2.0), "low is 2.0"),
        (lambda: PathTree(0), "paths is 0"),
    ],
)
def test_bad_settings_say_what_is_wrong(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Under every network.

NETWORKS: dict[str, Callable[[], Any]] = {
    "xmem": lambda: XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False)),
    "without state": lambda: XMem(XMemConfig("mobilenetv2", 8, 16, 0, (16, 8, 8), 16, attention=False)),
    "stcn": lambda: STCN(STCNConfig.small()),
    "mivos": lambda: MiVOS(MiVOSConfig.small()),
    "qdmn": lambda: QDMN(QDMNConfig.small()),
}
UNDER: dict[str, Callable[[], Any]] = {
    **MAKES,
    "readmem": lambda: ReadMem(slots=3, every=1, lower_bound=-1.0),
    "fixed": lambda: ReadMem(slots=3, every=1, lower_bound=-1.0, reference="fixed"),
}


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    torch.manual_seed(3)
    return {name: make().eval() for name, make in NETWORKS.items()}


@pytest.mark.parametrize("kind", UNDER)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_tracks_with_every_strategy(networks: dict[str, Any], network: str, kind: str) -> None:
    """Two objects, a third one later; READMem as XMem's working memory is among them."""
    memory = UNDER[kind]()
    tracker = Tracker(networks[network], memory, size=None)
    rng = np.random.default_rng(1)
    base = rng.integers(0, 255, (48, 64, 3), np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[5:25, 5:25], mask[20:40, 35:60] = 1, 2
    late = np.zeros_like(mask)
    late[30:45, 5:20] = 3
    reasons = []
    for t in range(8):
        frame = np.roll(base, t, 1)
        prediction = tracker.predict(frame)
        assert torch.isfinite(prediction.probabilities).all()
        if t in (0, 4):
            tracker.correct(mask=mask if t == 0 else late)
        decision = tracker.commit()
        reasons.append(decision.reason)
        if kind in ("readmem", "fixed"):
            assert decision.log_gram_after is not None
            assert len(memory.gram) == len(memory.stored) <= 3
    assert reasons[0] == reasons[4] == "pinned"
    assert {0, 4} <= set(memory.frames())
    assert tracker.objects == (1, 2, 3)
