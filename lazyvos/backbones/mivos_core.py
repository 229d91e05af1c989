"""MiVOS's inference on a whole clip: rounds of interaction, propagation both ways, fusion (section 3 of the paper).

``lazyvos.tracker`` follows a video as it comes. Here the clip is at hand, a person returns to any frame, and each round goes
out from that frame in both directions up to the frames that were given masks earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone, Entry, Query
from lazyvos.backbones.fusion import FusionNet, difference_attention, fuse
from lazyvos.backbones.layers import aggregate
from lazyvos.geometry import Geometry
from lazyvos.memory.base import Memory
from lazyvos.memory.fifo import Unbounded


class Clip:
    """A clip under a backbone without recurrent state: padded frames, encoded once, and their probabilities.

    ``prob float32 [n + 1, T, H', W']`` (padded size, background first) starts at zero.

    Parameters
    ----------
    net: the segmentation network, in evaluation mode.
    frames: ``float32 [T, 3, H, W]``, ImageNet-normalised; everything runs on their device.
    objects: number n of objects.
    top_k: positions kept by a read; ``None``: the network's own number.
    cache: keep the features of every encoded frame (with the published networks about 125 bytes per pixel) and not only
        those of the last one.

    Raises ValueError for frames of another shape, for no object, and for a network with recurrent state.
    """

    def __init__(
        self, net: Backbone, frames: Tensor, objects: int, *, top_k: int | None = None, cache: bool = True
    ) -> None:
        if frames.dim() != 4 or frames.shape[1] != 3 or not len(frames):
            raise ValueError(f"frames have shape {tuple(frames.shape)}; they must be [T, 3, H, W] with T at least 1")
        if objects < 1:
            raise ValueError(f"objects is {objects}; a clip needs at least 1 object")
        if net.initial_state(1, (1, 1)) is not None:
            raise ValueError(f"{type(net).__name__} carries a state from frame to frame; use lazyvos.Tracker")
        self.net, self.frames, self.objects = net, frames, objects
        self.top_k = net.top_k if top_k is None else top_k
        self.geometry = Geometry.of((int(frames.shape[2]), int(frames.shape[3])), None, net.stride)
        left, right, top, bottom = self.geometry.pad
        size = self.geometry.inner[0] + top + bottom, self.geometry.inner[1] + left + right
        self.prob = torch.zeros(objects + 1, len(frames), *size, device=frames.device)
        self._keep_all = cache
        self._cache: dict[int, Query] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def check_frame(self, t: int) -> None:
        """Raises ValueError if the clip has no frame ``t``."""
        if not 0 <= t < len(self):
            raise ValueError(f"frame {t} is outside the clip; it has frames 0 to {len(self) - 1}")

    def padded(self, planes: Tensor, channels: int) -> Tensor:
        """Masks of the frames' size, zero-padded. Raises ValueError unless they are ``[channels, H, W]``."""
        want = (channels, *self.geometry.frame)
        if tuple(planes.shape) != want:
            raise ValueError(f"mask has shape {tuple(planes.shape)}; this clip and these objects need {want}")
        return self.geometry.masks(planes.to(self.prob))

    def image(self, t: int) -> Tensor:
        """Frame ``t``, padded: ``[3, H', W']``."""
        return self.geometry.masks(self.frames[t])

    def query(self, t: int) -> Query:
        """Frame ``t``, encoded."""
        if t not in self._cache:
            if not self._keep_all:
                self._cache.clear()
            self._cache[t] = self.net.encode(self.image(t))
        return self._cache[t]

    def segment(self, memory: Memory, t: int, objects: tuple[int, ...]) -> Tensor:
        """Aggregated probabilities ``[len(objects) + 1, H', W']`` of frame ``t``."""
        query = self.query(t)
        logits, _ = self.net.decode(query, memory.read(query, objects, self.top_k).value, None)
        return aggregate(torch.sigmoid(logits.float()), 0)[1]

    def entry(self, identity: int, t: int, masks: Tensor, objects: tuple[int, ...]) -> Entry:
        """Frame ``t`` with soft masks ``[len(objects), H', W']`` as an entry with number ``identity``."""
        return self.net.memorise(identity, self.query(t), self.image(t), masks, objects, None, True)[0]

    def masks(self) -> Tensor:
        """Label maps ``uint8 [T, H, W]``: the most probable object (1 … n) or background (0)."""
        return self.geometry.probabilities(self.prob).argmax(0).to(torch.uint8)


