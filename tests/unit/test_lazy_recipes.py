"""The recipes of chapter 6: published settings, what runs at smoke scale, series of scores, and the data of the figures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lazyvos.build import make_memory, make_policy, make_tracker
from lazyvos.experiments import Experiment, lazy_arms, lazy_figures, lockstep, run
from lazyvos.experiments.data import open_dataset
from lazyvos.experiments.lazy import DESIGN, IMPERFECT, LAZY, PERFECT, RAND, TRIGGER, lvos_jf
from lazyvos.experiments.lazy_arms import REFINER, Arm, places
from lazyvos.experiments.lazy_figures import ENSEMBLES, MEASURES, boxes, followed, heat_maps
from lazyvos.experiments.recipe import Point, Setting
from lazyvos.experiments.tables import FIGURES, RECIPES, TABLES, make_figure, make_table, published
from lazyvos.hub import shipped
from lazyvos.interact import Lazy, RandomBudget
from lazyvos.interact.pseudo import pseudo_point
from lazyvos.memory import LongTermMemory
from lazyvos.memory.prototypes import Limits
from lazyvos.metrics.correlation import object_correlation
from lazyvos.registry import releases
from lazyvos.types import InputError

CHAPTER = [number for number in TABLES if number.startswith("6.")]
FOUND = {"LVOS": "a", "D17": "b"}
ROWS = {"6.1": IMPERFECT, "6.2": PERFECT, "6.3": DESIGN, "6.4": TRIGGER}
CLIP = {"dataset": "generated:smoke", "dataset_options": {"length": 8, "size": (64, 96)}, "sequences": ("away-s0",), "size": 64, "device": "cpu",
        "memory_options": {"slots": 3, "every": 2}}  # fmt: skip
EAGER = {"tau_user": 0.02, "tau_pseudo": 0.005}


def cells_of(number: str, scale):
    return RECIPES[number].cells(Setting(scale), FOUND if scale == "paper" else {})


def record_of(**changes) -> dict:
    e = Experiment(**{"name": "one", **CLIP, **changes})
    (record,) = lockstep.evaluate_group([e], open_dataset(e)["away-s0"], "cpu")
    return {**record, "sequence": "away-s0", "machine": {"gpu": None, "cpu": "c"}}


# what is asked for


def test_the_chapter_is_whole() -> None:
    assert {number for number in RECIPES if number.startswith("6.")} == set(CHAPTER) == set(ROWS)
    assert {number for number in FIGURES if number.startswith("6.")} == {"6.3", "6.4", "6.5"}


@pytest.mark.parametrize("number", CHAPTER)
def test_every_row_of_the_paper_is_there(number: str) -> None:
    """All rows are shown; those of trackers that lazyvos does not have are the only ones without an experiment."""
    table = published(number)
    wanted = table[~table.get("method", table["configuration"]).isin(["DEVA", "Cutie-base", "Cutie-small", "DDMemory"])]
    assert {(c.row, c.column) for c in cells_of(number, "paper")} == set(zip(wanted["row"], wanted["column"]))
    small = {c.row for c in cells_of(number, "smoke")}
    assert small == {row for row, arm in ROWS[number].items() if arm.method == "XMem"}
    assert all(c.ran.startswith("tiny, long-term memory, r=5, ") for c in cells_of(number, "smoke"))


def test_rows_follow_the_columns_of_the_thesis() -> None:
    for number, rows in ROWS.items():
        table = published(number).drop_duplicates("row").set_index("row")
        for row, arm in rows.items():
            said = table.loc[row]
            assert said["start"] == {"click": "imperfect", "mask": "perfect"}[arm.start]
            for name in ("udu", "pseudo", "pseudo_idu", "user", "user_idu"):
                if name in said:
                    assert (said[name] == "yes") == getattr(arm, name), (number, row, name)
            if number in ("6.1", "6.2"):
                assert ("QDMN" in said["method"], "Lazy" in said["method"]) == (arm.method == "QDMN", bool(arm.parts))
                assert ("Rand" in said["method"], "†" in said["configuration"]) == (arm.trigger == "random", arm.pseudo and not arm.user)
            if number == "6.4":
                assert (said["trigger"] or "delta") == arm.trigger
                assert (arm.truth, arm.pseudo) == (arm.user, False)


def test_published_settings_make_the_published_tracker() -> None:
    (place,) = places(Setting("paper"), FOUND, "LVOS")
    e = LAZY.experiment(Setting("paper"), place)
    assert e is not None
    assert (e.backbone, e.weights, e.refiner, e.size, e.user, e.start) == ("xmem", "xmem-s012", REFINER, 480, "simulated", "click")
    assert releases()[REFINER].network == "sam-hq:vit_b"
    assert make_policy(e.policy, **e.policy_options) == Lazy()  # the defaults are the published ones
    made = make_memory(e.memory, **e.memory_options)
    assert isinstance(made, LongTermMemory)
    assert made.limits == Limits(10, 5, 128, 10000)
    rand = RAND.experiment(Setting("paper", seed=3), place)
    assert rand is not None
    assert make_policy(rand.policy, **rand.policy_options) == RandomBudget(325 / 43000, 3, Lazy(ask=False))
    level = TRIGGER[2].experiment(Setting("paper"), place)
    assert level is not None
    assert make_policy(level.policy, **level.policy_options) == Lazy(trigger="level", pseudo=False, user_idu=False)
    quality = IMPERFECT[8].experiment(Setting("paper"), place)
    assert quality is not None
    assert (quality.backbone, quality.memory, quality.uncertainty) == ("qdmn", "qdmn", "quality")


def test_tables_share_results_and_no_configuration_has_two_names() -> None:
    def config(number: str, row: int) -> dict:
        (cell,) = [c for c in cells_of(number, "paper") if (c.row, c.column) == (row, "J&F")]
        return cell.experiment.config()

    for here, there in ((2, 1), (6, 3), (9, 7)):
        assert config("6.1", here) == config("6.3", there)
    assert config("6.2", 2) == config("6.4", 1)
    for scale in ("smoke", "paper"):
        everything = {cell.experiment for number in CHAPTER for cell in cells_of(number, scale)}
        assert len({e.name for e in everything}) == len(everything) == len({str(e.config()) for e in everything})


def test_only_what_clicks_has_a_refiner() -> None:
    assert all(cell.experiment.clicks for cell in cells_of("6.1", "smoke"))
    assert not any(cell.experiment.clicks for cell in cells_of("6.4", "smoke"))
    assert cells_of("6.4", "paper")[-1].experiment.config()["refiner"] is None
    for options, clicks in (
        ({"user": "simulated"}, False), ({"policy": "lazy"}, True), ({"policy": "lazy", "policy_options": {"pseudo": False}}, False),
        ({"policy": "lazy", "policy_options": {"pseudo": False}, "user": "simulated"}, True), ({"policy": "always", "user": "mask"}, True),
        ({"policy": "lazy", "policy_options": {"pseudo": False}, "user": "nobody"}, False), ({"start": "click"}, True),
        ({"policy": "lazy", "policy_options": {"pseudo": False}, "user": "simulated", "user_options": {"name": "mask"}}, False),
    ):  # fmt: skip
        assert Experiment(name="x", dataset="d", **options).clicks == clicks


def test_figures_at_paper_scale() -> None:
    points = FIGURES["6.5"].points(Setting("paper"), FOUND)
    assert [(p.labels["data"], p.labels["tracker"]) for p in points] == [(d, t) for d in ("D17", "LVOS") for t in MEASURES]
    names = {p.labels["tracker"]: p.experiment for p in points}
    assert (names["E"].backbone, names["E"].weights) == ("xmem+xmem+xmem", "xmem+xmem-s012+xmem-s2")
    assert all(releases()[name].network == "xmem" for name in ENSEMBLES["paper"])
    assert names["M"].uncertainty_options["passes"] == 20
    assert all(not p.experiment.clicks for p in points)
    for number in ("6.3", "6.4"):
        (point,) = FIGURES[number].points(Setting("paper"), FOUND)
        assert (point.experiment.sequences, point.experiment.dataset) == (("judo",), "davis17-val")


def test_small_figure_shares_the_plain_run_of_a_table() -> None:
    (plain,) = {c.experiment for c in cells_of("6.2", "smoke") if c.row == 2}
    (point,) = FIGURES["6.3"].points(Setting(), {})
    assert point.experiment.config() == plain.config()
    shown = {p.labels["tracker"] for p in FIGURES["6.5"].points(Setting(), {})}
    assert shown == {"X"} | ({"M"} if "tiny-drop" in shipped() else set()) | ({"E"} if {"tiny-b", "tiny-c"} <= set(shipped()) else set())


# what the engine notes


def test_scores_are_those_of_the_plain_tracker() -> None:
    found = record_of(watch={"S_R": {"name": "entropy"}, "S": {"name": "frame-entropy"}})
    clip = open_dataset(Experiment(name="x", **CLIP))["away-s0"]
    tracker = make_tracker(memory="fifo", memory_options=CLIP["memory_options"], policy="never", refiner=None, size=64, device="cpu")
    steps = list(tracker.track(clip.frames, mask=clip.mask(0)))
    for o in found["objects"]:
        s = o["series"]
        assert s["t"] == list(range(8))
        assert s["score"] == [None, *(step.original.scores[o["id"]] for step in steps[1:])]
        assert s["S_R"] == s["score"]
        assert s["S"] == [None, *(pytest.approx(step.original.entropy.sum(dtype=np.float64)) for step in steps[1:])]
        assert s["area"] == [None, *((step.original.labels == o["id"]).sum() for step in steps[1:])]
    plain = record_of()
    assert [o["J"] for o in plain["objects"]] == [o["J"] for o in found["objects"]]


def test_the_user_with_masks_is_always_right() -> None:
    found = record_of(policy="lazy", policy_options={**EAGER, "pseudo": False}, user="mask")
    again = record_of(policy="lazy", policy_options={**EAGER, "pseudo": False}, user="simulated", user_options={"correct_with": "ground_truth"})
    assert found["objects"] == again["objects"]
    assert sum(len(o["asked"]) for o in found["objects"]) > 0
    for o in found["objects"]:
        assert o["clicked"] == o["asked"]
        assert o["pseudo"] == []
        assert all(o["series"]["j"][t] == 1 for t in o["clicked"] if not any(t in other["clicked"] for other in found["objects"] if other is not o))


@pytest.mark.parametrize("user", ["nobody", "late"])
def test_users_by_name(user: str) -> None:
    found = record_of(policy="lazy", policy_options={**EAGER, "pseudo": False}, user=user, start="click")
    asked, clicked = ([t for o in found["objects"] for t in o[what]] for what in ("asked", "clicked"))
    assert asked
    assert clicked == [] if user == "nobody" else set(clicked).isdisjoint(asked) or min(clicked) > min(asked)


def test_networks_of_refiners_are_loaded_once() -> None:
    lockstep.forget_networks()
    e = Experiment(name="x", **CLIP, start="click")
    one, two = lockstep.build_tracker(e, "cpu"), lockstep.build_tracker(e, "cpu")
    other = lockstep.build_tracker(Experiment(name="y", **CLIP, start="click", refiner_options={"sizes": [64]}), "cpu")
    assert one.refiner is not two.refiner
    assert one.refiner.net is two.refiner.net  # type: ignore[union-attr]
    assert other.refiner.sizes == (64,)  # type: ignore[union-attr]
    lockstep.forget_networks()


def test_what_cannot_be_watched_is_said_before_work() -> None:
    for watch, why in (({"V": {"name": "epistemic"}}, "needs parts"), ({"Q": {"name": "quality"}}, "needs quality"), ({"x": {"name": "nothing"}}, "'nothing' is unknown"),
                       ({"x": {}}, "cannot be built"), ({"M": {"name": "dropout"}}, "cannot watch 'M'")):  # fmt: skip
        with pytest.raises(InputError, match=why):
            lockstep.build_tracker(Experiment(name="x", **CLIP, watch=watch), "cpu")


def test_an_ensemble_is_given_by_its_names() -> None:
    members = {"backbone": "tiny+tiny", "weights": "tiny+tiny", "uncertainty": "epistemic"}
    both = {**CLIP, "watch": {"S_R": {"name": "entropy"}, "V": {"name": "epistemic", "masked": False}}}
    found = record_of(**{**both, **members})
    alone = record_of(watch={"S_R": {"name": "entropy"}})
    for o, plain in zip(found["objects"], alone["objects"], strict=True):
        assert o["series"]["S_R"][1:] == pytest.approx(plain["series"]["score"][1:], abs=1e-3)  # two equal members are one
        assert max(o["series"]["score"][1:]) == pytest.approx(0, abs=1e-5)
        assert o["J"] == pytest.approx(plain["J"], abs=1e-2)
    with pytest.raises(InputError, match="weights"):
        lockstep.build_tracker(Experiment(name="x", **{**CLIP, **members, "weights": "tiny"}), "cpu")


# the books and figures


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """Smoke scale with a clip of 8 frames of three objects, and a refiner that looks at few pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lazy_arms.CROWD, "dataset_options", {"seeds": [2], "length": 8, "size": [64, 96]})
        patch.setitem(lazy_arms.CROWD, "sequences", ("crowd-s2",))
        patch.setitem(lazy_arms.SMOKE_REFINER, "sizes", [64])
        patch.setitem(lazy_arms.RATES, "smoke", 0.5)
        patch.setitem(lazy_figures.PASSES, "smoke", 2)
        yield tmp_path_factory.mktemp("books")


