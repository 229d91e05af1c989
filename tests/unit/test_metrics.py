"""Properties of the metrics, and a slow, literal second implementation of F to compare with."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lazyvos.metrics import (
    DavisScorer,
    aci,
    boundary_map,
    contour,
    disk,
    evaluate_sequence,
    gaps,
    idi,
    region,
    robustness_at,
    robustness_of,
    series_statistics,
    success_rate,
    summarise,
    tolerance_radius,
    unevenness,
    user_workload,
)

sizes = st.tuples(st.integers(1, 14), st.integers(1, 14))
quick = settings(max_examples=60, deadline=None)


@st.composite
def masks(draw, count):
    """``count`` masks of one size: noise, or boxes that may touch or leave the frame, or empty."""
    h, w = draw(sizes)
    out = []
    for _ in range(count):
        if draw(st.booleans()):
            out.append(draw(arrays(bool, (h, w))))
            continue
        m = np.zeros((h, w), bool)
        y, x = draw(st.integers(0, h)), draw(st.integers(0, w))
        m[y : y + draw(st.integers(0, h)), x : x + draw(st.integers(0, w))] = True
        out.append(m)
    return out


def slow_boundary(m):
    h, w = m.shape
    out = np.zeros((h, w), bool)
    for y in range(h):
        for x in range(w):
            near = [(y, x + 1), (y + 1, x)] + ([(y + 1, x + 1)] if y + 1 < h and x + 1 < w else [])
            out[y, x] = any(m[y, x] != m[q] for q in near if q[0] < h and q[1] < w)
    return out


def slow_contour(p, g, void, radius):
    """F on the whole image, by the distance between every two boundary pixels."""
    p, g = np.argwhere(slow_boundary(p & ~void)), np.argwhere(slow_boundary(g & ~void))
    if not len(p) or not len(g):
        return float(len(p) == len(g))
    near = ((p[:, None] - g) ** 2).sum(-1) <= radius**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@quick
@given(masks(3), st.sampled_from([0, 0.008, 0.1, 1, 2, 2.5, 4]))
def test_contour_is_the_literal_one(m, tolerance):
    p, g, void = m
    radius = tolerance_radius(g.shape, tolerance)
    assert contour(p, g, void, tolerance) == pytest.approx(slow_contour(p, g, void, radius), abs=1e-12)
    assert contour(p, g, tolerance=tolerance) == pytest.approx(
        slow_contour(p, g, np.zeros_like(g), radius), abs=1e-12
    )


@quick
@given(masks(1))
def test_boundary_map_is_the_literal_one(m):
    np.testing.assert_array_equal(boundary_map(m[0]), slow_boundary(m[0]))


@quick
@given(masks(3))
def test_region(m):
    p, g, void = m
    j = region(p, g, void)
    assert 0 <= j <= 1
    assert j == region(g, p, void)
    p, g = p & ~void, g & ~void
    assert (j == 1) == np.array_equal(p, g)
    assert (j == 0) == (not (p & g).any() and bool((p | g).any()))


@quick
@given(masks(2))
def test_contour_bounds_symmetry_identity(m):
    p, g = m
    assert contour(p, p) == 1
    assert 0 <= contour(p, g) <= 1
    assert contour(p, g) == pytest.approx(contour(g, p), abs=1e-12)
    assert contour(p, g) <= contour(p, g, tolerance=max(2, *g.shape) * 2)


@quick
@given(masks(2), st.tuples(*[st.integers(1, 9)] * 4))
def test_surrounding_background_changes_nothing(m, pad):
    """A crop that leaves one background pixel around both masks scores as the whole image does."""
    p, g = (np.pad(x, 1) for x in m)
    big_p, big_g = (np.pad(x, (pad[:2], pad[2:])) for x in (p, g))
    assert region(big_p, big_g) == region(p, g)
    assert contour(big_p, big_g, tolerance=2) == contour(p, g, tolerance=2)


def test_frame_is_no_boundary():
    full, half = np.ones((6, 8), bool), np.zeros((6, 8), bool)
    half[:, :4] = True
    assert not boundary_map(full).any()
    assert contour(full, full) == 1
    assert boundary_map(half).sum() == 6
    assert contour(full, half) == 0


def test_disk_is_read_only_because_it_is_shared():
    with pytest.raises(ValueError):
        disk(3)[0, 0] = 1


@pytest.mark.parametrize(
    ("p", "g", "void", "word"),
    [
        (np.zeros((4, 5), bool), np.zeros((5, 4), bool), None, "resize"),
        (np.zeros((4, 5), np.float32), np.zeros((4, 5), bool), None, "threshold"),
        (np.zeros((1, 4, 5), bool), np.zeros((4, 5), bool), None, "shape"),
        (np.zeros((0, 5), bool), np.zeros((0, 5), bool), None, "non-empty"),
        (np.zeros((4, 5), bool), np.zeros((4, 5), bool), np.zeros((4, 4), bool), "void"),
    ],
)
def test_bad_masks_are_named(p, g, void, word):
    for metric in (region, contour):
        with pytest.raises(ValueError, match=word):
            metric(p, g, void)


@pytest.mark.parametrize("tolerance", [-1, math.nan, math.inf])
def test_bad_tolerance(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        DavisScorer(tolerance=tolerance)


# --- series and sequences ---


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=700))
def test_statistics(values):
    s, rev = series_statistics(values), series_statistics(values[::-1])
    assert s.mean == pytest.approx(np.mean(values))
    assert s.recall == sum(v > 0.5 for v in values) / len(values)
    assert -1 <= s.decay <= 1
    if len(values) % 4 == 1:  # only then are the quarters mirror images of each other
        assert rev.decay == pytest.approx(-s.decay, abs=1e-12)
    wrapped = series_statistics(values, uint8_decay=True)
    if len(values) < 256:
        assert wrapped == s
    else:
        assert wrapped.mean == s.mean


def test_statistics_with_missing_values():
    assert series_statistics([0.2, math.nan, 0.8]).mean == pytest.approx(0.5)
    assert math.isnan(series_statistics([]).mean)
    assert math.isnan(series_statistics([math.nan]).decay)


def walk(frames=6, size=24, objects=2):
    """Truth with small squares that move to the right."""
    out = np.zeros((frames, size, size), np.uint8)
    for t in range(frames):
        for k in range(objects):
            out[t, 2 + 8 * k : 8 + 8 * k, 2 + t : 8 + t] = k + 1
    return out


def test_first_and_last_frame_are_dropped():
    gt = walk()
    pred = gt.copy()
    pred[[0, -1]] = 0
    assert evaluate_sequence(pred, gt).JF == 1
    kept = evaluate_sequence(pred, gt, skip_ends=False)
    assert kept.J == pytest.approx(4 / 6)
    assert [o.frames for o in kept.objects] == [6, 6]


def test_objects_come_from_the_first_annotation():
    gt = walk(objects=2)
    gt[2:, 20:23, 20:23] = 3
    assert [o.id for o in evaluate_sequence(gt * (gt < 3), gt).objects] == [1, 2]
    found = evaluate_sequence(gt, gt, discover=True)
    assert [(o.id, o.start, o.frames) for o in found.objects] == [(1, 1, 4), (2, 1, 4), (3, 2, 3)]


def test_discovery_ignores_ids_that_the_truth_never_has():
    gt = walk(objects=1)
    pred = gt.copy()
    pred[2:, 20:23, 20:23] = 7
    assert [o.id for o in evaluate_sequence(pred, gt, discover=True).objects] == [1]


def test_missing_id_is_an_empty_mask():
    gt = walk(objects=2)
    score = evaluate_sequence(gt * (gt == 1), gt)
    assert [o.JF for o in score.objects] == [1, 0]


def test_void_is_background_or_left_out():
    gt, pred = walk(objects=1), walk(objects=1)
    gt[:, 4:6] = np.where(gt[:, 4:6] == 1, 255, 0)
    assert evaluate_sequence(pred, gt).J == pytest.approx(4 / 6)
    assert evaluate_sequence(pred, gt, use_void=True).J == 1


def test_too_many_ids_in_the_prediction():
    gt = walk(objects=2)
    pred = gt.copy()
    pred[3, 0, 0] = 3
    with pytest.raises(ValueError, match=r"swan: frame 3: the prediction has id 3.*up to 2"):
        evaluate_sequence(pred, gt, "swan")
    with pytest.raises(ValueError, match="1, not 255"):
        evaluate_sequence((gt > 0) * np.uint8(255), gt)


def test_bad_sequences_are_named():
    gt = walk()
    with pytest.raises(ValueError, match="only 5 predictions"):
        evaluate_sequence(gt[:-1], gt)
    with pytest.raises(ValueError, match="only 5 annotations"):
        evaluate_sequence(gt, gt[:-1])
    with pytest.raises(ValueError, match="no object"):
        evaluate_sequence(gt * 0, gt * 0)
    with pytest.raises(ValueError, match="one size"):
        evaluate_sequence(gt[:, 1:], gt)
    with pytest.raises(ValueError, match="one size"):
        evaluate_sequence([gt[0], gt[1, 1:]], [gt[0], gt[1, 1:]])
    with pytest.raises(ValueError, match="label map"):
        evaluate_sequence(gt[..., None], gt)


def test_sequence_too_short_is_nan_and_left_out():
    short, good = evaluate_sequence(walk(2), walk(2)), evaluate_sequence(walk(), walk())
    assert math.isnan(short.JF)
    assert summarise([short, good]).JF == 1
    assert json.loads(json.dumps(short.as_dict(), allow_nan=False))["JF"] is None


def test_summary_weighs_objects_not_sequences():
    one, two = walk(objects=1), walk(objects=2)
    total = summarise([evaluate_sequence(one, one, "a"), evaluate_sequence(two * 0, two, "b")])
    assert (total.J, total.F, total.JF) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert [(o["sequence"], o["id"]) for o in total.as_dict()["objects"]] == [("a", 1), ("b", 1), ("b", 2)]


# --- robustness ---


@st.composite
def series(draw):
    n = draw(st.integers(1, 20))
    gt, pred = (draw(arrays(bool, n)) for _ in range(2))
    iou = draw(arrays(np.float64, n, elements=st.floats(0, 1)))
    return np.where(gt & pred, iou, 0.0), gt, pred


@quick
@given(series(), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_robustness_falls_with_tau(s, a, b, present_only):
    low, high = (success_rate(*s, t, present_only=present_only) for t in sorted((a, b)))
    if present_only and not s[1].any():
        assert math.isnan(low)
    else:
        assert 0 <= high <= low <= 1


@quick
@given(series())
def test_without_absence_both_readings_agree(s):
    iou, gt, pred = s[0], np.ones_like(s[1]), s[2]
    assert success_rate(iou, gt, pred, 0.5) == success_rate(iou, gt, pred, 0.5, present_only=True)


def test_threshold_is_inclusive_and_start_counts():
    s = [0.0, 0.25, 0.25], [0, 1, 1], [1, 1, 1]
    assert success_rate(*s, 0.25) == pytest.approx(2 / 3)
    assert success_rate(*s, 0.25, start=1) == 1
    assert success_rate(*s, 0.26, start=1) == 0


def test_robustness_is_a_mean_over_objects_of_any_length():
    iou, seen = [[1.0, 0.0], [1.0] * 6], [[1, 1], [1] * 6]
    assert robustness_at(iou, seen, seen, [0.5]) == {0.5: 0.75}


def test_robustness_of_a_score():
    gt = walk(objects=2)
    gt[1:3][gt[1:3] == 2] = 0
    pred = gt.copy()
    pred[1, 20, 20] = 2  # hallucinated
    pred[4][pred[4] == 1] = 0  # lost
    score = evaluate_sequence(pred, gt)
    assert robustness_of(score)[0.1] == pytest.approx(5 / 6)
    assert robustness_of(score, present_only=True)[0.1] == pytest.approx((5 / 6 + 1) / 2)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (([0.5], [1, 1], [1], 0.5), "one length"),
        (([50.0], [1], [1], 0.5), "percent"),
        (([math.nan], [1], [1], 0.5), "NaN"),
        (([0.5], [1], [1], 50), "tau"),
    ],
)
def test_bad_series_are_named(args, word):
    with pytest.raises(ValueError, match=word):
        success_rate(*args)


def test_objects_must_match():
    with pytest.raises(ValueError, match="2, 1, 2 and 2 objects"):
        robustness_at([[1.0]] * 2, [[1]], [[1]] * 2)


# --- workload ---

logs = st.integers(1, 300).flatmap(
    lambda n: st.tuples(st.lists(st.integers(0, n - 1), max_size=20), st.just(n))
)


@quick
@given(logs)
def test_aci_only_counts(log):
    """ACI = P (1 + 1/T) - (T - 1)/T, by the definition and by its closed form."""
    c, n = log
    g = gaps(c, n)
    assert g.sum() == n - 1
    double_sum = sum(int((g == j).sum()) * (n - j + 1) for j in set(g.tolist()))
    assert aci(c, n) == pytest.approx(double_sum / n, abs=1e-9)
    assert aci(c, n) == pytest.approx(len(g) * (1 + 1 / n) - (n - 1) / n, abs=1e-9)
    inner = set(c) - {0, n - 1}
    if n > 1:
        assert aci(c, n) == pytest.approx(len(inner) + (len(inner) + 2) / n, abs=1e-9)


@quick
@given(st.lists(logs, min_size=1, max_size=5), st.sampled_from([1.0, 6.0, 29.97]))
def test_pooled_idi_only_counts(objects, fps):
    assume(any(n > 1 for _, n in objects))
    w = user_workload(objects, fps)
    inner = sum(len(set(c) - {0, n - 1}) + 1 for c, n in objects if n > 1)
    assert pytest.approx(sum(n - 1 for _, n in objects) / inner / fps) == w.IDI
    assert sum(len(c) for c, _ in objects) == w.NoC


@quick
@given(logs)
def test_unevenness(log):
    c, n = log
    g = gaps(c, n)
    u = unevenness(c, n)
    if len(g) < 2:
        assert math.isnan(u)
        return
    assert 0 <= u < 1
    assert u == pytest.approx(unevenness([n - 1 - x for x in c], n), abs=1e-12)
    variation = g.std() / g.mean()
    assert u == pytest.approx(variation**2 / (1 + variation**2), abs=1e-12)


def test_unevenness_sees_what_aci_does_not():
    even, clustered = ([20, 40, 60, 80], 101), ([1, 2, 3, 4], 101)
    assert aci(*even) == pytest.approx(aci(*clustered))
    assert idi(*even, fps=6) == pytest.approx(idi(*clustered, fps=6))
    assert unevenness(*even) == 0
    assert unevenness(*clustered) > 0.7


def test_zero_gaps_are_ignored_but_counted():
    w = user_workload([([0, 4, 4, 9], 10)], fps=1)
    assert w.NoC == 4
    assert gaps([0, 4, 4, 9], 10).tolist() == [4, 5]
    assert w.ACI == pytest.approx(aci([4], 10))


def test_bad_workloads_are_named():
    with pytest.raises(ValueError, match=r"frame 10 .*0\.\.9"):
        gaps([10], 10)
    with pytest.raises(ValueError, match="frame -1"):
        gaps([-1, 3], 10)
    with pytest.raises(ValueError, match="frames is 0"):
        gaps([], 0)
    with pytest.raises(ValueError, match="fps"):
        user_workload([([], 10)], fps=0)
    with pytest.raises(ValueError, match="empty"):
        user_workload([], fps=6)
    with pytest.raises(ValueError, match="aci_over"):
        user_workload([([], 10)], fps=6, aci_over="median")
