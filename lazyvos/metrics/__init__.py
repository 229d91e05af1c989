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
from lazyvos.metrics.lvos import (
    LvosObject,
    lvos_object,
    lvos_series,
    lvos_summary,
    per_object_mean,
    stability,
)
from lazyvos.metrics.robustness import robustness_at, robustness_of, success_rate
from lazyvos.metrics.vots import VotsObject, VotsScore, overlap, vots_masks, vots_object
from lazyvos.metrics.workload import Workload, aci, gaps, idi, unevenness, user_workload

__all__ = [
    "DavisScorer",
    "LvosObject",
    "ObjectScore",
    "Score",
    "Statistics",
    "VotsObject",
    "VotsScore",
    "Workload",
    "aci",
    "boundary_map",
    "contour",
    "disk",
    "evaluate_sequence",
    "gaps",
    "idi",
    "lvos_object",
    "lvos_series",
    "lvos_summary",
    "overlap",
    "per_object_mean",
    "region",
    "robustness_at",
    "robustness_of",
    "series_statistics",
    "stability",
    "success_rate",
    "summarise",
    "tolerance_radius",
    "unevenness",
    "user_workload",
    "vots_masks",
    "vots_object",
]
