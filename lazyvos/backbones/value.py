"""A value encoder without image convolutions of its own, for small networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.layers import ResidualBlock

if TYPE_CHECKING:
    from lazyvos.backbones.xmem import Features


class LightValueEncoder(nn.Module):
    """Mask and others (pixel-unshuffled to stride 4) descend the key encoder's own pyramid.

    Each step joins the image feature of its stride: 4 → 8 → 16, then two residual blocks. About a tenth of
    the cost of a second image trunk.
    """

    def __init__(self, skip4: int, skip8: int, feature: int, value_dim: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(32 + skip4, 48, 3, padding=1)
        self.down8 = nn.Conv2d(48, 64, 3, 2, 1)
        self.join8 = nn.Conv2d(64 + skip8, 64, 3, padding=1)
        self.down16 = nn.Conv2d(64, 96, 3, 2, 1)
        self.block1 = ResidualBlock(96 + feature, value_dim)
        self.block2 = ResidualBlock(value_dim, value_dim)
        self.hidden_reinforce: nn.Module | None = None

    def forward(self, image: Tensor, features: Features, masks: Tensor, others: Tensor) -> Tensor:
        """``masks`` and ``others [B, n, H, W]`` give values ``[B, n, C_v, h, w]``; ``image`` is not used."""
        batch, objects = masks.shape[:2]

        def grouped(x: Tensor) -> Tensor:
            return x.unsqueeze(1).expand(-1, objects, -1, -1, -1).flatten(0, 1)

        both = torch.stack([masks, others], 2).flatten(0, 1)
        x = F.pixel_unshuffle(both, 4)
        x = F.relu(self.enter(torch.cat([x, grouped(features.f4)], 1)))
        x = F.relu(self.down8(x))
        x = F.relu(self.join8(torch.cat([x, grouped(features.f8)], 1)))
        x = F.relu(self.down16(x))
        x = self.block2(self.block1(torch.cat([x, grouped(features.f16)], 1)))
        return x.view(batch, objects, *x.shape[1:])