def test_book_at_smoke_scale(small: Path) -> None:
    book = make_table("6.2", Setting(device="cpu"), out=small, progress=False)
    ours = book.frame.filter(regex="^ours")
    measures = ["J&F", "R@0.1", "R@0.25", "R@0.5", "ACI", "NoC", "IDI"]
    assert list(ours) == [f"ours generated crowd {m}" for m in measures]
    ran = book.frame["ran"] != ""
    assert ran.tolist() == [False, True, False, False, False, False, True, True, True]
    assert (ours[~ran] == "").all(axis=None)
    assert book.frame["paper J&F"].tolist()[2] == "60.7"
    assert (ours[ran].iloc[:, :4] != "").all(axis=None)
    work = ours.iloc[:, 4:]
    assert (work[ran].iloc[:2] == "").all(axis=None)
    chance = work.iloc[7]
    assert int(chance["ours generated crowd NoC"]) > 0
    assert float(chance["ours generated crowd IDI"]) < float(work.iloc[8]["ours generated crowd IDI"])
    assert any("Smoke scale" in note for note in book.notes)
    again = make_figure("6.3", Setting(device="cpu"), out=small, progress=False)
    assert (again.report.made, again.report.finished) == (0, 1)  # the table's own run


def test_figures_at_smoke_scale(small: Path) -> None:
    curve = make_figure("6.3", Setting(device="cpu"), out=small, progress=False).frame
    assert sorted(set(curve["object"])) == [1, 2, 3]
    assert sorted(set(curve["frame"])) == list(range(1, 8))
    rise = curve[curve["object"] == 2]["S_R"].diff().iloc[1:]
    assert curve[curve["object"] == 2]["ΔS_R"].iloc[1:].to_numpy() == pytest.approx(rise.to_numpy())
    maps = make_figure("6.4", Setting(device="cpu"), out=small, progress=False).frame
    best = maps.loc[maps["product"].idxmax()]
    assert maps[maps["click"] == 1][["x", "y"]].to_numpy().tolist() == [[best["x"], best["y"]]]
    assert (maps[maps["mask"] == 0]["distance"] == 0).all()
    assert maps["distance"].max() == 1
    largest = curve.loc[curve["ΔS_R"].idxmax()]
    assert (maps["object"].iloc[0], maps["frame"].iloc[0]) == (largest["object"], largest["frame"])


