"""Policies beyond the published one, what they remember, and what the tracker does with what they say."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.build import POLICIES, make_policy, make_tracker
from lazyvos.datasets.synthetic import SyntheticClip
from lazyvos.interact import (
    Agreement,
    Budgeted,
    Lazy,
    LazyQdmn,
    Outside,
    Persistent,
    Policy,
    PseudoOptions,
    RandomBudget,
    Wrapper,
    hooks,
    lookalike,
    pseudo_click,
    pseudo_prompt,
)
from lazyvos.interact.agreement import overlap
from lazyvos.memory import (
    Dam4SamMemory,
    FifoMemory,
    LongTermMemory,
    QdmnBank,
    ReadMem,
    RMem,
    Sam2LongMemory,
    Unbounded,
)
from lazyvos.session import Session
from lazyvos.tracker import Tracker
from lazyvos.types import Action, Click, InputError, Prediction

quick = settings(max_examples=40, deadline=None)
ASK, PSEUDO, ACCEPT = Action.ASK, Action.PSEUDO, Action.ACCEPT
SIZE = (60, 88)


def prediction(t=5, scores=None, deltas=None, labels=None, lit=None):
    """``lit``: object -> probability map ``[H, W]``; else a pixel is 0.98 of what its label says."""
    scores = {1: 0.1} if scores is None else scores
    labels = np.zeros((40, 60), np.uint8) if labels is None else labels
    planes = [(lit or {}).get(o, np.where(labels == o, 0.98, 0.01)) for o in scores]
    rest = np.maximum(1 - np.sum(planes, axis=0), 1e-7) if planes else np.ones(labels.shape)
    p = torch.from_numpy(np.stack([rest, *planes]).astype(np.float32))
    return Prediction(
        t=t, labels=labels, probabilities=p / p.sum(0), objects=tuple(scores), entropy=np.zeros(labels.shape, np.float32), scores=scores,
        deltas=dict.fromkeys(scores) if deltas is None else deltas,
    )  # fmt: skip


def series(scores, areas=None):
    """Predictions of one object with these scores from frame 1 on."""
    out, before = [], None
    for k, s in enumerate(scores):
        labels = np.zeros((20, 20), np.uint8)
        labels.flat[: 100 if areas is None else areas[k]] = 1
        out.append(prediction(k + 1, {1: s}, {1: None if before is None else s - before}, labels))
        before = s
    return out


def square(y, x, side, value=1, shape=(40, 60)):
    out = np.zeros(shape, np.uint8)
    out[y : y + side, x : x + side] = value
    return out


# --- options of the published method


def test_inclusive_comparison_differs_at_equality_only():
    strict, inclusive = Lazy(0.5, 0.25), Lazy(0.5, 0.25, comparison="inclusive")
    for value, a, b in [(0.5, ACCEPT, ASK), (0.25, ACCEPT, PSEUDO), (0.375, PSEUDO, PSEUDO), (0.625, ASK, ASK), (0.125, ACCEPT, ACCEPT)]:
        p = prediction(scores={1: 0.3}, deltas={1: value})
        assert (strict.decide(p)[1], inclusive.decide(p)[1]) == (a, b)


def test_level_thresholds_stand_beside_the_trigger():
    p = prediction(scores={1: 0.9, 2: 0.5, 3: 0.1}, deltas={1: 0.0, 2: None, 3: 0.6})
    assert Lazy().decide(p) == {1: ACCEPT, 2: ACCEPT, 3: ASK}
    assert Lazy(level_user=0.8, level_pseudo=0.4).decide(p) == {1: ASK, 2: PSEUDO, 3: ASK}
    assert Lazy(level_user=0.8, level_pseudo=0.4).decide(replace(p, t=0)) == dict.fromkeys((1, 2, 3), ACCEPT)


def test_udu_of_the_frame_or_of_objects():
    p = prediction(scores={1: 0.9, 2: 0.1})
    frame, own = Lazy(), Lazy(udu_scope="object")
    assert (frame.admits(p), frame.admitted(p)) == (False, (1, 2))
    assert (own.admits(p), own.admitted(p)) == (True, (2,))
    assert not own.admits(prediction(scores={1: 0.9, 2: 0.85}))
    assert Lazy(udu=False, udu_scope="object").admitted(p) == (1, 2)


def test_options_name_what_is_wrong():
    for options in ({"comparison": "loose"}, {"udu_scope": "pixel"}, {"pseudo_result": "lost"}, {"output": "both"}, {"level_user": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Lazy(**options)
    for options in ({"location": "middle"}, {"field": "thesis"}, {"negatives": "all"}, {"small_object": "drop"}, {"tau_negative": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(options))):
            PseudoOptions(**options)


def test_lazy_qdmn_is_lazy_with_a_named_estimator():
    assert LazyQdmn().estimator == "quality"
    p = prediction(scores={1: 0.9, 2: 0.3}, deltas={1: 0.6, 2: 0.3})
    assert LazyQdmn(0.7).decide(p) == Lazy(0.7).decide(p) == {1: PSEUDO, 2: PSEUDO}


# --- prompts


def test_prompt_is_the_published_click_by_default():
    p = prediction(labels=square(8, 10, 15))
    assert pseudo_prompt(p, 1) == (pseudo_click(p, 1),)
    assert pseudo_prompt(prediction(), 1) == ()
    assert pseudo_prompt(p, 1, PseudoOptions(location="distance_only")) == (pseudo_click(p, 1, location="distance_only"),)


def test_sam_grid_finds_the_same_place_in_other_pixels():
    labels = square(5, 8, 21, shape=(48, 48))
    (plain,), (fine,) = (pseudo_prompt(prediction(labels=labels), 1, PseudoOptions(sam_grid=on)) for on in (False, True))
    assert abs(plain.x - fine.x) < 0.5
    assert abs(plain.y - fine.y) < 0.5
    wide = square(5, 8, 21)  # in a frame that is not square the square is high, so that the depth differs
    (click,) = pseudo_prompt(prediction(labels=wide), 1, PseudoOptions(sam_grid=True))
    assert abs(click.x - 18) < 0.5
    assert wide[round(click.y), round(click.x)] == 1
    corner = np.zeros((40, 60), np.uint8)
    corner[0, 0] = 1
    (at,) = pseudo_prompt(prediction(labels=corner), 1, PseudoOptions(sam_grid=True))
    at.check_inside((40, 60))


def test_negative_clicks_on_others_and_outside():
    labels = square(5, 5, 15) + square(5, 40, 11, 2)
    p = prediction(scores={1: 0.1, 2: 0.1}, labels=labels)
    positive, negative = pseudo_prompt(p, 1, PseudoOptions(negatives="others"))
    assert (positive.positive, negative.positive, negative.object) == (True, False, 1)
    assert labels[int(negative.y), int(negative.x)] == 2
    lit = np.where(labels == 1, 0.95, 0.01)
    lit[25:35, 30:40] = 0.45
    twin = prediction(labels=np.where(labels == 1, labels, 0).astype(np.uint8), lit={1: lit})
    _, away = pseudo_prompt(twin, 1, PseudoOptions(negatives="outside"))
    assert not away.positive
    assert 28 <= away.y <= 31
    assert 33 <= away.x <= 36
    assert len(pseudo_prompt(twin, 1, PseudoOptions(negatives="outside", tau_negative=0.9))) == 1


def test_a_prompt_that_the_refiner_cannot_take_is_named():
    class Able:
        prompts = ("box", "prompt_with_mask")

    options = PseudoOptions(box=True, prompt_with_mask=True)
    assert options.arguments(Able()) == {"box": True, "prompt_with_mask": True}
    assert PseudoOptions().arguments(object()) == {}
    with pytest.raises(InputError, match="sam-hq"):
        options.arguments(object())


# --- outside


@quick
@given(hnp.arrays(np.float32, (12, 16), elements=st.floats(0, 0.484375, width=32)), st.integers(0, 8), st.integers(0, 8))
def test_a_lookalike_lies_outside_the_mask_and_is_lit(noise, y, x):
    labels = square(y, x, 4, shape=(12, 16))
    lit = np.where(labels == 1, 0.9, noise)
    found = lookalike(prediction(labels=labels, lit={1: lit}), 1)
    threshold = 0.1100  # entropy of half a bit
    if found is None:
        return
    column, row = found.at
    assert labels[row, column] == 0
    assert lit[row, column] >= threshold - 1e-3
    assert 0 < found.score <= (lit.size - 16) / 16
    assert found.area == 16


def test_a_lookalikes_score_is_its_size_relative_to_the_object():
    labels = square(5, 5, 10)
    lit = np.where(labels == 1, 0.95, 0.001)
    lit[5:15, 40:50] = 0.5  # one bit on as many pixels as the object has
    found = lookalike(prediction(labels=labels, lit={1: lit}), 1)
    assert found is not None
    assert found.score == pytest.approx(1.0, abs=1e-3)
    half = lookalike(prediction(labels=labels, lit={1: lit}), 1, area=200.0)
    assert half is not None
    assert half.score == pytest.approx(0.5, abs=1e-3)
    assert lookalike(prediction(labels=labels), 1) is None
    assert lookalike(prediction(labels=labels), 7) is None


def around(t, brightness, side=12, seen=True):
    labels = square(5, 5, 10) if seen else np.zeros((40, 60), np.uint8)
    lit = np.where(labels == 1, 0.95, 0.001)
    if brightness:
        lit[20 : 20 + side, 40 : 40 + side] = brightness
    return prediction(t, labels=labels, lit={1: lit})


def test_outside_asks_once_for_a_lookalike_that_stays():
    policy = Outside()
    wishes = [policy.decide(around(t, 0.45 if t > 3 else 0))[1] for t in range(1, 9)]
    assert wishes == [ACCEPT] * 3 + [ASK] + [ACCEPT] * 4
    again = [policy.decide(around(t, 0.45 if t > 10 else 0))[1] for t in range(9, 13)]
    assert again == [ACCEPT, ACCEPT, ASK, ACCEPT]
    assert set(Lazy().decide(around(4, 0.45)).values()) == {ACCEPT}


def test_outside_asks_for_a_lost_object_that_glimmers_elsewhere_and_corrects_a_small_lookalike():
    policy = Outside()
    assert policy.decide(around(1, 0))[1] is ACCEPT
    assert policy.decide(around(2, 0.3, side=6))[1] is PSEUDO
    clicks = policy.pseudo_clicks(around(2, 0.3, side=6), 1)
    assert [click.positive for click in clicks] == [True, False]
    assert policy.decide(around(3, 0.3, side=6))[1] is ACCEPT
    lost = around(4, 0.3, side=6, seen=False)
    assert policy.decide(lost)[1] is ASK
    assert policy.worth(lost)[1] == 1.0
    assert Outside().decide(lost)[1] is ACCEPT  # never seen before: nothing is known of it
    assert Outside(ask=False, pseudo=False).decide(around(2, 0.45))[1] is ACCEPT


def test_outside_keeps_what_its_base_wants():
    p = prediction(scores={1: 0.9, 2: 0.3}, deltas={1: 0.6, 2: 0.3}, labels=square(5, 5, 10) + square(5, 40, 10, 2))
    assert Outside().decide(p) == Lazy().decide(p) == {1: ASK, 2: PSEUDO}
    assert not Outside().admits(p)


# --- agreement


@quick
@given(hnp.arrays(bool, (6, 7)), hnp.arrays(bool, (6, 7)), st.floats(0, 1))
def test_agreement_is_the_overlap_of_the_two_masks(a, b, tau):
    labels = a.astype(np.uint8)
    iou = 1.0 if not (a | b).any() else (a & b).sum() / (a | b).sum()
    assert overlap(a, b) == pytest.approx(iou)
    assert Agreement(tau_agree=tau).trusts(prediction(labels=labels), 1, b) == (overlap(a, b) >= tau)
    assert not Agreement(base=Agreement(tau_agree=1.0), tau_agree=0.0).trusts(prediction(labels=labels), 1, ~a)


# --- persistent


@quick
@given(st.lists(st.floats(0, 1), max_size=30))
def test_persistent_with_a_window_of_one_is_the_published_trigger(scores):
    policy = Persistent(window=1, refractory=0, collapse=0.0, jump=np.inf)
    for p in series(scores):
        assert policy.decide(p) == Lazy().decide(p)


def test_a_slow_rise_is_asked_about_once():
    rising = [0.1] * 12 + [0.1 + 0.07 * k for k in range(1, 10)] + [0.73] * 20
    assert max(np.diff(rising)) < 0.2
    policy = Persistent()
    asked = [p.t for p in series(rising) if policy.decide(p)[1] is ASK]
    assert len(asked) == 1
    assert all(Lazy().decide(p)[1] is ACCEPT for p in series(rising))


def test_a_collapse_and_a_jump_of_the_area_are_asked_about():
    for areas in ([100] * 12 + [5] * 20, [100] * 12 + [390] * 20, [100] * 12 + [0] * 20):
        policy = Persistent()
        frames = series([0.1] * len(areas), areas)
        assert [p.t for p in frames if policy.decide(p)[1] is ASK] == [13]
        assert Persistent(collapse=0.0, jump=np.inf).decide(frames[12])[1] is ACCEPT
    small = Persistent()
    assert all(small.decide(p)[1] is ACCEPT for p in series([0.1] * 24, [20] * 12 + [0] * 12))


@quick
@given(st.lists(st.floats(0, 1), min_size=5, max_size=60), st.integers(1, 8), st.integers(0, 8))
def test_an_object_is_left_alone_after_a_request(scores, window, rest):
    policy = Persistent(window=window, refractory=rest, tau_rise=0.2, base=Lazy(0.2))
    asked = [p.t for p in series(scores) if policy.decide(p)[1] is ASK]
    assert all(b - a > rest for a, b in pairwise(asked))


# --- budget


@quick
@given(
    st.lists(st.lists(st.none() | st.floats(-1, 2), min_size=2, max_size=2), max_size=120), st.integers(0, 4),
    st.sampled_from([0.1, 0.25, 0.5]), st.floats(-0.5, 0.6),
)  # fmt: skip
def test_no_window_holds_more_than_the_budget(values, budget, fps, floor):
    policy = Budgeted(per_minute=budget, fps=fps, floor=floor, start=floor)
    assert policy.window == round(60 * fps)
    asked = []
    for t, pair in enumerate(values, 1):
        p = prediction(t, {1: 0.5, 2: 0.5}, dict(zip((1, 2), pair, strict=True)), np.zeros((2, 2), np.uint8))
        wishes = policy.decide(p)
        asked += [t for wish in wishes.values() if wish is ASK]
        assert all(pair[o - 1] is not None and pair[o - 1] > floor for o, wish in wishes.items() if wish is ASK)
    for first in range(1, len(values) + 1):
        assert sum(first <= t < first + policy.window for t in asked) <= budget


def test_the_budget_goes_to_the_largest_values():
    rng = np.random.default_rng(0)
    policy = Budgeted(per_minute=2, fps=1.0)
    values = rng.random(1200)  # twenty minutes
    asked = {}
    for t, v in enumerate(values, 1):
        p = prediction(t, {1: 0.5}, {1: float(v)}, np.zeros((2, 2), np.uint8))
        if policy.decide(p)[1] is ASK:
            asked[t] = v
    late = [v for t, v in asked.items() if t > 60]
    assert 19 <= len(late) <= 38, "about two a minute once a window is known"
    assert min(late) > np.quantile(values, 0.9)
    both = prediction(5, {1: 0.5, 2: 0.5}, {1: 0.7, 2: 0.9}, np.zeros((2, 2), np.uint8))
    assert Budgeted(per_minute=1).decide(both) == {1: ACCEPT, 2: ASK}


def test_a_calm_clip_lowers_the_threshold_and_a_wild_one_raises_it():
    def asked(top):
        policy, found = Budgeted(per_minute=1, fps=1.0), []
        for t in range(1, 601):
            v = top if t % 50 == 0 else 0.0
            p = prediction(t, {1: 0.5}, {1: v}, np.zeros((2, 2), np.uint8))
            found += [t] if policy.decide(p)[1] is ASK else []
        return found

    assert len(asked(0.3)) > 3
    assert asked(0.15) == []


# --- what policies remember


def steady(seed=0, count=50):
    rng = np.random.default_rng(seed)
    labels = [square(5, 5, int(side)) for side in rng.integers(2, 14, count)]
    scores = rng.random(count)
    return [
        replace(around(t + 1, float(rng.choice([0, 0.3, 0.45]))), labels=labels[t], scores={1: scores[t]},
                deltas={1: scores[t] - scores[t - 1] if t else None}, probabilities=around(t, float(rng.choice([0, 0.45]))).probabilities)
        for t in range(count)
    ]  # fmt: skip


STATEFUL = {
    "outside": Outside, "persistent": Persistent, "budget": lambda: Budgeted(per_minute=3, fps=0.2),
    "all": lambda: Budgeted(Agreement(Outside(Persistent())), per_minute=3, fps=0.2),
}  # fmt: skip


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL.keys())
def test_a_policy_may_be_asked_twice_and_goes_on_from_its_state(make):
    clip = steady()
    once, twice, resumed = make(), make(), make()
    expected = [once.decide(p) for p in clip]
    assert len({wish for w in expected for wish in w.values()}) > 1
    for p, want in zip(clip, expected, strict=True):
        again = copy.copy(p)  # another object of the same frame, so that nothing is remembered by identity
        assert twice.decide(p) == twice.decide(p) == twice.decide(again) == want
    for p in clip[:25]:
        resumed.decide(p)
    saved = copy.deepcopy(resumed.state())
    for p in clip[25:30]:
        resumed.decide(p)
    fresh = make()
    fresh.load_state(saved)
    resumed.load_state(saved)
    assert fresh.decide(copy.copy(clip[24])) == expected[24]
    for policy in (fresh, resumed, pickle.loads(pickle.dumps(fresh))):
        assert [policy.decide(p) for p in clip[25:]] == expected[25:]
    assert [once.decide(p) for p in clip] == expected, "a lower frame number is a new clip"
    assert repr(once) == repr(make())
    assert once == make()


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL.keys())
def test_state_is_plain_enough_to_be_saved(make, tmp_path):
    policy = make()
    for p in steady(1, 12):
        policy.decide(p)
    torch.save(policy.state(), tmp_path / "state.pt")
    fresh = make()
    fresh.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert fresh.state() == policy.state()


# --- by name


def test_every_policy_has_a_name():
    for name in POLICIES:
        policy = make_policy(name)
        assert isinstance(policy, Policy)
        assert (policy.pseudo_idu, policy.user_idu) == (False, True)
        assert hash(policy) == hash(make_policy(name))
        assert hooks.output(policy) == "refined"
    with pytest.raises(InputError, match="lazy"):
        make_policy("eager")
    with pytest.raises(TypeError, match="tau"):
        make_policy("lazy+", tau=1)


def test_policies_are_built_around_one_another():
    assert make_policy("lazy", pseudo_options={"negatives": "others"}) == Lazy(pseudo_options=PseudoOptions(negatives="others"))
    assert make_policy("random", rate=0.1, rest={"tau_pseudo": 0.3}) == RandomBudget(0.1, rest=Lazy(ask=False, tau_pseudo=0.3))
    nested = make_policy("budget", per_minute=4, base={"name": "outside", "base": {"tau_user": 0.4}})
    assert nested == Budgeted(Outside(Lazy(tau_user=0.4)), per_minute=4)
    assert make_policy("lazy+", base="never", outside={"gone": 0.2}) == Agreement(Outside(Persistent(make_policy("never")), gone=0.2))
    thesis = Agreement(base=Lazy(output="original", pseudo_result="dropped", pseudo_idu=True, pseudo_options=PseudoOptions(box=True)))
    assert (hooks.output(thesis), hooks.pseudo_result(thesis), thesis.pseudo_idu, thesis.pseudo_options.box) == ("original", "dropped", True, True)


def test_wrong_numbers_are_named():
    for make, name in [
        (lambda: Agreement(tau_agree=2), "tau_agree"), (lambda: Persistent(window=0), "window"), (lambda: Persistent(jump=0.5), "jump"),
        (lambda: Budgeted(per_minute=-1), "per_minute"), (lambda: Budgeted(fps=0), "fps"), (lambda: Budgeted(history=0), "history"),
        (lambda: Outside(steady=0), "steady"), (lambda: Outside(tau_user=float("nan")), "tau_user"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=name):
            make()


# --- in the tracker


class Disk:
    """A disk of radius 9 around positive clicks."""

    def __init__(self, radius=9):
        self.radius, self.seen = radius, []

    def refine(self, frame, clicks, mask=None):
        self.seen.append(tuple(clicks))
        rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
        inside = np.zeros(frame.shape[:2], bool)
        for c in clicks:
            near = (rows - c.y) ** 2 + (columns - c.x) ** 2 <= self.radius**2
            inside = inside | near if c.positive else inside & ~near
        return torch.from_numpy(inside.astype(np.float32))


def scripted(base=Lazy, /, **options):
    """``base`` whose wishes are given: frame -> object -> action."""

    class Scripted(base):
        script: dict = {}  # noqa: RUF012

        def decide(self, p):
            return {o: self.script.get(p.t, {}).get(o, ACCEPT) for o in p.objects}

    policy = Scripted(**options)
    return policy


def small():
    torch.manual_seed(0)
    return XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False)).eval()


def frames(count, seed=0):
    base = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)
    return [np.roll(base, t, 1) for t in range(count)]


def disks():
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    one, two = ((rows - 30) ** 2 + (columns - x) ** 2 <= 144 for x in (28, 60))
    return (one * 1 + (two & ~one) * 2).astype(np.uint8)


def run(policy, script, count=5, user=None, memory=None, refiner=None):
    type(policy).script = script
    track = Tracker(small(), memory or FifoMemory(slots=4, every=2), policy=policy, refiner=refiner or Disk(), size=48)
    return track, list(track.track(frames(count), user, mask=disks()))


class Person:
    def answer(self, request, frame, prediction):
        return [Click(50, 30, request.object)]


def test_a_correction_that_is_not_trusted_leaves_everything_as_it_was():
    plain, _ = run(scripted(Lazy), {}, 2)
    before = plain.predict(frames(3)[2])

    class Distrusts(Lazy):
        def trusts(self, prediction, identity, mask):
            assert mask.shape == SIZE
            assert mask.any()
            return identity == 2

    script = {2: {1: PSEUDO, 2: PSEUDO}}
    _, (*_, step) = run(scripted(Distrusts), script, 3)
    assert step.extra["rejected"] == (1,)
    assert [(c.object, c.kind) for c in step.corrections] == [(2, "pseudo")]
    assert step.prediction.refined == (2,)
    own = step.prediction.labels == 1
    assert not (own & (before.labels != 1)).any()
    assert step.decision.reason == "uncertain"

    _, (*_, step) = run(scripted(Agreement, tau_agree=1.0), {2: {1: PSEUDO}}, 3, refiner=Disk(3))
    assert torch.equal(step.prediction.probabilities, before.probabilities)
    assert step.corrections == ()
    assert step.extra["rejected"] == (1,)
    assert not step.decision.kept
    _, (*_, stored) = run(scripted(Agreement, tau_agree=1.0, store_rejected=True, base=Lazy(udu=False)), {2: {1: PSEUDO}}, 3, refiner=Disk(3))
    assert stored.decision.kept


def test_released_behaviours_by_name():
    script = {2: {1: PSEUDO, 2: ASK}}
    results = {}
    for name, options in {"thesis": {}, "yields": {"pseudo_result": "yields"}, "dropped": {"pseudo_result": "dropped"}}.items():
        _, (*_, step) = run(scripted(Lazy, **options), script, 3, Person())
        results[name] = step.prediction.labels
        assert step.decision.kept, "a person's correction is stored"
    _, (*_, alone) = run(scripted(Lazy), {2: {2: ASK}}, 3, Person())
    assert np.array_equal(results["yields"], alone.prediction.labels)
    assert np.array_equal(results["dropped"], alone.prediction.labels)
    assert not np.array_equal(results["thesis"], alone.prediction.labels)

    _, (*_, dropped) = run(scripted(Lazy, pseudo_result="dropped"), {2: {1: PSEUDO}}, 3)
    assert torch.equal(dropped.prediction.probabilities, dropped.original.probabilities)
    assert (dropped.decision.kept, dropped.decision.reason) == (False, "uncertain")
    assert [c.kind for c in dropped.corrections] == ["pseudo"]

    track, (*_, step) = run(scripted(Lazy, output="original"), {2: {1: ASK}}, 3, Person())
    other, (*_, refined) = run(scripted(Lazy), {2: {1: ASK}}, 3, Person())
    assert np.array_equal(step.prediction.labels, step.original.labels)
    assert not np.array_equal(refined.prediction.labels, refined.original.labels)
    assert torch.equal(track.predict(frames(4)[3]).probabilities, other.predict(frames(4)[3]).probabilities), "the memory has it all the same"


def test_negative_clicks_reach_the_refiner():
    refiner = Disk()
    run(scripted(Lazy, pseudo_options=PseudoOptions(negatives="others")), {2: {1: PSEUDO}}, 3, refiner=refiner)
    (clicks,) = refiner.seen
    assert [c.positive for c in clicks] == [True, False]
    with pytest.raises(InputError, match="box"):
        run(scripted(Lazy, pseudo_options=PseudoOptions(box=True)), {2: {1: PSEUDO}}, 3)


@pytest.mark.parametrize(
    "memory", [lambda: FifoMemory(slots=4, every=1), lambda: Unbounded(every=1), lambda: ReadMem(slots=3, every=1),
               lambda: Dam4SamMemory(), lambda: RMem(slots=3, every=1), lambda: Sam2LongMemory(), lambda: QdmnBank(every=1)],
    ids=["fifo", "unbounded", "readmem", "dam4sam", "rmem", "sam2long", "qdmn"],
)  # fmt: skip
def test_an_uncertain_object_is_kept_out_of_the_memory_and_the_other_is_not(memory):
    class Doubts(Lazy):
        def decide(self, p):
            return dict.fromkeys(p.objects, ACCEPT)

        def admits(self, p):
            return True

        def admitted(self, p):
            return (2,) if p.t == 1 else p.objects

    track = Tracker(small(), memory(), policy=Doubts(), size=48)
    offered = []
    offer = track.memory.offer
    track.memory.offer = lambda entry, clock, **kw: offered.append(entry) or offer(entry, clock, **kw)
    steps = list(track.track(frames(5), mask=disks()))
    assert len(steps) == 5
    assert offered[0].t == 1
    assert offered[0].objects == (2,)
    assert offered[0].value.shape[0] == offered[0].masks.shape[0] == 1
    assert all(entry.objects == (1, 2) for entry in offered[1:])
    assert all(set(step.prediction.objects) == {1, 2} for step in steps)


def test_a_memory_of_whole_frames_refuses_the_scope_of_objects():
    for policy in (Lazy(udu_scope="object"), Outside(Lazy(udu_scope="object")), RandomBudget(rest=Lazy(ask=False, udu_scope="object"))):
        with pytest.raises(InputError, match="udu_scope"):
            Tracker(small(), LongTermMemory(), policy=policy, size=48)


def test_snapshots_carry_what_the_policy_remembers():
    clip = frames(12)

    def fresh():
        policy = Budgeted(Outside(Persistent(Lazy(-1.0, -2.0), window=2, refractory=2), steady=0.5), per_minute=2, fps=0.05, floor=-1.0, start=-1.0)
        return Tracker(small(), FifoMemory(slots=4, every=2), policy=policy, refiner=Disk(), size=48)

    straight = fresh()
    expected = [[r.object for r in s.requests] for s in straight.track(clip, Person(), mask=disks())]
    assert sum(map(len, expected)) > 2
    first = fresh()
    for _ in first.track(clip[:6], Person(), mask=disks()):
        pass
    first.predict(clip[6])
    first.wishes()  # of the frame at hand, which the snapshot does not hold
    second = fresh()
    second.load_state(first.state())
    assert [[r.object for r in s.requests] for s in second.track(clip[6:], Person())] == expected[6:]


def test_a_session_goes_on_with_the_policys_memory_and_its_distrust(tmp_path):
    clip = frames(10)

    def build():
        policy = Agreement(Budgeted(Lazy(-1.0, -2.0), per_minute=2, fps=0.05, floor=-1.0, start=-1.0), tau_agree=1.0)
        return Tracker(small(), FifoMemory(slots=4, every=2), policy=policy, refiner=Disk(3), size=48)

    def go(session):
        return [(s.t, tuple(r.object for r in s.requests), s.decision.kept) for s in iter(session.advance, None)]

    with Session(clip, build(), user=Person()) as session:
        session.correct(mask=disks())
        expected = go(session)
    assert sum(len(asked) for _, asked, _ in expected) > 2
    with Session(clip, build(), user=Person()) as session:
        session.correct(mask=disks())
        for _ in range(4):
            session.advance()
        session.snapshot(tmp_path / "s.pt")
    with Session.resume(tmp_path / "s.pt", clip, build(), user=Person()) as again:
        assert go(again) == expected[4:]

    class Wants(Agreement):
        def decide(self, p):
            return dict.fromkeys(p.objects, PSEUDO if p.t == 2 else ACCEPT)

    def steps(undo):
        track = Tracker(small(), FifoMemory(slots=4, every=2), policy=Wants(Lazy(udu=False), tau_agree=1.0), refiner=Disk(3), size=48)
        with Session(clip[:4], track) as session:
            session.correct(mask=disks())
            session.advance()
            session.advance()
            if undo:
                session.click(30, 30)
                session.undo()
            return session.advance()

    assert steps(False).extra["rejected"] == steps(True).extra["rejected"] == (1, 2)
    assert steps(True).decision.reason == steps(False).decision.reason == "uncertain"


def test_a_plain_policy_needs_nothing_more():
    class Plain:
        pseudo_idu, user_idu = False, True

        def decide(self, p):
            return dict.fromkeys(p.objects, PSEUDO if p.t == 2 else ACCEPT)

        def admits(self, p):
            return True

    track = Tracker(small(), FifoMemory(slots=4, every=2), policy=Plain(), refiner=Disk(), size=48)
    steps = list(track.track(frames(4), mask=disks()))
    assert [c.kind for c in steps[2].corrections] == ["pseudo", "pseudo"]
    assert steps[2].extra == {}
    copied = Tracker(small(), FifoMemory(slots=4, every=2), policy=Plain(), size=48)
    copied.load_state(track.state())
    wrapped = Wrapper(Plain())
    assert isinstance(wrapped, Policy)
    assert wrapped.state() == {"base": {}, "own": {}}


# --- two objects, the shipped network


class Click1:
    """Answers with a click; on the object of the request only."""

    def __init__(self, truth):
        self.truth = truth

    def answer(self, request, frame, prediction):
        rows, columns = np.nonzero(self.truth(request.t) == request.object)
        return [Click(float(columns[len(columns) // 2]), float(rows[len(rows) // 2]), request.object)]


@pytest.mark.parametrize("kind", ["user", "pseudo"])
def test_a_correction_of_one_object_changes_the_others_stored_mask_only_by_aggregation(kind, monkeypatch):
    clip = SyntheticClip(seed=3, length=6, size=(96, 128), objects=2)
    first = np.asarray(clip.mask(0))
    ids = [int(i) for i in np.unique(first) if 0 < i < 255]
    assert len(ids) == 2
    one, two = ids
    at = 4
    policy = scripted(Lazy, udu=False, pseudo_idu=True)
    type(policy).script = {at: {one: ASK if kind == "user" else PSEUDO}}
    tracker = make_tracker(policy=policy, device="cpu", size=None, memory_options={"every": 4})
    written = {}
    memorise = tracker.backbone.memorise

    def spy(t, query, image, prob, objects, state, deep):
        written[t] = prob.clone(), objects
        return memorise(t, query, image, prob, objects, state, deep)

    monkeypatch.setattr(tracker.backbone, "memorise", spy)
    steps = list(tracker.track((np.asarray(f) for f in clip), Click1(lambda t: np.asarray(clip.mask(t))), mask=first))
    step = steps[at]
    assert [(c.object, c.kind) for c in step.corrections] == [(one, kind)]
    assert step.decision.kept
    stored, objects = written[at]
    assert objects == (one, two)
    own = torch.from_numpy((step.original.labels == two).astype(np.float32))
    refined = step.prediction.labels == one
    assert not np.array_equal(refined, step.original.labels == one), "the correction did something"
    assert own.any()
    # the stack in memory: the refined mask, and the other object's own prediction, aggregated
    alone = aggregate(torch.stack([torch.zeros_like(own), own]), 0)[1]
    size = own.shape
    plane = stored[1][: size[0], : size[1]]
    assert stored.shape[-2:] == size, "the clip has the network's size, so nothing is resized"
    overlap_ = stored[0] > 0.25  # where the corrected object claims the pixel
    assert torch.allclose(plane[~overlap_], alone[2][~overlap_], atol=1e-6)
    changed = (plane - alone[2]).abs() > 1e-3
    assert not (changed & ~overlap_).any()
    shared = overlap_ & (own > 0)
    if shared.any():
        assert torch.allclose(plane[shared], stored[0][shared], atol=1e-5), "both claim it, they share it"
    labels = step.prediction.labels
    lost = (step.original.labels == two) & (labels != two)
    assert (labels[lost] == one).all()
    assert not ((labels == two) & (step.original.labels != two)).any()


def test_the_estimator_of_a_policy_is_used_unless_another_is_named() -> None:
    with pytest.raises(InputError, match="quality"):
        make_tracker("tiny", policy="lazy-qdmn", refiner=None)
    tracker = make_tracker("tiny", policy="lazy-qdmn", uncertainty="entropy", refiner=None)
    assert type(tracker.uncertainty).__name__ == "Entropy"
