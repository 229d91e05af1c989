"""READMem: a bounded memory that keeps the frames which span the largest volume (thesis, chapter 5)."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.memory import gram as grams
from lazyvos.memory.align import Aligner, Association, similarities
from lazyvos.memory.common import Kept, SlotMemory
from lazyvos.memory.interval import Interval
from lazyvos.memory.readmem_config import ReadMemConfig
from lazyvos.types import Decision


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
        self._aligner = Aligner(config)
        self._keeps = self._aligner.keeps
        self._gram = np.zeros((0, 0))
        self._similarities: np.ndarray | None = None
        self._candidates: dict[int, float] = {}
        self._short: list[tuple[Tensor, tuple[int, ...]]] = []  # keys of the latest frames, for the dynamic bound

    @property
    def gram(self) -> np.ndarray:
        """Γ ``float64 [n, n]``, rows in the order of ``stored``; as similarities came in, before any normalisation."""
        return self._gram.copy()

    @property
    def similarities(self) -> np.ndarray | None:
        """Of the frame considered last with each entry stored then, and with itself: ``[n + 1]``."""
        return self._similarities

    @property
    def candidates(self) -> dict[int, float]:
        """What the frame considered last would make of log10|Γ|, by the frame number of the entry it would replace.

        Pinned entries have their number too, though they stay. Empty where that frame met a free slot or was not due.
        """
        return dict(self._candidates)

    def _after_read(self, address: Tensor, top_k: int | None, kept: list[Kept]) -> None:
        self._aligner.note(address, top_k, kept)

    def offer(self, entry: Entry, clock: int, *, force: bool = False) -> Decision:
        """See :class:`lazyvos.memory.base.Memory`. A frame that is not due only becomes the adjacent one."""
        self._candidates = {}
        self._latest(entry)
        decision = super().offer(entry, clock, force=force)
        if decision.log_gram_after is None and self._regular:  # not due
            log = self._log_gram(self._gram)
            return changed(decision, log_gram_before=log, log_gram_after=log)
        return decision

    def pin(self, entry: Entry, clock: int) -> Decision:
        """See :class:`lazyvos.memory.base.Memory`."""
        self._candidates = {}
        self._latest(entry)
        return super().pin(entry, clock)

    def _latest(self, entry: Entry) -> None:
        if self.config.lsb == "dynamic" and self.config.short_term > 1:
            self._short = [*self._short, (_rows(entry.key).clone(), entry.objects)][-self.config.short_term :]

    def _prepared(self, entry: Entry) -> Entry:
        return self._aligner.projected(self._bank, entry)

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        config, before = self.config, self._log_gram(self._gram)
        if not self._regular:
            own = self._similar(entry, None)[-1]
            copies = config.slots if config.initialisation == "annotated_copies" else 1
            self._append(entry, pin=True)
            self._regular *= copies
            self._similarities, self._gram = np.array([own]), np.full((copies, copies), own)
            return self._decided(entry, "pinned" if pin else "filled", 0, None, before)

        association = self._aligner.association(self._bank)
        self._similarities = aligned = self._similar(entry, association)
        full = len(self._regular) >= config.slots
        logs = grams.replacement_log_dets(self._scaled(self._gram), *self._scaled_row(aligned)) if full else np.zeros(0)
        self._candidates = {t: float(log) for t, log in zip(self.stored, logs, strict=False)}
        if not force and not self._bound(aligned) > config.lower_bound - self._gamma():
            return Decision(entry.t, False, "lower bound", None, None, before, before)
        word = "pinned" if pin else "forced" if force else ""
        if not full:
            row = aligned if config.rea_while_filling or association is None else self._similar(entry, None)
            self._gram = grams.bordered(self._gram, row[:-1], row[-1])
            at = self._append(entry, pin)
            return self._decided(entry, word or "filled", at, None, before)
        copy = self._copy()
        if copy is not None:
            return self._swap(entry, copy, aligned, pin, word or "filled", before)
        able = [n for n in range(1, len(logs)) if self._may_go(self._regular[n], entry.objects)]
        allowed = [n for n in able if self._regular[n] not in self._pinned] or (able if force else [])
        if not allowed:
            if force:
                raise self._too_small(entry)
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
        before = self._log_gram(self._gram)
        self._similarities = self._renew(slot, _rows(entry.key), entry.objects)
        return Decision(entry.t, True, "rewritten", None, None, before, self._log_gram(self._gram))

    def _renew(self, slot: int, key: Tensor, objects: tuple[int, ...]) -> np.ndarray:
        """Measure the row of a stored entry anew, without alignment; returns it, with its own similarity at the end."""
        row = similarities(self._bank, self._regular, key, objects, None, self.config)
        for n in (n for n, other in enumerate(self._regular) if other == slot):
            same = np.where([other == slot for other in self._regular], row[-1], row[:-1])
            self._gram = grams.replaced(self._gram, n, same, row[-1])
        return row

    def _close(self, entry: Entry, clock: int, decision: Decision, start: float) -> Decision:
        self._aligner.forget()
        return super()._close(entry, clock, decision, start)

    def drop(self, object_id: int) -> None:
        """See :class:`lazyvos.memory.base.Memory`; Γ loses the rows of entries that go with the object.

        With the fixed reference the others are measured anew, without that object.
        """
        before, bank = list(self._regular), self._bank
        super().drop(object_id)
        rest = [n for n, slot in enumerate(before) if slot in self._regular]
        self._gram = self._gram[np.ix_(rest, rest)]
        self._aligner.forget()
        self._candidates = {}
        self._short = [(key, objects) for key, objects in self._short if object_id not in objects]
        if self.config.fixed and not bank.shared:
            for slot in dict.fromkeys(self._regular):
                objects = tuple(sorted(bank.held(slot)))
                self._renew(slot, torch.stack([bank.keys(bank.key_row(o), [slot]).float() for o in objects]), objects)

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
        if rule in ("annotated", "dynamic"):
            return float(s[0])
        if rule == "ensemble max":
            return float(s.max())
        if rule == "ensemble mean":
            return float(s.mean())
        if rule == "last":
            return float(s[-1])
        return float(weight * s[0] + (1 - weight) * (s[-1] if rule == "annotated+last" else s.max()))

    def _gamma(self) -> float:
        """γ of the dynamic bound: one less the mean similarity of the latest frames to one another; 0 with less than two."""
        short, cosine = self._short, self.config.similarity == "cosine"
        if len(short) < 2:
            return 0.0
        own = 1.0 if cosine else float(self._gram[0, 0]) or 1.0
        found = []
        for i, (one, names) in enumerate(short):
            for other, more in short[i + 1 :]:
                pairs = [(names.index(o), more.index(o)) for o in names if o in more]
                if len(one) == len(other) == 1 and self._bank.shared:
                    pairs = [(0, 0)]
                each = [float(grams.aligned_similarity(one[a : a + 1], [0], other[b], None, cosine)[0]) for a, b in pairs]
                found.append(float(np.mean(each)) / own if each else 0.0)
        return 1.0 - float(np.mean(found))

    def _similar(self, entry: Entry, association: Association | None) -> np.ndarray:
        """See :func:`lazyvos.memory.align.similarities`."""
        return similarities(self._bank, self._regular, _rows(entry.key), entry.objects, association, self.config)

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`; the last read is part of it, because the next offer needs it."""
        short = [{"key": key, "objects": list(objects)} for key, objects in self._short]
        return {**super().state(), "gram": torch.from_numpy(self._gram.copy()), "last": self._aligner.state(), "short": short}

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`."""
        super().load_state(state)
        self._gram, self._similarities, self._candidates = state["gram"].numpy().copy(), None, {}
        self._aligner.load_state(state["last"])
        self._short = [(one["key"], tuple(one["objects"])) for one in state.get("short", ())]


def _rows(key: Tensor) -> Tensor:
    """``[G, C_k, h, w]`` as ``float32 [G, hw, C_k]``, position by position."""
    return key.detach().flatten(2).transpose(1, 2).float().contiguous()
