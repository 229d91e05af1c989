"""From frames to network input and from network probabilities back to frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Geometry:
    """Resize and padding between a frame of ``frame = (H, W)`` and the network.

    ``inner`` is the size after resizing, ``pad`` = (left, right, top, bottom) the zero padding (after
    normalisation) to a multiple of the backbone's stride.
    """

    frame: tuple[int, int]
    inner: tuple[int, int]
    pad: tuple[int, int, int, int]

    @staticmethod
    def of(frame: tuple[int, int], short_side: int | None, stride: int = 16) -> Geometry:
        """Geometry for frames of ``(H, W)`` whose shorter side becomes ``short_side`` (``None`` keeps the size)."""
        height, width = frame
        scale = 1.0 if short_side is None else short_side / min(height, width)
        inner = max(stride, round(height * scale)), max(stride, round(width * scale))
        pads = []
        for side in (inner[1], inner[0]):
            missing = (stride - side % stride) % stride
            pads += [missing // 2, missing - missing // 2]
        return Geometry(frame, inner, (pads[0], pads[1], pads[2], pads[3]))

    def image(self, frame: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
        """``uint8 [H, W, 3]`` RGB to normalised ``float32 [3, h, w]``, resized and padded, channels last."""
        height, width = self.inner
        if frame.shape[:2] != self.inner:
            method = cv2.INTER_AREA if frame.shape[0] > height else cv2.INTER_LINEAR
            frame = cv2.resize(frame, (width, height), interpolation=method)
        frame = np.require(frame, requirements=["C", "W"])
        x = torch.from_numpy(frame).to(device).permute(2, 0, 1).float().div_(255)
        x = (x - x.new_tensor(MEAN).view(3, 1, 1)) / x.new_tensor(STD).view(3, 1, 1)
        x = F.pad(x, self.pad)
        return x.unsqueeze(0).contiguous(memory_format=torch.channels_last)[0]

    def masks(self, stack: Tensor) -> Tensor:
        """Object masks ``float [O, H, W]`` to the padded network size, averaged over the pixels they cover."""
        if tuple(stack.shape[-2:]) != self.inner:
            stack = F.interpolate(stack[None], self.inner, mode="bilinear", align_corners=False, antialias=True)[0]
        return F.pad(stack, self.pad)

    def probabilities(self, prob: Tensor) -> Tensor:
        """Probabilities ``[K, h, w]`` of the padded network size to ``[K, H, W]`` of the frame, bilinear."""
        left, right, top, bottom = self.pad
        height, width = prob.shape[-2:]
        prob = prob[..., top : height - bottom, left : width - right]
        if self.inner == self.frame:
            return prob
        return F.interpolate(prob[None], self.frame, mode="bilinear", align_corners=False)[0]
