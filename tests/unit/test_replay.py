"""Decisions on recorded scores: those of a real run come out again, and a replay does not claim to know more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyvos import SimulatedUser, make_tracker
from lazyvos.build import make_policy, make_refiner
from lazyvos.curves import Mark
from lazyvos.datasets import GeneratedBenchmark
from lazyvos.interact import Always, Budgeted, Lazy, Nobody, RandomBudget
from lazyvos.interact.replay import Replay, replay
from lazyvos.types import InputError

CLIP = GeneratedBenchmark("long", seeds=[3], length=26, size=(64, 96))["crowd-s3"]
EAGER = {"tau_user": 0.03, "tau_pseudo": 0.01, "tau_memory": 0.35}


def track(policy, user):
    tracker = make_tracker(
        "tiny", memory="fifo", memory_options={"slots": 3, "every": 2}, policy=policy, refiner=make_refiner("tiny", sizes=[64], mirror=False),
        size=64, device="cpu", precision="fp32",
    )  # fmt: skip
    return list(tracker.track(CLIP.frames, user, mask=CLIP.mask(0)))


def recorded(steps):
    return {step.t: dict(step.original.scores) for step in steps}


@pytest.fixture(scope="module")
def run():
    """A run that asks, corrects itself and refuses frames, answered by a user who knows the truth."""
    return track(Lazy(**EAGER), SimulatedUser(CLIP.mask))


def test_a_run_comes_out_again(run) -> None:
    found = replay(recorded(run), Lazy(**EAGER))
    assert [(m.t, m.object) for m in found.requests] == [(r.t, r.object) for step in run for r in step.requests]
    pseudo = [(step.t, c.object) for step in run for c in step.corrections if c.kind == "pseudo"]
    assert sorted((m.t, m.object) for m in found.pseudo) == sorted(pseudo)
    assert all(m.score == run[m.t].original.scores[m.object] for m in (*found.requests, *found.pseudo))
    uncorrected = {step.t for step in run if not step.corrections}
    assert {step.t for step in run if step.decision.reason == "uncertain"} & uncorrected == set(found.refused) & uncorrected
    assert found.requests
    assert pseudo
    assert found.refused


def test_it_is_exact_up_to_where_it_parts_and_no_further(run) -> None:
    """A real run with other thresholds has the same scores up to the first difference, and other ones in the end."""
    other = make_policy("lazy", **{**EAGER, "tau_user": 0.06})
    old, new = replay(recorded(run), Lazy(**EAGER)), replay(recorded(run), other)
    parts = new.parts_from(old)
    assert parts is not None
    real = recorded(track(other, SimulatedUser(CLIP.mask)))
    before = recorded(run)
    assert all(real[t] == before[t] for t in range(parts + 1))
    truly = replay(real, other)
    assert [m for m in truly.requests if m.t <= parts] == [m for m in new.requests if m.t <= parts]
    assert real[len(run) - 1] != before[len(run) - 1]


numbers = st.integers(0, 40).map(lambda n: n / 20)  # sums of these are compared with thresholds on the same grid
series = st.dictionaries(st.integers(0, 12), st.dictionaries(st.integers(1, 3), st.none() | numbers, max_size=3), max_size=12)


@settings(max_examples=80, deadline=None)
@given(series, st.sampled_from([0.2, 0.5, 0.9]), st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([0.3, 0.8]))
def test_thresholds_decide(scores, user, pseudo, memory) -> None:
    found = replay(scores, Lazy(tau_user=user, tau_pseudo=pseudo, tau_memory=memory))
    asked, own = set(), set()
    for t, row in scores.items():
        for o, s in row.items():
            before = scores.get(t - 1, {}).get(o) if t > 1 else None
            if s is None or before is None:
                continue
            if s - before > user:
                asked.add((t, o))
            elif pseudo < s - before < user:
                own.add((t, o))
    assert {(m.t, m.object) for m in found.requests} == asked
    assert {(m.t, m.object) for m in found.pseudo} == own
    assert set(found.refused) == {t for t, row in scores.items() if any(s is not None and s > memory for s in row.values())}


def test_a_change_needs_the_frame_before() -> None:
    jump = Lazy(tau_user=0.5)
    assert replay({1: {1: 0.0}, 2: {1: 0.9}}, jump).requests == (Mark(2, 1, 0.9),)
    for gap in ({1: {1: 0.0}, 3: {1: 0.9}}, {1: {1: 0.0}, 2: {1: None}, 3: {1: 0.9}}, {0: {1: 0.0}, 1: {1: 0.9}}, {1: {2: 0.0}, 2: {1: 0.9}}):
        assert replay(gap, jump).requests == ()
    assert replay({2: {1: 0.9}, 1: {1: 0.0}}, jump).requests == (Mark(2, 1, 0.9),), "frames come in order of their numbers"
    assert replay({}, jump) == Replay()


def test_other_policies_that_look_at_scores() -> None:
    scores = {t: {1: 0.9 * (t % 2), 2: 0.8 * (t % 2)} for t in range(1, 40)}
    assert len(replay(scores, Always()).requests) == 2 * 39
    chance = replay(scores, RandomBudget(rate=0.2, seed=4))
    assert chance == replay(scores, RandomBudget(rate=0.2, seed=4)) != replay(scores, RandomBudget(rate=0.2, seed=5))
    budget = Budgeted(per_minute=2, fps=1.0, minutes=10 / 60)
    state = budget.state()
    first = replay(scores, budget)
    asked = [m.t for m in first.requests]
    assert asked
    assert all(sum(t <= a < t + 10 for a in asked) <= 2 for t in range(40))
    assert replay(scores, budget) == first, "the policy is copied"
    assert budget.state() == state


@pytest.mark.parametrize(("name", "reads"), [("outside", "labels|probabilities"), ("persistent", "labels")])
def test_policies_that_look_at_masks_are_refused(name, reads) -> None:
    with pytest.raises(InputError, match=reads):
        replay({1: {1: 0.1}, 2: {1: 0.9}}, make_policy(name))


def test_bad_scores_are_named() -> None:
    with pytest.raises(InputError, match="object 1 on frame 2 is nan"):
        replay({2: {1: math.nan}}, Lazy())
    with pytest.raises(InputError, match="frame -1"):
        replay({-1: {1: 0.2}}, Lazy())


def test_where_two_replays_part() -> None:
    a = Replay((Mark(4, 1, 0.6),), (Mark(7, 2, 0.3),), (5,))
    assert a.parts_from(a) is None
    assert a.parts_from(Replay()) == 4
    assert a.parts_from(Replay((Mark(4, 1, 0.2),), (Mark(7, 2, 0.1),), (5,))) is None, "scores do not matter"
    assert a.parts_from(Replay((Mark(4, 1, 0.6),), (), (5,))) == 7
    assert Replay((Mark(4, 1, 0.6),), a.pseudo, ()).parts_from(a) == 5


def test_nobody_is_asked_in_a_replay_of_a_run_that_asks_nobody() -> None:
    steps = track(Lazy(**EAGER, ask=False), Nobody())
    assert replay(recorded(steps), Lazy(**EAGER, ask=False)).requests == ()
    assert replay(recorded(steps), Lazy(**EAGER)).requests
    assert np.isfinite([s for row in recorded(steps).values() for s in row.values()]).all()
