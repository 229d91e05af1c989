"""The table book: published numbers, ours and the difference, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lazyvos.datasets.catalog import catalog, facts_of, find
from lazyvos.experiments.engine import Report, run
from lazyvos.experiments.frame import summary, tidy
from lazyvos.experiments.readmem import TABLE_5_3
from lazyvos.experiments.recipe import Cell, Recipe, Setting
from lazyvos.types import InputError

TABLES: dict[str, str] = {
    "4.1": "CiVOS: interactive DAVIS-2017 val, 8 rounds", "4.2": "CiVOS: click strategy and number of clicks, R-AUC-J&F",
    "5.1": "READMem: LV1 and D17", "5.2": "READMem: VOTS2023", "5.3": "READMem-MiVOS: components, J&F",
    "5.4": "READMem-MiVOS: transition matrix, J&F on LV1", "5.5": "READMem-MiVOS: sampling interval by sequence, J&F and final |Γ|",
    "5.6": "READMem-MiVOS: blueboy in three sections, J&F and |Γ|", "5.7": "READMem: initialisation, J&F",
    "5.8": "READMem-MiVOS: overhead on LV1", "6.1": "Lazy-XMem: LVOS val from an imperfect start",
    "6.2": "Lazy-XMem: LVOS val from a perfect start", "6.3": "Lazy-XMem: design, imperfect start", "6.4": "Lazy-XMem: trigger",
}  # fmt: skip
RECIPES: dict[str, Recipe] = {recipe.number: recipe for recipe in (TABLE_5_3,)}


@dataclass(frozen=True)
class Book:
    """A table as it is shown, and where its numbers come from.

    Attributes
    ----------
    frame: a row for each row of the paper: ``configuration``, ``paper …``, ``ours …`` and (paper scale) ``delta …`` for each column,
        numbers as text in the paper's unit, blank where not run; ``n videos``, ``hardware``, ``seconds`` (of tracking).
    notes: sentences that belong below the table.
    results: the tidy table of our runs (:func:`lazyvos.experiments.frame.tidy`); its names are in ``cells``.
    report: what the run did and what it reused.
    """

    number: str
    title: str
    scale: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    results: pd.DataFrame = field(default_factory=pd.DataFrame)
    cells: tuple[Cell, ...] = ()
    report: Report = field(default_factory=Report)


@cache
def _text(number: str) -> str:
    name = f"table-{number}.csv"
    beside = Path(__file__).resolve().parents[2] / "data" / "paper" / name
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    try:
        return resources.files("lazyvos_data").joinpath("paper", name).read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise InputError(f"the package lacks paper/{name}; install lazyvos again") from error


def published(number: str) -> pd.DataFrame:
    """The published numbers of a table, one a line, all as text (``data/paper/README.md`` explains the columns).

    Raises :class:`InputError` for a number that no table has.
    """
    if number not in TABLES:
        raise InputError(f"there is no table {number!r}; there are {', '.join(TABLES)}")
    return pd.read_csv(StringIO(_text(number)), dtype=str, keep_default_na=False).astype({"row": int})


def make_table(
    number: str, setting: Setting | None = None, *, out: str | Path = "lazyvos-tables", executor: Any = "local", workers: int = 1,
    progress: bool = True,
) -> Book:  # fmt: skip
    """Run a table's recipe (what is finished in ``out`` is not run again) and put it beside the published numbers.

    A table without a recipe is shown with ours blank. Raises :class:`InputError` before any work where the number is unknown,
    or at paper scale no data set of the table is found.
    """
    setting = setting or Setting()
    paper = published(number)
    recipe = RECIPES.get(number)
    if recipe is None:
        return Book(number, TABLES[number], setting.scale, layout(paper), (f"lazyvos has no recipe for table {number} yet.",))
    found, absent = _found(recipe, setting) if setting.scale == "paper" else ({}, ())
    cells = recipe.cells(setting, found)
    experiments = list(dict.fromkeys(cell.experiment for cell in cells))
    running = run(experiments, executor, workers, out, progress)
    order = {experiment.name: i for i, experiment in enumerate(experiments)}
    results = tidy((r.experiment, r.record) for r in sorted(running, key=lambda r: (order[r.experiment], r.sequence)))
    notes = [recipe.note] if setting.scale == "smoke" else [f"{name} was not run: {why}." for name, why in absent]
    notes += _partial(cells, results)
    notes.append(f"Reuse: {running.report}.")
    frame = layout(paper, setting.scale, cells, results)
    return Book(number, TABLES[number], setting.scale, frame, tuple(notes), results, tuple(cells), running.report)


def _found(recipe: Recipe, setting: Setting) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Folders of the table's data sets by heading, and which are not there and why."""
    strange = set(setting.data) - set(recipe.datasets)
    if strange:
        raise InputError(f"table {recipe.number} has no data set {min(strange)!r}; it has {', '.join(recipe.datasets)}")
    found, absent = {}, []
    for heading, name in recipe.datasets.items():
        place = find(name, setting.data.get(heading))
        if place is not None:
            found[heading] = str(place)
        elif heading in setting.data:
            raise InputError(f"{setting.data[heading]} does not hold {facts_of(name).title}; `lazyvos data where {name}` says what it looks like")
        else:
            absent.append((heading, f"{facts_of(name).title} is not here"))
    if not found:
        wanted = " or ".join(f"{heading} ({facts_of(name).title})" for heading, name in recipe.datasets.items())
        options = " or ".join(f"--data {heading}=DIR" for heading in recipe.datasets)
        raise InputError(f"table {recipe.number} at paper scale needs {wanted}; say where it lies with {options}, or use --scale smoke")
    return found, absent


