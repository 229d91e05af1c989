"""QDMN's memory: frames enter by predicted quality and leave by age and quality (Liu et al., ECCV 2022, section 3.3)."""

from __future__ import annotations

import math
from typing import Any

from lazyvos.backbones.base import Entry
from lazyvos.memory.common import SlotMemory
from lazyvos.memory.interval import Interval
from lazyvos.types import Decision

_REFERENCES = ("annotated", "first predicted")


class QdmnBank(SlotMemory):
    """Frames whose predicted quality is high enough, the previous frame, and the annotated one.

    The quality s of a frame is the mean of ``Entry.quality`` over its objects, divided by the mean of the non-zero scores of
    the newest frame with a given mask. A frame is stored if it comes at least ``every`` frames after the last stored one and
    s > ``minimum``; every stored frame gets a running number n. When more than ``threshold`` frames besides the annotated one
    are held, the one with the smallest ``exp(−(n_now − n)) + s`` goes first. So at most ``threshold + 2`` frames are held, and
    the previous one.

    Entries without quality (XMem, STCN, MiVOS) count as s = 1: none is refused, the oldest goes. If every score of the given
    mask is zero nothing can be compared: s = 0.

    Parameters
    ----------
    threshold, every, minimum: as published for DAVIS; YouTube-VOS uses ``threshold=10`` and ``minimum=0.75``.
    reference: what the quality is divided by: that of the ``annotated`` frame, or of the ``first predicted`` one (YouTube-VOS).
    published: delete, as the published code does, the entry one place *before* the chosen one, which can be the annotated
        frame. Otherwise the chosen one goes and frames with a given mask stay (where more masks are given than fit, the
        oldest of them but the first goes).

    Raises ValueError for a ``threshold`` below 0.
    """

    kind = "qdmn"

    def __init__(
        self, threshold: int = 20, every: int = 5, *, minimum: float = 0.8, reference: str = "annotated", published: bool = False
    ) -> None:
        if threshold < 0:
            raise ValueError(f"threshold is {threshold}; the number of frames kept besides the annotated one cannot be negative")
        if reference not in _REFERENCES:
            raise ValueError(f"reference is {reference!r}; it must be one of {', '.join(map(repr, _REFERENCES))}")
        super().__init__(threshold + 2, Interval(every, flexible=True), adjacent=True)
        self._minimum, self._published, self._first_predicted = minimum, published, reference == "first predicted"
        self._reference: float | None = None
        self._count = -1
        self._ranks: list[tuple[int, float]] = []  # running number and quality, parallel to _regular

    @property
    def quality(self) -> dict[int, float]:
        """Relative quality s of each regular entry, by frame number."""
        return {t: s for t, (_, s) in zip(self.stored, self._ranks, strict=True)}

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        reference = _reference(entry) if pin and not self._first_predicted else self._reference
        quality = _relative(entry, reference)
        if not (pin or force or quality > self._minimum):
            return Decision(entry.t, False, "low quality")
        replaced = None
        if len(self._regular) == self._slots:
            position = self._worst(entry, pin or force)
            if position is None:
                if pin or force:
                    raise self._too_small(entry)
                return Decision(entry.t, False, "pinned")
            replaced = self._remove(position)
        self._count, self._reference = self._count + 1, reference
        self._ranks.append((self._count, quality))
        reason = "pinned" if pin else "forced" if force else "filled" if replaced is None else "replaced"
        return Decision(entry.t, True, reason, self._append(entry, pin), replaced)

    def _rewritten(self, slot: int, entry: Entry) -> Decision:
        if slot in self._pinned and not self._first_predicted:
            self._reference = _reference(entry)
        at = self._regular.index(slot)
        self._ranks[at] = self._ranks[at][0], _relative(entry, self._reference)
        return super()._rewritten(slot, entry)

    def offer(self, entry: Entry, clock: int, *, force: bool = False) -> Decision:
        """See :class:`lazyvos.memory.base.Memory`. A frame that is not due only becomes the adjacent one."""
        if self._first_predicted and self._reference is None and self._regular and not force and entry.quality is not None:
            self._reference = float(entry.quality.detach().double().mean())
        return super().offer(entry, clock, force=force)

    def _worst(self, entry: Entry, must: bool) -> int | None:
        """Place in the list of the lowest ranked entry that may go; of pins only if it ``must`` be."""
        may = [i for i in range(len(self._regular)) if self._may_go(self._regular[self._victim(i)], entry.objects)]
        free = [i for i in may if self._regular[i] not in self._pinned]
        if not free and must:
            return next((i for i in may if i > 0), None)
        now = self._count + 1
        return min(free, key=lambda i: math.exp(self._ranks[i][0] - now) + self._ranks[i][1], default=None)

    def _victim(self, position: int) -> int:
        return max(position - 1, 0) if self._published else position

    def _remove(self, position: int) -> int:
        """Remove what the entry at ``position`` being chosen removes; returns the frame number.

        As published the list of ranks loses the chosen entry and the store the one before it; the place of the annotated
        frame, which is never chosen, then belongs to the frame that follows.
        """
        chosen, victim = self._regular[position], self._regular[self._victim(position)]
        del self._ranks[position]
        pins = self._pinned.get(victim)
        frame = self._evict(victim)
        if pins is not None and chosen != victim:
            self._pinned[chosen] = pins
        return frame

    def drop(self, object_id: int) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for an object that is not stored."""
        ranks = dict(zip(self._regular, self._ranks, strict=True))
        super().drop(object_id)
        self._ranks = [ranks[slot] for slot in self._regular]

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`."""
        ranks = [list(rank) for rank in self._ranks]
        return {**super().state(), "ranks": ranks, "count": self._count, "reference": self._reference}

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for the state of another kind of memory."""
        super().load_state(state)
        self._ranks = [(int(number), float(quality)) for number, quality in state["ranks"]]
        self._count, self._reference = state["count"], state["reference"]


def _reference(entry: Entry) -> float | None:
    """Mean of the non-zero scores: 0 where all are zero, ``None`` without scores."""
    if entry.quality is None:
        return None
    scores = entry.quality.detach().double()
    return float(scores.sum() / (scores != 0).sum().clamp(min=1))


def _relative(entry: Entry, reference: float | None) -> float:
    if entry.quality is None or reference is None:
        return 1.0
    return float(entry.quality.detach().double().mean()) / reference if reference > 0 else 0.0
