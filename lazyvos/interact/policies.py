"""Policies: when to go on, when to correct oneself, when to ask (thesis, sections 6.4.4 and 6.4.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lazyvos.types import Action, Prediction


@dataclass(frozen=True)
class Lazy:
    """Ask when an object's uncertainty jumps, self-correct small jumps, keep uncertain frames out of memory.

    With the default trigger an object is asked for where its change ``ΔS_R > tau_user`` and
    pseudo-corrected where ``tau_pseudo < ΔS_R < tau_user``. All comparisons are strict, so a change of
    exactly ``tau_user`` does neither. Nothing is done on frame 0 or where there is no earlier score.

    Attributes
    ----------
    tau_user, tau_pseudo: thresholds on the change of the score (on the score itself with the level
        trigger).
    tau_memory: a frame on which any object has a score above it is refused to the memory.
    trigger: ``"delta"`` looks at the change of the score, ``"level"`` at the score: asked for above
        ``tau_user``, else pseudo-corrected above ``tau_pseudo``.
    ask: whether a person may be asked. Without one, changes above ``tau_user`` are let pass.
    pseudo: whether to make pseudo-corrections.
    udu: whether to refuse uncertain frames (uncertainty-driven update).
    pseudo_idu, user_idu: whether a frame is stored after a pseudo-correction, or a user's correction
        (interaction-driven update).
    """

    tau_user: float = 0.5
    tau_pseudo: float = 0.2
    tau_memory: float = 0.8
    trigger: Literal["delta", "level"] = "delta"
    ask: bool = True
    pseudo: bool = True
    udu: bool = True
    pseudo_idu: bool = False
    user_idu: bool = True

    def __post_init__(self) -> None:
        if self.trigger not in ("delta", "level"):
            raise ValueError(f"trigger is {self.trigger!r}; choose 'delta' or 'level'.")
        for name in ("tau_user", "tau_pseudo", "tau_memory"):
            if np.isnan(getattr(self, name)):
                raise ValueError(f"{name} is NaN; give a number, or infinity for never.")

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """The wish for every object of an uncorrected prediction."""
        values = prediction.deltas if self.trigger == "delta" else prediction.scores
        return {o: self._action(values.get(o) if prediction.t > 0 else None) for o in prediction.objects}

    def _action(self, value: float | None) -> Action:
        if value is None:
            return Action.ACCEPT
        if value > self.tau_user:
            wish, allowed = Action.ASK, self.ask
        elif value > self.tau_pseudo and (value < self.tau_user or self.trigger == "level"):
            wish, allowed = Action.PSEUDO, self.pseudo
        else:
            return Action.ACCEPT
        return wish if allowed else Action.ACCEPT

    def admits(self, prediction: Prediction) -> bool:
        """``False`` where any object's score is above ``tau_memory`` and ``udu`` is on."""
        uncertain = (prediction.scores.get(o, 0.0) > self.tau_memory for o in prediction.objects)
        return not (self.udu and any(uncertain))


@dataclass(frozen=True)
class Never:
    """Accept everything, store everything: the plain tracker. What a person corrects unasked is stored."""

    pseudo_idu: bool = False
    user_idu: bool = True

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """``ACCEPT`` for every object."""
        return dict.fromkeys(prediction.objects, Action.ACCEPT)

    def admits(self, prediction: Prediction) -> bool:
        """Always ``True``."""
        return True


@dataclass(frozen=True)
class Always:
    """Ask for every object on every frame but the first."""

    pseudo_idu: bool = False
    user_idu: bool = True

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """``ASK`` for every object; ``ACCEPT`` on frame 0."""
        return dict.fromkeys(prediction.objects, Action.ASK if prediction.t > 0 else Action.ACCEPT)

    def admits(self, prediction: Prediction) -> bool:
        """Always ``True``."""
        return True


@dataclass(frozen=True)
class RandomBudget:
    """Ask for each object of each frame with probability ``rate``; else do as ``rest`` does (Rand-Lazy-XMem).

    The draw depends on ``seed``, frame number and object id only, so it is the same in any order, after a
    resume, and when a frame is decided twice. 325 requests over LVOS val are a rate of about 325 / 43000.
    ``rest`` must not ask (``ask=False``); a request takes the place of a pseudo-correction of the same
    object. Raises ValueError for a rate outside 0..1 or a negative seed.
    """

    rate: float = 325 / 43000
    seed: int = 0
    rest: Lazy = field(default_factory=lambda: Lazy(ask=False))

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"rate is {self.rate}; give a probability in 0..1.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give a whole number of at least 0.")
        if self.rest.ask:
            raise ValueError("rest asks for clicks of its own; build it with Lazy(ask=False, ...).")

    @property
    def pseudo_idu(self) -> bool:
        """As ``rest``."""
        return self.rest.pseudo_idu

    @property
    def user_idu(self) -> bool:
        """As ``rest``."""
        return self.rest.user_idu

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """``ASK`` where the draw says so, else what ``rest`` wishes; ``ACCEPT`` on frame 0."""
        wishes = self.rest.decide(prediction)
        if prediction.t > 0:
            for o in prediction.objects:
                if np.random.default_rng((self.seed, prediction.t, o)).random() < self.rate:
                    wishes[o] = Action.ASK
        return wishes

    def admits(self, prediction: Prediction) -> bool:
        """As ``rest``."""
        return self.rest.admits(prediction)
