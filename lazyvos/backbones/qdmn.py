"""QDMN (Liu et al., ECCV 2022): a space-time memory network that predicts how good its own masks are.

MiVOS's network (``lazyvos.backbones.mivos``) with three additions: the previous mask gates the query feature, an ASPP block
stands before the decoder, and a head scores each memorised mask. ``lazyvos.memory.qdmn`` uses the scores. The state-dict
keys of the published configuration are those of the authors' checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.layers import aggregate, per_object, upsample
from lazyvos.backbones.mivos import (
    Decoder,
    KeyValue,
    MaskRGBEncoder,
    QueryFeatures,
    RGBEncoder,
    address_memory,
    join,
    weighted_address,
)


@dataclass(frozen=True)
class QDMNConfig:
    """Sizes of a QDMN. The defaults are the published network.

    ``depth`` of both ResNets (18 or 50), ``key_dim`` C_k, ``value_dim`` C_v, ``widths``: channels of the decoder at strides 16,
    8 and 4. ``aspp_dim``: channels of each ASPP branch; ``score_dim`` and ``score_hidden``: channels and hidden units of the
    quality head.
    """

    depth: int = 50
    key_dim: int = 128
    value_dim: int = 512
    widths: tuple[int, int, int] = (512, 256, 256)
    aspp_dim: int = 256
    score_dim: int = 256
    score_hidden: int = 1024

    @staticmethod
    def small() -> QDMNConfig:
        """ResNet-18 trunks and narrow layers, for quick runs with random weights."""
        return QDMNConfig(18, 32, 64, (64, 32, 32), 32, 16, 32)


class AtrousBranch(nn.Module):
    """Dilated convolution (1×1 for ``dilation=0``), batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        kernel = 3 if dilation else 1
        self.atrous_conv = nn.Conv2d(
            inputs, outputs, kernel, padding=dilation, dilation=max(1, dilation), bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017): dilations 6, 12, 18, a 1×1 convolution and the global mean."""

    def __init__(self, channels: int, branch: int) -> None:
        super().__init__()
        self.aspp1 = AtrousBranch(channels, branch, 0)
        self.aspp2 = AtrousBranch(channels, branch, 6)
        self.aspp3 = AtrousBranch(channels, branch, 12)
        self.aspp4 = AtrousBranch(channels, branch, 18)
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, branch, 1, bias=False), nn.BatchNorm2d(branch), nn.ReLU()
        )
        self.conv1 = nn.Conv2d(5 * branch, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` to the same shape."""
        pooled = self.global_avg_pool(x).expand(-1, -1, *x.shape[-2:])
        y = torch.cat([self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled], 1)
        return self.dropout(F.relu(self.bn1(self.conv1(y))))


class QualityHead(nn.Module):
    """Quality assessment module (section 3.2): the IoU that a mask is expected to have with the truth, at least 0."""

    grid = 24

    def __init__(self, inputs: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv4 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.fc1 = nn.Linear(channels * (self.grid // 2) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Memory feature ``[B, C, h, w]``, resized to 24×24, to scores ``float32 [B, 1]``."""
        x = upsample(x, size=(self.grid, self.grid))
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(conv(x))
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))).float()


