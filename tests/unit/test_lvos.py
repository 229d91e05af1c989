"""The protocol of LVOS: its numbers, and a folder laid out like it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from lazyvos.masks import write_mask
from lazyvos.metrics import (
    contour,
    lvos_object,
    lvos_series,
    lvos_summary,
    per_object_mean,
    region,
    stability,
)
from lazyvos.score import score_folder
from lazyvos.types import InputError

SIZE, LENGTH = (40, 60), 8


def test_stability_rounds_the_variance() -> None:
    assert stability([0.5, 0.51], [0.5, 0.51]) == 0  # variance 0.000025
    assert stability([0.9, 0.7], [0.7, 0.5]) == pytest.approx(0.1)
    assert math.isnan(stability([], []))


def test_frames_without_truth_count_as_zero() -> None:
    values = [0.1, 1.0, 1.0, 0.2]
    assert [v.tolist() for v in lvos_series(values, values)] == [[1, 1], [1, 1]]
    assert lvos_series(values, values, 6)[0].tolist() == [1, 1, 0, 0]
    assert lvos_object(values, values, 6).JF == 0.5
    with pytest.raises(ValueError, match="the range has 3"):
        lvos_series(values, values, 3)


def test_seen_and_unseen_weigh_the_same() -> None:
    objects = [lvos_object([0, j, 0], [0, f, 0], unseen=u) for j, f, u in ((1.0, 0.8, False), (0.6, 0.4, False), (0.2, 0.1, True))]
    found = lvos_summary(objects)
    assert found["J"] == pytest.approx((0.8 + 0.2) / 2)
    assert found["JF"] == pytest.approx((0.8 + 0.6 + 0.2 + 0.1) / 4)
    assert found["F_unseen"] == pytest.approx(0.1)
    assert per_object_mean(objects)["J"] == pytest.approx(0.6)
    plain = lvos_summary([lvos_object([0, j, 0], [0, j, 0]) for j in (0.2, 0.4)])
    assert plain["J"] == pytest.approx(0.3)
    assert "J_seen" not in plain


def _labels(t: int, move: int = 0) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[5:20, 5 + move : 25 + move] = 1
    if t >= 3:
        labels[25:35, 30 - move : 50 - move] = 2
    return labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    meta = {}
    for video in ("known", "new"):
        for t in range(LENGTH):
            name = f"{1 + 5 * t:08d}"
            write_mask(tmp_path / "val" / "Annotations" / video / f"{name}.png", _labels(t))
            write_mask(tmp_path / "val" / "JPEGImages" / video / f"{name}.png", _labels(t))
            write_mask(tmp_path / "pred" / video / f"{name}.png", _labels(t, move=t if video == "known" else 0))
        meta[video] = {"objects": {"1": {"frame_range": {"start": "1", "end": "41"}}, "2": {"frame_range": {"start": "16", "end": "36"}}}}
    (tmp_path / "val" / "val_meta.json").write_text(json.dumps({"videos": meta}))
    return tmp_path


def test_a_folder_is_scored_by_ranges(root: Path) -> None:
    (root / "unseen.txt").write_text("new\n")
    table = score_folder(root / "val", root / "pred", unseen=root / "unseen.txt")
    assert table.protocol == "lvos"
    ranges = {1: range(1, LENGTH - 1), 2: range(4, 6)}  # without the first and last of each range
    want = {}
    for k, times in ranges.items():
        pairs = [(_labels(t, t) == k, _labels(t) == k) for t in times]
        want[k] = (np.mean([region(*p) for p in pairs]), np.mean([contour(*p) for p in pairs]))
    for row in table.objects:
        assert row["frames"] == len(ranges[row["id"]])
        expected = want[row["id"]] if row["sequence"] == "known" else (1.0, 1.0)
        assert (row["J"], row["F"]) == pytest.approx(expected)
    known = np.mean([want[1], want[2]], axis=0)
    assert table.summary["J"] == pytest.approx((known[0] + 1) / 2)
    assert table.summary["J_unseen"] == 1
    assert table.summary["V_unseen"] == 0
    assert table.summary["per_object_mean"]["JF"] == pytest.approx((known.mean() + 1) / 2)
    assert {row["sequence"]: row["unseen"] for row in table.sequences} == {"known": False, "new": True}
    assert not any("decay" in key for key in table.summary)


def test_without_lists_nothing_is_called_unseen(root: Path) -> None:
    table = score_folder(root / "val", root / "pred")
    assert "J_seen" not in table.summary
    assert "unseen" in table.summary["notes"][0]
    with pytest.raises(InputError, match="text file with the names"):
        score_folder(root / "val", root / "pred", unseen=str(root / "none.txt"))


def test_gap_in_the_truth_counts_as_zero(root: Path) -> None:
    (root / "val" / "Annotations" / "new" / f"{1 + 5 * 4:08d}.png").unlink()
    table = score_folder(root / "val", root / "pred")
    row = next(row for row in table.objects if (row["sequence"], row["id"]) == ("new", 1))
    assert row["frames"] == LENGTH - 2
    assert row["J"] == pytest.approx((LENGTH - 3) / (LENGTH - 2))
    assert any("count as 0" in note for note in table.summary["notes"])
