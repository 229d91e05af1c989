"""``lazyvos table``: published numbers beside ours, and the data of figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazyvos.types import InputError

if TYPE_CHECKING:
    from lazyvos.experiments.recipe import Setting
    from lazyvos.experiments.tables import Book

SHOWN = 40
"""Most rows of a figure's data that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of ``lazyvos table``."""
    parser.add_argument("number", nargs="*", metavar="NUMBER",
                        help="such as 5.3, or 'figure 5.5', or 'all' for all that can be made (without it: list them)")  # fmt: skip
    parser.add_argument("--scale", choices=("smoke", "paper"), default="smoke",
                        help="smoke: small network, generated clips; paper: the published setting (default %(default)s)")  # fmt: skip
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=DIR", help="where data sets lie, such as LV1=DIR D17=DIR")
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE", help="weights, such as mivos=FILE (default: the registry's)")
    parser.add_argument("--format", choices=("markdown", "latex", "csv"), default="markdown", help="default %(default)s")
    parser.add_argument("--save", metavar="FILE", help="also write the table to FILE (.md, .tex or .csv)")
    parser.add_argument("--out", default="lazyvos-tables", metavar="DIR",
                        help="folder of results; finished ones are not made again; 'all' writes its tables there as CSV (default %(default)s)")  # fmt: skip
    parser.add_argument("--executor", default="local", metavar="WHERE", help="local, processes, dask, or a Dask scheduler's address (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, or local Dask workers (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make the table or figure, print it unless ``args.json``, and return it as plain values.

    Raises :class:`InputError` for an unknown table, data set or option.
    """
    from lazyvos.experiments.frame import export, save
    from lazyvos.experiments.recipe import Setting

    quiet = bool(getattr(args, "json", False))
    if not args.number:
        return _list(quiet)
    kind, number = _which(args.number)
    setting = Setting(args.scale, _pairs(args.data, "--data"), _pairs(args.weights, "--weights"), args.device, args.precision, args.seed)
    if number == "all":
        if args.save:
            raise InputError("--save is for one table; 'all' writes every table into the folder of --out")
        return _all(args, setting, quiet)
    book = _make(kind, number, args, setting, quiet)
    if not quiet:
        heading, notes = f"{book.kind} {book.number} — {book.title} ({book.scale} scale)", "\n".join(book.notes)
        few = book.frame if args.format == "csv" or book.kind == "Table" else book.frame.head(SHOWN)
        if len(few) < len(book.frame):
            notes += f"\n{len(book.frame) - len(few)} more rows: --format csv or --save FILE has all."
        text = export(few, args.format)
        print(text if args.format == "csv" else f"% {heading}\n{text}% {notes}" if args.format == "latex" else f"{heading}\n\n{text}\n{notes}")
    if args.save:
        save(book.frame, args.save)
    return {
        "kind": book.kind.lower(), "number": book.number, "title": book.title, "scale": book.scale, "rows": book.frame.to_dict("records"),
        "notes": list(book.notes), "reuse": vars(book.report).copy(), "out": str(args.out),
    }  # fmt: skip


def _list(quiet: bool) -> dict[str, Any]:
    from lazyvos.experiments.tables import FIGURES, RECIPES, TABLES

    if not quiet:
        for number, title in TABLES.items():
            print(f"{number}  {title}{'' if number in RECIPES else '  (published numbers only)'}")
        for number, figure in FIGURES.items():
            print(f"figure {number}  {figure.title}")
    return {
        "tables": [{"number": number, "title": title, "recipe": number in RECIPES} for number, title in TABLES.items()],
        "figures": [{"number": number, "title": figure.title} for number, figure in FIGURES.items()],
    }


def _which(words: Sequence[str]) -> tuple[str, str]:
    """Kind and number of ``5.5``, ``table 5.5``, ``figure 5.5``, ``figure-5.5`` or ``all``."""
    text = "-".join(words).lower()
    kind, dash, number = text.partition("-")
    if kind in ("table", "figure") and dash:
        return kind, number
    if len(words) > 1:
        raise InputError(f"{' '.join(words)!r} is not one table; give one number, such as 5.3 or figure 5.5, or all")
    return "table", text


def _make(kind: str, number: str, args: argparse.Namespace, setting: Setting, quiet: bool) -> Book:
    from lazyvos.experiments.tables import make_figure, make_table

    make = make_figure if kind == "figure" else make_table
    return make(number, setting, out=args.out, executor=args.executor, workers=args.workers, progress=not quiet)


def _all(args: argparse.Namespace, setting: Setting, quiet: bool) -> dict[str, Any]:
    """Every table and figure with a recipe, one after the other; at paper scale without those whose data sets are not here."""
    from dataclasses import replace

    from lazyvos.experiments.frame import save
    from lazyvos.experiments.tables import FIGURES, RECIPES

    made: list[dict[str, Any]] = []
    todo = [("table", n, r.datasets) for n, r in RECIPES.items()] + [("figure", n, f.datasets) for n, f in FIGURES.items()]
    strange = set(setting.data) - {name for _, _, datasets in todo for name in datasets}
    if strange:
        raise InputError(f"no table has a data set {min(strange)!r}; there are {', '.join(dict.fromkeys(n for _, _, d in todo for n in d))}")
    for kind, number, datasets in todo:
        one: dict[str, Any] = {"kind": kind, "number": number}
        began = time.perf_counter()
        try:
            own = replace(setting, data={n: place for n, place in setting.data.items() if n in datasets})
            book = _make(kind, number, args, own, quiet)
        except InputError as error:
            if setting.scale == "smoke":
                raise
            one |= {"error": str(error)}
        else:
            file = Path(args.out) / f"{kind}-{number}-{setting.scale}.csv"
            save(book.frame, file)
            one |= {"file": str(file), "made": book.report.made, "finished": book.report.finished}
        one["seconds"] = round(time.perf_counter() - began, 2)
        made.append(one)
        if not quiet:
            what = one.get("error") or f"{one['made']} results made, {one['finished']} found finished, {one['file']}"
            print(f"{kind} {number}  {one['seconds']:.1f} s  {what}", flush=True)
    seconds = round(sum(one["seconds"] for one in made), 2)
    if not quiet:
        print(f"all  {seconds:.1f} s")
    return {"scale": setting.scale, "seconds": seconds, "made": made, "out": str(args.out)}


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for text in given:
        name, equal, value = text.partition("=")
        if not (name and equal and value):
            raise InputError(f"{option} {text!r} is not understood; write NAME=PATH")
        found[name] = value
    return found
