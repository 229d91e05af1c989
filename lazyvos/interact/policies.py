"""Policies: when to go on, when to correct oneself, when to ask (thesis, sections 6.4.4 and 6.4.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lazyvos.interact.prompt import PseudoOptions
from lazyvos.types import Action, Prediction


@dataclass(frozen=True)
class Lazy:
    """Ask when an object's uncertainty jumps, self-correct small jumps, keep uncertain frames out of memory.

    With the default trigger an object is asked for where its change ``ΔS_R > tau_user`` and
    pseudo-corrected where ``tau_pseudo < ΔS_R < tau_user``. All comparisons are strict, so a change of
    exactly ``tau_user`` does neither. Nothing is done on frame 0 or where there is no earlier score.
    Where thesis and released code differ, the default is the thesis with the code's constants.

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
    level_user, level_pseudo: thresholds on the score itself, beside the trigger; infinity for none. (The
        released code has both, off.)
    comparison: ``"strict"`` (released code) or ``"inclusive"`` (thesis: at ``tau_user`` is asked for, at
        ``tau_pseudo`` pseudo-corrected).
    udu_scope: ``"frame"`` refuses the whole frame where any object is above ``tau_memory`` (released code);
        ``"object"`` stores it for the objects that are not (thesis; not with the long-term memory).
    pseudo_options: where a pseudo-correction clicks and what it gives to the refiner.
    pseudo_result: ``"kept"``: the pseudo-corrected mask is the object's mask on this frame (thesis);
        ``"yields"``: it is lost where a person corrects anything on the same frame; ``"dropped"``: it is
        never used, the frame is only kept out of the memory as ``pseudo_idu`` says (released code).
    output: which mask is the result of a corrected frame, ``"refined"`` (thesis) or ``"original"``: the
        correction goes to the memory alone (released code).
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
    level_user: float = np.inf
    level_pseudo: float = np.inf
    comparison: Literal["strict", "inclusive"] = "strict"
    udu_scope: Literal["frame", "object"] = "frame"
    pseudo_options: PseudoOptions = field(default_factory=PseudoOptions)
    pseudo_result: Literal["kept", "yields", "dropped"] = "kept"
    output: Literal["refined", "original"] = "refined"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}.")
        for name in ("tau_user", "tau_pseudo", "tau_memory", "level_user", "level_pseudo"):
            if np.isnan(getattr(self, name)):
                raise ValueError(f"{name} is NaN; give a number, or infinity for never.")

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """The wish for every object of an uncorrected prediction."""
        if prediction.t == 0:
            return dict.fromkeys(prediction.objects, Action.ACCEPT)
        values = self.worth(prediction)
        return {o: self._action(values.get(o), prediction.scores.get(o)) for o in prediction.objects}

    def worth(self, prediction: Prediction) -> dict[int, float | None]:
        """What the trigger looks at, per object; ``None`` where it is not known."""
        return dict(prediction.deltas if self.trigger == "delta" else prediction.scores)

    def _action(self, value: float | None, score: float | None) -> Action:
        if self._above(value, self.tau_user) or self._above(score, self.level_user):
            wish, allowed = Action.ASK, self.ask
        elif self._pseudo(value) or self._above(score, self.level_pseudo):
            wish, allowed = Action.PSEUDO, self.pseudo
        else:
            return Action.ACCEPT
        return wish if allowed else Action.ACCEPT

    def _above(self, value: float | None, threshold: float) -> bool:
        if value is None:
            return False
        return value >= threshold if self.comparison == "inclusive" else value > threshold

    def _pseudo(self, value: float | None) -> bool:
        if value is None or not self._above(value, self.tau_pseudo):
            return False
        return value < self.tau_user or self.trigger == "level"

    def admits(self, prediction: Prediction) -> bool:
        """``False`` where nothing of the frame may be stored: see ``udu_scope``."""
        uncertain = [prediction.scores.get(o, 0.0) > self.tau_memory for o in prediction.objects]
        refuse = any(uncertain) if self.udu_scope == "frame" else bool(uncertain) and all(uncertain)
        return not (self.udu and refuse)

    def admitted(self, prediction: Prediction) -> tuple[int, ...]:
        """Of a frame that is stored, the objects it is stored for: all, or with ``udu_scope="object"`` the certain ones."""
        if not self.udu or self.udu_scope == "frame":
            return prediction.objects
        return tuple(o for o in prediction.objects if not prediction.scores.get(o, 0.0) > self.tau_memory)


_CHOICES = {
    "trigger": ("delta", "level"), "comparison": ("strict", "inclusive"), "udu_scope": ("frame", "object"),
    "pseudo_result": ("kept", "yields", "dropped"), "output": ("refined", "original"),
}  # fmt: skip


@dataclass(frozen=True)
class LazyQdmn(Lazy):
    """:class:`Lazy` on the quality that QDMN predicts: ``u = 1 - q`` stands in the place of the score.

    The policy only reads scores; they come from the tracker's uncertainty, which must be the one named by
    ``estimator``. No thresholds are published for it; the defaults are those of the entropy and mean little here.
    """

    estimator: str = "quality"


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

    @property
    def pseudo_options(self) -> PseudoOptions:
        """As ``rest``."""
        return self.rest.pseudo_options

    @property
    def pseudo_result(self) -> Literal["kept", "yields", "dropped"]:
        """As ``rest``."""
        return self.rest.pseudo_result

    @property
    def output(self) -> Literal["refined", "original"]:
        """As ``rest``."""
        return self.rest.output

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

    @property
    def udu_scope(self) -> Literal["frame", "object"]:
        """As ``rest``."""
        return self.rest.udu_scope

    def admitted(self, prediction: Prediction) -> tuple[int, ...]:
        """As ``rest``."""
        return self.rest.admitted(prediction)
