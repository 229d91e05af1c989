"""Which memory keeps an object longest? Every strategy on long clips, at two intervals and three sizes.

The clips are generated (change of appearance, leaving, re-entry, look-alikes), or real ones put together by play lists
(:class:`lazyvos.datasets.PlaylistFolder`). The question is the thesis's (chapter 5); the answer is whatever comes out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from os import PathLike
from typing import Any

import pandas as pd

from lazyvos.datasets import PlaylistFolder
from lazyvos.experiments.engine import run_table
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.frame import export, save
from lazyvos.types import InputError

STRATEGIES = ("unbounded", "fifo", "readmem", "rmem", "dam4sam", "longterm")
SIZED = ("fifo", "readmem", "rmem", "dam4sam")
"""Strategies of a fixed number of frames; `longterm` uses it as the size of its working memory."""


def options(memory: str, interval: int, slots: int, adjacent: bool = True) -> dict[str, Any]:
    """Arguments of a strategy that considers a frame every ``interval`` and keeps ``slots`` frames.

    ``adjacent`` says whether unbounded, FIFO, READMem and RMem read the frame before, too (the thesis's adjacent slot). DAM4SAM looks
    at every frame by design: ``interval`` is the stride of its recent frames.
    """
    if memory == "unbounded":
        return {"every": interval, "adjacent": adjacent}
    if memory == "longterm":
        return {"every": interval, "max_mid_term_frames": slots, "min_mid_term_frames": max(2, slots // 2)}
    if memory == "dam4sam":
        return {"total": slots, "drm": min(4, slots - 1), "stride": interval}
    return {"every": interval, "slots": slots, "adjacent": adjacent}


def arms(
    networks: Sequence[str], intervals: Sequence[int], slots: Sequence[int], dataset: Any, dataset_options: dict[str, Any],
    *, strategies: Sequence[str] = STRATEGIES, size: int | None = 96, precision: str = "auto",
    adjacent: bool = True,
) -> list[Experiment]:  # fmt: skip
    """All combinations as experiments, named ``network / memory / s_r / N``."""
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        raise InputError(f"memory {unknown[0]!r} is not part of this study; choose from {', '.join(STRATEGIES)}")
    found = []
    for net in networks:
        for interval in intervals:
            for memory in strategies:
                for count in slots if memory != "unbounded" else (0,):
                    found.append(Experiment(
                        name=f"{net} / {memory} / {interval} / {count or 'all'}", dataset=dataset, dataset_options=dataset_options,
                        backbone=net, memory=memory, memory_options=options(memory, interval, count, adjacent), refiner=None, size=size,
                        precision=precision,
                    ))  # fmt: skip
    return found


def condense(table: pd.DataFrame) -> pd.DataFrame:
    """One row per combination: means over objects, and ``spread``, the standard deviation over clips of a clip's mean J&F."""
    rows = []
    for name, part in table.groupby("experiment", sort=False):
        net, memory, interval, slots = str(name).split(" / ")
        clips = part.groupby("sequence")
        alone = part.drop_duplicates("sequence")
        rows.append({
            "network": net, "memory": memory, "s_r": int(interval), "N": slots, "JF": part["JF"].mean(),
            "spread": clips["JF"].mean().std(ddof=1), **{m: part[m].mean() for m in part.columns if m.startswith("R@")},
            "memory_mib": part["bank_mib"].max(), "fps": alone["frames"].sum() / alone["seconds"].sum(),
            "videos": len(alone), "frames": int(alone["frames"].sum()), "hardware": part["hardware"].iloc[0],
        })  # fmt: skip
    return pd.DataFrame(rows)


def study(
    out: str | PathLike[str], *, networks: Sequence[str] = ("tiny-stm", "tiny"), intervals: Sequence[int] = (1, 10),
    slots: Sequence[int] = (5, 10, 20), seeds: Sequence[int] = (0, 1, 2), length: int = 1500, playlists: str | None = None,
    lists: Sequence[str] | None = None, strategies: Sequence[str] = STRATEGIES, size: int | None = 96, workers: int = 1,
    adjacent: bool = True, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Run the study (or what is left of it: results in ``out`` are kept) and return one row per combination.

    Without ``playlists`` on the hard clips of the generated suite ``long`` (drawn for each of ``seeds``, ``length`` frames of 160x284), else on
    the lists of that folder (``lists``: only these). ``adjacent`` is that of :func:`options`. Speeds are of runs side by side that share their encoder, for comparison within the table.
    """
    if playlists is None:
        dataset: Any = "generated:long"
        given: dict[str, Any] = {"seeds": tuple(seeds), "length": length, "size": (160, 284)}
        wanted = tuple(f"hard-s{seed}" for seed in seeds)
    else:
        dataset, given = PlaylistFolder, {"folder": playlists}
        wanted = tuple(lists) if lists else None  # type: ignore[assignment]
    experiments = [
        Experiment(**{**_fields(arm), "sequences": wanted})
        for arm in arms(networks, intervals, slots, dataset, given, strategies=strategies, size=size, adjacent=adjacent)
    ]
    executor = "local" if workers == 1 else "processes"
    return condense(run_table(experiments, executor=executor, workers=workers, out=out, progress=progress))


def _fields(arm: Experiment) -> dict[str, Any]:
    return {name: getattr(arm, name) for name in arm.__dataclass_fields__}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lazyvos study``."""
    parser.add_argument("--out", default="lazyvos-study", metavar="DIR", help="results of the clips, kept for the next run (default %(default)s)")
    parser.add_argument("--table", metavar="FILE", help="write the table there (.csv, .md or .tex)")
    parser.add_argument("--networks", nargs="+", default=["tiny-stm", "tiny"], metavar="NAME")
    parser.add_argument("--memories", nargs="+", default=list(STRATEGIES), metavar="NAME", help="default: all")
    parser.add_argument("--intervals", nargs="+", type=int, default=[1, 10], metavar="S_R")
    parser.add_argument("--slots", nargs="+", type=int, default=[5, 10, 20], metavar="N")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--length", type=int, default=1500, metavar="FRAMES")
    parser.add_argument("--size", type=int, default=96, metavar="N", help="short side of the network's input (default %(default)s)")
    parser.add_argument("--no-adjacent", action="store_true", help="no memory reads the frame before unless it stored it")
    parser.add_argument("--playlists", metavar="DIR", help="play lists of real frames instead of generated clips")
    parser.add_argument("--lists", nargs="+", metavar="NAME", help="only these lists")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """``lazyvos study``: run, print, and return the rows."""
    if min(args.intervals) < 1 or min(args.slots) < 2 or args.length < 2 or args.workers < 1:
        raise InputError("intervals and workers must be at least 1, slots and length at least 2")
    table = study(
        args.out, networks=args.networks, intervals=args.intervals, slots=args.slots, seeds=args.seeds, length=args.length,
        playlists=args.playlists, lists=args.lists, strategies=args.memories, size=args.size, workers=args.workers,
        adjacent=not args.no_adjacent,
    )  # fmt: skip
    if args.table:
        save(table, args.table)
    if not args.json:
        sys.stdout.write(export(table, "markdown", 3))
    return {"rows": table.to_dict("records"), "table": args.table}
