"""``lazyvos rounds``: the interactive DAVIS benchmark on any data set, played by clicks of a robot."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lazyvos.types import InputError

if TYPE_CHECKING:
    from lazyvos.experiments.interactive import Benchmark, Make
    from lazyvos.experiments.interactive_report import Sessions

Factory = Callable[[argparse.Namespace], "tuple[Make, dict[str, Any], str]"]
"""From the arguments: what makes a tracker for a sequence, plain values that say which, and where it computes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of ``lazyvos rounds``."""
    parser.add_argument("dataset", metavar="DATASET", help="a data set's name (lazyvos data list), generated:SUITE, or a folder in DAVIS layout")
    parser.add_argument("--root", metavar="DIR", help="where the data set lies")
    parser.add_argument("--split", metavar="FILE", help="list of sequences: a name in ImageSets/ or a text file")
    parser.add_argument("--sequences", nargs="*", metavar="NAME", help="only these sequences")
    rules = parser.add_argument_group("rules")
    rules.add_argument("--strategy", choices=("a1", "a2", "a3"), default="a2",
                       help="clicks: one per object; one per piece of scribble; in the depth of errors (default %(default)s)")  # fmt: skip
    rules.add_argument("--limit", type=int, default=2, metavar="N", help="most clicks per object in a round (default %(default)s)")
    rules.add_argument("--min-area", type=int, default=100, metavar="N", help="a3: no click for errors of fewer pixels (default %(default)s)")
    rules.add_argument("--per-region", action="store_true", help="a3: a click for every error region, the largest first")
    rules.add_argument("--jitter", type=float, default=0.0, metavar="R", help="move clicks by at most R pixels (default %(default)g)")
    rules.add_argument("--rounds", type=int, default=8, metavar="N", help="default %(default)s")
    rules.add_argument("--seconds", type=float, default=30.0, metavar="S", help="time for each object and round, 0 for no limit (default %(default)g)")
    rules.add_argument("--choose", choices=("framework", "thesis"), default="framework",
                       help="next frame: smallest mean of --metric, or smallest sum of IoU (default %(default)s)")  # fmt: skip
    rules.add_argument("--metric", choices=("JF", "J", "F"), default="JF", help="what the choice looks at (default %(default)s)")
    rules.add_argument("--sets", type=int, default=3, metavar="N", help="most first scribbles per sequence (default %(default)s)")
    rules.add_argument("--first", choices=("start", "random"), default="start", help="frame of the first scribbles where none are given (default %(default)s)")
    rules.add_argument("--seed", type=int, default=0, metavar="N")
    net = parser.add_argument_group("tracker")
    net.add_argument("--backbone", default="tiny", metavar="NAME", help="default %(default)s")
    net.add_argument("--weights", metavar="FILE", help="weights for it: a file or a name of `lazyvos weights list`")
    net.add_argument("--refiner", default="tiny", metavar="NAME", help="what turns clicks into a mask (default %(default)s)")
    net.add_argument("--refiner-weights", metavar="FILE")
    net.add_argument("--fusion", choices=("auto", "learned", "linear", "none"), default="auto",
                     help="how rounds are merged; auto is learned where there are weights, else linear (default %(default)s)")  # fmt: skip
    net.add_argument("--fusion-weights", metavar="FILE")
    net.add_argument("--memory", default="code", metavar="NAME", help="code: every fifth frame of a pass and the previous one; or a memory's name (default %(default)s)")
    net.add_argument("--history", choices=("code", "latest", "restart"), default="code", help="given masks that a pass starts with (default %(default)s)")
    net.add_argument("--size", type=int, default=0, metavar="N", help="short side at which the network runs (default: the network's)")
    net.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    net.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--out", metavar="DIR", help="folder of results: finished samples are not played again; report.csv and rounds.csv are written there")


def trackers(args: argparse.Namespace) -> tuple[Make, dict[str, Any], str]:
    """A maker of :class:`lazyvos.rounds.Rounds`; networks are loaded once, here."""
    from lazyvos.device import pick_device
    from lazyvos.experiments.executors import weights_digest
    from lazyvos.rounds import Rounds
    from lazyvos.rounds.parts import backbone_of, fusion_of, refiner_of

    device = pick_device(args.device)
    net, side = backbone_of(args.backbone, args.weights, device, args.size)
    refiner = refiner_of(args.refiner, args.refiner_weights, device, args.precision)
    merge = fusion_of(args.fusion, args.fusion_weights, device)
    parts = {
        "backbone": net, "refiner": refiner, "fusion": merge.net or merge.kind, "memory": args.memory, "history": args.history,
        "size": side, "device": device, "precision": args.precision, "progress": False,
    }  # fmt: skip
    named = ("backbone", "refiner", "fusion", "memory", "history", "precision")
    identity = {name: getattr(args, name) for name in named} | {"size": side}
    identity |= {f"{name} weights": weights_digest(part) for name, part in (("backbone", net), ("refiner", refiner), ("fusion", merge))}
    return lambda sequence: Rounds(sequence, **parts), identity, device


def rules_of(args: argparse.Namespace) -> Benchmark:
    """The rules that the arguments say; raises :class:`InputError` for values that make no sense."""
    from lazyvos.experiments.interactive import Benchmark
    from lazyvos.interact.strategies import Strategy

    if args.seconds < 0:
        raise InputError(f"--seconds is {args.seconds:g}; give 0 for no limit, or more")
    strategy = Strategy(kind=args.strategy, limit=args.limit, min_area=args.min_area, per_region=args.per_region, jitter=args.jitter)
    return Benchmark(strategy=strategy, rounds=args.rounds, seconds=args.seconds or None, choose=args.choose, metric=args.metric,
                     sets=args.sets, first=args.first, seed=args.seed)  # fmt: skip


def run(args: argparse.Namespace, factory: Factory | None = None) -> dict[str, Any]:
    """Play the benchmark, print a table unless ``args.json``, and return the numbers.

    ``factory`` makes the trackers, by default :func:`trackers`; it is called when the data set and the rules are known to be good.
    """
    from lazyvos.datasets import open_dataset
    from lazyvos.experiments.frame import save
    from lazyvos.experiments.interactive import run as play

    rules = rules_of(args)
    dataset = open_dataset(args.dataset, root=args.root, split=args.split)
    unknown = [name for name in args.sequences or () if name not in dataset.names]
    if unknown:
        raise InputError(f"{args.dataset} has no sequence {unknown[0]!r}; it has {', '.join(dataset.names[:8])}")
    make, identity, device = (factory or trackers)(args)
    done = play(dataset, make, rules, identity=identity, sequences=args.sequences or None, out=args.out, device=device,
                progress=not getattr(args, "json", False))  # fmt: skip
    summary, table = done.summary(), done.per_round()
    files = []
    if args.out:
        for name, one in (("report", done.frame), ("rounds", table)):
            files.append(f"{args.out}/{name}.csv")
            save(one, files[-1])
    if not getattr(args, "json", False):
        print(render(done, summary))
        print("\n".join(files), end="\n" if files else "")
    return {**summary, "per_round": table.to_dict("records"), "reused": done.reused, "files": files}


def render(done: Sessions, summary: Mapping[str, Any]) -> str:
    """Rounds and the numbers of the whole as text, what depends on the machine last."""
    from lazyvos.experiments.frame import export

    return "\n".join([
        f"{summary['samples']} samples of {summary['sequences']} sequences, {summary['objects']} objects, {done.reused} found finished",
        export(done.per_round()),
        "  ".join(f"R-AUC-{m} {summary[f'R-AUC-{m}']:.3f} ({summary[f'R-AUC-{m}-rounds']:.3f} between rounds)" for m in ("JF", "J", "F")),
        f"clicks per object {summary['NoC']:.2f}",
        f"on {summary['hardware']}: AUC-JF {summary['AUC-JF']:.3f}, JF@60s {summary['JF@60s']:.3f}, {summary['seconds']:.1f} s per sample"
        + (f", {summary['late']} out of time" if summary["late"] else ""),
    ])  # fmt: skip
