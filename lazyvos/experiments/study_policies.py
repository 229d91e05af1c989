"""Which policy spends a person's clicks best? The published one, chance at equal cost, and better ones, on clips where a tracker fails.

Every policy asks a simulated user. Chance (Rand) is run at several rates, a few draws each, so that for any number of clicks there is
the J&F that chance gives for as many: ``over_rand`` is what a policy gains on that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from lazyvos.experiments.engine import run_table
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.frame import export, save, summary
from lazyvos.types import InputError

POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "alone": ("never", {}),
    "Lazy †": ("lazy", {"ask": False}),
    "Lazy": ("lazy", {}),
    "Lazy, level": ("lazy", {"trigger": "level"}),
    "Agreement": ("agreement", {}),
    "Outside": ("outside", {}),
    "Persistent": ("persistent", {}),
    "Budget": ("budget", {"per_minute": 2, "minutes": 0.2}),
    "Budget, Persistent": ("budget", {"per_minute": 2, "minutes": 0.2, "base": {"name": "persistent"}}),
    "Lazy+": ("lazy+", {}),
}
"""Name in the table -> policy and options. The budgets: two requests in twelve seconds."""

RATES = (0.0025, 0.005, 0.01, 0.02, 0.04)
"""Requests of Rand per object and frame."""


def arms(
    dataset: Any, dataset_options: Mapping[str, Any], *, fps: float, sequences: Sequence[str] | None = None, backbone: str = "tiny",
    memory: str = "longterm", size: int = 0, start: str = "click", policies: Sequence[str] = tuple(POLICIES), rates: Sequence[float] = RATES,
    draws: int = 3, precision: str = "auto",
) -> list[Experiment]:  # fmt: skip
    """The experiments: one for each of ``policies``, and ``draws`` of Rand for each of ``rates``, named ``Rand RATE / DRAW``.

    ``fps`` is the clips' rate, for budgets per minute. Raises :class:`InputError` for a policy that :data:`POLICIES` has not.
    """
    unknown = [name for name in policies if name not in POLICIES]
    if unknown:
        raise InputError(f"policy {unknown[0]!r} is not part of this study; choose from {', '.join(POLICIES)}")
    common: dict[str, Any] = {
        "dataset": dataset, "dataset_options": dict(dataset_options), "sequences": None if sequences is None else tuple(sequences),
        "backbone": backbone, "memory": memory, "refiner": "tiny", "size": size, "start": start, "precision": precision,
    }  # fmt: skip
    found = []
    for name in policies:
        policy, options = POLICIES[name]
        options = {**options, "fps": fps} if policy == "budget" else options
        user = "none" if name in ("alone", "Lazy †") else "simulated"
        found.append(Experiment(name=name, policy=policy, policy_options=options, user=user, **common))
    for rate in rates:
        for seed in range(draws):
            options = {"rate": rate, "seed": seed, "rest": {"ask": False}}
            found.append(Experiment(name=f"Rand {rate:g} / {seed}", policy="random", policy_options=options, user="simulated", **common))
    return found


def condense(table: pd.DataFrame) -> pd.DataFrame:
    """One row per policy and per rate of Rand: means over objects (and draws), clicks, and the gain over Rand at as many clicks.

    ``over_rand`` is J&F less that of Rand, read off the line through Rand's means over draws (and the tracker alone with the same
    pseudo-corrections, at no click); NaN where the policy clicked more often than any Rand. ``rand_spread`` is the standard deviation over
    draws of Rand at the nearest rate. ``low`` and ``high`` bound the gain: 95 % of paired bootstrap draws over objects.
    """
    rows = summary(table)
    rows["pseudo"] = [table[table["experiment"] == name]["pseudo"].sum() for name in rows["experiment"]]
    rows["NoC"] = rows["NoC"].fillna(0)
    rand = rows[rows["experiment"].str.startswith("Rand ")].copy()
    rand["rate"] = rand["experiment"].str.split(" / ").str[0]
    points = rand.groupby("rate").agg(NoC=("NoC", "mean"), JF=("JF", "mean"), spread=("JF", "std")).sort_values("NoC")
    by_object = {name: part.set_index(["sequence", "object"])["JF"] for name, part in table.groupby("experiment")}
    keep = ["JF", *[c for c in rows.columns if c.startswith("R@")], "NoC", "IDI", "ACI", "pseudo", "videos", "objects", "frames"]
    found = [{"policy": r["experiment"], **{c: r[c] for c in keep}, **_gain(r, rows, points, rand, by_object)}
             for r in rows.to_dict("records") if not r["experiment"].startswith("Rand ")]  # fmt: skip
    for rate, part in rand.groupby("rate", sort=False):
        found.append({"policy": rate, **{c: part[c].mean() for c in keep}, "rand_spread": part["JF"].std()})
    return pd.DataFrame(found).reset_index(drop=True)


def _gain(
    row: Mapping[str, Any], rows: pd.DataFrame, points: pd.DataFrame, rand: pd.DataFrame, by_object: Mapping[str, pd.Series]
) -> dict[str, float]:
    nothing = "Lazy †" if "Lazy †" in by_object else "alone"
    if points.empty or row["NoC"] == 0 or row["NoC"] > points["NoC"].max() or nothing not in by_object:
        return {"over_rand": np.nan, "rand_spread": np.nan, "low": np.nan, "high": np.nan}
    clicks = np.array([0.0, *points["NoC"]])
    right = min(int(np.searchsorted(clicks, row["NoC"])), len(clicks) - 1)
    share = (row["NoC"] - clicks[right - 1]) / max(clicks[right] - clicks[right - 1], 1e-9)
    curve = [by_object[nothing]] + [
        sum(by_object[n] for n in rand[rand["rate"] == rate]["experiment"]) / (rand["rate"] == rate).sum() for rate in points.index
    ]
    mine = by_object[row["experiment"]]
    difference = (mine - (share * curve[right] + (1 - share) * curve[right - 1])).to_numpy()
    rng = np.random.default_rng(0)
    means = difference[rng.integers(0, len(difference), (10_000, len(difference)))].mean(1)
    near = points["spread"].iloc[int(np.abs(points["NoC"].to_numpy() - row["NoC"]).argmin())]
    low, high = np.quantile(means, (0.025, 0.975))
    return {"over_rand": float(difference.mean()), "rand_spread": float(near), "low": float(low), "high": float(high)}


def study(
    out: str | PathLike[str], *, seeds: Sequence[int] = (1, 2, 3), cases: Sequence[str] = ("crowd", "hard"), length: int = 600,
    size: int = 144, folder: str | None = None, split: str | None = None, fps: float = 24.0, draws: int = 3, rates: Sequence[float] = RATES,
    policies: Sequence[str] = tuple(POLICIES), workers: int = 1, progress: bool = True, **more: Any,
) -> pd.DataFrame:  # fmt: skip
    """Run the study (results in ``out`` are kept) and return :func:`condense`'s table.

    Without ``folder`` on clips of the generated suite ``long`` (``cases`` for each of ``seeds``, ``length`` frames of 144x256, ``size`` the short
    side of the network's input), else on the sequences of a folder in DAVIS layout (``split`` names a list of them) at ``fps``.
    """
    if folder is None:
        given: dict[str, Any] = {"seeds": list(seeds), "length": length, "size": [144, 256]}
        wanted: Sequence[str] | None = [f"{case}-s{seed}" for case in cases for seed in seeds]
        experiments = arms("generated:long", given, fps=30.0, sequences=wanted, size=size, draws=draws, rates=rates, policies=policies, **more)
    else:
        given = {} if split is None else {"split": split}
        experiments = arms(folder, given, fps=fps, size=size, draws=draws, rates=rates, policies=policies, **more)
    executor = "local" if workers == 1 else "processes"
    return condense(run_table(experiments, executor=executor, workers=workers, out=out, progress=progress))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lazyvos policies``."""
    parser.add_argument("--out", default="lazyvos-policies", metavar="DIR", help="results of the clips, kept for the next run (default %(default)s)")
    parser.add_argument("--table", metavar="FILE", help="write the table there (.csv, .md or .tex)")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), metavar="NAME", help="default: all")
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), metavar="R", help="requests of Rand per object and frame")
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="draws of Rand (default %(default)s)")
    parser.add_argument("--cases", nargs="+", default=["crowd", "hard"], metavar="NAME", help="generated clips (default crowd hard)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    parser.add_argument("--length", type=int, default=600, metavar="FRAMES")
    parser.add_argument("--folder", metavar="DIR", help="a folder in DAVIS layout instead of generated clips")
    parser.add_argument("--split", metavar="FILE", help="list of its sequences: a name in ImageSets/ or a text file")
    parser.add_argument("--fps", type=float, default=24.0, metavar="N", help="of the folder's clips (default %(default)g)")
    parser.add_argument("--size", type=int, default=144, metavar="N", help="short side of the network's input (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """``lazyvos policies``: run, print, and return the rows."""
    if args.draws < 1 or args.length < 2 or args.workers < 1 or any(not 0 < rate <= 1 for rate in args.rates):
        raise InputError("draws and workers must be at least 1, length at least 2, and rates above 0 and up to 1")
    table = study(
        args.out, seeds=args.seeds, cases=args.cases, length=args.length, size=args.size, folder=args.folder, split=args.split, fps=args.fps,
        draws=args.draws, rates=args.rates, policies=args.policies, workers=args.workers,
    )  # fmt: skip
    if args.table:
        save(table, args.table)
    if not args.json:
        sys.stdout.write(export(table, "markdown", 3))
    return {"rows": table.to_dict("records"), "table": args.table}
