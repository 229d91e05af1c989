"""Evidential segmentation: how much the network has seen that speaks for and against each object (Sensoy et al., NeurIPS 2018).

Evidence e_k >= 0 makes a Dirichlet of α_k = e_k + 1, A = Σ α_k over the K classes of a pixel: background and objects. For one object
that is a Beta(α_for, α_against). An evidential network gives each object its own two numbers; for several objects the
background has the smallest evidence against any of them, since a pixel is background only if it is none of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lazyvos.uncertainty.base import Doubt
from lazyvos.uncertainty.ensemble import Decomposition
from lazyvos.uncertainty.entropy import ScoreRule, check_frame, raw_entropy


@dataclass(frozen=True, eq=False)
class EvidentialMaps(Decomposition):
    """What a Dirichlet says of each pixel; entropies are divided by ln K, as everywhere.

    Attributes
    ----------
    mean: ``[K, ...]``, α_k / A.
    total, aleatoric, epistemic: entropy of the mean; the expected entropy; their difference, at least 0.
    vacuity: K / A in (0, 1]; 1 where there is no evidence at all.
    variance: ``[K, ...]`` of each probability, p_k (1 - p_k) / (A + 1).
    """

    vacuity: Tensor
    variance: Tensor


def evidential_maps(evidence: Tensor) -> EvidentialMaps:
    """Maps of the evidence ``[K, ...]`` for each class, K at least 2. Raises ValueError for negative evidence or another shape."""
    if evidence.ndim < 1 or len(evidence) < 2 or not evidence.is_floating_point():
        raise ValueError(f"evidence is {evidence.dtype} of shape {tuple(evidence.shape)}; give floating point [K, ...] with K of 2 or more.")
    e = evidence if evidence.dtype == torch.float64 else evidence.float()
    if not bool((e >= 0).all()):  # also false for NaN
        raise ValueError(f"evidence goes down to {float(e.amin())}; it must be at least 0.")
    alpha = e + 1
    strength = alpha.sum(0)
    mean = alpha / strength
    total = raw_entropy(mean)
    expected = (mean * (torch.digamma(strength + 1) - torch.digamma(alpha + 1))).sum(0) / math.log(len(e))
    aleatoric = expected.clamp(0.0, 1.0)
    return EvidentialMaps(
        mean, total, aleatoric, (total - aleatoric).clamp_min(0.0), len(e) / strength, mean * (1 - mean) / (strength + 1)
    )


def joint_evidence(evidence: Tensor) -> Tensor:
    """``[O, 2, H, W]``, for and against each object, to the evidence ``[1 + O, H, W]`` for background and objects."""
    if evidence.ndim != 4 or evidence.shape[1] != 2 or not len(evidence):
        raise ValueError(f"evidence has shape {tuple(evidence.shape)}; give [objects, 2, height, width].")
    return torch.cat([evidence[:, 1].amin(0, keepdim=True), evidence[:, 0]])


@dataclass(frozen=True, kw_only=True)
class Evidential(ScoreRule):
    """Estimator for evidential networks: one of their maps, and its score per object.

    ``part`` is ``"total"`` (the drop-in for the entropy), ``"aleatoric"``, ``"epistemic"`` or ``"vacuity"``. The other options are those of
    :class:`~lazyvos.uncertainty.entropy.ScoreRule`. Masks and memory use the tracker's soft aggregation of the Beta means, as with
    every network; only the maps come from the Dirichlet.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"evidence"})
    part: Literal["total", "aleatoric", "epistemic", "vacuity"] = "total"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part not in ("total", "aleatoric", "epistemic", "vacuity"):
            raise ValueError(f"part is {self.part!r}; choose 'total', 'aleatoric', 'epistemic' or 'vacuity'.")

    def __call__(
        self, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...], *, evidence: Tensor | None = None
    ) -> Doubt:
        """See :class:`~lazyvos.uncertainty.base.Uncertainty`; ``evidence [O, 2, H, W]``, for and against each object."""
        if evidence is None:
            raise ValueError("Evidential was called without evidence; let a tracker call it, or give [objects, 2, height, width].")
        check_frame(probabilities, labels, objects)
        maps = evidential_maps(joint_evidence(evidence))
        values = getattr(maps, self.part).float().cpu().numpy()
        return Doubt(values, self.scores(values, labels, objects), maps)
