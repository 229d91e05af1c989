"""What a policy and a user may say beyond their protocols, and what holds where they say nothing.

A policy with the four parts of :class:`lazyvos.interact.Policy` is complete. It may also have: ``pseudo_options``
(:class:`PseudoOptions`), ``pseudo_clicks(prediction, object)``, ``trusts(prediction, object, mask)``, ``pseudo_result``, ``output``,
``admitted(prediction)``, ``store_rejected``, ``worth(prediction)``, ``state()`` and ``load_state(state)``. A user may have
``arrivals(t)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from lazyvos.interact.prompt import PseudoOptions, pseudo_prompt
from lazyvos.types import Click, Prediction, Request

PseudoResult = Literal["kept", "yields", "dropped"]
Output = Literal["refined", "original"]


def pseudo_options(policy: Any) -> PseudoOptions:
    """How the policy corrects without a person; the published way by default."""
    return getattr(policy, "pseudo_options", None) or PseudoOptions()


def pseudo_clicks(policy: Any, prediction: Prediction, identity: int) -> tuple[Click, ...]:
    """Clicks of a pseudo-correction of one object; by default :func:`lazyvos.interact.pseudo_prompt` with the options."""
    own = getattr(policy, "pseudo_clicks", None)
    return pseudo_prompt(prediction, identity, pseudo_options(policy)) if own is None else tuple(own(prediction, identity))


def trusts(policy: Any, prediction: Prediction, identity: int, mask: np.ndarray) -> bool:
    """Whether the refined ``mask bool [H, W]`` of a pseudo-correction may replace the predicted one; by default yes."""
    own = getattr(policy, "trusts", None)
    return True if own is None else bool(own(prediction, identity, mask))


def pseudo_result(policy: Any) -> PseudoResult:
    """What becomes of a pseudo-corrected mask, see :class:`lazyvos.interact.Lazy`; by default ``"kept"``."""
    return getattr(policy, "pseudo_result", "kept")


def output(policy: Any) -> Output:
    """Which mask is the frame's result, see :class:`lazyvos.interact.Lazy`; by default ``"refined"``."""
    return getattr(policy, "output", "refined")


def store_rejected(policy: Any) -> bool:
    """Whether a frame on which a pseudo-correction was not trusted may be stored; by default yes."""
    return bool(getattr(policy, "store_rejected", True))


def admitted(policy: Any, prediction: Prediction) -> tuple[int, ...]:
    """Of a frame that may be stored, the objects whose masks may be; by default all."""
    own = getattr(policy, "admitted", None)
    return prediction.objects if own is None else tuple(own(prediction))


def worth(policy: Any, prediction: Prediction) -> dict[int, float | None]:
    """How much each object deserves a request, in the policy's own trigger; by default the change of its score."""
    own = getattr(policy, "worth", None)
    return dict(prediction.deltas) if own is None else own(prediction)


def state(policy: Any) -> dict[str, Any]:
    """What the policy remembers; empty by default."""
    own = getattr(policy, "state", None)
    return {} if own is None else own()


def load_state(policy: Any, saved: Mapping[str, Any]) -> None:
    """Go back to a :func:`state`."""
    own = getattr(policy, "load_state", None)
    if own is not None and saved:
        own(saved)


def arrivals(user: Any, t: int) -> Iterable[tuple[Request, Any]]:
    """Answers to earlier requests that have come by frame ``t``, with their requests; by default none."""
    own = getattr(user, "arrivals", None)
    return () if own is None else own(t)
