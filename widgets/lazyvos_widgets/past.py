"""Past frames of a session to look at again, and the one that all its widgets show now."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyvos.session import Session
from lazyvos.types import InputError
from lazyvos.video import Source
from lazyvos_widgets.picture import heat, jpeg, png, shrunk

HEAT = 320
"""Longer side of the entropy maps that are kept, in pixels."""


@dataclass(frozen=True)
class Seen:
    """A past frame: JPEG, label map and entropy map as PNG (empty where they are no longer kept)."""

    t: int
    frame: bytes
    labels: bytes = b""
    doubt: bytes = b""
    marked: bool = False


class Reader:
    """Single frames of a clip, read beside whoever reads it forward; ``frame`` gives ``None`` where that cannot be done."""

    def __init__(self, clip: Any) -> None:
        self._lock = threading.Lock()
        if isinstance(clip, Source) and clip.length is not None:
            clip = clip.first(clip.length)  # with a decoder of its own
        self._clip = clip
        self._read = getattr(clip, "frame", None) or (clip.__getitem__ if isinstance(clip, list | tuple | np.ndarray) else None)

    def frame(self, t: int) -> np.ndarray | None:
        """Frame ``t``, ``uint8 [H, W, 3]``, where the clip can be read out of order."""
        with self._lock:
            if self._read is None:
                return None
            try:
                return self._read(t)
            except InputError:  # a source that can only be read forward
                self._read = None
            except (IndexError, OSError):
                pass
            return None


class Past:
    """Keeps the newest frames of a session, compressed, and of the older ones those with a mark and some between.

    Frames that are no longer kept are read again from the clip where it can be read out of order; the tracker and its
    position in the clip are not touched. Nothing is kept while nobody watches. Use :func:`past_of`.

    Attributes
    ----------
    shown: the frame that is looked at; ``None`` for the present one.
    message: what has to be said about it.
    """

    def __init__(self, session: Session, older: int = 300) -> None:
        self._session = weakref.ref(session)
        self.lock = threading.RLock()
        self.shown: Seen | None = None
        self.message = ""
        self._older, self._stride = older, 1
        self._longest, self._quality, self._newest = 0, 0, 0
        self._new: deque[Seen] = deque()
        self._old: dict[int, Seen] = {}
        self._reader = Reader(session.source)
        self._watchers: list[Callable[[], None]] = []
        session.watch(self._changed)

    def want(self, longest: int, quality: int, newest: int) -> None:
        """Keep at least so many newest frames, with at least that longer side in pixels and JPEG quality."""
        with self.lock:
            self._longest, self._quality = max(self._longest, longest), max(self._quality, quality)
            self._newest = max(self._newest, newest)

    def watch(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call ``call()`` when another frame is looked at. Returns a function that ends it."""
        self._watchers.append(call)
        return lambda: self._watchers.remove(call) if call in self._watchers else None

    def look(self, t: int | None) -> None:
        """Show frame ``t``, or the nearest that can be shown, in every widget of the session; ``None`` or a later one: the present."""
        session = self._session()
        if session is None or t is None or t >= session.t:
            found, message = None, ""
        else:
            found, message = self._find(max(0, t))
        with self.lock:
            self.shown, self.message = found, message
        for call in tuple(self._watchers):
            call()

    def back(self) -> None:
        """Show the present frame again."""
        if self.shown is not None:
            self.look(None)

    def _find(self, t: int) -> tuple[Seen | None, str]:
        with self.lock:
            kept = {seen.t: seen for seen in self._new} | self._old
            if t in kept:
                return kept[t], ""
            size = self._longest, self._quality
        frame = self._reader.frame(t)
        if frame is not None:
            return Seen(t, jpeg(shrunk(frame, size[0]), size[1])), "This frame was read again from the clip; its masks are no longer kept."
        if not kept:
            return None, "No past frame is kept, and this clip can only be read forward."
        nearest = min(kept, key=lambda known: abs(known - t))
        return kept[nearest], "That frame is no longer kept; this is the nearest one."

    def _changed(self, session: Session, what: str) -> None:
        """The session changed; it holds its lock."""
        if what != "commit" or not self._watchers or not self._newest:
            return
        moment, seen = session.history[-1], session.prediction
        kept = Seen(
            session.t, jpeg(shrunk(session.frame, self._longest), self._quality), png(shrunk(seen.labels, self._longest, labels=True)),
            png(shrunk(heat(seen.entropy), min(HEAT, self._longest))), bool(moment.asked or moment.pseudo or moment.clicked),
        )  # fmt: skip
        with self.lock:
            self._new.append(kept)
            while len(self._new) > self._newest:
                self._retire(self._new.popleft())

    def _retire(self, seen: Seen) -> None:
        if seen.marked or seen.t % self._stride == 0:
            self._old[seen.t] = seen
        while len(self._old) > self._older:
            self._stride *= 2
            stay = {t: old for t, old in self._old.items() if old.marked or t % self._stride == 0}
            self._old = stay if len(stay) <= self._older else dict(list(self._old.items())[::2])


_KNOWN: weakref.WeakKeyDictionary[Session, Past] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def past_of(session: Session) -> Past:
    """The one :class:`Past` of a session."""
    with _LOCK:
        if session not in _KNOWN:
            _KNOWN[session] = Past(session)
        return _KNOWN[session]
