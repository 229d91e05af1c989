"""``lazyvos score``: predictions and truth in, a table of scores out."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from lazyvos.score_table import ScoreTable
from lazyvos.types import InputError

_SHOWN = {"vots": ("Q", "ACC", "ROB", "NRE", "DRE", "ADQ"), "lvos": ("JF", "J", "F", "V", "R@0.1", "R@0.25", "R@0.5")}
_DAVIS = ("JF", "J", "J_recall", "J_decay", "F", "F_recall", "F_decay", "V", "R@0.5")
PROTOCOLS = ("davis", "davis-unsupervised", "lvos", "vos-benchmark", "vots", "interactive")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of ``lazyvos score``."""
    parser.add_argument("--gt", required=True, metavar="DIR", help="truth: a dataset's folder, or one with SEQUENCE/FRAME.png")
    parser.add_argument("--pred", required=True, metavar="DIR",
                        help="predictions: SEQUENCE/FRAME.png, SEQUENCE/OBJECT/FRAME.png, VOT regions, or COCO RLE as .json")  # fmt: skip
    parser.add_argument("--protocol", choices=PROTOCOLS, help="how to score (default: the dataset's, davis for plain folders)")
    parser.add_argument("--split", metavar="FILE", help="list of sequences: a name in ImageSets/ or a text file (default: all)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many work at once (default %(default)s)")
    parser.add_argument("--out", metavar="DIR", help="folder for objects.csv, sequences.csv and global.csv")
    parser.add_argument("--unseen", metavar="FILE", help="lvos: list of the videos of unseen categories")
    parser.add_argument("--tolerance", type=float, default=0.008, metavar="T", help="of F: share of the diagonal, or pixels from 1 on")
    parser.add_argument("--keep-ends", action="store_true", help="davis, vos-benchmark: score the first and the last frame too")
    parser.add_argument("--uint8-decay", action="store_true", help="decay as the official DAVIS code computes it")
    parser.add_argument("--first-frame-as-init", action="store_true", help="vots: the first prediction counts as empty")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score as the arguments say, print a table unless ``args.json``, and return the numbers."""
    from lazyvos.outputs import make_folder
    from lazyvos.score import score_folder

    if not (math.isfinite(args.tolerance) and args.tolerance >= 0):
        raise InputError(f"--tolerance {args.tolerance}: give a share of the diagonal below 1, or pixels from 1 on")
    if args.out:
        make_folder(Path(args.out))
    table = score_folder(
        args.gt, args.pred, args.protocol, split=args.split, processes=args.processes, progress=not args.json,
        tolerance=args.tolerance, uint8_decay=args.uint8_decay, skip_ends=not args.keep_ends,
        first_frame_as_init=args.first_frame_as_init, unseen=args.unseen,
    )  # fmt: skip
    files = table.to_csv(args.out) if args.out else []
    if not args.json:
        print(render(table))
        for file in files:
            print(file)
    return {**table.as_dict(), "files": [str(file) for file in files]}


def render(table: ScoreTable) -> str:
    """The sequences and the whole as aligned text."""
    columns = _SHOWN.get(table.protocol, _DAVIS)
    width = max(8, *(len(row["sequence"]) for row in table.sequences))
    lines = [f"{'sequence':<{width}}" + "".join(f"{c:>10}" for c in columns)]
    for row in [*table.sequences, {"sequence": "all", **table.summary}]:
        cells = (row.get(c) for c in columns)
        lines.append(f"{row['sequence']:<{width}}" + "".join(f"{'-' if v is None or math.isnan(v) else format(v, '.4f'):>10}" for v in cells))
    return "\n".join([f"{table.protocol}: {table.summary['objects']} objects in {table.summary['sequences']} sequences", *lines,
                      *(f"note: {note}" for note in table.summary["notes"])])  # fmt: skip
