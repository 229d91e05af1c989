"""Training the tracker: batches of clips and their loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lazyvos.backbones.xmem import XMem
from lazyvos.geometry import MEAN, STD
from lazyvos.training.clips import ClipMaker, ClipSpec
from lazyvos.training.config import TrainConfig
from lazyvos.training.parallel import draws
from lazyvos.training.step import FrameCost, Matching, clip_loss


def normalised(frames: Tensor) -> Tensor:
    """``uint8 [N, H, W, 3]`` RGB to ImageNet-normalised ``float32 [N, 3, H, W]``, channels last."""
    x = frames.permute(0, 3, 1, 2).float() / 255
    x = (x - x.new_tensor(MEAN).view(1, 3, 1, 1)) / x.new_tensor(STD).view(1, 3, 1, 1)
    return x.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Clips:
    """``frames uint8 [B, T, S, S, 3]`` and ``labels uint8 [B, T, S, S]`` of the clips ``which`` of a step's batch."""

    frames: np.ndarray
    labels: np.ndarray
    objects: int
    which: range


class TrackTask:
    """Clips to be tracked from their first mask (:class:`lazyvos.training.loop.Task`)."""

    def __init__(self, maker: ClipMaker, config: TrainConfig) -> None:
        self.maker, self.config = maker, config

    def batch(self, step: int, which: range | None = None) -> Clips:
        """All clips of a step, or those that ``which`` numbers."""
        phase = self.config.phase_at(step)
        which = range(phase.batch) if which is None else which
        rng = np.random.default_rng((self.config.seed, step))
        objects = 2 if rng.random() < self.config.two_objects else 1
        spec = ClipSpec(phase.side, phase.frames, objects, phase.max_gap, phase.video_share)
        clips = [self.maker.draw((self.config.seed, step, i), spec) for i in which]
        return Clips(np.stack([c.frames for c in clips]), np.stack([c.labels for c in clips]), objects, which)

    def loss(self, net: nn.Module, batch: Clips, step: int) -> tuple[Tensor, dict[str, float]]:
        """The cost of the predicted frames (:meth:`cost`), mean over clips and frames.

        Which frames get a deep update is drawn once for all clips of a step; dropout is a function of seed, step and
        the first clip of ``batch``.
        """
        assert isinstance(net, XMem)
        device = next(net.parameters()).device
        size, length = batch.frames.shape[:2]
        flat = normalised(torch.from_numpy(batch.frames).to(device).flatten(0, 1))
        images = flat.view(size, length, *flat.shape[1:])
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        truth = torch.from_numpy(batch.labels).to(device).long()
        with draws(device, self.config.seed, step, batch.which.start, 3):
            result = clip_loss(net, images, truth, batch.objects, cost=self.cost(step), deep=self.config.deep, generator=generator)
        return result.total, result.numbers

    def cost(self, step: int) -> FrameCost:
        """What a frame costs at ``step``; the share of hard pixels shrinks over the first ``hard_steps``."""
        share = max(self.config.hard_share, 1 - (1 - self.config.hard_share) * step / max(1, self.config.hard_steps))
        return Matching(share)
