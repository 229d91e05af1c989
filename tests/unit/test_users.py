"""Users that answer requests: where they click, their faults, and that a slow one holds nothing up in live mode."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.build import USERS, make_user
from lazyvos.interact import (
    Background,
    Careless,
    Late,
    Lazy,
    Nobody,
    Shaky,
    SimulatedUser,
    User,
    dispersed_point,
    distance_field,
    hooks,
)
from lazyvos.memory import FifoMemory
from lazyvos.session import Session
from lazyvos.tracker import Tracker
from lazyvos.types import Action, Click, InputError, Prediction, Request

quick = settings(max_examples=40, deadline=None)
SIZE = (60, 88)
FRAME = np.zeros((*SIZE, 3), np.uint8)


def request(t=5, identity=1):
    return Request(t, identity, 0.9, 0.6)


def disk(x=30, y=30, radius=12, value=1):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (((rows - y) ** 2 + (columns - x) ** 2 <= radius**2) * value).astype(np.uint8)


def prediction(t=5, labels=None):
    labels = np.zeros(SIZE, np.uint8) if labels is None else labels
    return Prediction(t, labels, torch.zeros(3, *labels.shape), (1, 2), np.zeros(labels.shape, np.float32), {1: 0.9, 2: 0.1}, {1: 0.6, 2: None})


def moving(t):
    """The object goes right by two pixels a frame."""
    return disk(20 + 2 * t)


def clicks_of(answer):
    return [(c.x, c.y, c.positive) for c in answer]


# --- where


@quick
@given(hnp.arrays(bool, (12, 15)), st.integers(0, 5))
def test_dispersed_clicks_lie_in_the_object_between_border_and_centre(mask, seed):
    point = dispersed_point(mask, np.random.default_rng(seed))
    field = distance_field(mask)
    if point is None:
        assert not mask.any()
        return
    depth = field[point[1], point[0]]
    between = (field >= 0.25 * field.max()) & (field <= 0.75 * field.max())
    assert depth > 0
    assert not between.any() or 0.25 * field.max() <= depth <= 0.75 * field.max()


def test_dispersed_clicks_differ_and_repeat():
    user = SimulatedUser(lambda t: disk(), "dispersed")
    found = {clicks_of(user.answer(request(t), FRAME, prediction()))[0] for t in range(40)}
    assert len(found) > 25
    assert (30, 30, True) not in found
    again = {clicks_of(user.answer(request(t), FRAME, prediction()))[0] for t in reversed(range(40))}
    assert found == again
    other = SimulatedUser(lambda t: disk(), "dispersed", seed=1)
    assert found != {clicks_of(other.answer(request(t), FRAME, prediction()))[0] for t in range(40)}


def test_a_user_may_paint_the_truth():
    truth = disk() + disk(70, 30, 8, 2)
    truth[:, :5] = 255
    seen = prediction(labels=np.where(np.arange(SIZE[1]) < 5, 1, 0) * np.ones(SIZE, np.uint8))
    user = SimulatedUser(lambda t: truth, correct_with="ground_truth")
    mask = user.answer(request(), FRAME, seen)
    assert isinstance(mask, np.ndarray)
    assert np.array_equal(mask, (truth == 1) | (truth == 255)), "void stays as predicted"
    assert not user.answer(request(identity=3), FRAME, prediction()).any()
    assert SimulatedUser(lambda t: None, correct_with="ground_truth").answer(request(), FRAME, seen) is None
    for options in ({"correct_with": "mask"}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SimulatedUser(lambda t: None, **options)


# --- faults


@quick
@given(st.floats(0, 87), st.floats(0, 59), st.floats(0, 30), st.integers(0, 9))
def test_a_shaky_click_stays_near_and_inside(x, y, radius, seed):
    class Points:
        def answer(self, request, frame, prediction):
            return [Click(x, y, 1), Click(x, y, 1, False)]

    user = Shaky(Points(), radius, seed)
    answer = user.answer(request(), FRAME, prediction())
    for click in answer:
        click.check_inside(SIZE)
        assert np.hypot(click.x - x, click.y - y) <= radius + 1e-6
    assert [c.positive for c in answer] == [True, False]
    assert radius < 1e-3 or answer[0] != answer[1] or min(x, y) == 0
    assert clicks_of(answer) == clicks_of(user.answer(request(), FRAME, prediction()))


def test_shaky_clicks_fill_the_disk_evenly():
    user = Shaky(SimulatedUser(lambda t: disk(44, 30)), radius=10.0)
    clicks = [user.answer(request(t), FRAME, prediction())[0] for t in range(600)]
    away = np.array([np.hypot(c.x - 44, c.y - 30) for c in clicks])
    assert away.max() <= 10
    assert (away < 10 / np.sqrt(2)).mean() == pytest.approx(0.5, abs=0.07)
    masks = Shaky(SimulatedUser(lambda t: disk(), correct_with="ground_truth"))
    assert np.array_equal(masks.answer(request(), FRAME, prediction()), disk() == 1)


def test_careless_ignores_its_share_and_always_the_same():
    user = Careless(SimulatedUser(lambda t: disk()), 0.2)
    answered = [t for t in range(600) if user.answer(request(t), FRAME, prediction()) is not None]
    assert len(answered) == pytest.approx(480, abs=40)
    assert answered == [t for t in range(600) if user.answer(request(t), FRAME, prediction()) is not None]
    assert all(Careless(user.user, 1.0).answer(request(t), FRAME, prediction()) is None for t in range(9))


def test_late_answers_come_later_with_the_old_place():
    user = Late(SimulatedUser(moving), 3)
    assert user.answer(request(5), FRAME, prediction()) is None
    assert user.answer(request(6), FRAME, prediction()) is None, "one answer at a time"
    assert user.answer(request(6, 2), FRAME, prediction()) is None
    assert [user.arrivals(t) for t in (6, 7)] == [[], []]
    ((asked, answer),) = user.arrivals(8)
    assert asked.t == 5
    assert clicks_of(answer) == [(30, 30, True)]
    assert user.arrivals(9) == []
    assert user.answer(request(9), FRAME, prediction()) is None
    assert user.arrivals(2) == [], "another clip has begun"
    assert user.arrivals(20) == []
    assert clicks_of(Late(SimulatedUser(moving), 0).answer(request(5), FRAME, prediction())) == [(30, 30, True)]


def test_stale_answers_come_at_once_with_the_place_of_then():
    user = Late(SimulatedUser(moving), 3, mode="stale")
    assert clicks_of(user.answer(request(5), FRAME, prediction())) == [(24, 30, True)]
    assert clicks_of(user.answer(request(1), FRAME, prediction())) == [(20, 30, True)]
    assert user.arrivals(9) == []


def test_faults_name_what_is_wrong():
    for make, name in [
        (lambda: Shaky(Nobody(), -1), "radius"), (lambda: Careless(Nobody(), 2), "ignore"), (lambda: Late(Nobody(), -1), "frames"),
        (lambda: Late(Nobody(), 1, "soon"), "mode"), (lambda: Shaky(Nobody(), seed=-1), "seed"), (lambda: Background(Nobody(), -1), "patience"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=name):
            make()


def test_every_user_has_a_name():
    for name in USERS:
        user = make_user(name, moving)
        assert isinstance(user, User)
        user.answer(request(), FRAME, prediction())
        assert list(hooks.arrivals(user, 5)) == []
    assert make_user("centre", moving) == SimulatedUser(moving)
    assert make_user("mask", moving).correct_with == "ground_truth"
    both = make_user("late", moving, frames=2, radius=3.0, seed=4, location="dispersed")
    assert both == Late(Shaky(SimulatedUser(moving, "dispersed", seed=4), 3.0, 4), 2)
    with pytest.raises(InputError, match="centre"):
        make_user("robot", moving)
    with pytest.raises(TypeError):
        make_user("centre", moving, speed=1)


# --- with the tracker


class Disk:
    def refine(self, frame, clicks, mask=None):
        inside = np.zeros(frame.shape[:2], bool)
        for c in clicks:
            near = disk(c.x, c.y, 6) > 0
            inside = inside | near if c.positive else inside & ~near
        return torch.from_numpy(inside.astype(np.float32))


class Asks(Lazy):
    """Asks for object 1 on the frames in ``when``."""

    when: tuple[int, ...] = ()

    def decide(self, p):
        return {o: Action.ASK if o == 1 and p.t in self.when else Action.ACCEPT for o in p.objects}


def tracker(*when):
    torch.manual_seed(0)
    net = XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False)).eval()
    policy = type("AsksHere", (Asks,), {"when": when})(udu=False)
    return Tracker(net, FifoMemory(slots=4, every=2), policy=policy, refiner=Disk(), size=48)


def frames(count):
    base = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    return [np.roll(base, t, 1) for t in range(count)]


def test_a_late_answer_corrects_the_frame_on_which_it_comes():
    steps = list(tracker(2).track(frames(7), Late(SimulatedUser(moving), 3), mask=disk()))
    assert [(s.t, [r.t for r in s.requests]) for s in steps if s.requests] == [(2, [2])]
    found = [(s.t, c.object, c.kind, clicks_of(c.clicks)) for s in steps[1:] for c in s.corrections]
    assert found == [(5, 1, "user", [(24, 30, True)])]
    assert steps[5].prediction.labels[30, 24] == 1
    assert steps[5].decision.kept


def test_an_answer_about_an_object_that_was_dropped_does_not_bring_it_back():
    track = tracker(1)
    user = Late(SimulatedUser(moving), 2)
    clip = frames(5)
    for _ in track.track(clip[:2], user, mask=disk() + disk(70, 20, 8, 2)):
        pass
    track.drop(1)
    assert [track.step(frame, user).prediction.objects for frame in clip[2:]] == [(2,)] * 3


def test_a_painted_truth_is_taken_as_it_is_even_where_it_is_empty():
    truth = {2: disk(50, 20), 4: np.zeros(SIZE, np.uint8)}
    user = SimulatedUser(truth.get, correct_with="ground_truth")
    track = tracker(2, 3, 4)
    track.refiner = None
    steps = list(track.track(frames(6), user, mask=disk()))
    assert np.array_equal(steps[2].prediction.labels, truth[2])
    assert steps[3].corrections == (), "frame 3 has no truth"
    assert not steps[4].prediction.labels.any()
    assert [c.kind for c in steps[4].corrections] == ["mask"]
    assert steps[4].decision.kept
    assert steps[5].prediction.objects == (1,)


def test_a_session_takes_painted_truth_and_late_answers():
    user = SimulatedUser(lambda t: disk(50, 20), correct_with="ground_truth")
    with Session(frames(4), tracker(1), user=user) as session:
        session.correct(mask=disk())
        session.advance()
        assert session.requests == ()
        step = session.advance()
        assert np.array_equal(step.prediction.labels, disk(50, 20))
    with Session(frames(7), tracker(2), user=Late(SimulatedUser(moving), 3)) as session:
        session.correct(mask=disk())
        steps = list(iter(session.advance, None))
    assert [(s.t, clicks_of(c.clicks)) for s in steps[1:] for c in s.corrections] == [(5, [(24, 30, True)])]


class Slow:
    """Thinks until it is let go."""

    def __init__(self):
        self.go, self.asked = threading.Event(), threading.Event()
        self.threads = []

    def answer(self, request, frame, prediction):
        self.threads.append(threading.current_thread())
        self.asked.set()
        assert self.go.wait(10)
        return [Click(40, 30, request.object)]


def until(session, seen, limit=5.0):
    """Advance until ``seen(step)``; returns that step."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        step = session.advance()
        assert step is not None
        if seen(step):
            return step
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def endless():
    clip = frames(4)
    while True:
        yield from clip


