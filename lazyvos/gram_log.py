"""The course of a Gram matrix: what a READMem memory held, what it was offered, and what each replacement would have given."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lazyvos.gram_file import Content, gram_path, read_content, write_content
from lazyvos.gram_offer import GramState, HasGram, Offer, follows, memory_of, state_of, weighed
from lazyvos.types import Click, InputError, Step

if TYPE_CHECKING:
    from lazyvos.interact.base import User
    from lazyvos.session import Session
    from lazyvos.tracker import Tracker

PASSED_BY = frozenset({"interval", "uncertain", "no object"})
"""Reasons of frames that the memory did not weigh."""


class GramLog:
    """Records what happens to the Gram matrix of a tracker's memory, within bounds however long the video.

    Feed it with :meth:`observe`, or let it :meth:`follow` a session or :meth:`track` a source. All replacements are kept up to
    ``keep``, and as many refusals; then every second, fourth… of them, evenly over the video, and always the newest. Methods
    may be called from several threads; ``lock`` guards them.

    Args:
        keep: most stored and most refused frames that are kept, at least 8.
        thumb: longer side of the thumbnails in pixels, 16 to 512.
        quality: of these JPEGs, 1 to 100.

    Raises :class:`InputError` for a value out of range.

    Attributes
    ----------
    state: the memory now. t: the frame observed last (−1: none). slots: N. counts: offers by reason, thinned ones too.
    thumbs: JPEG by frame number, for stored and offered frames.
    """

    def __init__(self, *, keep: int = 512, thumb: int = 96, quality: int = 80) -> None:
        for name, value, low, high in (("keep", keep, 8, 10**6), ("thumb", thumb, 16, 512), ("quality", quality, 1, 100)):
            if not low <= value <= high:
                raise InputError(f"{name} is {value}; give a number from {low} to {high}")
        self.keep, self.thumb, self.quality = keep, thumb, quality
        self.lock = threading.RLock()
        self.state, self.t, self.slots = GramState(), -1, None
        self.counts: Counter[str] = Counter()
        self.thumbs: dict[int, bytes] = {}
        self._offers: dict[bool, list[Offer]] = {True: [], False: []}
        self._stride, self._seen = {True: 1, False: 1}, {True: 0, False: 0}
        self._watchers: list[Callable[[GramLog], None]] = []

    slots: int | None

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What was weighed, by frame number."""
        with self.lock:
            return tuple(sorted((*self._offers[True], *self._offers[False]), key=lambda offer: offer.t))

    @property
    def thinned(self) -> int:
        """How many offers are no longer kept."""
        return sum(self._seen.values()) - sum(map(len, self._offers.values()))

    def at(self, t: int) -> Offer | None:
        """The offer nearest to frame ``t``, the earlier of two; ``None`` where there is none."""
        return min(self.offers, key=lambda offer: (abs(offer.t - t), offer.t), default=None)

    def newest(self) -> Offer | None:
        """The newest offer whose replacements were weighed, else the newest at all."""
        offers = self.offers
        return next((offer for offer in reversed(offers) if offer.what_if is not None), offers[-1] if offers else None)

    def watch(self, call: Callable[[GramLog], None]) -> Callable[[], None]:
        """Call ``call(log)`` after every frame. Returns a function that ends it."""
        self._watchers.append(call)
        return lambda: self._watchers.remove(call) if call in self._watchers else None

    # Recording ----------------------------------------------------------------------------------------------------

    def begin(self, tracker: Any) -> None:
        """Take the memory as it stands, to record from mid-video on. Raises :class:`InputError` where it has no Gram matrix."""
        memory = memory_of(tracker)
        with self.lock:
            self.state, self.slots = state_of(memory), memory.slots

    def observe(self, step: Step, tracker: Any, frame: np.ndarray | None = None) -> Offer | None:
        """Record one committed frame right after its :class:`Step`; returns what was offered, if anything.

        ``frame uint8 [H, W, 3]`` RGB is for the thumbnail. A frame number that was seen before takes the log back to it.
        Raises :class:`InputError` where the memory keeps no Gram matrix.
        """
        d = step.decision
        return self._note(memory_of(tracker), frame, d.t, d.kept, d.reason, d.slot, d.replaced)

    def look(self, tracker: Any, frame: np.ndarray | None = None) -> None:
        """Record, between frames, the entry that came into the memory since the last time; refusals cannot be known.

        ``frame`` is the one committed last. Called after every frame, all replacements are recorded with what they were weighed
        against. Raises :class:`InputError` where there is no Gram matrix.
        """
        memory = memory_of(tracker)
        with self.lock:
            known, stored = self.state.entries, memory.stored
            if stored and stored[-1] not in known and stored[-1] > self.t:
                came, fresh = stored[-1], stored[-1] == tracker.t
                gone = [entry for entry in known if entry not in stored]
                word = "replaced" if gone else "filled"
                at, went = len(stored) - 1, gone[-1] if gone else None
                self._note(memory, frame if fresh else None, came, True, word, at, went, weigh=fresh)
                return
            self.state, self.slots = state_of(memory), memory.slots
        self._tell()

    def track(
        self, tracker: Tracker, source: Iterable[np.ndarray], user: User | None = None, *,
        clicks: Sequence[Click] | None = None, mask: np.ndarray | None = None,
    ) -> Iterator[Step]:  # fmt: skip
        """:meth:`lazyvos.tracker.Tracker.track`, recorded."""
        self.begin(tracker)
        latest: list[np.ndarray] = []

        def frames() -> Iterator[np.ndarray]:
            for frame in source:
                latest[:] = [frame]
                yield frame

        for step in tracker.track(frames(), user, clicks=clicks, mask=mask):
            self.observe(step, tracker, latest[0])
            yield step

    def follow(
        self, session: Session, *, path: str | os.PathLike[str] | None = None, every: float = 60.0
    ) -> Callable[[], None]:
        """Record every frame that a session commits. Returns a function that ends it.

        The log is saved in ``path`` (by default beside the session's own log, where it has one): every ``every`` seconds, and
        when the clip ends.
        """
        beside = session.journal.path if path is None else path
        target = None if beside is None else gram_path(beside)
        saved = time.monotonic()

        def seen(session: Session, what: str) -> None:
            nonlocal saved
            if what == "commit":
                event = next(e for e in reversed(session.journal.events) if e["event"] == "commit")
                memory = memory_of(session.tracker)
                facts = (event[name] for name in ("t", "kept", "reason", "slot", "replaced"))
                self._note(memory, session.frame, *facts)
            ended = what == "frame" and session.ended
            if target is not None and (ended or time.monotonic() - saved > every):
                self.save(target)
                saved = time.monotonic()

        with session.lock:
            self.begin(session.tracker)
            return session.watch(seen)

    def _note(
        self, memory: HasGram, frame: np.ndarray | None, t: int, kept: bool, reason: str, slot: int | None,
        replaced: int | None, *, weigh: bool = True,
    ) -> Offer | None:  # fmt: skip
        with self.lock:
            if t <= self.t:
                self._rewind(t)
            before, after, offer = self.state, state_of(memory), None
            after = before if after.same(before) else after
            if reason not in PASSED_BY:
                known = not kept or follows(before.entries, after.entries, t)
                met = before if kept and known else after
                row, what_if = weighed(memory, met) if weigh and known and reason != "rewritten" else (None, None)
                offer = Offer(t, kept, reason, slot, replaced, met.log, after.log, met, row, what_if, self._seen[kept])
                self.counts[reason] += 1
                if frame is not None:
                    self.thumbs[t] = thumbnail(frame, self.thumb, self.quality)
                self._add(offer)
            self.state, self.slots, self.t = after, memory.slots, t
            self._tidy()
        self._tell()
        return offer

    def _tell(self) -> None:
        for call in tuple(self._watchers):
            call(self)

    def _add(self, offer: Offer) -> None:
        """Enter an offer; of those before it, only every ``stride``-th stays."""
        kept, row = offer.kept, self._offers[offer.kept]
        if row and row[-1].number % self._stride[kept]:
            gone = row.pop()
            if not gone.kept:
                self.thumbs.pop(gone.t, None)
        row.append(offer)
        self._seen[kept] += 1
        if len(row) > self.keep:
            self._stride[kept] *= 2
            row[:] = [*(other for other in row[:-1] if other.number % self._stride[kept] == 0), offer]

    def _rewind(self, t: int) -> None:
        for kept, row in self._offers.items():
            for offer in [offer for offer in row if offer.t >= t]:
                row.remove(offer)
                self.counts[offer.reason] -= 1
            self._seen[kept] = row[-1].number + 1 if row else 0
        self.counts += Counter()  # without zeros

    def _tidy(self) -> None:
        """Bound the thumbnails: those of the memory now, of offers, and of the entries that offers met stay, newest first."""
        most = 3 * self.keep + len(self.state.entries)
        if len(self.thumbs) > most:
            offers = self.offers[::-1]
            own = (offer.t for offer in offers)
            met = (entry for offer in offers for entry in offer.state.entries)
            wanted = [t for t in dict.fromkeys((*self.state.entries, *own, *met)) if t in self.thumbs]
            self.thumbs = {t: self.thumbs[t] for t in wanted[: most - most // 4]}

    # Files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything as JSON lines (thumbnails too), whole or not at all; returns the file, which is ``path``, or lies
        beside the session log ``path`` or in the folder ``path``."""
        with self.lock:
            head = {
                "t": self.t, "slots": self.slots, "keep": self.keep, "thumb": self.thumb, "quality": self.quality,
                "counts": dict(self.counts), "stride": [self._stride[True], self._stride[False]],
                "seen": [self._seen[True], self._seen[False]],
            }  # fmt: skip
            return write_content(path, Content(head, self.offers, self.state, self.thumbs))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GramLog:
        """Read what :meth:`save` wrote; recording may go on. Raises :class:`InputError` for a missing or foreign file."""
        content = read_content(path)
        head = content.head
        log = cls(keep=head["keep"], thumb=head["thumb"], quality=head["quality"])
        log.t, log.slots, log.counts = head["t"], head["slots"], Counter(head["counts"])
        log._stride, log._seen = dict(zip((True, False), head["stride"])), dict(zip((True, False), head["seen"]))
        log.state, log.thumbs = content.state, dict(content.thumbs)
        for offer in content.offers:
            log._offers[offer.kept].append(offer)
        return log


def thumbnail(frame: np.ndarray, longest: int, quality: int) -> bytes:
    """``frame uint8 [H, W, 3]`` RGB as a small JPEG. Every second, third… pixel is enough to start from."""
    height, width = frame.shape[:2]
    step = max(1, max(height, width) // (2 * longest))
    small = frame[::step, ::step]
    factor = min(1.0, longest / max(small.shape[:2]))
    size = max(1, round(small.shape[1] * factor)), max(1, round(small.shape[0] * factor))
    small = cv2.resize(np.ascontiguousarray(small), size, interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise ValueError(f"a frame of shape {frame.shape} and {frame.dtype} cannot be written as JPEG")
    return bytes(data)
