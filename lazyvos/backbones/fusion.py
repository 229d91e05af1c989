"""MiVOS's difference-aware fusion (Cheng, Tai & Tang, CVPR 2021, section 3.3): merges the results of two interaction rounds.

A user changed the mask of a frame; between that frame and the closest one interacted with earlier there is an old and a
new result. The network weighs them per pixel, knowing what the user changed and how far away both frames are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.layers import aggregate, upsample


class FusionNet(nn.Module):
    """Two residual blocks at full resolution; the state-dict keys are those of the authors' checkpoint."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(9, width, 3, padding=1), nn.ReLU())
        self.conv2 = self._residual(width)
        self.conv3 = self._residual(width)
        self.final_conv = nn.Conv2d(width, 1, 3, padding=1)

    @staticmethod
    def _residual(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, distance: tuple[float, float]) -> Tensor:
        """Logit ``[B, 1, H, W]`` of the fused mask of one object per batch entry.

        Parameters
        ----------
        image: ``[B, 3, H, W]``, ImageNet-normalised.
        old, new: probabilities ``[B, 1, H, W]`` of the earlier rounds and of this one.
        attention: ``[B, 2, H, W]`` of :func:`difference_attention`.
        distance: to the earlier and to the present interaction's frame, as fractions of the gap between the two.
        """
        planes = [torch.full_like(old, part) for part in distance]
        x = self.conv1(torch.cat([image, old, new, attention, *planes], 1))
        x = F.relu(x + self.conv2(x))
        x = F.relu(x + self.conv3(x))
        return self.final_conv(x)


def difference_attention(address: Tensor, query: Tensor, positive: Tensor, negative: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where a query frame resembles what the user added and removed on the frame of the interaction.

    Parameters
    ----------
    address: memory side of the similarity ``[G, C_a, h·w]`` of the interacted frame (G = 1 or n), see
        :class:`lazyvos.backbones.base.Entry`.
    query: its query side ``[C_a, h·w]``.
    positive, negative: parts of the masks ``[n, H, W]`` that were added and removed, in [0, 1].
    grid: ``(h, w)``.

    Returns
    -------
    ``[n, 2, H, W]``: the softmax over *all* memory positions carries both difference masks (averaged over the cells of the
    grid) to the query frame.
    """
    size = (positive.shape[-2], positive.shape[-1])
    cell = (size[0] // grid[0], size[1] // grid[1])
    difference = F.avg_pool2d(torch.stack([positive, negative], 1), cell).flatten(2)
    with torch.autocast(query.device.type, enabled=False):
        affinity = torch.softmax(address.float().transpose(1, 2) @ query.float(), 1)
        carried = difference.float() @ affinity
    return upsample(carried.unflatten(2, grid), size=size)


def fuse(net: FusionNet, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, distance: tuple[float, float]) -> Tensor:
    """Fused and aggregated probabilities ``[n + 1, H, W]`` (background first).

    ``image [3, H, W]``; ``old`` and ``new [n, H, W]``; ``attention [n, 2, H, W]``; ``distance`` as in :class:`FusionNet`.
    """
    images = image.unsqueeze(0).expand(old.shape[0], -1, -1, -1)
    logits = net(images, old.unsqueeze(1), new.unsqueeze(1), attention, distance)
    return aggregate(torch.sigmoid(logits[:, 0].float()), 0)[1]
