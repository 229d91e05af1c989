"""The shipped refiner: a click becomes a mask, seen at two sizes and mirrored, answers averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.xmem import Features
from lazyvos.geometry import Geometry
from lazyvos.refine.clicknet import ClickNet, click_disks
from lazyvos.types import Click, InputError


@dataclass(frozen=True, eq=False)
class _View:
    """The frame at one size, as it is and mirrored: features of a batch of one or two."""

    geometry: Geometry
    features: Features


class TinyRefiner:
    """Click network averaged over sizes and mirror images.

    Features of the last frame are kept, so that a second click on it costs only the decoder.

    Parameters
    ----------
    net: the click network.
    sizes: short sides in pixels at which the frame is looked at.
    mirror: look at the mirrored frame too (RITM averages over flips in the same way).
    use_mask: hand an earlier mask of the object to the network as RITM does.
    """

    def __init__(
        self, net: ClickNet, *, sizes: Sequence[int] = (240, 320), mirror: bool = True, use_mask: bool = True
    ) -> None:
        if not sizes or min(sizes) < net.stride:
            raise InputError(f"sizes {list(sizes)} must be short sides of at least {net.stride} pixels; (240, 320) is usual")
        self.net, self.sizes, self.mirror, self.use_mask = net, tuple(sizes), mirror, use_mask
        self._frame: np.ndarray | None = None
        self._views: list[_View] = []

    @torch.inference_mode()
    def refine(self, frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None = None) -> Tensor:
        """See :class:`lazyvos.refine.base.Refiner`."""
        if not clicks:
            raise InputError("a refiner needs at least one click")
        if self._frame is not frame:
            self._frame, self._views = frame, [self._view(frame, size) for size in self.sizes]
        height, width = frame.shape[:2]
        earlier = mask.float().cpu() if mask is not None and self.use_mask else torch.zeros(height, width)
        answers = [self._answer(view, clicks, earlier) for view in self._views]
        return torch.stack(answers).mean(0)

    def _view(self, frame: np.ndarray, size: int) -> _View:
        geometry = Geometry.of((frame.shape[0], frame.shape[1]), size, self.net.stride)
        image = geometry.image(frame, next(self.net.parameters()).device).unsqueeze(0)
        both = torch.cat([image, image.flip(-1)]) if self.mirror else image
        return _View(geometry, self.net.encode(both.contiguous(memory_format=torch.channels_last)))

    def _answer(self, view: _View, clicks: Sequence[Click], earlier: Tensor) -> Tensor:
        geometry = view.geometry
        left, right, top, bottom = geometry.pad
        padded = geometry.inner[0] + top + bottom, geometry.inner[1] + left + right
        rows, columns = geometry.inner[0] / geometry.frame[0], geometry.inner[1] / geometry.frame[1]

        def disks(positive: bool) -> Tensor:
            points = [((c.y + 0.5) * rows - 0.5 + top, (c.x + 0.5) * columns - 0.5 + left)
                      for c in clicks if c.positive is positive]  # fmt: skip
            return click_disks(points, padded)

        maps = torch.stack([geometry.masks(earlier.unsqueeze(0))[0], disks(True), disks(False)]).unsqueeze(0)
        both = torch.cat([maps, maps.flip(-1)]) if self.mirror else maps
        prob = torch.sigmoid(self.net.decode(view.features, both.to(view.features.f16.device)))
        if self.mirror:
            prob = (prob[:1] + prob[1:].flip(-1)) / 2
        return geometry.probabilities(prob[0])[0].cpu()
