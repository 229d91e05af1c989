"""The interactive benchmark as part of a table: a tracker, a data set and rules, played to the end and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lazyvos.build import make_refiner
from lazyvos.datasets import GeneratedBenchmark, open_dataset
from lazyvos.device import pick_device
from lazyvos.experiments.engine import Report
from lazyvos.experiments.executors import weights_digest
from lazyvos.experiments.experiment import Options
from lazyvos.experiments.interactive import Benchmark, Make, run
from lazyvos.experiments.interactive_report import Sessions
from lazyvos.experiments.recipe import Made, Records
from lazyvos.metrics.interactive import per_round
from lazyvos.rounds import Rounds
from lazyvos.rounds.parts import backbone_of, fusion_of

FOLDER = "rounds"
"""Of the sessions, in the folder of results: they have another form than the results of the engine."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """A tracker that works in rounds, on a data set, by the rules of a benchmark.

    Attributes
    ----------
    name: what tables call it; equal plays have equal names.
    dataset, dataset_options: a name of :func:`lazyvos.datasets.open_dataset` (options ``root``, ``split``), or ``"generated:SUITE"`` (options
        of :class:`lazyvos.datasets.GeneratedBenchmark`). sequences: only these; ``None`` all.
    rules: of the sessions.
    backbone, refiner, fusion and their weights, memory, history, size, device, precision: as in :class:`lazyvos.Rounds`.
    refiner_options: of :func:`lazyvos.build.make_refiner`.
    scale: ``"smoke"`` or ``"paper"``.
    """

    name: str
    dataset: str
    rules: Benchmark
    dataset_options: Options = field(default_factory=dict)
    sequences: tuple[str, ...] | None = None
    backbone: str = "tiny"
    weights: str | None = None
    refiner: str = "tiny"
    refiner_weights: str | None = None
    refiner_options: Options = field(default_factory=dict)
    fusion: str = "auto"
    fusion_weights: str | None = None
    memory: str = "code"
    history: str = "code"
    size: int | None = 0
    device: str | None = None
    precision: str = "auto"
    scale: Literal["smoke", "paper"] = "smoke"

    def __hash__(self) -> int:
        return hash((self.name, self.scale))

    def open(self) -> Any:
        """The data set; raises :class:`lazyvos.types.InputError` where it is not there."""
        if self.dataset.startswith("generated:"):
            return GeneratedBenchmark(self.dataset.partition(":")[2], **self.dataset_options)
        return open_dataset(self.dataset, **self.dataset_options)

    @property
    def settings(self) -> dict[str, Any]:
        """What the tracker is made from, as plain values."""
        named = ("backbone", "weights", "refiner", "refiner_weights", "fusion", "fusion_weights", "memory", "history", "size", "device", "precision")
        return {name: getattr(self, name) for name in named} | {"refiner_options": dict(self.refiner_options)}

    def tracker(self) -> tuple[Make, dict[str, Any], str]:
        """What makes the tracker of a sequence, with networks loaded here; plain values that say which; and where it computes.

        Raises :class:`lazyvos.types.InputError` for parts that do not exist and weights that are not there.
        """
        device = pick_device(self.device)
        net, side = backbone_of(self.backbone, self.weights, device, self.size)
        refiner = make_refiner(self.refiner, weights=self.refiner_weights, device=device, precision=self.precision, **self.refiner_options)
        merge = fusion_of(self.fusion, self.fusion_weights, device)
        make = partial(
            Rounds, backbone=net, refiner=refiner, fusion=merge.net or merge.kind, memory=self.memory, history=self.history,
            size=side, device=device, precision=self.precision, progress=False,
        )  # fmt: skip
        identity = {k: v for k, v in self.settings.items() if k not in ("device", "weights", "refiner_weights", "fusion_weights")} | {"size": side}
        identity |= {f"{name} weights": weights_digest(part) for name, part in (("backbone", net), ("refiner", refiner), ("fusion", merge))}
        return make, identity, device


def play_all(plays: Sequence[Play], out: str | Path, progress: bool = True, *, notes: tuple[str, ...] = ()) -> Made:
    """Play every sample that is not finished in ``out``, in this process.

    ``notes`` are handed on, with a sentence for each play of which samples ran out of time.
    """
    loaded: dict[str, tuple[Make, dict[str, Any], str]] = {}
    records: dict[str, Records] = {}
    tables: list[pd.DataFrame] = []
    report = Report()
    for play in plays:
        dataset, which = play.open(), repr(play.settings)
        if which not in loaded:
            loaded[which] = play.tracker()
        make, identity, device = loaded[which]
        done = run(dataset, make, play.rules, identity=identity, sequences=play.sequences, out=Path(out) / FOLDER, device=device,
                   progress=progress)  # fmt: skip
        report.finished += done.reused
        report.made += len(done.records) - done.reused
        records[play.name] = done.records
        tables.append(rows(play, done))
        late = sum(bool(record["late"]) for record in done.records)
        if late:
            notes = (*notes, f"{play.name}: {late} of {len(done.records)} samples ran out of time, so all its figures depend on the machine.")
    return Made(records, pd.concat(tables, ignore_index=True), report, notes)


def sessions(records: Records) -> Sessions:
    """The sessions again, from their records."""
    rules: Mapping[str, Any] = records[0]["facts"]["rules"]
    return Sessions(tuple(records), rules["rounds"], None if rules["seconds"] is None else rules["seconds"] * rules["rounds"])


def rows(play: Play, done: Sessions) -> pd.DataFrame:
    """A row for each sequence and object, in columns that :func:`lazyvos.experiments.frame.summary` reads.

    ``J``, ``F``, ``JF`` after the last round and ``NoC``, clicks in all rounds, are means over samples; ``seconds`` those of all samples of the sequence.
    """
    table = per_round(done.frame, done.rounds, samples=done.samples)
    last = table[table["round"] == done.rounds].groupby(["sequence", "object"], sort=False)[["J", "F", "JF"]].mean().reset_index()
    samples = {name: [r for r in done.records if r["video"] == name] for name in last["sequence"].unique()}
    found = []
    for row in last.to_dict("records"):
        own = samples[row["sequence"]]
        clicks = [sum(click[0] == row["object"] for one in r["rounds"] for click in one["clicks"]) for r in own]
        found.append({
            "experiment": play.name, "dataset": play.dataset, **row, "NoC": sum(clicks) / len(clicks), "ACI": nan, "gaps": nan,
            "span": nan, "clip_fps": nan, "frames": len(own[0]["frames"]), "seconds": sum(one["seconds"] for r in own for one in r["rounds"]),
            "peak_mib": nan, "scale": play.scale, "hardware": ", ".join(dict.fromkeys(r["machine"]["gpu"] or r["machine"]["cpu"] for r in own)),
        })  # fmt: skip
    return pd.DataFrame(found)
