"""What the bounded strategies share: slots, the previous frame, pins, and the read."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lazyvos.backbones.base import Entry, Query
from lazyvos.memory.bank import Bank
from lazyvos.memory.base import Readout, Want
from lazyvos.memory.interval import Interval
from lazyvos.memory.read import Part, read_values
from lazyvos.types import Decision


@dataclass(frozen=True, eq=False)
class Kept:
    """Of one affinity: its key row, the slots that were read, and what a strategy asked to keep of it.

    ``best``: the positions most similar to each query position (``_keeps``). ``mass float32 [objects, hw, slots]``: how much each
    query position reads from each slot, for each of ``objects`` (``_weighs``).
    """

    row: int
    slots: tuple[int, ...]
    best: Tensor | None
    objects: tuple[int, ...] = ()
    mass: Tensor | None = None


class SlotMemory(ABC):
    """Regular entries in the order they came, and (``adjacent``) one more slot that always holds the previous frame.

    A strategy says what happens to a frame that is due (:meth:`_store`). No strategy may remove the last entry that
    holds a value of some object.
    """

    kind = "slots"

    def __init__(self, slots: int | None, interval: Interval, adjacent: bool, *, keep_keys: bool = False) -> None:
        if slots is not None and slots < 1:
            raise ValueError(f"slots is {slots}; a memory needs at least 1 slot")
        self._slots = slots
        self._interval = interval
        self._bank = Bank(None if slots is None else slots + adjacent, keep_keys=keep_keys)
        self._wants_adjacent = adjacent
        self._regular: list[int] = []
        self._pinned: dict[int, set[int]] = {}  # slot -> objects that depend on it
        self._adjacent: int | None = None
        self._newest: int | None = None

    @property
    def slots(self) -> int | None:
        """How many regular entries fit; ``None``: any number."""
        return self._slots

    @property
    def stored(self) -> tuple[int, ...]:
        """Frame numbers of the regular entries in slot order (the oldest first)."""
        return tuple(self._bank.frames[slot] for slot in self._regular)

    @property
    def pinned(self) -> frozenset[int]:
        """Frame numbers of the pinned entries: they stay while an object whose mask came with them lives."""
        return frozenset(self._bank.frames[slot] for slot in self._pinned)

    def wants(self, clock: int) -> Want:
        """See :class:`lazyvos.memory.base.Memory`."""
        if self._interval.admits(clock, self._newest):
            return Want.REGULAR
        return Want.ADJACENT if self._wants_adjacent else Want.NO

    def offer(self, entry: Entry, clock: int, *, force: bool = False) -> Decision:
        """See :class:`lazyvos.memory.base.Memory`. A frame that is not due only becomes the adjacent one."""
        start = time.perf_counter()
        if force or self._interval.admits(clock, self._newest):
            decision = self._place(entry, pin=False, force=force)
        else:
            decision = Decision(entry.t, False, "interval")
        return self._close(entry, clock, decision, start)

    def pin(self, entry: Entry, clock: int) -> Decision:
        """See :class:`lazyvos.memory.base.Memory`.

        Raises ValueError when every slot holds the only value of some object: the memory is too small.
        """
        start = time.perf_counter()
        return self._close(entry, clock, self._place(entry, pin=True, force=True), start)

    def _prepared(self, entry: Entry) -> Entry:
        """``entry`` as it is to be stored."""
        return entry

    def _place(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        entry = self._prepared(entry)
        known = self._bank.slot_of(entry.t)
        if known is not None and known in self._regular:
            new = self._dependants(entry)
            self._bank.replace(known, entry)
            if pin:
                self._pinned[known] = self._pinned.get(known, set()) | new
            return replace(self._rewritten(known, entry), slot=self._regular.index(known))
        return self._store(entry, pin=pin, force=force)

    @abstractmethod
    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        """Decide on a frame that is due and not stored yet."""

    def _rewritten(self, slot: int, entry: Entry) -> Decision:
        """A stored frame was given again (its mask was corrected)."""
        return Decision(entry.t, True, "rewritten")

    def _close(self, entry: Entry, clock: int, decision: Decision, start: float) -> Decision:
        if decision.kept:
            self._newest = clock
        if self._wants_adjacent:
            self._set_adjacent(entry)
        return replace(decision, milliseconds=(time.perf_counter() - start) * 1e3)

    def _set_adjacent(self, entry: Entry) -> None:
        known = self._bank.slot_of(entry.t)
        if known is not None and known in self._regular:
            self._free_adjacent()
        elif self._adjacent is None:
            self._adjacent = self._bank.insert(entry)
        else:
            self._bank.replace(self._adjacent, entry)

    def _free_adjacent(self) -> None:
        if self._adjacent is not None:
            self._bank.delete(self._adjacent)
            self._adjacent = None

    def _append(self, entry: Entry, pin: bool) -> int:
        """Store in a free slot at the end of the list; returns the position in the list."""
        self._free_adjacent()
        new = self._dependants(entry)
        slot = self._bank.insert(entry)
        self._regular.append(slot)
        if pin:
            self._pinned[slot] = new
        return len(self._regular) - 1

    def _dependants(self, entry: Entry) -> set[int]:
        """Objects whose mask was given with a pinned ``entry``: those it brings, or all where it brings none."""
        return set(entry.objects) - set(self._bank.live) or set(entry.objects)

    def _evict(self, slot: int) -> int:
        """Remove a regular entry everywhere in the list; returns its frame number."""
        frame = self._bank.frames[slot]
        self._regular = [other for other in self._regular if other != slot]
        self._pinned.pop(slot, None)
        self._bank.delete(slot)
        return frame

    def _may_go(self, slot: int, coming: Iterable[int]) -> bool:
        """Would every object still have a value, were ``slot`` gone and the objects ``coming`` stored?"""
        rest = set(coming)
        for other in self._regular:
            if other != slot:
                rest |= self._bank.held(other)
        return self._bank.held(slot) <= rest

    def _too_small(self, entry: Entry) -> ValueError:
        return ValueError(
            f"the memory of {self._slots} slots cannot take frame {entry.t}: every slot holds the only value of some "
            f"object; give at least {len(self._bank.live) + len(entry.objects)} slots or drop an object"
        )

    def read(self, query: Query, objects: tuple[int, ...], top_k: int | None) -> Readout:
        """See :class:`lazyvos.memory.base.Memory`. Objects with the same entries share one affinity; no gradients.

        Raises ValueError for an object that has no entry.
        """
        if len(self._bank) and self._bank.grid != query.grid:
            raise ValueError(f"the query has a grid of {query.grid} but the memory holds {self._bank.grid}; frames must keep their size")
        address, kept = query.address.detach().float(), list[Kept]()
        value = self._values(address, objects, top_k, kept)
        self._after_read(address, top_k, kept)
        return Readout(value.transpose(1, 2).reshape(len(objects), value.shape[-1], *query.grid), objects)

    def peek(self, address: Tensor, objects: tuple[int, ...], top_k: int | None) -> Tensor:
        """See :class:`lazyvos.memory.base.Peeks`. Raises ValueError for an object that has no entry."""
        return self._values(address.detach().float(), objects, top_k, None)

    def _values(self, address: Tensor, objects: tuple[int, ...], top_k: int | None, kept: list[Kept] | None) -> Tensor:
        """``float32 [O, Q, C_v]`` for ``address [C_a, Q]``; ``kept`` takes what the strategy asked to keep of each affinity."""
        bank, area = self._bank, address.shape[-1]
        rows = [bank.row(identity) for identity in objects]
        used, store = bank.slots(), bank.values
        out = torch.zeros(store.shape[0] if rows else 0, area, store.shape[-1], device=store.device, dtype=torch.float32)
        for row, members, slots in self._readers(objects, rows, used):
            parts, (stored, asked) = _parts(bank, members, slots), self._addresses(row, members, slots, address)
            mass = out.new_zeros(store.shape[0], area, len(slots)) if self._weighs and kept is not None else None
            keep = self._keeps and kept is not None
            got = read_values(stored, asked, store, slots, parts, top_k, out, keep=keep, mass=mass)
            if kept is not None:
                share = None if mass is None else mass[[r for _, r in members]]
                kept.append(Kept(row, tuple(slots), got, tuple(o for o, _ in members), share))
        return out[rows]

    _keeps = False
    _weighs = False

    def _addresses(
        self, row: int, members: list[tuple[int, int]], slots: list[int], query: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both sides of the similarity: ``float32 [n·hw, C]`` of the slots and ``[C, hw]`` of the query."""
        return self._bank.address(row, slots).float(), query

    def _readers(
        self, objects: tuple[int, ...], rows: list[int], used: list[int]
    ) -> Iterable[tuple[int, list[tuple[int, int]], list[int]]]:
        """Key row, (object, value row) pairs and slots to read, for each affinity that is needed."""
        pairs = list(zip(objects, rows, strict=True))
        if self._bank.shared:
            if pairs:
                yield 0, pairs, used
            return
        for identity, row in pairs:
            yield row, [(identity, row)], [slot for slot in used if identity in self._bank.held(slot)]

    def _after_read(self, address: Tensor, top_k: int | None, kept: list[Kept]) -> None:
        """Called at the end of a read with what :func:`read_values` kept for each key row."""
        return None

    def drop(self, object_id: int) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for an object that is not stored."""
        for slot in self._bank.drop(object_id):
            if slot == self._adjacent:
                self._adjacent = None
            self._regular = [other for other in self._regular if other != slot]
            self._pinned.pop(slot, None)
        self._pinned = {slot: rest for slot, objects in self._pinned.items() if (rest := objects - {object_id})}

    def frames(self) -> tuple[int, ...]:
        """See :class:`lazyvos.memory.base.Memory`: regular entries by frame number, then the adjacent one."""
        regular = sorted(set(self.stored))
        return tuple(regular if self._adjacent is None else [*regular, self._bank.frames[self._adjacent]])

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`."""
        return {
            "kind": self.kind,
            "bank": self._bank.state(),
            "regular": list(self._regular),
            "pinned": {slot: sorted(objects) for slot, objects in self._pinned.items()},
            "adjacent": self._adjacent,
            "newest": self._newest,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for the state of another kind of memory."""
        if state.get("kind") != self.kind:
            raise ValueError(f"this is the state of a {state.get('kind')!r} memory, it cannot go into a {self.kind!r} memory")
        if self._slots is not None and len(state["regular"]) > self._slots:
            raise ValueError(f"the saved memory holds {len(state['regular'])} entries, this one has {self._slots} slots")
        self._bank.load_state(state["bank"])
        self._regular = list(state["regular"])
        self._pinned = {int(slot): set(objects) for slot, objects in state["pinned"].items()}
        self._adjacent, self._newest = state["adjacent"], state["newest"]


def _parts(bank: Bank, members: list[tuple[int, int]], slots: list[int]) -> list[Part]:
    """Objects grouped by the entries that hold a value of theirs."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for identity, row in members:
        entries = tuple(i for i, slot in enumerate(slots) if identity in bank.held(slot))
        groups.setdefault(entries, []).append(row)
    return [Part(tuple(rows), entries) for entries, rows in groups.items()]
