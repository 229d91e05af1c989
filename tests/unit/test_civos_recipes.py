"""The recipes of chapter 4: published settings, what runs at smoke scale, sessions kept and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lazyvos.datasets.catalog import facts_of
from lazyvos.experiments import civos, civos_play, engine
from lazyvos.experiments.civos import BEST, CIVOS, MEASURES, STRATEGIES, measured, play
from lazyvos.experiments.civos_play import play_all, sessions
from lazyvos.experiments.layout import layout, partial_notes
from lazyvos.experiments.recipe import Setting
from lazyvos.experiments.tables import RECIPES, TABLES, make_table, published
from lazyvos.registry import releases
from lazyvos.types import InputError

FOUND = {"D17": "a"}
CPU = Setting(device="cpu")


def cells_of(number: str, scale):
    return RECIPES[number].cells(Setting(scale), FOUND if scale == "paper" else {})


# what is asked for


def test_the_chapter_is_whole() -> None:
    assert {n for n in RECIPES if n.startswith("4.")} == {n for n in TABLES if n.startswith("4.")} == {"4.1", "4.2"}


def test_which_numbers_of_the_paper_are_made_again() -> None:
    table = published("4.2")
    assert {(c.row, c.column) for c in cells_of("4.2", "paper")} == set(zip(table["row"], table["column"]))
    table = published("4.1")
    ours = table[table["method"] == "CiVOS"]
    assert {(c.row, c.column) for c in cells_of("4.1", "paper")} == set(zip(ours["row"], ours["column"]))
    assert set(ours["row"]) == {CIVOS}
    assert tuple(ours["column"]) == MEASURES


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_strategies_and_limits(scale) -> None:
    table = published("4.2")
    for cell in cells_of("4.2", scale):
        rules = cell.experiment.rules
        line = table[(table["row"] == cell.row) & (table["column"] == cell.column.removeprefix("generated "))].iloc[0]
        assert (rules.strategy.kind, str(rules.strategy.limit)) == (line["strategy"], line["clicks"])
        assert (rules.rounds, rules.seconds, rules.choose, rules.metric) == (8, 30.0, "framework", "JF")
        assert not rules.strategy.per_region
        assert STRATEGIES[cell.row] == rules.strategy.kind


def test_published_setting() -> None:
    one = play(Setting("paper", seed=3), FOUND, "a3", 3)
    assert (one.backbone, one.weights, one.fusion, one.fusion_weights) == ("mivos", "mivos", "learned", "mivos-fusion")
    assert (one.refiner, one.refiner_weights, dict(one.refiner_options)) == ("ritm-h18s", "ritm-h18s", {"together": True})
    assert (one.memory, one.history, one.size, one.dataset_options) == ("code", "code", 480, {"root": "a"})
    assert (one.rules.strategy.min_area, one.rules.sets, one.rules.seed) == (100, 3, 3)
    networks = {one.weights: "mivos", one.fusion_weights: "mivos-fusion", one.refiner_weights: "ritm-h18s"}
    assert {name: releases()[name].network for name in networks} == networks
    facts = facts_of(one.dataset)
    assert (facts.kind, facts.sequences, facts.objects) == ("interactive", 30, 61)


def test_the_limit_of_table_4_1_gives_its_number_in_4_2() -> None:
    (wanted,) = {row.value for row in published("4.1").itertuples() if row.row == CIVOS and row.column == "R-AUC-J&F"}
    reach = [int(row.clicks) for row in published("4.2").itertuples() if row.strategy == "a2" and row.value == wanted]
    assert min(reach) == BEST
    for scale in ("smoke", "paper"):
        (one,) = {c.experiment for c in cells_of("4.1", scale)}
        assert one in {c.experiment for c in cells_of("4.2", scale)}
        assert one.rules.strategy.kind == "a2"


def test_weights_of_ones_own() -> None:
    own = play(Setting("paper", weights={"mivos": "m.pth", "mivos-fusion": "f.pth", "ritm-h18s": "r.pth"}), FOUND, "a1", 1)
    assert (own.weights, own.fusion_weights, own.refiner_weights) == ("m.pth", "f.pth", "r.pth")
    with pytest.raises(InputError, match=r"no experiment here takes weights called 'stm'; they take tiny"):
        make_table("4.1", Setting(weights={"stm": "x.pth"}), progress=False)
    with pytest.raises(InputError, match=r"weights nothing\.pth do not exist"):
        play(Setting(weights={"tiny": "nothing.pth"}, device="cpu"), {}, "a1", 1).tracker()


def test_without_the_scribbles_of_the_interactive_track(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("car\n")
    with pytest.raises(InputError, match="does not hold DAVIS 2017, validation, interactive track"):
        make_table("4.2", Setting("paper", data={"D17": str(tmp_path)}), out=tmp_path / "o", progress=False)


# what runs


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """Smoke scale with a clip of 4 small frames and a limit of 2; the folder and both tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(civos.CLIPS, "dataset_options", {"seeds": [0], "length": 4, "size": [64, 96]})
        patch.setitem(civos.CLIPS, "sequences", ("away-s0",))
        patch.setitem(civos.LIMITS, "smoke", 2)
        patch.setitem(civos.REFINER, "sizes", [96])
        out = tmp_path_factory.mktemp("tables")
        book = make_table("4.2", CPU, out=out, progress=False)
        yield out, book, make_table("4.1", CPU, out=out, executor="processes", progress=False)


