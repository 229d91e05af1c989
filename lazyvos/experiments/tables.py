"""The table book: published numbers, ours and the difference, side by side; and the data of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from lazyvos.datasets import open_dataset
from lazyvos.datasets.catalog import facts_of, find
from lazyvos.experiments import civos, lazy, readmem
from lazyvos.experiments.civos_play import Play
from lazyvos.experiments.engine import Report, run
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.frame import tidy
from lazyvos.experiments.layout import layout, partial_notes
from lazyvos.experiments.recipe import Cell, Figure, Made, Recipe, Setting
from lazyvos.hub import shipped
from lazyvos.types import InputError

TABLES: dict[str, str] = {
    "4.1": "CiVOS: interactive DAVIS-2017 val, 8 rounds", "4.2": "CiVOS: click strategy and number of clicks, R-AUC-J&F",
    "5.1": "READMem: LV1 and D17", "5.2": "READMem: VOTS2023", "5.3": "READMem-MiVOS: components, J&F",
    "5.4": "READMem-MiVOS: transition matrix, J&F on LV1", "5.5": "READMem-MiVOS: sampling interval by sequence, J&F and final |Γ|",
    "5.6": "READMem-MiVOS: blueboy in three sections, J&F and |Γ|", "5.7": "READMem: initialisation, J&F",
    "5.8": "READMem-MiVOS: overhead on LV1", "6.1": "Lazy-XMem: LVOS val from an imperfect start",
    "6.2": "Lazy-XMem: LVOS val from a perfect start", "6.3": "Lazy-XMem: design, imperfect start", "6.4": "Lazy-XMem: trigger",
}  # fmt: skip
RECIPES: dict[str, Recipe] = {recipe.number: recipe for recipe in (*civos.RECIPES, *readmem.RECIPES, *lazy.RECIPES)}
FIGURES: dict[str, Figure] = {figure.number: figure for figure in (*readmem.FIGURES, *lazy.FIGURES)}


@dataclass(frozen=True)
class Book:
    """A table or the data of a figure as it is shown, and where its numbers come from.

    Attributes
    ----------
    frame: of a table, a row for each row of the paper: ``configuration``, ``paper …``, ``ours …`` and (paper scale) ``delta …`` for each
        column, numbers as text in the paper's unit, blank where not run; at smoke scale ``ran``; ``n videos``, ``hardware``, ``seconds`` (of
        tracking). Of a figure, a row for each point, as numbers.
    notes: sentences that belong below the table.
    results: the tidy table of our runs (:func:`lazyvos.experiments.frame.tidy`); its names are in ``cells``.
    report: what the run did and what it reused.
    kind: ``"Table"`` or ``"Figure"``.
    """

    number: str
    title: str
    scale: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    results: pd.DataFrame = field(default_factory=pd.DataFrame)
    cells: tuple[Cell, ...] = ()
    report: Report = field(default_factory=Report)
    kind: str = "Table"


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
    found, absent = _found(f"table {number}", recipe.datasets, setting)
    cells = recipe.cells(setting, found)
    experiments = list(dict.fromkeys(cell.experiment for cell in cells))
    _check_weights(setting, experiments)
    made = (recipe.make or partial(_engine, executor=executor, workers=workers))(experiments, out, progress)
    notes = _notes(recipe.note, setting, absent, experiments, made)
    if recipe.make is not None and executor != "local":
        notes = (*notes, "Rounds are played one after another in this process, whatever the executor.")
    frame = layout(paper, setting.scale, cells, made.results, made.records)
    return Book(number, TABLES[number], setting.scale, frame, notes, made.results, tuple(cells), made.report)


def make_figure(
    number: str, setting: Setting | None = None, *, out: str | Path = "lazyvos-tables", executor: Any = "local", workers: int = 1,
    progress: bool = True,
) -> Book:  # fmt: skip
    """The data of a figure, a row for each point; arguments and errors as of :func:`make_table`."""
    setting = setting or Setting()
    figure = FIGURES.get(number)
    if figure is None:
        raise InputError(f"there is no figure {number!r} to make; there are {', '.join(FIGURES)}")
    found, absent = _found(f"figure {number}", figure.datasets, setting)
    points = figure.points(setting, found)
    experiments = list(dict.fromkeys(point.experiment for point in points))
    _check_weights(setting, experiments)
    made = _engine(experiments, out, progress, executor, workers)
    notes = _notes(figure.note, setting, absent, experiments, made)
    return Book(number, figure.title, setting.scale, figure.draw(points, made.records), notes, made.results, (), made.report, "Figure")


def _check_weights(setting: Setting, experiments: Sequence[Experiment | Play]) -> None:
    used = {file for e in experiments for weights in (e.weights, e.refiner_weights, _fusion(e)) for file in (weights or "").split("+")}
    for name, file in setting.weights.items():
        if file not in used:
            named = [n for e in experiments for n in (e.weights, e.backbone, e.refiner_weights, _fusion(e)) if n is not None]
            known = ", ".join(sorted({part for n in named for part in n.split("+")}))
            raise InputError(f"no experiment here takes weights called {name!r}; they take {known}")


def _fusion(experiment: Experiment | Play) -> str | None:
    return experiment.fusion_weights if isinstance(experiment, Play) else None


def _engine(experiments: Sequence[Any], out: str | Path, progress: bool, executor: Any, workers: int) -> Made:
    """Experiments of the engine; records in the order of their sequences."""
    running = run(experiments, executor, workers, out, progress)
    records = running.records()
    return Made(records, tidy((name, record) for name, several in records.items() for record in several), running.report)


def _notes(
    note: str, setting: Setting, absent: Sequence[tuple[str, str]], experiments: Sequence[Experiment | Play], made: Made
) -> tuple[str, ...]:
    first = [note] if setting.scale == "smoke" else [f"{name} was not run: {why}." for name, why in absent]
    random = sorted({name for e in experiments if e.weights is None for name in e.backbone.split("+") if name not in shipped()})
    first += [f"{name} ran with random weights: its numbers are noise." for name in random]
    return (*first, *partial_notes(experiments, made.results), *made.notes, f"Reuse: {made.report}.")


def _found(what: str, datasets: Mapping[str, str], setting: Setting) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Folders of the data sets by heading (paper scale only), and which are not there and why."""
    found: dict[str, str] = {}
    absent: list[tuple[str, str]] = []
    if setting.scale == "smoke":
        return found, absent
    strange = set(setting.data) - set(datasets)
    if strange:
        raise InputError(f"{what} has no data set {min(strange)!r}; it has {', '.join(datasets)}")
    for heading, name in datasets.items():
        place = find(name, setting.data.get(heading))
        if place is None and heading in setting.data:
            raise InputError(f"{setting.data[heading]} does not hold {facts_of(name).title}; `lazyvos data where {name}` says what it looks like")
        if place is None:
            absent.append((heading, f"{facts_of(name).title} is not here"))
        elif facts_of(name).kind == "vots" and any(len(s.annotated) < len(s) for s in open_dataset(name, place)):
            absent.append((heading, f"{place} lacks the truth of most frames, as the challenge's public copy does; its server scores masks"))
        else:
            found[heading] = str(place)
    if not found:
        wanted = " or ".join(f"{heading} ({facts_of(name).title})" for heading, name in datasets.items())
        options = " or ".join(f"--data {heading}=DIR" for heading in datasets)
        why = "".join(f"; {reason}" for heading, reason in absent if heading in setting.data or "server" in reason)
        raise InputError(f"{what} at paper scale needs {wanted}{why}; say where it lies with {options}, or use --scale smoke")
    return found, absent
