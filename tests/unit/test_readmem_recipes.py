"""The recipes of chapter 5: published settings, what runs at smoke scale, and numbers of sequences, sections, absences and |Γ|."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lazyvos import table_cli
from lazyvos.backbones.stcn import STCN
from lazyvos.build import make_tracker
from lazyvos.datasets import vots
from lazyvos.experiments import Experiment, readmem_arms, run, run_table, summary, tables
from lazyvos.experiments.data import open_dataset
from lazyvos.experiments.lockstep import build_tracker
from lazyvos.experiments.measures import Absences, Volume, held_bytes
from lazyvos.experiments.readmem import COMPONENTS, LONG_AND_SHORT
from lazyvos.experiments.readmem_arms import NETWORKS, Arm, places
from lazyvos.experiments.readmem_gram import gram_at, section_gram, section_jf, sequence_gram, sequence_jf
from lazyvos.experiments.recipe import Point, Setting
from lazyvos.experiments.tables import FIGURES, RECIPES, TABLES, make_figure, make_table, published
from lazyvos.experiments.watched import WatchedFifo
from lazyvos.hub import NETWORKS as KNOWN
from lazyvos.memory import FifoMemory, ReadMem
from lazyvos.metrics.vots import vots_masks
from lazyvos.registry import releases
from lazyvos.types import Decision, InputError

pytestmark = pytest.mark.filterwarnings("ignore:.tiny-stm. ships without weights")
CHAPTER = [number for number in TABLES if number.startswith("5.")]
FOUND = {"LV1": "a", "D17": "b", "VOTS2023": "c"}
CLIP = {"dataset": "generated:smoke", "dataset_options": {"length": 12, "size": (64, 96)}, "size": 64, "device": "cpu"}


def cells_of(number: str, scale):
    return RECIPES[number].cells(Setting(scale), FOUND if scale == "paper" else {})


# what is asked for


def test_the_chapter_is_whole() -> None:
    assert {number for number in RECIPES if number.startswith("5.")} == set(CHAPTER)
    assert {number for number in FIGURES if number.startswith("5.")} == {"5.1", "5.4", "5.5", "5.6"}


def test_networks_and_releases_exist() -> None:
    for network, release in NETWORKS.values():
        assert network in KNOWN
        assert releases()[release].network == network


@pytest.mark.parametrize("number", CHAPTER)
def test_equal_settings_are_equal_experiments(number: str) -> None:
    """Within a table no configuration runs under two names; what does not fit a row of the paper is not there."""
    experiments = list(dict.fromkeys(cell.experiment for cell in cells_of(number, "smoke")))
    configs = [str(e.config()) for e in experiments]
    assert len(set(configs)) == len(configs)
    assert len({e.name for e in experiments}) == len(experiments)
    assert {e.backbone for e in experiments} <= {"tiny", "tiny-stm"}


def test_tables_share_results() -> None:
    """Rows that are the same in the thesis are the same experiment here."""
    def config(number: str, row: int, column: str) -> dict:
        (cell,) = [c for c in cells_of(number, "paper") if (c.row, c.column) == (row, column)]
        return cell.experiment.config()

    assert config("5.1", 3, "LV1 J&F") == config("5.3", 1, "LV1")
    assert config("5.1", 5, "D17 J&F") == config("5.3", 5, "D17")
    assert config("5.1", 5, "LV1 J&F") == config("5.4", 2, "W_n") == config("5.5", 3, "rat J&F") == config("5.6", 3, "0–26.20 % J&F")
    assert config("5.1", 14, "LV1 J") == config("5.5", 1, "rat |Γ|")  # at s_r = 1 the interval has no say
    assert config("5.1", 4, "LV1 F") == config("5.7", 1, "READMem-MiVOS LV1")
    assert config("5.8", 4, "FPS") == {**config("5.1", 4, "LV1 F"), "alone": True}


def test_rows_follow_the_names_of_the_thesis() -> None:
    rows = published("5.1").drop_duplicates("row")
    for arm, (_, row) in zip(LONG_AND_SHORT, rows.iterrows(), strict=True):
        assert row["method"].removeprefix("READMem-") == arm.method.rstrip("†")
        assert row["method"].startswith("READMem") == (arm.memory == "readmem")
        assert row["s_r"] == str(arm.s_r)
        assert ("*" in row["configuration"]) == arm.flexible
    for number in ("5.2", "5.8"):
        wanted = published(number).drop_duplicates("row").set_index("row")
        for cell in cells_of(number, "paper"):
            row = wanted.loc[cell.row]
            options = cell.experiment.memory_options
            assert options["every"] == int(row["s_r"])
            assert row["method"].startswith("READMem") == (cell.experiment.memory == "readmem")
            assert int(row.get("N", 20)) == options.get("slots", options.get("threshold"))


def test_published_settings_make_the_published_memory() -> None:
    place = places(Setting("paper"), FOUND, "LV1")[0]
    for arm, lower, transition, adjacent in zip(COMPONENTS[1:], (-1.0, 0.5, 0.5, 0.5), (None, None, None, "column argmax"),
                                                (False, False, True, True), strict=True):  # fmt: skip
        made = ReadMem(**arm.experiment(Setting("paper"), place).memory_options)
        assert (made.config.slots, made.config.every, made.config.flexible) == (20, 10, True)
        assert (made.config.lower_bound, made.config.transition, made.config.adjacent) == (lower, transition, adjacent)
    best = ReadMem(**Arm("MiVOS", "readmem").experiment(Setting("paper"), place).memory_options)
    assert best.config == ReadMem().config  # the defaults are the published ones


def test_nothing_stands_for_random_networks_at_smoke_scale() -> None:
    rows = {cell.row for cell in cells_of("5.1", "smoke")}
    assert rows == {2, 3, 4, 5, 12, 13, 14}
    for number in CHAPTER:
        assert all(cell.ran.startswith(("tiny, ", "tiny-stm, ")) for cell in cells_of(number, "smoke"))


@pytest.mark.parametrize("number", [number for number in FIGURES if number.startswith("5.")])
def test_points_of_figures(number: str) -> None:
    points = FIGURES[number].points(Setting("paper"), FOUND)
    lines = {(p.labels["data"], p.labels["method"]) for p in points}
    methods = {"MiVOS", "READMem-MiVOS"} if number == "5.5" else {m for n in ("MiVOS", "STCN", "QDMN") for m in (n, f"READMem-{n}")}
    assert lines == {(d, m) for d in FIGURES[number].datasets for m in methods}
    moving, still = ("N", "s_r") if number == "5.6" else ("s_r", "N")
    assert {p.labels[still] for p in points} == {10 if number == "5.6" else 20}
    assert len({p.labels[moving] for p in points}) >= 3
    assert len({(*map(str, p.labels.values()),) for p in points}) == len(points)
    assert all(cell.experiment.scale == "smoke" for cell in FIGURES[number].points(Setting(), {}))


# numbers of sequences and sections


def record(name: str, steps, j: list[float], times: list[int], frames: int) -> dict:
    series = {"t": times, "j": j, "f": [v / 2 for v in j]}
    return {"sequence": name, "start": 0, "frames": frames, "memory": {"steps": steps, "full": 4}, "seconds": 1.0,
            "machine": {"gpu": None, "cpu": "c"}, "objects": [{"JF": 0.5, "series": series}, {"JF": 0.7, "series": series}]}  # fmt: skip


RECORDS = [record("a", [[0, 0.0], [5, -2.0], [9, None], [12, -1.0]], [9.0, 0.2, 0.4, 0.6, 9.0], [0, 5, 10, 15, 19], 20), record("b", [], [], [], 20)]


def test_volume_at_a_frame() -> None:
    assert [gram_at(RECORDS[0], t) for t in (0, 4, 5, 8.9, 9, 12)] == [1.0, 1.0, 0.01, 0.01, 0.0, 0.1]
    assert sequence_gram(RECORDS, "a") == 0.1
    assert math.isnan(sequence_gram(RECORDS, "b"))
    assert section_gram(RECORDS, "a", 0.5) == 0.0
    assert sequence_jf(RECORDS, "a") == pytest.approx(0.6)


def test_sections_score_their_own_frames_without_first_and_last() -> None:
    assert section_jf(RECORDS, "a", 0.0, 0.5) == pytest.approx(0.75 * 0.2)
    assert section_jf(RECORDS, "a", 0.25, 0.75) == pytest.approx(0.75 * 0.3)
    assert section_jf(RECORDS, "a", 0.5, 1.0) == pytest.approx(0.75 * 0.5)
    assert math.isnan(section_jf(RECORDS, "a", 0.8, 1.0))


def test_curves_begin_when_the_memory_is_full() -> None:
    point = Point(Experiment(name="x", dataset="generated:smoke"), {"data": "d", "method": "m", "s_r": 1, "N": 4})
    found = FIGURES["5.5"].draw([point], {"x": RECORDS})
    assert found["frame"].tolist() == [4, 5, 9, 12, 19]
    assert found["log10|Γ|"].tolist() == [0.0, -2.0, -math.inf, -1.0, -1.0]
    assert found["share"].iloc[-1] == 100
    never = {**RECORDS[0], "memory": {"steps": [[0, 0.0]], "full": None}}
    assert FIGURES["5.5"].draw([point], {"x": [never]}).empty


# what the engine notes


def test_absences_equal_those_of_the_masks() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((30, 8, 8)) < 0.4).astype(np.uint8) * (np.arange(30) % 2)[:, None, None].astype(np.uint8)
    labels = (rng.random((30, 8, 8)) < 0.5).astype(np.uint8) * (np.arange(30) % 3 > 0)[:, None, None].astype(np.uint8)
    noted = Absences([1])
    for mine, true in zip(labels, truth, strict=True):
        noted.update(mine, true, {})
    found, wanted = noted.measures(1, 30), vots_masks(labels, truth)
    assert found is not None
    assert [found[m] for m in ("Q", "ACC", "ROB", "NRE", "DRE", "ADQ")] == [wanted.Q, wanted.ACC, wanted.ROB, wanted.NRE, wanted.DRE, wanted.ADQ]
    assert found["ROB"] + found["NRE"] + found["DRE"] == pytest.approx(1)
    assert min(found["hallucinated"], found["noticed"], found["missed"], found["tracked"]) > 0
    assert noted.predicted(1) == [int(m.any()) for m in labels]
    assert noted.measures(1, 31) is None  # a frame has no truth


def test_masks_may_overlap() -> None:
    noted, both = Absences([1, 2], before=2), {1: np.ones((4, 4), bool), 2: np.eye(4, dtype=bool)}
    noted.update(np.ones((4, 4), np.uint8), both, {1: 0.1})
    one, two = noted.measures(1, 3), noted.measures(2, 3)
    assert one is not None
    assert two is not None
    assert (one["Q"], one["noticed"]) == (1.0, 2)
    assert (two["missed"], two["noticed"]) == (1, 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("out")
    options = {"slots": 3, "every": 1, "adjacent": True}
    todo = [Experiment(name="fifo", memory="fifo", memory_options={**options, "pin_annotated": False}, **CLIP),
            Experiment(name="watched", memory=WatchedFifo, memory_options=options, **CLIP),
            Experiment(name="readmem", memory="readmem", memory_options=options, **CLIP)]  # fmt: skip
    return out, todo, {(r.experiment, r.sequence): r.record for r in run(todo, out=out, progress=False)}


def test_records_hold_absences_of_a_plain_tracker(finished) -> None:
    _, (fifo, *_), records = finished
    clip = open_dataset(fifo)["away-s0"]
    tracker = make_tracker(memory="fifo", memory_options=fifo.memory_options, policy="never", refiner=None, size=64, device="cpu")
    masks = [step.prediction.labels for step in tracker.track(clip.frames, mask=clip.mask(0))]
    for o in records["fifo", "away-s0"]["objects"]:
        wanted = vots_masks([m == o["id"] for m in masks], [clip.mask(t) == o["id"] for t in range(12)])
        assert [o["vots"][m] for m in ("Q", "ACC", "ROB", "NRE", "DRE")] == [wanted.Q, wanted.ACC, wanted.ROB, wanted.NRE, wanted.DRE]
        assert o["series"]["t"] == list(range(12))
        assert len(o["series"]["predicted"]) == 12
        assert o["V"] >= 0


def test_summary_has_the_measures_of_vots_and_lvos(finished) -> None:
    out, todo, _ = finished
    table = run_table(todo, out=out, progress=False)
    row = summary(table).iloc[0]
    part = table[table["experiment"] == "fifo"]
    assert row["Q"] == pytest.approx(part.groupby("sequence")["Q"].mean().mean())
    assert row["Q"] != pytest.approx(part["Q"].mean())  # means over sequences first
    assert "lvos_JF" not in row
    halves = summary(part.assign(unseen=(part["sequence"] == "away-s0").astype(float))).iloc[0]
    away = part["sequence"] == "away-s0"
    assert halves["JF_unseen"] == pytest.approx(part[away]["JF"].mean())
    assert halves["lvos_JF"] == pytest.approx((part[away]["JF"].mean() + part[~away]["JF"].mean()) / 2)
    assert row["bank_mib"] > 0


def test_watched_memory_is_the_plain_one(finished) -> None:
    _, _, records = finished
    for name in ("calm-s0", "hidden-s0", "away-s0"):
        plain, watched = records["fifo", name], records["watched", name]
        assert watched["objects"] == plain["objects"]
        assert watched["memory"]["frames"] == plain["memory"]["frames"]
        assert plain["memory"]["steps"] == []
        assert (watched["memory"]["full"], watched["memory"]["frames"][0] > 0) == (2, True)


def test_volume_grows_with_readmem(finished) -> None:
    _, _, records = finished
    for name in ("calm-s0", "hidden-s0", "away-s0"):
        memory = records["readmem", name]["memory"]
        logs = [log for t, log in memory["steps"] if t >= memory["full"]]
        assert logs == sorted(logs)
        assert memory["log_gram"] == memory["steps"][-1][1]
        assert gram_at(records["readmem", name]) >= gram_at(records["watched", name])


def test_watched_memory_forgets_its_oldest_frame_whatever_it_looks_like() -> None:
    from lazyvos.backbones.base import Entry

    memory = WatchedFifo(2, 1, adjacent=False)
    plain = FifoMemory(2, 1, adjacent=False, pin_annotated=False)
    rng = torch.Generator().manual_seed(0)
    for t in range(6):
        key = torch.randn(1, 4, 3, 3, generator=rng)
        entry = Entry(t=t, key=key, address=key.flatten(2), value=torch.randn(1, 5, 3, 3, generator=rng), objects=(1,))
        for one in (memory, plain):
            one.pin(entry, t) if t == 0 else one.offer(entry, t)
        assert memory.frames() == plain.frames()
    assert memory.frames() == (4, 5)


def test_steps_of_the_volume_and_bytes() -> None:
    memory = FifoMemory(4)
    volume = Volume(memory)
    for t, log in enumerate((None, -1.0, -1.0, -math.inf, -2.0)):
        volume.update(t, Decision(t, True, "filled", log_gram_after=log))
    assert volume.record() == {"frames": [], "log_gram": -2.0, "steps": [[1, -1.0], [3, None], [4, -2.0]], "full": None, "mib": 0.0}
    big = torch.zeros(1000)
    assert held_bytes({"a": big, "b": [big[:10], {"c": torch.zeros(2, dtype=torch.uint8)}]}) == 4002


def test_alone_is_never_in_company(tmp_path: Path) -> None:
    options = {**CLIP, "sequences": ("calm-s0",), "memory_options": {"slots": 3, "every": 2}}
    todo = [Experiment(name="a", **options), Experiment(name="b", memory="readmem", **options), Experiment(name="c", alone=True, **options)]
    running = run(todo, out=tmp_path, progress=False)
    records = {r.experiment: r.record for r in running}
    assert {name: r["together"] for name, r in records.items()} == {"a": 2, "b": 2, "c": 1}
    assert records["a"]["objects"] == records["c"]["objects"]
    assert len(set(running.keys)) == 3  # a result made in company is none of "c"


# the books


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """Smoke scale with clips of 12 frames, ``tiny`` for ``tiny-stm`` (whose numbers must be worth comparing), intervals of 1 and 2."""
    with pytest.MonkeyPatch.context() as patch:
        for place in (readmem_arms.LONG, readmem_arms.SHORT):
            patch.setitem(place, "dataset_options", {"seeds": [0], "length": 12, "size": [64, 96]})
        patch.setitem(readmem_arms.SMOKE_NETWORKS, "MiVOS", "tiny")
        patch.setattr(readmem_arms, "SMOKE_INTERVALS", {1: 1, 5: 1, 10: 2, 20: 2, 50: 2})
        patch.setattr(readmem_arms, "SMOKE_SLOTS", {10: 2, 20: 3, 30: 4, 40: 5})
        yield tmp_path_factory.mktemp("books")


@pytest.mark.parametrize(
    ("number", "columns"),
    [
        ("5.2", {f"ours generated long {m}" for m in ("Q", "ACC", "ROB", "ADQ", "NRE", "DRE")}),
        ("5.5", {f"ours generated long {s} {m}" for s in ("medium-s0", "hard-s0") for m in ("J&F", "|Γ|")}),
        ("5.8", {"ours generated long J&F", "ours generated long FPS", "ours generated long memory MiB"}),
    ],
)
def test_books_at_smoke_scale(small: Path, number: str, columns: set[str]) -> None:
    book = make_table(number, Setting(device="cpu"), out=small, progress=False)
    ours = book.frame[[c for c in book.frame if c.startswith("ours")]]
    assert set(ours.columns) == columns
    assert not [c for c in book.frame if c.startswith("delta")]
    ran = book.frame["ran"] != ""
    assert (ours[~ran] == "").all(axis=None)
    numbers = ours[ran].drop(columns=[c for c in ours if c.endswith("ADQ")]).astype(float)
    assert numbers.notna().all(axis=None)
    assert (book.frame[ran][["n videos", "hardware", "seconds"]] != "").all(axis=None)
    if number == "5.5":
        assert (numbers[[c for c in numbers if "|Γ|" in c]] > 0).all(axis=None)
    if number == "5.8":
        memory = numbers["ours generated long memory MiB"].tolist()
        assert memory[0] < memory[2] < memory[4]
        assert memory[1] > memory[0]  # READMem keeps the keys as well
        assert (book.results["encoder_passes_saved"] == 0).all()


def test_figure_and_all_from_the_command_line(small: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kept in (("RECIPES", {"5.6"}), ("FIGURES", {"5.5"})):
        monkeypatch.setattr(tables, name, {number: one for number, one in getattr(tables, name).items() if number in kept})

    def call(*words: str) -> dict:
        parser = argparse.ArgumentParser()
        table_cli.add_arguments(parser)
        return table_cli.run(parser.parse_args([*words, "--out", str(small), "--device", "cpu"]))

    one, same = call("figure", "5.5"), call("figure-5.5")
    assert one["rows"] == same["rows"]
    assert (same["kind"], same["reuse"]["made"]) == ("figure", 0)
    assert "Figure 5.5 — READMem-MiVOS" in capsys.readouterr().out
    found = call("all")
    shown = capsys.readouterr().out.splitlines()
    assert [(m["kind"], m["number"]) for m in found["made"]] == [("table", "5.6"), ("figure", "5.5")]
    assert shown[-1].startswith("all ")
    assert found["seconds"] == pytest.approx(sum(m["seconds"] for m in found["made"]), abs=0.02)
    for m in found["made"]:
        assert len(pd.read_csv(m["file"]))
    with pytest.raises(InputError, match=r"no figure '5\.9' to make; there are 5\.5"):
        call("figure", "5.9")
    with pytest.raises(InputError, match=r"'5\.1 5\.2' is not one table"):
        call("5.1", "5.2")
    with pytest.raises(InputError, match="--save is for one table"):
        call("all", "--save", "x.csv")


def test_all_at_paper_scale_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYVOS_DATA", str(tmp_path))
    parser = argparse.ArgumentParser()
    table_cli.add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    found = table_cli.run(parser.parse_args(["all", "--scale", "paper", "--out", str(tmp_path / "o"), "--json"]))
    assert all("at paper scale needs" in m["error"] for m in found["made"])
    assert len(found["made"]) == len(RECIPES) + len(FIGURES)


def test_random_weights_and_strange_ones_are_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "shipped", lambda: ())
    book = make_figure("5.5", Setting(device="cpu"), out=small, progress=False)
    assert "tiny ran with random weights: its numbers are noise." in book.notes
    with pytest.raises(InputError, match="no experiment here takes weights called 'mivos'; they take tiny"):
        make_table("5.6", Setting(weights={"mivos": "x.pth"}), out=small, progress=False)


def test_truth_of_first_frames_is_no_truth(tmp_path: Path) -> None:
    folder = tmp_path / "VOTS2023" / "one"
    (folder / "color").mkdir(parents=True)
    (folder.parent / "list.txt").write_text("one\n")
    from PIL import Image

    for t in range(3):
        Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(folder / "color" / f"{t:08d}.jpg")
    vots.write_regions(folder / "groundtruth.txt", [np.ones((64, 96), bool)])
    setting = Setting("paper", data={"VOTS2023": str(folder.parent)})
    with pytest.raises(InputError, match=r"5\.2 at paper scale needs VOTS2023 .* lacks the truth of most frames"):
        make_table("5.2", setting, out=tmp_path / "o", progress=False)


def test_a_smoke_network_can_be_given_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(readmem_arms.SMOKE_NETWORKS, "MiVOS", "tiny-stm")
    setting = Setting(weights={"tiny-stm": "f.safetensors"})
    e = Arm("MiVOS", "fifo").experiment(setting, places(setting, {}, "LV1")[0])
    assert e is not None
    assert (e.backbone, e.weights) == ("tiny-stm", "f.safetensors")


def test_paper_arms_can_be_built_with_their_memories() -> None:
    with torch.device("meta"):
        net = STCN().eval()
    for arm in (Arm("QDMN", "qdmn"), Arm("XMem", "longterm", 1), Arm("MiVOS", "watched", 5), Arm("STCN", "readmem", options={"initialisation": "annotated_copies"})):
        e = arm.experiment(Setting("paper"), places(Setting("paper"), FOUND, "LV1")[0])
        assert e is not None
        tracker = build_tracker(e, "cpu", net)
        assert tracker.size == 480
        assert tracker.refiner is None
