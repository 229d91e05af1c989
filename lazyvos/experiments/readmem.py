"""Recipes of chapter 5: READMem (thesis, sections 5.5 to 5.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lazyvos.experiments.readmem_arms import DATASETS, LONG, SMOKE, Arm, places
from lazyvos.experiments.readmem_figures import FIGURES
from lazyvos.experiments.readmem_gram import section_gram, section_jf, sequence_gram, sequence_jf
from lazyvos.experiments.recipe import Cell, Recipe, Setting

__all__ = ["COMPONENTS", "FIGURES", "RECIPES"]

BOTH, ALONE = ("LV1", "D17"), ("LV1",)
_JF = (("J&F", "JF"), ("J", "J"), ("F", "F"))

LONG_AND_SHORT: tuple[Arm, ...] = (
    Arm("XMem†", "longterm"), Arm("XMem", "longterm"), Arm("MiVOS", "fifo"), Arm("MiVOS", "readmem"), Arm("MiVOS", "readmem", flexible=True),
    Arm("STCN", "fifo"), Arm("STCN", "readmem"), Arm("STCN", "readmem", flexible=True), Arm("QDMN", "qdmn", flexible=True),
    Arm("QDMN", "readmem", flexible=True),
    Arm("XMem†", "longterm", 1), Arm("XMem", "longterm", 1), Arm("MiVOS", "fifo", 1), Arm("MiVOS", "readmem", 1), Arm("STCN", "fifo", 1),
    Arm("STCN", "readmem", 1), Arm("QDMN", "qdmn", 1), Arm("QDMN", "readmem", 1),
)  # fmt: skip
"""Rows of table 5.1."""

CHALLENGE: tuple[Arm, ...] = tuple(
    Arm(method, memory, s_r, flexible=method == "QDMN")
    for method, baseline in (("MiVOS", "fifo"), ("STCN", "fifo"), ("QDMN", "qdmn"))
    for memory, s_r in ((baseline, 10), (baseline, 50), ("readmem", 10))
)
"""Rows of table 5.2. QDMN has the flexible interval, as in table 5.1."""

COMPONENTS: tuple[Arm, ...] = (
    Arm("MiVOS", "fifo"),
    Arm("MiVOS", "readmem", flexible=True, options={"adjacent": False, "lower_bound": -1.0, "transition": None}),
    Arm("MiVOS", "readmem", flexible=True, options={"adjacent": False, "transition": None}),
    Arm("MiVOS", "readmem", flexible=True, options={"transition": None}),
    Arm("MiVOS", "readmem", flexible=True),
)
"""Rows of table 5.3: the baseline, then DME, LSB, adjacent frame and REA. A lower bound of -1 admits every frame (no LSB); no
transition is no REA."""

TRANSITIONS = ("hungarian", "column argmax", "row argmax")
INTERVALS = (1, 5, 10)
SECTIONS = ((0.0, 0.2620), (0.2620, 0.5764), (0.5764, 0.8363))
"""Of table 5.6, as shares of the sequence."""


def long_and_short(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.1: all methods with and without READMem, N = 20, s_r = 10 and 1; XMem with its own memory and that s_r."""
    return [cell for row, arm in enumerate(LONG_AND_SHORT, 1) for cell in _cells(setting, found, BOTH, row, arm, _JF)]


