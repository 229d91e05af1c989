"""What one round came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lazyvos.rounds.state import State
from lazyvos.types import Click

MODEL_PARTS = ("interaction", "encode", "propagate", "fuse")


@dataclass(frozen=True)
class ObjectRound:
    """One object in one round.

    ``clicks`` it got; ``source`` of its mask on the frame: ``"clicks"``, ``"mask"`` (given), ``"network"`` (the refiner on the previous mask
    alone), ``"kept"`` (the previous mask); ``new``: it was introduced in this round; ``frames`` it was propagated to; ``area`` of its
    mask on the frame, pixels.
    """

    object: int
    clicks: tuple[Click, ...]
    source: str
    new: bool
    frames: int
    area: int


@dataclass(frozen=True, eq=False)
class RoundResult:
    """A round, and all frames as they were before and after it.

    Attributes
    ----------
    number: counted from 1.
    frame: the one that was interacted with, t_r.
    clicks: of this round.
    objects: by id.
    touched: frames that were computed anew, ascending; the others are those of the round before. Empty where nothing was clicked.
    bounds: first and last frame of :attr:`touched`, (t⁻, t⁺).
    seconds: of each part: ``interaction`` (clicks to masks), ``frames`` (decoding, resizing), ``encode`` (keys and features),
        ``propagate`` (read, decode, memorise), ``fuse``, ``keep`` (label maps, scores, packing), ``write`` (disk).
    """

    number: int
    frame: int
    clicks: tuple[Click, ...]
    objects: Mapping[int, ObjectRound]
    touched: tuple[int, ...]
    seconds: Mapping[str, float]
    after: State
    before: State

    @property
    def bounds(self) -> tuple[int, int]:
        """``(t⁻, t⁺)``; the frame itself twice where nothing was propagated."""
        return (self.touched[0], self.touched[-1]) if self.touched else (self.frame, self.frame)

    @property
    def total_seconds(self) -> float:
        """Of all parts."""
        return sum(self.seconds.values())

    @property
    def model_seconds(self) -> float:
        """Of the networks alone: interaction, encoding, propagation, fusion."""
        return sum(self.seconds.get(part, 0.0) for part in MODEL_PARTS)

    def labels(self, t: int) -> np.ndarray:
        """Label map ``uint8 [H, W]`` of frame ``t`` after this round."""
        return self.after.labels(t)

    def labels_before(self, t: int) -> np.ndarray:
        """The same before this round."""
        return self.before.labels(t)

    def probabilities(self, t: int) -> Tensor:
        """``float32 [1 + O, H, W]`` of frame ``t`` after this round, background first."""
        return self.after.probabilities(t)

    def __len__(self) -> int:
        """Number of frames of the clip."""
        return len(self.after.cells)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Label maps of all frames in order, unpacked one at a time."""
        return (self.after.labels(t) for t in range(len(self)))

    def changed(self) -> tuple[int, ...]:
        """Frames whose label map is another one than before; compares them now."""
        return tuple(t for t in self.touched if not np.array_equal(self.labels(t), self.labels_before(t)))
