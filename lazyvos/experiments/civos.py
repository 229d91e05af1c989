"""Recipes of chapter 4: CiVOS on the interactive benchmark (thesis, section 4.6)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from lazyvos.experiments.civos_play import Play, play_all, sessions
from lazyvos.experiments.interactive import Benchmark
from lazyvos.experiments.recipe import Cell, Recipe, Records, Setting
from lazyvos.interact.strategies import Kind, Strategy

__all__ = ["CIVOS", "CLIPS", "RECIPES", "STRATEGIES", "play"]

CIVOS = 6
"""Row of table 4.1 that lazyvos makes; the others are of methods that it does not have (MiVOS with clicks is described nowhere)."""

STRATEGIES: dict[int, Kind] = {1: "a1", 2: "a2", 3: "a3"}
"""Rows of table 4.2."""

LIMITS = {"smoke": 3, "paper": 7}
"""Largest limit of clicks per object and round; a1 gives one click."""

BEST = 2
"""The limit behind table 4.1, which says only a2: in table 4.2 the smallest of those that reach its 0.76."""

DATASETS = {"D17": "davis17-interactive-val"}
LENGTH = 12
CLIPS: dict[str, Any] = {
    "dataset": "generated:smoke", "dataset_options": {"seeds": [0], "length": LENGTH, "size": [96, 160]}, "sequences": ("calm-s0", "away-s0"),
}  # fmt: skip
REFINER: dict[str, Any] = {"sizes": [192], "mirror": False}
MIN_AREA = {"smoke": 4, "paper": 100}
"""Smallest error, in pixels, that a3 clicks at: the published one, and as large a share of a smoke frame."""

SMOKE = (
    f"Smoke scale: tiny at a short side of 96, its refiner at {REFINER['sizes'][0]}; two generated clips of {LENGTH} frames, one with one object and one with two, one set "
    f"of first scribbles each; 8 rounds; a3 with errors of {MIN_AREA['smoke']} pixels or more; limits up to {LIMITS['smoke']}."
)
CLOCK = "AUC-J&F and J&F@60s are wall-clock figures of the hardware named; R-AUC-J&F is not."

MEASURES = ("R-AUC-J&F", "AUC-J&F", "J&F@60s")


def measured(records: Records, name: str) -> float:
    """A number of :data:`MEASURES`, 0 to 1."""
    curve = sessions(records).curves("JF")
    return {"R-AUC-J&F": curve.r_auc, "AUC-J&F": lambda: curve.auc, "J&F@60s": curve.at}[name]()


def play(setting: Setting, found: Mapping[str, str], kind: Kind, limit: int) -> Play:
    """CiVOS with a click strategy, in the published setting or at smoke scale; equal ones are equal, whatever table asks.

    Published: MiVOS's propagation and fusion networks, RITM with HRNet-18s and f-BRS-B, 8 rounds of 30 seconds per object.
    """
    own = setting.weights.get
    rules = Benchmark(
        strategy=Strategy(kind=kind, limit=limit, min_area=MIN_AREA[setting.scale]), seed=setting.seed, sets=3 if setting.scale == "paper" else 1
    )
    common: dict[str, Any] = {"rules": rules, "device": setting.device, "precision": setting.precision, "scale": setting.scale}
    if setting.scale == "paper":
        return Play(
            name=f"CiVOS, {kind}, limit {limit}, D17", dataset=DATASETS["D17"], dataset_options={"root": found["D17"]}, backbone="mivos",
            weights=own("mivos", "mivos"), refiner="ritm-h18s", refiner_weights=own("ritm-h18s", "ritm-h18s"),
            refiner_options={"together": True}, fusion="learned", fusion_weights=own("mivos-fusion", "mivos-fusion"), size=480, **common,
        )  # fmt: skip
    return Play(
        name=f"tiny, {kind}, limit {limit}, generated", weights=own("tiny"), refiner_weights=own("tiny-click"),
        refiner_options=REFINER, fusion="linear", size=96, **CLIPS, **common,
    )  # fmt: skip


def interactive(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 4.1: CiVOS with a2."""
    return [
        _cell(setting, found, CIVOS, "a2", BEST, name if setting.scale == "paper" else f"generated {name}", name) for name in MEASURES
    ]


def clicks(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 4.2: the strategies with limits from 1 on."""
    cells = []
    for row, kind in STRATEGIES.items():
        for limit in range(1, 2 if kind == "a1" else LIMITS[setting.scale] + 1):
            heading = str(limit) if setting.scale == "paper" else f"generated {limit}"
            cells.append(_cell(setting, found, row, kind, limit, heading, "R-AUC-J&F"))
    return cells


def _cell(setting: Setting, found: Mapping[str, str], row: int, kind: Kind, limit: int, heading: str, name: str) -> Cell:
    ran = f"tiny, tiny refiner, linear fusion, {kind}" if setting.scale == "smoke" else ""
    return Cell(row, heading, play(setting, found, kind, limit), partial(measured, name=name), 1.0, ".2f", ran)


RECIPES: tuple[Recipe, ...] = (
    Recipe("4.1", DATASETS, interactive, SMOKE, partial(play_all, notes=(CLOCK,))), Recipe("4.2", DATASETS, clicks, SMOKE, play_all),
)  # fmt: skip
