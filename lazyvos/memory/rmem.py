"""RMem: a small memory from which the least useful frame leaves, found as by a bandit (Zhou et al., CVPR 2024).

The rule is that of the released code. The second term of the score is called freshness in the paper; it is an exploration bonus
that shrinks with the time an entry spent in memory, so it favours young entries.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.memory.common import Kept, SlotMemory
from lazyvos.memory.interval import Interval
from lazyvos.types import Decision

SMOOTHING, BONUS, PRIOR = 0.8, 1.5, 8


def relevance(attention: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Share ``[n]`` of each entry in what the foreground reads; sums to 1.

    ``attention [Q, n]``: what each query position reads from each entry; ``foreground [Q]``: 1 − its background probability. Where
    there is no foreground every position counts the same.
    """
    weighted = foreground @ attention
    if not weighted.sum() > 0:
        weighted = attention.sum(0)
    total = weighted.sum()
    return weighted / total if total > 0 else np.full(len(weighted), 1 / max(1, len(weighted)))


@dataclass
class Bandit:
    """Who leaves an over-full memory. ``relevance`` (smoothed) and ``survival`` (restrictions lived through) by frame number."""

    relevance: dict[int, float] = field(default_factory=dict)
    survival: dict[int, int] = field(default_factory=dict)

    def rate(self, now: Mapping[int, float], newest: int) -> None:
        """One restriction: ``now`` is the relevance of each stored entry, ``newest`` the frame that just came, unrated."""
        for t, value in now.items():
            old = self.relevance.get(t)
            self.relevance[t] = value if old is None else SMOOTHING * value + (1 - SMOOTHING) * old
        for t in (*now, newest):
            self.survival[t] = self.survival.get(t, 0) + 1

    def scores(self, rated: Collection[int], annotated: Collection[int]) -> dict[int, float]:
        """Score of each rated entry; the annotated ones count as having survived as often as there are rated entries."""
        lived = {t: len(rated) if t in annotated else self.survival[t] for t in rated}
        total = math.log(sum(lived.values()))
        return {t: self.relevance[t] + BONUS * math.sqrt(total / (lived[t] + PRIOR)) for t in rated}

    def forget(self, t: int) -> None:
        """The entry left."""
        self.relevance.pop(t, None)
        self.survival.pop(t, None)


class RMem(SlotMemory):
    """At most ``slots`` entries; when full, the entry leaves that the foreground reads least, with a bonus for young ones.

    A frame enters every ``every`` frames. Relevance comes from the read of the frame that enters: what its object positions read
    from each entry, by ``Entry.masks`` (all positions alike where it has none). With several objects their shares are summed, so
    with one key for all the weight of a position is 1 − its background probability, as published. Entries whose mask was given
    stay; where more masks are given than there are slots, the oldest of them but the first goes.

    Parameters
    ----------
    slots: the annotated frame and 8 more, as published.
    flexible, adjacent: as in :class:`lazyvos.memory.fifo.FifoMemory`. The networks that RMem was made for also attend to the
        previous frame; what is read from it does not count for relevance.

    Raises ValueError for less than two slots.
    """

    kind = "rmem"
    _weighs = True

    def __init__(self, slots: int = 9, every: int = 5, *, flexible: bool = True, adjacent: bool = True) -> None:
        super().__init__(slots, Interval(every, flexible), adjacent)
        if slots < 2:
            raise ValueError(f"slots is {slots}; RMem needs at least 2, the first is the annotated frame's")
        self._bandit = Bandit()
        self._read: list[Kept] = []

    @property
    def bandit(self) -> Bandit:
        """Relevance and survival of the entries."""
        return self._bandit

    def _after_read(self, address: Tensor, top_k: int | None, kept: list[Kept]) -> None:
        self._read = kept

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        replaced = None
        pin = pin or not self._regular
        if len(self._regular) == self._slots:
            rated = self.stored
            self._bandit.rate(self._relevance(entry), entry.t)
            scores = self._bandit.scores(rated, self.pinned)
            goes = self._leaver(entry, scores, pin or force)
            if goes is None:
                self._bandit.forget(entry.t)
                if pin or force:
                    raise self._too_small(entry)
                return Decision(entry.t, False, "pinned")
            replaced = self._evict(goes)
            self._bandit.forget(replaced)
        reason = "pinned" if pin else "forced" if force else "filled" if replaced is None else "replaced"
        return Decision(entry.t, True, reason, self._append(entry, pin), replaced)

    def _leaver(self, entry: Entry, scores: dict[int, float], must: bool) -> int | None:
        """The slot with the smallest score that may go, else (``must``) the oldest pin but the first."""
        able = [slot for slot in self._regular if self._may_go(slot, entry.objects)]
        free = [slot for slot in able if slot not in self._pinned]
        if not free and must:
            return next((slot for slot in able if slot != self._regular[0]), None)
        return min(free, key=lambda slot: scores[self._bank.frames[slot]], default=None)

    def _relevance(self, entry: Entry) -> dict[int, float]:
        """Relevance of each regular entry by the last read; what it was where this frame has not been read."""
        frames, attention, weights = self.stored, [], []
        for one in self._read:
            assert one.mass is not None
            at = torch.tensor([one.slots.index(slot) if slot in one.slots else len(one.slots) for slot in self._regular])
            shares = F.pad(one.mass, (0, 1)).double().cpu()[:, :, at].numpy()
            attention += list(shares)
            weights += [_foreground(entry, identity, shares.shape[1]) for identity in one.objects]
        if not attention:
            return {t: self._bandit.relevance.get(t, 1 / len(frames)) for t in frames}
        return dict(zip(frames, map(float, relevance(np.concatenate(attention), np.concatenate(weights))), strict=True))

    def _close(self, entry: Entry, clock: int, decision: Decision, start: float) -> Decision:
        self._read = []
        return super()._close(entry, clock, decision, start)

    def drop(self, object_id: int) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for an object that is not stored."""
        super().drop(object_id)
        self._read = []
        for t in set(self._bandit.survival) - set(self.stored):
            self._bandit.forget(t)

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`; the last read is part of it, because the next offer needs it."""
        read = [{"row": k.row, "slots": list(k.slots), "objects": list(k.objects), "mass": k.mass} for k in self._read]
        rated = {"relevance": dict(self._bandit.relevance), "survival": dict(self._bandit.survival)}
        return {**super().state(), **rated, "read": read}

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for the state of another kind of memory."""
        super().load_state(state)
        self._bandit = Bandit(
            {int(t): float(x) for t, x in state["relevance"].items()}, {int(t): int(n) for t, n in state["survival"].items()}
        )
        self._read = [Kept(k["row"], tuple(k["slots"]), None, tuple(k["objects"]), k["mass"]) for k in state["read"]]


def _foreground(entry: Entry, identity: int, positions: int) -> np.ndarray:
    """Weight ``float64 [positions]`` of each query position: the object's soft mask, averaged over the cell of the grid."""
    if entry.masks is None or identity not in entry.objects:
        return np.ones(positions)
    mask = entry.masks[entry.objects.index(identity)].detach().float()
    grid = (int(entry.key.shape[-2]), int(entry.key.shape[-1]))
    return F.adaptive_avg_pool2d(mask[None, None], grid).flatten().to(torch.float64).cpu().numpy()
