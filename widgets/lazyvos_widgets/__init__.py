"""Notebook widgets for lazyvos."""

from __future__ import annotations

from lazyvos_widgets.clicker import Clicker
from lazyvos_widgets.entropy import EntropyCurve
from lazyvos_widgets.gram import GramInspector
from lazyvos_widgets.rounds import RoundsView

__all__ = ["Clicker", "EntropyCurve", "GramInspector", "RoundsView"]
