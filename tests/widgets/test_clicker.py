"""The click widget from Python's side: what it sends, what it does with messages, what stays without a kernel."""

from __future__ import annotations

import base64
import time

import cv2
import numpy as np
import pytest
from lazyvos_widgets import Clicker
from lazyvos_widgets.timeline import ASKED, CLICKED, KEPT, Timeline

from lazyvos.journal import Moment
from lazyvos.session import Session
from lazyvos.types import InputError


def image(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def send(widget: Clicker, kind: str, **content) -> None:
    """What the page does."""
    widget._handle_custom_msg({"kind": kind, **content}, [])


def click(widget: Clicker, x: float, y: float, number: int = 1, **more) -> None:
    send(widget, "click", **{"id": number, "t": widget.session.t, "x": x, "y": y, "object": 1, "positive": True, **more})


@pytest.fixture
def widget(clip, colour_tracker):
    shown = Clicker(Session(clip, colour_tracker(ask={6: [1]})))
    yield shown
    shown.close()


def test_frame_and_labels_travel_as_jpeg_and_png(widget):
    assert widget.frame[:2] == b"\xff\xd8"
    assert widget.labels[:4] == b"\x89PNG"
    shown = image(widget.frame)[..., ::-1]
    assert shown.shape == (48, 64, 3)
    assert shown[14, 10, 0] > 150
    assert not image(widget.labels).any()
    assert widget.entropy_map == b""
    assert widget.state["size"] == [48, 64]
    assert widget.state["length"] == 30


def test_a_click_of_the_page_changes_mask_and_answer(widget):
    click(widget, 10, 14, number=77)
    widget.wait(5)
    np.testing.assert_array_equal(image(widget.labels), widget.session.prediction.labels)
    assert (image(widget.labels) == 1).sum() == 144
    assert widget.state["answer"] == 77
    assert widget.state["clicks"] == [{"x": 10.0, "y": 14.0, "object": 1, "positive": True}]
    send(widget, "undo")
    widget.wait(5)
    assert not image(widget.labels).any()
    assert widget.state["redo"]
    assert not widget.state["clicks"]


def test_a_click_from_python_is_shown_too(widget):
    before = widget.state["seq"]
    widget.session.click(10, 14)
    assert widget.state["seq"] > before
    assert image(widget.labels).any()


def test_quick_clicks_are_answered_together_and_none_is_lost(widget):
    tracker = widget.session.tracker
    with widget.session.lock:  # the thread is busy while these come in
        for number in range(1, 11):
            click(widget, 8 + number % 4, 14, number=number)
        time.sleep(0.05)
    widget.wait(5)
    assert len(widget.session.clicks) == 10
    assert widget.state["answer"] == 10
    assert tracker.calls.count("correct") <= 3


def test_a_click_on_a_frame_that_is_gone_is_not_applied(widget):
    click(widget, 10, 14, number=1)
    send(widget, "advance", frames=1)
    click(widget, 10, 14, number=2, t=0)
    widget.wait(5)
    assert widget.session.clicks == ()
    assert widget.state["answer"] == 2
    assert "again" in widget.state["message"]


def test_play_runs_in_the_background_and_stops_at_a_request(widget):
    click(widget, 10, 14)
    started = time.monotonic()
    send(widget, "play")
    assert time.monotonic() - started < 0.5
    widget.wait(10)
    assert widget.session.t == 6
    assert not widget.state["playing"]
    request = widget.state["requests"][0]
    assert request["object"] == 1
    assert request["score"] == 0.9
    assert request["left"] is None
    assert image(widget.entropy_map).max() > 200
    send(widget, "play")
    widget.wait(5)
    assert widget.session.t == 6
    assert "waits" in widget.state["message"]
    send(widget, "skip", object=1)
    send(widget, "play", until=9)
    widget.wait(10)
    assert widget.session.t == 9
    assert widget.state["requests"] == []
    assert widget.entropy_map == b""


def test_pause_stops_play(clip, colour_tracker):
    class Slow(colour_tracker):
        def commit(self):
            time.sleep(0.03)
            return super().commit()

    widget = Clicker(Session(clip, Slow()))
    send(widget, "play")
    time.sleep(0.15)
    send(widget, "pause")
    widget.wait(5)
    stood = widget.session.t
    time.sleep(0.1)
    assert 0 < stood < 29
    assert widget.session.t == stood
    assert not widget.state["playing"]
    widget.close()


def test_the_last_picture_arrives_although_pushes_are_throttled(clip, colour_tracker):
    widget = Clicker(Session(clip, colour_tracker()), rate=4)
    first = widget.state["seq"]
    for _ in widget.session.play(until=25):
        pass
    assert widget.state["seq"] - first < 10
    deadline = time.monotonic() + 3
    while widget.state["t"] != 25 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert widget.state["t"] == 25
    widget.close()


def test_looking_back_shows_what_was(widget):
    click(widget, 10, 14)
    send(widget, "play", until=5)
    widget.wait(10)
    now = widget.labels
    send(widget, "look", t=2)
    widget.wait(5)
    assert widget.state["look"] == 2
    assert widget.session.t == 5
    past = image(widget.labels)
    assert past[14, 7] == 1
    assert past[14, 19] == 0
    send(widget, "look", t=None)
    widget.wait(5)
    assert widget.state["look"] is None
    assert widget.labels == now


def test_errors_reach_page_and_python(widget):
    click(widget, 500, 14)
    widget.wait(5)
    assert "outside the frame" in widget.state["error"]
    assert "outside" in widget.errors[-1]
    click(widget, 10, 14, number=2)
    widget.wait(5)
    assert widget.state["error"] == ""
    widget.session.tracker.correct = None
    click(widget, 10, 14, number=3)
    widget.wait(5)
    assert widget.state["error"].startswith("TypeError")
    assert "Traceback" in widget.errors[-1]
    send(widget, "error", message="x is undefined", stack="at draw")
    assert "x is undefined" in widget.errors[-1]
    send(widget, "dance")
    widget.wait(5)
    assert "dance" in widget.state["error"]


def test_arguments_are_checked(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    with pytest.raises(TypeError, match="opcity"):
        Clicker(session, opcity=0.3)
    with pytest.raises(TypeError, match="Session"):
        Clicker(clip)
    with pytest.raises(InputError, match="opacity is 3"):
        Clicker(session, opacity=3)
    with pytest.raises(InputError, match="object 300"):
        Clicker(session, objects=[300])
    widget = Clicker(session, objects={1: "cat", 4: "dog"})
    assert widget.options["objects"] == [1, 4]
    assert widget.options["names"] == {1: "cat", 4: "dog"}


def test_large_frames_are_shrunk_for_the_page_only(colour_tracker):
    frames = [np.zeros((300, 400, 3), np.uint8)]
    frames[0][100:200, 100:200] = (200, 30, 30)
    widget = Clicker(Session(frames, colour_tracker()), longest=200)
    click(widget, 150, 150)
    widget.wait(5)
    assert image(widget.frame).shape == (150, 200, 3)
    assert image(widget.labels)[75, 75] == 1
    assert widget.state["size"] == [300, 400]
    assert widget.session.prediction.labels[150, 150] == 1


def test_without_a_kernel_a_picture_stays(widget):
    widget.session.click(10, 14)
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    picture = image(base64.b64decode(data["image/png"]))
    assert picture.shape[0] == 48 + 24
    assert picture.shape[1] == 64
    assert data["text/plain"] == "frame 1 of 30 · uncertainty: object 1 0.10 · clicks on this frame: 1"
    page = widget.to_html()
    assert page.startswith("<figure")
    assert data["text/plain"] in page
    assert "data:image/png;base64," in page


def test_page_has_what_people_need_without_a_mouse(widget):
    script = str(widget._esm)
    for needed in ('"data-lm-suppress-shortcuts": "true"', "tabindex: 0", '"aria-live": "polite"', "ResizeObserver",
                   "devicePixelRatio", "prefers-reduced-motion"):
        assert needed in script
    assert script.count("http") == script.count("http://www.w3.org/2000/svg") == 1
    assert ":focus-visible" in str(widget._css)


def test_timeline_is_bounded_and_keeps_what_matters():
    line = Timeline(bins=16)
    for t in range(1000):
        line.add(Moment(t, (1, 2), (50, 0 if t > 500 else 20), (0.9 if t == 700 else 0.1, None), (None, None),
                        (1,) if t == 700 else (), (), (2,) if t == 3 else (), t % 100 == 0, None, 0.1))
    data = line.data()
    assert data["span"] == 64
    assert len(data["marks"]) == 16
    assert data["objects"] == [1, 2]
    assert data["scores"][1][700 // 64] == 0.9
    assert max(data["scores"][1][:10]) == 0.1
    assert data["present"][2] == [1] * 8 + [0] * 8
    assert data["scores"][2] == [None] * 16
    assert data["marks"][700 // 64] == ASKED | KEPT
    assert data["marks"][0] == CLICKED | KEPT


def test_a_late_widget_knows_the_past(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    session.click(10, 14)
    list(session.play(until=9))
    widget = Clicker(session)
    assert widget.state["timeline"]["present"][1] == [1] * 9
    assert widget.state["t"] == 9


def test_close_ends_the_thread(clip, colour_tracker):
    widget = Clicker(Session(clip, colour_tracker()))
    send(widget, "play", until=2)
    widget.wait(5)
    thread = widget._worker.thread
    widget.close()
    thread.join(2)
    assert not thread.is_alive()
    widget.session.click(10, 14)
