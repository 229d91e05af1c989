"""Click on an object in a notebook, watch it tracked, and answer when the tracker asks."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from lazyvos.masks import OVERLAY_COLORS
from lazyvos.session import Session
from lazyvos.types import Click, InputError
from lazyvos_widgets.page import Page, source
from lazyvos_widgets.past import past_of
from lazyvos_widgets.picture import caption, heat, jpeg, page, png, shrunk, still
from lazyvos_widgets.threshold import Passed, passed
from lazyvos_widgets.timeline import Timeline
from lazyvos_widgets.worker import Worker


class Clicker(Page):
    """The click widget of one session.

    The page sends what a person does as small messages; they are worked off in one background thread, so the
    kernel stays free and clicks that pile up are answered together. Every change of the session, whoever made it,
    is shown; while frames run on, at most ``rate`` times a second. An :class:`lazyvos_widgets.EntropyCurve` of the same session
    looks at the same past frame.

    Args:
        session: the work to show; it may be used from Python at the same time.
        objects: ids that can be picked at first, or a mapping from ids to names.
        opacity: of the masks, 0 to 1.
        entropy: show the entropy map over the frame.
        entropy_opacity: of the entropy map, 0 to 1.
        rate: most pictures per second while playing.
        longest: longer side in pixels of the pictures sent to the page; clicks stay in pixels of the frame.
        quality: of the JPEG frames, 1 to 100.
        look_back: how many past frames are kept, compressed, to look at again; of older ones some are.

    Raises ``TypeError`` for an unknown argument or anything but a session, :class:`lazyvos.types.InputError` for a
    value out of range.

    Attributes
    ----------
    errors: the newest errors of the page and of the work it asked for, oldest first.
    """

    _esm, _css = source("clicker")

    frame = traitlets.Bytes(b"").tag(sync=True)
    labels = traitlets.Bytes(b"").tag(sync=True)
    region = traitlets.Bytes(b"").tag(sync=True)
    entropy_map = traitlets.Bytes(b"").tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    _closed = True  # until it is set up

    def __init__(self, session: Session, *, objects: Sequence[int] | Mapping[int, str] = (1,), opacity: float = 0.55,
                 entropy: bool = False, entropy_opacity: float = 0.9, rate: float = 12.0, longest: int = 1280,
                 quality: int = 85, look_back: int = 240) -> None:
        if not isinstance(session, Session):
            raise TypeError(f"Clicker shows a lazyvos.Session, not {type(session).__name__}; make one first")
        _check(opacity, entropy_opacity, rate, longest, quality, look_back)
        ids = [Click(0, 0, int(name)).object for name in objects]
        names = {int(name): str(text) for name, text in objects.items()} if isinstance(objects, Mapping) else {}
        self.session = session
        self.timeline = Timeline()
        self._rate, self._longest, self._quality, self._heat = rate, longest, quality, entropy
        self._past = past_of(session)
        self._past.want(longest, quality, look_back)
        self._passed: dict[tuple[int, int], Passed | None] = {}
        self._drawn_t, self._answer, self._seq = -1, 0, 0
        self._message = self._error = ""
        self._until: int | None = None
        self._region: tuple[int, int, int, int, int, bytes] = (-1, 0, 0, 0, 0, b"")
        self._pushed = 0.0
        self._later: threading.Timer | None = None
        self._closed = False
        self._worker = Worker(self._obey, self._forward, self._failed)
        with session.lock:
            for moment in session.history:
                self.timeline.add(moment)
            super().__init__(options={
                "objects": ids or [1], "names": names, "opacity": opacity, "entropy": entropy, "entropy_opacity": entropy_opacity,
                "colors": np.asarray(OVERLAY_COLORS).tolist(),
            })
            self._weigh()
            self._push()
            self._ends = session.watch(self._changed), self._past.watch(self._looked)
        self.on_msg(self._received)

    # From Python --------------------------------------------------------------------------------------------------

    def play(self, until: int | None = None) -> None:
        """Let the session run in the background until somebody is asked, frame ``until`` is reached or the clip ends."""
        self._do({"kind": "play", "until": until})

    def pause(self) -> None:
        """Stop :meth:`play` after the frame at hand."""
        self._do({"kind": "pause"})

    def wait(self, seconds: float = 60.0) -> None:
        """Return when nothing is left to do in the background; raise ``TimeoutError`` after ``seconds``."""
        self._worker.wait(seconds)

    def close(self) -> None:
        """End the background thread and take the widget off the page."""
        if not self._closed:
            self._closed = True
            for end in self._ends:
                end()
            if self._later is not None:
                self._later.cancel()
            self._worker.close()
        super().close()

    def to_html(self) -> str:
        """The current picture and its caption as one self-contained HTML figure."""
        with self.session.lock:
            return page(self._still(), caption(self.session))

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_()
        if bundle is None:
            return None
        data, metadata = bundle
        with self.session.lock:
            data = {**data, "image/png": b64encode(self._still()).decode(), "text/plain": caption(self.session)}
        return data, metadata

    def _still(self) -> bytes:
        return still(self.session, opacity=self.options["opacity"], entropy=self._heat,
                     entropy_opacity=self.options["entropy_opacity"])

    # From the page ------------------------------------------------------------------------------------------------

    def _received(self, _: Any, content: Any, __: Any) -> None:
        if isinstance(content, dict):
            self._do(content)

    def _do(self, command: dict[str, Any]) -> None:
        """Take one command; only notes it, so that the kernel's thread is free at once."""
        if command.get("kind") == "error":
            self._complained(command)
        else:
            self._worker.put(command)

    def _obey(self, commands: list[dict[str, Any]]) -> None:
        if commands[0].get("kind") == "click":
            self._click(commands)
        else:
            self._command(commands[0])

    def _click(self, clicks: list[dict[str, Any]]) -> None:
        session = self.session
        self._answer = max(self._answer, *(int(click["id"]) for click in clicks))
        with session.lock:
            wanted = [c for c in clicks if session.live or int(c["t"]) == session.t]
            if len(wanted) < len(clicks):
                self._message = "The clip had moved on: click again on this frame."
            if wanted:
                self._message = ""
                session.correct([Click(float(c["x"]), float(c["y"]), int(c["object"]), bool(c["positive"]))
                                 for c in wanted])
            else:
                self._push()

    def _command(self, command: dict[str, Any]) -> None:
        session, kind = self.session, command.get("kind")
        self._message = self._error = ""
        if kind in ("undo", "redo", "skip"):
            self._past.back()
            session.skip(command.get("object")) if kind == "skip" else getattr(session, kind)()
        elif kind == "advance":
            self._past.back()
            count = int(command.get("frames", 1))
            if count == 1:
                session.advance()
            else:
                self._start(session.t + count)
        elif kind == "play":
            self._past.back()
            self._start(command.get("until"))
        elif kind == "entropy":
            self._heat = bool(command.get("on"))
        elif kind == "look":
            self._worker.playing, t = False, command.get("t")
            return self._past.look(None if t is None else int(t))  # which shows it here too
        elif kind != "pause":
            raise InputError(f"the page sent {kind!r}, which is no command; reload the page")
        self._push()

    def _start(self, until: Any) -> None:
        if self.session.waiting:
            self._message = "The tracker waits for an answer: click or skip."
        else:
            self._until = None if until is None else int(until)
            self._worker.playing = not self.session.ended

    def _forward(self) -> None:
        """One step of playing, not faster than the clip itself."""
        session, began = self.session, time.monotonic()
        if not self._done():
            session.advance()
        if self._done():
            self._worker.playing = False
            self._push()
        elif session.fps:
            time.sleep(max(0.0, min(1.0, 1 / session.fps - (time.monotonic() - began))))

    def _done(self) -> bool:
        session = self.session
        return session.ended or session.waiting or (self._until is not None and session.t >= self._until)

    # To the page --------------------------------------------------------------------------------------------------

    def _changed(self, session: Session, what: str) -> None:
        """The session changed; it holds its lock."""
        if what == "frame":
            self._weigh()
        if what == "commit":
            self.timeline.add(session.history[-1])
        elif what == "frame" and not session.waiting and not session.ended:
            self._push_soon()
        else:
            if what == "edit":
                self._error = ""
                self._past.back()
            self._push()

    def _looked(self) -> None:
        """Another frame is looked at, in this widget or another one of the session."""
        self._message = self._past.message
        self._push()

    def _weigh(self) -> None:
        """Note which threshold each new request passed, while the policy stands on its frame."""
        session = self.session
        open_now = {(r.t, r.object): r for r in session.requests}
        policy = getattr(session.tracker, "policy", None)
        self._passed = {key: self._passed[key] if key in self._passed
                        else passed(policy, request, session.original if request.t == session.t else None)
                        for key, request in open_now.items()}

    def _push_soon(self) -> None:
        """Push now, or, where the last push is too young, a little later."""
        wait = self._pushed + 1 / self._rate - time.monotonic()
        if wait <= 0:
            self._push()
        elif self._later is None:
            self._later = threading.Timer(wait, self._push_late)
            self._later.daemon = True
            self._later.start()

    def _push_late(self) -> None:
        with self.session.lock:
            if self._later is not None and not self._closed:
                self._push()

    def _push(self) -> None:
        session = self.session
        with session.lock:
            if self._later is not None:
                self._later.cancel()
                self._later = None
            self._seq += 1
            with self.hold_sync():
                look = self._past.shown
                if look is None:
                    self._encode_frame()
                    self.frame, self.labels = self._frame_bytes, self._labels_bytes()
                    self.entropy_map = self._entropy_bytes()
                else:
                    self.frame, self.labels, self.entropy_map = look.frame, look.labels, look.doubt if self._heat else b""
                box = self._box()
                self.region = b"" if box is None else self._region_bytes(*box)
                self.state = self._state(None if look is None else look.t, box)
            self._pushed = time.monotonic()

    def _encode_frame(self) -> None:
        if self._drawn_t != self.session.t:
            self._frame_bytes = jpeg(shrunk(self.session.frame, self._longest), self._quality)
            self._drawn_t = self.session.t

    def _labels_bytes(self) -> bytes:
        return png(shrunk(self.session.prediction.labels, self._longest, labels=True))

    def _entropy_bytes(self) -> bytes:
        if not (self._heat or self.session.requests):
            return b""
        return png(shrunk(heat(self.session.prediction.entropy), self._longest))

    def _box(self) -> tuple[int, int, int, int] | None:
        """Left, top, width, height of what is sent in full resolution around the first request, for frames that are shrunk."""
        session = self.session
        if not session.requests or session.requests[0].at is None or max(session.prediction.size) <= self._longest:
            return None
        (x, y), (height, width) = session.requests[0].at, session.prediction.size
        side = min(height, width, max(256, round(0.4 * min(height, width))))
        return _between(x - side / 2, width - side), _between(y - side / 2, height - side), side, side

    def _region_bytes(self, left: int, top: int, wide: int, high: int) -> bytes:
        if self._region[:5] != (self.session.t, left, top, wide, high):
            crop = np.ascontiguousarray(self.session.frame[top:top + high, left:left + wide])
            self._region = self.session.t, left, top, wide, high, jpeg(crop, self._quality)
        return self._region[5]

    def _state(self, look: int | None, box: tuple[int, int, int, int] | None) -> dict[str, Any]:
        session = self.session
        seen, now = session.prediction, time.monotonic()
        areas = np.bincount(seen.labels.ravel(), minlength=256)
        return {
            "seq": self._seq, "answer": self._answer, "t": session.t, "length": session.length,
            "size": list(seen.size), "playing": self._worker.playing, "ended": session.ended, "live": session.live,
            "look": look, "box": None if box is None else list(box), "message": self._message, "error": self._error,
            "objects": [{"id": name, "area": int(areas[name]), "score": _number(seen.scores.get(name))}
                        for name in session.objects],
            "requests": [{"t": r.t, "object": r.object, "score": _number(r.score), "delta": _number(r.delta),
                          "at": None if r.at is None else [float(v) for v in r.at],
                          "passed": _listed(self._passed.get((r.t, r.object))),
                          "left": _number(session.time_left(r.object, now))} for r in session.requests],
            "clicks": [{"x": c.x, "y": c.y, "object": c.object, "positive": c.positive} for c in session.clicks],
            "redo": session.can_redo, "timeline": self.timeline.data(),
        }


def _between(value: float, high: int) -> int:
    return int(min(max(0, round(value)), high))


def _listed(found: Passed | None) -> list[Any] | None:
    return None if found is None else [found.measure, round(found.value, 6), round(found.threshold, 6)]


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def _check(opacity: float, entropy_opacity: float, rate: float, longest: int, quality: int, look_back: int) -> None:
    ranges = {"opacity": (opacity, 0, 1), "entropy_opacity": (entropy_opacity, 0, 1), "rate": (rate, 0.1, 120), "longest": (longest, 64, 8192),
              "quality": (quality, 1, 100), "look_back": (look_back, 0, 5000)}
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise InputError(f"{name} is {value}; give a number from {low} to {high}")
