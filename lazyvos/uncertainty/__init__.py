"""Uncertainty of a segmentation: a map per frame and a score per object."""

from __future__ import annotations

from lazyvos.uncertainty.base import Doubt, Uncertainty
from lazyvos.uncertainty.ensemble import Decomposition, decompose
from lazyvos.uncertainty.entropy import (
    Entropy,
    dilate_mask,
    dilation_kernel,
    entropy_map,
    kernel_side,
    masked_scores,
    score_changes,
)

__all__ = [
    "Decomposition",
    "Doubt",
    "Entropy",
    "Uncertainty",
    "decompose",
    "dilate_mask",
    "dilation_kernel",
    "entropy_map",
    "kernel_side",
    "masked_scores",
    "score_changes",
]