def challenge(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.2: the measures of VOTS. The network sees a short side of 480; scores are taken at the size of the frames (the
    thesis scaled the videos to a height of 480)."""
    measures = [(m, m) for m in ("Q", "ACC", "ROB", "ADQ", "NRE", "DRE")]
    return [
        cell for row, arm in enumerate(CHALLENGE, 1)
        for cell in _cells(setting, found, ("VOTS2023",), row, arm, measures, factor=1.0, form=".2f", dataset=False)
    ]  # fmt: skip


def components(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.3: what each part of READMem brings, with MiVOS, s_r = 10, N = 20, flexible interval."""
    return [cell for row, arm in enumerate(COMPONENTS, 1) for cell in _cells(setting, found, BOTH, row, arm, (("", "JF"),))]


def transitions(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.4: how the transition matrix is made, from W and from A; READMem with the flexible interval (its best cell equals the
    starred row of table 5.1)."""
    cells = []
    for row, transition in enumerate(TRANSITIONS, 1):
        for affinity in "WA":
            options = {"transition": transition, "affinity": affinity}
            options = {k: v for k, v in options.items() if v not in ("column argmax", "W")}  # so that names follow what differs
            arm = Arm("MiVOS", "readmem", flexible=True, options=options)
            cells += _cells(setting, found, ALONE, row, arm, ((f"{affinity}_n", "JF"),), dataset=False)
    return cells


def by_sequence(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.5: J&F and |Γ| at the end of each sequence; flexible interval (its means are the starred row of 5.1 at s_r = 10)."""
    cells = []
    names: Sequence[str] = ("blueboy", "dressage", "rat") if setting.scale == "paper" else LONG["sequences"]  # type: ignore[assignment]
    for row, s_r in enumerate(INTERVALS, 1):
        for name in names:
            measures = [(f"{name} J&F", partial(sequence_jf, name=name)), (f"{name} |Γ|", partial(sequence_gram, name=name))]
            cells += _grams(setting, found, row, s_r, measures, tuple(names))
    return cells


def by_section(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.6: J&F within three sections of one sequence and |Γ| at the end of each; the experiments of table 5.5."""
    cells = []
    name = "blueboy" if setting.scale == "paper" else "hard-s0"
    for row, s_r in enumerate(INTERVALS, 1):
        for first, end in SECTIONS:
            heading = f"{_percent(first)}–{_percent(end)} %"
            measures = [(f"{heading} J&F", partial(section_jf, name=name, first=first, end=end)),
                        (f"{heading} |Γ|", partial(section_gram, name=name, end=end))]  # fmt: skip
            cells += _grams(setting, found, row, s_r, measures, (name,), f"{name} ")
    return cells


def starts(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.7: slots filled with the frames that come, or with copies of the annotated one. The interval is that of the rows of
    table 5.1 that the LV1 column equals: flexible for QDMN alone."""
    cells = []
    for row, options in enumerate(({}, {"initialisation": "annotated_copies"}), 1):
        for method in ("MiVOS", "STCN", "QDMN"):
            arm = Arm(method, "readmem", flexible=method == "QDMN", options=options)
            cells += _cells(setting, found, BOTH, row, arm, (("", "JF"),), prefix=f"{arm.name(setting)} ")
    return cells


def overhead(setting: Setting, found: Mapping[str, str]) -> list[Cell]:
    """Table 5.8: speed and memory for 10, 20 and 30 slots, each run by itself. Memory is the peak of CUDA's allocator, blank on a CPU;
    at smoke scale the bytes of the tensors that the memory holds."""
    cells = []
    for row, (n, memory) in enumerate([(n, memory) for n in (10, 20, 30) for memory in ("fifo", "readmem")], 1):
        arm = Arm("MiVOS", memory, n=n)
        size = ("VRAM", "peak_mib") if setting.scale == "paper" else ("memory MiB", "bank_mib")
        cells += _cells(setting, found, ALONE, row, arm, (("J&F", "JF"),), dataset=False, alone=True)
        cells += _cells(setting, found, ALONE, row, arm, (("FPS", "fps"),), dataset=False, alone=True, factor=1.0)
        form = ".0f" if setting.scale == "paper" else ".2f"
        cells += _cells(setting, found, ALONE, row, arm, (size,), dataset=False, alone=True, factor=1.0, form=form)
    return cells


def _cells(
    setting: Setting, found: Mapping[str, str], datasets: Sequence[str], row: int, arm: Arm, measures: Sequence[tuple[str, Any]], *,
    prefix: str = "", dataset: bool = True, factor: float = 100.0, form: str = ".1f", **more: Any,
) -> list[Cell]:  # fmt: skip
    """Cells of an arm: a column for each data set and measure (its heading and what it is). ``dataset``: at paper scale the data
    set is part of the heading."""
    cells = []
    for place in places(setting, found, *datasets):
        experiment = arm.experiment(setting, place, **more)
        for heading, measure in measures if experiment is not None else ():
            where = place.heading if dataset or setting.scale == "smoke" else ""
            column = prefix + " ".join(part for part in (where, heading) if part)
            assert experiment is not None
            cells.append(Cell(row, column, experiment, measure, factor, form, arm.text(setting) if setting.scale == "smoke" else ""))
    return cells


def _grams(
    setting: Setting, found: Mapping[str, str], row: int, s_r: int, measures: Sequence[tuple[str, Any]], sequences: tuple[str, ...], prefix: str = ""
) -> list[Cell]:
    """A cell with J&F and one with |Γ|."""
    arm = Arm("MiVOS", "readmem", s_r, flexible=True)
    prefix = prefix if setting.scale == "smoke" else ""
    one = [(prefix + heading, measure) for heading, measure in measures]
    return [
        *_cells(setting, found, ALONE, row, arm, one[:1], dataset=False, sequences=sequences),
        *_cells(setting, found, ALONE, row, arm, one[1:], dataset=False, sequences=sequences, factor=1.0, form=".2e"),
    ]  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share else "0"


def _of(*headings: str) -> dict[str, str]:
    return {heading: DATASETS[heading] for heading in headings}


RECIPES: tuple[Recipe, ...] = (
    Recipe("5.1", _of(*BOTH), long_and_short, SMOKE), Recipe("5.2", _of("VOTS2023"), challenge, SMOKE),
    Recipe("5.3", _of(*BOTH), components, SMOKE), Recipe("5.4", _of(*ALONE), transitions, SMOKE),
    Recipe("5.5", _of(*ALONE), by_sequence, f"{SMOKE} s_r = 2 for 5."), Recipe("5.6", _of(*ALONE), by_section, f"{SMOKE} s_r = 2 for 5."),
    Recipe("5.7", _of(*BOTH), starts, SMOKE),
    Recipe("5.8", _of(*ALONE), overhead, f"{SMOKE} N = 3 for 10 and 9 for 30. Memory: the tensors that the memory holds."),
)  # fmt: skip
