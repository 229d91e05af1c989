"""The joints between the tracker, its policy and the person (or program) that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from lazyvos.types import Action, Click, Prediction, Request


@runtime_checkable
class Policy(Protocol):
    """Decides per object between going on, a pseudo-correction and asking; and whether a frame may be stored.

    Source: thesis, sections 6.4.4 and 6.4.5.
    """

    @property
    def pseudo_idu(self) -> bool:
        """Whether a frame is stored after a pseudo-correction."""
        ...

    @property
    def user_idu(self) -> bool:
        """Whether a frame is stored after a user correction."""
        ...

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """The wish for every object of an uncorrected prediction."""
        ...

    def admits(self, prediction: Prediction) -> bool:
        """``False`` refuses the whole frame to the memory (UDU)."""
        ...


@runtime_checkable
class User(Protocol):
    """Whoever answers requests."""

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Sequence[Click] | None:
        """Clicks for the requested object, or ``None`` to leave the prediction as it is."""
        ...
