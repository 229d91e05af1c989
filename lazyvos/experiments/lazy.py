"""Recipes of chapter 6: Lazy-XMem (thesis, section 6.7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from lazyvos.experiments.frame import summary, tidy
from lazyvos.experiments.lazy_arms import ASKING, DATASETS, SMOKE, Arm, places
from lazyvos.experiments.lazy_figures import FIGURES
from lazyvos.experiments.recipe import Cell, Recipe, Records, Setting

__all__ = ["DESIGN", "FIGURES", "IMPERFECT", "PERFECT", "RECIPES", "TRIGGER"]

LAZY = Arm(udu=True, pseudo=True, user=True, user_idu=True)
ALONE = Arm(udu=True, pseudo=True)
RAND = replace(LAZY, trigger="random")

IMPERFECT: dict[int, Arm] = {1: Arm("QDMN"), 2: Arm(), 6: ALONE, 7: RAND, 8: replace(LAZY, method="QDMN"), 9: LAZY}
"""Rows of table 6.1 by their number; the others are of trackers that lazyvos does not have (DEVA, Cutie)."""

PERFECT: dict[int, Arm] = {
    row: replace(arm, start="mask") for row, arm in {1: Arm("QDMN"), 2: Arm(), 7: ALONE, 8: RAND, 9: LAZY}.items()
}  # fmt: skip
"""Rows of table 6.2; the others are of DDMemory, DEVA and Cutie."""

DESIGN: dict[int, Arm] = {
    1: Arm(), 2: Arm(udu=True), 3: ALONE, 4: replace(ALONE, pseudo_idu=True), 5: Arm(udu=True, user=True),
    6: Arm(udu=True, user=True, user_idu=True), 7: LAZY, 8: replace(LAZY, pseudo_idu=True),
}  # fmt: skip
"""Rows of table 6.3."""

_SHOWN = Arm(start="mask", udu=True, user=True, truth=True)
TRIGGER: dict[int, Arm] = {
    1: Arm(start="mask"), 2: replace(_SHOWN, trigger="level"), 3: replace(_SHOWN, trigger="level", user_idu=True), 4: _SHOWN,
    5: replace(_SHOWN, user_idu=True),
}  # fmt: skip
"""Rows of table 6.4: no pseudo-corrections, the user gives the true mask. The thesis names no threshold for S: that of ΔS is taken."""


def lvos_jf(records: Records) -> float:
    """J&F, 0..1: LVOS's own mean of seen and unseen videos where a list says which is which, else the mean over objects. (The thesis
    does not say which of the two its tables have.)"""
    table = tidy(("", record) for record in records)
    if table.empty:
        return math.nan
    row = summary(table).iloc[0]
    return float(row["lvos_JF" if "lvos_JF" in row else "JF"])


Measure = str | Callable[[Records], float]


def _table(setting: Setting, found: Mapping[str, str], rows: Mapping[int, Arm]) -> list[Cell]:
    """A cell for each arm and measure; those of a user's work only where there is one."""
    jf: Measure = lvos_jf if setting.scale == "paper" else "JF"
    quality: list[tuple[str, Measure, float, str]] = [("J&F", jf, 100.0, ".1f"), *((f"R@{tau}", f"R@{tau}", 100.0, ".1f") for tau in ("0.1", "0.25", "0.5"))]
    work: list[tuple[str, Measure, float, str]] = [("ACI", "ACI", 1.0, ".2f"), ("NoC", "NoC", 1.0, ".0f"), ("IDI", "IDI", 1.0, ".1f")]
    cells = []
    for place in places(setting, found, "LVOS"):
        prefix = f"{place.heading} " if setting.scale == "smoke" else ""
        for row, arm in rows.items():
            experiment = arm.experiment(setting, place)
            for heading, measure, factor, form in [*quality, *(work if arm.user else [])] if experiment is not None else []:
                assert experiment is not None
                ran = arm.text(setting) if setting.scale == "smoke" else ""
                cells.append(Cell(row, prefix + heading, experiment, measure, factor, form, ran))
    return cells


def _recipe(number: str, rows: Mapping[int, Arm], more: str = "") -> Recipe:
    cells: Any = partial(_table, rows=rows)
    return Recipe(number, {"LVOS": DATASETS["LVOS"]}, cells, f"{SMOKE}{ASKING}{more}")


RECIPES: tuple[Recipe, ...] = (
    _recipe("6.1", IMPERFECT, " The rows of QDMN need a network that predicts its quality, which no small one does."),
    _recipe("6.2", PERFECT), _recipe("6.3", DESIGN), _recipe("6.4", TRIGGER, " The threshold on S is that on ΔS."),
)  # fmt: skip
