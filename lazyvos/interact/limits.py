"""Which thresholds a policy has, and had in a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class Limit(NamedTuple):
    """A line on a curve: ``kind`` is "user" (asks), "pseudo" or "memory" (not stored), ``measure`` "score" (S) or "delta" (ΔS)."""

    kind: str
    measure: str
    value: float


def layers(policy: Any) -> Iterator[Any]:
    """The policy and those that it is built on, outermost first."""
    while policy is not None:
        yield policy
        policy = getattr(policy, "base", None) or getattr(policy, "rest", None)


def limits(policy: Any) -> list[Limit]:
    """The thresholds of the policy's innermost part (:class:`lazyvos.interact.Lazy` or one with fields like it)."""
    inner = list(layers(policy))[-1] if policy is not None else None
    measure = "score" if getattr(inner, "trigger", "delta") == "level" else "delta"
    found = []
    for kind, name, of in (("user", "tau_user", measure), ("pseudo", "tau_pseudo", measure), ("memory", "tau_memory", "score"),
                           ("user", "level_user", "score"), ("pseudo", "level_pseudo", "score")):
        value = getattr(inner, name, None)
        used = getattr(inner, {"user": "ask", "pseudo": "pseudo", "memory": "udu"}[kind], True)
        if used and isinstance(value, int | float) and np.isfinite(value):
            found.append(Limit(kind, of, float(value)))
    return found


def logged(events: Iterable[Mapping[str, Any]]) -> list[Limit] | None:
    """The thresholds that a session's log names in its first event; ``None`` where it names none (logs of earlier versions)."""
    found = next(iter(events), {}).get("thresholds")
    return None if found is None else [Limit(*limit) for limit in found]
