"""The joint between probabilities and uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Doubt:
    """An uncertainty map ``float32 [H, W]`` and one score per object id."""

    map: np.ndarray
    scores: dict[int, float]


@runtime_checkable
class Uncertainty(Protocol):
    """Turns probabilities into a map and one score per object."""

    def __call__(self, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...]) -> Doubt:
        """``probabilities [1 + O, H, W]``; ``labels uint8 [H, W]`` of ids; ``objects`` in channel order."""
        ...
