"""The table book: published numbers as they are, ours beside them and never in their place."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lazyvos import table_cli
from lazyvos.datasets.catalog import catalog
from lazyvos.experiments import Experiment
from lazyvos.experiments.layout import layout, partial_notes
from lazyvos.experiments.lockstep import build_tracker
from lazyvos.experiments.recipe import Cell, Setting
from lazyvos.experiments.tables import FIGURES, RECIPES, TABLES, make_table, published
from lazyvos.memory import FifoMemory, ReadMem
from lazyvos.types import InputError

TABLE_5_3 = RECIPES["5.3"]
pytestmark = pytest.mark.filterwarnings("ignore:.tiny-stm. ships without weights")
ROOT = Path(__file__).parents[2] / "data" / "paper"
STRANGERS = ("DEVA", "Cutie-base", "Cutie-small", "DDMemory")
"""Trackers of the tables that lazyvos does not have."""
INTERACTIVE = ("MANet", "ATNet", "GIS-RAmap", "MiVOS")
"""Methods of table 4.1 that it does not have; MiVOS with scribbles or clicks needs its interaction network."""


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    table_cli.add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


# the published numbers


def test_every_result_table_is_there() -> None:
    assert {f.stem.removeprefix("table-") for f in ROOT.glob("*.csv")} == set(TABLES)
    assert len(TABLES) == 14
    assert (ROOT / "README.md").is_file()


@pytest.mark.parametrize("number", TABLES)
def test_published_numbers_are_tidy(number: str) -> None:
    table = published(number)
    assert {"row", "configuration", "column", "dataset", "measure", "value", "unit"} <= set(table.columns)
    assert not table.duplicated(["row", "column"]).any()
    assert sorted(set(table["row"])) == list(range(1, table["row"].max() + 1))
    assert (table.groupby("row")["configuration"].nunique() == 1).all()
    values = table["value"].astype(float)
    assert np.isfinite(values).all()
    assert (values[table["unit"] == "percent"] <= 100).all()
    assert (values[table["unit"] == "share"] <= 1).all()


@pytest.mark.parametrize(
    ("number", "row", "column", "value"),
    [
        ("4.1", 6, "R-AUC-J&F", "0.76"), ("4.2", 3, "4", "0.78"), ("5.1", 2, "LV1 J&F", "83.6"), ("5.1", 18, "D17 F", "88.1"),
        ("5.2", 9, "Q", "0.45"), ("5.3", 5, "LV1", "86.0"), ("5.3", 2, "D17", "81.3"), ("5.4", 2, "A_n", "73.4"),
        ("5.5", 3, "rat |Γ|", "82.3e-10"), ("5.6", 2, "26.20–57.64 % J&F", "59.3"), ("5.7", 2, "READMem-QDMN D17", "73.3"),
        ("5.8", 6, "VRAM", "2312"), ("6.1", 9, "NoC", "325"), ("6.2", 3, "J&F", "60.7"), ("6.3", 8, "IDI", "17.3"), ("6.4", 2, "ACI", "56.1"),
    ],
)  # fmt: skip
def test_numbers_stand_where_they_should(number: str, row: int, column: str, value: str) -> None:
    table = published(number)
    assert table[(table["row"] == row) & (table["column"] == column)]["value"].tolist() == [value]


def test_number_of_cells() -> None:
    cells = {number: len(published(number)) for number in TABLES}
    assert cells == {"4.1": 18, "4.2": 15, "5.1": 108, "5.2": 54, "5.3": 10, "5.4": 6, "5.5": 18, "5.6": 18, "5.7": 12, "5.8": 18,
                     "6.1": 45, "6.2": 39, "6.3": 44, "6.4": 32}  # fmt: skip


def test_published_j_and_f_average_but_for_the_typos_named() -> None:
    wide = published("5.1").assign(value=lambda t: t["value"].astype(float)).pivot(index=["configuration", "dataset"], columns="measure", values="value")
    off = wide[(wide["J&F"] - (wide["J"] + wide["F"]) / 2).abs() > 0.06]
    assert set(off.index) == {("XMem†, s_r=1", "LV1"), ("XMem, s_r=1", "LV1"), ("XMem†, s_r=1", "D17"), ("XMem, s_r=10", "D17")}


def test_tables_agree_with_one_another() -> None:
    def value(number: str, **where: str) -> str:
        table = published(number)
        for name, wanted in where.items():
            table = table[table[name] == wanted]
        (found,) = table["value"]
        return found

    star = value("5.1", configuration="READMem-MiVOS*, s_r=10", column="LV1 J&F")
    assert star == value("5.3", row=5, column="LV1") == value("5.4", row=2, column="W_n") == "86.0"
    assert value("6.1", row=9, column="J&F") == value("6.3", row=7, column="J&F")


def test_unknown_table() -> None:
    with pytest.raises(InputError, match=r"no table '5\.9'; there are 4\.1"):
        published("5.9")


# ours beside them


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    names = [cell.experiment.name for cell in TABLE_5_3.cells(Setting("paper"), {"LV1": "a", "D17": "b"})]
    rows = [
        {"experiment": name, "dataset": "d", "sequence": f"s{k}", "object": 1, "J": 0.6, "F": 0.7, "JF": 0.65 + 0.01 * i, "R@0.5": 1.0,
         "NoC": np.nan, "ACI": np.nan, "gaps": np.nan, "span": np.nan, "clip_fps": 25.0, "frames": 10, "seconds": 2.0, "peak_mib": np.nan,
         "hardware": "a machine"}
        for i, name in enumerate(names) for k in range(3 if "LV1" in name else 30)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_paper_scale_has_paper_ours_and_delta(results: pd.DataFrame) -> None:
    cells = TABLE_5_3.cells(Setting("paper"), {"LV1": "a", "D17": "b"})
    table = layout(published("5.3"), "paper", cells, results)
    assert list(table.columns) == ["configuration", "paper LV1", "paper D17", "ours LV1", "ours D17", "delta LV1", "delta D17",
                                   "n videos", "hardware", "seconds"]  # fmt: skip
    last = table.iloc[4]
    assert (last["paper LV1"], last["ours LV1"], last["delta LV1"]) == ("86.0", "73.0", "-13.0")
    assert (last["n videos"], last["hardware"], last["seconds"]) == ("LV1 3, D17 30", "a machine", "LV1 6.0, D17 60.0")


def test_part_of_a_benchmark_makes_no_difference(results: pd.DataFrame) -> None:
    cells = TABLE_5_3.cells(Setting("paper"), {"LV1": "a", "D17": "b"})
    part = results[results["sequence"].isin([f"s{k}" for k in range(12)])]
    table = layout(published("5.3"), "paper", cells, part)
    assert (table["delta D17"] == "").all()
    assert (table["ours D17"] != "").all()
    assert (table["delta LV1"] != "").all()
    experiments = [cell.experiment for cell in cells]
    assert partial_notes(experiments, part) == ["DAVIS 2017, validation has 30 videos, 12 are here: no difference is formed."]
    assert partial_notes(experiments, results) == []


def test_what_was_not_run_is_blank(results: pd.DataFrame) -> None:
    cells = TABLE_5_3.cells(Setting("paper"), {"LV1": "a"})
    table = layout(published("5.3"), "paper", cells, results[results["experiment"].str.contains("LV1")])
    assert (table["ours D17"] == "").all()
    assert (table["delta D17"] == "").all()
    assert (table["delta LV1"] != "").all()
    bare = layout(published("6.1"))
    assert (bare.filter(regex="ours|delta|videos|hardware|seconds") == "").all(axis=None)
    assert bare["paper NoC"].tolist()[:7] == ["", "", "", "", "", "", "335"]


def test_a_smoke_number_never_stands_under_the_papers_heading(results: pd.DataFrame) -> None:
    smoke = Experiment(name="s", dataset="generated:smoke")
    with pytest.raises(ValueError, match="may not stand under 'LV1'"):
        layout(published("5.3"), "smoke", [Cell(1, "LV1", smoke)], results)
    with pytest.raises(ValueError, match="of smoke scale, may not stand under 'LV1' at paper scale"):
        layout(published("5.3"), "paper", [Cell(1, "LV1", smoke)], results)


@pytest.mark.parametrize("number", RECIPES)
@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_recipes_name_their_scale_and_known_columns(number: str, scale) -> None:
    recipe, table = RECIPES[number], published(number)
    assert set(recipe.datasets.values()) <= set(catalog())
    cells = recipe.cells(Setting(scale), dict.fromkeys(recipe.datasets, "root"))
    assert {cell.experiment.scale for cell in cells} == {scale}
    assert ({cell.column for cell in cells} <= set(table["column"])) == (scale == "paper")
    assert {cell.row for cell in cells} <= set(table["row"])
    assert all(bool(cell.ran) == (scale == "smoke") for cell in cells)
    if scale == "paper":
        strangers = INTERACTIVE if number == "4.1" else STRANGERS
        ours = table[~table.get("method", table["configuration"]).isin(strangers)]
        assert {(c.row, c.column) for c in cells} == set(zip(ours["row"], ours["column"]))


def test_components_are_those_of_the_thesis() -> None:
    table = published("5.3").drop_duplicates("row").set_index("row")
    for setting in (Setting("smoke"), Setting("paper")):
        cells = TABLE_5_3.cells(setting, {"LV1": "root"})
        assert len(cells) == (10 if setting.scale == "smoke" else 5)
        for cell in cells:
            row, memory, options = table.loc[cell.row], cell.experiment.memory, cell.experiment.memory_options
            assert {"fifo": "no", "readmem": "yes"}[memory] == row["dme"]
            made = (FifoMemory if memory == "fifo" else ReadMem)(**options)
            assert options["adjacent"] == (row["adjacent"] == "yes")
            assert options["flexible"]
            assert (made.slots, options["every"]) == ((20, 10) if setting.scale == "paper" else (6, 4))
            if isinstance(made, ReadMem):
                assert (made.config.lower_bound == 0.5) == (row["lsb"] == "yes")
                assert (made.config.transition == "column argmax") == (row["rea"] == "yes")


def test_every_row_of_the_smoke_table_can_be_built() -> None:
    for cell in TABLE_5_3.cells(Setting("smoke", device="cpu"), {}):
        assert build_tracker(cell.experiment, "cpu").size == 96


# the command


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """Smoke scale with clips of 8 frames."""
    from lazyvos.experiments import readmem_arms

    with pytest.MonkeyPatch.context() as patch:
        for place in (readmem_arms.LONG, readmem_arms.SHORT):
            patch.setitem(place, "dataset_options", {"seeds": [0], "length": 8, "size": [64, 96]})
        yield tmp_path_factory.mktemp("tables")


def test_smoke_table_from_the_command_line(tiny: Path, capsys: pytest.CaptureFixture) -> None:
    found = table_cli.run(arguments("5.3", "--out", str(tiny), "--device", "cpu", "--json"))
    assert capsys.readouterr().out == ""
    json.dumps(found)
    assert list(found["rows"][0]) == ["configuration", "paper LV1", "paper D17", "ran", "ours generated long", "ours generated short",
                                      "n videos", "hardware", "seconds"]  # fmt: skip
    ours = [float(row["ours generated long"]) for row in found["rows"]]
    assert len(ours) == 5
    assert all(0 <= value <= 100 for value in ours)
    assert [row["paper LV1"] for row in found["rows"]] == ["64.3", "69.5", "75.0", "77.4", "86.0"]
    assert found["rows"][0]["ran"] == "tiny-stm, FIFO, N=6, s_r=4"
    assert {row["n videos"] for row in found["rows"]} == {"generated long 2, generated short 3"}
    assert found["reuse"] | {"failed": 0} == {"finished": 0, "made": 25, "encoder_passes": 40, "encoder_passes_saved": 160, "failed": 0}
    text = table_cli.run(arguments("5.3", "--out", str(tiny), "--device", "cpu", "--save", str(tiny / "t.csv")))
    shown = capsys.readouterr().out
    assert text["reuse"]["finished"] == 25
    assert "25 found finished" in shown
    assert "Smoke scale:" in shown
    assert "| paper LV1 |" in shown
    assert pd.read_csv(tiny / "t.csv", dtype=str)["ours generated long"].tolist() == [r["ours generated long"] for r in found["rows"]]


@pytest.mark.parametrize(("form", "words"), [("latex", r"\begin{tabular}"), ("csv", "configuration,paper LV1,paper D17,")])
def test_other_forms(tiny: Path, form: str, words: str, capsys: pytest.CaptureFixture) -> None:
    table_cli.run(arguments("5.3", "--out", str(tiny), "--device", "cpu", "--format", form))
    assert words in capsys.readouterr().out


def test_a_table_without_a_recipe_shows_the_paper(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RECIPES, "4.2")
    found = table_cli.run(arguments("4.2"))
    shown = capsys.readouterr().out
    assert "no recipe for table 4.2" in shown
    assert found["rows"][1]["paper 2"] == "0.76"
    assert found["rows"][0]["paper 2"] == ""


def test_list_of_tables(capsys: pytest.CaptureFixture) -> None:
    found = table_cli.run(arguments())
    assert [t["number"] for t in found["tables"]] == list(TABLES)
    assert [f["number"] for f in found["figures"]] == list(FIGURES)
    assert len(capsys.readouterr().out.splitlines()) == 14 + len(FIGURES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("5.3", "--scale", "paper"), r"table 5\.3 at paper scale needs LV1 .* or D17 .*--data LV1=DIR"),
        (("5.3", "--scale", "paper", "--data", "LVOS=x"), "no data set 'LVOS'; it has LV1, D17"),
        (("5.3", "--scale", "paper", "--data", "LV1=nowhere"), "nowhere does not hold .*lazyvos data where lv1"),
        (("5.3", "--data", "LV1"), "--data 'LV1' is not understood; write NAME=PATH"),
        (("7.1",), "no table '7.1'"),
    ],
)
def test_wrong_input_is_named(words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYVOS_DATA", str(tmp_path))
    with pytest.raises(InputError, match=message):
        table_cli.run(arguments(*words, "--out", str(tmp_path / "out")))


def test_a_recipe_runs_cells_of_one_experiment_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lazyvos.experiments import tables
    from lazyvos.experiments.recipe import Recipe

    def cells(setting: Setting, found) -> list[Cell]:
        one = Experiment(name="one", dataset="generated:smoke", dataset_options={"length": 6, "size": [64, 96]}, sequences=("calm-s0",), size=64, device="cpu")
        return [Cell(1, "smoke J&F", one), Cell(1, "smoke R@0.5", one, "R@0.5", 100.0, ".0f")]

    monkeypatch.setitem(tables.RECIPES, "6.4", Recipe("6.4", {}, cells, "Small."))
    book = make_table("6.4", out=tmp_path, progress=False)
    assert book.report.made == 1
    assert book.frame["n videos"].tolist() == ["1", "", "", "", ""]
    assert book.frame["ours smoke R@0.5"].tolist()[0].isdecimal()
