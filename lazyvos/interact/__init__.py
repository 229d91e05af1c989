"""Interaction: when to ask, whom, and where a click goes."""

from __future__ import annotations

from lazyvos.interact.agreement import Agreement
from lazyvos.interact.background import Background
from lazyvos.interact.base import Answer, Policy, User
from lazyvos.interact.budget import Budgeted
from lazyvos.interact.clicks import (
    Point,
    dispersed_point,
    distance_field,
    nearest_to_centroid,
    negatives_from_others,
    object_centre,
    other_centres,
)
from lazyvos.interact.imperfect import Careless, Late, Shaky
from lazyvos.interact.lookalike import Lookalike, lookalike
from lazyvos.interact.memo import Memo
from lazyvos.interact.outside import Outside
from lazyvos.interact.persistent import Persistent
from lazyvos.interact.policies import Always, Lazy, LazyQdmn, Never, RandomBudget
from lazyvos.interact.prompt import PseudoOptions, pseudo_prompt
from lazyvos.interact.pseudo import pseudo_click, pseudo_point
from lazyvos.interact.robot import Robot, next_click
from lazyvos.interact.strategies import Strategy
from lazyvos.interact.users import Nobody, ReplayUser, SimulatedUser
from lazyvos.interact.wrapper import Wrapper

__all__ = [
    "Agreement",
    "Always",
    "Answer",
    "Background",
    "Budgeted",
    "Careless",
    "Late",
    "Lazy",
    "LazyQdmn",
    "Lookalike",
    "Memo",
    "Never",
    "Nobody",
    "Outside",
    "Persistent",
    "Point",
    "Policy",
    "PseudoOptions",
    "RandomBudget",
    "ReplayUser",
    "Robot",
    "Shaky",
    "SimulatedUser",
    "Strategy",
    "User",
    "Wrapper",
    "dispersed_point",
    "distance_field",
    "lookalike",
    "nearest_to_centroid",
    "negatives_from_others",
    "next_click",
    "object_centre",
    "other_centres",
    "pseudo_click",
    "pseudo_point",
    "pseudo_prompt",
]
