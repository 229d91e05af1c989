"""Clicks become masks."""

from lazyvos.refine.base import Refiner
from lazyvos.refine.clicknet import ClickNet
from lazyvos.refine.ritm_predictor import RitmRefiner
from lazyvos.refine.tiny import TinyRefiner

__all__ = ["ClickNet", "Refiner", "RitmRefiner", "TinyRefiner"]
