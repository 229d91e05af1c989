"""Uncertainty outside the mask: a look-alike of the object, or the object itself after it was lost (thesis, section 6.9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazyvos.interact.lookalike import Lookalike, lookalike
from lazyvos.interact.memo import Memo
from lazyvos.interact.wrapper import Wrapper
from lazyvos.types import Action, Click, Prediction


@dataclass(frozen=True)
class Outside(Wrapper):
    """Looks outside the mask too, where the published method is blind: at look-alikes, and for objects it has lost.

    An object whose look-alike rises above ``tau_user``, or above ``tau_negative`` while its own mask is almost gone, is asked for;
    one between the two thresholds is pseudo-corrected, and every pseudo-correction gets a negative click on a
    look-alike above ``tau_negative``. Each is one event: it can come again when the score has fallen to half the
    threshold, so that a look-alike that stays is asked about once and does not keep frames out of the memory.

    Attributes
    ----------
    base: what is done otherwise; its requests stay.
    tau_user: 0.5, as the thesis's threshold inside the mask: half the object's area is lit elsewhere.
    tau_negative: 0.2, as the thesis's threshold of pseudo-corrections.
    bright, margin: see :func:`lookalike`.
    gone: a mask below this part of the object's usual area counts as almost gone.
    steady: weight of a frame in the usual area (running mean over frames on which the object is seen).
    ask, pseudo: whether to ask, and to pseudo-correct, for these reasons.
    """

    tau_user: float = 0.5
    tau_negative: float = 0.2
    bright: float = 0.5
    margin: float = 0.2
    gone: float = 0.1
    steady: float = 0.1
    ask: bool = True
    pseudo: bool = True
    _memo: Memo = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.steady <= 1.0:
            raise ValueError(f"steady is {self.steady}; give a weight above 0 and up to 1.")
        for name in ("tau_user", "tau_negative", "bright", "margin", "gone"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number of at least 0.")

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """The wish for every object of an uncorrected prediction."""
        wishes = dict(super().decide(prediction))
        for o, (action, _, _) in self._seen(prediction).items():
            if action is Action.ASK or (action is Action.PSEUDO and wishes[o] is Action.ACCEPT):
                wishes[o] = action
        return wishes

    def worth(self, prediction: Prediction) -> dict[int, float | None]:
        """That of ``base``, or the score outside where this asks and it is larger."""
        found = dict(super().worth(prediction))
        for o, (action, place, lost) in self._seen(prediction).items():
            if action is Action.ASK and place is not None:
                found[o] = max(1.0 if lost else place.score, found.get(o) or 0.0)
        return found

    def pseudo_clicks(self, prediction: Prediction, identity: int) -> tuple[Click, ...]:
        """Those of ``base``, with a negative one on the look-alike."""
        clicks = super().pseudo_clicks(prediction, identity)
        _, place, _ = self._seen(prediction).get(identity, (None, None, False))
        if not clicks or place is None or place.score <= self.tau_negative:
            return clicks
        negative = Click(*place.at, identity, positive=False)
        return clicks if negative in clicks else (*clicks, negative)

    def _seen(self, prediction: Prediction) -> dict[int, tuple[Action, Lookalike | None, bool]]:
        """For every object: the wish of this policy alone, its look-alike, whether the object is almost gone."""
        return self._memo.once(prediction, self._look)

    def _look(self, prediction: Prediction) -> dict[int, tuple[Action, Lookalike | None, bool]]:
        records = self._memo.objects(
            prediction.t, prediction.objects, lambda: {"area": 0.0, "ask": True, "pseudo": True}
        )
        return {o: self._one(prediction, o, record) for o, record in records.items()}

    def _one(self, prediction: Prediction, o: int, record: dict[str, Any]) -> tuple[Action, Lookalike | None, bool]:
        usual = record["area"]
        area = int(np.count_nonzero(prediction.labels == o))
        if area:
            record["area"] = usual + self.steady * (area - usual) if usual else float(area)
        if prediction.t == 0 or not (usual or area):
            return Action.ACCEPT, None, False
        place = lookalike(prediction, o, bright=self.bright, margin=self.margin, area=usual)
        score = 0.0 if place is None else place.score
        lost = area <= self.gone * usual
        limit = min(self.tau_negative, self.tau_user) if lost else self.tau_user
        wish = Action.ACCEPT
        if self.pseudo and record["pseudo"] and self.tau_negative < score and area:
            wish, record["pseudo"] = Action.PSEUDO, False
        if self.ask and record["ask"] and score > limit:
            wish, record["ask"] = Action.ASK, False
        record["pseudo"] |= score <= self.tau_negative / 2
        record["ask"] |= score <= limit / 2
        return wish, place, lost
