"""A small click-segmentation network of RITM's form (Sofiiuk et al. 2021): image, clicks and previous mask to a mask.

Unlike RITM the clicks enter after the trunk, so that the features of a frame are computed once and every
further click on it costs only the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.layers import FusionBlock, ResidualBlock, UpBlock, per_object, upsample
from lazyvos.backbones.mobilenet import MobileNetTrunk
from lazyvos.backbones.xmem import Features

RADIUS = 5


def click_disks(points: Sequence[tuple[float, float]], size: tuple[int, int], radius: float = RADIUS) -> Tensor:
    """Disk map ``float32 [H, W]``: 1 where a point ``(row, column)`` is at most ``radius`` pixels away (RITM, section 3.1)."""
    height, width = size
    if not points:
        return torch.zeros(height, width)
    at = torch.tensor(points, dtype=torch.float32)
    rows = torch.arange(height, dtype=torch.float32).view(1, -1, 1) - at[:, 0].view(-1, 1, 1)
    columns = torch.arange(width, dtype=torch.float32).view(1, 1, -1) - at[:, 1].view(-1, 1, 1)
    return ((rows**2 + columns**2).amin(0) <= radius**2).float()


class ClickEncoder(nn.Module):
    """Disk maps and previous mask descend the trunk's pyramid; at stride 16 they meet a look-alike map.

    The look-alike map is the largest cosine similarity of every position to the positions clicked, once for positive and once for
    negative clicks: "what looks like what was clicked".
    """

    def __init__(self, skip4: int, skip8: int, feature: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(48 + skip4, 48, 3, padding=1)
        self.down8 = nn.Conv2d(48, 64, 3, 2, 1)
        self.join8 = nn.Conv2d(64 + skip8, 64, 3, padding=1)
        self.down16 = nn.Conv2d(64, 96, 3, 2, 1)
        self.look = nn.Conv2d(feature, 64, 1)
        self.block1 = ResidualBlock(98 + feature, out)
        self.block2 = ResidualBlock(out, out)

    def forward(self, features: Features, maps: Tensor) -> Tensor:
        """``maps [B, 3, H, W]`` (previous mask, positive, negative disks) give ``[B, out, h, w]``."""
        x = F.relu(self.enter(torch.cat([F.pixel_unshuffle(maps, 4), features.f4], 1)))
        x = F.relu(self.down8(x))
        x = F.relu(self.join8(torch.cat([x, features.f8], 1)))
        x = F.relu(self.down16(x))
        x = torch.cat([x, self.lookalike(features.f16, maps[:, 1:]), features.f16], 1)
        return self.block2(self.block1(x))

    def lookalike(self, f16: Tensor, disks: Tensor) -> Tensor:
        """Largest cosine similarity to the clicked positions, ``[B, 2, h, w]``; 0 where there is no such click."""
        look = F.normalize(self.look(f16).float(), dim=1).flatten(2)
        touched = F.adaptive_max_pool2d(disks, f16.shape[-2:]).flatten(2) > 0.5
        similarity = look.transpose(1, 2) @ look
        maps = []
        for sign in range(2):
            masked = similarity.masked_fill(~touched[:, sign].unsqueeze(2), -1.0).amax(1)
            maps.append(torch.where(touched[:, sign].any(1, keepdim=True), masked, torch.zeros_like(masked)))
        return torch.stack(maps, 1).view(f16.shape[0], 2, *f16.shape[-2:]).to(f16.dtype)


class ClickNet(nn.Module):
    """Trunk, click encoder, decoder. Frames ``[B, 3, H, W]`` ImageNet-normalised, H and W multiples of 16."""

    stride = 16

    def __init__(self, feature: int = 128, widths: tuple[int, int, int] = (128, 64, 48)) -> None:
        super().__init__()
        w16, w8, w4 = widths
        self.key_encoder = MobileNetTrunk(feature)
        self.clicks = ClickEncoder(MobileNetTrunk.skip4, MobileNetTrunk.skip8, feature, w16)
        self.fuser = FusionBlock(feature, w16, w16, w16, attention=False)
        self.up_16_8 = UpBlock(MobileNetTrunk.skip8, w16, w8)
        self.up_8_4 = UpBlock(MobileNetTrunk.skip4 + 3, w8, w4)
        self.pred = nn.Conv2d(w4, 1, 3, padding=1)

    def encode(self, frames: Tensor) -> Features:
        """Features of frames, independent of clicks."""
        return Features(*self.key_encoder(frames))

    def decode(self, features: Features, maps: Tensor) -> Tensor:
        """``maps [B, 3, H, W]`` (previous mask, positive, negative disks) give logits ``[B, 1, H, W]``."""
        x = self.fuser(features.f16, self.clicks(features, maps).unsqueeze(1))
        x = self.up_16_8(features.f8, x)
        shallow = torch.cat([features.f4, F.adaptive_max_pool2d(maps, features.f4.shape[-2:])], 1)
        x = self.up_8_4(shallow, x)
        logits = per_object(self.pred, F.relu(x))[:, 0]
        return upsample(logits.float(), scale=4)
