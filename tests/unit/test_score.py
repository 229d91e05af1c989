"""The scoring engine: what it reads, what it refuses, and that its numbers are those of the plain definitions."""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from lazyvos.bench_score import opencv_dilate, plain_score, skimage_dilate, write_clips
from lazyvos.datasets import DavisFolder
from lazyvos.masks import rle_encode, write_mask
from lazyvos.measure import Rules, measure_frame
from lazyvos.metrics import contour, evaluate_sequence, region, robustness_of, stability, summarise
from lazyvos.metrics.unsupervised import evaluate_unsupervised
from lazyvos.score import score_folder
from lazyvos.score_cli import add_arguments, run
from lazyvos.types import InputError

SIZE, LENGTH = (40, 64), 9


def _noise(rng: np.random.Generator, ids: int, void: bool = False) -> np.ndarray:
    """Blocky random labels, so that objects touch each other, the frame and void."""
    small = rng.integers(0, ids + 1, (8, 8)).astype(np.uint8)
    if void:
        small[rng.random((8, 8)) < 0.1] = 255
    return np.kron(small, np.ones((5, 8), np.uint8))


def _truth(name: str, t: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[4:20, 3 + 2 * t : 23 + 2 * t] = 1
    if t != 4:
        labels[22:36, 40 - 3 * t : 56 - 3 * t] = 2
    if name == "late" and t > 3:
        labels[:4, :9] = 3
    labels[36:, 60:] = 255
    return labels


def _guess(name: str, t: int) -> np.ndarray:
    labels = np.roll(_truth(name, t), (1, t % 3), (0, 1))
    labels[labels == 255] = 0
    if name == "late":
        labels[labels == 3] = 0
    if t == 6:
        labels[labels == 2] = 0
    return labels


NAMES = ("plain", "late")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        for t in range(LENGTH):
            write_mask(tmp_path / "gt" / name / f"{t:05d}.png", _truth(name, t))
            write_mask(tmp_path / "pred" / name / f"{t:05d}.png", _guess(name, t))
    return tmp_path


def _score(root: Path, protocol: str = "davis", **more):
    return score_folder(root / "gt", root / more.pop("pred", "pred"), protocol, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("ignore", [False, True])
def test_boxes_give_the_numbers_of_whole_images(ignore: bool) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        truth, pred = _noise(rng, 3, void=True), _noise(rng, 4)
        pred[:, : int(rng.integers(0, 64))] = 0
        row = measure_frame(pred, truth, Rules(ignore_void=ignore))
        void = truth == 255
        assert set(row) == (set(np.unique(truth)) | set(np.unique(pred))) - {0, 255}
        for k, (j, f, present, predicted) in row.items():
            args = (pred == k, truth == k, void if ignore else None)
            assert (j, f) == (region(*args), contour(*args))
            assert (present, predicted) == ((truth == k).any(), (pred == k).any())


def test_davis_is_the_protocol(root: Path) -> None:
    table = _score(root)
    sequences = {name: evaluate_sequence([np.where((g := _guess(name, t)) > 2, 0, g) for t in range(LENGTH)],
                                         [_truth(name, t) for t in range(LENGTH)], name) for name in NAMES}  # fmt: skip
    whole = summarise(sequences.values())
    assert [(o.sequence, o.id) for o in whole.objects if o.sequence == "plain"] == [("plain", 1), ("plain", 2)]
    for o in whole.objects:
        row = next(r for r in table.objects if (r["sequence"], r["id"]) == (o.sequence, o.id))
        for m in ("J", "F"):
            numbers = getattr(o, m)
            assert (row[m], row[f"{m}_recall"], row[f"{m}_decay"]) == (numbers.mean, numbers.recall, numbers.decay)
        assert row["V"] == stability(o.j[1:-1], o.f[1:-1])
        assert row["frames"] == LENGTH - 2
    assert table.summary["JF"] == pytest.approx(whole.JF, abs=1e-12)
    for tau, value in robustness_of(whole).items():
        assert table.summary[f"R@{tau:g}"] == pytest.approx(value, abs=1e-12)
    assert table.summary["objects"] == 4
    assert {row["sequence"]: row["J"] for row in table.sequences}["late"] == pytest.approx(sequences["late"].J, abs=1e-12)


def test_vos_benchmark_discovers_objects(root: Path) -> None:
    table = _score(root, "vos-benchmark")
    for name in NAMES:
        want = evaluate_sequence([_guess(name, t) for t in range(LENGTH)], [_truth(name, t) for t in range(LENGTH)], name, discover=True)
        rows = {r["id"]: r for r in table.objects if r["sequence"] == name}
        assert rows.keys() == {o.id for o in want.objects} == ({1, 2, 3} if name == "late" else {1, 2})
        for o in want.objects:
            assert (rows[o.id]["J"], rows[o.id]["F"], rows[o.id]["frames"]) == (o.J.mean, o.F.mean, o.frames)


def test_interactive_skips_nothing(root: Path) -> None:
    row = _score(root, "interactive").objects[0]
    pairs = [(_guess("plain", t) == 1, _truth("plain", t) == 1) for t in range(LENGTH)]
    assert row["frames"] == LENGTH
    assert row["J"] == pytest.approx(np.mean([region(*p) for p in pairs]), abs=1e-12)
    assert row["F"] == pytest.approx(np.mean([contour(*p) for p in pairs]), abs=1e-12)


def test_keeping_the_ends(root: Path) -> None:
    assert _score(root, skip_ends=False).objects[0]["J"] == _score(root, "interactive").objects[0]["J"]


def test_unsupervised_numbers_do_not_matter(root: Path) -> None:
    for t in range(LENGTH):
        guess = _guess("plain", t)
        swapped = np.select([guess == 1, guess == 2], [5, 3]).astype(np.uint8)
        swapped[36:, 60:] = 7  # only on void
        write_mask(root / "swapped" / "plain" / f"{t:05d}.png", swapped)
    (root / "one.txt").write_text("plain\n")
    table = _score(root, "davis-unsupervised", pred="swapped", split=root / "one.txt")
    assert {row["id"]: row["proposal"] for row in table.objects} == {1: 5, 2: 3}
    void = _truth("plain", 0) == 255
    for row in table.objects:
        pairs = [(_guess("plain", t) == row["id"], _truth("plain", t) == row["id"], void) for t in range(LENGTH)]
        assert row["J"] == pytest.approx(np.mean([region(*p) for p in pairs]), abs=1e-12)
        assert row["F"] == pytest.approx(np.mean([contour(*p) for p in pairs]), abs=1e-12)
    write_mask(root / "swapped" / "plain" / "00003.png", np.full(SIZE, 21, np.uint8))
    with pytest.raises(InputError, match=r"frame 00003: .*proposal 21; at most 20"):
        _score(root, "davis-unsupervised", pred="swapped", split=root / "one.txt")


def test_unsupervised_pads_with_empty_proposals() -> None:
    truth = [_truth("plain", t) for t in range(LENGTH)]
    only_one = [np.where(g == 2, 1, 0).astype(np.uint8) for g in truth]
    first, second = evaluate_unsupervised(only_one, truth).objects
    assert (first.J.mean, second.J.mean) == (0, 1)  # object 1 gets an empty proposal
    with pytest.raises(ValueError, match="20 are allowed"):
        evaluate_unsupervised([np.full(SIZE, 30, np.uint8)], truth[:1])


def _as_objects(root: Path) -> None:
    for name in NAMES:
        for t in range(LENGTH):
            for k in (1, 2, 3):
                if k < 3 or name == "late":
                    write_mask(root / "objects" / name / f"{k:03d}" / f"{t:05d}.png", 255 * (_guess(name, t) == k).astype(np.uint8))


def _as_codes(root: Path, tracks: bool) -> None:
    entries: list[dict] = []
    for name in NAMES:
        for k in (1, 2):
            codes = [rle_encode(_guess(name, t) == k, compress=k == 1) for t in range(LENGTH)]
            if tracks:
                entries.append({"video": name, "category_id": k, "segmentations": [c if t != 6 or k == 1 else None for t, c in enumerate(codes)]})
            else:
                entries += [{"sequence": name, "frame": f"{name}/{t:05d}.jpg", "object_id": k, "segmentation": c} for t, c in enumerate(codes)]
    (root / "codes.json").write_text(json.dumps(entries))


def _as_coco(root: Path) -> None:
    images, annotations = [], []
    for n, name in enumerate(NAMES):
        for t in range(LENGTH):
            images.append({"id": 100 * n + t, "file_name": f"{name}/{t:05d}.jpg"})
            for k in np.unique(_guess(name, t))[1:].tolist():  # absent objects have no entry
                annotations.append({"id": len(annotations), "image_id": 100 * n + t, "category_id": k, "segmentation": rle_encode(_guess(name, t) == k)})
    (root / "codes.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def test_every_layout_gives_the_same(root: Path) -> None:
    want = _score(root)
    _as_objects(root)
    assert _score(root, "vos-benchmark", pred="objects") == _score(root, "vos-benchmark")
    for write in (lambda: _as_codes(root, False), lambda: _as_codes(root, True), lambda: _as_coco(root)):
        write()
        assert _score(root, pred="codes.json") == want
    for name in NAMES:  # one file for each sequence, which says nothing of sequences
        entries = [{"frame": t, "object": k, "segmentation": rle_encode(_guess(name, t) == k)} for t in range(LENGTH) for k in (1, 2)]
        (root / "each").mkdir(exist_ok=True)
        (root / "each" / f"{name}.json").write_text(json.dumps(entries))
    assert _score(root, pred="each") == want
    shutil.copytree(root / "pred", root / "nested" / "Annotations" / "480p")
    assert _score(root, pred="nested") == want
    for name in NAMES:
        for t in range(LENGTH):
            write_mask(root / "short" / name / f"{t}.png", _guess(name, t))
    assert _score(root, pred="short") == want


def test_overlapping_masks_keep_their_pixels(root: Path) -> None:
    _as_objects(root)
    for t in range(LENGTH):  # object 2 also covers all of object 1, which a label map could not say
        write_mask(root / "objects" / "plain" / "002" / f"{t:05d}.png", (_guess("plain", t) > 0).astype(np.uint8))
    table = _score(root, "vos-benchmark", pred="objects")
    plain = _score(root, "vos-benchmark")
    (one, two), (one_before, two_before) = ([r for r in t.objects if r["sequence"] == "plain"] for t in (table, plain))
    assert one == one_before
    assert two["J"] < two_before["J"] / 1.5


def test_what_is_missing_is_named_before_work(root: Path) -> None:
    for t in range(2, LENGTH):
        (root / "pred" / "plain" / f"{t:05d}.png").unlink()
    (root / "pred" / "plain" / "00000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 9)
    write_mask(root / "pred" / "late" / "00005.png", np.zeros((40, 65), np.uint8))
    (root / "gt" / "plain" / "00001.png").write_bytes((root / "gt" / "plain" / "00001.png").read_bytes()[:60])  # damaged behind its header
    with pytest.raises(InputError) as caught:
        _score(root)
    text = str(caught.value)
    assert text.startswith(f"{LENGTH} masks of {root / 'pred'}")
    assert "plain/00002.png" in text
    assert "plain/00006.png" not in text
    assert "and 4 more" in text
    assert "late/00005.png is 65x40, not 64x40" in text
    shutil.rmtree(root / "pred" / "plain")
    with pytest.raises(InputError, match=r"2 masks .*late.*00005.png is 65x40, not 64x40.*plain \(the whole sequence\)"):
        _score(root)


@pytest.mark.parametrize("protocol", ["davis", "vots", "interactive", "vos-benchmark", "davis-unsupervised"])
def test_no_protocol_takes_less_than_all_frames(root: Path, protocol: str) -> None:
    (root / "pred" / "late" / f"{LENGTH - 1:05d}.png").unlink()
    with pytest.raises(InputError, match=f"1 masks.*late.{LENGTH - 1:05d}.png"):
        _score(root, protocol)


def test_other_layouts_name_what_is_missing(root: Path) -> None:
    _as_objects(root)
    shutil.rmtree(root / "objects" / "late" / "002")
    (root / "objects" / "plain" / "001" / "00002.png").unlink()
    with pytest.raises(InputError, match=r"2 masks .*late.2 \(object 2\).*001.00002.png"):
        _score(root, "vos-benchmark", pred="objects")
    _as_codes(root, tracks=False)
    entries = [e for e in json.loads((root / "codes.json").read_text()) if e["frame"] != "late/00003.jpg"]
    entries[0]["segmentation"]["size"] = [64, 40]
    (root / "codes.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"2 masks .*(object 1 is 40x64.*no entry for late, frame 00003|no entry.*40x64)"):
        _score(root, pred="codes.json")
    (root / "text" / "plain").mkdir(parents=True)
    (root / "text" / "plain" / "plain_1.txt").write_text("0\n" * 4)
    (root / "one.txt").write_text("plain\n")
    with pytest.raises(InputError, match=r"plain_2.txt \(object 2\).*4 lines, not one for each of 9 frames"):
        _score(root, "vots", pred="text", split=root / "one.txt")


@pytest.mark.parametrize(("entries", "text"), [
    ({"annotations": 3}, "holds no list"),
    (["x"], "entry 0 is no object"),
    ([{"sequence": "plain", "object": 1}], "does not say which frame"),
    ([{"frame": 0, "object": 1}], "does not say which sequence"),
    ([{"sequence": "plain", "frame": 0, "object": 0, "segmentation": None}], "object 0; give a whole number"),
    ([{"sequence": "plain", "frame": 0, "object": 1, "segmentation": [[1, 2, 3, 4]]}], "polygons must be drawn"),
    ([{"sequence": "plain", "frame": 0, "object": 1, "segmentation": None}] * 2, "second mask of plain, frame 0, object 1"),
])  # fmt: skip
def test_damaged_codes_are_refused(root: Path, entries: object, text: str) -> None:
    (root / "codes.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=text):
        _score(root, pred="codes.json")


def test_ids_that_no_object_has(root: Path) -> None:
    write_mask(root / "pred" / "plain" / "00004.png", np.full(SIZE, 3, np.uint8))
    with pytest.raises(InputError, match=r"plain, frame 00004: the prediction has id 3, but .* up to 2"):
        _score(root)


def test_two_processes_give_the_same(root: Path) -> None:
    one, two = _score(root), _score(root, processes=2)
    assert two == one
    for key, series in one.series.items():
        np.testing.assert_array_equal(series.j, two.series[key].j)
        np.testing.assert_array_equal(series.f, two.series[key].f)


def test_dataset_objects_and_layouts_of_truth(root: Path) -> None:
    davis = root / "davis"
    shutil.copytree(root / "gt", davis / "Annotations" / "480p")
    shutil.copytree(root / "gt", davis / "JPEGImages" / "480p")
    (davis / "ImageSets").mkdir()
    (davis / "ImageSets" / "val.txt").write_text("late\n")
    want = _score(root)
    assert score_folder(davis, root / "pred") == score_folder(DavisFolder(davis), root / "pred")
    assert {r["J"] for r in score_folder(davis, root / "pred").objects} == {r["J"] for r in want.objects}
    assert [r["sequence"] for r in score_folder(davis, root / "pred", split="val").sequences] == ["late"]
    folder = DavisFolder(davis, "val")
    folder.protocol = "vos"
    assert score_folder(folder, root / "pred").protocol == "vos-benchmark"
    for bad, text in ((root / "none", "is not a folder"), (root / "gt" / "plain", "holds no sequences")):
        with pytest.raises(InputError, match=text):
            score_folder(bad, root / "pred")
    with pytest.raises(InputError, match="protocol 'coco' is unknown"):
        _score(root, "coco")
    with pytest.raises(InputError, match="do not exist"):
        _score(root, pred="none")
    write_mask(root / "gt" / "late" / "00002.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"late.00002.png of the truth is 4x4"):
        _score(root)


def test_gaps_in_the_ids_are_told(root: Path) -> None:
    for t in range(LENGTH):
        for part in ("gt", "pred"):
            labels = _truth("plain", t) if part == "gt" else _guess("plain", t)
            labels[labels == 1] = 0
            write_mask(root / part / "plain" / f"{t:05d}.png", labels)
    table = _score(root)
    assert next(r for r in table.objects if (r["sequence"], r["id"]) == ("plain", 1))["JF"] == 1  # as the official tool scores it
    assert "[1]" in table.summary["notes"][0]


def test_tables(root: Path, tmp_path: Path) -> None:
    table = _score(root, "vots")
    out = tmp_path / "out"
    files = table.to_csv(out)
    assert sorted(p.name for p in out.iterdir()) == ["global.csv", "objects.csv", "sequences.csv"] == sorted(p.name for p in files)
    with (out / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["Q"]) for row in rows] == [row["Q"] for row in table.objects]
    assert rows[0]["ADQ"] == ""  # no object is absent for long
    assert math.isnan(table.objects[0]["ADQ"])
    assert json.loads(json.dumps(table.as_dict(), allow_nan=False))["ADQ"] is None
    frame = table.to_frame()
    assert list(frame["Q"]) == [row["Q"] for row in table.objects]
    assert len(table.to_frame("sequences")) == 2
    assert table.to_frame("global")["objects"][0] == 5


def test_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    words = ["--gt", str(root / "gt"), "--pred", str(root / "pred"), "--out", str(root / "out")]
    answer = run(parser.parse_args([*words, "--json"]))
    assert capsys.readouterr().out == ""
    assert json.loads(json.dumps(answer, allow_nan=False))["JF"] == _score(root).summary["JF"]
    assert answer["counts"] == {"sequences": 2, "objects": 4, "frames": 2 * LENGTH}
    run(parser.parse_args(words))
    shown = capsys.readouterr().out
    assert f"{answer['JF']:.4f}" in shown
    assert "global.csv" in shown
    with pytest.raises(InputError, match="--tolerance -1"):
        run(parser.parse_args([*words, "--tolerance", "-1"]))


def test_the_benchmark_compares_equal_numbers(tmp_path: Path) -> None:
    write_clips(tmp_path, 2, 6, (72, 128))
    table = score_folder(tmp_path / "gt", tmp_path / "pred")
    for dilate in (skimage_dilate, opencv_dilate):
        plain = plain_score(tmp_path / "gt", tmp_path / "pred", dilate)
        assert len(plain) == len(table.objects) == 5
        for row in table.objects:
            assert (row["J"], row["F"]) == pytest.approx(plain[row["sequence"], row["id"]], abs=1e-12)
    assert 0 < table.summary["F"] < 1
