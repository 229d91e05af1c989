"""A person's work on one clip: what they did, what the tracker answered, and how to go on another day."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lazyvos.doubt import doubtful_point
from lazyvos.interact import Background, hooks
from lazyvos.interact.base import Answer, User
from lazyvos.interact.limits import limits
from lazyvos.journal import KEEP, Journal, Moment
from lazyvos.snapshot import Edit, frames_from, length_of, packed, read_snapshot, unpacked, write_snapshot
from lazyvos.types import Action, Click, Correction, Decision, InputError, Prediction, Request, Step


class Tracks(Protocol):
    """What a session needs of a tracker; :class:`lazyvos.tracker.Tracker` has it."""

    @property
    def t(self) -> int: ...
    @property
    def objects(self) -> tuple[int, ...]: ...
    def predict(self, frame: np.ndarray) -> Prediction: ...
    def correct(self, clicks: Sequence[Click] | None = None, mask: np.ndarray | None = None) -> Prediction: ...
    def revert(self) -> Prediction: ...
    def wishes(self) -> dict[int, Action]: ...
    def pseudo_correct(self, objects: Sequence[int]) -> Prediction: ...
    def commit(self) -> Decision: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


class Session:
    """One pass over a clip with somebody who can be asked.

    The session stands on one frame: it is predicted, may be corrected by clicks, and is committed to the tracker's
    memory when the session moves on. All methods may be called from several threads; ``lock`` guards them.

    Args:
        source: frames ``uint8 [H, W, 3]`` RGB; ``name``, ``fps``, ``size`` and a length are used where it has them.
        tracker: a fresh :class:`lazyvos.tracker.Tracker`.
        user: a program that answers requests (a simulated user), or ``None`` for a person, for whom ``requests`` stay
            open. With ``live`` it is asked in a thread of its own (:class:`lazyvos.interact.Background`), and its answer
            corrects the frame that the session stands on next.
        out: folder for ``session.jsonl``, the event log, or a file name that ends with ``.jsonl``.
        live: do not wait for answers: a request stays open for ``patience`` seconds while the clip goes on.
        patience: seconds, only for ``live``.
        keep: events and frames kept in memory; the log file has everything.

    Raises :class:`InputError` where the source has no frame.

    Attributes
    ----------
    t: number of the frame the session stands on, from 0.
    frame: its pixels, ``uint8 [H, W, 3]`` RGB.
    prediction: what the tracker says of it now; ``original`` is before any correction.
    history: the last ``keep`` committed frames as :class:`Moment`.
    ended: ``True`` once the last frame is committed.
    """

    def __init__(self, source: Iterable[np.ndarray], tracker: Tracks, *, user: User | None = None,
                 out: str | os.PathLike[str] | None = None, live: bool = False, patience: float = 5.0,
                 keep: int = KEEP) -> None:
        self._set_up(source, tracker, user, out, live, patience, keep)
        self._frames = iter(source)
        self._note("opened", source=str(getattr(source, "name", type(source).__name__)), size=self.size,
                   fps=self.fps, length=self.length, live=live, thresholds=limits(getattr(tracker, "policy", None)))
        self._next()
        if self.ended:
            raise InputError("the clip has no frames; give a source with at least one")

    def _set_up(self, source: Any, tracker: Tracks, user: User | None, out: str | os.PathLike[str] | None,
                live: bool, patience: float, keep: int) -> None:
        path = None if out is None else Path(out) if str(out).endswith(".jsonl") else Path(out) / "session.jsonl"
        self.source, self.tracker, self.live, self.patience = source, tracker, live, patience
        self.user = Background(user, patience) if live and user is not None and not isinstance(user, Background) else user
        self.fps: float | None = getattr(source, "fps", None)
        self.length: int | None = length_of(source)
        self.size: tuple[int, int] | None = getattr(source, "size", None)
        self.lock = threading.RLock()
        self.journal = Journal(path, keep)
        self.history: deque[Moment] = deque(maxlen=keep)
        self.t, self.ended = -1, False
        self.frame: np.ndarray
        self.prediction: Prediction
        self.original: Prediction
        self._edits: list[Edit] = []
        self._undone: list[Edit] = []
        self._pseudo: tuple[int, ...] = ()
        self._rejected: tuple[int, ...] = ()
        self._asked: dict[int, tuple[Request, float]] = {}
        self._skipped: set[int] = set()
        self._seconds = 0.0
        self._watchers: list[Callable[[Session, str], None]] = []

    # What there is to see -----------------------------------------------------------------------------------------

    @property
    def log(self) -> list[dict[str, Any]]:
        """The newest events, oldest first, as plain dicts (opened, click, undo, redo, request, pseudo, skip, commit…)."""
        return list(self.journal.events)

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids of the tracked objects."""
        return tuple(self.prediction.objects)

    @property
    def clicks(self) -> tuple[Click, ...]:
        """Clicks on the current frame, in the order they were made."""
        return tuple(edit for edit in self._edits if isinstance(edit, Click))

    @property
    def requests(self) -> tuple[Request, ...]:
        """What the tracker asks and nobody answered or skipped yet."""
        done = self._skipped | {click.object for click in self.clicks}
        oldest = time.monotonic() - self.patience if self.live else float("-inf")
        return tuple(request for name, (request, since) in self._asked.items() if name not in done and since >= oldest)

    def time_left(self, object: int, now: float | None = None) -> float | None:
        """Seconds until the request for ``object`` lapses; ``None`` where it waits for ever (or there is none)."""
        if not self.live or object not in self._asked:
            return None
        return self._asked[object][1] + self.patience - (time.monotonic() if now is None else now)

    @property
    def can_redo(self) -> bool:
        """``True`` where :meth:`redo` has something to do."""
        return bool(self._undone) and not self.ended

    @property
    def waiting(self) -> bool:
        """``True`` while a person is asked and the clip stands still for it."""
        return bool(self.requests) and not self.live

    def watch(self, call: Callable[[Session, str], None]) -> Callable[[], None]:
        """Call ``call(session, what)`` after every change (``"frame"``, ``"edit"``, ``"skip"``, before leaving a frame
        ``"commit"``). Returns a function that ends it."""
        self._watchers.append(call)
        return lambda: self._watchers.remove(call) if call in self._watchers else None

    # What a person does -------------------------------------------------------------------------------------------

    def click(self, x: float, y: float, object: int = 1, positive: bool = True) -> Prediction:
        """Correct an object of the current frame by one more click, or begin a new object.

        Raises :class:`InputError` for a click outside the frame, or when the clip has ended.
        """
        return self.correct([Click(float(x), float(y), int(object), bool(positive))])

    def correct(self, clicks: Sequence[Click] = (), mask: np.ndarray | None = None) -> Prediction:
        """Several clicks at once, or a whole label map ``uint8 [H, W]``; each is one step for :meth:`undo`."""
        with self.lock:
            if self.ended:
                raise InputError("the clip has ended and its last frame is stored; open a new session to correct it")
            for click in clicks:
                click.check_inside(self.prediction.size)
            started = time.perf_counter()
            if mask is not None:
                self.prediction = self.tracker.correct(mask=mask)
                self._edits.append(np.array(mask, np.uint8))
            if clicks:
                names = {click.object for click in clicks}
                wanted = [click for click in (*self.clicks, *clicks) if click.object in names]
                self.prediction = self.tracker.correct(clicks=wanted)
                self._edits.extend(clicks)
            self._undone.clear()
            seconds = self._spend(started)
            if mask is not None:
                self._note("mask", t=self.t, objects=[int(name) for name in np.unique(mask) if name], seconds=seconds)
            for click in clicks:
                self._note("click", **self._facts(click), seconds=seconds)
            self._tell("edit")
            return self.prediction

    def undo(self) -> Prediction:
        """Take back the last click (or mask) on this frame; without one nothing happens."""
        with self.lock:
            if self._edits and not self.ended:
                edit = self._edits.pop()
                self._undone.append(edit)
                self._replay("undo", edit)
            return self.prediction

    def redo(self) -> Prediction:
        """Make the click again that was taken back last; without one nothing happens."""
        with self.lock:
            if self._undone and not self.ended:
                edit = self._undone.pop()
                self._edits.append(edit)
                self._replay("redo", edit)
            return self.prediction

    def skip(self, object: int | None = None) -> tuple[Request, ...]:
        """Leave the open requests (or the one for ``object``) unanswered and return them."""
        with self.lock:
            dropped = tuple(request for request in self.requests if object in (None, request.object))
            self._skipped.update(request.object for request in dropped)
            if dropped:
                self._note("skip", t=self.t, objects=[request.object for request in dropped])
                self._tell("skip")
            return dropped

    def advance(self) -> Step | None:
        """Commit the current frame, then read and predict the next one and see what the policy wants there.

        Returns what happened on the committed frame, ``None`` when the clip had ended before. Requests that are still
        open are skipped (with ``live`` they stay open); afterwards :attr:`requests` are those of the new frame.
        """
        with self.lock:
            if self.ended:
                return None
            if not self.live:
                self.skip()
            step = self._commit()
            self._next()
            self._tell("frame")
            return step

    def play(self, until: int | None = None) -> Iterator[Step]:
        """Advance frame by frame until a person is asked, the session stands on frame ``until``, or the clip ends."""
        while not (self.ended or self.waiting or (until is not None and self.t >= until)):
            step = self.advance()
            if step is None:
                return
            yield step

    # Another day --------------------------------------------------------------------------------------------------

    def snapshot(self, path: str | os.PathLike[str]) -> Path:
        """Write everything needed to go on from here (tracker, log, clicks of this frame); whole or not at all.

        Raises :class:`InputError` when the clip has ended.
        """
        with self.lock:
            if self.ended:
                raise InputError("the clip has ended, there is nothing to go on with; its events are in the session's log")
            write_snapshot(path, {
                "t": self.t, "tracker": self.tracker.state(),
                "log": list(self.journal.events), "history": [tuple(moment) for moment in self.history],
                "edits": [packed(edit) for edit in self._edits], "undone": [packed(edit) for edit in self._undone],
                "pseudo": list(self._pseudo), "rejected": list(self._rejected), "skipped": sorted(self._skipped),
                "asked": [(r.t, r.object, r.score, r.delta, r.at) for r, _ in self._asked.values()],
            })
            self._note("snapshot", t=self.t, path=Path(path).name)
            return Path(path)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], source: Iterable[np.ndarray], tracker: Tracks, *,
               user: User | None = None, out: str | os.PathLike[str] | None = None, live: bool = False,
               patience: float = 5.0, keep: int = KEEP) -> Session:
        """Go on from a :meth:`snapshot`, with the same clip and a tracker configured alike. No code of the file runs.

        Raises :class:`InputError` where the file is missing, is no snapshot, or the source ends before its frame.
        """
        content = read_snapshot(path)
        session = cls.__new__(cls)
        session._set_up(source, tracker, user, out, live, patience, keep)
        t = int(content["t"])
        session._frames = frames_from(source, t)
        frame = next(session._frames, None)
        if frame is None:
            raise InputError(f"{path} stands on frame {t}, but the clip ends before it; give the clip it was made with")
        tracker.load_state(content["tracker"])
        session.t, session.frame = t, frame
        session.journal.events.extend(content["log"])
        session.history.extend(Moment(*moment) for moment in content["history"])
        session._pseudo, session._skipped = tuple(content["pseudo"]), set(content["skipped"])
        session._rejected = tuple(content.get("rejected", ()))
        now = time.monotonic()
        session._asked = {entry[1]: (Request(*entry), now) for entry in content["asked"]}
        session._edits = [unpacked(edit) for edit in content["edits"]]
        session._undone = [unpacked(edit) for edit in content["undone"]]
        session.original = session.prediction = tracker.predict(frame)
        session.size = session.size or frame.shape[:2]
        session._redraw()
        session._note("resumed", t=t)
        return session

    def close(self) -> None:
        """Close the log file and the source's reading thread."""
        self.journal.close()
        if isinstance(self.user, Background):
            self.user.close()
        for part in (self._frames, self.source):
            if callable(end := getattr(part, "close", None)):
                end()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # One frame ----------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        frame = next(self._frames, None)
        if frame is None:
            self.ended = True
            self._note("ended", frames=self.t + 1)
            return
        started = time.perf_counter()
        self.t += 1
        self.frame, self.size = frame, self.size or frame.shape[:2]
        self.original = self.prediction = self.tracker.predict(frame)
        still = {request.object for request in self.requests} if self.live else set()
        self._asked = {name: asked for name, asked in self._asked.items() if name in still}
        self._skipped.clear()
        self._edits.clear()
        self._undone.clear()
        self._seconds = 0.0
        wishes = self.tracker.wishes()
        self._pseudo = self._correct_itself([name for name, wish in wishes.items() if wish is Action.PSEUDO])
        if self._pseudo:
            self._note("pseudo", t=self.t, objects=self._pseudo)
        self._rejected = tuple(getattr(self.tracker, "rejected", ()))
        if self._rejected:
            self._note("rejected", t=self.t, objects=self._rejected)
        self._spend(started)
        late = list(hooks.arrivals(self.user, self.t))
        for name in (name for name, wish in wishes.items() if wish is Action.ASK):
            self._ask(name)
        for request, answer in late:
            if request.object in self.objects:
                self._take(request.object, answer)

    def _correct_itself(self, names: Sequence[int]) -> tuple[int, ...]:
        """Pseudo-corrections; returns the objects that had one (an unseen object cannot)."""
        if not names or getattr(self.tracker, "refiner", self) is None:
            return ()
        self.prediction = self.tracker.pseudo_correct(names)
        return tuple(name for name in names if name in self.prediction.refined)

    def _ask(self, name: int) -> None:
        seen = self.original
        request = Request(self.t, name, float(seen.scores[name]), seen.deltas.get(name), doubtful_point(seen, name))
        self._asked[name] = (request, time.monotonic())
        self._skipped.discard(name)
        self._note("request", t=self.t, object=name, score=request.score, delta=request.delta, at=request.at)
        if self.user is None:
            return
        if not self._take(name, self.user.answer(request, self.frame, self.prediction)) and not self.live:
            self.skip(name)

    def _take(self, name: int, answer: Answer) -> bool:
        """Correct an object as a program says; ``False`` where it says nothing (an empty mask cannot be corrected to)."""
        if isinstance(answer, np.ndarray):
            if not answer.any():
                return False
            self.correct(mask=np.where(answer, name, 0).astype(np.uint8))
            self._skipped.add(name)
        elif answer:
            self.correct(list(answer))
        return answer is not None and len(answer) > 0

    def _commit(self) -> Step:
        started = time.perf_counter()
        shown = getattr(self.tracker, "shown", self.prediction)
        decision = self.tracker.commit()
        self._spend(started)
        seen, clicks = self.original, self.clicks
        asked = tuple(request for request, _ in self._asked.values() if request.t == self.t)
        corrections = [Correction(self.t, name, "pseudo") for name in self._pseudo]
        for name in dict.fromkeys(click.object for click in clicks):
            corrections.append(Correction(self.t, name, "user", tuple(c for c in clicks if c.object == name)))
        for mask in (edit for edit in self._edits if not isinstance(edit, Click)):
            corrections.extend(Correction(self.t, int(name), "mask") for name in np.unique(mask) if name)
        step = Step(self.t, shown, seen, asked, tuple(corrections), decision, self._seconds,
                    {"rejected": self._rejected} if self._rejected else {})
        areas = np.bincount(shown.labels.ravel(), minlength=256)
        names = self.objects
        moment = Moment(
            self.t, names, tuple(int(areas[name]) for name in names),
            tuple(seen.scores.get(name) for name in names), tuple(seen.deltas.get(name) for name in names),
            tuple(request.object for request in asked), self._pseudo,
            tuple(dict.fromkeys(c.object for c in corrections if c.kind != "pseudo")),
            decision.kept, decision.log_gram_after, self._seconds,
        )
        self.history.append(moment)
        self._note("commit", t=self.t, scores=dict(seen.scores), deltas=dict(seen.deltas),
                   areas=dict(zip(names, moment.areas, strict=True)), clicked=moment.clicked, pseudo=moment.pseudo,
                   kept=decision.kept, reason=decision.reason, slot=decision.slot, replaced=decision.replaced,
                   log_gram_before=decision.log_gram_before, log_gram_after=decision.log_gram_after,
                   seconds=self._seconds)
        self._tell("commit")
        return step

    def _replay(self, what: str, edit: Edit) -> None:
        started = time.perf_counter()
        self._redraw()
        self._note(what, **(self._facts(edit) if isinstance(edit, Click) else {"t": self.t, "mask": True}),
                   seconds=self._spend(started))
        self._tell("edit")

    def _redraw(self) -> None:
        """The tracker's prediction again, then the pseudo-corrections and edits of this frame over it."""
        self.prediction = self.tracker.revert()
        self._correct_itself((*self._pseudo, *self._rejected))
        masks = [edit for edit in self._edits if not isinstance(edit, Click)]
        for mask in masks:
            self.prediction = self.tracker.correct(mask=mask)
        if self.clicks:
            self.prediction = self.tracker.correct(clicks=list(self.clicks))

    def _facts(self, click: Click) -> dict[str, Any]:
        return {"t": self.t, "object": click.object, "x": click.x, "y": click.y, "positive": click.positive,
                "by": "person" if self.user is None else type(getattr(self.user, "user", self.user)).__name__}

    def _spend(self, started: float) -> float:
        seconds = time.perf_counter() - started
        self._seconds += seconds
        return seconds

    def _note(self, event: str, **facts: Any) -> None:
        self.journal.add(event, **facts)

    def _tell(self, what: str) -> None:
        for call in tuple(self._watchers):
            call(self, what)
