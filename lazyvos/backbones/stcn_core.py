"""STCN's inference on a whole clip: forward from the annotated frames, as the published evaluation does it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone
from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.mivos_core import Clip
from lazyvos.memory.fifo import Unbounded


class STCNCore:
    """Propagation of given masks through a clip; objects may appear late.

    Parameters
    ----------
    net: :class:`~lazyvos.backbones.stcn.STCN`, or any other backbone without recurrent state.
    frames, objects, top_k, cache: see :class:`~lazyvos.backbones.mivos_core.Clip`.
    mem_every: the memory's interval in frames.
    include_last: the previous frame is read as well where it is not stored; the next frame written takes its place.
    since_last: count the interval from the last stored or annotated frame (the YouTube-VOS form) instead of storing the
        frames whose number is a multiple of ``mem_every`` (the DAVIS form).

    ``clip.prob [n + 1, T, H', W']`` holds the probabilities; those of an object that has not appeared are 0.
    """

    def __init__(
        self, net: Backbone, frames: Tensor, objects: int, *, mem_every: int = 5, include_last: bool = False,
        since_last: bool = False, top_k: int | None = None, cache: bool = False,
    ) -> None:  # fmt: skip
        self.clip = Clip(net, frames, objects, top_k=top_k, cache=cache)
        self.memory = Unbounded(mem_every, flexible=since_last, adjacent=include_last)
        self.enabled: tuple[int, ...] = ()
        self._written = 0

    @torch.inference_mode()
    def interact(self, mask: Tensor, t: int = 0, end: int | None = None, objects: Sequence[int] | None = None) -> Tensor:
        """Give masks on frame ``t`` and propagate all objects up to (not including) frame ``end``.

        For objects that appear later: propagate up to and including their first frame f (``end = f + 1``), then give their
        masks on f. Where a given mask exceeds 0.5 the other objects give way; the frame is memorised with all objects.

        Parameters
        ----------
        mask: ``float [k, H, W]``, without background.
        t, end: frame numbers; ``end=None`` is the end of the clip. The last frame of a call is not memorised.
        objects: the k object numbers (1 … n) of ``mask``; ``None``: all n.

        Returns
        -------
        ``uint8 [T, H, W]`` label maps. Raises ValueError for a mask of another shape, an unknown object or frame.
        """
        clip = self.clip
        clip.check_frame(t)
        end = len(clip) if end is None else end
        if not t < end <= len(clip):
            raise ValueError(f"end is {end}; it must lie behind frame {t} and within the clip's {len(clip)} frames")
        given = tuple(range(1, clip.objects + 1)) if objects is None else tuple(objects)
        unknown = [o for o in given if not 1 <= o <= clip.objects]
        if unknown or len(set(given)) != len(given):
            raise ValueError(f"objects are {list(given)}; they must be different numbers from 1 to {clip.objects}")
        planes = clip.padded(mask, len(given))
        prob = clip.prob[1:, t]
        prob[:, (planes > 0.5).any(0)] = 0
        prob[[o - 1 for o in given]] = planes
        self.enabled = tuple(sorted({*self.enabled, *given}))
        self._put(t, aggregate(prob[[o - 1 for o in self.enabled]], 0)[1])
        self._write(t, pin=True)
        for ti in range(t + 1, end):
            self._put(ti, clip.segment(self.memory, ti, self.enabled))
            if ti != end - 1:
                self._write(ti, pin=False)
        return clip.masks()

    def _put(self, t: int, prob: Tensor) -> None:
        self.clip.prob[[0, *self.enabled], t] = prob

    def _write(self, t: int, *, pin: bool) -> None:
        """Memorise frame ``t``: for good, as the previous frame, or not at all."""
        if not pin and not self.memory.wants(t).value:
            return
        entry = self.clip.entry(self._written, t, self.clip.prob[list(self.enabled), t], self.enabled)
        self._written += 1
        if pin:
            self.memory.pin(entry, t)
        else:
            self.memory.offer(entry, t)
