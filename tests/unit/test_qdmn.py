"""QDMN in the tracker, and its memory, on a small network with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyvos.backbones.base import Backbone, Entry, Query
from lazyvos.backbones.qdmn import QDMN, QDMNConfig
from lazyvos.backbones.qdmn_core import QDMNCore
from lazyvos.memory import FifoMemory, Memory, Want
from lazyvos.memory.qdmn import QdmnBank
from lazyvos.tracker import Tracker

torch.set_num_threads(1)
SIZE = (52, 72)
quick = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def net() -> QDMN:
    """A small QDMN whose scores are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = QDMN(QDMNConfig.small()).eval()
    torch.nn.init.constant_(net.score.fc2.bias, 1.0)
    return net


def clip(count: int) -> list[np.ndarray]:
    base = np.random.default_rng(0).integers(0, 255, (SIZE[0] // 4, SIZE[1] // 4, 3), np.uint8)
    base = base.repeat(4, 0).repeat(4, 1)
    return [np.roll(base, 2 * t, 1) for t in range(count)]


def disks(*centres: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = np.zeros(SIZE, np.uint8)
    for identity, (x, y) in enumerate(centres, 1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= 100] = identity
    return labels


def entry(t: int, scores: list[float] | None, objects: tuple[int, ...] = (1,)) -> Entry:
    count = len(objects)
    key = torch.full((count, 2, 1, 1), float(t))
    quality = None if scores is None else torch.tensor(scores)
    return Entry(t, key, key.flatten(2), torch.full((count, 1, 1, 1), float(t)), objects, quality)


def played(bank: QdmnBank, scores: list[float]) -> QdmnBank:
    bank.pin(entry(0, scores[:1]), 0)
    for t, score in enumerate(scores[1:], 1):
        bank.offer(entry(t, [score]), t)
    return bank


# The network.


def test_the_previous_mask_moves_the_query_but_not_the_skips(net: QDMN) -> None:
    assert isinstance(net, Backbone)
    image = torch.randn(3, 48, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(2, 48, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        without, two, one = (net.encode(image, state) for state in (None, masks, masks.amax(0, keepdim=True)))
        nobody = net.encode(image, masks[:0])
    assert torch.equal(two.key, one.key)
    assert torch.equal(without.key, nobody.key)
    assert (two.key - without.key).abs().max() > 1e-5
    assert torch.equal(two.features.f8, without.features.f8)
    assert torch.equal(two.features.f4, without.features.f4)
    assert two.grid == (3, 4)


def test_quality_is_one_score_per_object_and_never_negative(net: QDMN) -> None:
    with torch.inference_mode():
        found = net.score(100 * torch.randn(5, 256, 3, 4, generator=torch.Generator().manual_seed(2)))
    assert found.shape == (5, 1)
    assert found.min() >= 0
    assert found.std() > 0


@pytest.mark.parametrize("memory", [QdmnBank(3, 2, minimum=0.0), FifoMemory(3, 2), FifoMemory(3, 2, adjacent=True)])
def test_two_objects_in_the_tracker(net: QDMN, memory: Memory) -> None:
    track = Tracker(net, memory, size=48)
    for step in track.track(clip(8), mask=disks((20, 26), (50, 26))):
        prob = step.prediction.probabilities
        assert prob.shape == (3, *SIZE)
        torch.testing.assert_close(prob.sum(0), torch.ones(SIZE), atol=1e-5, rtol=0)
        assert track.state()["recurrent"].shape == (2, 48, 80)
    assert track.memory.frames()[0] == 0
    track.drop(1)
    assert track.step(clip(9)[8]).prediction.objects == (2,)


def test_a_correction_is_the_previous_mask_of_the_next_frame(net: QDMN) -> None:
    track = Tracker(net, FifoMemory(4, 50), size=48)
    frames = clip(4)
    list(track.track(frames[:3], mask=disks((20, 26), (50, 26))))
    track.predict(frames[3])
    corrected = disks((60, 30), (24, 30))
    track.correct(mask=corrected)
    track.commit()
    state = track.state()["recurrent"]
    assert track._geometry is not None
    wanted = track._geometry.masks(torch.stack([torch.from_numpy((corrected == o).astype(np.float32)) for o in (1, 2)]))
    assert ((state > 0.5) == (wanted > 0.5)).float().mean() > 0.99


def test_half_precision_keeps_scores_and_masks_in_single(net: QDMN) -> None:
    track = Tracker(net, QdmnBank(3, 1, minimum=0.0), size=48, precision="bf16")
    list(track.track(clip(2), mask=disks((20, 26), (50, 26))))
    assert track.state()["recurrent"].dtype == torch.float32
    exact = Tracker(net, QdmnBank(3, 1, minimum=0.0), size=48)
    list(exact.track(clip(2), mask=disks((20, 26), (50, 26))))
    torch.testing.assert_close(track.state()["recurrent"], exact.state()["recurrent"], atol=0.05, rtol=0)
    assert set(track.memory.quality) == set(exact.memory.quality) == {0, 1}  # type: ignore[attr-defined]


def test_the_tracker_equals_the_published_inference(net: QDMN) -> None:
    frames, labels = clip(12), disks((20, 26), (50, 26))
    track = Tracker(net, QdmnBank(3, 2, published=True), size=None)
    steps = list(track.track(frames, mask=labels))
    assert track._geometry is not None
    left, right, top, bottom = track._geometry.pad
    images = torch.stack([track._geometry.image(frame) for frame in frames])
    images = images[..., top : images.shape[-2] - bottom, left : images.shape[-1] - right]
    core = QDMNCore(net, images, 2, every=2, threshold=3)
    masks = torch.stack([torch.from_numpy((labels == o).astype(np.float32)) for o in (1, 2)])
    found = core.interact(masks)
    assert found.shape == (12, *SIZE)
    for t, step in enumerate(steps):
        torch.testing.assert_close(step.prediction.probabilities, core.unpadded(core.prob[:, t]), atol=1e-5, rtol=0)
    assert len(core.read) == len(core.scores) == 11
    assert core.read[0] == (0,)
    assert core.read[3] == (0, 2, 3)


def test_a_snapshot_goes_on_as_if_nothing_had_happened(net: QDMN) -> None:
    frames = clip(10)
    first, second = (Tracker(net, QdmnBank(2, 1, minimum=0.0), size=48) for _ in range(2))
    list(first.track(frames[:6], mask=disks((20, 26), (50, 26))))
    second.load_state(first.state())
    for frame in frames[6:]:
        one, two = first.step(frame), second.step(frame)
        assert torch.equal(one.prediction.probabilities, two.prediction.probabilities)
        assert one.decision.replaced == two.decision.replaced
    assert first.memory.frames() == second.memory.frames()


def test_core_names_wrong_input(net: QDMN) -> None:
    with pytest.raises(ValueError, match="images have shape"):
        QDMNCore(net, torch.zeros(3, 48, 64), 1)
    with pytest.raises(ValueError, match="objects is 0"):
        QDMNCore(net, torch.zeros(1, 3, 48, 64), 0)
    with pytest.raises(ValueError, match="mask has shape"):
        QDMNCore(net, torch.zeros(1, 3, 48, 64), 1).interact(torch.zeros(2, 48, 64))


# The memory.


@quick
@given(st.lists(st.floats(0.5, 1.5), min_size=2, max_size=60), st.integers(0, 6), st.integers(1, 3))
def test_corrected_bank_never_deletes_the_annotated_frame(rest: list[float], threshold: int, every: int) -> None:
    bank = QdmnBank(threshold, every, minimum=0.8)
    bank.pin(entry(0, [1.0]), 0)
    newest, numbers = 0, {0: 0}
    for t, score in enumerate(rest, 1):
        before = {held: s for held, s in bank.quality.items() if held}
        due = t - newest >= every
        assert bank.wants(t) is (Want.REGULAR if due else Want.ADJACENT)
        decision = bank.offer(entry(t, [score]), t)
        assert decision.kept == (due and torch.tensor(score).item() > 0.8)
        if decision.kept:
            newest, numbers[t] = t, len(numbers)
        if decision.replaced is None:
            assert not decision.kept or len(before) <= threshold
        else:
            value = {held: np.exp(numbers[held] - numbers[t]) + s for held, s in before.items()}
            assert len(before) == threshold + 1
            assert value[decision.replaced] == min(value.values())
        assert bank.stored[0] == 0
        assert bank.frames()[-1] == t
        assert set(bank.quality) == set(bank.stored)


def test_who_leaves() -> None:
    """Frame 2 is the worst of four old ones; as published the frame before it goes, and 0 when 1 is the worst."""
    scores = [1.0, 1.0, 0.9, 1.2, 1.1, 1.0]
    assert played(QdmnBank(3, 1), scores).stored == (0, 1, 3, 4, 5)
    assert played(QdmnBank(3, 1, published=True), scores).stored == (0, 2, 3, 4, 5)
    scores = [1.0, 0.9, 1.0, 1.2, 1.1, 1.0]
    assert played(QdmnBank(3, 1), scores).stored == (0, 2, 3, 4, 5)
    published = played(QdmnBank(3, 1, published=True), scores)
    assert published.stored == (1, 2, 3, 4, 5)
    assert published.pinned == {1}  # the place of the annotated frame


def test_age_counts_beside_quality() -> None:
    """n is a running number of stored frames: exp(−1) + 0.9 outweighs exp(−4) + 1.2."""
    assert played(QdmnBank(3, 1), [1.0, 1.2, 1.5, 1.5, 0.9, 1.0]).stored == (0, 2, 3, 4, 5)


def test_quality_is_relative_to_the_given_mask() -> None:
    bank = QdmnBank(5, 1)
    bank.pin(entry(0, [0.5, 0.0, 0.7], (1, 2, 3)), 0)  # mean of the non-zero scores: 0.6
    refused = bank.offer(entry(1, [0.7, 0.0, 0.7], (1, 2, 3)), 1)  # zeros count here: 0.467 / 0.6 = 0.78
    assert (refused.kept, refused.reason) == (False, "low quality")
    assert bank.frames() == (0, 1)
    assert bank.stored == (0,)
    assert bank.wants(2) is Want.REGULAR
    assert bank.offer(entry(2, [0.7, 0.1, 0.7], (1, 2, 3)), 2).kept  # 0.5 / 0.6
    assert bank.quality[2] == pytest.approx(0.5 / 0.6)
    assert bank.frames() == (0, 2)


def test_a_score_of_exactly_the_minimum_is_refused() -> None:
    bank = played(QdmnBank(5, 1, minimum=0.75), [1.0, 0.75, 0.76])
    assert bank.stored == (0, 2)


def test_a_corrected_frame_is_stored_whatever_its_score() -> None:
    bank = played(QdmnBank(5, 5), [1.0, 0.1])
    decision = bank.offer(entry(2, [0.1]), 2, force=True)
    assert (decision.kept, decision.reason) == (True, "forced")
    assert bank.stored == (0, 2)


def test_scores_of_zero_compare_with_nothing() -> None:
    assert played(QdmnBank(5, 1), [0.0, 0.9, 2.0]).stored == (0,)


def test_without_scores_the_oldest_goes() -> None:
    bank = QdmnBank(3, 1)
    bank.pin(entry(0, None), 0)
    for t in range(1, 12):
        assert bank.offer(entry(t, None), t).kept
    assert bank.stored == (0, 8, 9, 10, 11)


@pytest.mark.parametrize("published", [False, True])
def test_later_masks_and_dropped_objects(published: bool) -> None:
    bank = QdmnBank(2, 1, published=published)
    bank.pin(entry(0, [1.0]), 0)
    for t in range(1, 20):
        objects = (1,) if t < 5 else (1, 2)
        give = bank.pin if t in (5, 7) else bank.offer
        give(entry(t, [1.0 + 0.01 * (t % 3)] * len(objects), objects), t)
        assert len(bank.stored) <= 4
        for held in objects:  # every object can always be read
            assert bank.read(Query(torch.zeros(2, 1, 1), torch.zeros(2, 1), None), (held,), 5).value.shape[0] == 1
    if not published:
        assert {0, 5} <= set(bank.stored)
    bank.drop(1)
    for t in range(20, 30):
        bank.offer(entry(t, [1.0], (2,)), t)
        assert len(bank.quality) == len(bank.stored)
    assert len(bank.stored) == 4


def test_a_given_mask_given_again_is_the_new_measure() -> None:
    bank = played(QdmnBank(5, 1), [1.0])
    assert bank.pin(entry(0, [2.0]), 0).reason == "rewritten"
    assert not bank.offer(entry(1, [1.0]), 1).kept
    assert bank.quality == {0: 1.0}


def test_state_of_another_kind_and_negative_threshold_are_refused() -> None:
    states: dict[str, Any] = FifoMemory(3).state()
    with pytest.raises(ValueError, match="fifo"):
        QdmnBank(3).load_state(states)
    with pytest.raises(ValueError, match="threshold is -1"):
        QdmnBank(-1)
