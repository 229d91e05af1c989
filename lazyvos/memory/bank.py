"""Storage of entries in preallocated slots: writing a frame copies it into place, nothing is concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lazyvos.backbones.base import Entry


class Bank:
    """Entries in numbered slots.

    Tensors (position-major, so that gathering a position is one copy):
    ``address [G, S, hw, C_a]``, ``key [G, S, hw, C_k]``, ``value [O, S, hw, C_v]`` with S slots allocated. Row o of
    ``value`` belongs to ``objects[o]`` (0 = free row); an object need not have a value in every slot. G is 1 while
    objects share one key, else a row per object as in ``value``.

    Parameters
    ----------
    capacity: slots to allocate at the first write; ``None`` doubles the store whenever it is full.
    keep_keys: store keys too (a Gram matrix needs them, a read does not).
    """

    def __init__(self, capacity: int | None, *, keep_keys: bool = False) -> None:
        self._capacity = capacity
        self._keep_keys = keep_keys
        self.objects: list[int] = []
        self.frames: dict[int, int] = {}
        self._held: dict[int, set[int]] = {}
        self._shared: bool | None = None
        self._grid = (0, 0)
        self._address = self._key = self._value = torch.empty(0)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def grid(self) -> tuple[int, int]:
        """``(h, w)`` of the stored frames."""
        return self._grid

    @property
    def shared(self) -> bool:
        """Do all objects share one key?"""
        return self._shared is not False

    @property
    def values(self) -> Tensor:
        """The whole value store ``[rows, S, hw, C_v]``; only rows and slots in use hold anything."""
        return self._value

    @property
    def live(self) -> tuple[int, ...]:
        """Objects that have been stored and not dropped, ascending."""
        return tuple(sorted(o for o in self.objects if o))

    def slots(self) -> list[int]:
        """Slots in use, sorted by frame number."""
        return sorted(self.frames, key=self.frames.__getitem__)

    def slot_of(self, t: int) -> int | None:
        """Where frame ``t`` is stored."""
        return next((slot for slot, frame in self.frames.items() if frame == t), None)

    def held(self, slot: int) -> frozenset[int]:
        """Objects with a value in ``slot``."""
        return frozenset(self._held[slot])

    def row(self, object_id: int) -> int:
        """Row of an object in ``values``. Raises ValueError for an object that is not stored."""
        if object_id not in self.objects or object_id == 0:
            raise ValueError(
                f"object {object_id} has no frame in memory (stored objects: {list(self.live)}); pin a frame with its mask first"
            )
        return self.objects.index(object_id)

    def key_row(self, object_id: int) -> int:
        """Row of an object in ``address`` and ``key``."""
        return 0 if self.shared else self.row(object_id)

    def address(self, row: int, slots: Sequence[int]) -> Tensor:
        """Addresses ``[len(slots)·hw, C_a]`` of one key row; no copy where the slots follow one another."""
        return self._rows(self._address[row], slots)

    def keys(self, row: int, slots: Sequence[int]) -> Tensor:
        """Keys ``[len(slots)·hw, C_k]`` of one key row (needs ``keep_keys``)."""
        return self._rows(self._key[row], slots)

    def key_store(self, row: int) -> Tensor:
        """All keys ``[S, hw, C_k]`` of one key row (needs ``keep_keys``); only slots in use hold anything."""
        return self._key[row]

    @staticmethod
    def _rows(store: Tensor, slots: Sequence[int]) -> Tensor:
        first = slots[0]
        if list(slots) == list(range(first, first + len(slots))):
            return store[first : first + len(slots)].flatten(0, 1)
        return store[list(slots)].flatten(0, 1)

    def insert(self, entry: Entry) -> int:
        """Store ``entry`` in a free slot (where it is already: see :meth:`replace`) and return the slot.

        Raises ValueError when no slot is free, or when the entry does not fit the stored ones.
        """
        known = self.slot_of(entry.t)
        if known is not None:
            return self.replace(known, entry)
        allocated = self._value.shape[1] if self._value.dim() == 4 else self._capacity or 8
        slot = next((s for s in range(allocated) if s not in self.frames), allocated)
        if self._capacity is not None and slot >= self._capacity:
            raise ValueError(f"all {self._capacity} slots are taken; delete or replace one first")
        self._write(slot, entry)
        return slot

    def replace(self, slot: int, entry: Entry) -> int:
        """Put ``entry`` where another one was. Values of objects it lacks stay if it is the same frame, else they go."""
        self._write(slot, entry)
        return slot

    def delete(self, slot: int) -> None:
        """Free a slot."""
        del self.frames[slot], self._held[slot]

    def drop(self, object_id: int) -> tuple[int, ...]:
        """Forget an object; returns the slots that this left without any object (they are freed)."""
        self.objects[self.row(object_id)] = 0
        for held in self._held.values():
            held.discard(object_id)
        empty = tuple(slot for slot, held in self._held.items() if not held)
        for slot in empty:
            self.delete(slot)
        return empty

    def _write(self, slot: int, entry: Entry) -> None:
        groups, objects = entry.key.shape[0], len(entry.objects)
        if entry.value.shape[0] != objects or not objects:
            raise ValueError(f"entry of frame {entry.t} names objects {entry.objects} but holds {entry.value.shape[0]} values")
        if groups not in (1, objects) or entry.address.shape[0] != groups:
            raise ValueError(
                f"entry of frame {entry.t} has {groups} keys and {entry.address.shape[0]} addresses for {objects} objects; "
                "give one of each for all, or one per object"
            )
        grid = (int(entry.key.shape[-2]), int(entry.key.shape[-1]))
        if self._value.dim() == 4 and grid != self._grid:
            raise ValueError(
                f"frame {entry.t} has a grid of {grid[0]}x{grid[1]} but the memory holds {self._grid[0]}x{self._grid[1]}; "
                "frames of one video must keep their size"
            )
        with torch.inference_mode(False), torch.no_grad():
            rows = self._make_room(slot, entry, grid)
            keys = [0] if self.shared else rows
            self._address[keys, slot] = entry.address.detach().transpose(1, 2).to(self._address)
            if self._keep_keys:
                self._key[keys, slot] = entry.key.detach().flatten(2).transpose(1, 2).to(self._key)
            self._value[rows, slot] = entry.value.detach().flatten(2).transpose(1, 2).to(self._value)
        if self.frames.get(slot) != entry.t:
            self._held[slot] = set()
        self.frames[slot] = entry.t
        self._held[slot].update(entry.objects)

    def _make_room(self, slot: int, entry: Entry, grid: tuple[int, int]) -> list[int]:
        """Rows of the entry's objects, after allocating what is missing."""
        learnt = self._shared is None and len(entry.objects) > 1
        if len(entry.objects) > 1:
            shared = entry.key.shape[0] == 1
            if self._shared is not None and shared != self._shared:
                raise ValueError("entries with one key for all objects and with one key per object cannot be mixed")
            self._shared = shared
        self._grid = grid
        for identity in entry.objects:
            if identity not in self.objects:
                if 0 in self.objects:
                    self.objects[self.objects.index(0)] = identity
                else:
                    self.objects.append(identity)
        rows = [self.row(identity) for identity in entry.objects]
        area = grid[0] * grid[1]
        have = tuple(self._value.shape[:2]) if self._value.dim() == 4 else (0, 0)
        count = have[0] if len(self.objects) <= have[0] else max(len(self.objects), have[0] + have[0] // 2)
        length = have[1] if slot < have[1] else self._capacity or max(8, 2 * have[1])
        groups = 1 if self.shared else count
        self._address = _grown(self._address, entry.address, (groups, length, area, entry.address.shape[1]))
        if self._keep_keys:
            self._key = _grown(self._key, entry.key, (groups, length, area, entry.key.shape[1]))
        self._value = _grown(self._value, entry.value, (count, length, area, entry.value.shape[1]))
        if learnt and not self.shared:  # until now each object's key lay in row 0
            for other, held in self._held.items():
                for row in (self.row(identity) for identity in held):
                    self._address[row, other] = self._address[0, other]
                    if self._keep_keys:
                        self._key[row, other] = self._key[0, other]
        return rows

    def state(self) -> dict[str, Any]:
        """Copies of what the used slots hold, and where they lie; tensors and plain values."""
        used = sorted(self.frames)
        return {
            "slots": used,
            "frames": [self.frames[s] for s in used],
            "held": [sorted(self._held[s]) for s in used],
            "objects": list(self.objects),
            "shared": self._shared,
            "grid": list(self._grid),
            **{n: getattr(self, "_" + n)[:, used].clone() for n in ("address", "key", "value") if used and self._stores(n)},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`state` returned. Raises ValueError if it needs more slots than this bank has."""
        used = [int(s) for s in state["slots"]]
        if self._capacity is not None and used and used[-1] >= self._capacity:
            raise ValueError(f"the saved memory uses {used[-1] + 1} slots, this one has {self._capacity}")
        if used and self._keep_keys and "key" not in state:
            raise ValueError("the saved memory holds no keys; it comes from another kind of memory")
        length = self._capacity or max(8, 2 * (used[-1] + 1 if used else 0))
        for name in ("address", "key", "value"):
            store = torch.empty(0)
            if used and self._stores(name):
                saved = state[name]
                with torch.inference_mode(False), torch.no_grad():
                    store = saved.new_empty(saved.shape[0], length, *saved.shape[2:])
                    store[:, used] = saved
            setattr(self, "_" + name, store)
        self.frames = dict(zip(used, (int(t) for t in state["frames"]), strict=True))
        self._held = {s: set(held) for s, held in zip(used, state["held"], strict=True)}
        self.objects, self._shared = list(state["objects"]), state["shared"]
        self._grid = (int(state["grid"][0]), int(state["grid"][1]))

    def _stores(self, name: str) -> bool:
        return name != "key" or self._keep_keys


def _grown(store: Tensor, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A store of ``shape`` that begins with what ``store`` held (``store`` itself where nothing changes)."""
    if tuple(store.shape) == shape:
        return store
    bigger = torch.empty(shape, dtype=like.dtype, device=like.device)
    if store.dim() == 4:
        bigger[: store.shape[0], : store.shape[1]] = store
    return bigger
