"""``lazyvos data list | where | check``: which datasets are known, what to get from where, and whether a copy is whole."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lazyvos.datasets.catalog import Facts, catalog, data_folder, facts_of, find
from lazyvos.datasets.check import check_dataset
from lazyvos.datasets.generated import SUITES, GeneratedBenchmark
from lazyvos.types import InputError

SHOWN = 10
"""Problems that ``check`` names without ``--all``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the actions of ``lazyvos data`` and their options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object as the last line of stdout")
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the whole traceback of an error")
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("list", parents=[common], help="datasets by name, their size and licence, and which are on this machine")
    show.add_argument("--root", metavar="DIR", help="folder of all datasets (default: LAZYVOS_DATA or LAZYVOS_HOME/datasets)")
    where = actions.add_parser("where", parents=[common], help="what to get from where, under which licence, and how to lay it out")
    where.add_argument("name", metavar="NAME", help="a name from lazyvos data list, or generated:SUITE")
    where.add_argument("--root", metavar="DIR", help="folder of all datasets (default: LAZYVOS_DATA or LAZYVOS_HOME/datasets)")
    check = actions.add_parser("check", parents=[common], help="validate a copy: counts, sizes, ids, damaged and missing files")
    check.add_argument("dir", metavar="DIR", help="folder of the dataset")
    check.add_argument("--as", dest="as_", metavar="NAME", help="the dataset that it should be (default: told by its layout)")
    check.add_argument("--all", action="store_true", help=f"name all problems, not only the first {SHOWN}")
    check.add_argument("--deep", action="store_true", help="decode all frames too, not only their header and end")
    check.add_argument("--jobs", type=int, metavar="N", help="threads (default: as many as processors, at most 8)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do the action and return its facts; prints them for people unless ``args.json``.

    ``check`` returns ``{"ok": bool, "problems": [...], ...}``. Raises :class:`InputError` for an unknown name or a folder
    that is none.
    """
    quiet = getattr(args, "json", False)
    if args.action == "list":
        facts = _list(args.root)
        lines = _table(facts)
    elif args.action == "where":
        facts = _where(args.name, args.root)
        lines = _sheet(facts)
    else:
        report = check_dataset(args.dir, args.as_, deep=args.deep, jobs=args.jobs)
        facts = report.as_dict(None if args.all else SHOWN)
        lines = _verdict(facts)
    if not quiet:
        print("\n".join(lines))
    return facts


def _known(facts: Facts, found: Path | None) -> dict[str, Any]:
    numbers = {key: getattr(facts, key) for key in ("year", "sequences", "frames", "objects")}
    return {"name": facts.name, "title": facts.title, **{key: value or "unknown" for key, value in numbers.items()},
            "about": facts.about, "licence": facts.licence or "unknown", "found": None if found is None else str(found)}


def _folder(root: str | None) -> Path:
    if root is not None and not Path(root).expanduser().is_dir():
        raise InputError(f"--root {root} is not a folder; give the folder of all datasets")
    return data_folder() if root is None else Path(root).expanduser()


def _list(root: str | None) -> dict[str, Any]:
    place = _folder(root)
    suites = [{"name": f"generated:{name}", "sequences": len(GeneratedBenchmark(name)), "frames": suite.length * len(GeneratedBenchmark(name)),
               "objects": sum(case.objects for case in suite.cases) * len(suite.seeds)} for name, suite in SUITES.items()]
    return {"folder": str(place), "datasets": [_known(facts, find(name, root)) for name, facts in catalog().items()], "generated": suites}


def _where(name: str, root: str | None) -> dict[str, Any]:
    place = _folder(root)
    if name.partition(":")[0] == "generated":
        benchmark = GeneratedBenchmark(name.partition(":")[2] or "smoke")
        return {"name": benchmark.name, "title": "generated benchmark", "licence": "drawn from pictures in the public domain or under CC0",
                "get": "nothing: it is drawn when it is opened", "found": "always there", "sequences": len(benchmark)}
    facts = facts_of(name)
    return {**_known(facts, find(name, root)), "paper": facts.paper, "url": facts.url or "unknown", "get": facts.get,
            "layout": list(facts.layout), "places": [str(place / folder) for folder in facts.folders]}


def _table(facts: dict[str, Any]) -> list[str]:
    rows = [("name", "year", "sequences", "frames", "objects", "licence", "on this machine")]
    for entry in facts["datasets"]:
        licence = entry["licence"] if len(entry["licence"]) <= 24 else entry["licence"][:23] + "…"
        rows.append((entry["name"], *(str(entry[key]) for key in ("year", "sequences", "frames", "objects")), licence, entry["found"] or "-"))
    for entry in facts["generated"]:
        rows.append((entry["name"], "-", *(str(entry[key]) for key in ("sequences", "frames", "objects")), "drawn from CC0", "drawn when opened"))
    widths = [max(len(row[n]) for row in rows) for n in range(6)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[6]]) for row in rows]
    return [*lines, "", f"looked in {facts['folder']}; lazyvos data where NAME says what to get and where to put it"]


def _sheet(facts: dict[str, Any]) -> list[str]:
    labels = [("about", "about"), ("paper", "paper"), ("get from", "url"), ("get", "get"), ("licence", "licence"), ("sequences", "sequences"),
              ("frames", "frames"), ("objects", "objects"), ("on this machine", "found")]
    lines = [f"{facts['name']}: {facts['title']}"]
    lines += [f"  {label:<16}{facts[key] or 'not found'}" for label, key in labels if key in facts and (facts[key] or key == "found")]
    if facts["licence"] == "unknown":
        lines = [line.replace("unknown", "unknown; read its terms before use") if line.startswith("  licence") else line for line in lines]
    for title, key in (("layout", "layout"), ("looked for", "places")):
        lines += [f"  {title if n == 0 else '':<16}{line}" for n, line in enumerate(facts.get(key, []))]
    return lines


def _verdict(facts: dict[str, Any]) -> list[str]:
    lines = [f"{facts['name']} in {facts['root']} ({facts['layout']} layout): {facts['sequences']} sequences, {facts['frames']} frames, "
             f"{facts['masks']} masks, {facts['objects']} objects"]
    lines += [f"  {problem['kind']:<10}  {problem['text']}\n{'':<14}{problem['path']}" for problem in facts["problems"]]
    hidden = facts["problem_count"] - len(facts["problems"])
    if hidden:
        lines.append(f"  and {hidden} more; --all names them")
    return [*lines, "nothing is wrong" if facts["ok"] else f"{facts['problem_count']} problems"]
