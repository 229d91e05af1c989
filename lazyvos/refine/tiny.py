"""The shipped refiner: a click becomes a mask, coarse on the whole frame, then fine on a crop around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.xmem import Features
from lazyvos.geometry import Geometry
from lazyvos.refine.clicknet import ClickNet, click_disks
from lazyvos.types import Click, InputError


class TinyRefiner:
    """Click network with a second look (RITM's zoom-in, section 3.2).

    Features of the last frame are kept, so that a second click on it costs only the decoder.

    Parameters
    ----------
    net: the click network.
    size: short side in pixels of the first look.
    zoom: crop around the first answer and look again; ``expand`` is the side of the crop over that of the object.
    use_mask: hand the earlier mask to the network as RITM does.
    """

    def __init__(
        self, net: ClickNet, *, size: int = 240, zoom: bool = True, expand: float = 1.6, use_mask: bool = True
    ) -> None:
        self.net, self.size, self.zoom, self.expand, self.use_mask = net, size, zoom, expand, use_mask
        self._kept: tuple[np.ndarray, Geometry, Features] | None = None

    @torch.inference_mode()
    def refine(self, frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None = None) -> Tensor:
        """See :class:`lazyvos.refine.base.Refiner`."""
        if not clicks:
            raise InputError("a refiner needs at least one click")
        height, width = frame.shape[:2]
        previous = mask.float().cpu() if mask is not None and self.use_mask else torch.zeros(height, width)
        geometry, features = self._features(frame)
        coarse = self._look(geometry, features, clicks, previous)
        if not self.zoom or not any(c.positive for c in clicks):
            return coarse
        box = self._box(coarse, clicks)
        if box is None:
            return coarse
        top, bottom, left, right = box
        inner = np.ascontiguousarray(frame[top:bottom, left:right])
        moved = [Click(c.x - left, c.y - top, c.object, c.positive) for c in clicks
                 if top <= c.y < bottom and left <= c.x < right]  # fmt: skip
        close = Geometry.of(inner.shape[:2], self.size)  # type: ignore[arg-type]
        fine = self._look(close, self._encode(close, inner), moved, coarse[top:bottom, left:right])
        result = torch.zeros(height, width)
        result[top:bottom, left:right] = fine
        return result

    def _encode(self, geometry: Geometry, frame: np.ndarray) -> Features:
        device = next(self.net.parameters()).device
        return self.net.encode(geometry.image(frame, device).unsqueeze(0))

    def _features(self, frame: np.ndarray) -> tuple[Geometry, Features]:
        if self._kept is None or self._kept[0] is not frame:
            geometry = Geometry.of((frame.shape[0], frame.shape[1]), self.size)
            self._kept = frame, geometry, self._encode(geometry, frame)
        return self._kept[1], self._kept[2]

    def _look(self, geometry: Geometry, features: Features, clicks: Sequence[Click], previous: Tensor) -> Tensor:
        device = features.f16.device
        left, right, top, bottom = geometry.pad
        inner = geometry.inner
        padded = inner[0] + top + bottom, inner[1] + left + right
        scale_y, scale_x = inner[0] / geometry.frame[0], inner[1] / geometry.frame[1]
        disks = [
            click_disks([((c.y + 0.5) * scale_y - 0.5 + top, (c.x + 0.5) * scale_x - 0.5 + left)
                         for c in clicks if c.positive is sign], padded)
            for sign in (True, False)
        ]  # fmt: skip
        earlier = geometry.masks(previous.unsqueeze(0))[0]
        maps = torch.stack([earlier, *disks]).unsqueeze(0).to(device)
        prob = torch.sigmoid(self.net.decode(features, maps))[0]
        return geometry.probabilities(prob)[0].cpu()

    def _box(self, coarse: Tensor, clicks: Sequence[Click]) -> tuple[int, int, int, int] | None:
        """Square-ish crop around the answer and the positive clicks; ``None`` where it would be most of the frame."""
        height, width = coarse.shape
        rows, columns = torch.nonzero(coarse > 0.5, as_tuple=True)
        ys = [*rows.tolist()[:: max(1, len(rows))], *(int(c.y) for c in clicks if c.positive)]
        xs = [*columns.tolist()[:: max(1, len(columns))], *(int(c.x) for c in clicks if c.positive)]
        if len(rows):
            ys += [int(rows.min()), int(rows.max())]
            xs += [int(columns.min()), int(columns.max())]
        side = max(max(ys) - min(ys), max(xs) - min(xs)) * self.expand
        side = max(side, 0.35 * min(height, width))
        if side >= 0.9 * min(height, width):
            return None
        cy, cx = (max(ys) + min(ys)) / 2, (max(xs) + min(xs)) / 2
        top = int(np.clip(cy - side / 2, 0, height - 1))
        left = int(np.clip(cx - side / 2, 0, width - 1))
        bottom, right = int(min(height, np.ceil(cy + side / 2))), int(min(width, np.ceil(cx + side / 2)))
        return top, bottom, left, right
