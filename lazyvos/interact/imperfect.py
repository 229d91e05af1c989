"""Users with faults: unsteady, late, careless. Each is built around another user; ``Late`` goes around the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from lazyvos.interact import hooks
from lazyvos.interact.base import Answer, User
from lazyvos.types import Click, Prediction, Request


@dataclass(frozen=True)
class Shaky:
    """Misses by some pixels: every click of ``user`` lands uniformly within ``radius`` pixels, inside the frame.

    Drawn from ``seed``, frame, object and the click's place in the answer alone. A mask is left as it is. Raises ValueError
    for a negative radius or seed.
    """

    user: User
    radius: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.radius < np.inf:
            raise ValueError(f"radius is {self.radius}; give a number of pixels, at least 0.")
        _check_seed(self.seed)

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Answer:
        """The clicks of ``user``, moved; their sign and object stay."""
        answer = self.user.answer(request, frame, prediction)
        if answer is None or isinstance(answer, np.ndarray):
            return answer
        rng = np.random.default_rng((self.seed, request.t, request.object))
        return tuple(self._moved(click, rng, prediction.size) for click in answer)

    def arrivals(self, t: int) -> list[tuple[Request, Answer]]:
        """Those of ``user``, as they are."""
        return list(hooks.arrivals(self.user, t))

    def _moved(self, click: Click, rng: np.random.Generator, size: tuple[int, int]) -> Click:
        far, angle = self.radius * math.sqrt(rng.random()), 2 * math.pi * rng.random()
        x = min(max(click.x + far * math.cos(angle), 0.0), size[1] - 1.0)
        y = min(max(click.y + far * math.sin(angle), 0.0), size[0] - 1.0)
        return replace(click, x=x, y=y)


@dataclass(frozen=True)
class Careless:
    """Leaves each request unanswered with probability ``ignore``; else answers as ``user``.

    Drawn from ``seed``, frame and object alone. Raises ValueError for a probability outside 0..1 or a negative seed.
    """

    user: User
    ignore: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.ignore <= 1.0:
            raise ValueError(f"ignore is {self.ignore}; give a probability in 0..1.")
        _check_seed(self.seed)

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Answer:
        """The answer of ``user``, or ``None``."""
        if np.random.default_rng((self.seed, request.t, request.object, 1)).random() < self.ignore:
            return None
        return self.user.answer(request, frame, prediction)

    def arrivals(self, t: int) -> list[tuple[Request, Answer]]:
        """Those of ``user``."""
        return list(hooks.arrivals(self.user, t))


@dataclass(frozen=True)
class Late:
    """Answers ``frames`` frames too late.

    With ``mode="arrives"`` the answer is made for the frame of the request and given ``frames`` frames later, on a frame that may
    look different: what happens when a video does not wait. While an answer is under way, the object's further
    requests stay unanswered; answers that have not come when the clip ends are lost. With ``mode="stale"`` it is given at once but
    made from the truth ``frames`` frames ago (frame 0 at the earliest): a person who looks at an old picture.

    Answers under way are no part of a snapshot. Raises ValueError for a negative number of frames or another mode.
    """

    user: User
    frames: int = 5
    mode: Literal["arrives", "stale"] = "arrives"
    _coming: dict[int, tuple[int, Request, Answer]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise ValueError(f"frames is {self.frames}; give a whole number of at least 0.")
        if self.mode not in ("arrives", "stale"):
            raise ValueError(f"mode is {self.mode!r}; choose 'arrives' or 'stale'.")

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Answer:
        """``None`` where the answer comes later (:meth:`arrivals`)."""
        if self.mode == "stale":
            return self.user.answer(replace(request, t=max(0, request.t - self.frames)), frame, prediction)
        if self.frames and request.object in self._coming:
            return None
        answer = self.user.answer(request, frame, prediction)
        if self.frames and answer is not None:
            self._coming[request.object] = request.t + self.frames, request, answer
            return None
        return answer

    def arrivals(self, t: int) -> list[tuple[Request, Answer]]:
        """Answers that have come by frame ``t``, with their requests; each once."""
        due = [o for o, (when, request, _) in self._coming.items() if when <= t or request.t > t]
        found = [self._coming.pop(o) for o in due]
        return [(request, answer) for _, request, answer in found if request.t <= t]


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}; give a whole number of at least 0.")
