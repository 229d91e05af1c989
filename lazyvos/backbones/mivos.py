"""MiVOS's propagation network (Cheng, Tai & Tang, CVPR 2021): space-time memory with one key per object.

A descendant of STM (Oh et al., ICCV 2019). Memory keys come from image *and* mask, so every object has keys, and an
affinity, of its own. The state-dict keys of the published configuration are those of the authors' checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.layers import ResidualBlock, per_object, resnet_stages, upsample


@dataclass(frozen=True)
class MiVOSConfig:
    """Sizes of a MiVOS propagation network. The defaults are the published ones.

    ``depth`` of both ResNets (18 or 50), ``key_dim`` C_k, ``value_dim`` C_v, and ``widths``, the channels of the decoder at
    strides 16, 8 and 4.
    """

    depth: int = 50
    key_dim: int = 128
    value_dim: int = 512
    widths: tuple[int, int, int] = (512, 256, 256)

    @staticmethod
    def small() -> MiVOSConfig:
        """ResNet-18 trunks and narrow layers, for quick runs with random weights."""
        return MiVOSConfig(18, 32, 64, (64, 32, 32))


def trunk_channels(depth: int) -> tuple[int, int, int]:
    """Channels of a ResNet trunk at strides 16, 8 and 4."""
    return (256, 128, 64) if depth == 18 else (1024, 512, 256)


def others(masks: Tensor) -> Tensor:
    """For each object the sum of the masks of all other objects; ``[B, n, H, W]`` to the same shape."""
    return masks.sum(1, keepdim=True) - masks if masks.shape[1] > 1 else torch.zeros_like(masks)


def with_masks(images: Tensor, masks: Tensor) -> Tensor:
    """Image, mask of the object and :func:`others` of each object: ``[B·n, 5, H, W]``.

    ``images [B, 3, H, W]``, ``masks [B, n, H, W]``.
    """
    count = masks.shape[1]
    planes = [images.unsqueeze(1).expand(-1, count, -1, -1, -1), masks.unsqueeze(2), others(masks).unsqueeze(2)]
    return torch.cat(planes, 2).flatten(0, 1)


class RGBEncoder(nn.Module):
    """ResNet of a query frame up to its third stage; ``res2`` is the first stage, as in the checkpoints.

    ``bias``: all convolutions have one (QDMN's checkpoint has them, MiVOS's and STCN's have not).
    """

    def __init__(self, depth: int = 50, bias: bool = False) -> None:
        super().__init__()
        self.channels = trunk_channels(depth)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=bias)
        self.bn1 = nn.BatchNorm2d(64)
        self.res2, self.layer2, self.layer3 = resnet_stages(depth, bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, 3, H, W]`` to the features ``f16, f8, f4`` at strides 16, 8 and 4."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        f4 = self.res2(x)
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class MaskRGBEncoder(nn.Module):
    """ResNet of a memory frame: image, mask of one object, sum of the other masks. All convolutions have biases."""

    def __init__(self, depth: int = 50) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(5, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2, self.layer3 = resnet_stages(depth, bias=True)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """``images [B, 3, H, W]`` and ``masks [B, n, H, W]`` to the stride-16 feature ``[B, n, C, h, w]``."""
        x = F.relu(self.bn1(self.conv1(with_masks(images, masks))))
        x = self.layer3(self.layer2(self.layer1(F.max_pool2d(x, 3, 2, 1))))
        return x.view(*masks.shape[:2], *x.shape[1:])


class KeyValue(nn.Module):
    """Key and value of a stride-16 feature: two convolutions."""

    def __init__(self, inputs: int, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        self.val_proj = nn.Conv2d(inputs, value_dim, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, h, w]`` to ``float32`` key ``[B, C_k, h, w]`` and value ``[B, C_v, h, w]``."""
        return self.key_proj(x).float(), self.val_proj(x)


class RefineBlock(nn.Module):
    """One step of STM's decoder: the skip passes a convolution and a residual block before the coarse map is added."""

    def __init__(self, skip: int, up: int, out: int) -> None:
        super().__init__()
        self.skip_conv1 = nn.Conv2d(skip, up, 3, padding=1)
        self.skip_conv2 = ResidualBlock(up, up)
        self.out_conv = ResidualBlock(up, out)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """``skip [B, C, H, W]`` and ``coarse [B, n, up, H/2, W/2]`` give ``[B, n, out, H, W]``."""
        fine = upsample(coarse.flatten(0, 1), scale=2)
        fine = fine.view(*coarse.shape[:2], *fine.shape[1:]) + self.skip_conv2(self.skip_conv1(skip)).unsqueeze(1)
        return per_object(self.out_conv, fine)


class Decoder(nn.Module):
    """Joined readout and query value to logits (STM, figure 3)."""

    def __init__(self, inputs: int, skips: tuple[int, int], widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.compress = ResidualBlock(inputs, widths[0])
        self.up_16_8 = RefineBlock(skips[0], widths[0], widths[1])
        self.up_8_4 = RefineBlock(skips[1], widths[1], widths[2])
        self.pred = nn.Conv2d(widths[2], 1, 3, padding=1)

    def forward(self, joined: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
        """``joined [B, n, C, h, w]`` and the skips ``[B, C, ...]`` give ``float32`` logits ``[B, n, H, W]``."""
        x = per_object(self.compress, joined)
        x = self.up_8_4(f4, self.up_16_8(f8, x))
        logits = per_object(self.pred, F.relu(x))
        return upsample(logits.squeeze(2).float(), scale=4)


def join(readout: Tensor, value: Tensor) -> Tensor:
    """Readout ``[B, n, C, h, w]`` first, then the query's value ``[B, C', h, w]``, the same for all objects."""
    return torch.cat([readout, value.unsqueeze(1).expand(-1, readout.shape[1], -1, -1, -1)], 2)


class QueryFeatures(NamedTuple):
    """What decoding needs of a query frame: ``f16, f8, f4`` and the query value, ``[B, C, h, w]`` each."""

    f16: Tensor
    f8: Tensor
    f4: Tensor
    value: Tensor


def address_memory(key: Tensor) -> Tensor:
    """Memory side of the similarity mᵀq/√C_k: ``key [..., C_k, N]`` divided by √C_k."""
    return key / math.sqrt(key.shape[-2])


def weighted_address(query: Query, weights: Tensor) -> Tensor:
    """Query side of Σ_c w_c m_c q_c/√C_k; see :class:`lazyvos.backbones.base.Weighs`."""
    return (weights.unsqueeze(2) * query.address).transpose(0, 1).flatten(1)


class MiVOS(nn.Module):
    """The propagation network. Memory lives outside (``lazyvos.memory``); there is no recurrent state.

    Batch axes: frames ``[B, 3, H, W]`` ImageNet-normalised with H and W multiples of 16; masks are grouped by object,
    ``[B, n, H, W]``.
    """

    stride = 16
    top_k: int | None = 50

    def __init__(self, config: MiVOSConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MiVOSConfig()
        self.mask_rgb_encoder = MaskRGBEncoder(config.depth)
        self.rgb_encoder = RGBEncoder(config.depth)
        c16, c8, c4 = self.rgb_encoder.channels
        self.kv_m_f16 = KeyValue(c16, config.key_dim, config.value_dim)
        self.kv_q_f16 = KeyValue(c16, config.key_dim, config.value_dim)
        self.decoder = Decoder(2 * config.value_dim, (c8, c4), config.widths)

    def encode_query(self, frames: Tensor) -> tuple[Tensor, QueryFeatures]:
        """Query key ``[B, C_k, h, w]`` and the features for :meth:`segment`."""
        f16, f8, f4 = self.rgb_encoder(frames)
        key, value = self.kv_q_f16(f16)
        return key, QueryFeatures(f16, f8, f4, value)

    def encode_memory(self, frames: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Keys ``[B, n, C_k, h, w]`` and values ``[B, n, C_v, h, w]`` of soft masks ``[B, n, H, W]``."""
        f16 = self.mask_rgb_encoder(frames, masks)
        key, value = self.kv_m_f16(f16.flatten(0, 1))
        group = masks.shape[:2]
        return key.view(*group, *key.shape[1:]), value.float().view(*group, *value.shape[1:])

    def segment(self, features: QueryFeatures, readout: Tensor) -> Tensor:
        """Object logits ``[B, n, H, W]`` of ``readout [B, n, C_v, h, w]``, before sigmoid and aggregation."""
        return self.decoder(join(readout, features.value), features.f8, features.f4)

    # The four verbs of lazyvos.backbones.base.Backbone: one clip, no batch axis.

    def encode(self, image: Tensor, state: Tensor | None = None) -> Query:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        key, features = self.encode_query(image.unsqueeze(0))
        return Query(key[0], key[0].flatten(1), features)

    def initial_state(self, objects: int, grid: tuple[int, int]) -> Tensor | None:
        """``None``: there is no recurrent state."""
        return None

    def decode(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        return self.segment(query.features, readout.unsqueeze(0))[0], None

    def weighted_address(self, query: Query, weights: Tensor) -> Tensor:
        """See :class:`lazyvos.backbones.base.Weighs`."""
        return weighted_address(query, weights)

    def memorise(
        self, t: int, query: Query, image: Tensor, prob: Tensor, objects: tuple[int, ...], state: Tensor | None, deep: bool
    ) -> tuple[Entry, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`; the entry has one key per object."""
        key, value = self.encode_memory(image.unsqueeze(0), prob.unsqueeze(0))
        return Entry(t, key[0], address_memory(key[0].flatten(2)), value[0], objects), None
