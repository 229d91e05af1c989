"""A clip segmented in rounds: click on a frame, propagate both ways, merge with earlier rounds (CiVOS; thesis, chapter 4)."""

from __future__ import annotations

from lazyvos.rounds.difference import Change, Fusion, time_weights
from lazyvos.rounds.interaction import combine
from lazyvos.rounds.propagate import Leg
from lazyvos.rounds.result import ObjectRound, RoundResult
from lazyvos.rounds.rounds import Rounds
from lazyvos.rounds.state import State

__all__ = ["Change", "Fusion", "Leg", "ObjectRound", "RoundResult", "Rounds", "State", "combine", "time_weights"]