@dataclass(frozen=True, eq=False)
class _Change:
    """What a round changed: the frame, its entry, and the object masks added and removed ``[n, H', W']``."""

    t: int
    entry: Entry
    positive: Tensor
    negative: Tensor


class MiVOSCore:
    """Interaction rounds on a clip.

    Parameters
    ----------
    net: :class:`~lazyvos.backbones.mivos.MiVOS`, or any other backbone without recurrent state.
    frames, objects, top_k, cache: see :class:`Clip`.
    mem_freq: a frame is stored for the rest of its pass if it is at least so many frames from the last stored one.
    fusion: merges a round's result with the earlier ones between two interacted frames; without it the newest wins.

    ``clip.prob [n + 1, T, H', W']`` holds the probabilities.
    """

    def __init__(
        self, net: Backbone, frames: Tensor, objects: int, *, mem_freq: int = 5, top_k: int | None = None,
        fusion: FusionNet | None = None, cache: bool = True,
    ) -> None:  # fmt: skip
        self.clip = Clip(net, frames, objects, top_k=top_k, cache=cache)
        self.clip.prob[0] = 1e-7
        self.mem_freq, self.fusion = mem_freq, fusion
        self._ids = tuple(range(1, objects + 1))
        self._certain: list[Entry] = []
        self.interacted: set[int] = set()

    @torch.inference_mode()
    def interact(self, mask: Tensor, t: int) -> Tensor:
        """Take ``mask`` for frame ``t`` as given, propagate it both ways, and return all label maps.

        Parameters
        ----------
        mask: ``float [n + 1, H, W]``, background first. It is not aggregated.
        t: frame number; the same frame may be given again.

        Returns
        -------
        ``uint8 [T, H, W]``. Raises ValueError for a mask of another shape or a frame outside the clip.
        """
        clip = self.clip
        clip.check_frame(t)
        given = clip.padded(mask, clip.objects + 1)
        change = given[1:] - clip.prob[1:, t]
        clip.prob[:, t] = given
        entry = clip.entry(len(self._certain), t, given[1:], self._ids)
        self._certain.append(entry)
        round_ = _Change(t, entry, change.clamp(0, 1), (-change).clamp(0, 1))
        later, earlier = [s for s in self.interacted if s > t], [s for s in self.interacted if s < t]
        self.interacted.add(t)
        self._propagate(round_, min(later, default=None), len(clip), 1)
        self._propagate(round_, max(earlier, default=None), -1, -1)
        return clip.masks()

    def _propagate(self, change: _Change, bound: int | None, end: int, step: int) -> None:
        """One pass, up to the interacted frame ``bound`` (exclusive) or the clip's end."""
        clip = self.clip
        memory = Unbounded(self.mem_freq, flexible=True, adjacent=True)
        for entry in self._certain:
            memory.pin(entry, 0)
        stop = end if bound is None else bound
        for clock, t in enumerate(range(change.t + step, stop, step), 1):
            out = clip.segment(memory, t, self._ids)
            if t + step != stop:
                memory.offer(clip.entry(len(self._certain) + clock, t, out[1:], self._ids), clock)
            if bound is not None and self.fusion is not None:
                out = self._fused(self.fusion, change, bound, t, out)
            clip.prob[:, t] = out

    def _fused(self, net: FusionNet, change: _Change, bound: int, t: int, out: Tensor) -> Tensor:
        clip, query = self.clip, self.clip.query(t)
        attention = difference_attention(
            change.entry.address, query.address, change.positive, change.negative, query.grid
        )
        gap = abs(bound - change.t)
        distance = abs(bound - t) / gap, abs(change.t - t) / gap
        return fuse(net, clip.image(t), clip.prob[1:, t], out[1:], attention, distance)
