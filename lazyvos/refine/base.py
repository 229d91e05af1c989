"""The joint between clicks and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from lazyvos.types import Click


@runtime_checkable
class Refiner(Protocol):
    """A click becomes a mask.

    A refiner that can be prompted otherwise names the keyword arguments of its ``refine`` in ``prompts`` (SAM-HQ: ``box``,
    ``prompt_with_mask``).
    """

    def refine(self, frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None = None) -> Tensor:
        """Probability of the clicked object.

        ``frame uint8 [H, W, 3]`` RGB, ``clicks`` of one object in pixels of the frame, ``mask float [H, W]`` its
        earlier probability or ``None``. Returns ``float32 [H, W]`` in [0, 1].
        """
        ...