def test_a_slow_user_does_not_hold_up_a_live_session():
    user = Slow()
    with Session(endless(), tracker(2), user=user, live=True, patience=30) as session:
        session.correct(mask=disk())
        for _ in range(5):  # with an answer that takes for ever this would hang
            step = session.advance()
            assert step is not None
        assert session.t == 5
        assert user.asked.wait(5)
        assert user.threads == [t for t in user.threads if t is not threading.main_thread()]
        assert [r.t for r in session.requests] == [2], "the request is open all the while"
        user.go.set()
        step = until(session, lambda s: any(c.kind == "user" for c in s.corrections))
        assert step.t >= 5
        assert step.decision.kept
        assert session.requests == ()


def test_an_answer_that_comes_too_late_lapses_and_an_error_is_told():
    user = Slow()
    with Session(endless(), tracker(2), user=user, live=True, patience=0.05) as session:
        session.correct(mask=disk())
        for _ in range(3):
            session.advance()
        assert user.asked.wait(5)
        time.sleep(0.1)
        assert session.requests == ()
        user.go.set()
        time.sleep(0.05)
        steps = [session.advance() for _ in range(4)]
        assert [c for s in steps for c in s.corrections] == []

    class Broken:
        def answer(self, request, frame, prediction):
            raise RuntimeError("no screen")

    with Session(endless(), tracker(2), user=Broken(), live=True, patience=30) as session:
        session.correct(mask=disk())
        with pytest.raises(RuntimeError, match="no screen"):
            until(session, lambda s: False)


def test_offline_a_session_waits_for_the_answer_on_the_frame_of_the_request():
    class Thinks:
        def answer(self, request, frame, prediction):
            time.sleep(0.05)
            return [Click(40, 30, request.object)]

    with Session(frames(5), tracker(2), user=Thinks()) as session:
        session.correct(mask=disk())
        steps = list(iter(session.advance, None))
    assert [s.t for s in steps[1:] if s.corrections] == [2]


def test_background_works_with_a_tracker_and_asks_about_an_object_once_at_a_time():
    user = Slow()
    back = Background(user, patience=30)
    track = tracker(1, 2, 3)
    source = endless()
    steps = [next(track.track([next(source)], back, mask=disk()))]
    steps += [track.step(next(source), back) for _ in range(4)]
    assert sum(len(s.requests) for s in steps) == 3
    user.go.set()
    end = time.monotonic() + 5
    while not any(c.kind == "user" for c in steps[-1].corrections):
        assert time.monotonic() < end
        time.sleep(0.01)
        steps.append(track.step(next(source), back))
    back.close()
    assert len(user.threads) == 1
    assert back.answer(request(), FRAME, prediction()) is None
    assert back.arrivals(0) == []
