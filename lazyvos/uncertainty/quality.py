"""The network's own word on how good a mask is (QDMN, Liu et al. 2022), as an uncertainty (Lazy-QDMN, thesis, section 6.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from lazyvos.uncertainty.base import Doubt
from lazyvos.uncertainty.entropy import check_frame, entropy_map


@dataclass(frozen=True)
class Quality:
    """Score ``u = 1 - q`` per object; q is the predicted quality of its mask over that of its annotated frame.

    0 is as good as the annotated frame, 1 lost; below 0 where the network thinks better of a mask than of the annotated one.
    The network gives no map: the map is the entropy, rounded to ``decimals`` as in :class:`~lazyvos.uncertainty.Entropy`. Costs
    one pass of the value encoder on each frame that would otherwise not be encoded.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})
    decimals: int | None = 4

    def __call__(
        self, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...], *, quality: Mapping[int, float] | None = None
    ) -> Doubt:
        """See :class:`~lazyvos.uncertainty.base.Uncertainty`; ``quality`` is relative, per object."""
        if quality is None:
            raise ValueError("Quality was called without quality; let a tracker call it, or give a number per object.")
        check_frame(probabilities, labels, objects)
        values = entropy_map(probabilities, self.decimals).cpu().numpy()
        return Doubt(values, {o: 1.0 - quality[o] for o in objects})


def relative(quality: float, reference: float) -> float:
    """``quality`` over that of the annotated frame; 0 where that is 0 and nothing can be compared."""
    return quality / reference if reference > 0 else 0.0
