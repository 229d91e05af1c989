"""Trust a pseudo-correction only where the refiner and the tracker agree (thesis, section 6.9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lazyvos.interact.wrapper import Wrapper
from lazyvos.types import Prediction


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two masks ``[H, W]`` (non-zero = object); 1 where both are empty."""
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


@dataclass(frozen=True)
class Agreement(Wrapper):
    """A pseudo-corrected mask replaces the prediction only where the IoU of the two is at least ``tau_agree``.

    The pseudo-click lies inside the predicted mask, so a refiner that answers with a part of the object, or with what
    surrounds it, is caught: a correction is there to mend a mask, not to replace the object by another one.

    Attributes
    ----------
    base: what is done otherwise.
    tau_agree: 0.5: more of the two masks in common than not, so that they speak of the same thing.
    store_rejected: whether the frame of a rejected correction may be stored where ``base`` admits it. Off: two
        masks that disagree are a reason for doubt, so the frame is kept out as after a pseudo-correction that is trusted.

    Raises ValueError for a threshold outside 0..1.
    """

    tau_agree: float = 0.5
    store_rejected: bool = False  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not 0.0 <= self.tau_agree <= 1.0:
            raise ValueError(f"tau_agree is {self.tau_agree}; give an IoU in 0..1.")

    def trusts(self, prediction: Prediction, identity: int, mask: np.ndarray) -> bool:
        """Whether ``mask bool [H, W]`` may take the place of the predicted mask of object ``identity``."""
        agree = overlap(prediction.labels == identity, mask) >= self.tau_agree
        return agree and super().trusts(prediction, identity, mask)
