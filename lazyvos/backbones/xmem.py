"""XMem (Cheng & Schwing, ECCV 2022): key encoder, value encoder, sensory state and decoder.

One class builds the published network and the small ``tiny`` one; only :class:`XMemConfig` differs.
The state-dict keys of the published configuration are those of the authors' checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.layers import (
    FusionBlock,
    UpBlock,
    aggregate,
    evidence_logit,
    gated_update,
    per_object,
    resnet_stages,
    upsample,
)
from lazyvos.backbones.mobilenet import MobileNetTrunk
from lazyvos.backbones.value import LightValueEncoder


@dataclass(frozen=True)
class XMemConfig:
    """Sizes of an XMem. The defaults are the published network.

    ``key_dim`` C_k, ``value_dim`` C_v and ``hidden_dim`` C_h follow the paper (section 4); ``hidden_dim=0``
    removes the sensory memory. ``widths`` are the channels of the decoder at strides 16, 8 and 4.
    ``dropout`` is the share of key channels that training drops (0 = none; Monte-Carlo dropout).
    ``anisotropic=False`` leaves out shrinkage and selection: the plain squared distance, as STCN reads.
    ``evidential``: the decoder gives evidence for and against each object in place of one logit
    (``lazyvos.uncertainty.evidential``).
    """

    trunk: str = "resnet50"
    key_dim: int = 64
    value_dim: int = 512
    hidden_dim: int = 64
    widths: tuple[int, int, int] = (512, 256, 256)
    feature_dim: int = 1024
    attention: bool = True
    dropout: float = 0.0
    anisotropic: bool = True
    evidential: bool = False

    @staticmethod
    def tiny() -> XMemConfig:
        """The shipped small network: MobileNetV2 trunk, light value encoder, no CBAM."""
        return XMemConfig("mobilenetv2", 64, 128, 32, (128, 64, 48), 128, attention=False)

    @staticmethod
    def tiny_stm() -> XMemConfig:
        """The small network as a pure memory network: no sensory state, similarity of keys alone (the read of STCN)."""
        return replace(XMemConfig.tiny(), hidden_dim=0, anisotropic=False)

    @staticmethod
    def tiny_evidential() -> XMemConfig:
        """The small network with evidence in place of logits."""
        return replace(XMemConfig.tiny(), evidential=True)


class Features(NamedTuple):
    """Image features at strides 16, 8 and 4, ``[B, C, h, w]`` each."""

    f16: Tensor
    f8: Tensor
    f4: Tensor


class ResNetTrunk(nn.Module):
    """ResNet-50 up to its third stage, with the published names (``res2`` is the first stage)."""

    skip8, skip4 = 512, 256

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.res2, self.layer2, self.layer3 = resnet_stages(50)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, 2, 1)
        f4 = self.res2(x)
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class KeyProjection(nn.Module):
    """Key, and where wanted shrinkage and selection, from the stride-16 feature (XMem, section 3.2)."""

    def __init__(self, inputs: int, key_dim: int, anisotropic: bool = True) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(inputs, 1, 3, padding=1) if anisotropic else None
        self.e_proj = nn.Conv2d(inputs, key_dim, 3, padding=1) if anisotropic else None
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self.d_proj is None or self.e_proj is None:
            return self.key_proj(x).float(), None, None
        shrinkage = self.d_proj(x).float() ** 2 + 1
        return self.key_proj(x).float(), shrinkage, torch.sigmoid(self.e_proj(x).float())


class SensoryUpdate(nn.Module):
    """Gated update of the hidden state from the decoder's three scales (XMem, section 3.4)."""

    def __init__(self, widths: tuple[int, int, int], mid: int, hidden_dim: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(widths[0], mid, 1)
        self.g8_conv = nn.Conv2d(widths[1], mid, 1)
        self.g4_conv = nn.Conv2d(widths[2] + 1, mid, 1)
        self.transform = nn.Conv2d(mid + hidden_dim, hidden_dim * 3, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, hidden: Tensor) -> Tensor:
        def area(x: Tensor, by: int) -> Tensor:
            y = F.avg_pool2d(x.flatten(0, 1), by)
            return y.view(*x.shape[:2], *y.shape[1:])

        mixed = per_object(self.g16_conv, g16)
        mixed = mixed + per_object(self.g8_conv, area(g8, 2)) + per_object(self.g4_conv, area(g4, 4))
        return gated_update(self.transform, mixed, hidden)


class ValueTransform(nn.Module):
    """Gated "deep" update of the hidden state from a memory value."""

    def __init__(self, value_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(value_dim + hidden_dim, hidden_dim * 3, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, value: Tensor, hidden: Tensor) -> Tensor:
        return gated_update(self.transform, value, hidden)


class ResNetValueEncoder(nn.Module):
    """ResNet-18 on image, mask and others, fused with the key feature (XMem, section 3.3)."""

    def __init__(self, config: XMemConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(5, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2, self.layer3 = resnet_stages(18)
        self.fuser = FusionBlock(config.feature_dim, 256, config.value_dim, config.value_dim)
        self.hidden_reinforce = (
            ValueTransform(config.value_dim, config.hidden_dim) if config.hidden_dim else None
        )

    def forward(self, image: Tensor, features: Features, masks: Tensor, others: Tensor) -> Tensor:
        """``image [B, 3, H, W]``, ``masks`` and ``others [B, n, H, W]`` give ``[B, n, C_v, h, w]``."""
        batch, objects = masks.shape[:2]
        x = torch.cat(
            [image.unsqueeze(1).expand(-1, objects, -1, -1, -1), masks.unsqueeze(2), others.unsqueeze(2)], 2
        ).flatten(0, 1)
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(x)), 3, 2, 1))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fuser(features.f16, x.view(batch, objects, *x.shape[1:]))


class Decoder(nn.Module):
    """Readout and hidden state to a logit at stride 4, and the new hidden state."""

    def __init__(self, config: XMemConfig, skip8: int, skip4: int) -> None:
        super().__init__()
        w16, w8, w4 = config.widths
        self.fuser = FusionBlock(
            config.feature_dim, config.value_dim + config.hidden_dim, w16, w16, config.attention
        )
        self.hidden_update = (
            SensoryUpdate(config.widths, min(256, w16), config.hidden_dim) if config.hidden_dim else None
        )
        self.up_16_8 = UpBlock(skip8, w16, w8)
        self.up_8_4 = UpBlock(skip4, w8, w4)
        self.pred = nn.Conv2d(w4, 2 if config.evidential else 1, 3, padding=1)

    def forward(
        self, features: Features, readout: Tensor, hidden: Tensor | None, update: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Stride-4 logits ``[B, n, 1, H/4, W/4]`` and the (possibly new) hidden state.

        With evidence there are two channels, for and against, before softplus; half their difference stands for the logit in
        the hidden state, where a network that had one logit l and now says l and −l does as before.
        """
        joined = readout if hidden is None else torch.cat([readout, hidden], 2)
        g16 = self.fuser(features.f16, joined)
        g8 = self.up_16_8(features.f8, g16)
        g4 = self.up_8_4(features.f4, g8)
        logits = per_object(self.pred, F.relu(g4))
        if update and hidden is not None and self.hidden_update is not None:
            single = logits if logits.shape[2] == 1 else (logits[:, :, :1] - logits[:, :, 1:]) / 2
            hidden = self.hidden_update(g16, g8, torch.cat([g4, single], 2), hidden)
        return logits, hidden


class XMem(nn.Module):
    """The XMem network. Memory lives outside (``lazyvos.memory``); this class has no state of its own.

    Batch axes: frames ``[B, 3, H, W]`` ImageNet-normalised with H and W multiples of 16; masks and hidden
    states are grouped by object, ``[B, n, ...]``.
    """

    stride = 16
    top_k: int | None = 30

    def __init__(self, config: XMemConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or XMemConfig()
        self.key_encoder: nn.Module
        self.value_encoder: nn.Module
        if config.trunk == "resnet50":
            self.key_encoder = ResNetTrunk()
            self.value_encoder = ResNetValueEncoder(config)
        elif config.trunk == "mobilenetv2":
            self.key_encoder = MobileNetTrunk(config.feature_dim)
            self.value_encoder = LightValueEncoder(
                MobileNetTrunk.skip4, MobileNetTrunk.skip8, config.feature_dim, config.value_dim
            )
            if config.hidden_dim:
                self.value_encoder.hidden_reinforce = ValueTransform(config.value_dim, config.hidden_dim)
        else:
            raise ValueError(f"trunk must be 'resnet50' or 'mobilenetv2', not {config.trunk!r}")
        self.key_proj = KeyProjection(config.feature_dim, config.key_dim, config.anisotropic)
        self.decoder = Decoder(config, self.key_encoder.skip8, self.key_encoder.skip4)  # type: ignore[arg-type]
        self.gives = frozenset({"evidence"} if config.evidential else ())

    def encode_key(self, frames: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Features]:
        """Key ``[B, C_k, h, w]``, shrinkage ``[B, 1, h, w]`` (≥ 1), selection ``[B, C_k, h, w]`` in (0, 1), features.

        Shrinkage and selection are ``None`` without the anisotropic similarity.
        """
        features = Features(*self.key_encoder(frames))
        key, shrinkage, selection = self.key_proj(features.f16)
        if self.config.dropout:
            key = F.dropout2d(key, self.config.dropout, self.training)
        return key, shrinkage, selection, features

    def encode_value(
        self, frames: Tensor, features: Features, masks: Tensor, hidden: Tensor | None, deep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Value ``[B, n, C_v, h, w]`` of soft masks ``[B, n, H, W]``, and the hidden state after a deep update."""
        others = masks.sum(1, keepdim=True) - masks if masks.shape[1] > 1 else torch.zeros_like(masks)
        value = self.value_encoder(frames, features, masks, others)
        reinforce = self.value_encoder.hidden_reinforce
        if deep and hidden is not None and reinforce is not None:
            hidden = reinforce(value, hidden)  # type: ignore[operator]
        return value, hidden

    def segment(
        self, features: Features, readout: Tensor, hidden: Tensor | None, update: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Object logits ``[B, n, H, W]`` before sigmoid and aggregation, and the hidden state."""
        if self.config.evidential:
            evidence, hidden = self.segment_evidence(features, readout, hidden, update)
            return evidence_logit(evidence, 2), hidden
        logits, hidden = self.decoder(features, readout, hidden, update)
        return upsample(logits.squeeze(2).float(), scale=4), hidden

    def segment_evidence(
        self, features: Features, readout: Tensor, hidden: Tensor | None, update: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Evidence ``[B, n, 2, H, W]``, at least 0, for and against each object, and the hidden state; only where ``evidential``."""
        raw, hidden = self.decoder(features, readout, hidden, update)
        return F.softplus(upsample(raw.flatten(0, 1).float(), scale=4)).unflatten(0, raw.shape[:2]), hidden

    # The four verbs of lazyvos.backbones.base.Backbone: one clip, no batch axis.

    def encode(self, image: Tensor, state: Tensor | None = None) -> Query:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        key, shrinkage, selection, features = self.encode_key(image.unsqueeze(0))
        address = address_query(key.flatten(2), None if selection is None else selection.flatten(2))
        return Query(key[0], address[0], features, None if shrinkage is None else shrinkage[0])

    def initial_state(self, objects: int, grid: tuple[int, int]) -> Tensor | None:
        """Zeros ``[O, C_h, h, w]``, or ``None`` without sensory memory."""
        if not self.config.hidden_dim:
            return None
        return torch.zeros(objects, self.config.hidden_dim, *grid, device=self.decoder.pred.weight.device)

    def decode(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`; the state gets the normal update."""
        hidden = None if state is None else state.unsqueeze(0)
        logits, hidden = self.segment(query.features, readout.unsqueeze(0), hidden)
        return logits[0], None if hidden is None else hidden[0].float()

    def decode_evidence(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """As :meth:`decode`, with the evidence ``[O, 2, H, W]`` that its logits come from; only where ``evidential``."""
        hidden = None if state is None else state.unsqueeze(0)
        evidence, hidden = self.segment_evidence(query.features, readout.unsqueeze(0), hidden)
        return evidence[0], None if hidden is None else hidden[0].float()

    def weighted_address(self, query: Query, weights: Tensor) -> Tensor:
        """See :class:`lazyvos.backbones.base.Weighs`; the weights multiply the selection."""
        first, second, constant = query.address.split([len(query.key), len(query.key), 1])
        by_channel = weights.unsqueeze(2)
        first = by_channel * first  # −e w
        if self.config.anisotropic:
            constant = (first * query.key.flatten(1) ** 2).sum(1, keepdim=True)
        else:
            constant = constant.expand(len(weights), -1, -1)
        return torch.cat([first, by_channel * second, constant], 1).transpose(0, 1).flatten(1)

    def memorise(
        self, t: int, query: Query, image: Tensor, prob: Tensor, objects: tuple[int, ...], state: Tensor | None, deep: bool
    ) -> tuple[Entry, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`; ``deep`` is XMem's update from the memory value."""
        hidden = None if state is None else state.unsqueeze(0)
        value, hidden = self.encode_value(image.unsqueeze(0), query.features, prob.unsqueeze(0), hidden, deep)
        shrinkage = None if query.shrinkage is None else query.shrinkage.flatten(1)
        address = address_memory(query.key.flatten(1), shrinkage).unsqueeze(0)
        entry = Entry(
            t, query.key.unsqueeze(0), address, value[0].float(), objects,
            shrinkage=None if query.shrinkage is None else query.shrinkage.unsqueeze(0), query_address=query.address.unsqueeze(0),
        )  # fmt: skip
        return entry, None if hidden is None else hidden[0].float()


def address_memory(key: Tensor, shrinkage: Tensor | None) -> Tensor:
    """Memory side of the anisotropic similarity as an inner product (XMem, section 3.2).

    ``key [..., C_k, N]`` and ``shrinkage [..., 1, N]`` give ``s·[k², k, 1] / √C_k`` of ``[..., 2·C_k + 1, N]``,
    so that one matrix product with :func:`address_query` yields ``−s·Σ_c e_c (k_c − q_c)² / √C_k``.
    """
    stacked = torch.cat([key**2, key, torch.ones_like(key[..., :1, :])], -2)
    scale = 1 / math.sqrt(key.shape[-2])
    return stacked * scale if shrinkage is None else stacked * (shrinkage * scale)


def address_query(key: Tensor, selection: Tensor | None) -> Tensor:
    """Query side: ``[−e, 2·e·q, −Σ e·q²]`` of ``[..., 2·C_k + 1, N]``.

    Without a selection the constant ``|q|²`` is left out, as published.
    """
    if selection is None:
        constant = torch.zeros_like(key[..., :1, :])
        return torch.cat([-torch.ones_like(key), 2 * key, constant], -2)
    weighted = selection * key
    return torch.cat([-selection, 2 * weighted, -(weighted * key).sum(-2, keepdim=True)], -2)


__all__ = ["Features", "XMem", "XMemConfig", "address_memory", "address_query", "aggregate"]