def _whole(cell: Cell, videos: int) -> bool:
    """Whether so many videos are all that the experiment's public data set has (as far as that is known)."""
    known = catalog().get(cell.experiment.dataset) if isinstance(cell.experiment.dataset, str) else None
    return known is None or known.sequences is None or cell.experiment.sequences is not None or videos == known.sequences


def _partial(cells: Sequence[Cell], results: pd.DataFrame) -> list[str]:
    """A sentence for each data set of which not all videos are here."""
    found = {}
    for cell in cells:
        part = results[results["experiment"] == cell.experiment.name]
        videos = part["sequence"].nunique()
        if cell.experiment.scale == "paper" and not _whole(cell, videos):
            facts = facts_of(str(cell.experiment.dataset))
            found[facts.name] = f"{facts.title} has {facts.sequences} videos, {videos} are here: no difference is formed."
    return list(found.values())


def layout(
    paper: pd.DataFrame, scale: str = "smoke", cells: Sequence[Cell] = (), results: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Published numbers (of :func:`published`) and ours in one table, all as text; ours are blank where there is no cell.

    At smoke scale ours stand under the name of the smoke data and there is no delta; nor is there one where not all videos of
    a public data set were run. Raises ValueError for a smoke number
    under a heading of the paper.
    """
    columns = list(dict.fromkeys(paper["column"]))
    rows = paper.drop_duplicates("row").set_index("row")["configuration"]
    wrong = [cell for cell in cells if scale == "smoke" and cell.column in columns]
    wrong += [cell for cell in cells if cell.experiment.scale != scale]
    if wrong:
        raise ValueError(f"{wrong[0].experiment.name!r}, of {wrong[0].experiment.scale} scale, may not stand under {wrong[0].column!r} at {scale} scale")
    table = pd.DataFrame({"configuration": rows})
    for column in columns:
        here = paper[paper["column"] == column].set_index("row")["value"]
        table[f"paper {column}"] = here.reindex(rows.index).fillna("")
    sums = {} if results is None or results.empty else {s["experiment"]: s for s in summary(results).to_dict("records")}
    done = {(c.row, c.column): (c, sums[c.experiment.name]) for c in cells if c.experiment.name in sums}
    headings = list(dict.fromkeys(cell.column for cell in cells)) if scale == "smoke" and cells else columns
    for heading in headings:
        table[f"ours {heading}"] = [_value(*done.get((row, heading), (None, {}))) for row in rows.index]
    for heading in headings if headings == columns else ():
        pairs = zip(table[f"ours {heading}"], table[f"paper {heading}"])
        whole = {row for (row, column), (cell, sums_) in done.items() if column == heading and _whole(cell, sums_["videos"])}
        table[f"delta {heading}"] = [_delta(*pair) if row in whole else "" for row, pair in zip(rows.index, pairs)]
    for name, what in _FACTS.items():
        table[name] = [_fact([pair for (at, _), pair in done.items() if at == row], what) for row in rows.index]
    return table.reset_index(drop=True)


_FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "n videos": lambda s: str(s["videos"]), "hardware": lambda s: s["hardware"], "seconds": lambda s: f"{s['seconds']:.1f}",
}  # fmt: skip


def _value(cell: Cell | None, sums: Mapping[str, Any]) -> str:
    if cell is None or np.isnan(sums[cell.measure]):
        return ""
    return f"{sums[cell.measure] * cell.factor:.{cell.digits}f}"


def _delta(ours: str, theirs: str) -> str:
    return f"{float(ours) - float(theirs):+.{len(ours.partition('.')[2])}f}" if ours and theirs else ""


def _fact(done: list[tuple[Cell, dict[str, Any]]], what: Callable[[dict[str, Any]], str]) -> str:
    """A fact about the experiments of a row: one text, or one for each of them by its first column."""
    texts: dict[str, tuple[str, str]] = {}
    for cell, sums in done:
        texts.setdefault(cell.experiment.name, (cell.column, what(sums)))
    if len({text for _, text in texts.values()}) == 1:
        return next(iter(texts.values()))[1]
    return ", ".join(f"{column} {text}" for column, text in texts.values())
