"""Notice losses that are too slow, or too sudden, for the change from one frame to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from lazyvos.interact.memo import Memo
from lazyvos.interact.wrapper import Wrapper
from lazyvos.types import Action, Prediction


@dataclass(frozen=True)
class Persistent(Wrapper):
    """Asks where the score has risen by ``tau_rise`` within ``window`` frames, or the mask collapses or jumps in size.

    The rise is the largest sum of changes ΔS that ends now: the score minus its smallest value over the window. With one frame it is
    the published trigger; with more, a slow loss is noticed as a fast one is. A mask that vanishes has a score of 0 (the
    published method never asks then), but its area tells. After a request the object is left alone for
    ``refractory`` frames and the window starts anew, so that one event is asked about once.

    Attributes
    ----------
    base: what is done otherwise; its requests stay, but for the time after a request.
    tau_rise: 0.5, the published threshold of a change.
    window: 10 frames: two memory intervals, in which a frame of the time before the loss is still fresh in the memory.
    refractory: frames without a request for an object after one; 10, so that an old rise has left the window.
    collapse: ask where the area falls below this part of its median over the window; 0 for never.
    jump: ask where it exceeds the median by this factor; infinity for never.
    least_area: masks with a smaller median (pixels) are not judged by their area, for there a few pixels are a large part.

    Raises ValueError for numbers that make no sense.
    """

    tau_rise: float = 0.5
    window: int = 10
    refractory: int = 10
    collapse: float = 0.2
    jump: float = 3.0
    least_area: int = 64
    _memo: Memo = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.window < 1 or self.refractory < 0:
            raise ValueError(f"window is {self.window}, refractory {self.refractory}; give at least 1 and 0 frames.")
        if not (0.0 <= self.collapse < 1.0 < self.jump):
            raise ValueError(f"collapse is {self.collapse}, jump {self.jump}; give one in 0..1 and one above 1.")
        if np.isnan(self.tau_rise):
            raise ValueError("tau_rise is NaN; give a number, or infinity for never.")

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """The wish for every object of an uncorrected prediction."""
        return {o: wish for o, (wish, _) in self._memo.once(prediction, self._look).items()}

    def worth(self, prediction: Prediction) -> dict[int, float | None]:
        """That of ``base``, or the rise where it is larger; 1 where the area says that the object is lost."""
        found = dict(super().worth(prediction))
        for o, (_, value) in self._memo.once(prediction, self._look).items():
            known = found.get(o)
            if value is not None:
                found[o] = value if known is None else max(value, known)
        return found

    def _look(self, prediction: Prediction) -> dict[int, tuple[Action, float | None]]:
        wishes = super().decide(prediction)
        records = self._memo.objects(prediction.t, prediction.objects, lambda: {"scores": [], "areas": [], "rest": 0})
        if prediction.t == 0:
            return dict.fromkeys(prediction.objects, (Action.ACCEPT, None))
        return {o: self._one(prediction, o, wishes[o], record) for o, record in records.items()}

    def _one(self, prediction: Prediction, o: int, wish: Action, record: dict[str, Any]) -> tuple[Action, float | None]:
        score, area = float(prediction.scores[o]), int(np.count_nonzero(prediction.labels == o))
        rise = score - min(record["scores"]) if record["scores"] else None
        value = 1.0 if self._lost(area, record["areas"]) else rise
        due = value is not None and (value > self.tau_rise or value is not rise)
        if record["rest"]:
            record["rest"] -= 1
            wish, value = (Action.ACCEPT if wish is Action.ASK else wish), None
        elif due:
            wish = Action.ASK
        if wish is Action.ASK:
            record["rest"] = self.refractory
            record["scores"], record["areas"] = [], []
        record["scores"] = [*record["scores"], score][-self.window :]
        record["areas"] = [*record["areas"], area][-self.window :]
        return wish, value

    def _lost(self, area: int, earlier: list[int]) -> bool:
        if len(earlier) < self.window:
            return False
        usual = median(earlier)
        return usual >= self.least_area and (area < self.collapse * usual or area > self.jump * usual)
