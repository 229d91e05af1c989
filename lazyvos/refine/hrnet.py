"""HRNet (Wang et al. 2020) with an object-contextual head (OCR, Yuan et al. 2020), as RITM cuts it for clicks.

Names of sub-modules follow the published RITM checkpoints (prefix ``feature_extractor.``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.layers import BasicBlock, Bottleneck


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of ``[B, C, H, W]`` to ``size = (height, width)`` with aligned corners."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias, BN, and ReLU where wanted."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs),
    ]  # fmt: skip
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class HRModule(nn.Module):
    """Parallel branches of basic blocks, then every branch receives the sum of all (HRNet, section 3).

    ``widths`` are the channels of the branches, at strides 4, 8, 16, 32; ``blocks`` the basic blocks in each.
    """

    def __init__(self, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(w, w) for _ in range(blocks))) for w in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleDict({str(j): self._path(widths, j, i) for j in range(len(widths)) if j != i})
            for i in range(len(widths))
        )

    @staticmethod
    def _path(widths: tuple[int, ...], source: int, target: int) -> nn.Sequential:
        """From branch ``source`` to branch ``target``; the channels change in the last convolution."""
        if source > target:
            return _conv(widths[source], widths[target], kernel=1, relu=False)
        steps = target - source
        return nn.Sequential(
            *(_conv(widths[source], widths[source], stride=2) for _ in range(steps - 1)),
            _conv(widths[source], widths[target], stride=2, relu=False),
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(y) for branch, y in zip(self.branches, x, strict=True)]
        fused = []
        for i, paths in enumerate(self.fuse_layers):
            size = (x[i].shape[-2], x[i].shape[-1])
            total = x[i]
            for name, path in paths.items():  # type: ignore[operator]
                y = path(x[int(name)])
                total = total + (resize(y, size) if int(name) > i else y)
            fused.append(F.relu(total))
        return fused


class ObjectContext(nn.Module):
    """OCR's context block for one object: the softmax over objects is 1, so every pixel receives the object's vector.

    ``f_pixel`` and ``f_object`` have no effect with one object; they are kept because checkpoints hold them.
    """

    def __init__(self, channels: int, keys: int) -> None:
        super().__init__()
        self.f_pixel = self._twice(channels, keys)
        self.f_object = self._twice(channels, keys)
        self.f_down = self._once(channels, keys)
        self.f_up = self._once(keys, channels)

    @staticmethod
    def _once(inputs: int, outputs: int) -> nn.Sequential:
        normal = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU())
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), normal)

    @classmethod
    def _twice(cls, inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(*cls._once(inputs, outputs), *cls._once(outputs, outputs))

    def forward(self, vector: Tensor) -> Tensor:
        """Object vector ``[B, C, 1, 1]`` to the context ``[B, C, 1, 1]`` of every pixel."""
        return self.f_up(self.f_down(vector))


class ObjectAttention(nn.Module):
    """Context beside the pixel features, joined by a 1×1 convolution."""

    def __init__(self, channels: int, keys: int, dropout: float = 0.05) -> None:
        super().__init__()
        self.object_context_block = ObjectContext(channels, keys)
        self.conv_bn_dropout = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False),
            nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()),
            nn.Dropout2d(dropout),
        )

    def forward(self, feats: Tensor, vector: Tensor) -> Tensor:
        context = self.object_context_block(vector).expand(-1, -1, *feats.shape[-2:])
        return self.conv_bn_dropout(torch.cat([context, feats], 1))


class HRNetOCR(nn.Module):
    """Image (and a click map) to one object's logit at stride 4.

    Parameters
    ----------
    width: channels of the finest branch; each coarser one has twice as many.
    ocr_width: key channels of the OCR head; pixel features have twice as many.
    small: half the blocks per branch and fewer modules ("HRNet-18-small-v2").
    """

    def __init__(self, width: int = 18, ocr_width: int = 64, small: bool = False) -> None:
        super().__init__()
        blocks = 2 if small else 4
        modules = (1, 3, 2) if small else (1, 4, 3)
        widths = tuple(width * 2**i for i in range(4))
        self.channels = sum(widths)
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64), *(Bottleneck(256, 64) for _ in range(blocks - 1)))
        self.transition1 = nn.ModuleList(
            [_conv(256, widths[0]), nn.Sequential(_conv(256, widths[1], stride=2))]
        )
        self.stage2 = self._stage(widths[:2], blocks, modules[0])
        self.transition2 = nn.ModuleDict({"2": nn.Sequential(_conv(widths[1], widths[2], stride=2))})
        self.stage3 = self._stage(widths[:3], blocks, modules[1])
        self.transition3 = nn.ModuleDict({"3": nn.Sequential(_conv(widths[2], widths[3], stride=2))})
        self.stage4 = self._stage(widths, blocks, modules[2])
        middle = 2 * ocr_width
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(self.channels, middle, 3, padding=1), nn.BatchNorm2d(middle), nn.ReLU()
        )
        self.ocr_distri_head = ObjectAttention(middle, ocr_width)
        self.cls_head = nn.Conv2d(middle, 1, 1)
        self.aux_head = nn.Sequential(
            nn.Conv2d(self.channels, self.channels, 1), nn.BatchNorm2d(self.channels), nn.ReLU(),
            nn.Conv2d(self.channels, 1, 1),
        )  # fmt: skip

    @staticmethod
    def _stage(widths: tuple[int, ...], blocks: int, modules: int) -> nn.Sequential:
        return nn.Sequential(*(HRModule(widths, blocks) for _ in range(modules)))

    def features(self, image: Tensor, extra: Tensor) -> Tensor:
        """Normalised image ``[B, 3, H, W]`` and ``extra [B, 64, H/2, W/2]`` (added after the first layer).

        Returns the four branches side by side, ``[B, channels, H/4, W/4]`` (sizes rounded up).
        """
        x = F.relu(self.bn1(self.conv1(image))) + extra
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        branches = self.stage2([transition(x) for transition in self.transition1])
        branches = self.stage3([*branches, self.transition2["2"](branches[-1])])
        branches = self.stage4([*branches, self.transition3["3"](branches[-1])])
        size = (branches[0].shape[-2], branches[0].shape[-1])
        return torch.cat([branches[0], *(resize(y, size) for y in branches[1:])], 1)

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logit and auxiliary logit, both ``[B, 1, h, w]``; the auxiliary one says which pixels make the object's vector."""
        auxiliary = self.aux_head(features)
        feats = self.conv3x3_ocr(features)
        weights = torch.softmax(auxiliary.flatten(2), 2)
        vector = (feats.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)
        return self.cls_head(self.ocr_distri_head(feats, vector)), auxiliary