def test_smoke_table_4_2(small) -> None:
    out, book, _ = small
    assert list(book.frame) == ["configuration", *(f"paper {n}" for n in range(1, 8)), "ran", "ours generated 1", "ours generated 2", "n videos",
                                "hardware", "seconds"]  # fmt: skip
    ours = book.frame[["ours generated 1", "ours generated 2"]]
    assert ours.iloc[0, 1] == ""
    values = [float(v) for v in ours.to_numpy().ravel() if v]
    assert len(values) == 5
    assert all(0 < v <= 8.5 / 9 for v in values)
    assert book.frame["n videos"].tolist() == ["1"] * 3
    assert book.frame["ran"].str.startswith("tiny, tiny refiner, ").all()
    assert vars(book.report) == {"finished": 0, "made": 5, "encoder_passes": 0, "encoder_passes_saved": 0, "failed": 0}
    assert len(list((out / civos_play.FOLDER).glob("*/*.json"))) == 5
    assert engine.collect(out).empty  # sessions do not stand among the results of the engine


def test_smoke_table_4_1_finds_the_sessions_of_4_2(small) -> None:
    _, clicks, book = small
    assert (book.report.finished, book.report.made) == (1, 0)
    blank = book.frame.drop(index=CIVOS - 1).filter(regex="ours|ran|videos|hardware|seconds")
    assert (blank == "").all(axis=None)
    row = book.frame.iloc[CIVOS - 1]
    assert row["paper R-AUC-J&F"] == "0.76"
    assert row["ours generated R-AUC-J&F"] == clicks.frame["ours generated 2"][1]
    assert float(row["ours generated AUC-J&F"]) <= 1  # by the clock of this machine: no more can be said
    notes = " ".join(book.notes)
    assert "wall-clock figures of the hardware named" in notes
    assert "whatever the executor" in notes
    assert "wall-clock" not in " ".join(clicks.notes)


