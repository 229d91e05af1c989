"""Uncertainty of several predictions of one frame: deep ensembles and MC dropout (thesis, section 6.8.3).

:func:`decompose` gives the maps, :class:`Split` is the estimator that scores one of them: masked by the region rule of the
entropy, with the label map of the mean prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lazyvos.uncertainty.base import Doubt
from lazyvos.uncertainty.entropy import ScoreRule, check_frame, check_probabilities, raw_entropy

Part = Literal["total", "aleatoric", "epistemic"]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The parts of an ensemble's uncertainty; maps are ``[H, W]``, not rounded, divided by ln K.

    Attributes
    ----------
    mean: mean probabilities ``[K, H, W]``; their argmax is the ensemble's segmentation.
    total: entropy of the mean.
    aleatoric: mean of the members' entropies.
    epistemic: total - aleatoric, the mutual information of label and member; at least 0.
    """

    mean: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


@torch.no_grad()
def decompose(members: Tensor | Sequence[Tensor]) -> Decomposition:
    """Split the uncertainty of M members: ``[M, K, H, W]`` or a sequence of ``[K, H, W]``, with background.

    Computed in float32, or in float64 where given so. The difference can fall below 0 by rounding; it is
    cut at 0. Raises ValueError without members, for shapes that differ, and for values that are no
    probabilities.
    """
    if len(members) == 0:
        raise ValueError("members is empty; give the probabilities of at least one member.")
    checked = [check_probabilities(member) for member in members]
    shapes = {tuple(member.shape) for member in checked}
    if len(shapes) > 1:
        raise ValueError(f"members have shapes {sorted(shapes)}; all must have the same.")
    split = Splitter()
    for member in checked:
        split.add(member)
    return split.result()


class Splitter:
    """:func:`decompose` one member at a time, in constant memory: :meth:`add` each, then :meth:`result`. Nothing is checked."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._entropies: Tensor | None = None
        self._count = 0

    def add(self, member: Tensor) -> None:
        """One more member's probabilities ``[K, H, W]``, float32 or float64."""
        entropy = raw_entropy(member)
        if self._sum is None or self._entropies is None:
            self._sum, self._entropies = member.clone(), entropy
        else:
            self._sum += member
            self._entropies += entropy
        self._count += 1

    def result(self) -> Decomposition:
        """The parts of the members so far. Raises ValueError without any."""
        if self._sum is None or self._entropies is None:
            raise ValueError("no member was added; add the probabilities of at least one.")
        mean, aleatoric = self._sum / self._count, self._entropies / self._count
        total = raw_entropy(mean)
        return Decomposition(mean, total, aleatoric, (total - aleatoric).clamp_(min=0.0))


@dataclass(frozen=True, kw_only=True)
class Split(ScoreRule):
    """Estimator for trackers with several members: one part of their uncertainty, and its score per object.

    ``part`` is ``"epistemic"`` (V and V_R of the thesis, section 6.8.3), ``"total"`` or ``"aleatoric"``; its map is not rounded. The
    other options are those of :class:`~lazyvos.uncertainty.entropy.ScoreRule`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"parts"})
    part: Part = "epistemic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part not in ("total", "aleatoric", "epistemic"):
            raise ValueError(f"part is {self.part!r}; choose 'total', 'aleatoric' or 'epistemic'.")

    def __call__(
        self, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...], *, parts: Decomposition | None = None
    ) -> Doubt:
        """``parts`` of the members at the size of ``labels``, which are those of their mean; see ``Uncertainty``."""
        if parts is None:
            raise ValueError("Split was called without parts; let a tracker call it, or give those of decompose().")
        check_frame(probabilities, labels, objects)
        values = getattr(parts, self.part).float().cpu().numpy()
        return Doubt(values, self.scores(values, labels, objects), parts)
