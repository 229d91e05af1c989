"""A first-in-first-out memory whose volume is measured as READMem measures its own."""

from __future__ import annotations

from typing import Any

from lazyvos.backbones.base import Entry
from lazyvos.memory import ReadMem
from lazyvos.types import Decision


class WatchedFifo(ReadMem):
    """Stores, forgets and reads as :class:`lazyvos.memory.FifoMemory` without pinned frames; keeps Γ as READMem does.

    So log10|Γ| of both can be compared (thesis, figure 5.5). Every frame that is due is stored, whatever it looks like. ``options`` are
    those of :class:`lazyvos.memory.ReadMem`.
    """

    kind = "watched fifo"

    def __init__(self, slots: int = 20, every: int = 10, **options: Any) -> None:
        super().__init__(slots=slots, every=every, **{"flexible": True, "lower_bound": -2.0, **options})

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        if len(self._regular) < self.config.slots:
            return super()._store(entry, pin=pin, force=force)
        before = self._log_gram(self._gram)
        row = self._similar(entry, self._aligner.association(self._bank))
        oldest = next((n for n, slot in enumerate(self._regular) if self._may_go(slot, entry.objects)), None)
        if oldest is None:
            if pin or force:
                raise self._too_small(entry)
            return Decision(entry.t, False, "pinned", None, None, before, before)
        return self._swap(entry, oldest, row, pin, "replaced", before)
