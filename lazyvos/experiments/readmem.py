"""Recipes of chapter 5: READMem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.recipe import Cell, Recipe, Setting

COMPONENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("baseline", "fifo", {"flexible": True, "adjacent": True, "pin_annotated": False}),
    ("DME", "readmem", {"flexible": True, "adjacent": False, "lower_bound": -1.0, "transition": None}),
    ("DME + LSB", "readmem", {"flexible": True, "adjacent": False, "lower_bound": 0.5, "transition": None}),
    ("DME + LSB + adjacent", "readmem", {"flexible": True, "adjacent": True, "lower_bound": 0.5, "transition": None}),
    ("DME + LSB + adjacent + REA", "readmem", {"flexible": True, "adjacent": True, "lower_bound": 0.5, "transition": "column argmax"}),
)
"""Rows of table 5.3: name, memory and what sets it apart. A lower bound of -1 admits every frame (no LSB); no transition is
no REA. The baseline is the released one, which lets the annotated frame go."""


def components(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.3 (thesis, section 5.6): what each part of READMem brings, with MiVOS, s_r = 10, N = 20, flexible interval."""
    paper = setting.scale == "paper"
    size = {"slots": 20, "every": 10} if paper else {"slots": 6, "every": 2}
    cells = []
    for row, (name, memory, options) in enumerate(COMPONENTS, 1):
        common: dict[str, Any] = {
            "memory": memory, "memory_options": {**size, **options}, "seed": setting.seed, "scale": setting.scale,
            "device": setting.device, "precision": setting.precision,
        }  # fmt: skip
        if not paper:
            clips: dict[str, Any] = {"dataset": "generated:long", "dataset_options": {"seeds": [0], "length": 60, "size": [96, 160]},
                     "sequences": ("medium-s0", "hard-s0")}  # fmt: skip
            cells.append(Cell(row, "generated long, tiny", Experiment(name=f"5.3 {name}", size=96, **clips, **common)))
            continue
        for heading, root in found.items():
            mivos: dict[str, Any] = {"backbone": "mivos", "weights": setting.weights.get("mivos", "mivos"), "size": 480}
            place: dict[str, Any] = {"dataset": TABLE_5_3.datasets[heading], "dataset_options": {"root": root}}
            cells.append(Cell(row, heading, Experiment(name=f"5.3 {name}, {heading}", **place, **mivos, **common)))
    return cells


TABLE_5_3 = Recipe(
    "5.3", {"LV1": "lv1", "D17": "davis17-val"}, components,
    "Smoke scale: the shipped tiny network at a short side of 96, two generated clips of 60 frames, N = 6 slots, s_r = 2.",
)  # fmt: skip
