"""The parts of an experiment, built; networks are loaded once for all its sequences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

from lazyvos.build import (
    default_size,
    load_backbone,
    make_memory,
    make_policy,
    make_refiner,
    make_tracker,
    make_uncertainty,
)
from lazyvos.experiments.experiment import Experiment
from lazyvos.tracker import Tracker
from lazyvos.types import InputError
from lazyvos.uncertainty.base import Sampler


def network(experiment: Experiment, device: str) -> Any:
    """The backbone of an experiment (of an ensemble :class:`lazyvos.ensemble.Networks`); the last two are kept, so that sequences of
    one experiment load it once."""
    files = tuple(_facts(file) for file in (experiment.weights or "").split("+"))
    return _network(experiment.backbone, experiment.weights, device, files)


Facts = tuple[int, int] | None
"""Size and time of a file, so that another one under the same name is read again."""


def _facts(file: str | None) -> Facts:
    facts = Path(file).stat() if file and Path(file).is_file() else None
    return facts and (facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=2)
def _network(name: str, weights: str | None, device: str, _: tuple[Facts, ...]) -> Any:
    return load_backbone(name, weights, device)


def _refiner(experiment: Experiment, device: str) -> Any:
    """A refiner of its own for a tracker; of those by name the network (and SAM-HQ's embedding of a frame) is shared, the last two are kept."""
    e = experiment
    if e.refiner is None or not e.clicks:
        return None
    if not isinstance(e.refiner, str):
        return e.refiner(**e.refiner_options)
    options = json.dumps(dict(e.refiner_options), sort_keys=True)
    return copy(_kept_refiner(e.refiner, e.refiner_weights, _facts(e.refiner_weights), device, e.precision, options))


@lru_cache(maxsize=2)
def _kept_refiner(name: str, weights: str | None, _: Facts, device: str, precision: str, options: str) -> Any:
    return make_refiner(name, weights=weights, device=device, precision=precision, **json.loads(options))


def forget_networks() -> None:
    """Free the networks that :func:`network` keeps, and the refiners."""
    _network.cache_clear()
    _kept_refiner.cache_clear()


def build_tracker(experiment: Experiment, device: str, net: Any = None) -> Tracker:
    """A fresh tracker as the experiment says; ``net`` is its backbone where it is loaded already.

    Raises :class:`InputError` for parts or options that cannot work.
    """
    e = experiment
    try:
        net = network(e, device) if net is None else net
        tracker = make_tracker(
            net, memory=[_memory(e) for _ in getattr(net, "networks", (net,))], policy=_policy(e.policy, dict(e.policy_options)),
            refiner=_refiner(e, device), uncertainty=_uncertainty(e.uncertainty, e.uncertainty_options),
            size=default_size(e.backbone) if e.size == 0 else e.size, device=device, precision=e.precision,
        )  # fmt: skip
        watched(e, hasattr(net, "networks") or isinstance(tracker.uncertainty, Sampler))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"experiment {e.name!r} cannot be built: {error}") from error
    return tracker


def _policy(which: Any, options: dict[str, Any]) -> Any:
    return make_policy(which, **options) if isinstance(which, str) else which(**options)


def _memory(experiment: Experiment) -> Any:
    which, options = experiment.memory, experiment.memory_options
    return make_memory(which, **options) if isinstance(which, str) else which(**options)


def _uncertainty(which: Any, options: Mapping[str, Any]) -> Any:
    return make_uncertainty(which, **options) if isinstance(which, str) else which(**options)


def watched(experiment: Experiment, members: bool = True) -> dict[str, Any]:
    """The watched estimators by their names. Raises :class:`InputError` for one that the tracker's predictions cannot serve."""
    found = {name: make_uncertainty(**options) for name, options in experiment.watch.items()}
    for name, one in found.items():
        lacking = sorted(set(getattr(one, "needs", ())) - ({"parts"} if members else set()))
        if lacking or isinstance(one, Sampler):
            raise InputError(f"experiment {experiment.name!r} cannot watch {name!r}, which needs {lacking[0] if lacking else 'passes'} of its own; "
                             "watch entropy or frame-entropy, and with an ensemble or dropout total, aleatoric or epistemic")  # fmt: skip
    return found
