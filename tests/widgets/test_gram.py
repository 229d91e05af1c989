"""The Gram inspector and its log from Python's side: what is recorded, how it is bounded and saved, what the page is told."""

from __future__ import annotations

import base64
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from lazyvos_widgets import GramInspector

from lazyvos.backbones.base import Entry
from lazyvos.gram_log import GramLog
from lazyvos.journal import Journal
from lazyvos.memory import FifoMemory, ReadMem
from lazyvos.plot_gram import describe, gram_figure, gram_png
from lazyvos.session import Session
from lazyvos.types import Decision, InputError, Step

WIDE, HIGH = 64, 48


def entry(t: int, drift: float = 1.0) -> Entry:
    """One object with random keys that drift away from frame 0's, so that frames differ and some are refused."""
    make = torch.Generator().manual_seed(t)
    base = torch.randn(1, 4, 3, 4, generator=torch.Generator().manual_seed(10**6))
    key = base + drift * torch.randn(1, 4, 3, 4, generator=make)
    return Entry(t, key, key.flatten(2), torch.randn(1, 5, 3, 4, generator=make), (1,))


class Tracks:
    """A memory that is offered a frame at a time: all of a tracker that a Gram log reads."""

    def __init__(self, memory: ReadMem, drift: float = 1.0) -> None:
        self.memory, self.drift, self.t = memory, drift, -1

    def step(self) -> Step:
        self.t += 1
        one = entry(self.t, self.drift)
        decision = self.memory.pin(one, self.t) if self.t == 0 else self.memory.offer(one, self.t)
        return SimpleNamespace(t=self.t, decision=decision)


def memory(**options) -> ReadMem:
    return ReadMem(**{"slots": 5, "every": 2, "lower_bound": 0.3, "transition": None, **options})


def frame(t: int, size: tuple[int, int] = (HIGH, WIDE)) -> np.ndarray:
    return np.full((*size, 3), (t * 5 % 256, 90, 160), np.uint8)


def run(log: GramLog, tracker: Tracks, frames: int) -> list[tuple[Decision, tuple[int, ...], np.ndarray]]:
    """Observe some frames; returns each decision with the entries and Γ that the frame met."""
    met = []
    for _ in range(frames):
        before = tracker.memory.stored, tracker.memory.gram
        step = tracker.step()
        met.append((step.decision, *before))
        log.observe(step, tracker, frame(step.t))
    return met


@pytest.fixture
def filled():
    log, tracker = GramLog(), Tracks(memory())
    return log, tracker, run(log, tracker, 120)


