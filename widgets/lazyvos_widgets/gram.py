"""Look into a READMem memory: its Gram matrix, the stored frames, and what each replacement would have given."""

from __future__ import annotations

import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import numpy as np
import traitlets

from lazyvos.gram_log import GramLog
from lazyvos.gram_offer import Offer
from lazyvos.plot_gram import describe, gram_png
from lazyvos.session import Session
from lazyvos.types import InputError, Step
from lazyvos_widgets.page import Page, source
from lazyvos_widgets.picture import page


class GramInspector(Page):
    """The Gram matrix of a memory as a heat map, its entries as thumbnails, and log10|Γ| over the frames.

    Nothing selected: the memory as it is, live. A frame selected on the curve, by mouse or arrow keys, or hovered: the memory as
    that frame met it, and log10|Γ| after each replacement. Pushes to the page come at most ``rate`` times a second.

    Args:
        source: a :class:`lazyvos.Session` (followed from now on), a tracker (tell each frame with :meth:`update`), a
            :class:`lazyvos.gram_log.GramLog` (shown as it grows), or the path of a saved one or of the session log beside it.
        rate: most pushes per second while frames run on.

    Raises ``TypeError`` for an unknown argument or another kind of source, :class:`lazyvos.types.InputError` for a value out of
    range, a file that is no Gram log, or a memory without a Gram matrix.

    Attributes
    ----------
    gram_log: the :class:`lazyvos.gram_log.GramLog` that is shown.
    errors: the newest errors of the page, oldest first.
    """

    _esm, _css = source("gram")

    state = traitlets.Dict().tag(sync=True)
    detail = traitlets.Dict().tag(sync=True)
    _closed = True  # until it is set up

    def __init__(self, source: Session | GramLog | str | os.PathLike[str] | Any, *, rate: float = 4.0) -> None:
        if not 0.1 <= rate <= 60:
            raise InputError(f"rate is {rate}; give a number from 0.1 to 60")
        self.tracker: Any = None
        self._rate, self._pushed, self._seq = rate, 0.0, 0
        self._later: threading.Timer | None = None
        self._selected: Offer | None = None
        self._hovered: Offer | None = None
        self._error, self._answer = "", 0
        self._ends: list[Callable[[], None]] = []
        self.gram_log = self._opened(source)
        super().__init__()
        self._closed = False
        self._push()
        self._ends.append(self.gram_log.watch(self._changed))
        self.on_msg(self._received)

    def _opened(self, source: Any) -> GramLog:
        if isinstance(source, GramLog):
            return source
        if isinstance(source, str | os.PathLike):
            return GramLog.load(source)
        found = GramLog()
        if isinstance(source, Session):
            self.tracker = source.tracker
            self._ends.append(found.follow(source))
        elif hasattr(source, "memory"):
            self.tracker = source
            found.begin(source)
        else:
            raise TypeError(f"GramInspector shows a Session, a tracker, a GramLog or a saved one, not {type(source).__name__}")
        return found

    # From Python --------------------------------------------------------------------------------------------------

    def update(self, step: Step | None = None, frame: np.ndarray | None = None) -> None:
        """Show what the tracker's memory is now.

        With the ``step`` of a frame (and the ``frame`` for its thumbnail) it is recorded; without, what entered the memory since
        is, but refusals are not known. Raises :class:`InputError` for an inspector without a tracker.
        """
        if self.tracker is None:
            raise InputError("this inspector shows a log and has no tracker; give GramInspector the tracker to update from it")
        if step is not None:
            self.gram_log.observe(step, self.tracker, frame)
        else:
            self.gram_log.look(self.tracker, frame)

    @property
    def selected(self) -> int | None:
        """Number of the selected frame; ``None`` while the newest state is shown."""
        return None if self._selected is None else self._selected.t

    def select(self, t: int | None) -> None:
        """Select the offered frame nearest to ``t``, or ``None`` to show the memory as it is now."""
        with self.gram_log.lock:
            self._selected, self._hovered = (None if t is None else self.gram_log.at(int(t))), None
            self._push()

    @property
    def what_if(self) -> dict[int, float]:
        """log10|Γ| of the selected frame in place of each entry, by the entry's frame number; empty where nothing was weighed."""
        offer = self._selected
        if offer is None or offer.what_if is None:
            return {}
        return {entry: float(value) for entry, value in zip(offer.state.entries, offer.what_if, strict=True)}

    def close(self) -> None:
        """Stop recording and take the widget off the page."""
        if not self._closed:
            self._closed = True
            for end in self._ends:
                end()
            with self.gram_log.lock:
                if self._later is not None:
                    self._later.cancel()
        super().close()

    def to_html(self) -> str:
        """The picture of :func:`lazyvos.plot_gram.gram_figure` and a caption as one self-contained HTML figure."""
        with self.gram_log.lock:
            picture = self._still()
            return f"<figure><figcaption>{self._caption()}</figcaption></figure>" if picture is None else page(picture, self._caption())

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_()
        if bundle is None:
            return None
        data, metadata = bundle
        with self.gram_log.lock:
            picture = self._still()
            data = {**data, "text/plain": self._caption()}
            if picture is not None:
                data["image/png"] = b64encode(picture).decode()
        return data, metadata

    def _still(self) -> bytes | None:
        """PNG; ``None`` as long as there is nothing to draw."""
        if not self.gram_log.offers and not self.gram_log.state.entries:
            return None
        return gram_png(self.gram_log, self.selected)

    def _caption(self) -> str:
        return f"Gram matrix of the memory · {describe(self.gram_log, self._selected)}"

    # From the page ------------------------------------------------------------------------------------------------

    def _received(self, _: Any, content: Any, __: Any) -> None:
        """What a person does is a look-up, so it is answered at once."""
        if not isinstance(content, dict):
            return
        kind, t = content.get("kind"), content.get("t")
        try:
            with self.gram_log.lock:
                self._answer = max(self._answer, int(content.get("id", 0)))
                if kind == "error":
                    self._complained(content)
                elif kind == "select":
                    self.select(t)
                elif kind == "hover":
                    self._hovered = None if t is None else self.gram_log.at(int(t))
                    self._push()
                else:
                    raise InputError(f"the page sent {kind!r}, which is no command; reload the page")
        except Exception as error:  # whatever happens has to be seen in the page
            self._failed(error, [content])

    # To the page --------------------------------------------------------------------------------------------------

    def _changed(self, _: GramLog) -> None:
        """A frame was recorded: push now, or, where the last push is too young, a little later."""
        with self.gram_log.lock:
            wait = self._pushed + 1 / self._rate - time.monotonic()
            if wait <= 0:
                self._push()
            elif self._later is None:
                self._later = threading.Timer(wait, self._push_late)
                self._later.daemon = True
                self._later.start()

    def _push_late(self) -> None:
        with self.gram_log.lock:
            if self._later is not None and not self._closed:
                self._push()

    def _push(self) -> None:
        with self.gram_log.lock:
            if self._later is not None:
                self._later.cancel()
                self._later = None
            self._seq += 1
            with self.hold_sync():
                self.detail = self._detail()
                self.state = self._state()
            self._error, self._pushed = "", time.monotonic()

    def _state(self) -> dict[str, Any]:
        found = self.gram_log.offers
        return {
            "seq": self._seq, "answer": self._answer, "t": self.gram_log.t, "slots": self.gram_log.slots, "thinned": self.gram_log.thinned,
            "counts": dict(self.gram_log.counts), "selected": self.selected, "error": self._error,
            "now": describe(self.gram_log), "course": {
                "t": [o.t for o in found], "log": [_number(o.after) for o in found], "reason": [o.reason for o in found],
                "kept": [o.kept for o in found],
            },
        }  # fmt: skip

    def _detail(self) -> dict[str, Any]:
        """The memory that the hovered or selected frame met, or as it is now."""
        offer = self._hovered or self._selected
        state = self.gram_log.state if offer is None else offer.state
        thumbs = {t: self.gram_log.thumbs.get(t, b"") for t in (*state.entries, *(() if offer is None else (offer.t,)))}
        return {
            "seq": self._seq, "t": None if offer is None else offer.t, "words": describe(self.gram_log, offer),
            "reason": None if offer is None else offer.reason, "replaced": None if offer is None else offer.replaced,
            "log": _number(state.log), "entries": list(state.entries), "pinned": sorted(state.pinned),
            "gram": [_numbers(row) for row in state.gram], "best": None if offer is None else offer.best,
            "similarities": None if offer is None or offer.similarities is None else _numbers(offer.similarities),
            "what_if": None if offer is None or offer.what_if is None else _numbers(offer.what_if),
            "thumbs": {str(t): data for t, data in thumbs.items()},
        }  # fmt: skip


def _number(value: float | None) -> float | None:
    """For the page: ``None`` where it is not finite."""
    return None if value is None or not np.isfinite(value) else round(float(value), 5)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values]
