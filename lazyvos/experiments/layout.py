"""Published numbers and ours in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lazyvos.datasets.catalog import catalog, facts_of
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.frame import summary
from lazyvos.experiments.recipe import Cell, Records

if TYPE_CHECKING:
    from lazyvos.experiments.civos_play import Play

Done = tuple[Cell, dict[str, Any]]
"""A cell and the row of :func:`lazyvos.experiments.frame.summary` of its experiment."""


def layout(
    paper: pd.DataFrame, scale: str = "smoke", cells: Sequence[Cell] = (), results: pd.DataFrame | None = None,
    records: Mapping[str, Records] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Published numbers (of :func:`lazyvos.experiments.tables.published`) and ours in one table, all as text; ours are blank where
    there is no cell.

    At smoke scale ours stand under the name of the smoke data, ``ran`` says what ran, and there is no delta; nor is there one
    where not all videos of a public data set were run. ``results`` is the tidy table of the cells' experiments, ``records`` what
    they recorded (for cells with a measure of their own). Raises ValueError for a smoke number under a heading of the paper.
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
    done: dict[tuple[int, str], Done] = {
        (c.row, c.column): (c, sums[c.experiment.name]) for c in cells if c.experiment.name in sums
    }  # fmt: skip
    if any(cell.ran for cell in cells):
        table["ran"] = [_ran([cell for (at, _), (cell, _) in done.items() if at == row]) for row in rows.index]
    headings = list(dict.fromkeys(cell.column for cell in cells)) if scale == "smoke" and cells else columns
    for heading in headings:
        table[f"ours {heading}"] = [_text(done.get((row, heading)), records or {}) for row in rows.index]
    for heading in headings if headings == columns else ():
        full = {row for (row, column), (cell, s) in done.items() if column == heading and whole(cell.experiment, s["videos"])}
        forms = {row: cell.form for (row, column), (cell, _) in done.items() if column == heading}
        pairs = zip(rows.index, table[f"ours {heading}"], table[f"paper {heading}"], strict=True)
        table[f"delta {heading}"] = [_delta(ours, theirs, forms[row]) if row in full else "" for row, ours, theirs in pairs]
    for name, what in _FACTS.items():
        table[name] = [_fact([pair for (at, _), pair in done.items() if at == row], what) for row in rows.index]
    return table.reset_index(drop=True)


_FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "n videos": lambda s: str(s["videos"]), "hardware": lambda s: s["hardware"], "seconds": lambda s: f"{s['seconds']:.1f}",
}  # fmt: skip


def _text(done: Done | None, records: Mapping[str, Records]) -> str:
    if done is None:
        return ""
    cell, sums = done
    value = sums.get(cell.measure, np.nan) if isinstance(cell.measure, str) else cell.measure(records[cell.experiment.name])
    return "" if np.isnan(value) else format(value * cell.factor, cell.form)


def _delta(ours: str, theirs: str, form: str) -> str:
    return format(float(ours) - float(theirs), "+" + form) if ours and theirs else ""


def _ran(cells: Sequence[Cell]) -> str:
    return "; ".join(dict.fromkeys(cell.ran for cell in cells if cell.ran))


def _fact(done: list[Done], what: Callable[[dict[str, Any]], str]) -> str:
    """A fact about the experiments of a row: one text, or one for each of them by its first column."""
    texts: dict[str, tuple[str, str]] = {}
    for cell, sums in done:
        texts.setdefault(cell.experiment.name, (cell.column, what(sums)))
    if len({text for _, text in texts.values()}) == 1:
        return next(iter(texts.values()))[1]
    return ", ".join(f"{column} {text}" for column, text in texts.values())


def whole(experiment: Experiment | Play, videos: int) -> bool:
    """Whether so many videos are all that the experiment's public data set has (as far as that is known)."""
    known = catalog().get(experiment.dataset) if isinstance(experiment.dataset, str) else None
    return known is None or known.sequences is None or experiment.sequences is not None or videos == known.sequences


def partial_notes(experiments: Sequence[Experiment | Play], results: pd.DataFrame) -> list[str]:
    """A sentence for each data set of which not all videos are here."""
    found = {}
    for experiment in experiments:
        part = results[results["experiment"] == experiment.name]
        videos = part["sequence"].nunique()
        if experiment.scale == "paper" and not whole(experiment, videos):
            facts = facts_of(str(experiment.dataset))
            found[facts.name] = f"{facts.title} has {facts.sequences} videos, {videos} are here: no difference is formed."
    return list(found.values())
