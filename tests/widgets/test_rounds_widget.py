"""The rounds view from Python's side: a real :class:`lazyvos.Rounds` with a small random network and a refiner that draws discs."""

from __future__ import annotations

import base64
import gc
import json
import threading
import time
import weakref

import cv2
import numpy as np
import pytest
import torch
from lazyvos_widgets import RoundsView
from lazyvos_widgets.quality import mean, truth_reader

from lazyvos import Rounds
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.metrics.jf import contour, region
from lazyvos.types import Click, InputError

LENGTH, SIZE = 12, (48, 64)


class Discs:
    """A disc around each click; waits where it is told to, raises what it is told to."""

    def __init__(self) -> None:
        self.open, self.inside, self.raises = threading.Event(), threading.Event(), None
        self.open.set()
        self.threads = []

    def refine(self, frame, clicks, mask=None):
        self.threads.append(threading.current_thread().name)
        self.inside.set()
        assert self.open.wait(20)
        if self.raises:
            raise self.raises
        ys, xs = np.mgrid[:frame.shape[0], :frame.shape[1]]
        out = np.zeros(frame.shape[:2], bool) if mask is None else mask.numpy() > 0.5
        for click in clicks:
            out[np.hypot(ys - click.y, xs - click.x) < 7] = click.positive
        return torch.from_numpy(out).float()


class Truth:
    """Masks by frame number; counts how often each was read."""

    def __init__(self, length: int = LENGTH) -> None:
        self.length, self.reads = length, []

    def __len__(self):
        return self.length

    def mask(self, t):
        self.reads.append(t)
        if t == 5:
            return None
        found = np.zeros(SIZE, np.uint8)
        found[8:20, 4 + t:18 + t] = 1
        found[30:40, 30:50] = 2 * (t != 3)
        found[:4] = 255
        return found


def clip(length: int = LENGTH) -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = rng.integers(115, 125, (length, *SIZE, 3), np.uint8)
    for t in range(length):
        frames[t, 8:20, 4 + t % 40:18 + t % 40] = (200, 30, 30)
    return frames


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(5)
    return XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False)).eval()


def make(net, frames=None, **more) -> Rounds:
    settings = {"fusion": "linear", "size": None, "progress": False, "device": "cpu", "precision": "fp32", **more}
    return Rounds(clip() if frames is None else frames, net, settings.pop("refiner", Discs()), **settings)


@pytest.fixture
def rounds(net):
    return make(net)


@pytest.fixture
def view(rounds):
    made = RoundsView(rounds, Truth())
    made.sent = []
    made.send = lambda content, buffers=None: made.sent.append((content, buffers))
    yield made
    rounds.refiner.open.set()
    made.close()


def tell(view, kind: str, /, **content) -> None:
    """What the page does."""
    view._handle_custom_msg({"kind": kind, **content}, [])


def click(view, t: int, x: float, y: float, name: int = 1, positive: bool = True, number: int = 0) -> None:
    tell(view, "click", id=number, t=t, x=x, y=y, object=name, positive=positive)


