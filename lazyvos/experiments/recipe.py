"""How a published table is made again: its rows and columns as experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lazyvos.experiments.experiment import Experiment


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


@dataclass(frozen=True)
class Cell:
    """One number of a table: row number (from 1), column heading, and the experiment that gives it.

    At paper scale the heading is the published one; at smoke scale it names the smoke data. ``measure`` is a column of
    :func:`lazyvos.experiments.frame.summary`, ``factor`` brings it into the table's unit (100: percent), ``digits`` are its decimals.
    Several cells may have one experiment.
    """

    row: int
    column: str
    experiment: Experiment
    measure: str = "JF"
    factor: float = 100.0
    digits: int = 1


@dataclass(frozen=True)
class Recipe:
    """A table that can be made again.

    Attributes
    ----------
    number: of the table.
    datasets: heading of the table's data set -> its name in :func:`lazyvos.datasets.open_dataset`.
    cells: the experiments of a setting, with the paper's data sets that were found (heading -> folder).
    note: in one sentence, what is small at smoke scale.
    """

    number: str
    datasets: Mapping[str, str]
    cells: Callable[[Setting, Mapping[str, str]], list[Cell]]
    note: str
