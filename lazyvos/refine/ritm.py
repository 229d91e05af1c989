"""RITM (Sofiiuk et al., "Reviving Iterative Training with Mask Guidance", 2021): image, clicks and mask to a mask.

The state-dict keys are those of the authors' checkpoints, for HRNet-18 (:data:`H18`) and the small one
(:data:`H18S`, the one CiVOS uses).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lazyvos.refine.hrnet import HRNetOCR, resize
from lazyvos.types import Click

FAR = 1e6


@dataclass(frozen=True)
class RitmConfig:
    """Sizes of the network.

    ``width``, ``ocr_width`` and ``small`` as in :class:`lazyvos.refine.hrnet.HRNetOCR`; ``radius`` of the click disks in
    pixels of the network's input.
    """

    width: int = 18
    ocr_width: int = 64
    small: bool = False
    radius: float = 5.0


H18 = RitmConfig()
H18S = RitmConfig(ocr_width=48, small=True)


class RitmOutput(NamedTuple):
    """Logits ``[B, 1, H, W]`` at the size of the input: the object, and the auxiliary head's (training only)."""

    instances: Tensor
    instances_aux: Tensor


class AbsoluteScale(nn.Module):
    """Multiply by the magnitude of one learnt number, so that clicks enter gently at the start of training."""

    def __init__(self, start: float = 0.05) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.abs()


def click_points(copies: Sequence[Sequence[Click]], device: torch.device | str = "cpu") -> Tensor:
    """Clicks of each batch item as ``float32 [B, 2P, 3]`` of (row, column, order).

    The first P rows of an item are its positive clicks, the last P its negative ones; (-1, -1, -1) is empty.
    """
    signs = [
        [[(i, c) for i, c in enumerate(clicks) if c.positive is sign] for sign in (True, False)]
        for clicks in copies
    ]
    count = max(1, *(len(own) for item in signs for own in item))
    points = torch.full((len(copies), 2, count, 3), -1.0)
    for b, item in enumerate(signs):
        for s, own in enumerate(item):
            for p, (order, click) in enumerate(own):
                points[b, s, p] = torch.tensor([click.y, click.x, float(order)])
    return points.flatten(1, 2).to(device)


class RitmNet(nn.Module):
    """The click network. Any input size; images are RGB in [0, 1], the network normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: RitmConfig = H18) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.maps_transform = nn.Sequential(
            nn.Conv2d(3, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 64, 3, 2, 1), AbsoluteScale()
        )
        self.feature_extractor = HRNetOCR(config.width, config.ocr_width, config.small)

    @property
    def channels(self) -> int:
        """Channels of :meth:`features`."""
        return self.feature_extractor.channels

    def click_maps(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        """Disks around clicks (RITM, section 3.1).

        ``points [B, 2P, 3]`` of (row, column, order), fractions allowed; a point is empty where its larger coordinate is negative.
        Returns ``float32 [B, 2, H, W]``: 1 where the nearest positive (negative) click is at most ``radius`` pixels away.
        """
        at = points[..., :2].float().unflatten(1, (2, -1))
        at = torch.where(at.amax(-1, keepdim=True) < 0, torch.full_like(at, -FAR), at)
        rows = torch.arange(size[0], device=points.device, dtype=torch.float32)
        columns = torch.arange(size[1], device=points.device, dtype=torch.float32)
        nearest = torch.full((at.shape[0], 2, *size), torch.inf, device=points.device)
        for point in at.unbind(2):
            down = (rows - point[..., :1]) ** 2
            across = (columns - point[..., 1:]) ** 2
            nearest = torch.minimum(nearest, down.unsqueeze(-1) + across.unsqueeze(-2))
        return (nearest <= self.config.radius**2).float()

    def click_branch(self, mask: Tensor, maps: Tensor) -> Tensor:
        """Previous mask ``[B, 1, H, W]`` and click maps ``[B, 2, H, W]`` to what joins HRNet's first layer ("Conv1S")."""
        return self.maps_transform(torch.cat([mask, maps.to(mask.dtype)], 1))

    def features(self, image: Tensor, points: Tensor) -> Tensor:
        """``image [B, 4, H, W]``: RGB in [0, 1] and the previous mask's probability. Gives ``[B, channels, H/4, W/4]``."""
        rgb, mask = image[:, :3], image[:, 3:]
        maps = self.click_maps(points, (image.shape[-2], image.shape[-1]))
        return self.feature_extractor.features((rgb - self.mean) / self.std, self.click_branch(mask, maps))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logit and auxiliary logit at stride 4 from :meth:`features`."""
        return self.feature_extractor.heads(features)

    def forward(self, image: Tensor, points: Tensor) -> RitmOutput:
        """See :meth:`features`; the logits come at the size of the image."""
        size = (image.shape[-2], image.shape[-1])
        logit, auxiliary = self.heads(self.features(image, points))
        return RitmOutput(resize(logit, size), resize(auxiliary, size))