def image(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def numbers(view, when: str, measure: str) -> dict[int, np.ndarray]:
    return {int(name): np.frombuffer(data, np.float32) for name, data in view.curve[when].get(measure, {}).items()}


def until(what, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# Clicks that wait


def test_clicks_are_collected_on_one_frame_and_taken_back_one_by_one(view):
    click(view, 3, 10, 12, number=7)
    click(view, 3, 40, 35, name=2, number=8)
    click(view, 3, 20, 30, positive=False, number=9)
    expected = (Click(10, 12), Click(40, 35, 2), Click(20, 30, 1, False))
    assert view.pending == (3, expected)
    assert view.state["answer"] == 9
    assert view.state["pending"] == {"frame": 3, "clicks": [[10, 12, 1, True], [40, 35, 2, True], [20, 30, 1, False]], "taken": 0}
    tell(view, "unclick", id=10)
    tell(view, "unclick", id=11)
    assert view.pending == (3, expected[:1])
    tell(view, "reclick", id=12)
    assert view.pending == (3, expected[:2])
    click(view, 4, 1, 1)
    assert view.pending == (3, expected[:2]), "clicks of another frame do not get lost or mixed in"
    assert "wait on frame 3" in view.state["message"]
    tell(view, "discard")
    assert view.pending is None
    tell(view, "reclick")
    tell(view, "reclick")
    assert view.pending == (3, expected[:2])
    tell(view, "discard")
    click(view, 4, 1, 1)
    assert view.pending == (4, (Click(1, 1),))
    assert view.rounds.round == 0
    assert list(view.errors) == []


@pytest.mark.parametrize(("content", "words"), [
    ({"t": 99, "x": 1, "y": 1, "object": 1, "positive": True}, "frame 99 does not exist"),
    ({"t": 1, "x": 64, "y": 1, "object": 1, "positive": True}, "lies outside the frame"),
    ({"t": 1, "x": 1, "y": 1, "object": 0, "positive": True}, "object ids run from 1 to 254"),
    ({"t": 1}, "KeyError"),
])
def test_a_click_that_cannot_be_is_said_in_the_page_and_in_python(view, content, words):
    tell(view, "click", **content)
    assert words in view.state["error"]
    assert words in view.errors[-1]
    assert view.pending is None
    click(view, 1, 1, 1)
    assert view.state["error"] == ""


def test_errors_of_the_page_and_unknown_commands_arrive(view):
    tell(view, "error", message="broken on purpose", stack="at line 1")
    assert view.errors[-1] == "page: broken on purpose\nat line 1"
    tell(view, "dance")
    assert "'dance', which is no command" in view.state["error"]


def test_without_a_refiner_a_click_says_what_to_do(net):
    view = RoundsView(make(net, refiner=None))
    assert view.options["clickable"] is False
    click(view, 1, 1, 1)
    assert "clicks need a refiner" in view.state["error"]
    view.close()


# A round


def test_a_round_runs_in_the_background_and_gives_what_interact_gives(net, rounds, view):
    refiner = rounds.refiner
    refiner.open.clear()
    click(view, 4, 14, 14)
    click(view, 4, 40, 35, name=2)
    began = time.monotonic()
    tell(view, "run", id=5)
    tell(view, "run", id=6)  # a second Enter
    assert time.monotonic() - began < 1
    assert refiner.inside.wait(20)
    assert view.state["busy"] == "round"
    assert "still running" in view.state["message"]
    click(view, 4, 1, 1)
    tell(view, "undo")
    assert len(view.pending[1]) == 2
    refiner.open.set()
    view.wait(30)
    assert view.state["busy"] is None
    assert rounds.round == 1
    assert threading.current_thread().name not in refiner.threads
    assert view.pending is None
    assert view.state["message"].startswith("Round 1: 12 frames in ")
    assert view.state["rounds"] == [{"number": 1, "frame": 4, "bounds": [0, 11], "clicks": [[14, 14, 1, True], [40, 35, 2, True]]}]
    assert view.state["suggested"] == rounds.suggest() != 4
    other = make(net)
    other.interact(4, [Click(14, 14), Click(40, 35, 2)])
    assert all(np.array_equal(rounds.labels(t), other.labels(t)) for t in range(LENGTH))
    assert list(view.errors) == []


def test_progress_is_pushed_and_cancel_leaves_no_trace(rounds, view):
    rounds.interact(2, [Click(14, 14)])
    view.wait(30)
    before, seen, version = [rounds.labels(t) for t in range(LENGTH)], [], view.state["version"]
    view.observe(lambda change: seen.append(dict(change["new"])), "progress")
    click(view, 9, 14, 14)
    tick = view._tick

    def slowly(done, total):
        time.sleep(0.06)
        if done == 4:
            tell(view, "cancel")
        tick(done, total)

    view._tick = slowly
    view.propagate()
    view.wait(30)
    assert {"done": 0, "total": 0} in seen
    assert any(p["total"] == 8 and p["done"] > 0 for p in seen)  # 9 goes up to 11 and down to 3
    assert max(p["done"] for p in seen) < 4
    assert rounds.round == 1
    assert all(np.array_equal(rounds.labels(t), before[t]) for t in range(LENGTH))
    assert view.state["version"] == version
    assert "Cancelled" in view.state["message"]
    assert view.pending == (9, (Click(14, 14),)), "the clicks wait again"
    view._tick = tick
    view.propagate()
    view.wait(30)
    assert rounds.round == 2


@pytest.mark.parametrize(("error", "words"), [(InputError("give a better click"), "give a better click"), (RuntimeError("no memory"), "RuntimeError: no memory")])
def test_a_round_that_fails_is_said_and_keeps_the_clicks(rounds, view, error, words):
    rounds.refiner.raises = error
    click(view, 4, 14, 14)
    view.propagate()
    view.wait(30)
    assert view.state["error"] == words
    assert words in view.errors[-1]
    assert view.state["busy"] is None
    assert view.pending == (4, (Click(14, 14),))
    rounds.refiner.raises = None
    view.propagate()
    view.wait(30)
    assert rounds.round == 1
    assert view.state["error"] == ""


def test_nothing_to_do_is_said(view):
    for kind, words in (("run", "click on a frame first"), ("undo", "no round to undo"), ("redo", "no round to redo")):
        tell(view, kind)
        assert words in view.state["message"]
    assert view.rounds.round == 0


def test_whole_rounds_are_undone_and_redone(rounds, view):
    for t in (4, 9):
        click(view, t, 14 + t, 14)
        view.propagate()
        view.wait(30)
    labels, curve = [rounds.labels(t) for t in range(LENGTH)], numbers(view, "now", "J&F")
    earlier, version = numbers(view, "before", "J&F"), view.state["version"]
    tell(view, "undo")
    view.wait(30)
    assert rounds.round == 1
    assert view.state["version"] > version
    assert (view.state["undo"], view.state["redo"]) == (True, True)
    np.testing.assert_array_equal(mean(numbers(view, "now", "J&F")), mean(earlier))
    tell(view, "redo")
    view.wait(30)
    assert all(np.array_equal(rounds.labels(t), labels[t]) for t in range(LENGTH))
    np.testing.assert_array_equal(mean(numbers(view, "now", "J&F")), mean(curve))
    tell(view, "undo")
    tell(view, "undo")
    view.wait(30)
    tell(view, "undo")
    view.wait(30)
    assert rounds.round == 0
    assert view.state["rounds"] == []
    assert numbers(view, "now", "J&F") == {}


def test_rounds_made_from_python_are_shown(rounds, view):
    click(view, 3, 1, 1)
    rounds.interact(6, [Click(20, 14)])
    view.wait(30)
    assert [r["frame"] for r in view.state["rounds"]] == [6]
    assert view.pending == (3, (Click(1, 1),)), "clicks that wait stay"
    rounds.undo()
    assert view.state["rounds"] == []
    view.select(8)
    assert (view.shown, view.state["t"], view.state["jump"]) == (8, 8, 1)
    with pytest.raises(InputError, match="frame 12 does not exist"):
        view.select(12)


# Frames


def test_a_frame_comes_with_its_masks_now_and_before(rounds, view):
    tell(view, "look", t=2, id=1, view="a", have=False)
    view.wait(20)
    content, buffers = view.sent[-1]
    assert content == {"kind": "picture", "id": 1, "view": "a", "t": 2, "version": 1}
    assert np.abs(image(buffers[0])[..., ::-1].astype(int) - rounds.frames[2]).mean() < 8
    assert buffers[1:] == [b"", b""]
    rounds.interact(4, [Click(14, 14)])
    rounds.interact(9, [Click(50, 40, positive=bool(rounds.labels(9)[40, 50] == 0))])
    tell(view, "look", t=9, id=2, view="a", have=True)
    view.wait(20)
    content, buffers = view.sent[-1]
    assert (content["t"], content["version"]) == (9, 3)
    assert buffers[0] == b"", "what the page has is not sent again"
    np.testing.assert_array_equal(image(buffers[1]), rounds.labels(9))
    np.testing.assert_array_equal(image(buffers[2]), rounds.results[0].labels(9))
    assert not np.array_equal(image(buffers[1]), image(buffers[2]))
    assert view.shown == 9
    tell(view, "at", t=5)
    assert view.shown == 5


def test_frames_are_answered_while_a_round_runs_and_made_smaller(net, view, rounds):
    rounds.refiner.open.clear()
    click(view, 4, 14, 14)
    view.propagate()
    assert rounds.refiner.inside.wait(20)
    tell(view, "look", t=2, id=1, view="a", have=False)
    until(lambda: view.sent)
    assert view.sent[-1][0]["kind"] == "picture"
    assert view.state["busy"] == "round"
    large = RoundsView(make(net, np.zeros((3, 90, 160, 3), np.uint8)), longest=80)
    large.send = lambda content, buffers: sent.append(buffers)
    sent = []
    tell(large, "look", t=0, id=1, view="a", have=False)
    large.wait(20)
    assert image(sent[0][0]).shape == (45, 80, 3)
    large.close()


def test_a_frame_that_cannot_be_read_is_said_and_answered(view, monkeypatch):
    monkeypatch.setattr(type(view.rounds.frames), "__getitem__", lambda self, t: (_ for _ in ()).throw(OSError("disk gone")))
    tell(view, "look", t=2, id=3, view="a")
    view.wait(20)
    assert view.sent[-1][0] == {"kind": "lost", "id": 3, "view": "a"}
    assert "disk gone" in view.state["error"]
    tell(view, "look", t=-1, id=4, view="a")
    assert "frame -1 does not exist" in view.state["error"]


def test_hundreds_of_frames_stay_small_and_no_picture_lies_in_the_state(net):
    rounds = make(net, clip(300), memory="readmem")
    view = RoundsView(rounds)
    mask = np.zeros(SIZE, np.uint8)
    mask[8:20, 4:18] = 1
    rounds.interact(0, mask=mask)
    view.wait(60)
    assert len(json.dumps(view.state)) < 1000
    assert sum(len(data) for when in ("now", "before") for of in view.curve[when].values() for data in of.values()) == 4 * 300
    assert sum(map(len, view.curve["present"].values())) <= 300
    assert not any(isinstance(value, bytes) for value in view.state.values())
    view.close()


# Numbers


def test_the_quality_is_that_of_the_metrics_and_only_what_changed_is_measured_again(rounds, view):
    rounds.interact(4, [Click(14, 14), Click(40, 35, 2)])
    view.wait(30)
    masks, jf, j = Truth(), numbers(view, "now", "J&F"), numbers(view, "now", "J")
    assert sorted(jf) == [1, 2]
    for t in range(LENGTH):
        wanted = masks.mask(t)
        if wanted is None:
            assert np.isnan([jf[1][t], jf[2][t]]).all()
            continue
        for name in (1, 2):
            pair = rounds.labels(t) == name, wanted == name, wanted == 255
            assert j[name][t] == pytest.approx(region(*pair), abs=1e-6)
            assert jf[name][t] == pytest.approx((region(*pair) + contour(*pair)) / 2, abs=1e-6)
    assert view.quality("F")[1][0] == pytest.approx(2 * jf[1][0] - j[1][0], abs=1e-5)
    assert {int(name): list(data) for name, data in view.curve["present"].items()} == {
        name: [int((rounds.labels(t) == name).any()) for t in range(LENGTH)] for name in (1, 2) if any((rounds.labels(t) == name).any() for t in range(LENGTH))}

    counted = Truth()
    second = RoundsView(rounds, counted)
    second.wait(30)
    counted.reads.clear()
    rounds.interact(8, [Click(20, 14)])
    second.wait(30)
    assert sorted(counted.reads) == list(range(5, LENGTH)), "frames up to the nearest interacted one"
    np.testing.assert_array_equal(numbers(second, "before", "J")[1], j[1])
    second.close()


def test_an_object_that_truth_knows_and_nobody_clicked_counts_as_missed(rounds, view):
    rounds.interact(4, [Click(14, 14)])
    view.wait(30)
    missed = view.quality("J")[2]
    assert missed[0] == 0
    assert missed[3] == 1, "it is not there on frame 3"


def test_the_uncertainty_is_that_of_the_rounds(net):
    rounds = make(net)
    view = RoundsView(rounds)
    assert view.options["measures"] == ["uncertainty"]
    assert view.curve["scored"] is True
    rounds.interact(4, [Click(14, 14), Click(40, 35, 2)])
    view.wait(30)
    found = numbers(view, "now", "uncertainty")
    np.testing.assert_allclose(mean(found), rounds.uncertainty(), atol=1e-6)
    np.testing.assert_allclose(found[2], rounds.uncertainty(2), atol=1e-6)
    with pytest.raises(InputError, match="choose one of uncertainty"):
        view.quality()
    view.close()


def test_reopened_rounds_have_their_curve_before_and_after(net, tmp_path):
    rounds = make(net, out=tmp_path / "o")
    for t in (4, 9, 1):
        rounds.interact(t, [Click(14 + t, 14)])
    again = Rounds.open(tmp_path / "o", clip(), backbone=net, refiner=Discs(), progress=False)
    view = RoundsView(again, Truth())
    view.wait(30)
    assert view.shown == 1
    tell(view, "undo")
    view.wait(30)
    assert view.curve["scored"]
    first = RoundsView(rounds, Truth())
    rounds.undo()
    first.wait(30)
    for when in ("now", "before"):
        np.testing.assert_array_equal(numbers(view, when, "J&F")[1], numbers(first, when, "J&F")[1])
    for one in (view, first):
        one.close()


def test_numbers_go_with_the_rounds_they_belong_to(rounds, view):
    rounds.interact(4, [Click(14, 14)])
    rounds.interact(9, [Click(14, 14)])
    view.wait(30)
    assert len(view._quality._kept) == 2
    last = weakref.ref(rounds.results[-1].after)
    rounds.undo()
    rounds.interact(9, [Click(20, 14)])  # what was undone is gone for good
    view.wait(30)
    gc.collect()
    assert last() is None
    assert len(view._quality._kept) == 2


def test_truth_that_breaks_later_is_said_and_the_uncertainty_stays(rounds):
    truth = {0: np.zeros(SIZE, np.uint8), 7: np.zeros((3, 3), np.uint8)}
    view = RoundsView(rounds, truth)
    rounds.interact(4, [Click(14, 14)])
    view.wait(30)
    assert "the true mask of frame 7 has shape [3, 3]" in view.state["error"]
    assert view.curve["scored"] is True
    assert list(numbers(view, "now", "uncertainty")) == [1]
    view.close()


@pytest.mark.parametrize(("truth", "words"), [
    ([np.zeros(SIZE, np.uint8)] * 3, "truth has 3 masks, the clip 12 frames"), ({12: np.zeros(SIZE, np.uint8)}, "truth names frame 12"),
    (np.zeros((LENGTH, 5, 5), np.uint8), r"frame 0 has shape \[5, 5\]"), (np.zeros((LENGTH, *SIZE)), "type float64"),
])
def test_truth_that_does_not_fit_is_refused(truth, words):
    with pytest.raises(InputError, match=words):
        truth_reader(truth, LENGTH, SIZE)


def test_truth_of_all_kinds_reads_the_same():
    stack = np.stack([Truth().mask(0)] * LENGTH)
    for truth in (stack, list(stack), dict(enumerate(stack)), stack == 1):
        found = truth_reader(truth, LENGTH, SIZE)(3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found == 1, stack[3] == 1)
    assert truth_reader({0: stack[0]}, LENGTH, SIZE)(1) is None
    with pytest.raises(TypeError, match="not int"):
        truth_reader(3, LENGTH, SIZE)


# Without a kernel, and the end


def test_a_page_without_a_kernel_holds_a_bounded_number_of_frames(rounds, view):
    assert view.to_html(2).count("data:image/jpeg") == 2, "before any round too"
    for t in (4, 9):
        rounds.interact(t, [Click(14 + t, 14)])
    view.wait(30)
    view.select(2)
    text = view.to_html(5)
    assert text.count("data:image/jpeg") == 5
    assert text.count("data:image/png") == 1
    assert all(f"frame {t}" in text for t in (2, 4, 9, rounds.suggest()))
    assert "round 2 · J&amp;F" in text
    assert "<script" not in text
    assert view.to_html(48).count("data:image/jpeg") == LENGTH
    assert view.to_html(0).count("data:image/jpeg") == 0
    for wrong in (-1, 49):
        with pytest.raises(InputError, match="give 0 to 48"):
            view.to_html(wrong)
    data, metadata = view._repr_mimebundle_()
    picture = image(base64.b64decode(data["image/png"]))
    assert picture.shape[1] > 400
    assert picture.std() > 10
    assert data["text/plain"] == f"array: 12 frames · 2 rounds · object 1 · suggested next: frame {rounds.suggest()}"
    assert metadata is not None


def test_what_is_not_known_is_refused(net, rounds):
    with pytest.raises(TypeError, match="colour"):
        RoundsView(rounds, colour="red")
    with pytest.raises(TypeError, match="not ndarray"):
        RoundsView(clip())
    for wrong in ({"opacity": 2}, {"longest": 3}, {"quality": 0}, {"objects": [0]}):
        with pytest.raises(InputError, match=r"give|run from"):
            RoundsView(rounds, **wrong)


def test_close_cancels_and_ends_the_threads(rounds):
    view = RoundsView(rounds, Truth(), objects={1: "cat", 2: "dog"})
    assert view.options["names"] == {1: "cat", 2: "dog"}
    rounds.refiner.open.clear()
    click(view, 4, 14, 14)
    view.propagate()
    assert rounds.refiner.inside.wait(20)
    threads = [w.thread for w in (view._runner, view._looker, view._scorer) if w.thread is not None]
    view.close()
    rounds.refiner.open.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert rounds.round == 0
    assert not rounds._watchers
    rounds.interact(1, [Click(5, 5)])
    assert view.state["rounds"] == []
