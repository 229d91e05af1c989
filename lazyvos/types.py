"""The small, frozen values that travel between the parts of lazyvos."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # scoring processes use these types and need no torch
    import torch

    from lazyvos.uncertainty.ensemble import Decomposition


class InputError(ValueError):
    """Something handed in by a user cannot work; the message names the thing, the value and the mend."""


_CLICK = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*(?:@\s*(\d+))?\s*([+-])?\s*$")


@dataclass(frozen=True, slots=True)
class Click:
    """One click: ``x`` (column) and ``y`` (row) in pixels of the frame, the object it speaks of, its sign.

    Raises :class:`InputError` for an object id outside 1..254 or a coordinate that is no finite number.
    """

    x: float
    y: float
    object: int = 1
    positive: bool = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.x) and np.isfinite(self.y)):
            raise InputError(f"click ({self.x}, {self.y}) is no point; give two finite numbers")
        if not 1 <= self.object <= 254:
            raise InputError(f"click names object {self.object}; object ids run from 1 to 254")

    @staticmethod
    def parse(text: str) -> Click:
        """Read ``x,y``, ``x,y@object`` and a trailing ``-`` for a negative click, as on the command line."""
        found = _CLICK.match(text)
        if not found:
            raise InputError(f"click {text!r} is not understood; write x,y or x,y@object, with a trailing - for negative")
        x, y, identity, sign = found.groups()
        return Click(float(x), float(y), int(identity or 1), sign != "-")

    def check_inside(self, size: tuple[int, int]) -> None:
        """Raise :class:`InputError` when the click lies outside a frame of ``size = (height, width)``."""
        height, width = size
        if not (0 <= self.x < width and 0 <= self.y < height):
            raise InputError(
                f"click ({self.x:g}, {self.y:g}) lies outside the frame of {width}x{height}; "
                f"x must be in 0..{width - 1} and y in 0..{height - 1}"
            )


class Action(enum.Enum):
    """What a policy wants for one object on one frame."""

    ACCEPT = "accept"
    PSEUDO = "pseudo"
    ASK = "ask"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the tracker says of one frame.

    Attributes
    ----------
    t: frame number, 0-based.
    labels: ``uint8 [H, W]`` of object ids, 0 background.
    probabilities: ``float32 [1 + O, H, W]``, background first; channel ``i + 1`` is ``objects[i]``; sums to 1.
    objects: object ids in channel order.
    entropy: ``float32 [H, W]`` normalised entropy in [0, 1] (thesis, section 6.4.2).
    scores: S_R per object (uncertainty over its dilated mask).
    deltas: ΔS_R per object; ``None`` where there is no earlier score.
    refined: the objects whose mask was corrected on this frame.
    parts: how the uncertainty splits (:class:`lazyvos.uncertainty.Decomposition`), where the tracker has several members or passes or
        an evidential network; of the uncorrected prediction.
    """

    t: int
    labels: np.ndarray
    probabilities: torch.Tensor
    objects: tuple[int, ...]
    entropy: np.ndarray
    scores: Mapping[int, float]
    deltas: Mapping[int, float | None]
    refined: tuple[int, ...] = ()
    parts: Decomposition | None = None

    def __post_init__(self) -> None:
        wanted = (1 + len(self.objects), *self.labels.shape)
        if tuple(self.probabilities.shape) != wanted:
            raise ValueError(f"probabilities have shape {tuple(self.probabilities.shape)}, expected {wanted}")
        if self.entropy.shape != self.labels.shape:
            raise ValueError(f"entropy has shape {self.entropy.shape}, labels {self.labels.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the frame."""
        return self.labels.shape[0], self.labels.shape[1]


@dataclass(frozen=True, slots=True)
class Request:
    """The tracker asks a person about one object of one frame.

    ``at`` is the ``(x, y)`` of the most uncertain point near the object, in pixels, for the eye to start from.
    """

    t: int
    object: int
    score: float
    delta: float | None
    at: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the memory did with an offered frame.

    ``slot`` is the position it took, ``replaced`` the frame number that had to go, ``reason`` a short word such as
    ``filled``, ``replaced``, ``interval``, ``lower bound``, ``no gain``, ``uncertain``. ``log_gram_before`` and ``log_gram_after`` are
    log10|Γ| where the strategy keeps a Gram matrix.
    """

    t: int
    kept: bool
    reason: str
    slot: int | None = None
    replaced: int | None = None
    log_gram_before: float | None = None
    log_gram_after: float | None = None
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Correction:
    """A change of one object's mask: ``kind`` is ``"user"``, ``"pseudo"`` or ``"mask"``."""

    t: int
    object: int
    kind: str
    clicks: tuple[Click, ...] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """Everything that happened on one frame. ``original`` is the prediction before any correction."""

    t: int
    prediction: Prediction
    original: Prediction
    requests: tuple[Request, ...]
    corrections: tuple[Correction, ...]
    decision: Decision
    seconds: float
    extra: Mapping[str, Any] = field(default_factory=dict)
