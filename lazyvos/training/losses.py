"""Losses of the matching trackers: bootstrapped cross-entropy and dice (XMem, section 4; RITM, section 3.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lazyvos.masks.labels import VOID


def bootstrapped_cross_entropy(logits: Tensor, labels: Tensor, share: float) -> Tensor:
    """Cross-entropy over the hardest ``share`` of each clip's non-void pixels, mean over the clips (XMem, section 4).

    ``logits [B, K, H, W]`` over background and objects, ``labels int64 [B, H, W]`` with 255 = void. Each clip
    counts the same, however many pixels of it are void.
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none", ignore_index=VOID).flatten(1)
    known = (labels != VOID).flatten(1).sum(1)
    if share >= 1:
        return (losses.sum(1) / known.clamp(min=1)).mean()
    hardest = [torch.topk(clip, max(1, int(share * count)), sorted=False).values.mean()
               for clip, count in zip(losses, known.tolist(), strict=True)]  # fmt: skip
    return torch.stack(hardest).mean()


def dice(prob: Tensor, labels: Tensor) -> Tensor:
    """Mean over objects of ``1 − (2·Σ p·g + 1)/(Σ p + Σ g + 1)``; void pixels are left out.

    ``prob [B, n, H, W]`` of objects 1..n, ``labels int64 [B, H, W]``.
    """
    known = (labels != VOID).unsqueeze(1)
    wanted = torch.arange(1, prob.shape[1] + 1, device=labels.device).view(1, -1, 1, 1)
    truth = ((labels.unsqueeze(1) == wanted) & known).float()
    prob = prob.float() * known
    overlap = (prob * truth).sum((2, 3))
    return (1 - (2 * overlap + 1) / (prob.sum((2, 3)) + truth.sum((2, 3)) + 1)).mean()


def normalised_focal(logits: Tensor, truth: Tensor, weight: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Focal loss whose weights are rescaled per picture to sum to the number of pixels (RITM, equation 2).

    ``logits`` and ``truth`` are ``[B, 1, H, W]``; ``weight`` 0 marks void pixels. No gradient flows through
    the rescaling.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    with torch.no_grad():
        right = torch.exp(-losses)
        focus = (1 - right) ** gamma
        if weight is not None:
            focus = focus * weight
        pixels = float(focus[0].numel())
        focus = focus * (pixels / focus.sum((1, 2, 3), keepdim=True).clamp(min=1e-6))
    return (focus * losses).mean()
