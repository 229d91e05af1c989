"""The tracker's three verbs, on a small network with random weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.geometry import Geometry
from lazyvos.interact.policies import Lazy
from lazyvos.memory import FifoMemory
from lazyvos.tracker import Tracker
from lazyvos.types import Action, Click, InputError, Request

SIZE = (60, 88)


def small() -> XMem:
    torch.manual_seed(0)
    return XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False)).eval()


class DiskRefiner:
    """A disk of radius 9 around every positive click."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []

    def refine(self, frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None = None) -> Tensor:
        self.seen.append((len(clicks), mask is not None))
        rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
        inside = np.zeros(frame.shape[:2], bool)
        for click in clicks:
            near = (rows - click.y) ** 2 + (columns - click.x) ** 2 <= 81
            inside = inside | near if click.positive else inside & ~near
        return torch.from_numpy(inside.astype(np.float32))


def frames(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (*SIZE, 3), np.uint8)
    return [np.roll(base, t, 1) for t in range(count)]


def disk_mask(x: int = 30, y: int = 30, identity: int = 1) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (((rows - y) ** 2 + (columns - x) ** 2 <= 144) * identity).astype(np.uint8)


def tracker(**options) -> Tracker:
    options.setdefault("refiner", DiskRefiner())
    return Tracker(small(), options.pop("memory", None) or FifoMemory(slots=4, every=2), size=48, **options)


def test_nothing_is_tracked_before_the_first_object():
    track = tracker()
    prediction = track.predict(frames(1)[0])
    assert prediction.objects == ()
    assert not prediction.labels.any()
    assert prediction.probabilities.shape == (1, *SIZE)
    assert track.commit().kept is False
    assert track.memory.frames() == ()


def test_a_given_mask_is_the_frames_result_and_enters_the_memory():
    track = tracker()
    track.predict(frames(1)[0])
    mask = disk_mask(identity=7)
    prediction = track.correct(mask=mask)
    assert np.array_equal(prediction.labels, mask)
    assert prediction.objects == (7,)
    decision = track.commit()
    assert decision.kept
    assert track.memory.frames() == (0,)
    assert track.predict(frames(2)[1]).objects == (7,)


def test_probabilities_sum_to_one_and_agree_with_labels():
    track = tracker()
    for step in track.track(frames(5), mask=disk_mask() + disk_mask(70, 20, 2)):
        prob = step.prediction.probabilities
        assert torch.allclose(prob.sum(0), torch.ones(SIZE), atol=1e-5)
        assert np.array_equal(prob.argmax(0).numpy(), step.prediction.labels)
        assert set(step.prediction.scores) == ({1, 2} if step.t else set())


def test_verbs_out_of_order_are_refused():
    track = tracker()
    with pytest.raises(RuntimeError, match="predict"):
        track.correct(mask=disk_mask())
    with pytest.raises(RuntimeError, match="predict"):
        track.commit()
    track.predict(frames(1)[0])
    with pytest.raises(RuntimeError, match="commit"):
        track.predict(frames(1)[0])


@pytest.mark.parametrize(
    ("frame", "words"),
    [(np.zeros((60, 88), np.uint8), "uint8"), (np.zeros((60, 88, 3), np.float32), "uint8"), (np.zeros((60, 80, 3), np.uint8), "earlier")],
)
def test_wrong_frames_are_named(frame: np.ndarray, words: str):
    track = tracker()
    track.predict(frames(1)[0])
    track.commit()
    with pytest.raises(InputError, match=words):
        track.predict(frame)
    assert track.t == 0


def test_wrong_corrections_are_named():
    track = tracker(refiner=None)
    track.predict(frames(1)[0])
    with pytest.raises(InputError, match="refiner"):
        track.correct([Click(5, 5)])
    with pytest.raises(InputError, match="outside"):
        track.correct([Click(88, 5)])
    with pytest.raises(InputError, match="shape"):
        track.correct(mask=np.ones((10, 10), np.uint8))
    with pytest.raises(InputError, match="no object"):
        track.correct(mask=np.zeros(SIZE, np.uint8))


def test_clicks_replace_earlier_clicks_of_the_frame_and_revert_takes_all_back():
    track = tracker()
    first = frames(1)[0]
    track.predict(first)
    one = track.correct([Click(20, 20)]).labels
    two = track.correct([Click(20, 20), Click(60, 30)]).labels
    assert two.sum() > one.sum()
    assert np.array_equal(track.correct([Click(20, 20)]).labels, one)
    both = track.correct([Click(60, 30, 2)])
    assert both.objects == (1, 2)
    assert np.array_equal(both.labels == 1, one == 1)
    assert track.revert().objects == ()
    assert track.commit().kept is False


def test_a_new_object_in_mid_video_keeps_the_old_one():
    track = tracker()
    clip = frames(8)
    for _ in track.track(clip[:4], mask=disk_mask()):
        pass
    assert track.memory.frames() == (0, 2)
    track.predict(clip[4])
    alone = track.revert().labels
    prediction = track.correct([Click(70, 20, 5)])
    assert prediction.objects == (1, 5)
    untouched = alone.copy()
    untouched[prediction.labels == 5] = 0
    assert np.array_equal(prediction.labels == 1, untouched == 1)
    track.commit()
    assert track.memory.frames() == (0, 2, 4)
    for frame in clip[5:]:
        step = track.step(frame)
        assert step.prediction.objects == (1, 5)


