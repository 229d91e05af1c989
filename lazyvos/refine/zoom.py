"""What RITM does to the input before its network, and undoes after it: zoom-in on the object, and a mirrored copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lazyvos.refine.hrnet import resize
from lazyvos.types import Click


class Roi(NamedTuple):
    """Rows ``top..bottom`` and columns ``left..right`` of a frame, all inclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.bottom - self.top + 1, self.right - self.left + 1

    def iou(self, other: Roi) -> float:
        """Product of the overlaps of the row and of the column intervals (f-BRS, section 4: when to zoom anew)."""
        rows = interval_iou((self.top, self.bottom), (other.top, other.bottom))
        return rows * interval_iou((self.left, self.right), (other.left, other.right))

    def holds(self, click: Click) -> bool:
        """Whether a click lies inside; the last row and column count as outside, as published."""
        return self.top <= click.y < self.bottom and self.left <= click.x < self.right


def interval_iou(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Intersection over union of two intervals of whole numbers, ends included; two far apart give 0."""
    inner = max(0, min(a[1], b[1]) - max(a[0], b[0]) + 1)
    return inner / (max(a[1], b[1]) - min(a[0], b[0]) + 1)


@dataclass(frozen=True)
class ZoomConfig:
    """Zoom-in of f-BRS and RITM.

    Attributes
    ----------
    target: longer side of the network's input, pixels.
    skip_clicks: no zoom up to this number of clicks.
    expansion: side of the crop over that of the object.
    min_crop: smallest side of the crop, pixels of the frame.
    recompute_iou: a new crop is taken where the kept one overlaps it less.
    threshold: probability above which a pixel is object.
    """

    target: int = 400
    skip_clicks: int = 1
    expansion: float = 1.4
    min_crop: int = 200
    recompute_iou: float = 0.5
    threshold: float = 0.5


class ZoomIn:
    """Crop around the last answer, enlarged to the network's working size (Sofiiuk et al., f-BRS, section 4).

    Attributes
    ----------
    previous: the last answer ``[1, 1, H, W]`` in [0, 1], or ``None``; set by :meth:`inverse`.
    kept: the crop kept from click to click.
    active: the crop used for the input at hand, ``None`` where the whole frame went in unchanged.
    """

    def __init__(self, config: ZoomConfig | None = None) -> None:
        self.config = config or ZoomConfig()
        self.previous: Tensor | None = None
        self.kept: Roi | None = None
        self.active: Roi | None = None
        self._frame = (0, 0)

    def transform(self, image: Tensor, clicks: Sequence[Click]) -> tuple[Tensor, list[Click]]:
        """``image [1, C, H, W]`` and clicks of the frame become the network's."""
        self._frame = (image.shape[-2], image.shape[-1])
        self.active = self._choose(clicks)
        if self.active is None:
            return image, list(clicks)
        top, bottom, left, right = self.active
        height, width = self.active.size
        scale = self.config.target / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        crop = resize(image[:, :, top : bottom + 1, left : right + 1], size)
        moved = [
            replace(c, x=size[1] * (c.x - left) / width, y=size[0] * (c.y - top) / height) for c in clicks
        ]
        return crop, moved

    def inverse(self, prob: Tensor) -> Tensor:
        """Probabilities ``[1, 1, h, w]`` of the crop, pasted into a frame of zeros; kept for the next click."""
        if self.active is not None:
            top, bottom, left, right = self.active
            frame = prob.new_zeros(*prob.shape[:2], *self._frame)
            frame[:, :, top : bottom + 1, left : right + 1] = resize(prob, self.active.size)
            prob = frame
        self.previous = prob
        return prob

    def _choose(self, clicks: Sequence[Click]) -> Roi | None:
        if len(clicks) <= self.config.skip_clicks or self.previous is None:
            return None
        inside = self.previous[0, 0] > self.config.threshold
        if not inside.any():
            return None
        positive = [c for c in clicks if c.positive]
        fresh = self._around(inside, positive)
        kept = self.kept
        if kept is None or not all(map(kept.holds, positive)) or kept.iou(fresh) < self.config.recompute_iou:
            self.kept = fresh
        return self.kept

    def _around(self, inside: Tensor, positive: Sequence[Click]) -> Roi:
        height, width = self._frame
        rows, columns = torch.nonzero(inside, as_tuple=True)
        ys = [int(rows.min()), int(rows.max()), *(min(max(round(c.y), 0), height - 1) for c in positive)]
        xs = [int(columns.min()), int(columns.max()), *(min(max(round(c.x), 0), width - 1) for c in positive)]
        return Roi(*self._expand(min(ys), max(ys), height), *self._expand(min(xs), max(xs), width))

    def _expand(self, low: int, high: int, length: int) -> tuple[int, int]:
        half = 0.5 * max(self.config.expansion * (high - low + 1), self.config.min_crop)
        centre = (low + high) / 2
        return max(0, round(centre - half)), min(length - 1, round(centre + half))


def mirror(image: Tensor) -> Tensor:
    """Append the mirrored copies: ``[B, C, H, W]`` to ``[2B, C, H, W]``."""
    return torch.cat([image, image.flip(3)], 0)


def mirror_clicks(clicks: Sequence[Click], width: int) -> list[Click]:
    """Clicks on the mirrored copy of an image of ``width`` columns."""
    return [replace(c, x=width - 1 - c.x) for c in clicks]


def unmirror(logits: Tensor) -> Tensor:
    """Mean of the logits of both copies: ``[2B, C, H, W]`` to ``[B, C, H, W]``."""
    straight, turned = logits.chunk(2, 0)
    return 0.5 * (straight + turned.flip(3))
