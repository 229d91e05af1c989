"""A policy around another policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazyvos.interact import hooks
from lazyvos.interact.base import Policy
from lazyvos.interact.memo import Memo
from lazyvos.interact.policies import Lazy
from lazyvos.interact.prompt import PseudoOptions
from lazyvos.types import Action, Click, Prediction


@dataclass(frozen=True)
class Wrapper:
    """Does everything as ``base`` does; policies that change one thing of another are built on it.

    ``base`` is any policy, another wrapper included.
    """

    base: Policy = field(default_factory=Lazy)

    @property
    def pseudo_idu(self) -> bool:
        """As ``base``."""
        return self.base.pseudo_idu

    @property
    def user_idu(self) -> bool:
        """As ``base``."""
        return self.base.user_idu

    @property
    def pseudo_options(self) -> PseudoOptions:
        """As ``base``."""
        return hooks.pseudo_options(self.base)

    @property
    def pseudo_result(self) -> hooks.PseudoResult:
        """As ``base``."""
        return hooks.pseudo_result(self.base)

    @property
    def output(self) -> hooks.Output:
        """As ``base``."""
        return hooks.output(self.base)

    @property
    def udu_scope(self) -> str:
        """As ``base``; ``"frame"`` where that has none."""
        return getattr(self.base, "udu_scope", "frame")

    @property
    def store_rejected(self) -> bool:
        """As ``base``."""
        return hooks.store_rejected(self.base)

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        """As ``base``."""
        return self.base.decide(prediction)

    def admits(self, prediction: Prediction) -> bool:
        """As ``base``."""
        return self.base.admits(prediction)

    def admitted(self, prediction: Prediction) -> tuple[int, ...]:
        """As ``base``."""
        return hooks.admitted(self.base, prediction)

    def worth(self, prediction: Prediction) -> dict[int, float | None]:
        """As ``base``."""
        return hooks.worth(self.base, prediction)

    def pseudo_clicks(self, prediction: Prediction, identity: int) -> tuple[Click, ...]:
        """As ``base``."""
        return hooks.pseudo_clicks(self.base, prediction, identity)

    def trusts(self, prediction: Prediction, identity: int, mask: np.ndarray) -> bool:
        """As ``base``."""
        return hooks.trusts(self.base, prediction, identity, mask)

    def state(self) -> dict[str, Any]:
        """What this policy and ``base`` remember: plain values."""
        memo = getattr(self, "_memo", None)
        return {"base": hooks.state(self.base), "own": memo.state() if isinstance(memo, Memo) else {}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a :meth:`state` of a policy that was built alike."""
        hooks.load_state(self.base, state["base"])
        memo = getattr(self, "_memo", None)
        if isinstance(memo, Memo) and state["own"]:
            memo.load_state(state["own"])
