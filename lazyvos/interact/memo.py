"""What a policy remembers from frame to frame, so that a frame may be decided twice and a run may be resumed."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from lazyvos.types import Prediction

T = TypeVar("T")


class Memo:
    """State that moves on once per frame.

    Kept are the state before the last frame and the state after it. Deciding the last frame again starts from the state
    before, so it gives the same. A frame number below the last one is another clip: it starts with nothing. All
    that is kept must be plain values, so that it can be saved. Dicts may be changed in place; lists must be replaced by new
    ones, for they are not copied from frame to frame.
    """

    def __init__(self) -> None:
        self.t = -1
        self._before: dict[str, Any] = {}
        self._after: dict[str, Any] = {}
        self._seen: weakref.ref[Prediction] | None = None
        self._found: Any = None

    def open(self, t: int) -> dict[str, Any]:
        """The state before frame ``t``, to be changed in place into the state after it."""
        if t < self.t:
            self._before = {}
        elif t > self.t:
            self._before = self._after
        self.t, self._after = t, _copied(self._before)
        return self._after

    def objects(self, t: int, known: Iterable[int], fresh: Callable[[], dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """As :meth:`open`, with one record per object: ``fresh()`` for a new one; those of others are forgotten."""
        state = self.open(t)
        kept = state.get("objects", {})
        state["objects"] = {o: kept.get(o) or fresh() for o in known}
        return state["objects"]

    def once(self, prediction: Prediction, compute: Callable[[Prediction], T]) -> T:
        """``compute(prediction)``, or what it gave the last time if that was for this very prediction."""
        if self._seen is None or self._seen() is not prediction:
            self._found = compute(prediction)
            self._seen = weakref.ref(prediction)
        return self._found

    def state(self) -> dict[str, Any]:
        """Plain values to go on from."""
        return copy.deepcopy({"t": self.t, "before": self._before, "after": self._after})

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a :meth:`state`."""
        self.t = state["t"]
        self._before, self._after = copy.deepcopy(state["before"]), copy.deepcopy(state["after"])
        self._seen = self._found = None

    def __getstate__(self) -> dict[str, Any]:
        return self.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._seen = self._found = None
        self.load_state(state)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """The dict and the dicts in it, anew; everything else is shared."""
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in state.items()}
