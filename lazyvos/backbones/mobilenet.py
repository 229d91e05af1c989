"""MobileNetV2 trunk (Sandler et al., CVPR 2018) at stride 16, batch norm folded into the convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# inputs, outputs, stride, expansion, dilation of features 1..17; the last four keep stride 16 (DeepLabv3)
_BLOCKS = [
    (32, 16, 1, 1, 1),
    (16, 24, 2, 6, 1), (24, 24, 1, 6, 1),
    (24, 32, 2, 6, 1), (32, 32, 1, 6, 1), (32, 32, 1, 6, 1),
    (32, 64, 2, 6, 1), (64, 64, 1, 6, 1), (64, 64, 1, 6, 1), (64, 64, 1, 6, 1),
    (64, 96, 1, 6, 1), (96, 96, 1, 6, 1), (96, 96, 1, 6, 1),
    (96, 160, 1, 6, 1), (160, 160, 1, 6, 2), (160, 160, 1, 6, 2),
    (160, 320, 1, 6, 2),
]  # fmt: skip


class InvertedResidual(nn.Module):
    """Expand (1×1), filter (3×3 per channel), project (1×1); residual where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, dilation, dilation, groups=hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, outputs, 1),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetTrunk(nn.Module):
    """Features at strides 16, 8 and 4 with ``(out, 32, 24)`` channels.

    The stride-16 map joins features 13 (96 channels) and 17 (320 channels, dilated) by a 1×1 convolution.
    Skips are scaled by fixed constants to about unit spread.
    """

    skip8, skip4 = 32, 24
    _scale4, _scale8, _scale13, _scale17 = 0.13, 0.16, 0.22, 0.5

    def __init__(self, out: int) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6(inplace=True))
        self.features = nn.ModuleList([stem, *(InvertedResidual(*block) for block in _BLOCKS)])
        self.reduce = nn.Conv2d(96 + 320, out, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``image [B, 3, H, W]`` (ImageNet-normalised) gives ``f16, f8, f4``."""
        x = image
        kept: dict[int, Tensor] = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in (3, 6, 13, 17):
                kept[index] = x
        joined = torch.cat([kept[13] * self._scale13, kept[17] * self._scale17], 1)
        return self.reduce(joined), kept[6] * self._scale8, kept[3] * self._scale4

    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Fill the trunk from a torchvision-style ``mobilenet_v2`` state dict, folding its batch norms.

        Parameters
        ----------
        state: keys ``features.<i>...``; convolution and batch-norm tensors alternate.
        """
        for index, layer in enumerate(self.features):
            prefix = f"features.{index}."
            weights = [k for k in state if k.startswith(prefix) and k.endswith("weight") and state[k].dim() == 4]
            convs = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
            if len(weights) != len(convs):
                raise ValueError(f"{prefix}*: expected {len(convs)} convolutions, found {len(weights)}")
            for key, conv in zip(weights, convs, strict=True):
                head, number = key[: -len(".weight")].rsplit(".", 1)
                norm = {n: state[f"{head}.{int(number) + 1}.{n}"].float() for n in
                        ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
                scale = norm["weight"] / torch.sqrt(norm["running_var"] + 1e-5)
                conv.weight.data.copy_(state[key].float() * scale[:, None, None, None])
                assert conv.bias is not None
                conv.bias.data.copy_(norm["bias"] - norm["running_mean"] * scale)
