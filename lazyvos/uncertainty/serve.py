"""What a tracker does for its estimator: see that it can be served, draw its passes, hand over what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.types import InputError
from lazyvos.uncertainty.base import NEEDS, Doubt, Sampler, Scene, Uncertainty
from lazyvos.uncertainty.ensemble import Decomposition, Splitter


def check_needs(estimator: object, backbone: Any, memory: Any, given: frozenset[str] = frozenset()) -> None:
    """Refuse an estimator that ``backbone`` and ``memory`` cannot serve; ``given`` names what comes from elsewhere.

    Raises :class:`~lazyvos.types.InputError`.
    """
    needs = frozenset(getattr(estimator, "needs", ())) - given
    name = type(estimator).__name__
    if unknown := sorted(needs - set(NEEDS)):
        raise InputError(f"{name} needs {unknown[0]!r}, which no tracker gives; choose among {', '.join(NEEDS)}")
    gives = frozenset(getattr(backbone, "gives", ()))
    if "quality" in needs and "quality" not in gives:
        raise InputError(f"{name} needs a network that predicts the quality of its masks, and this one does not; use backbone 'qdmn'")
    if "evidence" in needs and "evidence" not in gives:
        raise InputError(f"{name} needs a network that predicts evidence, and this one does not; use backbone 'tiny-evidential'")
    if {"members", "parts"} & needs:
        if not isinstance(estimator, Sampler):
            raise InputError(f"{name} needs several members; use an ensemble tracker (make_ensemble), or McDropout")
        estimator.check(backbone, memory)


def draw(
    sampler: Sampler, scene: Scene, resize: Callable[[Tensor], Tensor], keep: bool = False
) -> tuple[Tensor, Decomposition, Tensor | None]:
    """The mean prediction ``[1 + O, h, w]`` of all passes, their decomposition at frame size, and (``keep``) the passes there.

    ``resize`` brings probabilities from network to frame size: entropies are taken there, as everywhere.
    """
    split, total, kept, count = Splitter(), None, [], 0
    for passed in sampler.sample(scene):
        total, count = passed.clone() if total is None else total.add_(passed), count + 1
        full = resize(passed)
        split.add(full)
        if keep:
            kept.append(full)
    assert total is not None
    return total.div_(count), split.result(), torch.stack(kept) if keep else None


def call(
    estimator: Uncertainty, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...], given: Mapping[str, Any]
) -> Doubt:
    """The estimator's answer; ``given`` are the keyword arguments it needs. Nothing known: nothing to doubt."""
    if not objects:
        return Doubt(np.zeros(labels.shape, np.float32), {})
    needs = getattr(estimator, "needs", None)
    if not needs:
        return estimator(probabilities, labels, objects)
    asked: Any = estimator
    doubt: Doubt = asked(probabilities, labels, objects, **{key: given[key] for key in needs})
    if doubt.parts is None and "parts" in given:
        doubt = replace(doubt, parts=given["parts"])
    return doubt
