"""`lazyvos data`: lists what is known, says what to get, and finds everything that is wrong with a copy."""
from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from lazyvos import data_cli
from lazyvos.datasets import check_dataset, write_regions
from lazyvos.masks import write_mask
from lazyvos.types import InputError

_spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("test_datasets.py"))
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)
H, W = layouts.H, layouts.W


def call(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    data_cli.add_arguments(parser)
    return data_cli.run(parser.parse_args([str(word) for word in words]))


def kinds(report):
    return sorted({problem.kind for problem in report.problems})


def checked(root, name=None, **options):
    return check_dataset(root, name, progress=False, jobs=2, **options)


def test_list(tmp_path, monkeypatch, capsys):
    layouts.lvos(tmp_path / "LVOS")
    monkeypatch.setenv("LAZYVOS_DATA", str(tmp_path))
    facts = call("list")
    rows = {entry["name"]: entry for entry in facts["datasets"]}
    assert rows["lvos-val"]["found"] == str(tmp_path / "LVOS")
    assert rows["lvos-test"]["found"] is None
    assert rows["davis17-val"]["sequences"] == 30
    assert rows["mose-val"]["sequences"] == "unknown"
    assert any(entry["name"] == "generated:long" for entry in facts["generated"])
    shown = capsys.readouterr().out
    assert "ytvos19-valid" in shown
    assert str(tmp_path / "LVOS") in shown
    json.dumps(facts)
    assert call("list", "--json", "--root", tmp_path)["folder"] == str(tmp_path)
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="--root"):
        call("list", "--root", tmp_path / "none")


def test_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAZYVOS_DATA", str(tmp_path))
    facts = call("where", "ytvos19-valid")
    assert facts["url"] == "https://youtube-vos.org/dataset/vos"
    shown = capsys.readouterr().out
    assert "valid/meta.json" in shown
    assert "unknown; read its terms" in shown
    assert "not found" in shown
    assert "LVOS" in call("where", "lvos-val", "--json")["places"][0]
    assert call("where", "generated:multi")["sequences"] == 12
    with pytest.raises(InputError, match="no dataset 'davis'"):
        call("where", "davis")


def test_check_of_a_whole_copy(tmp_path, capsys):
    layouts.davis(tmp_path)
    facts = call("check", tmp_path)
    assert facts["ok"]
    assert (facts["sequences"], facts["frames"], facts["masks"], facts["objects"]) == (1, 4, 4, 2)
    assert "nothing is wrong" in capsys.readouterr().out
    with pytest.raises(InputError, match="is not a folder"):
        call("check", tmp_path / "none")
    with pytest.raises(InputError, match="neither JPEGImages"):
        call("check", tmp_path / "JPEGImages")
    with pytest.raises(InputError, match="no dataset 'x'"):
        call("check", tmp_path, "--as", "x")
    with pytest.raises(InputError, match="jobs is 0"):
        call("check", tmp_path, "--jobs", 0)


def test_check_names_all_problems_at_once(tmp_path, capsys):
    for name in "abc":
        layouts.davis(tmp_path, name, level="")
    images, masks = tmp_path / "JPEGImages", tmp_path / "Annotations"
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 255, (H, W, 3)).astype(np.uint8)
    layouts.Image.fromarray(noisy).save(images / "a" / "00001.jpg")
    whole = (images / "a" / "00001.jpg").read_bytes()
    (images / "a" / "00001.jpg").write_bytes(whole[:-40])
    (images / "a" / "00002.jpg").write_bytes(b"")
    layouts.Image.fromarray(np.zeros((H, W + 2, 3), np.uint8)).save(images / "b" / "00003.jpg")
    write_mask(masks / "b" / "00000.png", np.ones((H + 1, W), np.uint8))
    write_mask(masks / "b" / "00009.png", np.ones((H, W), np.uint8))
    (masks / "c" / "00001.png").write_bytes((masks / "c" / "00001.png").read_bytes()[:60])
    for t in (0, 2, 3):
        write_mask(masks / "c" / f"{t:05d}.png", np.zeros((H, W), np.uint8))
    layouts.mask(masks / "d" / "00000.png")
    report = checked(tmp_path)
    assert not report.ok
    assert kinds(report) == ["ids", "size", "stray", "unreadable"]
    texts = "\n".join(f"{problem.path}: {problem.text}" for problem in report.problems)
    for wanted in ("a/00001.jpg is cut off", "a/00002.jpg is not an image", "00003.jpg is 18x12", "mask 00000.png is 16x13",
                   "mask 00009.png of b has no frame", "c/00001.png", "no mask of c holds an object", "masks of d but no frames"):
        assert wanted in texts
    facts = call("check", tmp_path)
    assert facts["problem_count"] == len(report.problems)
    assert not facts["ok"]
    assert f"{len(report.problems)} problems" in capsys.readouterr().out
    assert json.loads(json.dumps(facts))["problems"][0]["kind"]


