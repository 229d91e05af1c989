"""Training an evidential network: the losses of Sensoy et al. (NeurIPS 2018, equations 4 and 5) and its task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lazyvos.backbones.layers import aggregate, evidence_logit
from lazyvos.backbones.xmem import Features, XMem
from lazyvos.training.clips import ClipMaker
from lazyvos.training.config import TrainConfig
from lazyvos.training.losses import VOID
from lazyvos.training.step import FrameCost
from lazyvos.training.track import TrackTask

Form = Literal["squares", "digamma"]


def evidence_fit(evidence: Tensor, truth: Tensor, form: Form = "squares") -> Tensor:
    """How badly the Dirichlet of ``evidence [B, K, ...]`` fits one-hot ``truth`` of the same shape: ``[B, ...]``.

    ``"squares"``: expected squared error ``Σ (y − p)² + p (1 − p) / (A + 1)``; ``"digamma"``: expected cross-entropy
    ``Σ y (ψ(A) − ψ(α))``. α = evidence + 1, A = Σ α, p = α / A. Raises ValueError for another form.
    """
    alpha = evidence + 1
    strength = alpha.sum(1, keepdim=True)
    if form == "squares":
        p = alpha / strength
        return ((truth - p) ** 2 + p * (1 - p) / (strength + 1)).sum(1)
    if form == "digamma":
        return (truth * (torch.digamma(strength) - torch.digamma(alpha))).sum(1)
    raise ValueError(f"form is {form!r}; choose 'squares' or 'digamma'.")


def misleading(evidence: Tensor, truth: Tensor) -> Tensor:
    """``KL(Dir(α̃) ‖ Dir(1))`` with α̃ = y + (1 − y) α: what is left once the evidence for the true class is taken away; ``[B, ...]``."""
    alpha = truth + (1 - truth) * (evidence + 1)
    strength = alpha.sum(1)
    norm = torch.lgamma(strength) - torch.lgamma(alpha).sum(1) - math.lgamma(alpha.shape[1])
    return norm + ((alpha - 1) * (torch.digamma(alpha) - torch.digamma(strength).unsqueeze(1))).sum(1)


def evidential_loss(
    evidence: Tensor, labels: Tensor, *, form: Form = "squares", weight: float = 1.0
) -> tuple[Tensor, float, float]:
    """Mean over the pixels that are not void of :func:`evidence_fit` + ``weight`` · :func:`misleading`.

    ``evidence [B, K, H, W]``, ``labels int64 [B, H, W]`` in 0..K−1 or 255 = void. Also gives the two means as numbers. 0 where all is void.
    """
    known = labels != VOID
    classes = torch.arange(evidence.shape[1], device=labels.device).view(1, -1, *(1 for _ in labels.shape[1:]))
    truth = (labels.unsqueeze(1) == classes).to(evidence.dtype)
    count = known.sum().clamp(min=1)
    fit = (evidence_fit(evidence, truth, form) * known).sum() / count
    divergence = (misleading(evidence, truth) * known).sum() / count
    return fit + weight * divergence, fit.item(), divergence.item()


@dataclass(frozen=True)
class EvidentialCost:
    """Cost of a predicted frame (:class:`lazyvos.training.step.FrameCost`): each object's Beta against its own mask."""

    form: Form = "squares"
    weight: float = 1.0

    def __call__(
        self, net: XMem, features: Features, readout: Tensor, hidden: Tensor | None, exists: Tensor, truth: Tensor, update: bool
    ) -> tuple[Tensor, Tensor | None, Tensor, dict[str, float]]:
        """See :class:`lazyvos.training.step.FrameCost`. Objects that the clip does not have cost nothing."""
        evidence, hidden = net.segment_evidence(features, readout, hidden, update=update)
        prob = aggregate(torch.sigmoid(evidence_logit(evidence, 2)) * exists, 1)[1]
        wanted = torch.arange(1, evidence.shape[1] + 1, device=truth.device).view(1, -1, 1, 1)
        labels = (truth.unsqueeze(1) != wanted).long()  # 0: for, 1: against
        labels[(truth.unsqueeze(1) == VOID) | (exists == 0)] = VOID
        loss, fit, divergence = evidential_loss(evidence.flatten(0, 1), labels.flatten(0, 1), form=self.form, weight=self.weight)
        return prob[:, 1:], hidden, loss, {"fit": fit, "misleading": divergence}


class EvidentialTask(TrackTask):
    """Clips to be tracked by an evidential network. The weight of misleading evidence grows from 0 to 1 over the share ``ramp`` of
    the run (published: over the first ten epochs)."""

    def __init__(self, maker: ClipMaker, config: TrainConfig, form: Form = "squares", ramp: float = 0.5) -> None:
        super().__init__(maker, config)
        self.form, self.ramp = form, ramp

    def cost(self, step: int) -> FrameCost:
        """See :meth:`lazyvos.training.track.TrackTask.cost`."""
        return EvidentialCost(self.form, min(1.0, step / max(1.0, self.ramp * self.config.steps)))
