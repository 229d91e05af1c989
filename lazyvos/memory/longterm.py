"""XMem's memory manager: a working memory of whole frames, condensed into a long-term memory of prototypes.

Cheng & Schwing, "XMem", ECCV 2022, section 3.3. The arithmetic is in ``lazyvos.memory.prototypes``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lazyvos.backbones.base import Entry, Query
from lazyvos.memory.base import Readout, Want
from lazyvos.memory.interval import Interval
from lazyvos.memory.prototypes import Limits, Store
from lazyvos.types import Decision


class LongTermMemory:
    """XMem's memory. Every ``every``-th frame enters the working memory.

    When that holds ``max_mid_term_frames`` frames, all but the first and the latest (``min_mid_term_frames`` in all) leave it, and
    their ``prototypes`` most used positions enter the long-term memory. That holds at most ``max_long_term`` positions; the
    least used make room. Usage is counted for reads of frames that are then committed.

    ``long_term=False``: nothing is condensed, and memory grows with the video. ``count_usage=False``: reads of long-term positions are
    not counted; enough for videos so short that nothing has to make room.

    Exactly as published, with what follows from aligning later objects to the end of the key axis: once frames were condensed,
    their oldest value is read under the key of the first frame. Where the published code fails (nothing to evict at the limit,
    several groups at an eviction, fewer than ``top_k`` positions), this one goes on. A frame with a given mask does not stay for its own sake:
    only the first one of each object does. For backbones with a key per object each object has a memory of its own.

    Raises ValueError for limits that contradict one another.
    """

    kind = "longterm"
    whole_frames = True
    """A frame must hold a value of every object."""

    def __init__(
        self,
        max_mid_term_frames: int = 10,
        min_mid_term_frames: int = 5,
        prototypes: int = 128,
        max_long_term: int = 10000,
        every: int = 5,
        *,
        long_term: bool = True,
        count_usage: bool = True,
    ) -> None:
        self.limits = Limits(max_mid_term_frames, min_mid_term_frames, prototypes, max_long_term)
        self.long_term, self.count_usage = long_term, count_usage
        self._interval = Interval(every)
        self._stores: list[Store] = []
        self._shared: bool | None = None
        self._grid = (0, 0)
        self._newest: int | None = None
        self._last: int | None = None
        self._unsettled: list[tuple[Store, Tensor]] = []

    @property
    def stores(self) -> tuple[Store, ...]:
        """The stored positions: one store, or one per object where every object has its own keys."""
        return tuple(self._stores)

    @property
    def objects(self) -> tuple[int, ...]:
        """Stored objects, in the order they came."""
        return tuple(o for store in self._stores for o in store.objects)

    def wants(self, clock: int) -> Want:
        """See :class:`lazyvos.memory.base.Memory`. From here on the last read counts as usage."""
        self._settle()
        return Want.REGULAR if self._interval.admits(clock, self._newest) else Want.NO

    def offer(self, entry: Entry, clock: int, *, force: bool = False) -> Decision:
        """See :class:`lazyvos.memory.base.Memory`."""
        if not force and self.wants(clock) is Want.NO:
            return Decision(entry.t, False, "interval")
        return self._store(entry, clock, "forced" if force else "filled")

    def pin(self, entry: Entry, clock: int) -> Decision:
        """See :class:`lazyvos.memory.base.Memory`; of the pinned frames only the first of each object stays."""
        return self._store(entry, clock, "pinned")

    def _store(self, entry: Entry, clock: int, reason: str) -> Decision:
        start = time.perf_counter()
        self._settle()
        shared = self._check(entry)
        if self._last == entry.t:
            reason = "rewritten"
            for store in self._stores:
                if int(store.frame[-1]) == entry.t:
                    store.pop()
            self._stores = [store for store in self._stores if store.groups]
        self._shared = shared if len(entry.objects) > 1 else self._shared
        if shared is False:
            for i, identity in enumerate(entry.objects):
                found = next((s for s in self._stores if identity in s.objects), None)
                self._append(found, entry, i if len(entry.key) > 1 else 0, [i])
        else:
            self._append(self._stores[0] if self._stores else None, entry, 0, range(len(entry.objects)))
        self._grid = (int(entry.key.shape[-2]), int(entry.key.shape[-1]))
        self._newest, self._last = clock, entry.t
        slot = self._stores[0].work // self._stores[0].area - 1
        return replace(Decision(entry.t, True, reason, slot), milliseconds=(time.perf_counter() - start) * 1e3)

    def _check(self, entry: Entry) -> bool | None:
        """Refuse an entry that does not fit; do its objects share one key (``None``: not known yet)?"""
        rows, objects = entry.key.shape[0], entry.objects
        if not objects or len(entry.value) != len(objects) or rows not in (1, len(objects)) or len(entry.address) != rows:
            raise ValueError(
                f"frame {entry.t} has {rows} keys, {len(entry.address)} addresses and {len(entry.value)} values for the objects "
                f"{objects}; give a value per object and one key for all, or one per object"
            )
        shared = rows == 1 if len(objects) > 1 else self._shared
        if self._shared is not None and shared != self._shared:
            raise ValueError("entries with one key for all objects and with one key per object cannot be mixed")
        missing = sorted(set(self.objects) - set(objects))
        if missing:
            raise ValueError(f"frame {entry.t} holds no value of the objects {missing}; drop() them first")
        grid = tuple(entry.key.shape[-2:])
        if self._stores and grid != self._grid:
            raise ValueError(f"frame {entry.t} has a grid of {grid} but the memory holds {self._grid}; frames must keep their size")
        if self._last is not None and entry.t < self._last:
            raise ValueError(f"frame {entry.t} comes after frame {self._last}; give the frames of a long-term memory in order")
        return shared

    def _append(self, store: Store | None, entry: Entry, row: int, members: Sequence[int]) -> None:
        new, limits, area = store or Store(), self.limits, entry.key[row, 0].numel()
        work = new.work + area
        full = self.long_term and work >= limits.max_mid_term_frames * area and work > limits.min_mid_term_frames * area
        room = limits.max_long_term - limits.prototypes
        if full and new.long > room and not self.count_usage:
            raise RuntimeError(
                f"the long-term memory holds {new.long} positions and must make room, but count_usage is off; "
                f"build it with count_usage=True or a max_long_term above {limits.max_long_term}"
            )
        new.append(entry, row, members)
        if store is None:
            self._stores.append(new)
        if full:
            new.evict(room)
            new.condense(limits.min_mid_term_frames, limits.prototypes)

    def read(self, query: Query, objects: tuple[int, ...], top_k: int | None) -> Readout:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for an object that is not stored."""
        if self._stores and query.grid != self._grid:
            raise ValueError(f"the query has a grid of {query.grid} but the memory holds {self._grid}; frames must keep their size")
        values, self._unsettled = self._values(query.address, objects, top_k)
        if not objects:
            return Readout(query.key.new_zeros(0, 0, *query.grid), ())
        return Readout(torch.stack([values[o].T for o in objects]).unflatten(2, query.grid), objects)

    def peek(self, address: Tensor, objects: tuple[int, ...], top_k: int | None) -> Tensor:
        """See :class:`lazyvos.memory.base.Peeks`; it counts as no usage. Raises ValueError for an object that is not stored."""
        values, _ = self._values(address, objects, top_k)
        return torch.stack([values[o] for o in objects]) if objects else address.new_zeros(0, address.shape[-1], 0)

    def _values(
        self, address: Tensor, objects: tuple[int, ...], top_k: int | None
    ) -> tuple[dict[int, Tensor], list[tuple[Store, Tensor]]]:
        """``float32 [Q, C_v]`` of each object for ``address [C_a, Q]``, and the usage that this read makes of each store."""
        known = self.objects
        for identity in objects:
            if identity not in known:
                raise ValueError(
                    f"object {identity} has no frame in memory (stored objects: {list(known)}); pin a frame with its mask first"
                )
        values: dict[int, Tensor] = {}
        used: list[tuple[Store, Tensor]] = []
        for store in self._stores:
            if set(store.objects) & set(objects):
                got, usage = store.read(address.detach().float(), top_k, objects)
                values.update(got)
                used.append((store, usage))
        return values, used

    def _settle(self) -> None:
        """Count the usage of the last read, once."""
        for store, usage in self._unsettled:
            if self.long_term:
                store.count(usage, long=self.count_usage)
        self._unsettled = []

    def drop(self, object_id: int) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for an object that is not stored."""
        if object_id not in self.objects:
            raise ValueError(f"object {object_id} is not in memory; stored are {list(self.objects)}")
        self._unsettled = []
        for store in [s for s in self._stores if object_id in s.objects]:
            store.drop(object_id)
        self._stores = [store for store in self._stores if store.groups]

    def frames(self) -> tuple[int, ...]:
        """See :class:`lazyvos.memory.base.Memory`: the frames of the prototypes, then those of the working memory."""
        long: set[int] = set()
        work: set[int] = set()
        for store in self._stores:
            long |= set(store.frame[: store.long].tolist())
            work |= set(store.frame[store.long :].tolist())
        return (*sorted(long - work), *sorted(work))

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`; a read whose frame is not committed is no part of it."""
        return {
            "kind": self.kind, "stores": [store.state() for store in self._stores], "shared": self._shared,
            "grid": list(self._grid), "newest": self._newest, "last": self._last,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for the state of another kind of memory."""
        if state.get("kind") != self.kind:
            raise ValueError(f"this is the state of a {state.get('kind')!r} memory, it cannot go into a {self.kind!r} memory")
        self._stores = [Store.of(one) for one in state["stores"]]
        self._shared, self._newest, self._last = state["shared"], state["newest"], state["last"]
        self._grid, self._unsettled = (int(state["grid"][0]), int(state["grid"][1])), []
