"""Building blocks that several published networks share.

Names of sub-modules follow the published checkpoints, so that their state dicts load unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def upsample(x: Tensor, *, scale: float | None = None, size: tuple[int, int] | None = None) -> Tensor:
    """Bilinear resize of ``[B, C, H, W]`` without corner alignment."""
    return F.interpolate(x, scale_factor=scale, size=size, mode="bilinear", align_corners=False)


def per_object(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a 2-D module to a grouped tensor ``[B, n, C, H, W]`` with shared weights."""
    batch, objects = x.shape[:2]
    y = module(x.flatten(0, 1))
    return y.view(batch, objects, *y.shape[1:])


class ResidualBlock(nn.Module):
    """Pre-activation residual block without normalisation (STM, Oh et al. 2019, figure 3).

    ``y = conv2(relu(conv1(relu(x)))) + shortcut(x)``; the shortcut is a 3×3 convolution called
    ``downsample`` when the number of channels changes.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(inputs, outputs, 3, padding=1) if inputs != outputs else None
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv2(F.relu(self.conv1(F.relu(x))))
        return residual + (x if self.downsample is None else self.downsample(x))


class ChannelGate(nn.Module):
    """Channel attention of CBAM (Woo et al. 2018, section 3): average and maximum share one MLP."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 16
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        gate = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        return x * torch.sigmoid(gate)[..., None, None]


class _SpatialConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class SpatialGate(nn.Module):
    """Spatial attention of CBAM: maximum and mean over channels, one 7×7 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = _SpatialConv()

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """Channel gate, then spatial gate (Woo et al., ECCV 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class FusionBlock(nn.Module):
    """Join an image feature with an object feature: residual block, CBAM, residual block.

    ``attention=False`` leaves the CBAM out (small networks).
    """

    def __init__(self, image: int, object_: int, mid: int, out: int, attention: bool = True) -> None:
        super().__init__()
        self.block1 = ResidualBlock(image + object_, mid)
        self.attention = CBAM(mid) if attention else None
        self.block2 = ResidualBlock(mid, out)

    def forward(self, image: Tensor, grouped: Tensor) -> Tensor:
        """``image [B, C, h, w]`` and ``grouped [B, n, C', h, w]`` give ``[B, n, out, h, w]``."""
        batch, objects = grouped.shape[:2]
        joined = torch.cat([image.unsqueeze(1).expand(-1, objects, -1, -1, -1), grouped], 2)
        x = self.block1(joined.flatten(0, 1))
        x = self.block2(x if self.attention is None else x + self.attention(x))
        return x.view(batch, objects, *x.shape[1:])


class UpBlock(nn.Module):
    """One step of the decoder: skip convolution, add the upsampled coarse map, residual block."""

    def __init__(self, skip: int, up: int, out: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, up, 3, padding=1)
        self.out_conv = ResidualBlock(up, out)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """``skip [B, C, H, W]`` and ``coarse [B, n, up, H/2, W/2]`` give ``[B, n, out, H, W]``."""
        batch, objects = coarse.shape[:2]
        fine = upsample(coarse.flatten(0, 1), scale=2)
        fine = fine.view(batch, objects, *fine.shape[1:]) + self.skip_conv(skip).unsqueeze(1)
        return per_object(self.out_conv, fine)


def gated_update(transform: nn.Module, x: Tensor, hidden: Tensor) -> Tensor:
    """Sensory update of XMem (section 3.4): forget, update and candidate from one convolution.

    ``x [B, n, C, h, w]`` and ``hidden [B, n, Ch, h, w]`` give the new hidden state. The candidate is
    computed before forgetting, unlike a textbook GRU.
    """
    channels = hidden.shape[2]
    values = per_object(transform, torch.cat([x, hidden], 2))
    forget = torch.sigmoid(values[:, :, :channels])
    update = torch.sigmoid(values[:, :, channels : 2 * channels])
    candidate = torch.tanh(values[:, :, 2 * channels :])
    return forget * hidden * (1 - update) + update * candidate


def aggregate(prob: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Soft aggregation (STM, Oh et al. 2019, equation 6): independent object probabilities to a distribution.

    Parameters
    ----------
    prob: object probabilities, float, the object axis is ``dim``.

    Returns
    -------
    ``(logits, probabilities)``, both with one more channel: the background, first.
    """
    background = torch.prod(1 - prob, dim, keepdim=True)
    clamped = torch.cat([background, prob], dim).float().clamp(1e-7, 1 - 1e-7)
    logits = torch.log(clamped / (1 - clamped))
    return logits, torch.softmax(logits, dim)


def evidence_logit(evidence: Tensor, dim: int) -> Tensor:
    """Logit of the mean of a Beta: ``ln(e_for + 1) − ln(e_against + 1)`` of evidence ``[..., 2, ...]`` along ``dim``."""
    speaks_for, against = torch.log1p(evidence).unbind(dim)
    return speaks_for - against


class Bottleneck(nn.Module):
    """ResNet bottleneck (He et al. 2016), stride on the 3×3 convolution."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(nn.Module):
    """ResNet basic block (He et al. 2016)."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int, bias: bool) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs))


def resnet_stages(depth: int, bias: bool = False) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """First three stages of a ResNet-18 or ResNet-50 (torchvision layout), strides 4, 8 and 16."""
    if depth not in (18, 50):
        raise ValueError(f"resnet depth must be 18 or 50, not {depth}")
    block: type[BasicBlock] | type[Bottleneck] = BasicBlock if depth == 18 else Bottleneck
    counts = (2, 2, 2) if depth == 18 else (3, 4, 6)
    stages, channels = [], 64
    for index, (planes, count) in enumerate(zip((64, 128, 256), counts, strict=True)):
        blocks: list[nn.Module] = []
        for position in range(count):
            stride = 2 if index > 0 and position == 0 else 1
            blocks.append(block(channels, planes, stride, bias))
            channels = planes * block.expansion
        stages.append(nn.Sequential(*blocks))
    return stages[0], stages[1], stages[2]
