"""How a published table or figure is made again: its rows, columns and points as experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from lazyvos.experiments.experiment import Experiment

if TYPE_CHECKING:
    from lazyvos.experiments.civos_play import Play
    from lazyvos.experiments.engine import Report


@dataclass(frozen=True)
class Setting:
    """What a recipe may depend on.

    Attributes
    ----------
    scale: ``"smoke"`` (small networks and generated clips, seconds to minutes) or ``"paper"`` (the published setting).
    data: where data sets lie, by their name in the table (LV1, D17, …); others are looked for in the folder of all data sets.
    weights: weight files or registry names by network; others are those of the registry.
    device, precision, seed: of every experiment.
    """

    scale: Literal["smoke", "paper"] = "smoke"
    data: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    precision: str = "auto"
    seed: int = 0


Records = Sequence[Mapping[str, Any]]
"""What an experiment recorded (:func:`lazyvos.experiments.lockstep.evaluate_group`), one mapping for each sequence; of the interactive benchmark
(:func:`lazyvos.experiments.interactive.play`), one for each sample."""


@dataclass(frozen=True)
class Cell:
    """One number of a table: row number (from 1), column heading, and the experiment that gives it.

    At paper scale the heading is the published one; at smoke scale it names the smoke data. ``measure`` is a column of
    :func:`lazyvos.experiments.frame.summary`, or a function of the experiment's records; ``factor`` brings it into the table's
    unit (100: percent), ``form`` is how it is written. ``ran`` says in a few words what stands behind a smoke row: network, memory and
    settings. Several cells may have one experiment.
    """

    row: int
    column: str
    experiment: Experiment | Play
    measure: str | Callable[[Records], float] = "JF"
    factor: float = 100.0
    form: str = ".1f"
    ran: str = ""


@dataclass(frozen=True)
class Made:
    """What a run of one's own gave (:attr:`Recipe.make`): records by the name of the experiment, a table that
    :func:`lazyvos.experiments.frame.summary` reads, what was reused, and sentences for below the table."""

    records: Mapping[str, Records]
    results: pd.DataFrame
    report: Report
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A table that can be made again.

    Attributes
    ----------
    number: of the table.
    datasets: heading of the table's data set -> its name in :func:`lazyvos.datasets.open_dataset`.
    cells: the experiments of a setting, with the paper's data sets that were found (heading -> folder).
    note: in a sentence or two, what is small at smoke scale.
    make: runs experiments that are not of the engine, from them, the folder of results and whether to show progress; ``None``: the engine does.
    """

    number: str
    datasets: Mapping[str, str]
    cells: Callable[[Setting, Mapping[str, str]], list[Cell]]
    note: str
    make: Callable[..., Made] | None = None


@dataclass(frozen=True)
class Point:
    """An experiment of a figure and what it stands for: values of the figure's columns, in order."""

    experiment: Experiment
    labels: Mapping[str, str | int]


Draw = Callable[[Sequence[Point], Mapping[str, Records]], pd.DataFrame]
"""Points and the records of each experiment by name -> the data of the figure."""


@dataclass(frozen=True)
class Figure:
    """The data of a figure that can be made again; as :class:`Recipe`, with ``points`` and how they become data (``draw``)."""

    number: str
    title: str
    datasets: Mapping[str, str]
    points: Callable[[Setting, Mapping[str, str]], list[Point]]
    draw: Draw
    note: str