def test_numbers_are_those_of_the_sessions(small) -> None:
    """R-AUC and J&F by hand, from J and F of every frame."""
    out, book, _ = small
    one = next(c.experiment for c in book.cells if (c.row, c.column) == (2, "generated 2"))
    made = play_all([one], out, False)
    assert (made.report.finished, made.report.made) == (1, 0)
    records = made.records[one.name]
    assert [r["video"] for r in records] == ["away-s0"]
    course = np.array([
        np.mean([x for r in records for x in (np.mean(r["rounds"][n]["J"], 0) + np.mean(r["rounds"][n]["F"], 0)) / 2]) for n in range(8)
    ])  # fmt: skip
    area = course[0] / 2 + (course[1:] + course[:-1]).sum() / 2 + course[-1]
    assert measured(records, "R-AUC-J&F") == pytest.approx(area / 9)
    assert book.frame["ours generated 2"][1] == f"{area / 9:.2f}"
    assert made.results["JF"].mean() == pytest.approx(course[-1])
    assert made.results[["sequence", "object"]].to_numpy().tolist() == [["away-s0", 1], ["away-s0", 2]]
    assert made.results["NoC"].sum() == sum(len(one["clicks"]) for r in records for one in r["rounds"])
    assert sessions(records).seconds_per_object == 240


def test_an_interrupted_table_goes_on(small) -> None:
    out, book, _ = small
    one = replace(book.cells[0].experiment, sequences=("calm-s0", "away-s0"))
    before = play_all([one], out, False)
    assert (before.report.finished, before.report.made) == (1, 1)
    key = before.records[one.name][1]["key"]
    file = out / civos_play.FOLDER / key / "away-s0 001.json"
    file.write_text(file.read_text()[:100])  # as if it had not been written whole
    again = play_all([one], out, False)
    assert (again.report.finished, again.report.made) == (1, 1)
    assert measured(again.records[one.name], "R-AUC-J&F") == measured(before.records[one.name], "R-AUC-J&F")
    assert again.results.drop(columns="seconds").equals(before.results.drop(columns="seconds"))
    other = replace(one, history="restart", sequences=("calm-s0",))
    assert play_all([other], out, False).report.made == 1  # another tracker does not take its sessions


def test_samples_that_run_out_of_time_are_named(small, tmp_path: Path) -> None:
    _, book, _ = small
    one = book.cells[0].experiment
    late = replace(one, rules=replace(one.rules, seconds=1e-9), sequences=("calm-s0",))
    made = play_all([late], tmp_path, False)
    assert made.notes == (f"{one.name}: 1 of 1 samples ran out of time, so all its figures depend on the machine.",)
    assert measured(made.records[one.name], "R-AUC-J&F") == 0
    assert made.results["JF"].tolist() == [0]


# at paper scale


def record_of(video: str, share: float) -> dict:
    """A session in which every frame has that J and F after each of 8 rounds."""
    rounds = [{"frame": 0, "seconds": 10.0, "clicks": [[1, 5, 5, True]], "J": [[share]] * 3, "F": [[share]] * 3} for _ in range(8)]
    return {"video": video, "sample": 1, "objects": [1], "frames": [0, 1, 2], "late": False, "rounds": rounds,
            "machine": {"gpu": "a card", "cpu": "c"}, "facts": {"rules": {"rounds": 8, "seconds": 30.0}}}  # fmt: skip


@pytest.mark.parametrize(("videos", "delta"), [(30, ["+0.00", "-0.05", "-0.04"]), (12, ["", "", ""])])
def test_paper_scale_has_paper_ours_and_delta(videos: int, delta: list[str]) -> None:
    cells = cells_of("4.1", "paper")
    one = cells[0].experiment
    records = [record_of(f"s{k}", 0.8) for k in range(videos)]
    results = civos_play.rows(one, sessions(records))
    table = layout(published("4.1"), "paper", cells, results, {one.name: records})
    row = table.iloc[CIVOS - 1]
    # R-AUC of a constant 0.8 is 0.8 · 8.5 / 9; the curve over 240 s rises to 0.8 within the first 10 s
    assert [row[f"ours {m}"] for m in MEASURES] == ["0.76", "0.78", "0.80"]
    assert [row[f"delta {m}"] for m in MEASURES] == delta
    assert (row["n videos"], row["hardware"], row["seconds"]) == (str(videos), "a card", f"{80.0 * videos:.1f}")
    assert bool(partial_notes([one], results)) == (videos == 12)
