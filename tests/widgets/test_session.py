"""What a person did is kept, can be taken back, survives a crash and goes on another day."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import torch

from lazyvos.doubt import doubtful_point
from lazyvos.journal import Journal, read_journal
from lazyvos.session import Session
from lazyvos.types import Click, InputError, Prediction


def test_first_click_makes_an_object_that_is_tracked(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    assert session.t == 0
    assert session.objects == ()
    assert session.size == (48, 64)
    assert session.length == 30
    seen = session.click(10, 14)
    assert seen.labels[14, 10] == 1
    assert (seen.labels == 1).sum() == 144
    steps = list(session.play(until=6))
    assert [step.t for step in steps] == [0, 1, 2, 3, 4, 5]
    assert session.t == 6
    assert session.prediction.labels[14, 20] == 1
    assert session.prediction.labels[14, 6] == 0
    assert steps[0].corrections[0].clicks == (Click(10, 14),)
    assert steps[0].original.objects == ()
    assert steps[0].decision.kept
    assert not steps[1].decision.kept


def test_undo_and_redo_of_clicks_on_this_frame(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    session.undo()
    session.click(10, 14)
    one = session.prediction.labels.copy()
    session.click(12, 15, positive=False)
    two = session.prediction.labels.copy()
    assert (two == 1).sum() < (one == 1).sum()
    session.undo()
    np.testing.assert_array_equal(session.prediction.labels, one)
    assert session.can_redo
    session.redo()
    np.testing.assert_array_equal(session.prediction.labels, two)
    session.undo()
    session.undo()
    assert session.objects == ()
    assert session.clicks == ()
    session.click(55, 34, object=2)
    assert not session.can_redo
    session.redo()
    assert [click.object for click in session.clicks] == [2]
    session.advance()
    session.undo()
    assert session.clicks == ()
    assert session.objects == (2,)
    assert [e["event"] for e in session.log if e["event"] in ("undo", "redo")] == ["undo", "redo", "undo", "undo"]


def test_clicks_of_other_objects_stay(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    session.click(10, 14)
    session.click(55, 34, object=2)
    session.click(12, 15, positive=False)
    assert set(np.unique(session.prediction.labels)) == {0, 1, 2}
    session.undo()
    assert (session.prediction.labels == 1).sum() == 144
    assert (session.prediction.labels == 2).sum() == 144


def test_a_mask_is_an_edit_like_a_click(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    mask = np.zeros((48, 64), np.uint8)
    mask[10:18, 6:14] = 3
    session.correct(mask=mask)
    assert session.objects == (3,)
    step = session.advance()
    assert step is not None
    assert [(c.object, c.kind) for c in step.corrections] == [(3, "mask")]
    assert any(event["event"] == "mask" and event["objects"] == [3] for event in session.log)


def test_bad_clicks_are_refused_and_change_nothing(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    with pytest.raises(InputError, match="64x48"):
        session.click(64, 10)
    with pytest.raises(InputError, match="object 0"):
        session.click(1, 1, object=0)
    assert session.clicks == ()
    assert not any(event["event"] == "click" for event in session.log)
    with pytest.raises(InputError, match="no frames"):
        Session([], colour_tracker())


def test_requests_stop_play_until_answered_or_skipped(clip, colour_tracker):
    session = Session(clip, colour_tracker(ask={4: [1, 2], 9: [1]}))
    session.click(10, 14)
    session.click(55, 34, object=2)
    steps = list(session.play())
    assert session.t == 4
    assert session.waiting
    assert len(steps) == 4
    assert list(session.play()) == []
    first = session.requests[0]
    assert (first.t, first.object) == (4, 1)
    assert first.score == pytest.approx(0.9)
    assert first.delta == pytest.approx(0.8)
    assert first.at is not None
    assert session.prediction.labels[int(first.at[1]), int(first.at[0])] == 1
    session.click(14, 14)
    assert [request.object for request in session.requests] == [2]
    session.undo()
    assert [request.object for request in session.requests] == [1, 2]
    session.redo()
    session.skip(2)
    assert not session.waiting
    rest = list(session.play())
    assert session.t == 9
    assert [request.object for request in rest[0].requests] == [1, 2]
    session.advance()
    assert session.t == 10
    assert [e["objects"] for e in session.log if e["event"] == "skip"] == [[2], [1]]
    assert len(list(session.play())) == 20
    assert session.ended
    assert session.advance() is None
    assert list(session.play()) == []
    with pytest.raises(InputError, match="ended"):
        session.click(1, 1)


def test_a_program_answers_at_once(clip, colour_tracker):
    asked = []

    class Helper:
        def answer(self, request, frame, prediction):
            asked.append(request.t)
            return [Click(10 + request.t, 14, request.object)] if request.t == 4 else None

    session = Session(clip, colour_tracker(ask={4: [1], 9: [1]}), user=Helper())
    session.click(10, 14)
    assert len(list(session.play())) == 30
    assert asked == [4, 9]
    assert not session.requests
    assert [event["t"] for event in session.log if event["event"] == "skip"] == [9]
    assert session.history[4].clicked == (1,)
    assert session.history[9].clicked == ()
    assert session.history[9].asked == (1,)


def test_pseudo_corrections_come_back_after_undo(clip, colour_tracker):
    tracker = colour_tracker(pseudo={2: [1]})
    session = Session(clip, tracker)
    session.click(10, 14)
    list(session.play(until=2))
    assert session.prediction.refined == (1,)
    session.click(55, 34, object=2)
    session.undo()
    assert session.prediction.refined == (1,)
    assert tracker.calls.count("pseudo") == 2
    step = session.advance()
    assert step is not None
    assert [c.kind for c in step.corrections] == ["pseudo"]
    assert session.history[2].pseudo == (1,)


def test_live_does_not_wait(clip, colour_tracker):
    session = Session(clip, colour_tracker(ask={4: [1]}), live=True, patience=60)
    session.click(10, 14)
    list(session.play(until=7))
    assert [request.t for request in session.requests] == [4]
    assert not session.waiting
    left = session.time_left(1)
    assert left is not None
    assert 50 < left <= 60
    session.patience = 0
    assert session.requests == ()
    session.patience = 60
    session.click(14, 14)
    assert session.requests == ()
    session.advance()
    assert session.requests == ()


def test_the_log_is_enough_for_plots_and_survives_a_crash(clip, colour_tracker, tmp_path):
    session = Session(clip, colour_tracker(ask={4: [1]}), out=tmp_path)
    session.click(10, 14)
    list(session.play())
    path = tmp_path / "session.jsonl"
    with path.open("ab") as file:
        file.write(b'{"event": "cli')  # the machine went down here
    events = read_journal(path)
    assert [event["event"] for event in events[:2]] == ["opened", "click"]
    commits = [event for event in events if event["event"] == "commit"]
    assert [event["t"] for event in commits] == [0, 1, 2, 3]
    assert commits[2]["scores"] == {"1": 0.1}
    assert commits[2]["areas"] == {"1": 144}
    assert commits[0]["kept"] is True
    assert commits[0]["slot"] == 0
    assert commits[3]["log_gram_after"] == -3
    assert commits[1]["seconds"] > 0
    assert events[-1]["event"] == "request"
    assert events[-1]["t"] == 4
    again = Session(clip, colour_tracker(), out=path)
    again.close()
    assert [event["event"] for event in read_journal(path)].count("opened") == 2
    with pytest.raises(InputError, match="does not exist"):
        read_journal(tmp_path / "no.jsonl")


def test_memory_stays_bounded(clip, colour_tracker):
    session = Session((clip[0] for _ in range(400)), colour_tracker(), keep=50)
    session.click(10, 14)
    list(session.play())
    assert len(session.history) == 50
    assert len(session.log) == 50
    assert session.history[-1].t == 399


def test_snapshot_and_resume_in_the_middle_of_a_frame(clip, colour_tracker, tmp_path):
    session = Session(clip, colour_tracker(ask={6: [1, 2]}))
    session.click(10, 14)
    session.click(55, 34, object=2)
    list(session.play())
    session.click(16, 14)
    session.click(18, 15, positive=False)
    session.undo()
    path = session.snapshot(tmp_path / "work.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["work.pt"]
    torch.load(path, weights_only=True)
    other = Session.resume(path, clip, colour_tracker(ask={6: [1, 2]}))
    assert other.t == 6
    assert other.clicks == session.clicks
    assert other.requests == session.requests
    np.testing.assert_array_equal(other.prediction.labels, session.prediction.labels)
    assert list(other.history) == list(session.history)
    assert other.log[-1]["event"] == "resumed"
    for one in (session, other):
        one.redo()
        one.skip()
    for mine, yours in zip(session.play(), other.play(), strict=True):
        np.testing.assert_array_equal(mine.prediction.labels, yours.prediction.labels)
    assert session.ended
    assert other.ended
    with pytest.raises(InputError, match="ended"):
        session.snapshot(path)


def test_resume_refuses_what_is_no_snapshot(clip, colour_tracker, tmp_path):
    wrong = tmp_path / "wrong.pt"
    with pytest.raises(InputError, match="does not exist"):
        Session.resume(wrong, clip, colour_tracker())
    wrong.write_bytes(b"not a zip file")
    with pytest.raises(InputError, match="no session snapshot"):
        Session.resume(wrong, clip, colour_tracker())
    session = Session(clip, colour_tracker())
    list(session.play(until=20))
    session.snapshot(wrong)
    with pytest.raises(InputError, match="frame 20"):
        Session.resume(wrong, clip[:10], colour_tracker())


def test_many_threads_lose_no_click(clip, colour_tracker):
    session = Session(clip, colour_tracker())
    threads = [threading.Thread(target=session.click, args=(10, 14, name)) for name in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(session.clicks) == 8
    assert len(session.objects) == 8


def test_watchers_hear_of_changes_until_they_leave(clip, colour_tracker):
    session, heard = Session(clip, colour_tracker()), []
    leave = session.watch(lambda _, what: heard.append(what))
    session.click(10, 14)
    session.advance()
    leave()
    session.advance()
    assert heard == ["edit", "commit", "frame"]


def test_doubtful_point_looks_at_the_object_first():
    labels, doubt = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.float32)
    labels[10:20, 10:20] = 1
    doubt[15, 12], doubt[30:36, 50:56] = 0.5, 1.0
    seen = Prediction(3, labels, torch.zeros(2, 40, 60), (1,), doubt, {1: 0.5}, {1: None})
    x, y = doubtful_point(seen, 1)
    assert abs(x - 12) <= 2
    assert abs(y - 15) <= 2
    gone = Prediction(3, labels * 0, torch.zeros(2, 40, 60), (1,), doubt, {1: 0.5}, {1: None})
    x, y = doubtful_point(gone, 1)
    assert 50 <= x < 56
    assert 30 <= y < 36


def test_journal_writes_only_plain_json(tmp_path):
    journal = Journal(tmp_path / "a.jsonl", keep=3)
    journal.add("odd", value=np.float32("nan"), many=(np.int64(3), np.bool_(True)), mapping={1: float("inf")})
    for _ in range(5):
        journal.add("more")
    journal.close()
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert first["value"] is None
    assert first["many"] == [3, True]
    assert first["mapping"] == {"1": None}
    assert len(journal.events) == 3
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 6
