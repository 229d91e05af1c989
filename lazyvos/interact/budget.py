"""At most k requests a minute, spent where they are worth most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazyvos.interact import hooks
from lazyvos.interact.memo import Memo
from lazyvos.interact.wrapper import Wrapper
from lazyvos.types import Action, Prediction


@dataclass(frozen=True)
class Budgeted(Wrapper):
    """Asks at most ``per_minute`` times in any minute of video, at the objects and frames with the largest trigger values.

    The threshold follows the clip: it is the value that was exceeded ``per_minute`` times a minute so far, so a calm
    clip gets its help at smaller changes and a wild one only at the largest. The cap is hard whatever the threshold
    says: no window of a minute, wherever it begins, holds more requests.

    Attributes
    ----------
    base: what is done otherwise, and whose trigger is used (ΔS for :class:`lazyvos.interact.Lazy`). A request of its own
        that the budget does not grant is let pass.
    per_minute: requests in a minute of video, over all objects.
    fps: frames per second of the video; sets how many frames a minute has.
    minutes: length of the window, for budgets below one a minute: ``per_minute`` is then the number in so many minutes.
    start: threshold until one window has been seen; 0.5, the published one.
    floor: a smaller value is never worth a request; 0.2, below which the published method does nothing at all.
    history: how many windows the threshold looks back on; 5, so that it rests on about five times the budget of events
        and still follows the clip.

    Raises ValueError for numbers that make no sense.
    """

    per_minute: int = 2
    fps: float = 30.0
    minutes: float = 1.0
    start: float = 0.5
    floor: float = 0.2
    history: int = 5
    _memo: Memo = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.per_minute < 0 or self.per_minute != int(self.per_minute):
            raise ValueError(f"per_minute is {self.per_minute}; give a whole number of requests, at least 0.")
        if not (0 < self.fps < np.inf and 0 < self.minutes < np.inf):
            raise ValueError(f"fps is {self.fps}, minutes {self.minutes}; give positive numbers.")
        if self.history < 1:
            raise ValueError(f"history is {self.history}; give at least 1 window.")
        if np.isnan(self.start) or np.isnan(self.floor):
            raise ValueError("start or floor is NaN; give numbers.")

    @property
    def window(self) -> int:
        """Frames in a window."""
        return max(1, int(np.ceil(self.fps * 60 * self.minutes)))

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """The wish for every object of an uncorrected prediction; the largest values first where the budget is short."""
        return dict(self._memo.once(prediction, self._spend))

    def _spend(self, prediction: Prediction) -> dict[int, Action]:
        wishes: dict[int, Action] = {o: Action.ACCEPT if w is Action.ASK else w for o, w in super().decide(prediction).items()}
        if prediction.t == 0:
            return wishes
        state = self._memo.open(prediction.t)
        values = {o: v for o, v in hooks.worth(self.base, prediction).items() if v is not None and o in wishes}
        asked = [t for t in state.get("asked", []) if t > prediction.t - self.window]
        threshold = self._threshold(state, prediction.t)
        wanted = sorted((o for o, v in values.items() if v > self.floor and v >= threshold), key=lambda o: (-values[o], o))
        granted = wanted[: max(0, self.per_minute - len(asked))]
        state["asked"] = asked + [prediction.t] * len(granted)
        self._remember(state, prediction.t, values.values())
        return wishes | dict.fromkeys(granted, Action.ASK)

    def _threshold(self, state: dict[str, Any], t: int) -> float:
        """The value that is exceeded as often as the budget allows, from the largest ones of the history."""
        seen = t - state.get("since", t)
        if seen < self.window:
            return max(self.start, self.floor)
        rank = int(self.per_minute * min(seen, self.window * self.history) / self.window)
        largest = sorted((v for _, v in state["largest"]), reverse=True)
        return max(self.floor, largest[rank] if rank < len(largest) else self.floor)

    def _remember(self, state: dict[str, Any], t: int, values: Any) -> None:
        """Values above the floor with their frames; of one frame at most as many as can matter."""
        state.setdefault("since", t)
        oldest = t - self.window * self.history
        new = sorted((v for v in values if v > self.floor), reverse=True)[: self.per_minute + 1]
        kept = [pair for pair in state.get("largest", []) if pair[0] > oldest] + [(t, float(v)) for v in new]
        limit = 8 * (self.per_minute + 1) * self.history
        if len(kept) > limit:
            floor = sorted((v for _, v in kept), reverse=True)[limit - 1]
            kept = [pair for pair in kept if pair[1] >= floor][-limit:]
        state["largest"] = kept
