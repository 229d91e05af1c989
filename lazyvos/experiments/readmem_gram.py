"""Numbers of single sequences, of their sections and of |Γ|, from what experiments recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lazyvos.experiments.recipe import Records
from lazyvos.metrics.davis import nanmean


def of_sequence(records: Records, name: str) -> Mapping[str, Any]:
    """The record of a sequence. Raises KeyError where it was not run."""
    for record in records:
        if record["sequence"] == name:
            return record
    raise KeyError(name)


def gram_at(record: Mapping[str, Any], t: float = math.inf) -> float:
    """|Γ| after frame ``t`` (default: at the end); 0 where it is singular, NaN where the memory has none."""
    logs = [log for at, log in record["memory"]["steps"] if at <= t]
    return math.nan if not logs else 0.0 if logs[-1] is None else 10 ** float(logs[-1])


def last_frame(record: Mapping[str, Any]) -> int:
    """Number of the last frame of the sequence."""
    return int(record["start"] + record["frames"] - 1)


def sequence_jf(records: Records, name: str) -> float:
    """J&F of one sequence, 0..1: the mean over its objects."""
    return nanmean([math.nan if o["JF"] is None else o["JF"] for o in of_sequence(records, name)["objects"]])


def sequence_gram(records: Records, name: str) -> float:
    """|Γ| at the end of one sequence."""
    return gram_at(of_sequence(records, name))


def section_jf(records: Records, name: str, first: float, end: float) -> float:
    """J&F, 0..1, of the scored frames from share ``first`` of a sequence to share ``end`` (not included); the mean over objects."""
    record = of_sequence(records, name)
    length, found = last_frame(record) + 1, []
    for o in record["objects"]:
        t, j, f = (np.array(o["series"][key][1:-1], np.float64) for key in ("t", "j", "f"))
        inside = (first * length <= t) & (t < end * length)
        found.append((nanmean(j[inside]) + nanmean(f[inside])) / 2)
    return nanmean(found)


def section_gram(records: Records, name: str, end: float) -> float:
    """|Γ| at share ``end`` of a sequence."""
    record = of_sequence(records, name)
    return gram_at(record, end * (last_frame(record) + 1))
