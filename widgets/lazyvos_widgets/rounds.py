"""Segment a clip in rounds of clicks in a notebook: look at all of it, click on one frame, propagate, compare, take back."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from lazyvos.masks import OVERLAY_COLORS
from lazyvos.rounds import Rounds
from lazyvos.types import Click, InputError
from lazyvos_widgets import rounds_still as still
from lazyvos_widgets.page import Page, source
from lazyvos_widgets.picture import figure_png, jpeg, png, shrunk
from lazyvos_widgets.quality import QUALITIES, UNCERTAINTY, Curves, Quality, truth_reader
from lazyvos_widgets.waiting import Waiting, plain
from lazyvos_widgets.worker import Worker

TICK = 0.1
"""Seconds between two reports of a round's progress."""


class _Cancelled(Exception):
    """A person wants the round no more."""


class RoundsView(Page):
    """The rounds of one clip: any frame with the masks of now, a timeline, clicks that wait for the next round, before against after.

    Clicks on one frame are collected, and Enter runs the round; it runs in the background, can be cancelled, and then leaves everything as it
    was. Every change of the rounds, whoever made it, is shown. The page asks for single frames and keeps some dozen, compressed.

    Args:
        rounds: what is shown; it may be used from Python at the same time.
        truth: true masks, to draw J&F of every frame: a sequence of a dataset or a clip with ``mask(t)``, a label map ``uint8 [H, W]`` (255 is void)
            for every frame, or a mapping from frame numbers to label maps. Without it the uncertainty is drawn.
        objects: ids that can be picked at first, or a mapping from ids to names.
        opacity: of the masks, 0 to 1.
        longest: longer side in pixels of the pictures sent to the page; clicks stay in pixels of the frame.
        quality: of the JPEG frames, 1 to 100.

    Raises ``TypeError`` for an unknown argument, anything but :class:`lazyvos.Rounds`, or another kind of truth;
    :class:`lazyvos.types.InputError` for a value out of range and for truth of another length.

    Attributes
    ----------
    errors: the newest errors of the page and of the work it asked for, oldest first.
    """

    _esm, _css = source("rounds")

    state = traitlets.Dict().tag(sync=True)
    curve = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    _closed = True  # until it is set up

    def __init__(self, rounds: Rounds, truth: Any = None, *, objects: Sequence[int] | Mapping[int, str] = (1,), opacity: float = 0.55,
                 longest: int = 1280, quality: int = 85) -> None:
        if not isinstance(rounds, Rounds):
            raise TypeError(f"RoundsView shows lazyvos.Rounds, not {type(rounds).__name__}; make them first")
        _check(opacity, longest, quality)
        ids = [Click(0, 0, int(name)).object for name in objects]
        names = {int(name): str(text) for name, text in objects.items()} if isinstance(objects, Mapping) else {}
        self.rounds = rounds
        self._quality = Quality(truth_reader(truth, len(rounds), rounds.frames.size), lambda: self._closed)
        self._longest, self._jpeg = longest, quality
        self._lock = threading.RLock()
        self._t, self._jump = rounds.results[-1].frame if rounds.results else 0, 0
        self._waiting = Waiting()
        self._busy: str | None = None
        self._cancel = threading.Event()
        self._seq = self._answer = 0
        self._version, self._result = 1, rounds.state
        self._suggested: int | None = None
        self._message = self._error = ""
        self._looker, self._runner, self._scorer = (Worker(do, lambda: None, self._failed) for do in (self._look, self._work, self._score))
        super().__init__(options={
            "objects": ids or [1], "names": names, "opacity": opacity, "colors": np.asarray(OVERLAY_COLORS).tolist(),
            "measures": [*(QUALITIES if self._quality.measured else ()), UNCERTAINTY], "clickable": rounds.refiner is not None,
        })  # fmt: skip
        self._closed = False
        self._show()
        self._end = rounds.watch(self._changed)
        self.on_msg(self._received)

    # From Python --------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> int:
        """Number of the frame that is looked at."""
        return self._t

    @property
    def pending(self) -> tuple[int, tuple[Click, ...]] | None:
        """The frame with clicks that wait for the next round, and the clicks; ``None`` without any."""
        with self._lock:
            held = self._waiting
            return None if held.frame is None or not held.clicks else (held.frame, tuple(held.clicks))

    def select(self, t: int) -> None:
        """Show frame ``t``. Raises :class:`InputError` if there is none."""
        self.rounds.frames.check(t)
        with self._lock:
            self._t, self._jump = int(t), self._jump + 1
            self._push()

    def propagate(self) -> None:
        """Run the round of the clicks that wait, in the background; see :meth:`wait`."""
        self._do({"kind": "run"})

    def cancel(self) -> None:
        """Stop the round that runs; everything stays as it was before, and its clicks wait again."""
        self._do({"kind": "cancel"})

    def quality(self, measure: str = "J&F") -> Curves:
        """``float32 [T]`` by object id after the last round; NaN where truth is not known. Computed now where it is not yet.

        Parameters
        ----------
        measure: ``"J&F"``, ``"J"``, ``"F"`` or ``"uncertainty"``.

        Raises :class:`InputError` for another measure, and without truth for all but the uncertainty.
        """
        if measure not in self.options["measures"]:
            raise InputError(f"measure {measure!r} is not known here; choose one of {', '.join(self.options['measures'])}")
        return self._quality.curves(self.rounds.results, measure)[0]

    def wait(self, seconds: float = 60.0) -> None:
        """Return when nothing is left to do in the background; raise ``TimeoutError`` after ``seconds``."""
        end = time.monotonic() + seconds
        for worker in (self._runner, self._scorer, self._looker):
            worker.wait(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """Cancel a round that runs, end the background threads and take the widget off the page."""
        if not self._closed:
            self._closed = True
            self._cancel.set()
            self._end()
            for worker in (self._looker, self._runner, self._scorer):
                worker.close()
        super().close()

    def to_html(self, frames: int = 8) -> str:
        """Curve, rounds and at most ``frames`` frames with their masks as one self-contained piece of HTML.

        The frames are the one that is looked at, the suggested one, those of the newest rounds, then others evenly.
        """
        if not 0 <= frames <= still.MOST:
            raise InputError(f"frames is {frames}; give 0 to {still.MOST}, a page with more would be too large to send")
        measure, now, before, suggested = self._drawing()
        wanted = still.chosen(self.rounds, (self._t, suggested), frames)
        return still.document(self.rounds, wanted, measure, now, before, suggested, self.options["opacity"])

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_()
        if bundle is None:
            return None
        data, metadata = bundle
        measure, now, before, suggested = self._drawing()
        pictures = [(still.words(self.rounds, t, measure, now), still.drawn(self.rounds, t, self.options["opacity"], 320))
                    for t in still.chosen(self.rounds, (self._t, suggested), 3)]  # fmt: skip
        picture = figure_png(still.timeline_figure(self.rounds, measure, now, before, suggested, pictures))
        data = {**data, "image/png": b64encode(picture).decode(), "text/plain": still.caption(self.rounds, suggested)}
        return data, metadata

    def _drawing(self) -> tuple[str, Curves, Curves, int | None]:
        """What a still picture shows; the uncertainty as long as the quality is not computed."""
        results = self.rounds.results
        measure = QUALITIES[0] if self._quality.measured and self._quality.ready(results) else UNCERTAINTY
        return measure, *self._quality.curves(results, measure), self.rounds.suggest()

    # From the page ------------------------------------------------------------------------------------------------

    def _received(self, _: Any, content: Any, __: Any) -> None:
        if isinstance(content, dict):
            self._do(content)

    def _do(self, command: dict[str, Any]) -> None:
        """Take one command: what is a matter of a moment is done at once, the rest goes to the background."""
        try:
            with self._lock:
                self._take(command, command.get("kind"))
        except Exception as error:  # whatever happens has to be seen in the page
            self._failed(error, [command])

    def _take(self, command: dict[str, Any], kind: Any) -> None:
        if kind == "error":
            self._complained(command)
        elif kind == "at":
            self._t = self._existing(command["t"])
        elif kind == "look":
            self._t = self._existing(command["t"])
            self._looker.put(command)
        elif kind == "cancel":
            self._cancel.set()
        elif kind in ("click", "unclick", "reclick", "discard", "run", "undo", "redo"):
            self._answer = max(self._answer, int(command.get("id", 0)))
            self._message = self._error = ""
            if self._busy is not None:
                self._message = f"The {self._busy} is still running: wait for it, or cancel it."
            elif kind in ("run", "undo", "redo"):
                self._begin(kind)
            else:
                self._change(kind, command)
            self._push()
        else:
            raise InputError(f"the page sent {kind!r}, which is no command; reload the page")

    def _existing(self, t: Any) -> int:
        self.rounds.frames.check(t)
        return int(t)

    def _change(self, kind: str, command: dict[str, Any]) -> None:
        """Of the clicks that wait."""
        if kind == "click":
            click = Click(float(command["x"]), float(command["y"]), int(command["object"]), bool(command["positive"]))
            self._message = self._waiting.add(self.rounds, int(command["t"]), click)
        else:
            {"unclick": self._waiting.undo, "reclick": self._waiting.redo, "discard": self._waiting.discard}[kind]()

    def _begin(self, kind: str) -> None:
        if kind == "run" and not self._waiting.clicks:
            self._message = "There is nothing to propagate: click on a frame first."
        elif kind == "undo" and not self.rounds.can_undo:
            self._message = "There is no round to undo."
        elif kind == "redo" and not self.rounds.can_redo:
            self._message = "There is no round to redo."
        else:
            self._busy = "round" if kind == "run" else kind
            self._cancel.clear()
            self.progress = {"done": 0, "total": 0}
            self._runner.put({"kind": kind})

    # In the background --------------------------------------------------------------------------------------------

    def _work(self, commands: list[dict[str, Any]]) -> None:
        """A round, or taking one back."""
        kind, message = commands[0]["kind"], ""
        try:
            if kind == "run":
                held, self._ticked = self._waiting, 0.0
                assert held.frame is not None
                result = self.rounds.interact(held.frame, tuple(held.clicks), progress=self._tick)
                message = f"Round {result.number}: {len(result.touched)} frames in {result.total_seconds:.1f} s."
                held.clear()
            elif kind == "undo":
                message = f"Round {self.rounds.undo().number} is taken back."
            else:
                message = f"Round {self.rounds.redo().number} is back."
        except _Cancelled:
            message = "Cancelled: all masks are as they were, and the clicks wait again."
        finally:
            with self._lock:
                self._busy, self._message = None, message
                self._show()

    def _tick(self, done: int, total: int) -> None:
        if self._cancel.is_set():
            raise _Cancelled
        now = time.monotonic()
        if now - self._ticked >= TICK:
            self._ticked, self.progress = now, {"done": done, "total": total}

    def _look(self, commands: list[dict[str, Any]]) -> None:
        """Send one frame, its masks now and those before the last round."""
        command = commands[0]
        about = {"kind": "picture", "id": command.get("id"), "view": command.get("view")}
        try:
            t = int(command["t"])
            with self._lock:
                results, version = self.rounds.results, self._version
            parts = [b"" if command.get("have") else jpeg(shrunk(self.rounds.frames[t], self._longest), self._jpeg), b"", b""]
            if results:
                parts[1:] = (png(shrunk(plane(t), self._longest, labels=True)) for plane in (results[-1].labels, results[-1].labels_before))
        except Exception:
            self.send({**about, "kind": "lost"})
            raise
        self.send({**about, "t": t, "version": version}, parts)

    def _score(self, _: list[dict[str, Any]]) -> None:
        """The quality of all frames of the newest result."""
        results = self.rounds.results
        if not results or self._closed:
            return
        last = results[-1]
        try:
            if last.before.objects:
                self._quality.of(last.before)
            self._quality.of(last.after, last.before, last.touched)
        except InterruptedError:
            return
        finally:
            with self._lock:
                self._push_curve(tried=True)

    # To the page --------------------------------------------------------------------------------------------------

    def _changed(self, *_: Any) -> None:
        """There is a round more or less, whoever made it; the one that this view made is shown when its clicks are gone."""
        with self._lock:
            if self._busy is None:
                self._error = ""
                self._show()

    def _show(self) -> None:
        with self._lock:
            if self.rounds.state is not self._result:
                self._version, self._result = self._version + 1, self.rounds.state
            self._suggested = self.rounds.suggest()
            self._push()
            self._push_curve()
            if not self._quality.ready(self.rounds.results):
                self._scorer.put({"kind": "score"})

    def _push(self) -> None:
        with self._lock:
            if self._closed:
                return
            rounds, self._seq = self.rounds, self._seq + 1
            self.state = {
                "seq": self._seq, "answer": self._answer, "version": self._version, "t": self._t, "jump": self._jump, "length": len(rounds),
                "size": list(rounds.frames.size), "fps": rounds.frames.fps, "objects": list(rounds.objects), "suggested": self._suggested,
                "rounds": [{"number": r.number, "frame": r.frame, "bounds": list(r.bounds), "clicks": [plain(c) for c in r.clicks]} for r in rounds.results],
                "pending": self._waiting.data(), "busy": self._busy, "undo": rounds.can_undo, "redo": rounds.can_redo,
                "message": self._message, "error": self._error,
            }  # fmt: skip

    def _push_curve(self, tried: bool = False) -> None:
        if not self._closed:
            results = self.rounds.results
            self.curve = {"version": self._version, "scored": tried or self._quality.ready(results), **self._quality.data(results)}


def _check(opacity: float, longest: int, quality: int) -> None:
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity}; give a number from 0 to 1")
    if not 64 <= longest <= 8192:
        raise InputError(f"longest is {longest}; give 64 to 8192 pixels")
    if not 1 <= quality <= 100:
        raise InputError(f"quality is {quality}; give 1 to 100")
