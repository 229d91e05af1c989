"""``lazyvos table``: published numbers beside ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from lazyvos.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of ``lazyvos table``."""
    parser.add_argument("number", nargs="?", metavar="NUMBER", help="such as 5.3 (without it: list the tables)")
    parser.add_argument("--scale", choices=("smoke", "paper"), default="smoke",
                        help="smoke: small network, generated clips; paper: the published setting (default %(default)s)")  # fmt: skip
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR", help="where data sets lie, such as LV1=DIR D17=DIR")
    parser.add_argument("--weights", nargs="*", default=[], metavar="NETWORK=FILE", help="weights, such as mivos=FILE (default: the registry's)")
    parser.add_argument("--format", choices=("markdown", "latex", "csv"), default="markdown", help="default %(default)s")
    parser.add_argument("--save", metavar="FILE", help="also write the table to FILE (.md, .tex or .csv)")
    parser.add_argument("--out", default="lazyvos-tables", metavar="DIR", help="folder of results; finished ones are not made again (default %(default)s)")
    parser.add_argument("--executor", default="local", metavar="WHERE", help="local, processes, dask, or a Dask scheduler's address (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, or local Dask workers (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make the table, print it unless ``args.json``, and return it as plain values.

    Raises :class:`InputError` for an unknown table, data set or option.
    """
    from lazyvos.experiments.frame import export, save
    from lazyvos.experiments.recipe import Setting
    from lazyvos.experiments.tables import RECIPES, TABLES, make_table

    quiet = bool(getattr(args, "json", False))
    if args.number is None:
        if not quiet:
            for number, title in TABLES.items():
                print(f"{number}  {title}{'' if number in RECIPES else '  (published numbers only)'}")
        return {"tables": [{"number": number, "title": title, "recipe": number in RECIPES} for number, title in TABLES.items()]}
    setting = Setting(args.scale, _pairs(args.data, "--data"), _pairs(args.weights, "--weights"), args.device, args.precision, args.seed)
    book = make_table(args.number, setting, out=args.out, executor=args.executor, workers=args.workers, progress=not quiet)
    if not quiet:
        heading, notes = f"Table {book.number} — {book.title} ({book.scale} scale)", "\n".join(book.notes)
        text = export(book.frame, args.format)
        print(text if args.format == "csv" else f"% {heading}\n{text}% {notes}" if args.format == "latex" else f"{heading}\n\n{text}\n{notes}")
    if args.save:
        save(book.frame, args.save)
    return {
        "number": book.number, "title": book.title, "scale": book.scale, "rows": book.frame.to_dict("records"), "notes": list(book.notes),
        "reuse": vars(book.report).copy(), "out": str(args.out),
    }  # fmt: skip


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for text in given:
        name, equal, value = text.partition("=")
        if not (name and equal and value):
            raise InputError(f"{option} {text!r} is not understood; write NAME=PATH")
        found[name] = value
    return found