class QDMN(nn.Module):
    """The QDMN network. Memory lives outside (``lazyvos.memory``).

    Batch axes: frames ``[B, 3, H, W]`` ImageNet-normalised with H and W multiples of 16; masks are grouped by object,
    ``[B, n, H, W]``. The recurrent state of the tracker is the previous frame's soft masks ``[O, H, W]``.
    """

    stride = 16
    top_k: int | None = 50
    state_is_mask = True
    gives = frozenset({"quality"})

    def __init__(self, config: QDMNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or QDMNConfig()
        self.mask_rgb_encoder = MaskRGBEncoder(config.depth)
        self.rgb_encoder = RGBEncoder(config.depth, bias=True)
        c16, c8, c4 = self.rgb_encoder.channels
        self.kv_m_f16 = KeyValue(c16, config.key_dim, config.value_dim)
        self.kv_q_f16 = KeyValue(c16, config.key_dim, config.value_dim)
        self.decoder = Decoder(2 * config.value_dim, (c8, c4), config.widths)
        self.aspp = ASPP(2 * config.value_dim, config.aspp_dim)
        self.score = QualityHead(c16, config.score_dim, config.score_hidden)
        self.concat_conv = nn.Conv2d(c16 + 1, 1, 3, padding=1)

    def gate(self, f16: Tensor, previous: Tensor) -> Tensor:
        """Where the previous mask says to look: ``f16 [B, C, h, w]``, ``previous [B, 1, H, W]`` to ``[B, 1, h, w]`` in (0, 1)."""
        prior = upsample(previous, size=(f16.shape[-2], f16.shape[-1]))
        return torch.sigmoid(self.concat_conv(torch.cat([f16, prior], 1)))

    def encode_query(self, frames: Tensor, previous: Tensor) -> tuple[Tensor, QueryFeatures]:
        """Query key ``[B, C_k, h, w]`` and the features for :meth:`segment`; ``f16`` is the gated one, ``f8`` and ``f4`` are not.

        ``previous [B, 1, H, W]``: the largest of the objects' soft masks on the frame before.
        """
        f16, f8, f4 = self.rgb_encoder(frames)
        f16 = f16 * self.gate(f16, previous)
        key, value = self.kv_q_f16(f16)
        return key, QueryFeatures(f16, f8, f4, value)

    def encode_memory(self, frames: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys ``[B, n, C_k, h, w]``, values ``[B, n, C_v, h, w]`` and quality ``[B, n]`` of soft masks ``[B, n, H, W]``."""
        f16 = self.mask_rgb_encoder(frames, masks).flatten(0, 1)
        key, value = self.kv_m_f16(f16)
        group = masks.shape[:2]
        return key.view(*group, *key.shape[1:]), value.float().view(*group, *value.shape[1:]), self.score(f16).view(group)

    def segment(self, features: QueryFeatures, readout: Tensor) -> Tensor:
        """Object logits ``[B, n, H, W]`` of ``readout [B, n, C_v, h, w]``, before sigmoid and aggregation."""
        joined = per_object(self.aspp, join(readout, features.value))
        return self.decoder(joined, features.f8, features.f4)

    def entry(self, t: int, image: Tensor, masks: Tensor, objects: tuple[int, ...]) -> Entry:
        """Frame ``t`` with soft masks ``[O, H, W]`` as the memory stores it."""
        key, value, quality = self.encode_memory(image.unsqueeze(0), masks.unsqueeze(0))
        return Entry(t, key[0], address_memory(key[0].flatten(2)), value[0], objects, quality[0])

    # The four verbs of lazyvos.backbones.base.Backbone: one clip, no batch axis.

    def encode(self, image: Tensor, state: Tensor | None = None) -> Query:
        """See :class:`lazyvos.backbones.base.Backbone`; ``state [O or 1, H, W]``: soft masks of the previous frame (none: zeros)."""
        if state is None or not len(state):
            state = torch.zeros_like(image[:1])
        key, features = self.encode_query(image.unsqueeze(0), state.amax(0)[None, None])
        return Query(key[0], key[0].flatten(1), features)

    def initial_state(self, objects: int, grid: tuple[int, int]) -> Tensor | None:
        """Empty masks ``[O, H, W]``."""
        size = grid[0] * self.stride, grid[1] * self.stride
        return torch.zeros(objects, *size, device=self.concat_conv.weight.device)

    def decode(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`; the new state are the aggregated soft masks ``[O, H, W]``."""
        logits = self.segment(query.features, readout.unsqueeze(0))[0]
        return logits, aggregate(torch.sigmoid(logits), 0)[1][1:]

    def weighted_address(self, query: Query, weights: Tensor) -> Tensor:
        """See :class:`lazyvos.backbones.base.Weighs`."""
        return weighted_address(query, weights)

    def memorise(
        self, t: int, query: Query, image: Tensor, prob: Tensor, objects: tuple[int, ...], state: Tensor | None, deep: bool
    ) -> tuple[Entry, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`; the entry has a key and a quality per object, the state are ``prob``."""
        return self.entry(t, image, prob, objects), prob
