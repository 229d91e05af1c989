"""A Gram matrix at one moment, a frame that a memory weighed, and how both are read from a READMem memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from lazyvos.memory.gram import log_abs_det, replacement_log_dets
from lazyvos.types import InputError


class HasGram(Protocol):
    """What is read of a memory; :class:`lazyvos.memory.ReadMem` has it."""

    @property
    def slots(self) -> int | None: ...
    @property
    def stored(self) -> tuple[int, ...]: ...
    @property
    def pinned(self) -> frozenset[int]: ...
    @property
    def gram(self) -> np.ndarray: ...
    @property
    def similarities(self) -> np.ndarray | None: ...


def memory_of(tracker: Any) -> HasGram:
    """The memory of a tracker; raises :class:`InputError` where it keeps no Gram matrix."""
    memory = getattr(tracker, "memory", None)
    if not all(hasattr(memory, name) for name in ("slots", "stored", "pinned", "gram", "similarities")):
        name = type(memory if memory is not None else tracker).__name__
        raise InputError(f"{name} keeps no Gram matrix; build the tracker with memory='readmem'")
    return memory  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class GramState:
    """A memory between two changes.

    ``entries``: frame numbers in slot order; ``pinned``: those that never go; ``gram`` ``float64 [n, n]``: similarities of the
    entries in units of the first one's own (thesis, section 5.3).
    """

    entries: tuple[int, ...] = ()
    pinned: frozenset[int] = frozenset()
    gram: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @cached_property
    def log(self) -> float | None:
        """log10|Γ|; −inf where it is singular, ``None`` for an empty memory."""
        return log_abs_det(self.gram) if self.entries else None

    def same(self, other: GramState) -> bool:
        """Do both hold the same entries and numbers?"""
        return self.entries == other.entries and self.pinned == other.pinned and np.array_equal(self.gram, other.gram)


@dataclass(frozen=True, eq=False)
class Offer:
    """A frame that the memory weighed, and the memory as it met it.

    ``slot``: where it is stored; ``replaced``: the frame that went; ``before``, ``after``: log10|Γ|; ``state``: the memory before;
    ``similarities`` ``[n]``: to the entries of ``state``; ``what_if`` ``[n]``: log10|Γ| if the frame took the place of each of them
    (``None`` while there are free slots); ``number``: how many of its kind (kept or refused) came before it.
    """

    t: int
    kept: bool
    reason: str
    slot: int | None
    replaced: int | None
    before: float | None
    after: float | None
    state: GramState
    similarities: np.ndarray | None = None
    what_if: np.ndarray | None = None
    number: int = 0

    @property
    def best(self) -> int | None:
        """Slot of the entry whose replacement gives the largest |Γ|; pinned ones stay. ``None`` where nothing was weighed."""
        free = [n for n, entry in enumerate(self.state.entries) if entry not in self.state.pinned]
        if self.what_if is None or not free:
            return None
        values = self.what_if
        return max(free, key=lambda n: (values[n], -n))


def state_of(memory: HasGram) -> GramState:
    """The Gram matrix of a memory as it stands."""
    gram = memory.gram
    own = float(gram[0, 0]) if gram.size else 1.0
    return GramState(tuple(memory.stored), memory.pinned, gram / (own or 1.0))


def follows(before: tuple[int, ...], after: tuple[int, ...], t: int) -> bool:
    """Is ``after`` what storing frame ``t`` makes of ``before`` (nothing was dropped between the frames)?"""
    if t in before:
        return before == after
    if not before:
        return set(after) == {t}
    rest = after[:-1]
    return after[-1:] == (t,) and (rest == before or any(rest == before[:n] + before[n + 1 :] for n in range(len(before))))


def weighed(memory: HasGram, before: GramState) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Similarities ``[n]`` of the frame offered last to the entries it met, and log10|Γ⁽ⁿ⁾| ``[n]`` for a full memory."""
    row, count = memory.similarities, len(before.entries)
    if row is None or not count or len(row) != count + 1:
        return None, None
    row = row / (float(memory.gram[0, 0]) or 1.0)
    full = memory.slots is not None and count >= memory.slots
    return row[:-1], replacement_log_dets(before.gram, row[:-1], float(row[-1])) if full else None
