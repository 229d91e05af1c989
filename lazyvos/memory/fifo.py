"""The two plain strategies: keep everything, or keep the newest (thesis, section 5.2)."""

from __future__ import annotations

from lazyvos.backbones.base import Entry
from lazyvos.memory.common import SlotMemory
from lazyvos.memory.interval import Interval
from lazyvos.types import Decision


class Unbounded(SlotMemory):
    """Every ``every``-th frame is stored and none ever leaves: memory grows with the video.

    ``flexible``: see :class:`lazyvos.memory.interval.Interval`; ``adjacent``: the previous frame is read as well.
    """

    kind = "unbounded"

    def __init__(self, every: int = 5, *, flexible: bool = True, adjacent: bool = False) -> None:
        super().__init__(None, Interval(every, flexible), adjacent)

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        return Decision(entry.t, True, "pinned" if pin else "filled", self._append(entry, pin))


class FifoMemory(SlotMemory):
    """At most ``slots`` entries; when full the oldest goes.

    ``pin_annotated``: frames with a given mask stay (the released component lets the first frame go too). Where more
    masks are given than there are slots, the oldest of them but the first goes. ``flexible``, ``adjacent``: as in
    :class:`Unbounded`; the adjacent frame has a slot of its own.

    Raises ValueError for less than one slot, or less than two with ``pin_annotated``.
    """

    kind = "fifo"

    def __init__(
        self, slots: int = 20, every: int = 5, *, flexible: bool = True, adjacent: bool = False, pin_annotated: bool = True
    ) -> None:
        super().__init__(slots, Interval(every, flexible), adjacent)
        if pin_annotated and slots < 2:
            raise ValueError(f"slots is {slots}; a memory that keeps the annotated frame needs at least 2")
        self._pin_annotated = pin_annotated

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        replaced = None
        if len(self._regular) == self._slots:
            goes = self._oldest(entry, pin or force)
            if goes is None:
                if pin or force:
                    raise self._too_small(entry)
                return Decision(entry.t, False, "pinned")
            replaced = self._evict(goes)
        reason = "pinned" if pin else "forced" if force else "filled" if replaced is None else "replaced"
        return Decision(entry.t, True, reason, self._append(entry, pin and self._pin_annotated), replaced)

    def _oldest(self, entry: Entry, must: bool) -> int | None:
        """The slot to free: the oldest that is not pinned, else (``must``) the oldest pin but the first."""
        free = [slot for slot in self._regular if slot not in self._pinned]
        if must:
            free += [slot for slot in self._regular if slot in self._pinned][1:]
        return next((slot for slot in free if self._may_go(slot, entry.objects)), None)
