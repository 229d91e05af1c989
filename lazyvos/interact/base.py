"""The joints between the tracker, its policy and the person (or program) that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from lazyvos.types import Action, Click, Prediction, Request

Answer: TypeAlias = Sequence[Click] | np.ndarray | None
"""What a user says: clicks, the whole mask ``[H, W]`` of the object (non-zero = object; may be empty), or nothing."""


@runtime_checkable
class Policy(Protocol):
    """Decides per object between going on, a pseudo-correction and asking; and whether a frame may be stored.

    Asked about the same frame again it must say the same. What else a policy may have (options of its pseudo-corrections, a
    judgement of their result, a state): see :mod:`lazyvos.interact.hooks`.

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
    """Whoever answers requests.

    A user who takes time returns ``None`` and has ``arrivals(t)``: the answers that have come by frame ``t``, each with its
    request; it is asked for on every frame.
    """

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Answer:
        """Clicks (or the mask) for the requested object, or ``None`` to leave the prediction as it is."""
        ...
