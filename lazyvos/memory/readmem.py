"""READMem: a bounded memory that keeps the frames which span the largest volume (thesis, chapter 5)."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.memory import gram as grams
from lazyvos.memory.associate import AFFINITIES, EMPTY, TRANSITIONS, associate, from_top_k
from lazyvos.memory.common import Kept, SlotMemory
from lazyvos.memory.interval import Interval
from lazyvos.types import Decision

_SIMILARITIES = ("cosine", "dot")
_BOUNDS = ("annotated", "ensemble max", "ensemble mean", "last", "annotated+last", "annotated+max")
_STARTS = ("every_t", "annotated_copies")


@dataclass(frozen=True, kw_only=True)
class ReadMemConfig:
    """Settings of READMem; the defaults are the published ones (thesis, section 5.5, and the released code).

    slots: N, the diverse slots (the annotated frame has the first).
    every, flexible: the sampling interval s_r (:class:`lazyvos.memory.interval.Interval`).
    adjacent: one slot more that always holds the previous frame.
    lower_bound: l_sb; a frame must be more similar than this to the annotated one.
    lsb: what is compared with it: ``annotated``, or the largest, mean or last similarity to a stored entry
        (``ensemble max``, ``ensemble mean``, ``last``), or a mix ``annotated+last``, ``annotated+max`` with
        ``annotated_weight`` on the annotated frame.
    similarity: ``cosine`` of the flattened keys, rounded to 5 decimals (code), or ``dot`` (thesis, equation 5.5).
    transition: how a stored key is aligned to the query (:func:`lazyvos.memory.associate.associate`); ``None``: not at all.
    affinity, empty_column: of the transition.
    initialisation: ``every_t`` fills the slots with the frames that come; ``annotated_copies`` starts with copies of the
        annotated frame, which are replaced first.
    rea_while_filling: align keys for the rows of Γ while slots are free, too (thesis; the code does not).
    last_object_affinity: one association for all objects, the last object's (code); only for keys per object.
    """

    slots: int = 20
    every: int = 10
    flexible: bool = False
    adjacent: bool = True
    lower_bound: float = 0.5
    lsb: str = "annotated"
    annotated_weight: float = 0.5
    similarity: str = "cosine"
    transition: str | None = "column argmax"
    affinity: str = "W"
    empty_column: str = "first"
    initialisation: str = "every_t"
    rea_while_filling: bool = False
    last_object_affinity: bool = False

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, tuple[str | None, ...]], ...] = (
            ("lsb", _BOUNDS),
            ("similarity", _SIMILARITIES),
            ("transition", (*TRANSITIONS, None)),
            ("affinity", AFFINITIES),
            ("empty_column", EMPTY),
            ("initialisation", _STARTS),
        )
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(map(repr, allowed))}")
        if self.slots < 2:
            raise ValueError(f"slots is {self.slots}; READMem needs at least 2, the first is the annotated frame's")
        if not np.isfinite(self.lower_bound):
            raise ValueError(f"lower_bound is {self.lower_bound}; give a number, -1 admits every frame")


class ReadMem(SlotMemory):
    """READMem with :class:`ReadMemConfig`, or its fields as keywords: ``ReadMem(slots=10, every=5)``.

    A frame that is due is refused if it is too unlike the annotated one (``lower bound``); while slots are free it is
    appended; else it replaces the entry (never the annotated one, nor another pinned one) for which |Γ| becomes largest, if
    that does not make |Γ| smaller. Γ keeps the similarities as they were when the later of the two frames came.
    """

    kind = "readmem"

    def __init__(self, config: ReadMemConfig | None = None, **settings: Any) -> None:
        self.config = config = changed(config or ReadMemConfig(), **settings)
        super().__init__(config.slots, Interval(config.every, config.flexible), config.adjacent, keep_keys=True)
        self._keeps = config.transition == "column argmax" and config.affinity == "W"
        self._gram = np.zeros((0, 0))
        self._last: tuple[Tensor, int | None, list[Kept]] | None = None
        self._similarities: np.ndarray | None = None

    @property
    def gram(self) -> np.ndarray:
        """Γ ``float64 [n, n]``, rows in the order of ``stored``; as similarities came in, before any normalisation."""
        return self._gram.copy()

    @property
    def similarities(self) -> np.ndarray | None:
        """Of the frame considered last with each entry stored then, and with itself: ``[n + 1]``."""
        return self._similarities

    def _after_read(self, address: Tensor, top_k: int | None, kept: list[Kept]) -> None:
        if self.config.transition is not None:
            self._last = (address, top_k, kept)

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        config, before = self.config, self._log_gram(self._gram)
        if not self._regular:
            own = self._similar(entry, None)[-1]
            copies = config.slots if config.initialisation == "annotated_copies" else 1
            self._append(entry, pin=True)
            self._regular *= copies
            self._similarities, self._gram = np.array([own]), np.full((copies, copies), own)
            return self._decided(entry, "pinned" if pin else "filled", 0, None, before)

        self._similarities = aligned = self._similar(entry, self._association())
        if not force and not self._bound(aligned) > config.lower_bound:
            return Decision(entry.t, False, "lower bound", None, None, before, before)
        word = "pinned" if pin else "forced" if force else ""
        if len(self._regular) < config.slots:
            row = aligned if config.rea_while_filling else self._similar(entry, None)
            self._gram = grams.bordered(self._gram, row[:-1], row[-1])
            at = self._append(entry, pin)
            return self._decided(entry, word or "filled", at, None, before)
        copy = self._copy()
        if copy is not None:
            return self._swap(entry, copy, aligned, pin, word or "filled", before)
        logs = grams.replacement_log_dets(self._scaled(self._gram), *self._scaled_row(aligned))
        allowed = [n for n in range(1, len(logs)) if self._regular[n] not in self._pinned]
        allowed = [n for n in allowed if self._may_go(self._regular[n], entry.objects)]
        if not allowed and force:
            allowed = [n for n in range(1, len(logs)) if self._may_go(self._regular[n], entry.objects)]
            if not allowed:
                raise self._too_small(entry)
        if not allowed:
            return Decision(entry.t, False, "pinned", None, None, before, before)
        best = max(allowed, key=lambda n: (logs[n], -n))
        if not force and not logs[best] >= (before if before is not None else -np.inf):
            return Decision(entry.t, False, "no gain", None, None, before, before)
        return self._swap(entry, best, aligned, pin, word or "replaced", before)

    def _swap(self, entry: Entry, n: int, row: np.ndarray, pin: bool, reason: str, before: float | None) -> Decision:
        """Entry ``n`` of the list goes; the new one comes at the end."""
        slot = self._regular[n]
        rest = [i for i in range(len(self._regular)) if i != n]
        self._gram = grams.bordered(self._gram[np.ix_(rest, rest)], row[rest], row[-1])
        gone = None
        if self._regular.count(slot) > 1:
            del self._regular[n]
        else:
            gone = self._evict(slot)
        return self._decided(entry, reason, self._append(entry, pin), gone, before)

    def _decided(self, entry: Entry, reason: str, at: int, gone: int | None, before: float | None) -> Decision:
        return Decision(entry.t, True, reason, at, gone, before, self._log_gram(self._gram))

    def _copy(self) -> int | None:
        """The first entry of the list that is a copy of an earlier one."""
        return next((n for n, slot in enumerate(self._regular) if slot in self._regular[:n]), None)

    def _rewritten(self, slot: int, entry: Entry) -> Decision:
        before, row = self._log_gram(self._gram), self._similar(entry, None)
        self._similarities = row
        for n in (n for n, other in enumerate(self._regular) if other == slot):
            same = np.where([other == slot for other in self._regular], row[-1], row[:-1])
            self._gram = grams.replaced(self._gram, n, same, row[-1])
        return Decision(entry.t, True, "rewritten", None, None, before, self._log_gram(self._gram))

    def _close(self, entry: Entry, clock: int, decision: Decision, start: float) -> Decision:
        self._last = None
        return super()._close(entry, clock, decision, start)

    def drop(self, object_id: int) -> None:
        """See :class:`lazyvos.memory.base.Memory`; Γ loses the rows of entries that go with the object."""
        before = list(self._regular)
        super().drop(object_id)
        rest = [n for n, slot in enumerate(before) if slot in self._regular]
        self._gram = self._gram[np.ix_(rest, rest)]
        self._last = None

    # Similarities.

    def _scaled(self, gram: np.ndarray) -> np.ndarray:
        """Γ in units of the annotated frame's own product."""
        own = gram[0, 0] if gram.size else 1.0
        return gram / own if own else gram

    def _scaled_row(self, row: np.ndarray) -> tuple[np.ndarray, float]:
        own = self._gram[0, 0] or 1.0
        return row[:-1] / own, float(row[-1] / own)

    def _log_gram(self, gram: np.ndarray) -> float | None:
        return grams.log_abs_det(self._scaled(gram)) if gram.size else None

    def _bound(self, row: np.ndarray) -> float:
        """What is compared with l_sb; only stored entries count (the code's lists also end in the frame itself)."""
        s, rule, weight = self._scaled_row(row)[0], self.config.lsb, self.config.annotated_weight
        if rule == "annotated":
            return float(s[0])
        if rule == "ensemble max":
            return float(s.max())
        if rule == "ensemble mean":
            return float(s.mean())
        if rule == "last":
            return float(s[-1])
        return float(weight * s[0] + (1 - weight) * (s[-1] if rule == "annotated+last" else s.max()))

    def _association(self) -> dict[int, dict[int, Tensor]] | None:
        """For each key row: slot → index ``[hw]`` into its positions; ``None`` if the frame at hand has not been read."""
        config, bank = self.config, self._bank
        transition = config.transition
        if self._last is None or transition is None:
            return None
        address, top_k, kept = self._last
        area = address.shape[1]
        wanted = kept[-1:] if config.last_object_affinity else kept
        found: dict[int, dict[int, Tensor]] = {}
        for one in wanted:
            slots = [slot for slot in one.slots if slot in bank.frames]
            if one.best is not None and config.empty_column != "affinity" and len(slots) == len(one.slots):
                index = from_top_k(one.best, len(slots), area)
                index = index.clamp(min=0) if config.empty_column == "first" else index
            else:
                stored = bank.address(one.row, slots).float()
                index = associate(
                    stored, address, len(slots), top_k, transition, config.affinity, config.empty_column
                )
            found[one.row] = dict(zip(slots, index, strict=True))
        return found

    def _similar(self, entry: Entry, association: dict[int, dict[int, Tensor]] | None) -> np.ndarray:
        """Similarity of each entry of the list to ``entry``, and of ``entry`` to itself: ``float64 [n + 1]``.

        The mean over the objects that both hold; 0 where there is none.
        """
        bank, new = self._bank, entry.key.detach().flatten(2).transpose(1, 2).float()  # [G, hw, C_k]
        cosine = self.config.similarity == "cosine"
        position = {slot: i for i, slot in enumerate(dict.fromkeys(self._regular))}
        total, count = np.zeros(len(position)), np.zeros(len(position))
        own = [float(grams.similarity(key.unsqueeze(0), key, cosine)[0]) for key in new]
        for group, key in enumerate(new):
            if len(new) == 1 and bank.shared:
                row, slots = 0, list(position)
            elif entry.objects[group] in bank.objects:
                row = bank.key_row(entry.objects[group])
                slots = [slot for slot in position if entry.objects[group] in bank.held(slot)]
            else:
                continue
            if slots:
                at = [position[slot] for slot in slots]
                total[at] += grams.similarity(self._aligned(row, slots, association), key, cosine)
                count[at] += 1
        mean = np.divide(total, count, out=np.zeros(len(position)), where=count > 0)
        return np.array([*(mean[position[slot]] for slot in self._regular), float(np.mean(own))])

    def _aligned(self, row: int, slots: list[int], association: dict[int, dict[int, Tensor]] | None) -> Tensor:
        """Stored keys ``[n, hw, C_k]``, their positions gathered as the transition says."""
        area = self._bank.grid[0] * self._bank.grid[1]
        keys = self._bank.keys(row, slots).float()
        if association is None:
            return keys.unflatten(0, (len(slots), area))
        last = self.config.last_object_affinity
        table = next(iter(association.values()), {}) if last else association.get(row, {})
        stay = torch.arange(area, device=keys.device)
        index = torch.stack([table.get(slot, stay) for slot in slots])
        start = torch.arange(len(slots), device=keys.device).unsqueeze(1) * area
        moved = keys.index_select(0, (index.clamp(min=0) + start).flatten()).unflatten(0, (len(slots), area))
        return moved * (index >= 0).unsqueeze(2) if self.config.empty_column == "zero" else moved

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`; the last read is part of it, because the next offer needs it."""
        last = None
        if self._last is not None:
            address, top_k, kept = self._last
            rows = [{"row": k.row, "slots": list(k.slots), "best": k.best} for k in kept]
            last = {"address": address, "top_k": top_k, "kept": rows}
        return {**super().state(), "gram": torch.from_numpy(self._gram.copy()), "last": last}

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`."""
        super().load_state(state)
        self._gram, self._similarities = state["gram"].numpy().copy(), None
        last = state["last"]
        self._last = last and (
            last["address"],
            last["top_k"],
            [Kept(k["row"], tuple(k["slots"]), k["best"]) for k in last["kept"]],
        )
