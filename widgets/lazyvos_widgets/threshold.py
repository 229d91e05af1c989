"""Which threshold of a policy a request passed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lazyvos.interact import hooks
from lazyvos.interact.limits import layers, limits
from lazyvos.types import Prediction, Request


class Passed(NamedTuple):
    """``value`` of what ``measure`` names lies above ``threshold``."""

    measure: str
    value: float
    threshold: float


def passed(policy: Any, request: Request, prediction: Prediction | None = None) -> Passed | None:
    """The threshold that a request passed, the innermost policy's first; ``None`` where it was asked for another reason.

    ``prediction`` is the one that the policy decided on; policies with a trigger of their own are only understood with it.
    """
    for layer in reversed(list(layers(policy))):
        inclusive = getattr(layer, "comparison", "strict") == "inclusive"
        for found in _candidates(layer, request, prediction):
            if found.value > found.threshold or (inclusive and found.value == found.threshold):
                return found
    return None


def _candidates(layer: Any, request: Request, prediction: Prediction | None) -> Iterator[Passed]:
    if not getattr(layer, "ask", True):
        return
    if getattr(layer, "base", None) is None:
        for limit in limits(layer):
            value = request.delta if limit.measure == "delta" else request.score
            if limit.kind == "user" and value is not None:
                yield Passed("ΔS" if limit.measure == "delta" else "S", float(value), limit.value)
    elif prediction is not None:
        for name, words in (("tau_rise", "rise of S"), ("tau_user", "S outside")):
            threshold, value = getattr(layer, name, None), hooks.worth(layer, prediction).get(request.object)
            if threshold is not None and value is not None and np.isfinite(threshold):
                yield Passed(words if value < 1 else "loss", float(value), float(threshold))  # 1 says: lost by its area
