"""QDMN's published inference on a whole clip at hand (DAVIS form).

The tracker does the same frame by frame; this form exists to be compared with the authors' numbers: the whole
probability buffer, the raw scores and the number of frames read at each step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.qdmn import QDMN
from lazyvos.geometry import Geometry
from lazyvos.memory.qdmn import QdmnBank


class QDMNCore:
    """One clip, objects given by masks on its first frame (Liu et al., ECCV 2022, section 4.1 for the constants).

    Parameters
    ----------
    images: ``float32 [T, 3, H, W]``, ImageNet-normalised, any size (padded with zeros to multiples of 16).
    objects: how many.
    every, threshold, minimum, published: see :class:`lazyvos.memory.qdmn.QdmnBank`; as published the entry before the
        chosen one leaves.
    top_k: memory positions read at each query position.

    Attributes
    ----------
    prob: ``float32 [1 + n, T, H', W']`` padded, background first; 0 (background 1e-7) where nothing is known yet.
    scores: raw quality ``[n]`` of each memorised frame, in frame order.
    read: for frames 1, 2, … the frame numbers that were read.
    """

    def __init__(
        self, net: QDMN, images: Tensor, objects: int, *, every: int = 5, threshold: int = 20, minimum: float = 0.8,
        top_k: int | None = 50, published: bool = True,
    ) -> None:  # fmt: skip
        if images.ndim != 4 or images.shape[1] != 3 or not len(images):
            raise ValueError(f"images have shape {tuple(images.shape)}; give [T, 3, H, W] with at least one frame")
        if objects < 1:
            raise ValueError(f"objects is {objects}; give at least one")
        self.net, self.top_k = net, top_k
        self._settings = {"threshold": threshold, "every": every, "minimum": minimum, "published": published}
        self._size = int(images.shape[-2]), int(images.shape[-1])
        self._pad = Geometry.of(self._size, None, net.stride).pad
        self.images = torch.nn.functional.pad(images, self._pad)
        self.prob = images.new_zeros(1 + objects, len(images), *self.images.shape[-2:])
        self.prob[0] = 1e-7
        self.scores: list[Tensor] = []
        self.read: list[tuple[int, ...]] = []

    def unpadded(self, x: Tensor) -> Tensor:
        """The clip's own pixels of a padded ``[..., H', W']``."""
        left, _, top, _ = self._pad
        return x[..., top : top + self._size[0], left : left + self._size[1]]

    @torch.inference_mode()
    def interact(self, mask: Tensor, end: int | None = None) -> np.ndarray:
        """Segment frames 1 … ``end`` − 1 (default: all) from the object masks ``[n, H, W]`` of frame 0, no background.

        Returns label maps ``uint8 [T, H, W]``. Raises ValueError for masks of another shape.
        """
        wanted = (len(self.prob) - 1, *self._size)
        if tuple(mask.shape) != wanted:
            raise ValueError(f"mask has shape {tuple(mask.shape)}; the clip needs {wanted}")
        last = len(self.images) if end is None else end
        objects = tuple(range(1, len(self.prob)))
        bank = QdmnBank(**self._settings)  # type: ignore[arg-type]
        self.prob[:, 0] = aggregate(torch.nn.functional.pad(mask, self._pad), 0)[1]
        entry = self.net.entry(0, self.images[0], self.prob[1:, 0], objects)
        self.scores, self.read = [], []
        bank.pin(entry, 0)
        for t in range(1, last):
            assert entry.quality is not None
            self.scores.append(entry.quality)
            self.read.append(bank.frames())
            query = self.net.encode(self.images[t], self.prob[1:, t - 1])
            readout = bank.read(query, objects, self.top_k)
            logits, _ = self.net.decode(query, readout.value, None)
            self.prob[:, t] = aggregate(torch.sigmoid(logits), 0)[1]
            if t < last - 1:
                entry = self.net.entry(t, self.images[t], self.prob[1:, t], objects)
                bank.offer(entry, t)
        return self.unpadded(self.prob.argmax(0)).to(torch.uint8).cpu().numpy()
