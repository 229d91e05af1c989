"""XMem's published inference loop (Cheng & Schwing, ECCV 2022), step for step.

:class:`lazyvos.tracker.Tracker` is what an application uses. This class exists to reproduce published numbers: it takes
normalised images, and has the switches of the released code (unsynchronised deep updates, ``valid_labels``, ``end``).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from lazyvos.backbones.base import Backbone
from lazyvos.backbones.layers import aggregate
from lazyvos.memory.base import Want
from lazyvos.memory.longterm import LongTermMemory


class XMemCore:
    """One call of :meth:`step` per frame.

    ``labels``: every object known so far, 1, 2, … without gaps; set it before the step in which an object appears.

    Parameters
    ----------
    network: an XMem of any size, in evaluation mode.
    memory: its ``every`` is the published ``mem_every``.
    deep_update_every: deep updates of the sensory memory at least this many frames apart; −1: on every memory frame.
    top_k: positions that each read uses.
    """

    def __init__(
        self, network: Backbone, memory: LongTermMemory, *, deep_update_every: int = -1, top_k: int | None = 30
    ) -> None:
        if deep_update_every != -1 and deep_update_every < 1:
            raise ValueError(f"deep_update_every is {deep_update_every}; give -1 (with the memory frames) or at least 1 frame")
        self.network, self.memory = network, memory
        self.deep_update_every, self.top_k = deep_update_every, top_k
        self.labels: tuple[int, ...] = ()
        self.hidden: Tensor | None = None
        self.t = -1
        self._last_deep = -deep_update_every

    @torch.no_grad()
    def step(
        self, image: Tensor, mask: Tensor | None = None, valid_labels: Collection[int] | None = None, *, end: bool = False
    ) -> Tensor:
        """Probabilities ``[1 + n, H, W]``, background first.

        Parameters
        ----------
        image: ``float32 [3, H, W]``, ImageNet-normalised.
        mask: ``float [n, H, W]`` in [0, 1], channel i is ``labels[i]``; it replaces the result of the frame.
        valid_labels: which channels of ``mask`` were given; the others come from the prediction. ``None``: all of them.
        end: the last frame; nothing is stored.

        Raises ValueError when nothing can be segmented (no mask so far), or when the mask does not fit ``labels``.
        """
        self._check(mask)
        self.t += 1
        left, right, top, bottom = pad = self._padding(image)
        image = F.pad(image, pad)
        query = self.network.encode(image, self.hidden)
        segments = bool(self.memory.objects) and (valid_labels is None or len(self.labels) != len(valid_labels))
        prob = moved = None
        if segments:
            readout = self.memory.read(query, self.memory.objects, self.top_k)
            logits, moved = self.network.decode(query, readout.value, self.hidden)
            prob = aggregate(torch.sigmoid(logits), 0)[1]
        stores = (self.memory.wants(self.t) is Want.REGULAR or mask is not None) and not end
        together = self.deep_update_every < 0
        deep = (stores if together else self.t - self._last_deep >= self.deep_update_every) and not end
        if segments and not (together and deep) and not end:
            self.hidden = moved
        if mask is not None:
            prob = aggregate(self._joined(F.pad(mask.float(), pad), prob, valid_labels), 0)[1]
            self._extend(query.grid)
        assert prob is not None
        if stores:
            entry, deepened = self.network.memorise(self.t, query, image, prob[1:], self.labels, self.hidden, deep)
            self.memory.offer(entry, self.t, force=True)
            if deep:
                self.hidden, self._last_deep = deepened, self.t
        height, width = prob.shape[-2:]
        return prob[:, top : height - bottom, left : width - right]

    def _check(self, mask: Tensor | None) -> None:
        if mask is None and not self.memory.objects:
            raise ValueError(f"step {self.t + 1} has no mask and nothing is in memory; give a mask with the first frame")
        if mask is not None and len(mask) != len(self.labels):
            raise ValueError(f"the mask has {len(mask)} channels but there are {len(self.labels)} labels; give one per label")

    def _joined(self, mask: Tensor, prob: Tensor | None, valid: Collection[int] | None) -> Tensor:
        """The given channels, and the prediction (nothing where a mask was given) for the labels that are not ``valid``."""
        if prob is None or valid is None:
            return mask
        predicted = prob[1:] * (mask.sum(0) <= 0.5)
        use = [i for i, label in enumerate(self.labels[: len(predicted)]) if label not in valid]
        joined = mask.clone()
        joined[use] = predicted[use]
        return joined

    def _padding(self, image: Tensor) -> tuple[int, int, int, int]:
        """Zeros left, right, top and bottom that make both sides multiples of the stride."""
        wide, high = (-int(side) % self.network.stride for side in (image.shape[-1], image.shape[-2]))
        return wide // 2, wide - wide // 2, high // 2, high - high // 2

    def _extend(self, grid: tuple[int, int]) -> None:
        have = 0 if self.hidden is None else len(self.hidden)
        fresh = self.network.initial_state(len(self.labels) - have, grid)
        if fresh is not None:
            self.hidden = fresh if self.hidden is None else torch.cat([self.hidden, fresh])

