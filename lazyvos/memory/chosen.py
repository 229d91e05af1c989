"""Memories that choose for each object by itself which of the stored frames it reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.memory.common import SlotMemory
from lazyvos.memory.interval import Interval
from lazyvos.types import Decision


@dataclass(frozen=True, eq=False)
class View:
    """What a strategy may ask about one object of an offered frame.

    ``mask [H, W]`` is its soft mask, ``None`` where the entry has none (it then counts as present, with score 1); ``others [A, H, W]``
    the network's alternatives. ``certain``: a person corrected the frame (whichever object of it).
    """

    t: int
    mask: Tensor | None
    quality: float | None
    others: Tensor | None
    certain: bool

    @property
    def score(self) -> float:
        """Predicted IoU: 1 where ``certain``, the network's own quality where it has one, else :func:`expected_iou`."""
        if self.certain:
            return 1.0
        if self.quality is not None:
            return self.quality
        return 1.0 if self.mask is None else expected_iou(self.mask)

    @property
    def logit(self) -> float:
        """Is the object there? The logit of its largest probability, within ±10; positive where some pixel is more likely it than not."""
        if self.certain or self.mask is None:
            return 10.0
        return float(torch.logit(self.mask.float().max().clamp(4.5398e-5, 1 - 4.5398e-5)))

    @property
    def area(self) -> int | None:
        """Pixels that are more likely the object than not; ``None`` without a mask."""
        return None if self.mask is None else int((self.mask > 0.5).sum())

    @property
    def binary(self) -> np.ndarray:
        """``bool [H, W]``."""
        assert self.mask is not None
        return (self.mask > 0.5).cpu().numpy()

    def alternatives(self, levels: Iterable[float]) -> list[np.ndarray]:
        """Other masks the network might have given, ``bool [H, W]`` each: its own alternatives (at 0.5), else the soft mask cut at
        the lower ``levels``: what it half believes to be the object."""
        if self.others is not None:
            return list((self.others > 0.5).cpu().numpy())
        return [] if self.mask is None else [(self.mask > level).cpu().numpy() for level in levels]


def expected_iou(mask: Tensor) -> float:
    """IoU that a soft mask ``[H, W]`` expects of itself cut at 0.5: Σ inside p / (Σ inside 1 + Σ outside p); 0 where it is empty.

    Counted in the bounding box of the cut mask, so that a second object elsewhere, half believed in, says nothing of this one.
    """
    p = mask.detach().float()
    inside = p > 0.5
    rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
    if not len(rows):
        return 0.0
    box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    p, inside = p[box], inside[box]
    count, hit, total = torch.stack([inside.sum(), p[inside].sum(), p.sum()]).double().tolist()
    return hit / (count + total - hit)


class Track(Protocol):
    """The frames of one object. Frame numbers only; the next frame to be read is the newest offered one plus 1."""

    def offer(self, view: View) -> str:
        """Take note of a frame (again, where it was offered before); a word for what became of it."""
        ...

    def reads(self) -> list[int]:
        """Frames that the next frame reads, ascending."""
        ...

    def needs(self) -> set[int]:
        """Frames that must stay stored: those read next, and those that may be read later."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values."""
        ...


T = TypeVar("T", bound=Track)


class ChosenMemory(SlotMemory, Generic[T]):
    """Every frame is offered; each object has a track that says which frames it reads and which must stay.

    The frame with an object's given mask is the first of its track and stays. A frame is stored once, whatever the number of
    objects that read it, and freed when no object needs it any more. ``Decision.replaced`` is the oldest of the frames freed.
    """

    def __init__(self) -> None:
        super().__init__(None, Interval(1), adjacent=False)
        self._tracks: dict[int, T] = {}

    @abstractmethod
    def _started(self, t: int) -> T:
        """The track of an object whose mask was given on frame ``t``."""

    @abstractmethod
    def _loaded(self, state: dict[str, Any]) -> T:
        """The track whose state this is."""

    @property
    def tracks(self) -> dict[int, T]:
        """Track of each object."""
        return dict(self._tracks)

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        new = [o for o in entry.objects if o not in self._tracks]
        word = self._noted(entry, force and not (pin and new))
        needed = self._needed()
        gone = [self._evict(slot) for slot in list(self._regular) if self._bank.frames[slot] not in needed]
        if entry.t not in needed:
            return Decision(entry.t, False, word, None, min(gone, default=None))
        at = self._append(entry, bool(new))
        return Decision(entry.t, True, "pinned" if pin else word, at, min(gone, default=None))

    def _rewritten(self, slot: int, entry: Entry) -> Decision:
        self._noted(entry, True)
        needed = self._needed() | {entry.t}
        gone = [self._evict(other) for other in list(self._regular) if self._bank.frames[other] not in needed]
        return Decision(entry.t, True, "rewritten", None, min(gone, default=None))

    def _noted(self, entry: Entry, certain: bool) -> str:
        words = []
        for i, identity in enumerate(entry.objects):
            if identity in self._tracks:
                words.append(self._tracks[identity].offer(_view(entry, i, certain)))
            else:
                self._tracks[identity] = self._started(entry.t)
                words.append("pinned")
        return min(words, key=self._order)

    _words: tuple[str, ...] = ("pinned",)

    def _order(self, word: str) -> int:
        """With several objects the first of ``_words`` that befell one of them is reported."""
        return self._words.index(word)

    def _needed(self) -> set[int]:
        return {t for track in self._tracks.values() for t in track.needs()}

    def _readers(
        self, objects: tuple[int, ...], rows: list[int], used: list[int]
    ) -> Iterable[tuple[int, list[tuple[int, int]], list[int]]]:
        groups: dict[tuple[int, tuple[int, ...], object], list[tuple[int, int]]] = {}
        for identity, row in zip(objects, rows, strict=True):
            wanted = set(self._tracks[identity].reads())
            slots = [slot for slot in used if self._bank.frames[slot] in wanted and identity in self._bank.held(slot)]
            group = (0 if self._bank.shared else row, tuple(slots), self._alike(identity))
            groups.setdefault(group, []).append((identity, row))
        for (key, chosen, _), members in groups.items():
            yield key, members, list(chosen)

    def _alike(self, identity: int) -> object:
        """Objects that read the same frames share one affinity if this is equal, too."""
        return None

    def drop(self, object_id: int) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for an object that is not stored."""
        super().drop(object_id)
        self._tracks.pop(object_id, None)
        needed = self._needed()
        for slot in [slot for slot in self._regular if self._bank.frames[slot] not in needed]:
            self._evict(slot)

    def frames(self) -> tuple[int, ...]:
        """See :class:`lazyvos.memory.base.Memory`: what the objects read next, all together."""
        return tuple(sorted({t for track in self._tracks.values() for t in track.reads()} & set(self.stored)))

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`."""
        return {**super().state(), "tracks": {o: track.state() for o, track in self._tracks.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for the state of another kind of memory."""
        super().load_state(state)
        self._tracks = {int(o): self._loaded(one) for o, one in state["tracks"].items()}


def _view(entry: Entry, i: int, certain: bool) -> View:
    quality = None if entry.quality is None else float(entry.quality[i])
    mask = None if entry.masks is None else entry.masks[i].detach()
    return View(entry.t, mask, quality, None if entry.alternatives is None else entry.alternatives[i].detach(), certain)