def test_only_the_first_problems_unless_all(tmp_path, capsys):
    layouts.davis(tmp_path, frames=25, level="")
    for file in (tmp_path / "Annotations" / "bear").iterdir():
        file.write_bytes(b"")
    few, every = call("check", tmp_path), call("check", tmp_path, "--all", "--json")
    assert (len(few["problems"]), few["problem_count"]) == (10, 25)
    assert len(every["problems"]) == 25
    assert "and 15 more; --all names them" in capsys.readouterr().out


def test_deep_finds_damage_inside(tmp_path):
    layouts.davis(tmp_path, level="")
    png = tmp_path / "JPEGImages" / "bear" / "00002.png"
    layouts.Image.fromarray(np.random.default_rng(0).integers(0, 255, (H, W, 3)).astype(np.uint8)).save(png)
    (tmp_path / "JPEGImages" / "bear" / "00002.jpg").unlink()
    data = bytearray(png.read_bytes())
    data[100:140] = bytes(40)
    png.write_bytes(bytes(data))
    assert checked(tmp_path).ok, "its end looks right"
    assert kinds(checked(tmp_path, deep=True)) == ["unreadable"]


def test_counts_and_splits(tmp_path):
    layouts.davis(tmp_path)
    layouts.lists(tmp_path, **{"2017_val": ["bear", "zebra"]})
    (tmp_path / "Annotations" / "480p" / "bear" / "00002.png").unlink()
    report = checked(tmp_path, "davis17-val")
    texts = [problem.text for problem in report.problems]
    assert texts[0] == "DAVIS 2017, validation has 30 sequences, this copy has 1"
    assert "zebra has no frames" in texts
    assert any("1 frames of bear have no mask, the first is 00002" in text for text in texts)
    assert not any("no mask" in problem.text for problem in checked(tmp_path).problems), "any folder may be sparse"
    assert any("0 of 3 sets of scribbles" in problem.text for problem in checked(tmp_path, "davis17-interactive-val").problems)
    assert any("no split" in problem.text for problem in checked(tmp_path, "davis17-test-dev").problems)


def test_check_against_meta(tmp_path):
    layouts.youtube(tmp_path / "yt")
    base = tmp_path / "yt" / "valid"
    assert checked(base).ok
    assert checked(base).objects == 6
    layouts.mask(base / "Annotations" / "b1" / "00010.png", (7,))
    (base / "JPEGImages" / "b1" / "00015.jpg").unlink()
    layouts.frame(base / "JPEGImages" / "extra" / "00000.jpg")
    texts = "\n".join(problem.text for problem in checked(base).problems)
    for wanted in ("holds object 7", "object 2 of b1 enters at frame 00010, but the mask there does not hold it",
                   "1 frames of b1 that the meta file lists are missing, the first is 00015", "frames of extra, which meta.json"):
        assert wanted in texts
    assert "507 sequences, this copy has 2" in checked(tmp_path / "yt", "ytvos19-valid").problems[0].text
    (base / "meta.json").write_text("[]")
    assert kinds(checked(base)) == ["meta"]
    with pytest.raises(InputError, match=r"one of its splits \(valid\)"):
        checked(tmp_path / "yt")

    layouts.lvos(tmp_path / "lvos")
    assert checked(tmp_path / "lvos" / "val").ok
    report = checked(tmp_path / "lvos", "lvos-val")
    assert [problem.kind for problem in report.problems] == ["count", "count"]
    (tmp_path / "lvos" / "val" / "JPEGImages" / "v2" / "00000016.jpg").unlink()
    texts = "\n".join(problem.text for problem in checked(tmp_path / "lvos" / "val").problems)
    assert "object 2 of v2 enters at frame 00000016, which is missing" in texts
    assert "mask 00000016.png of v2 has no frame" in texts


def test_check_vots(tmp_path):
    layouts.vots(tmp_path)
    report = checked(tmp_path)
    assert report.ok
    assert (report.layout, report.sequences, report.frames, report.objects, report.masks) == ("vots", 2, 6, 3, 8)
    write_regions(tmp_path / "cat" / "groundtruth.txt", np.ones((2, H, W), bool))
    (tmp_path / "ants" / "groundtruth_o9.txt").write_text("0\nm1,2,3\n0\n")
    (tmp_path / "list.txt").write_text("cat\nants\nbee\n")
    texts = "\n".join(problem.text for problem in checked(tmp_path).problems)
    for wanted in ("has 2 lines but there are 3 frames", "line 2 of groundtruth_o9.txt", "bee does not exist"):
        assert wanted in texts
