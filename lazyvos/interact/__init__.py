"""Interaction: when to ask, whom, and where a click goes."""

from __future__ import annotations

from lazyvos.interact.base import Policy, User
from lazyvos.interact.clicks import (
    Point,
    distance_field,
    nearest_to_centroid,
    negatives_from_others,
    object_centre,
    other_centres,
)
from lazyvos.interact.policies import Always, Lazy, Never, RandomBudget
from lazyvos.interact.pseudo import pseudo_click, pseudo_point
from lazyvos.interact.users import Nobody, ReplayUser, SimulatedUser

__all__ = [
    "Always",
    "Lazy",
    "Never",
    "Nobody",
    "Point",
    "Policy",
    "RandomBudget",
    "ReplayUser",
    "SimulatedUser",
    "User",
    "distance_field",
    "nearest_to_centroid",
    "negatives_from_others",
    "object_centre",
    "other_centres",
    "pseudo_click",
    "pseudo_point",
]