def test_boxes_of_every_estimator(small: Path) -> None:
    """The ensemble runs with whatever weights it is given."""
    setting = Setting(device="cpu", weights={"tiny-b": "tiny-drop", "tiny-c": "tiny"})
    book = make_figure("6.5", setting, out=small, progress=False)
    assert {f"{t}-{m}" for t in "XE" for m in MEASURES[t]} <= set(book.frame["estimator"])
    assert (book.frame["objects"] + book.frame["undefined"] == 3).all()
    assert book.frame["median"].dropna().between(-1, 1).all()
    shared = {t: book.frame.set_index("estimator").loc[f"{t}-S_R", "seconds"] for t in "XE"}
    assert shared["E"] == book.frame.set_index("estimator").loc["E-V", "seconds"]  # one run for all of a tracker's estimators
    assert not any("random weights" in note for note in book.notes)


def test_predicted_is_what_was_recorded(tmp_path: Path) -> None:
    e = Experiment(name="x", **CLIP, policy="lazy", policy_options=EAGER, start="click", user="simulated", refiner_options={"sizes": [64]})
    (record,) = [r.record for r in run([e], out=tmp_path, progress=False)]
    clip = open_dataset(e)["away-s0"]
    found = lockstep.predicted(e, clip, "cpu", 5)
    assert found.t == 5
    assert {o["id"]: o["series"]["score"][5] for o in record["objects"]} == dict(found.scores)
    with pytest.raises(InputError, match=r"frame 8 .* is not tracked; frames are 0\.\.7"):
        lockstep.predicted(e, clip, "cpu", 8)


