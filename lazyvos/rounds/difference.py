"""Merging the result of a round with that of earlier ones: difference-aware fusion (MiVOS, section 3.3; thesis, section 4.4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.fusion import FusionNet, difference_attention
from lazyvos.backbones.layers import aggregate
from lazyvos.types import InputError

FUSIONS = ("auto", "learned", "linear", "none")


def time_weights(t: int, now: int, earlier: int) -> tuple[float, float]:
    """``(n_c, n_r)`` of frame ``t`` between the frame annotated ``now`` and the one annotated ``earlier``.

    n_c = |earlier − t| / |earlier − now| and n_r = |now − t| / |earlier − now|; they sum to 1, and n_c is 1 at ``now``.
    """
    gap = abs(earlier - now)
    return abs(earlier - t) / gap, abs(now - t) / gap


@dataclass(frozen=True, eq=False)
class Change:
    """What a round changed on its frame.

    ``objects`` in channel order; ``entry`` holds the frame's memory key (one for all objects or one for each); ``positive`` and
    ``negative [O, h, w]`` are the parts of the masks that were added and removed, at the network's size.
    """

    t: int
    objects: tuple[int, ...]
    entry: Entry
    positive: Tensor
    negative: Tensor

    @staticmethod
    def of(t: int, objects: tuple[int, ...], entry: Entry, new: Tensor, old: Tensor) -> Change:
        """From the masks ``[O, h, w]`` after and before."""
        difference = new - old
        return Change(t, objects, entry, difference.clamp(0, 1), (-difference).clamp(0, 1))

    def attention(self, query: Query, rows: Sequence[int]) -> Tensor:
        """Where a frame resembles what was added and removed, ``[len(rows), 2, h, w]``, of the objects at ``rows``."""
        address = self.entry.address if len(self.entry.address) == 1 else self.entry.address[list(rows)]
        return difference_attention(address, query.address, self.positive[list(rows)], self.negative[list(rows)], query.grid)


class Fusion:
    """How two results become one, for frames between two annotated ones.

    Parameters
    ----------
    kind: ``"learned"`` (a :class:`lazyvos.backbones.fusion.FusionNet`, then soft aggregation), ``"linear"`` (the mean of both, weighted by
        :func:`time_weights`: n_c for the new, n_r for the old result), ``"none"`` (the new result is taken).
    net: the network of ``"learned"``.
    """

    def __init__(self, kind: str, net: FusionNet | None = None) -> None:
        if kind not in FUSIONS[1:]:
            raise InputError(f"fusion {kind!r} is unknown; choose one of {', '.join(FUSIONS)}, or give a network")
        self.kind, self.net = kind, net

    def __call__(
        self, t: int, image: Tensor | None, query: Query, objects: tuple[int, ...], new: Tensor, old: Tensor,
        change: Change, bounds: Mapping[int, int | None],
    ) -> Tensor:  # fmt: skip
        """Probabilities ``[O, h, w]`` of frame ``t``.

        ``new`` and ``old [O, h, w]`` are aggregated probabilities of ``objects`` without background; ``bounds`` says for each object which
        annotated frame its pass ends at, ``None`` for the end of the clip: there the new result is taken as it is.
        """
        groups: dict[int, list[int]] = {}
        for row, identity in enumerate(objects):
            bound = bounds[identity]
            if bound is not None:
                groups.setdefault(bound, []).append(row)
        if self.kind == "none" or not groups:
            return new
        result = new.clone()
        for bound, rows in groups.items():
            weights = time_weights(t, change.t, bound)
            if self.net is None:
                result[rows] = weights[0] * new[rows] + weights[1] * old[rows]
                continue
            assert image is not None
            at = [change.objects.index(objects[row]) for row in rows]
            images = image.unsqueeze(0).expand(len(rows), -1, -1, -1)
            attention = change.attention(query, at)
            logits = self.net(images, old[rows].unsqueeze(1), new[rows].unsqueeze(1), attention, weights)
            result[rows] = torch.sigmoid(logits[:, 0].float())
        if self.net is None:  # a mean of distributions is one, unless some objects were left out of it
            return result / result.sum(0, keepdim=True).clamp(min=1)
        return aggregate(result, 0)[1][1:]
