"""VOTS measures on series small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lazyvos.metrics import VotsScore, overlap, vots_masks, vots_object
from lazyvos.metrics.vots import ABSENT_FRAMES


def _object(rows: list[tuple[float, int, int]], **more):
    v, gt, pred = zip(*rows, strict=True)
    return vots_object(v, gt, pred, **more)


def test_counts_and_shares() -> None:
    o = _object([(0.8, 1, 1), (0.6, 1, 1), (0, 1, 1), (0, 1, 0), (0, 0, 1), (1, 0, 0)])
    assert o.counts == (2, 1, 1, 1, 1)
    assert o.Q == pytest.approx(2.4 / 6)
    assert o.ACC == pytest.approx(0.7)
    assert (o.ROB, o.DRE, o.NRE) == (0.5, 0.25, 0.25)
    assert math.isnan(o.ADQ)


def test_adq_needs_more_than_ten_absent_frames() -> None:
    noticed, seen = (1.0, 0, 0), (1.0, 1, 1)
    assert math.isnan(_object([seen] + [noticed] * ABSENT_FRAMES).ADQ)
    assert _object([seen] + [noticed] * ABSENT_FRAMES + [(0, 0, 1)]).ADQ == pytest.approx(ABSENT_FRAMES / (ABSENT_FRAMES + 1))


def test_lost_and_invisible_objects() -> None:
    lost, never = _object([(0, 1, 0)] * 3, sequence="a"), _object([(1, 0, 0)] * 3, sequence="b")
    assert lost.ACC == 0
    assert math.isnan(never.ROB)
    both = VotsScore((lost, never))
    assert both.ROB == 0  # sequence b has no object that counts
    assert both.Q == 0.5


def test_sequences_weigh_the_same() -> None:
    good, bad = [(1.0, 1, 1)], [(0.0, 1, 1)]
    score = VotsScore(tuple(_object(r, sequence=s) for r, s in ((good, "a"), (bad, "b"), (bad, "b"), (bad, "b"))))
    assert score.Q == 0.5
    assert list(score.sequences) == ["a", "b"]


def test_first_frame_as_initialisation() -> None:
    rows = [(1.0, 1, 1), (0.5, 1, 1)]
    o = _object(rows, first_frame_as_init=True)
    assert (o.counts, o.Q, o.ACC, o.ROB, o.NRE) == ((1, 0, 1, 0, 0), 0.25, 0.25, 0.5, 0.5)
    assert _object([(0.0, 0, 1), (0.5, 1, 1)], first_frame_as_init=True).counts == (1, 0, 0, 0, 1)  # absent at first


def test_ignore_removes_pixels() -> None:
    gt, pred, ignore = (np.zeros((4, 8), bool) for _ in range(3))
    gt[:, :4], pred[:, :6], ignore[:, 4:5] = True, True, True
    assert overlap(pred, gt) == pytest.approx(4 / 6)
    assert overlap(pred, gt, ignore) == pytest.approx(4 / 5)
    assert vots_masks([pred], [gt], [ignore]).Q == pytest.approx(4 / 5)
    assert overlap(pred, gt, np.ones_like(gt)) == 1


def test_curve_counts_perfect_frames_at_one() -> None:
    at, curve = VotsScore((_object([(1.0, 1, 1), (0.5, 1, 1)]),)).quality_curve(3)
    assert at.tolist() == [0, 0.5, 1]
    assert curve.tolist() == [1, 0.5, 0.5]


def test_series_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        vots_object([1.0, 0.5], [1], [1, 1])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        vots_masks([np.ones((2, 2), bool)] * 2, [np.ones((2, 2), bool)])
