"""Notebook widgets for lazyvos."""

from __future__ import annotations

from lazyvos_widgets.clicker import Clicker

__all__ = ["Clicker"]
