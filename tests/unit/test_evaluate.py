"""Evaluation of DAVIS-layout folders: scores, masks, and results that are not made twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lazyvos import evaluate
from lazyvos.evaluate import EvalConfig, evaluate_folder, first_clicks
from lazyvos.masks import read_mask, write_mask
from lazyvos.metrics import evaluate_sequence
from lazyvos.types import InputError

SIZE, LENGTH = (64, 96), 6
CONFIG = EvalConfig(size=64, device="cpu")


def _truth(name: str, t: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, 5 + 4 * t : 35 + 4 * t] = 1
    if name == "two":
        labels[40:60, 60 - 4 * t : 90 - 4 * t] = 2
    if t == 0 and name == "late":
        labels[:] = 0
    if t > 2 and name == "late":
        labels[40:50, 40:50] = 7  # not in the first mask: the protocol leaves it out
    return labels


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("davis")
    rng = np.random.default_rng(0)
    for name in ("one", "two", "late"):
        for t in range(LENGTH):
            labels = _truth(name, t)
            picture = rng.integers(70, 90, (*SIZE, 3)).astype(np.uint8)
            picture[labels == 1] = (230, 60, 30)
            picture[labels == 2] = (30, 70, 230)
            file = folder / "JPEGImages" / "480p" / name / f"{t:05d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file, quality=95)
            write_mask(folder / "Annotations" / "480p" / name / f"{t:05d}.png", labels)
    (folder / "ImageSets").mkdir()
    (folder / "ImageSets" / "val.txt").write_text("one\ntwo\nlate\n")
    return folder


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("out")
    return out, evaluate_folder(root, "val", out, CONFIG, progress=False)


def test_scores_are_the_protocols_for_the_masks_written(root: Path, done) -> None:
    out, summary = done
    means = []
    for name, start in (("one", 0), ("two", 0), ("late", 1)):
        masks = [read_mask(out / name / f"{t:05d}.png", SIZE) for t in range(LENGTH)]
        truth = [np.where(_truth(name, t) == 7, 0, _truth(name, t)) for t in range(LENGTH)]
        score = evaluate_sequence(masks[start:], truth[start:], name)
        record = summary["sequences"][name]
        assert (record["J"], record["F"], record["JF"]) == pytest.approx((score.J, score.F, score.JF))
        assert [o["id"] for o in record["objects"]] == [o.id for o in score.objects]
        means += [o.JF for o in score.objects]
    assert summary["JF"] == pytest.approx(np.mean(means))  # over objects, not sequences
    assert summary["objects"] == 4
    assert 0 <= summary["J"] <= 1
    assert summary["frames"] == 3 * LENGTH - 1
    assert summary["fps"] > 0
    assert set(summary["R"]) == {"0.1", "0.25", "0.5"}
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(summary))


def test_first_mask_is_kept_and_objects_that_come_later_are_named(done) -> None:
    out, summary = done
    assert np.array_equal(read_mask(out / "two" / "00000.png"), _truth("two", 0))
    assert not read_mask(out / "late" / "00000.png").any()
    assert np.array_equal(read_mask(out / "late" / "00001.png"), _truth("late", 1))
    assert summary["sequences"]["late"]["later_objects"] == [7]
    assert summary["sequences"]["two"]["later_objects"] == []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sequences that are really tracked."""
    names: list[str] = []
    real = evaluate._evaluate
    monkeypatch.setattr(evaluate, "_evaluate", lambda clip, *rest: names.append(clip.name) or real(clip, *rest))
    return names


def test_finished_sequences_are_not_repeated(root: Path, done, made: list[str]) -> None:
    out, summary = done
    assert evaluate_folder(root, "val", out, CONFIG, progress=False) == summary
    assert made == []
    (out / "two" / "00003.png").unlink()
    again = evaluate_folder(root, "val", out, CONFIG, progress=False)
    assert made == ["two"]
    assert (again["J"], again["F"], again["R"]) == (summary["J"], summary["F"], summary["R"])
    (out / "results" / "one.json").write_text('{"sequence": "one", "key": ')  # a crash of another program
    evaluate_folder(root, "val", out, CONFIG, progress=False)
    assert made == ["two", "one"]


def test_force_other_settings_and_other_frames_are_done_again(root: Path, tmp_path: Path, made: list[str]) -> None:
    split = tmp_path / "mine.txt"
    split.write_text("one\n")
    out = tmp_path / "out"
    evaluate_folder(root, split, out, CONFIG, progress=False)
    evaluate_folder(root, split, out, CONFIG, progress=False, force=True)
    assert made == ["one"] * 2
    evaluate_folder(root, split, out, EvalConfig(size=48, device="cpu"), progress=False)
    assert made == ["one"] * 3
    key = evaluate.result_key(CONFIG, CONFIG.tracker())
    assert key == evaluate.result_key(CONFIG, CONFIG.tracker())
    tracker = CONFIG.tracker()
    next(tracker.backbone.parameters()).data.add_(0.01)
    assert evaluate.result_key(CONFIG, tracker) != key


def test_click_start_asks_for_one_click_an_object(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = tmp_path / "mine.txt"
    split.write_text("two\n")
    given = []
    real = EvalConfig.tracker

    def spied(config: EvalConfig):
        tracker = real(config)
        track = tracker.track
        tracker.track = lambda *a, **k: given.append(k) or track(*a, **k)
        return tracker

    monkeypatch.setattr(EvalConfig, "tracker", spied)
    summary = evaluate_folder(root, split, tmp_path / "out", EvalConfig(start="click", size=64, device="cpu"), progress=False)
    assert [set(k) for k in given] == [{"clicks"}]
    clicks = given[0]["clicks"]
    assert [click.object for click in clicks] == [1, 2]
    for click in clicks:
        assert _truth("two", 0)[int(click.y), int(click.x)] == click.object
    assert summary["objects"] == 2
    assert summary["user_corrections"] == 0


def test_first_clicks_lie_deep_inside() -> None:
    labels = np.zeros((50, 50), np.uint8)
    labels[10:31, 5:36] = 4
    (click,) = first_clicks(labels, [4, 9])
    assert click.object == 4
    assert (click.y, 15 <= click.x <= 25) == (20, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "nope"}, "no split nope; it has val"),
        ({"root": "elsewhere"}, "is not a folder"),
        ({"config": {"memory": "elephant"}}, "elephant"),
        ({"config": {"backbone": "huge"}}, "huge"),
        ({"config": {"weights": "none.pth"}}, r"none\.pth"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(root: Path, tmp_path: Path, change: dict, message: str) -> None:
    config = EvalConfig(**{"size": 64, "device": "cpu", **change.get("config", {})})
    with pytest.raises(InputError, match=message):
        evaluate_folder(change.get("root", root), change.get("split", "val"), tmp_path / "out", config, progress=False)
    assert not (tmp_path / "out").exists()


def test_wrong_start_is_refused() -> None:
    with pytest.raises(InputError, match="choose mask or click"):
        EvalConfig(start="box")  # type: ignore[arg-type]
