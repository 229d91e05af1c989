"""The entropy curve, the shared past of a session and the request card's numbers, from Python's side."""

from __future__ import annotations

import base64
import json
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from lazyvos_widgets import Clicker, EntropyCurve
from lazyvos_widgets.course import Course, moments_of
from lazyvos_widgets.past import Past, past_of
from lazyvos_widgets.threshold import passed

from lazyvos.build import make_policy
from lazyvos.interact import Lazy
from lazyvos.interact.limits import Limit, limits
from lazyvos.journal import Moment, read_journal
from lazyvos.plot_uncertainty import entropy_figure
from lazyvos.session import Session
from lazyvos.types import Action, InputError, Request
from lazyvos.video import open_source


def image(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def alike(jpeg: bytes, frame: np.ndarray) -> bool:
    """The same picture but for what JPEG loses."""
    return float(np.abs(image(jpeg)[..., ::-1].astype(int) - frame).mean()) < 6


def send(widget, kind: str, **content) -> None:
    """What the page does."""
    widget._handle_custom_msg({"kind": kind, **content}, [])
    widget.wait(5)


def table(curve: EntropyCurve, name: int) -> np.ndarray:
    return np.frombuffer(curve.state["course"]["values"][str(name)], np.float32).reshape(-1, 4)


def moment(t: int, score: float | None, delta: float | None = None, **more) -> Moment:
    names = (1,) if score is not None else ()
    facts = {"asked": (), "pseudo": (), "clicked": (), "kept": False, **more}
    return Moment(t, names, (9,) * len(names), (score,) * len(names), (delta,) * len(names), *facts.values(), None, 0.0)


@pytest.fixture
def session(clip, colour_tracker, tmp_path):
    made = Session(clip, colour_tracker(ask={6: [1], 12: [1, 2]}, pseudo={9: [2]}), out=tmp_path)
    made.click(10, 14)
    made.click(55, 34, object=2)
    yield made
    made.close()


@pytest.fixture
def curve(session):
    shown = EntropyCurve(session, rate=60)
    yield shown
    shown.close()


def run(session: Session, until: int) -> None:
    while session.t < until:
        session.advance()


def test_scores_changes_and_marks_of_a_session(curve, session):
    run(session, 14)
    time.sleep(0.1)
    found = table(curve, 1)
    assert found.shape == (14, 4)
    np.testing.assert_allclose(found[6], [0.9, 0.9, 0.8, 0.8], atol=1e-6)
    np.testing.assert_allclose(found[5], [0.1, 0.1, 0.0, 0.0], atol=1e-6)
    assert np.isnan(found[0]).all(), "an object that is only given on this frame has no score yet"
    events = {tuple(event[:3]) for event in curve.state["course"]["events"]}
    assert events == {("clicked", 1, 0), ("clicked", 2, 0), ("asked", 1, 6), ("asked", 1, 12), ("asked", 2, 12), ("pseudo", 2, 9)}
    assert curve.state["course"]["kept"] == [0, 5, 10]
    assert curve.state["now"]["t"] == 14
    json.dumps({key: value for key, value in curve.state["course"].items() if key != "values"})


def test_an_open_request_is_shown_before_its_frame_is_committed(curve, session):
    list(session.play())
    assert session.waiting
    now = curve.state["now"]
    assert now["t"] == 6
    assert [(o["id"], o["asked"], o["score"]) for o in now["objects"]] == [(1, True, 0.9), (2, False, 0.1)]
    session.skip()
    assert not any(o["asked"] for o in curve.state["now"]["objects"])


def test_a_jump_shows_the_past_in_every_widget_and_leaves_the_tracker_alone(curve, session):
    widget = Clicker(session)
    run(session, 10)
    state, calls = session.tracker.state(), list(session.tracker.calls)
    send(curve, "look", t=6, until=7, id=1)
    assert curve.selected == widget.state["look"] == 6
    assert curve.state["answer"] == 1
    seen = image(curve.picture)[..., ::-1]
    assert seen[14, 18, 0] > 100 > seen[14, 18, 2] - 60  # the red square where it was on frame 6, under its blue mask
    assert curve.state["facts"]["objects"][0] == {"id": 1, "score": 0.9, "delta": 0.8, "marks": 1}
    assert image(widget.labels)[14, 12] == 1
    assert session.t == 10
    assert session.tracker.state() == state
    assert session.tracker.calls == calls

    # the tracker goes on meanwhile, the picture stays; the Clicker leads back
    session.advance()
    assert curve.selected == widget.state["look"] == 6
    widget._handle_custom_msg({"kind": "look", "t": None}, [])
    widget.wait(5)
    assert curve.selected is curve.state["look"] is None
    assert curve.picture == b""
    assert widget.state["t"] == 11
    widget._handle_custom_msg({"kind": "look", "t": 3}, [])
    widget.wait(5)
    assert curve.state["look"] == 3
    session.click(20, 14)  # work on the present frame ends looking back
    assert curve.state["look"] is None
    widget.close()


def test_marks_one_after_the_other(curve, session):
    run(session, 14)
    found = []
    for _ in range(4):
        send(curve, "mark", by=-1)
        found.append(curve.selected)
    assert found == [12, 9, 6, 0]
    send(curve, "mark", by=-1)
    assert curve.selected == 0
    assert "no mark before" in curve.state["message"]
    send(curve, "mark", by=1)
    assert curve.selected == 6


def test_zoom_and_the_frame_meant_by_a_thick_pixel(curve, session):
    run(session, 14)
    send(curve, "window", first=4, last=8)
    assert curve.state["window"] == [4, 8]
    assert curve.state["course"]["start"] == 4
    assert table(curve, 1).shape == (5, 4)
    assert [event[:3] for event in curve.state["course"]["events"]] == [["asked", 1, 6]]
    send(curve, "look", t=3, until=9, measure="score")
    assert curve.selected == 6, "the highest of the frames under the pointer"
    send(curve, "window", first=None, last=None)
    assert not curve.state["zoomed"]


def test_thresholds_come_from_the_policy(clip, colour_tracker):
    tracker = colour_tracker()
    tracker.policy = make_policy("agreement", base={"tau_user": 0.3, "tau_memory": 0.7, "pseudo": False})
    curve = EntropyCurve(Session(clip, tracker))
    assert curve.state["limits"] == [["user", "delta", 0.3], ["memory", "score", 0.7]]
    curve.close()
    assert limits(make_policy("never")) == []
    assert limits(None) == []
    assert Limit("user", "score", 0.4) in limits(Lazy(trigger="level", tau_user=0.4))
    assert [limit.kind for limit in limits(make_policy("random"))] == ["pseudo", "memory"], "it asks by chance"


def test_the_threshold_that_a_request_passed():
    request = Request(5, 2, 0.4, 0.31)
    assert passed(Lazy(tau_user=0.2), request) == ("ΔS", 0.31, 0.2)
    assert passed(Lazy(tau_user=0.31), request) is None
    assert passed(Lazy(tau_user=0.31, comparison="inclusive"), request) == ("ΔS", 0.31, 0.31)
    assert passed(Lazy(tau_user=0.35, trigger="level"), request) == ("S", 0.4, 0.35)
    assert passed(Lazy(tau_user=0.5, level_user=0.3), request) == ("S", 0.4, 0.3)
    assert passed(make_policy("agreement", base={"tau_user": 0.2}), request) == ("ΔS", 0.31, 0.2)
    assert passed(make_policy("always"), request) is passed(None, request) is None
    slow = make_policy("persistent", tau_rise=0.3, window=4, base={"tau_user": 0.9})
    for t, score in enumerate((0.1, 0.2, 0.3, 0.45), 1):
        seen = Held(t=t, objects=(2,), scores={2: score}, deltas={2: 0.1}, labels=np.full((9, 9), 2, np.uint8))
        wish = slow.decide(seen)
    assert wish == {2: Action.ASK}
    assert passed(slow, Request(4, 2, 0.45, 0.15), seen) == ("rise of S", pytest.approx(0.35), 0.3)
    assert passed(slow, Request(4, 2, 0.45, 0.15)) is None, "without the prediction nothing is claimed"


class Held(SimpleNamespace):
    """The fields of a prediction that a policy reads; can be referenced weakly, as a real one."""


def test_the_clicker_says_why_it_asks_and_sends_the_region_in_full(colour_tracker):
    frames = [np.full((300, 400, 3), 120, np.uint8) for _ in range(6)]
    for t, frame in enumerate(frames):
        frame[100:180, 100 + t:200 + t] = (200, 30, 30)
    tracker = colour_tracker(ask={4: [1]})
    tracker.policy = Lazy(tau_user=0.2)
    session = Session(frames, tracker)
    session.click(150, 150)
    widget = Clicker(session, longest=200, entropy_opacity=0.4)
    assert widget.options["entropy_opacity"] == 0.4
    assert widget.region == b""
    list(session.play())
    request = widget.state["requests"][0]
    assert request["passed"] == ["ΔS", 0.8, 0.2]
    left, top, wide, high = widget.state["box"]
    assert alike(widget.region, session.frame[top:top + high, left:left + wide])
    x, y = request["at"]
    assert left <= x < left + wide
    assert top <= y < top + high
    session.skip()
    assert widget.region == b""
    assert widget.state["box"] is None
    with pytest.raises(InputError, match="entropy_opacity is 2"):
        Clicker(session, entropy_opacity=2)
    widget.close()


def test_from_a_log_alone_and_with_its_clip(session, curve, clip, tmp_path):
    run(session, 14)
    session.close()
    time.sleep(0.1)
    log = EntropyCurve.from_log(tmp_path / "session.jsonl", frames=open_source(np.stack(clip)))
    np.testing.assert_allclose(table(log, 1), table(curve, 1), atol=1e-6)
    assert log.state["course"]["events"] == curve.state["course"]["events"]
    assert not log.options["published"]
    assert log.state["limits"] == curve.state["limits"] == [], "the policy of this session has no thresholds"
    send(log, "look", t=6, until=7)
    assert log.selected == 6
    assert alike(log.picture, clip[6])
    assert not alike(log.picture, clip[9])
    send(log, "look", t=None)
    assert log.selected is None
    bare = EntropyCurve(str(tmp_path / "session.jsonl"), thresholds={"user": 0.3})
    assert bare.state["limits"] == [["user", "delta", 0.3]]
    send(bare, "mark", by=-1)
    assert bare.selected == 12
    assert bare.picture == b""
    assert bare.state["facts"]["objects"][1]["id"] == 2
    log.close()
    bare.close()


def test_a_log_that_was_resumed_and_one_without_changes(tmp_path):
    lines = [{"event": "commit", "t": t, "scores": {"1": s}, "kept": t == 0} for t, s in ((0, None), (1, 0.2), (2, 0.9))]
    lines += [{"event": "resumed", "t": 2}, {"event": "commit", "t": 2, "scores": {"1": 0.3}}]
    (tmp_path / "session.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"event": "com')
    found = EntropyCurve.from_log(tmp_path / "session.jsonl")
    np.testing.assert_allclose(table(found, 1)[2], [0.3, 0.3, 0.1, 0.1], atol=1e-6)
    assert found.options["published"]
    assert ["user", "delta", 0.5] in found.state["limits"], "a log that names no thresholds is shown with the published ones"
    assert [m.t for m in moments_of(read_journal(tmp_path / "session.jsonl"))] == [0, 1, 2]
    (tmp_path / "empty.jsonl").write_text('{"event": "opened"}\n')
    with pytest.raises(InputError, match="no tracked frame"):
        EntropyCurve.from_log(tmp_path / "empty.jsonl")
    with pytest.raises(InputError, match="does not exist"):
        EntropyCurve.from_log(tmp_path / "none.jsonl")


def test_the_log_names_the_thresholds_of_its_policy(clip, colour_tracker, tmp_path):
    tracker = colour_tracker()
    tracker.policy = Lazy(tau_user=0.43, tau_memory=0.7)
    with Session(clip, tracker, out=tmp_path) as session:
        session.click(10, 14)
        run(session, 3)
    found = EntropyCurve.from_log(tmp_path / "session.jsonl")
    assert not found.options["published"]
    assert found.state["limits"] == [list(limit) for limit in limits(Lazy(tau_user=0.43, tau_memory=0.7))]
    assert ["user", "delta", 0.43] in found.state["limits"]
    drawn = entropy_figure(tmp_path / "session.jsonl")
    assert any("0.43" in text.get_text() for axes in drawn.axes for text in axes.get_legend().get_texts())


def test_arguments_are_checked(session, clip):
    with pytest.raises(TypeError, match="mesure"):
        EntropyCurve(session, mesure="delta")
    with pytest.raises(TypeError, match="list"):
        EntropyCurve(clip)
    with pytest.raises(TypeError, match="Session"):
        EntropyCurve.from_log(session)
    with pytest.raises(InputError, match="measure is 'S'"):
        EntropyCurve(session, measure="S")
    with pytest.raises(InputError, match="threshold 'tau'"):
        EntropyCurve(session, thresholds={"tau": 1})
    with pytest.raises(InputError, match="rate is 0"):
        EntropyCurve(session, rate=0)
    widget = Clicker(session)
    assert EntropyCurve(widget).session is session


def test_errors_reach_page_and_python(curve):
    send(curve, "dance")
    assert "dance" in curve.state["error"]
    assert "dance" in curve.errors[-1]
    send(curve, "look", t="x")
    assert curve.state["error"].startswith("ValueError")
    assert "Traceback" in curve.errors[-1]
    send(curve, "error", message="x is undefined", stack="at draw")
    assert "x is undefined" in curve.errors[-1]
    send(curve, "look", t=0)
    assert curve.state["error"] == ""


def test_without_a_kernel_a_picture_stays(curve, session):
    run(session, 14)
    data, _ = curve._repr_mimebundle_()
    assert image(base64.b64decode(data["image/png"])).shape[0] > 100
    assert data["text/plain"] == "uncertainty over 14 frames · objects 1, 2"
    page = curve.to_html()
    assert page.startswith("<figure")
    assert data["text/plain"] in page
    assert "data:image/png;base64," in page
    empty = EntropyCurve(Session([np.zeros((20, 20, 3), np.uint8)], session.tracker.__class__()))
    assert "none yet" in empty.to_html()
    assert "image/png" not in empty._repr_mimebundle_()[0]


def test_page_has_what_people_need_without_a_mouse(curve):
    script = str(curve._esm)
    for needed in ('"data-lm-suppress-shortcuts": "true"', "tabindex: 0", '"aria-live": "polite"', "ResizeObserver", "ArrowLeft"):
        assert needed in script
    assert "http" not in script.replace("http://www.w3.org/2000/svg", "")
    assert ":focus-visible" in str(curve._css)


def test_a_long_course_is_exact_bounded_and_keeps_peaks_and_marks():
    course = Course(bins=4096)
    for t in range(4000):
        course.add(moment(t, 0.8 if t == 1234 else 0.1, 0.7 if t == 1234 else 0.0, asked=(1,) * (t == 1234), kept=t % 5 == 0))
    assert course.span == 1
    assert course.facts(1234) == [{"id": 1, "score": 0.8, "delta": 0.7, "marks": 1}]
    seen = course.window(0, 3999)
    values = np.frombuffer(seen["values"]["1"], np.float32).reshape(-1, 4)
    assert seen["step"] == 7
    assert len(values) == 572
    assert values[1234 // 7].tolist() == pytest.approx([0.1, 0.8, 0.0, 0.7])
    assert seen["events"] == [["asked", 1, 1234, 0.8, 0.7]]
    assert len(seen["kept"]) == 300
    assert seen["left_out"] == 500
    assert course.pick(1230, 1240, "delta") == 1234
    for t in range(4000, 40_000):
        course.add(moment(t, 0.2))
    assert course.span == 16
    assert len(course._rows[1].marks) == 4096
    assert [event[:3] for event in course.window(0, 39_999)["events"]] == [["asked", 1, 1232]]
    assert course.next_mark(2000, -1) == 1232
    assert course.next_mark(2000, 1) is None
    lines = course.curves(400)
    assert lines.frames == 40_000
    assert max(lines.scores[1].values) == pytest.approx(0.8)
    assert len(lines.scores[1].values) <= 2 * 400


def test_a_message_stays_small_with_many_objects():
    course = Course()
    names = tuple(range(1, 41))
    for t in range(3000):
        course.add(Moment(t, names, (5,) * 40, (0.3,) * 40, (0.0,) * 40, names, names, (), True, None, 0.0))
    seen = course.window(0, 2999)
    assert sum(map(len, seen["values"].values())) <= 120_000
    assert len(seen["events"]) == 600


def test_gaps_stay_gaps():
    course = Course()
    course.add(moment(0, None))
    course.add(moment(1, 0.4))
    course.add(moment(3, 0.5, 0.1))
    values = np.frombuffer(course.window(0, 3)["values"]["1"], np.float32).reshape(-1, 4)
    assert np.isnan(values[[0, 2]]).all()
    assert np.isnan(values[1, 2:]).all()
    assert course.curves().scores[1].t == [1, 3]


def test_old_frames_are_thinned_but_not_those_with_marks(clip, colour_tracker):
    session = Session((frame for frame in clip), colour_tracker(ask={7: [1]}))
    past = Past(session, older=4)
    past.want(64, 80, 3)
    end = past.watch(lambda: None)
    session.click(10, 14)
    run(session, 25)
    assert [seen.t for seen in past._new] == [22, 23, 24]
    assert len(past._old) <= 4
    assert {0, 7} <= set(past._old)
    past.look(7)
    assert past.shown.t == 7
    assert past.message == ""
    past.look(6)  # a generator cannot be read again
    assert past.shown.t == 7
    assert "nearest" in past.message
    past.look(25)
    assert past.shown is None
    end()
    run(session, 27)
    assert past._new[-1].t == 24, "nothing is kept while nobody watches"


def test_frames_that_are_not_kept_are_read_again(clip, colour_tracker, tmp_path):
    for t, frame in enumerate(clip):
        cv2.imwrite(str(tmp_path / f"{t:03d}.png"), frame[..., ::-1])
    session = Session(open_source(tmp_path), colour_tracker())
    run(session, 12)
    widget = EntropyCurve(session)
    assert past_of(session) is past_of(session)
    widget.select(5)
    assert alike(widget.picture, clip[5])
    assert "read again" in widget.state["message"]
    assert session.t == 12
    np.testing.assert_array_equal(session.frame, clip[12])
    session.advance()
    np.testing.assert_array_equal(session.frame, clip[13])
    widget.close()
    session.close()


def test_pushes_are_throttled_and_the_last_one_arrives(session):
    widget = EntropyCurve(session, rate=4)
    session.tracker.ask = {}
    first = widget.state["seq"]
    run(session, 25)
    assert widget.state["seq"] - first < 10
    deadline = time.monotonic() + 3
    while widget.state["t"] != 25 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert widget.state["t"] == 25
    assert widget.state["course"]["events"][0][0] == "pseudo"
    widget.close()
    session.advance()
    assert widget.state["t"] == 25
