"""Data sets of experiments: by name, by path, or from a function."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos import datasets
from lazyvos.datasets.generated import GeneratedBenchmark
from lazyvos.experiments.experiment import Experiment
from lazyvos.types import InputError


def open_dataset(experiment: Experiment) -> Any:
    """The data set of an experiment (see :class:`lazyvos.experiments.Experiment`).

    Raises :class:`InputError` for a name or folder that does not exist, options it does not take, and sequences that it does not
    have.
    """
    which, options = experiment.dataset, dict(experiment.dataset_options)
    try:
        if not isinstance(which, str):
            dataset = which(**options)
        elif which.startswith("generated:"):
            dataset = GeneratedBenchmark(which.partition(":")[2], **options)
        else:
            dataset = datasets.open_dataset(which, **options)
    except TypeError as error:
        raise InputError(f"data set {which!r} cannot be opened with {options}: {error}") from error
    missing = [name for name in experiment.sequences or () if name not in dataset.names]
    if missing:
        raise InputError(f"data set {dataset.name!r} has no sequence {missing[0]!r}; it has {', '.join(dataset.names[:8])}")
    return dataset


def fingerprint(sequence: Any) -> str:
    """Hash of what a sequence holds: the names, sizes and times of its files; of a drawn clip its description, or else its
    first frame and mask."""
    digest = hashlib.sha256(f"{sequence.name} {len(sequence)} {tuple(sequence.size)} {sequence.start}".encode())
    masks = getattr(sequence, "annotations", {})
    files = [*getattr(sequence, "images", ()), *(masks.values() if isinstance(masks, dict) else ())]
    for file in files:
        facts = Path(file).stat()
        digest.update(f"{Path(file).name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    if files:
        return digest.hexdigest()[:16]
    if hasattr(sequence, "description"):
        digest.update(json.dumps(sequence.description, sort_keys=True).encode())
    else:
        digest.update(np.ascontiguousarray(sequence.mask(sequence.start)).tobytes())
        digest.update(np.ascontiguousarray(sequence.frames.frame(sequence.start)).tobytes())
    return digest.hexdigest()[:16]


def entries(sequence: Any, later: str) -> dict[int, int]:
    """Object id -> frame with its first annotation; without late objects where ``later`` is ``"ignore"``."""
    found = {int(o): int(sequence.start) for o in sequence.objects}
    if later == "enter":
        found |= {int(o): int(t) for o, t in getattr(sequence, "entries", {}).items()}
    return dict(sorted(found.items()))
