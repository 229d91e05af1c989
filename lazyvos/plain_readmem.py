"""READMem written down as published: slow, short, and the yardstick for :class:`lazyvos.memory.ReadMem`.

One dense transition matrix for each entry, similarities computed anew for every entry that might go, and one determinant
for each of them (thesis, sections 5.3 and 5.4). Published settings only: cosine similarity, column argmax of W.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lazyvos.types import Decision


class PlainReadMem:
    """READMem's decisions, for keys ``float32 [O, C_k, hw]``, one for each object.

    Parameters
    ----------
    slots: N, the annotated frame included.
    every: sampling interval s_r, in frames.
    lower_bound: l_sb.

    Attributes
    ----------
    frames: frame numbers of the stored entries, in slot order.
    keys: their keys.
    gram: Γ ``float64 [n, n]``.
    adjacent: number and keys of the previous frame.
    """

    def __init__(self, slots: int = 20, every: int = 10, lower_bound: float = 0.5) -> None:
        self.slots, self.every, self.lower_bound = slots, every, lower_bound
        self.frames: list[int] = []
        self.keys: list[Tensor] = []
        self.gram = np.zeros((0, 0))
        self.adjacent: tuple[int, Tensor] | None = None

    def pin(self, t: int, keys: Tensor) -> None:
        """Start with the annotated frame."""
        self.frames, self.keys, self.adjacent = [t], [keys], (t, keys)
        self.gram = np.array([[similarity(keys, keys)]])

    def affinity(self, query: Tensor, top_k: int | None) -> dict[int, Tensor]:
        """W of a read by ``query [C_k, hw]``: for each frame number ``[O, hw memory, hw query]``.

        Stored entries by frame number, then the previous frame if it is not one of them.
        """
        entries = sorted(zip(self.frames, self.keys, strict=True), key=lambda entry: entry[0])
        if self.adjacent is not None and self.adjacent[0] not in self.frames:
            entries.append(self.adjacent)
        memory = torch.cat([keys for _, keys in entries], 2)
        scores = memory.transpose(1, 2) @ query / math.sqrt(query.shape[0])
        blocks = softmax_of_best(scores, top_k).split(query.shape[1], 1)
        return {t: block for (t, _), block in zip(entries, blocks, strict=True)}

    def offer(self, t: int, keys: Tensor, weights: Mapping[int, Tensor] | None = None) -> Decision:
        """Offer frame ``t``; ``weights`` is W of its read (:meth:`affinity`), ``None`` for no alignment."""
        decision = self._decide(t, keys, weights) if t % self.every == 0 else Decision(t, False, "interval")
        self.adjacent = t, keys
        return decision

    def _decide(self, t: int, keys: Tensor, weights: Mapping[int, Tensor] | None) -> Decision:
        own, before = similarity(keys, keys), abs(np.linalg.det(self.gram))
        moved = self.keys
        if weights is not None:
            moved = [align(key, weights[frame]) for frame, key in zip(self.frames, self.keys, strict=True)]
        if not similarity(moved[0], keys) / self.gram[0, 0] > self.lower_bound:
            return self._decision(t, "lower bound", before, before)
        if len(self.frames) < self.slots:
            self.gram = _with_row(self.gram, [similarity(key, keys) for key in self.keys], own)
            self.frames, self.keys = [*self.frames, t], [*self.keys, keys]
            return self._decision(t, "filled", before, abs(np.linalg.det(self.gram)), slot=len(self.frames) - 1)
        best, largest, chosen = 0, -1.0, np.zeros(0)
        for n in range(1, self.slots):
            row = np.array([similarity(key, keys) for key in moved])
            candidate = self.gram.copy()
            candidate[n, :] = candidate[:, n] = row
            candidate[n, n] = own
            volume = abs(np.linalg.det(candidate))
            if volume > largest:
                best, largest, chosen = n, volume, row
        if largest < before:
            return self._decision(t, "no gain", before, before)
        rest = [n for n in range(self.slots) if n != best]
        self.gram = _with_row(self.gram[np.ix_(rest, rest)], chosen[rest], own)
        gone = self.frames[best]
        self.frames, self.keys = [*(self.frames[n] for n in rest), t], [*(self.keys[n] for n in rest), keys]
        return self._decision(t, "replaced", before, largest, slot=self.slots - 1, gone=gone)

    def _decision(
        self, t: int, reason: str, before: float, after: float, *, slot: int | None = None, gone: int | None = None
    ) -> Decision:
        with np.errstate(divide="ignore"):
            return Decision(t, slot is not None, reason, slot, gone, float(np.log10(before)), float(np.log10(after)))


def softmax_of_best(scores: Tensor, top_k: int | None) -> Tensor:
    """W ``[..., M, Q]`` of ``scores [..., M, Q]``: softmax over the ``top_k`` best of each column, zeros elsewhere."""
    if top_k is None:
        return scores.softmax(-2)
    best, index = scores.topk(min(top_k, scores.shape[-2]), -2)
    return torch.zeros_like(scores).scatter_(-2, index, best.softmax(-2))


def align(keys: Tensor, weights: Tensor) -> Tensor:
    """K T of each object: ``keys [O, C_k, hw]`` times the transition matrix of ``weights [O, hw memory, hw query]``.

    T has a single one in each column, where W is largest; the first row where W has nothing in that column.
    """
    moved = []
    for key, weight in zip(keys, weights, strict=True):
        largest = weight.argmax(0)
        filled = weight.gather(0, largest.unsqueeze(0))[0] > 0
        transition = torch.zeros_like(weight, dtype=key.dtype)
        transition[torch.where(filled, largest, 0), torch.arange(weight.shape[1], device=weight.device)] = 1
        moved.append(key @ transition)
    return torch.stack(moved)


def similarity(a: Tensor, b: Tensor) -> float:
    """Cosine of the flattened keys ``[O, C_k, hw]`` of each object, rounded to 5 decimals; their mean over the objects."""
    return float(np.mean([round(_cosine(one, other), 5) for one, other in zip(a, b, strict=True)]))


def _cosine(a: Tensor, b: Tensor) -> float:
    product, first, second = (float((x * y).sum(0).sum(dtype=torch.float64)) for x, y in ((a, b), (a, a), (b, b)))
    return product / max(math.sqrt(first * second), 1e-8)


def _with_row(gram: np.ndarray, row: Sequence[float] | np.ndarray, own: float) -> np.ndarray:
    """Γ with one entry more at its end."""
    size = len(gram)
    bigger = np.empty((size + 1, size + 1))
    bigger[:size, :size] = gram
    bigger[size, :size] = bigger[:size, size] = row
    bigger[size, size] = own
    return bigger
