"""STCN (Cheng, Tai & Tang, NeurIPS 2021): keys of the image alone, negative squared distance, one affinity for all objects.

The state-dict keys of the published configuration are those of the authors' checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.layers import FusionBlock, ResidualBlock, UpBlock, per_object, resnet_stages, upsample
from lazyvos.backbones.mivos import RGBEncoder, join, trunk_channels, with_masks


@dataclass(frozen=True)
class STCNConfig:
    """Sizes of an STCN. The defaults are the published network.

    ``depth`` of the key encoder's ResNet (18 or 50; the value encoder's is always 18), ``key_dim`` C_k, ``value_dim`` C_v, and
    ``widths``, the channels of the decoder at strides 16, 8 and 4.
    """

    depth: int = 50
    key_dim: int = 64
    value_dim: int = 512
    widths: tuple[int, int, int] = (512, 256, 256)

    @staticmethod
    def small() -> STCNConfig:
        """ResNet-18 trunks and narrow layers, for quick runs with random weights."""
        return STCNConfig(18, 32, 64, (64, 32, 32))


class Features(NamedTuple):
    """Image features at strides 16, 8 and 4, and the thin stride-16 feature in the role of the query's value."""

    f16: Tensor
    f8: Tensor
    f4: Tensor
    thin: Tensor


class ObjectFirstFusion(FusionBlock):
    """:class:`FusionBlock` with the object's feature in front of the image's (XMem has the opposite order)."""

    def forward(self, image: Tensor, grouped: Tensor) -> Tensor:
        """``image [B, C, h, w]`` and ``grouped [B, n, C', h, w]`` give ``[B, n, out, h, w]``."""
        assert self.attention is not None
        x = self.block1(join(grouped, image).flatten(0, 1))
        x = self.block2(x + self.attention(x))
        return x.view(*grouped.shape[:2], *x.shape[1:])


class ValueEncoder(nn.Module):
    """ResNet-18 (convolutions with biases) on image, mask and other masks, fused with the key encoder's feature."""

    def __init__(self, feature: int, value_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(5, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2, self.layer3 = resnet_stages(18, bias=True)
        self.fuser = ObjectFirstFusion(feature, trunk_channels(18)[0], value_dim, value_dim)

    def forward(self, images: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """``images [B, 3, H, W]``, ``f16 [B, C, h, w]`` and ``masks [B, n, H, W]`` give ``[B, n, C_v, h, w]``."""
        x = F.relu(self.bn1(self.conv1(with_masks(images, masks))))
        x = self.layer3(self.layer2(self.layer1(F.max_pool2d(x, 3, 2, 1))))
        return self.fuser(f16, x.view(*masks.shape[:2], *x.shape[1:]))


class KeyProjection(nn.Module):
    """Key of the stride-16 feature."""

    def __init__(self, inputs: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.key_proj(x).float()


class Decoder(nn.Module):
    """Joined readout and thin query feature to logits."""

    def __init__(self, inputs: int, skips: tuple[int, int], widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.compress = ResidualBlock(inputs, widths[0])
        self.up_16_8 = UpBlock(skips[0], widths[0], widths[1])
        self.up_8_4 = UpBlock(skips[1], widths[1], widths[2])
        self.pred = nn.Conv2d(widths[2], 1, 3, padding=1)

    def forward(self, joined: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
        """``joined [B, n, C, h, w]`` and the skips ``[B, C, ...]`` give ``float32`` logits ``[B, n, H, W]``."""
        x = per_object(self.compress, joined)
        x = self.up_8_4(f4, self.up_16_8(f8, x))
        logits = per_object(self.pred, F.relu(x))
        return upsample(logits.squeeze(2).float(), scale=4)


class STCN(nn.Module):
    """The STCN network. Memory lives outside (``lazyvos.memory``); there is no recurrent state.

    Batch axes: frames ``[B, 3, H, W]`` ImageNet-normalised with H and W multiples of 16; masks are grouped by object,
    ``[B, n, H, W]``.
    """

    stride = 16
    top_k: int | None = 20

    def __init__(self, config: STCNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or STCNConfig()
        self.key_encoder = RGBEncoder(config.depth)
        c16, c8, c4 = self.key_encoder.channels
        self.value_encoder = ValueEncoder(c16, config.value_dim)
        self.key_proj = KeyProjection(c16, config.key_dim)
        self.key_comp = nn.Conv2d(c16, config.value_dim, 3, padding=1)
        self.decoder = Decoder(2 * config.value_dim, (c8, c4), config.widths)

    def encode_key(self, frames: Tensor) -> tuple[Tensor, Features]:
        """Key ``[B, C_k, h, w]`` and the features for :meth:`encode_value` and :meth:`segment`."""
        f16, f8, f4 = self.key_encoder(frames)
        return self.key_proj(f16), Features(f16, f8, f4, self.key_comp(f16))

    def encode_value(self, frames: Tensor, features: Features, masks: Tensor) -> Tensor:
        """Value ``[B, n, C_v, h, w]`` of soft masks ``[B, n, H, W]``."""
        return self.value_encoder(frames, features.f16, masks).float()

    def segment(self, features: Features, readout: Tensor) -> Tensor:
        """Object logits ``[B, n, H, W]`` of ``readout [B, n, C_v, h, w]``, before sigmoid and aggregation."""
        return self.decoder(join(readout, features.thin), features.f8, features.f4)

    # The four verbs of lazyvos.backbones.base.Backbone: one clip, no batch axis.

    def encode(self, image: Tensor, state: Tensor | None = None) -> Query:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        key, features = self.encode_key(image.unsqueeze(0))
        return Query(key[0], address_query(key[0].flatten(1)), features)

    def initial_state(self, objects: int, grid: tuple[int, int]) -> Tensor | None:
        """``None``: there is no recurrent state."""
        return None

    def decode(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        return self.segment(query.features, readout.unsqueeze(0))[0], None

    def memorise(
        self, t: int, query: Query, image: Tensor, prob: Tensor, objects: tuple[int, ...], state: Tensor | None, deep: bool
    ) -> tuple[Entry, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`; all objects share the query's key."""
        value = self.encode_value(image.unsqueeze(0), query.features, prob.unsqueeze(0))
        address = address_memory(query.key.flatten(1)).unsqueeze(0)
        return Entry(t, query.key.unsqueeze(0), address, value[0], objects, query_address=query.address.unsqueeze(0)), None


def address_memory(key: Tensor) -> Tensor:
    """Memory side of (2mᵀq − |m|²)/√C_k as an inner product: ``[m, |m|²]/√C_k``.

    ``key [..., C_k, N]`` gives ``[..., C_k + 1, N]``. The constant |q|² is left out, as published.
    """
    return torch.cat([key, key.square().sum(-2, keepdim=True)], -2) / math.sqrt(key.shape[-2])


def address_query(key: Tensor) -> Tensor:
    """Query side: ``[2q, −1]`` of ``key [..., C_k, N]``."""
    return torch.cat([2 * key, -torch.ones_like(key[..., :1, :])], -2)
