"""A small difference-aware fusion network: it decides at stride 4 which of two results to believe."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.fusion import FusionNet
from lazyvos.backbones.layers import upsample

_SURE = 1e-4


class LightFusion(FusionNet):
    """Inputs and layers of :class:`FusionNet`, fewer channels, and a gate in the place of a mask.

    The nine input planes are averaged over 4x4 pixels, the grid on which the decoders of all our backbones draw their masks. The network's
    answer is added to the log-odds of n_c; its sigmoid w, bilinear at full size, gives w·new + (1 − w)·old. An answer of zero
    is therefore the linear mean of both results (thesis, section 4.4.3, without the network); training starts there.
    """

    stride = 4

    def __init__(self, width: int = 24) -> None:
        super().__init__(width)
        nn.init.zeros_(self.final_conv.weight)
        nn.init.zeros_(self.final_conv.bias)  # type: ignore[arg-type]

    def gate(self, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, distance: tuple[float | Tensor, float | Tensor]) -> Tensor:
        """Share w of the new result, ``[B, 1, H, W]`` in (0, 1)."""
        planes = [torch.ones_like(old) * part for part in distance]
        x = F.avg_pool2d(torch.cat([image, old, new, attention, *planes], 1), self.stride)
        prior = torch.logit(x[:, -2:-1].float(), 1e-3)
        x = self.conv1(x)
        x = F.relu(x + self.conv2(x))
        x = F.relu(x + self.conv3(x))
        return torch.sigmoid(upsample(self.final_conv(x).float() + prior, scale=self.stride))

    def forward(self, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, distance: tuple[float | Tensor, float | Tensor]) -> Tensor:
        """See :class:`FusionNet`; the distances may also be tensors ``[B, 1, 1, 1]``."""
        share = self.gate(image, old, new, attention, distance)
        mean = torch.lerp(old.float(), new.float(), share).clamp(_SURE, 1 - _SURE)
        return torch.log(mean) - torch.log1p(-mean)