def image(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def swapped(gram: np.ndarray, n: int, row: np.ndarray) -> float:
    """log10|Γ⁽ⁿ⁾| by an explicit determinant."""
    new = gram.copy()
    new[n, :] = new[:, n] = row
    new[n, n] = 1.0
    return np.log10(abs(np.linalg.det(new)))


def same(one: GramLog, other: GramLog) -> None:
    assert len(one.offers) == len(other.offers)
    for a, b in zip(one.offers, other.offers, strict=True):
        assert (a.t, a.kept, a.reason, a.slot, a.replaced, a.before, a.after, a.number) == (
            b.t, b.kept, b.reason, b.slot, b.replaced, b.before, b.after, b.number)
        assert a.state.same(b.state)
        for name in ("similarities", "what_if"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert one.state.same(other.state)
    assert (one.t, one.slots, one.counts, one.thumbs) == (other.t, other.slots, other.counts, other.thumbs)


# The log ----------------------------------------------------------------------------------------------------------------


def test_every_offer_is_there_with_what_each_replacement_would_have_given(filled):
    log, tracker, met = filled
    offered = {d.t: (d, entries, gram) for d, entries, gram in met if d.reason != "interval"}
    assert [offer.t for offer in log.offers] == sorted(offered)
    assert {"pinned", "filled", "replaced", "no gain"} <= set(log.counts)
    assert log.counts.total() == len(offered) == 60
    weighed = 0
    for offer in log.offers:
        decision, entries, gram = offered[offer.t]
        assert (offer.kept, offer.reason, offer.slot, offer.replaced) == (
            decision.kept, decision.reason, decision.slot, decision.replaced)
        assert offer.before == pytest.approx(decision.log_gram_before)
        assert offer.after == pytest.approx(decision.log_gram_after)
        assert offer.state.entries == entries
        np.testing.assert_array_equal(offer.state.gram, gram)
        if offer.what_if is None:
            assert len(entries) < 5
            continue
        weighed += 1
        own = torch.cosine_similarity  # similarities measured here, from the keys
        row = np.array([round(float(own(entry(t).key.flatten(), entry(offer.t).key.flatten(), dim=0)), 5) for t in entries])
        np.testing.assert_allclose(offer.similarities, row, atol=1.1e-5)
        explicit = [swapped(gram, n, offer.similarities) for n in range(5)]
        np.testing.assert_allclose(offer.what_if, explicit, atol=1e-6)
        if offer.reason == "replaced":
            assert entries[offer.best] == offer.replaced
            assert offer.what_if[offer.best] == pytest.approx(offer.after)
        elif offer.reason == "no gain":
            assert offer.what_if[offer.best] < offer.before
    assert weighed >= 50
    np.testing.assert_array_equal(log.state.gram, tracker.memory.gram)
    assert log.state.entries == tracker.memory.stored
    assert log.state.pinned == {0}


def test_dot_products_are_in_units_of_the_annotated_frame():
    log, tracker = GramLog(), Tracks(memory(similarity="dot", lower_bound=-9.0))
    for decision, _, _ in run(log, tracker, 40):
        if decision.reason == "replaced":
            offer = log.at(decision.t)
            assert offer.what_if[offer.best] == pytest.approx(decision.log_gram_after, abs=1e-6)
            assert offer.before == pytest.approx(decision.log_gram_before)
            assert offer.state.gram[0, 0] == 1.0


def test_refusals_by_the_lower_bound_are_weighed_too():
    log, tracker = GramLog(), Tracks(memory(every=1))
    run(log, tracker, 20)
    tracker.drift = 30.0  # nothing like the annotated frame any more
    run(log, tracker, 3)
    last = log.newest()
    assert (last.t, last.reason, last.kept) == (22, "lower bound", False)
    assert last.what_if[last.best] > last.before, "the bound, not the volume, kept it out"
    assert last.before == last.after


def test_copies_of_the_annotated_frame_and_their_singular_matrix():
    log, tracker = GramLog(), Tracks(memory(initialisation="annotated_copies"))
    run(log, tracker, 5)
    first, second, third = log.offers
    assert first.after == -np.inf
    assert second.state.entries == (0,) * 5
    assert np.isneginf(second.what_if).all()
    assert third.state.entries == (0, 0, 0, 0, 2)


def test_a_memory_that_changed_between_frames_makes_no_false_what_if(filled):
    log, tracker, _ = filled
    tracker.drift = 3.0  # very different frames get in
    for _ in range(50):
        log.state = log.offers[3].state  # an object was dropped, or another state was loaded: not what the frame met
        offer = log.observe(tracker.step(), tracker)
        if offer is not None and offer.kept:
            break
    assert offer.reason == "replaced"
    assert offer.what_if is None
    assert offer.similarities is None
    assert log.state.entries == tracker.memory.stored


def test_a_log_that_starts_in_mid_video(filled):
    _, tracker, _ = filled
    late = GramLog()
    late.begin(tracker)
    assert late.state.entries == tracker.memory.stored
    offers = []
    while len(offers) < 4:
        before = tracker.memory.gram
        offer = late.observe(tracker.step(), tracker, frame(tracker.t))
        if offer is not None:
            offers.append(offer)
            np.testing.assert_array_equal(offer.state.gram, before)
            assert len(offer.what_if) == 5
    blind = GramLog()  # not begun: the first replacement met an unknown memory
    while (offer := blind.observe(tracker.step(), tracker)) is None:
        pass
    assert offer.kept == (offer.what_if is None)


def test_going_back_forgets_what_came_later(filled):
    log, _, _ = filled
    whole = log.offers
    state = Tracks(memory())
    for _ in range(61):
        state.step()
    log.begin(state)
    log.observe(state.step(), state)  # frame 61 again
    run(log, state, 58)
    again = log.offers
    assert [o.t for o in again] == [o.t for o in whole]
    assert [o.after for o in again] == [o.after for o in whole]
    assert log.counts.total() == len(again)


def test_long_videos_are_thinned_and_replacements_last():
    log, tracker = GramLog(keep=16), Tracks(memory(every=1, slots=4))
    run(log, tracker, 300)
    kept, refused = [o for o in log.offers if o.kept], [o for o in log.offers if not o.kept]
    assert 8 <= len(kept) <= 17
    assert 8 <= len(refused) <= 17
    assert log.counts.total() == 300
    assert log.thinned == 300 - len(log.offers)
    assert kept[0].t == 0
    assert log.offers[-1].t == 299, "the newest offer is always there"
    gaps = np.diff([o.number for o in refused[:-1]])
    assert len(set(gaps)) == 1, "refusals are thinned evenly"
    assert len(log.thumbs) <= 3 * 16 + 4
    assert set(log.state.entries) <= set(log.thumbs)
    sizes = []
    for _ in range(3):
        run(log, tracker, 60)
        sizes.append((len(log.offers), len(log.thumbs)))
    assert max(a for a, _ in sizes) <= 34
    assert max(b for _, b in sizes) <= 52


def test_all_replacements_stay_below_the_cap():
    log, tracker = GramLog(keep=64), Tracks(memory(every=1))
    met = run(log, tracker, 300)
    stored = [d.t for d, _, _ in met if d.kept]
    assert len(stored) < 64
    assert [o.t for o in log.offers if o.kept] == stored
    assert sum(not o.kept for o in log.offers) <= 65


def test_observing_is_cheap():
    log, tracker = GramLog(), Tracks(memory(slots=20, every=1, lower_bound=-1.0))
    run(log, tracker, 40)
    picture, times = frame(0, (480, 854)), []
    for _ in range(60):
        step = tracker.step()
        begun = time.thread_time()
        log.observe(step, tracker, picture)
        times.append(time.thread_time() - begun)
    assert log.newest().what_if.shape == (20,)
    assert np.median(times) < 2e-3


def test_thumbnails_are_small_and_right(filled):
    log, _, _ = filled
    assert set(log.state.entries) <= set(log.thumbs)
    assert image(log.thumbs[10]).shape == (48, 64, 3)
    np.testing.assert_allclose(image(log.thumbs[10]).mean((0, 1)), (50, 90, 160), atol=6)
    wide = GramLog(thumb=40)
    tracker = Tracks(memory())
    wide.observe(tracker.step(), tracker, frame(0, (270, 480)))
    assert image(wide.thumbs[0]).shape[1] == 40
    assert abs(image(wide.thumbs[0]).shape[0] - 22.5) <= 1
    assert len(wide.thumbs[0]) < 3000


# Files ------------------------------------------------------------------------------------------------------------------


def test_a_saved_log_is_the_same_and_goes_on(filled, tmp_path):
    log, tracker, _ = filled
    file = log.save(tmp_path)
    assert file == tmp_path / "session.gram.jsonl"
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
    back = GramLog.load(tmp_path / "session.jsonl")
    same(log, back)
    step = tracker.step()
    while step.decision.reason == "interval":
        step = tracker.step()
    assert back.observe(step, tracker).what_if is not None
    copies, other = GramLog(), Tracks(memory(initialisation="annotated_copies"))
    run(copies, other, 9)
    same(copies, GramLog.load(copies.save(tmp_path / "copies.gram.jsonl")))


def test_files_that_are_no_logs_are_refused(filled, tmp_path):
    log, _, _ = filled
    with pytest.raises(InputError, match="does not exist; record one"):
        GramLog.load(tmp_path / "none")
    with pytest.raises(InputError, match=r"clip\.mp4 is no Gram log"):
        GramLog.load("clip.mp4")
    file = log.save(tmp_path)
    whole = file.read_text().splitlines()
    for broken in (whole[:-1], whole[1:], [], [whole[0][:40]], ["[]"], [*whole[:3], '{"kind": "offer"}', whole[-1]]):
        file.write_text("\n".join(broken))
        with pytest.raises(InputError, match=r"session.gram.jsonl is no Gram log or is damaged"):
            GramLog.load(file)


def test_a_failed_save_leaves_the_old_file(filled, tmp_path):
    log, _, _ = filled
    file = log.save(tmp_path)
    before = file.read_bytes()
    log.thumbs[10**6] = None
    with pytest.raises(TypeError):
        log.save(tmp_path)
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_settings_are_checked():
    with pytest.raises(TypeError, match="kepp"):
        GramLog(kepp=3)
    for bad in ({"keep": 1}, {"thumb": 4}, {"quality": 200}):
        with pytest.raises(InputError, match=next(iter(bad))):
            GramLog(**bad)


# Sessions ---------------------------------------------------------------------------------------------------------------


class GramTracker:
    """A tracker for sessions: the colour tracker's masks, and a READMem with made-up keys."""

    def __new__(cls, colour):
        class Both(colour):
            def __init__(self) -> None:
                super().__init__()
                self.memory = memory()

            def commit(self):
                super().commit()
                one = entry(self.t)
                return self.memory.pin(one, 0) if self.t == 0 else self.memory.offer(one, self.t)

        return Both()


def test_following_a_session_saves_beside_its_log(clip, colour_tracker, tmp_path):
    session = Session(clip, GramTracker(colour_tracker), out=tmp_path)
    log = GramLog()
    end = log.follow(session)
    list(session.play())
    session.close()
    assert session.ended
    kept = [m.t for m in session.history if m.kept]
    assert [o.t for o in log.offers if o.kept] == kept
    assert log.t == 29
    assert (image(log.thumbs[0])[14, 10] > (150, 0, 0)).all(), "the thumbnail is the frame that was committed"
    same(log, GramLog.load(tmp_path / "session.jsonl"))
    end()
    assert isinstance(session.journal, Journal)


def test_a_memory_without_a_gram_matrix_is_named(clip, colour_tracker):
    tracker = SimpleNamespace(memory=FifoMemory(slots=3, every=1), t=-1)
    with pytest.raises(InputError, match="FifoMemory keeps no Gram matrix; build the tracker with memory='readmem'"):
        GramInspector(tracker)
    with pytest.raises(InputError, match="Tracker keeps no Gram matrix"):
        GramInspector(Session(clip, colour_tracker()))


# The widget -------------------------------------------------------------------------------------------------------------


def send(widget: GramInspector, kind: str, **content) -> None:
    widget._handle_custom_msg({"kind": kind, **content}, [])


@pytest.fixture
def widget(filled):
    shown = GramInspector(filled[0])
    yield shown
    shown.close()


def test_nothing_selected_shows_the_memory_now(widget, filled):
    _, tracker, _ = filled
    assert widget.selected is None
    assert widget.what_if == {}
    assert widget.detail["entries"] == list(tracker.memory.stored)
    np.testing.assert_allclose(widget.detail["gram"], tracker.memory.gram, atol=1e-5)
    assert widget.detail["pinned"] == [0]
    assert widget.detail["what_if"] is None
    assert set(widget.detail["thumbs"]) == {str(t) for t in tracker.memory.stored}
    assert all(data[:2] == b"\xff\xd8" for data in widget.detail["thumbs"].values())
    assert len(widget.state["course"]["t"]) == 60
    assert widget.state["slots"] == 5


def test_selecting_and_hovering(widget, filled):
    log, _, met = filled
    refused = next(o for o in log.offers if o.reason == "no gain")
    send(widget, "select", t=refused.t + 1, id=3)  # the nearest offered frame
    assert widget.selected == widget.state["selected"] == refused.t
    assert widget.state["answer"] == 3
    gram = next(gram for d, _, gram in met if d.t == refused.t)
    expected = {t: swapped(gram, n, refused.similarities) for n, t in enumerate(refused.state.entries)}
    assert widget.what_if == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(widget.detail["what_if"], list(expected.values()), atol=2e-5)
    assert widget.detail["best"] == refused.best
    assert str(refused.t) in widget.detail["thumbs"]

    send(widget, "hover", t=4, id=4)
    assert widget.detail["t"] == 4
    assert widget.selected == refused.t
    assert widget.detail["what_if"] is None
    send(widget, "hover", t=None, id=5)
    assert widget.detail["t"] == refused.t
    widget.select(10**6)
    assert widget.selected == log.offers[-1].t
    widget.select(None)
    assert widget.detail["t"] is None


def test_live_pushes_are_throttled_and_the_last_arrives():
    tracker = Tracks(memory())
    widget = GramInspector(tracker, rate=4)
    first = widget.state["seq"]
    for _ in range(80):
        step = tracker.step()
        widget.update(step, frame(step.t))
    assert widget.state["seq"] - first < 10
    deadline = time.monotonic() + 3
    while widget.state["t"] != 79 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert widget.state["t"] == 79
    assert widget.detail["entries"] == list(tracker.memory.stored)
    widget.close()


def test_update_without_a_step_sees_what_entered():
    told, quiet, tracker = GramLog(), Tracks(memory()), Tracks(memory())
    widget = GramInspector(quiet)
    run(told, tracker, 60)
    for _ in range(60):
        quiet.step()
        widget.update(frame=frame(quiet.t))
    stored = [o for o in told.offers if o.kept]
    found = widget.gram_log.offers
    assert [(o.t, o.replaced, o.after) for o in found] == [(o.t, o.replaced, o.after) for o in stored]
    for a, b in zip(found, stored, strict=True):
        np.testing.assert_array_equal(a.what_if, b.what_if)
    assert set(quiet.memory.stored) <= set(widget.gram_log.thumbs)
    for _ in range(40):  # seen only now and then: the similarities at hand are of a later frame
        quiet.step()
    widget.update()
    assert widget.gram_log.state.entries == quiet.memory.stored
    newest = widget.gram_log.offers[-1]
    assert newest.what_if is None or newest.t == quiet.t
    widget.close()


def test_a_session_is_followed_until_close(clip, colour_tracker):
    session = Session(clip, GramTracker(colour_tracker))
    widget = GramInspector(session)
    list(session.play(until=20))
    assert widget.gram_log.t == 19
    widget.close()
    list(session.play(until=25))
    assert widget.gram_log.t == 19
    with pytest.raises(TypeError, match="rat"):
        GramInspector(session, rat=3)


def test_arguments_are_checked(filled):
    with pytest.raises(TypeError, match="opcity"):
        GramInspector(filled[0], opcity=1)
    with pytest.raises(TypeError, match="not list"):
        GramInspector([1, 2])
    with pytest.raises(InputError, match="rate is 0"):
        GramInspector(filled[0], rate=0)
    with pytest.raises(InputError, match="has no tracker"):
        GramInspector(filled[0]).update()


def test_errors_reach_page_and_python(widget):
    send(widget, "dance")
    assert "dance" in widget.state["error"]
    assert "dance" in widget.errors[-1]
    send(widget, "select", t="soon")
    assert widget.state["error"].startswith("ValueError")
    send(widget, "select", t=3)
    assert widget.state["error"] == ""
    send(widget, "error", message="x is undefined", stack="at draw")
    assert "x is undefined" in widget.errors[-1]


def test_without_a_kernel_a_picture_stays(widget, tmp_path, filled):
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert image(base64.b64decode(data["image/png"])).shape[1] == 800
    assert data["text/plain"].startswith("Gram matrix of the memory · frame 119: 5 of 5 slots filled, log10|Γ| = −")
    html = widget.to_html()
    assert html.startswith("<figure")
    assert data["text/plain"] in html
    assert "data:image/png;base64," in html
    empty = GramInspector(Tracks(memory()))
    data, _ = empty._repr_mimebundle_()
    assert "image/png" not in data
    assert "the memory is empty" in data["text/plain"]
    assert "the memory is empty" in empty.to_html()
    saved = GramInspector(filled[0].save(tmp_path))
    assert saved.state["course"] == widget.state["course"]


def test_page_has_what_people_need_without_a_mouse(widget):
    script = str(widget._esm)
    for needed in ('"data-lm-suppress-shortcuts": "true"', "tabindex: 0", '"aria-live": "polite"', "ResizeObserver", "aria-label"):
        assert needed in script
    assert script.count("http") == script.count("http://www.w3.org/2000/svg") == 1
    assert ":focus-visible" in str(widget._css)


# The still picture ------------------------------------------------------------------------------------------------------


def test_figure_shows_the_same_numbers(filled):
    log, _, _ = filled
    offer = next(o for o in log.offers if o.reason == "replaced")
    figure = gram_figure(log, offer.t)
    axes = [one for part in figure.subfigs for one in part.axes]
    matrix = next(one for one in axes if one.images and one.get_title().startswith("Gram"))
    np.testing.assert_array_equal(matrix.images[0].get_array(), offer.state.gram)
    assert [label.get_text() for label in matrix.get_yticklabels()] == [str(t) for t in offer.state.entries]
    bars = next(one for one in axes if one.patches and "what if" in one.get_title())
    np.testing.assert_allclose([patch.get_width() for patch in bars.patches], offer.what_if - offer.before)
    assert sum("★" in text.get_text() for text in bars.texts) == 1
    course = next(one for one in axes if one.get_ylabel() == "log10|Γ|")
    shown = {text.get_text() for text in course.get_legend().get_texts()}
    assert shown >= {f"replaced ({log.counts['replaced']})", f"refused: no gain ({log.counts['no gain']})"}
    assert figure.get_suptitle() == describe(log, offer)
    assert f"stored for frame {offer.replaced} (replaced)" in describe(log, offer)


def test_figure_of_a_young_or_empty_log():
    with pytest.raises(ValueError, match="empty"):
        gram_figure(GramLog())
    log, tracker = GramLog(), Tracks(memory())
    run(log, tracker, 3)
    assert gram_png(log)[:4] == b"\x89PNG"
    assert gram_png(log, 0, dpi=40)[:4] == b"\x89PNG"