def series(t, j, score, area=None, **more) -> dict:
    return {"t": t, "j": j, "score": score, "area": [9] * len(t) if area is None else area, **more}


def made_up(*objects: dict) -> dict:
    return {"sequence": "a", "seconds": 1.0, "machine": {"gpu": None, "cpu": "c"}, "objects": [{"id": i, "series": s} for i, s in enumerate(objects, 1)]}


def test_boxes_leave_out_what_has_no_mask_and_keep_the_sign() -> None:
    t, j = list(range(6)), [1, 0.9, 0.8, 0.5, 0.0, 0.6]
    entropy, area = [None, 0.1, 0.2, 0.3, 0.0, 0.25], [None, 9, 9, 9, 0, 9]
    worse = [None, 0.1, 0.2, 0.3, 0.5, 0.25]
    point = Point(Experiment(name="q", dataset="d"), {"data": "d", "tracker": "Q"})
    table = boxes([point], {"q": [made_up(series(t, j, worse, area, S=entropy, S_R=entropy))]}).set_index("estimator")
    assert list(table.index) == ["QAM", "Q-S", "Q-S_R"]
    assert table.loc["QAM", "median"] == pytest.approx(1)  # u = 1 - q, turned
    assert table.loc["Q-S_R", "median"] == pytest.approx(1)
    assert table.loc["Q-S", "median"] == pytest.approx(object_correlation([math.nan, *entropy[1:]], j))
    assert table.loc["Q-S", "median"] < 1
    assert boxes([point], {}).empty


