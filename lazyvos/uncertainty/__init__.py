"""Uncertainty of a segmentation: a map per frame and a score per object."""

from __future__ import annotations

from lazyvos.uncertainty.base import Doubt, Sampler, Scene, Uncertainty
from lazyvos.uncertainty.dropout import McDropout
from lazyvos.uncertainty.ensemble import Decomposition, Split, Splitter, decompose
from lazyvos.uncertainty.entropy import (
    Entropy,
    ScoreRule,
    dilate_mask,
    dilation_kernel,
    entropy_map,
    kernel_side,
    masked_scores,
    score_changes,
)
from lazyvos.uncertainty.evidential import Evidential, EvidentialMaps, evidential_maps, joint_evidence
from lazyvos.uncertainty.quality import Quality
from lazyvos.uncertainty.temperature import Fit, fit_temperature, tempered

__all__ = [
    "Decomposition",
    "Doubt",
    "Entropy",
    "Evidential",
    "EvidentialMaps",
    "Fit",
    "McDropout",
    "Quality",
    "Sampler",
    "Scene",
    "ScoreRule",
    "Split",
    "Splitter",
    "Uncertainty",
    "decompose",
    "dilate_mask",
    "dilation_kernel",
    "entropy_map",
    "evidential_maps",
    "fit_temperature",
    "joint_evidence",
    "kernel_side",
    "masked_scores",
    "score_changes",
    "tempered",
]
