"""Uncertainty of several predictions of one frame: deep ensembles and MC dropout (thesis, section 6.8.3).

The masked score of any of these maps is :func:`lazyvos.uncertainty.entropy.masked_scores` with the label
map of the mean prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lazyvos.uncertainty.entropy import check_probabilities, raw_entropy


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
    mean = torch.stack(checked).mean(0)
    total = raw_entropy(mean)
    aleatoric = torch.stack([raw_entropy(member) for member in checked]).mean(0)
    return Decomposition(mean, total, aleatoric, (total - aleatoric).clamp_min_(0.0))
