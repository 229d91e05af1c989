"""One training step of an XMem: a clip is tracked from its first mask, each frame's prediction is scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.xmem import Features, XMem, address_memory, address_query
from lazyvos.training.losses import VOID, bootstrapped_cross_entropy, dice


@dataclass
class Losses:
    """Means over the predicted frames of a clip: the loss, and ``numbers`` to log."""

    total: Tensor
    numbers: dict[str, float] = field(default_factory=dict)


class FrameCost(Protocol):
    """Decodes a frame and says what its result costs."""

    def __call__(
        self, net: XMem, features: Features, readout: Tensor, hidden: Tensor | None, exists: Tensor, truth: Tensor, update: bool
    ) -> tuple[Tensor, Tensor | None, Tensor, dict[str, float]]:
        """``exists [B, n, 1, 1]`` is 0 for objects that the clip does not have; ``truth int64 [B, H, W]`` of ids 0..n and 255 void.

        Gives probabilities ``[B, n, H, W]`` of the objects, the hidden state, the loss, and numbers to log.
        """
        ...


@dataclass(frozen=True)
class Matching:
    """Cross-entropy on the hardest ``share`` of the pixels, plus dice (XMem, section 4)."""

    share: float

    def __call__(
        self, net: XMem, features: Features, readout: Tensor, hidden: Tensor | None, exists: Tensor, truth: Tensor, update: bool
    ) -> tuple[Tensor, Tensor | None, Tensor, dict[str, float]]:
        """See :class:`FrameCost`."""
        logits, hidden = net.segment(features, readout, hidden, update=update)
        joint, prob = aggregate(torch.sigmoid(logits) * exists, 1)
        entropy_loss = bootstrapped_cross_entropy(joint, truth, self.share)
        dice_loss = dice(prob[:, 1:], truth)
        return prob[:, 1:], hidden, entropy_loss + dice_loss, {"cross_entropy": entropy_loss.item(), "dice": dice_loss.item()}


def clip_loss(
    net: XMem, frames: Tensor, labels: Tensor, objects: int, *, cost: FrameCost, deep: float, generator: torch.Generator
) -> Losses:
    """Track ``frames [B, T, 3, H, W]`` from ``labels[:, 0]`` and score frames 1..T−1.

    ``labels int64 [B, T, H, W]`` with ids 1..objects and 255 void. Frame 0 enters the memory with its true
    masks, later frames with the network's own soft prediction (XMem, section 4); the memory is read with a
    full softmax.
    """
    batch, length = frames.shape[:2]
    keys, shrinkage, selection, flat = net.encode_key(frames.flatten(0, 1))

    def at(x: Tensor, t: int) -> Tensor:
        return x.view(batch, length, *x.shape[1:])[:, t]

    features = [Features(*(at(f, t) for f in flat)) for t in range(length)]
    height, width = keys.shape[-2:]
    hidden = None
    if net.config.hidden_dim:
        hidden = frames.new_zeros(batch, objects, net.config.hidden_dim, height, width)
    wanted = torch.arange(1, objects + 1, device=labels.device).view(1, -1, 1, 1)
    masks = (labels[:, 0].unsqueeze(1) == wanted).float()
    exists = masks.flatten(2).any(-1).float()[..., None, None]

    addresses = address_memory(keys.flatten(2), None if shrinkage is None else shrinkage.flatten(2))
    queries = address_query(keys.flatten(2), None if selection is None else selection.flatten(2))
    value, hidden = net.encode_value(frames[:, 0], features[0], masks, hidden, deep=True)
    values = [value.flatten(3)]
    total = frames.new_zeros(())
    sums: dict[str, float] = {}
    for t in range(1, length):
        memory = torch.cat([at(addresses, s) for s in range(t)], -1)
        with torch.autocast(frames.device.type, enabled=False):
            similarity = memory.float().transpose(1, 2) @ at(queries, t).float()
            weights = torch.softmax(similarity, 1)
        stacked = torch.cat(values, -1).flatten(1, 2)
        readout = (stacked @ weights.to(stacked.dtype)).view(batch, objects, -1, height, width)
        last = t == length - 1
        truth = labels[:, t]
        truth = torch.where((truth > objects) & (truth != VOID), 0, truth)
        prob, hidden, loss, numbers = cost(net, features[t], readout, hidden, exists, truth, not last)
        total = total + loss
        for name, number in numbers.items():
            sums[name] = sums.get(name, 0.0) + number
        if not last:
            is_deep = bool(torch.rand((), generator=generator) < deep)
            value, hidden = net.encode_value(frames[:, t], features[t], prob, hidden, deep=is_deep)
            values.append(value.flatten(3))
    steps = length - 1
    return Losses(total / steps, {name: number / steps for name, number in sums.items()})
