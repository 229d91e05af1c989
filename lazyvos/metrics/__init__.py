"""Measures of segmentation quality, of robustness and of the user's workload."""

from __future__ import annotations

from lazyvos.metrics.davis import (
    DavisScorer,
    ObjectScore,
    Score,
    Statistics,
    evaluate_sequence,
    series_statistics,
    summarise,
)
from lazyvos.metrics.jf import boundary_map, contour, disk, region, tolerance_radius
from lazyvos.metrics.robustness import robustness_at, robustness_of, success_rate
from lazyvos.metrics.workload import Workload, aci, gaps, idi, unevenness, user_workload

__all__ = [
    "DavisScorer",
    "ObjectScore",
    "Score",
    "Statistics",
    "Workload",
    "aci",
    "boundary_map",
    "contour",
    "disk",
    "evaluate_sequence",
    "gaps",
    "idi",
    "region",
    "robustness_at",
    "robustness_of",
    "series_statistics",
    "success_rate",
    "summarise",
    "tolerance_radius",
    "unevenness",
    "user_workload",
]
