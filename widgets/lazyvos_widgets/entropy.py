"""Uncertainty of every object over the frames, what was done about it, and a way back to any frame."""

from __future__ import annotations

import logging
import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Literal

import cv2
import numpy as np
import traitlets

from lazyvos.interact.limits import Limit, limits, logged
from lazyvos.journal import read_journal
from lazyvos.masks import OVERLAY_COLORS, overlay
from lazyvos.plot_uncertainty import THRESHOLDS, entropy_figure
from lazyvos.session import Session
from lazyvos.types import InputError
from lazyvos_widgets.clicker import Clicker
from lazyvos_widgets.course import MEASURES, Course, moments_of
from lazyvos_widgets.page import Page, source
from lazyvos_widgets.past import Past, Reader, Seen, past_of
from lazyvos_widgets.picture import figure_png, jpeg, page, shrunk
from lazyvos_widgets.timeline import ASKED, CLICKED, PSEUDO
from lazyvos_widgets.worker import Worker

PREVIEW = 420
"""Longer side of the picture of a past frame, in pixels."""
log = logging.getLogger(__name__)


class EntropyCurve(Page):
    """S_R (or its change ΔS_R) of every object over the frames, with requests, corrections, memory writes and thresholds.

    A click on the curve, or the arrow keys, look back at a frame: here, and in every :class:`lazyvos_widgets.Clicker` of the same
    session, which in turn moves this one. The tracker goes on undisturbed. Pushes to the page come at most ``rate`` times a
    second and have a bounded size, however long the video; what is drawn can be zoomed down to single frames.

    Args:
        source: a :class:`lazyvos.Session`, a :class:`lazyvos_widgets.Clicker` (its session is taken), or the path of a
            ``session.jsonl``.
        measure: what is drawn at first, ``"score"`` (S_R) or ``"delta"`` (ΔS_R).
        thresholds: any of ``"user"``, ``"pseudo"`` (both of ΔS_R) and ``"memory"`` (of S_R); by default those of the
            policy; for the log of an earlier version, which does not know them, the published ones.
        frames: for a log, the clip it was made with, to see the frames: anything with ``frame(t)``, or a list of frames.
        rate: most pushes per second while frames run on.

    Raises ``TypeError`` for an unknown argument or another kind of source, :class:`lazyvos.types.InputError` for a value out of
    range, or a log without tracked frames.

    Attributes
    ----------
    session: the session, ``None`` for a log.
    errors: the newest errors of the page, oldest first.
    """

    _esm, _css = source("entropy")

    state = traitlets.Dict().tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes(b"").tag(sync=True)
    _closed = True  # until it is set up

    def __init__(self, source: Session | Clicker | str | os.PathLike[str], *, measure: Literal["score", "delta"] = "score",
                 thresholds: Mapping[str, float] | None = None, frames: Any = None, rate: float = 4.0) -> None:
        if not 0.1 <= rate <= 60:
            raise InputError(f"rate is {rate}; give a number from 0.1 to 60")
        if measure not in MEASURES:
            raise InputError(f"measure is {measure!r}; give 'score' (S_R) or 'delta' (its change)")
        source = source.session if isinstance(source, Clicker) else source
        self.session = source if isinstance(source, Session) else None
        if self.session is None and not isinstance(source, str | os.PathLike):
            raise TypeError(f"EntropyCurve shows a Session, a Clicker or the path of a log, not {type(source).__name__}")
        self._course = Course()
        self._past: Past | None = None
        self._selected: Seen | None = None
        self._reader = Reader(frames)
        self._lock = threading.RLock()
        self._rate, self._pushed, self._seq, self._answer = rate, 0.0, 0, 0
        self._window: tuple[int, int] | None = None
        self._drawn: Seen | None = None
        self._now: dict[str, Any] | None = None
        self._error = self._message = ""
        self._later: threading.Timer | None = None
        self._ends: list[Callable[[], None]] = []
        events = [] if self.session is not None else read_journal(source)  # type: ignore[arg-type]
        known = limits(getattr(self.session.tracker, "policy", None)) if self.session is not None else logged(events)
        self._lines = _limits(thresholds) if known is None or thresholds is not None else known
        self._worker = Worker(self._obey, lambda: None, self._failed)
        super().__init__(options={
            "measure": measure, "colors": np.asarray(OVERLAY_COLORS).tolist(), "live": self.session is not None,
            "published": known is None and thresholds is None, "marks": {"asked": ASKED, "pseudo": PSEUDO, "clicked": CLICKED},
        })  # fmt: skip
        self._closed = False
        if self.session is not None:
            self._follow(self.session)
        else:
            self._read(events, source)
        self._push()
        self.on_msg(self._received)

    @classmethod
    def from_log(cls, path: str | os.PathLike[str], *, frames: Any = None, thresholds: Mapping[str, float] | None = None,
                 measure: Literal["score", "delta"] = "score") -> EntropyCurve:
        """The curve of a finished session, or of one that still writes, from its ``session.jsonl``; arguments as above."""
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"from_log takes the path of a session.jsonl, not {type(path).__name__}")
        return cls(path, frames=frames, thresholds=thresholds, measure=measure)

    def _follow(self, session: Session) -> None:
        with session.lock:
            for moment in session.history:
                self._course.add(moment)
            self._now = None if session.ended else _present(session)
            self._past = past_of(session)
            self._past.want(640, 80, 240)
            self._ends += [session.watch(self._changed), self._past.watch(self._push)]

    def _read(self, events: list[dict[str, Any]], path: Any) -> None:
        found = moments_of(events)
        if not found:
            raise InputError(f"{path} holds no tracked frame; give a session.jsonl file of a run")
        for moment in found:
            self._course.add(moment)

    # From Python --------------------------------------------------------------------------------------------------

    @property
    def selected(self) -> int | None:
        """Number of the past frame that is looked at; ``None`` for the present one."""
        shown = self._selected if self._past is None else self._past.shown
        return None if shown is None else shown.t

    def select(self, t: int | None) -> None:
        """Look at frame ``t``, or at the present one (``None``)."""
        if self._past is not None:
            self._past.look(None if t is None else int(t))
            return
        with self._lock:
            self._selected = None if t is None else self._logged(min(max(0, int(t)), self._course.frames - 1))
            self._push()

    def zoom(self, first: int | None = None, last: int | None = None) -> None:
        """Draw frames ``first`` to ``last`` only; without arguments all of them."""
        with self._lock:
            if first is None or last is None:
                self._window = None
            else:
                low = max(0, min(int(first), int(last)))
                self._window = low, max(low + 1, int(first), int(last))
            self._push()

    def wait(self, seconds: float = 60.0) -> None:
        """Return when nothing is left to do in the background; raise ``TimeoutError`` after ``seconds``."""
        self._worker.wait(seconds)

    def close(self) -> None:
        """Stop following the session and take the widget off the page."""
        if not self._closed:
            self._closed = True
            for end in self._ends:
                end()
            with self._lock:
                if self._later is not None:
                    self._later.cancel()
            self._worker.close()
        super().close()

    def to_html(self) -> str:
        """The picture of :func:`lazyvos.plot_uncertainty.entropy_figure` and a caption as one self-contained HTML figure."""
        with self._lock:
            picture = self._still()
            return f"<figure><figcaption>{self._caption()}</figcaption></figure>" if picture is None else page(picture, self._caption())

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_()
        if bundle is None:
            return None
        data, metadata = bundle
        with self._lock:
            picture = self._still()
            data = {**data, "text/plain": self._caption()}
            if picture is not None:
                data["image/png"] = b64encode(picture).decode()
        return data, metadata

    def _still(self) -> bytes | None:
        """PNG; ``None`` as long as there is nothing to draw."""
        if not self._course.objects:
            return None
        lines = {limit.kind: limit.value for limit in self._lines if (limit.kind == "memory") == (limit.measure == "score")}
        return figure_png(entropy_figure(self._course.curves(), thresholds=lines))

    def _caption(self) -> str:
        course = self._course
        names = ", ".join(map(str, course.objects))
        return f"uncertainty over {course.frames} frames · {'objects' if len(course.objects) != 1 else 'object'} {names or 'none yet'}"

    # From the page ------------------------------------------------------------------------------------------------

    def _received(self, _: Any, content: Any, __: Any) -> None:
        """Only notes what a person did: a frame may have to be read again."""
        if not isinstance(content, dict):
            return
        if content.get("kind") == "error":
            self._complained(content)
        else:
            self._worker.put(content)

    def _obey(self, commands: list[dict[str, Any]]) -> None:
        command = commands[0]
        kind, t = command.get("kind"), command.get("t")
        self._answer = max(self._answer, int(command.get("id", 0)))
        self._message = self._error = ""
        if kind == "look":
            self.select(None if t is None else self._aimed(int(t), command))
        elif kind == "mark":
            self._to_mark(int(command["by"]))
        elif kind == "window":
            self.zoom(command.get("first"), command.get("last"))
        else:
            raise InputError(f"the page sent {kind!r}, which is no command; reload the page")

    def _aimed(self, t: int, command: dict[str, Any]) -> int:
        """The frame that was meant by a point of the curve that stands for several."""
        until = int(command.get("until", t + 1))
        return t if until <= t + 1 else self._course.pick(max(0, t), until, str(command.get("measure", "score")))

    def _to_mark(self, by: int) -> None:
        here = self.selected
        found = self._course.next_mark(self._course.frames if here is None else here, by)
        if found is None:
            self._message = f"There is no mark {'after' if by > 0 else 'before'} this frame."
            self._push()
        else:
            self.select(found)

    # To the page --------------------------------------------------------------------------------------------------

    def _changed(self, session: Session, what: str) -> None:
        """The session changed; it holds its lock."""
        with self._lock:
            if what == "commit":
                self._course.add(session.history[-1])
            self._now = _present(session)
            if what in ("edit", "skip") or (what == "frame" and (session.waiting or session.ended)):
                self._push()
                return
            wait = self._pushed + 1 / self._rate - time.monotonic()
            if wait <= 0:
                self._push()
            elif self._later is None:
                self._later = threading.Timer(wait, self._push_late)
                self._later.daemon = True
                self._later.start()

    def _push_late(self) -> None:
        with self._lock:
            if self._later is not None and not self._closed:
                self._push()

    def _push(self) -> None:
        with self._lock:
            if self._later is not None:
                self._later.cancel()
                self._later = None
            self._seq += 1
            seen = self._selected if self._past is None else self._past.shown
            with self.hold_sync():
                if seen is not self._drawn or seen is None:
                    self.picture, self._drawn = self._preview(seen), seen
                self.state = self._state(seen)
            self._pushed = time.monotonic()

    def _state(self, seen: Seen | None) -> dict[str, Any]:
        session, course = self.session, self._course
        frames = max(course.frames, 0 if session is None else session.t + 1)
        first, last = self._window or (0, max(frames, 2) - 1)
        shown = None if seen is None else seen.t
        t = max(0, frames - 1) if shown is None else shown
        past = "" if self._past is None or seen is None else self._past.message
        now = self._now if self._now is not None and self._now["t"] >= course.frames else None
        return {
            "seq": self._seq, "answer": self._answer, "t": frames - 1, "frames": frames, "look": shown,
            "window": [first, last], "zoomed": self._window is not None, "span": course.span, "course": course.window(first, last),
            "limits": [list(limit) for limit in self._lines], "now": now, "facts": {"t": t, "kept": course.kept(t), "objects": course.facts(t)},
            "message": self._message or past, "error": self._error, "ended": session is None or session.ended,
        }  # fmt: skip

    def _logged(self, t: int) -> Seen:
        frame = self._reader.frame(t)
        return Seen(t, b"" if frame is None else jpeg(shrunk(frame, PREVIEW), 85))

    def _preview(self, seen: Seen | None) -> bytes:
        """A past frame with its masks as JPEG; empty where there is none."""
        if seen is None or not seen.frame or not seen.labels:
            return b"" if seen is None else seen.frame
        frame = shrunk(_decoded(seen.frame, cv2.IMREAD_COLOR)[..., ::-1], PREVIEW)
        labels = cv2.resize(_decoded(seen.labels, cv2.IMREAD_GRAYSCALE), frame.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return jpeg(overlay(np.ascontiguousarray(frame), labels), 85)


def _decoded(data: bytes, how: int) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    assert found is not None
    return found


def _present(session: Session) -> dict[str, Any]:
    """The frame at hand, which is not committed yet."""
    seen, asked = session.original, {request.object for request in session.requests if request.t == session.t}
    return {"t": seen.t, "objects": [
        {"id": name, "score": _number(seen.scores.get(name)), "delta": _number(seen.deltas.get(name)), "asked": name in asked}
        for name in seen.objects]}  # fmt: skip


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def _limits(thresholds: Mapping[str, float] | None) -> list[Limit]:
    given = THRESHOLDS if thresholds is None else thresholds
    if unknown := set(given) - set(THRESHOLDS):
        raise InputError(f"threshold {sorted(unknown)[0]!r} is not known; choose from {', '.join(THRESHOLDS)}")
    return [Limit(kind, "score" if kind == "memory" else "delta", float(value)) for kind, value in given.items()]
