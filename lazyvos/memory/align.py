"""READMem's alignment of keys, and the similarities of aligned keys (thesis, sections 5.3 and 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.memory.associate import SUM, associate, from_top_k
from lazyvos.memory.bank import Bank
from lazyvos.memory.common import Kept
from lazyvos.memory.gram import aligned_similarity
from lazyvos.memory.readmem_config import ReadMemConfig

Association = dict[int, dict[int, Tensor]]
"""For each key row: slot → index ``int64 [hw]``, as :func:`lazyvos.memory.associate.associate` gives it."""


class Aligner:
    """What the last read says of which stored position answers to which query position."""

    def __init__(self, config: ReadMemConfig) -> None:
        self.config = config
        self._last: tuple[Tensor, int | None, list[Kept]] | None = None

    @property
    def keeps(self) -> bool:
        """Does it need the positions that a top-k read keeps?"""
        config = self.config
        return config.transition == "column argmax" and config.affinity == "W" and not config.fixed

    def note(self, address: Tensor, top_k: int | None, kept: list[Kept]) -> None:
        """Remember a read: query address ``[C_a, hw]``, and what was kept of each key row."""
        if self.config.transition is not None:
            self._last = (address, top_k, kept)

    def forget(self) -> None:
        """The read belongs to a frame that is done with."""
        self._last = None

    def association(self, bank: Bank) -> Association | None:
        """Alignment of the stored entries to the frame read last; ``None`` if there was no read."""
        config = self.config
        transition = config.transition
        if self._last is None or transition is None or config.fixed:
            return None
        address, top_k, kept = self._last
        area = address.shape[1]
        found: Association = {}
        for one in kept[-1:] if config.last_object_affinity else kept:
            slots = [slot for slot in one.slots if slot in bank.frames]
            if one.best is not None and config.empty_column != "affinity" and len(slots) == len(one.slots):
                index = from_top_k(one.best, len(slots), area)
                index = index.clamp(min=0) if config.empty_column == "first" else index
            else:
                stored = bank.address(one.row, slots).float()
                index = associate(stored, address, len(slots), top_k, transition, config.affinity, config.empty_column)
            found[one.row] = dict(zip(slots, index, strict=True))
        return found

    def projected(self, bank: Bank, entry: Entry) -> Entry:
        """``entry`` with its key ``[G, C_k, h, w]`` in the frame of reference of the first entry of each object."""
        if self._last is None or not self.config.fixed or not len(bank):
            return entry
        query, keys = self._last[0], []
        for group, key in enumerate(entry.key.detach()):
            row, home = _home(bank, entry, group)
            if home is None or bank.frames[home] == entry.t:
                keys.append(key)
                continue
            index = associate(bank.address(row, [home]).float(), query, 1, None, "row argmax", "A", "first")[0]
            keys.append(key.flatten(1).index_select(1, index).view_as(key))
        return replace(entry, key=torch.stack(keys))

    def state(self) -> dict[str, Any] | None:
        """Plain values and tensors of the last read."""
        if self._last is None:
            return None
        address, top_k, kept = self._last
        rows = [{"row": k.row, "slots": list(k.slots), "best": k.best} for k in kept]
        return {"address": address, "top_k": top_k, "kept": rows}

    def load_state(self, state: dict[str, Any] | None) -> None:
        """Go back to what :meth:`state` returned."""
        kept = [Kept(k["row"], tuple(k["slots"]), k["best"]) for k in state["kept"]] if state else []
        self._last = (state["address"], state["top_k"], kept) if state else None


def _home(bank: Bank, entry: Entry, group: int) -> tuple[int, int | None]:
    """Key row of a group of ``entry``, and the slot with the oldest entry of it."""
    slots = bank.slots()
    if len(entry.key) == 1 and bank.shared:
        return 0, slots[0]
    identity = entry.objects[group]
    if identity not in bank.objects:
        return 0, None
    return bank.key_row(identity), next((slot for slot in slots if identity in bank.held(slot)), None)


def similarities(
    bank: Bank, regular: Sequence[int], key: Tensor, objects: Sequence[int], association: Association | None, config: ReadMemConfig
) -> np.ndarray:
    """Similarity of each slot of ``regular`` to a frame, and of the frame to itself: ``float64 [n + 1]``.

    ``key [G, hw, C_k]``, one for all ``objects`` or one each. The mean over the objects that both hold (0 where there is none);
    with the fixed reference the inner product of all their keys at once, so that Γ stays positive semi-definite.
    """
    cosine, decimals = config.similarity == "cosine", None if config.fixed else 5
    position = {slot: i for i, slot in enumerate(dict.fromkeys(regular))}
    total, count, share = np.zeros(len(position)), np.zeros(len(position)), np.ones(len(position))
    shared = len(key) == 1 and bank.shared
    own = [float(aligned_similarity(one.unsqueeze(0), [0], one, None, cosine, decimals=decimals)[0]) for one in key]
    for group, one in enumerate(key):
        if shared:
            row, slots = 0, list(position)
        elif objects[group] in bank.objects:
            row = bank.key_row(objects[group])
            slots = [slot for slot in position if objects[group] in bank.held(slot)]
        else:
            continue
        if slots:
            at = [position[slot] for slot in slots]
            index = _index(association, row, slots, one.shape[0], config, one.device)
            add, zero = config.transition == SUM, config.empty_column == "zero"
            total[at] += aligned_similarity(bank.key_store(row), slots, one, index, cosine, add=add, zero=zero, decimals=decimals)
            count[at] += 1
    if config.fixed:
        if not shared:
            share = np.sqrt([len(key) * len(bank.held(slot)) for slot in position])
        mean = total / share
    else:
        mean = np.divide(total, count, out=np.zeros(len(position)), where=count > 0)
    return np.array([*(mean[position[slot]] for slot in regular), float(np.mean(own))])


def _index(
    association: Association | None, row: int, slots: Sequence[int], area: int, config: ReadMemConfig, device: torch.device
) -> Tensor | None:
    """``int64 [n, hw]`` of the slots; an entry that was not read stays as it is."""
    if association is None:
        return None
    table = next(iter(association.values()), {}) if config.last_object_affinity else association.get(row, {})
    stay = torch.arange(area, device=device)
    return torch.stack([table.get(slot, stay) for slot in slots])