def test_drop_forgets_one_object():
    track = tracker()
    clip = frames(6)
    for _ in track.track(clip[:3], mask=disk_mask() + disk_mask(70, 20, 2)):
        pass
    track.drop(1)
    step = track.step(clip[3])
    assert step.prediction.objects == (2,)
    assert set(np.unique(step.prediction.labels)) <= {0, 2}
    with pytest.raises(InputError, match="not tracked"):
        track.drop(1)


def test_a_user_correction_is_stored_at_once_and_changes_what_follows():
    clip = frames(6)
    masks = {}
    for corrected in (False, True):
        track = tracker(memory=FifoMemory(slots=4, every=50))
        for _ in track.track(clip[:3], mask=disk_mask()):
            pass
        track.predict(clip[3])
        if corrected:
            track.correct([Click(60, 20)])
        decision = track.commit()
        assert decision.kept is corrected
        assert track.memory.frames() == ((0, 3) if corrected else (0,))
        masks[corrected] = track.predict(clip[4]).probabilities
    assert not torch.equal(masks[True], masks[False])


def test_uncertain_frames_are_refused_and_retried_at_once():
    class Refuses(Lazy):
        def admits(self, prediction):
            return prediction.t not in (2, 3)

    track = tracker(policy=Refuses(ask=False, pseudo=False))
    reasons = {step.t: step.decision.reason for step in track.track(frames(7), mask=disk_mask())}
    assert reasons[2] == reasons[3] == "uncertain"
    assert track.memory.frames() == (0, 4, 6)


def test_snapshot_goes_on_exactly():
    clip = frames(9)
    straight = tracker()
    expected = [step.prediction.probabilities for step in straight.track(clip, mask=disk_mask())][5:]
    first = tracker()
    for _ in first.track(clip[:5], mask=disk_mask()):
        pass
    first.predict(clip[5])  # a frame at hand is not part of the snapshot
    second = tracker()
    second.load_state(first.state())
    assert second.t == 4
    got = [step.prediction.probabilities for step in second.track(clip[5:])]
    for a, b in zip(expected, got, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="size"):
        Tracker(small(), FifoMemory(), size=64).load_state(first.state())


def test_memory_stays_bounded():
    track = tracker()
    counts = [len(track.memory.frames()) for _ in track.track(frames(30), mask=disk_mask())]
    assert len(counts) == 30
    assert max(counts) == 4


def test_endless_source_is_walked_lazily():
    clip = frames(4)

    def endless():
        while True:
            yield from clip

    steps = tracker().track(endless(), mask=disk_mask())
    assert [next(steps).t for _ in range(6)] == list(range(6))


def test_geometry_round_trip():
    geometry = Geometry.of((61, 90), 48)
    assert geometry.inner == (48, 71)
    image = geometry.image(np.full((61, 90, 3), 128, np.uint8))
    assert image.shape == (3, 48, 80)
    prob = geometry.probabilities(torch.rand(2, 48, 80))
    assert prob.shape == (2, 61, 90)
    stack = torch.zeros(1, 61, 90)
    stack[0, 10:40, 20:60] = 1
    back = geometry.probabilities(geometry.masks(stack)) > 0.5
    assert (back != (stack > 0.5)).float().mean() < 0.03


def test_step_corrects_itself_and_asks_where_the_policy_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lazyvos.interact.hooks.pseudo_prompt", lambda prediction, identity, options: (Click(20, 20, identity),))

    class Scripted(Lazy):
        def decide(self, prediction):
            wish = {2: Action.PSEUDO, 4: Action.ASK}.get(prediction.t, Action.ACCEPT)
            return dict.fromkeys(prediction.objects, wish)

    class Person:
        def __init__(self) -> None:
            self.asked: list[Request] = []

        def answer(self, request, frame, prediction):
            self.asked.append(request)
            return [Click(50, 30, request.object)]

    person, track = Person(), tracker(policy=Scripted(), memory=FifoMemory(slots=6, every=2))
    steps = list(track.track(frames(6), person, mask=disk_mask()))
    assert [c.kind for step in steps for c in step.corrections] == ["mask", "pseudo", "user"]
    assert steps[2].decision.reason == "uncertain"
    assert steps[4].decision.kept
    (request,) = person.asked
    assert request.t == 4
    assert request.object == 1
    assert request.at is not None
    assert steps[4].requests == (request,)
    assert steps[4].prediction.labels[30, 50] == 1
    assert np.array_equal(steps[4].original.scores[1], steps[4].prediction.scores[1])
    nobody = list(tracker(policy=Scripted()).track(frames(6), None, mask=disk_mask()))
    assert nobody[4].requests == ()
    assert nobody[4].corrections == ()


def test_the_label_map_is_the_first_largest_channel() -> None:
    from lazyvos.tracker import _label_map

    generator = torch.Generator().manual_seed(0)
    for kind in (torch.float32, torch.bfloat16):
        prob = (torch.randint(0, 4, (4, 31, 47), generator=generator) / 4).to(kind)
        wanted = np.array([0, 5, 2, 9], np.uint8)[prob.float().numpy().argmax(0)]
        assert (_label_map(prob, (5, 2, 9)) == wanted).all()
