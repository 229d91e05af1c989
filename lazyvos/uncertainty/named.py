"""Estimators by name."""

from __future__ import annotations

from typing import Any

from lazyvos.types import InputError
from lazyvos.uncertainty.base import Uncertainty
from lazyvos.uncertainty.dropout import McDropout
from lazyvos.uncertainty.ensemble import Split
from lazyvos.uncertainty.entropy import Entropy
from lazyvos.uncertainty.evidential import Evidential
from lazyvos.uncertainty.quality import Quality

ESTIMATORS = ("entropy", "frame-entropy", "dropout", "epistemic", "total", "aleatoric", "quality", "evidential")


def make_uncertainty(name: str, **options: Any) -> Uncertainty:
    """An estimator by name of :data:`ESTIMATORS`; ``options`` go to the class.

    ``entropy`` and ``frame-entropy`` (summed over the frame, not masked) fit every tracker; ``dropout`` draws passes of its own;
    ``epistemic``, ``total`` and ``aleatoric`` need an ensemble, ``quality`` QDMN, ``evidential`` an evidential network.

    Raises :class:`InputError` for an unknown name; TypeError or ValueError for options that the class refuses.
    """
    if name == "entropy":
        return Entropy(**options)
    if name == "frame-entropy":
        return Entropy(**{"masked": False, **options})
    if name == "dropout":
        return McDropout(**options)
    if name in ("epistemic", "total", "aleatoric"):
        return Split(**{"part": name, **options})
    if name == "quality":
        return Quality(**options)
    if name == "evidential":
        return Evidential(**options)
    raise InputError(f"uncertainty {name!r} is unknown; choose one of {', '.join(ESTIMATORS)}")
