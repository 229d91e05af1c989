"""The data of the figures of chapter 5 (thesis, sections 5.3 and 5.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lazyvos.experiments.frame import summary, tidy
from lazyvos.experiments.readmem_arms import DATASETS, SMOKE, Arm, places
from lazyvos.experiments.readmem_gram import last_frame
from lazyvos.experiments.recipe import Figure, Point, Records, Setting

METHODS = (("MiVOS", "fifo"), ("STCN", "fifo"), ("QDMN", "qdmn"))
INTERVALS = {"paper": (1, 5, 10, 20, 30, 40, 50), "smoke": (1, 5, 10, 20, 50)}
SLOTS = {"paper": (5, 10, 20, 30, 40, 50), "smoke": (10, 20, 30, 40)}


def _points(setting: Setting, found: Mapping[str, str], datasets: Sequence[str], arms: Sequence[Arm]) -> list[Point]:
    """An experiment for each arm and data set."""
    points = []
    for place in places(setting, found, *datasets):
        for arm in arms:
            experiment = arm.experiment(setting, place)
            if experiment is not None:
                labels: dict[str, str | int] = {"data": place.heading, "method": arm.name(setting), "s_r": arm.every(setting), "N": arm.slots(setting)}
                points.append(Point(experiment, labels))
    return points


def _pairs(s_r: int, n: int) -> list[Arm]:
    """Every network with its own memory and with READMem; QDMN with the flexible interval, as in table 5.1."""
    return [Arm(method, memory, s_r, n, flexible=method == "QDMN") for method, own in METHODS for memory in (own, "readmem")]


def intervals_long(setting: Setting, found: Mapping[str, str]) -> list[Point]:
    """Figure 5.1: J&F on long videos over the sampling interval, N = 20."""
    return _points(setting, found, ("LV1",), [arm for s_r in INTERVALS[setting.scale] for arm in _pairs(s_r, 20)])


def intervals(setting: Setting, found: Mapping[str, str]) -> list[Point]:
    """Figure 5.4: as figure 5.1, on long and on short videos."""
    return _points(setting, found, ("LV1", "D17"), [arm for s_r in INTERVALS[setting.scale] for arm in _pairs(s_r, 20)])


def slots(setting: Setting, found: Mapping[str, str]) -> list[Point]:
    """Figure 5.6: J&F on long videos over the number of slots, s_r = 10."""
    return _points(setting, found, ("LV1",), [arm for n in SLOTS[setting.scale] for arm in _pairs(10, n)])


def volumes(setting: Setting, found: Mapping[str, str]) -> list[Point]:
    """Figure 5.5: |Γ| of MiVOS with first in first out, measured as READMem measures its own, and with READMem (flexible
    interval, as in table 5.5)."""
    arms = [Arm("MiVOS", memory, s_r, flexible=True) for s_r in (1, 5, 10) for memory in ("watched", "readmem")]
    return _points(setting, found, ("LV1",), arms)


def scores(points: Sequence[Point], records: Mapping[str, Records]) -> pd.DataFrame:
    """A row for each point: its labels, ``J&F`` in percent, ``n videos``, ``hardware``, ``seconds`` (of tracking)."""
    table = tidy((name, record) for name, several in records.items() for record in several)
    sums: dict[str, Any] = {row["experiment"]: row for row in summary(table).to_dict("records")} if len(table) else {}
    rows = []
    for point in points:
        found = sums.get(point.experiment.name)
        if found is not None:
            rows.append({**point.labels, "J&F": 100 * found["JF"], "n videos": found["videos"], "hardware": found["hardware"], "seconds": found["seconds"]})
    return pd.DataFrame(rows)


def curves(points: Sequence[Point], records: Mapping[str, Records]) -> pd.DataFrame:
    """A row for each step of log10|Γ|, from the frame at which all slots were first taken to the end of the sequence.

    Columns: ``data``, ``sequence``, ``method``, ``s_r``, ``N``, ``frame``, ``share`` (percent of the sequence), ``log10|Γ|`` (−inf where Γ is singular),
    ``hardware``, ``seconds`` (of tracking the sequence). Between rows the value stays.
    """
    rows = []
    for point in points:
        for record in records.get(point.experiment.name, ()):
            full, steps, end = record["memory"]["full"], record["memory"]["steps"], last_frame(record)
            if full is None or not steps:
                continue
            before = [log for t, log in steps if t <= full]
            shown = [(full, before[-1] if before else None), *((t, log) for t, log in steps if t > full)]
            if shown[-1][0] < end:
                shown.append((end, shown[-1][1]))
            where = record["machine"]
            labels = {"data": point.labels["data"], "sequence": record["sequence"], **{k: v for k, v in point.labels.items() if k != "data"}}
            facts = {"hardware": where["gpu"] or where["cpu"], "seconds": record["seconds"]}
            rows += [{**labels, "frame": t, "share": 100 * t / max(end, 1), "log10|Γ|": -math.inf if log is None else log, **facts} for t, log in shown]
    return pd.DataFrame(rows)


def _of(*headings: str) -> dict[str, str]:
    return {heading: DATASETS[heading] for heading in headings}


FIGURES: tuple[Figure, ...] = (
    Figure("5.1", "READMem: J&F on LV1 over the sampling interval", _of("LV1"), intervals_long, scores, SMOKE),
    Figure("5.4", "READMem: J&F on LV1 and D17 over the sampling interval", _of("LV1", "D17"), intervals, scores, SMOKE),
    Figure("5.5", "READMem-MiVOS: |Γ| over the sequence", _of("LV1"), volumes, curves, SMOKE),
    Figure("5.6", "READMem: J&F on LV1 over the number of slots", _of("LV1"), slots, scores, SMOKE),
)  # fmt: skip