def test_the_largest_rise_with_a_mask_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(lazy_figures, "_window", lambda e, s, t, o: asked.append((s, t, o)) or lazy_figures.pd.DataFrame({"x": [1]}))
    point = Point(Experiment(name="x", dataset="d"), {"data": "d"})
    two = made_up(series([0, 1, 2], [1, 1, 1], [None, 0.1, 0.9], [9, 9, 0]), series([0, 1, 3], [1, 1, 1], [None, 0.1, 0.3]))
    heat_maps([point], {"x": [two]})
    assert asked == [("a", 3, 2)]
    assert followed([point], {"x": [two]})["frame"].tolist() == [1, 2, 1, 3]
    assert heat_maps([point], {"x": []}).empty


def test_click_of_the_window_is_the_pseudo_click() -> None:
    e = Experiment(name="x", **CLIP)
    found = lockstep.predicted(e, open_dataset(e)["away-s0"], "cpu", 3)
    window = lazy_figures._window(e, "away-s0", 3, 1)
    at = window[window["click"] == 1][["x", "y"]].to_numpy()[0]
    assert tuple(at) == pseudo_point(found.labels == 1, found.entropy)
    assert window["mask"].sum() == (found.labels == 1).sum()


def test_jf_of_lvos_is_the_mean_of_both_halves() -> None:
    def one(name: str, jf: float, unseen: bool | None) -> dict:
        o = {"id": 1, "J": jf, "F": jf, "JF": jf, "J_recall": 1, "F_recall": 1, "J_decay": 0, "F_decay": 0, "R": {"0.5": 1.0}, "V": 0.1, "scored": 8, "entry": 0,
             "asked": [], "clicked": [], "pseudo": []}  # fmt: skip
        return {"sequence": name, "dataset": "d", "objects": [o], "machine": {"gpu": None, "cpu": "c"}, "user": "none", "frames": 10, "start": 0, "unseen": unseen,
                "memory": {"log_gram": None}, "clip_fps": 6, "seconds": 1, "fps": 1, "peak_mib": None, "encoder": {"passes": 1, "saved": 0}, "scale": "paper",
                "facts": {"precision": "fp32"}}  # fmt: skip

    assert lvos_jf([one("a", 0.2, True), one("b", 0.6, False), one("c", 0.8, False)]) == pytest.approx(0.45)
    assert lvos_jf([one("a", 0.2, None), one("b", 0.6, None)]) == pytest.approx(0.4)
    assert math.isnan(lvos_jf([]))


def test_paper_arms_can_be_built() -> None:
    from lazyvos.backbones.qdmn import QDMN
    from lazyvos.uncertainty import Quality

    with torch.device("meta"):
        net = QDMN().eval()
    (place,) = places(Setting("paper"), FOUND, "LVOS")
    e = IMPERFECT[8].experiment(Setting("paper"), place)
    assert e is not None
    tracker = lockstep.build_tracker(replace(e, refiner=None), "cpu", net)
    assert (tracker.size, tracker.memory.kind) == (480, "qdmn")
    assert isinstance(tracker.uncertainty, Quality)
    assert Arm("QDMN").experiment(Setting(), places(Setting(), {}, "LVOS")[0]) is None
