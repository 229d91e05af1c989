"""Calibration, failure prediction and rank correlation, against literal second implementations; and their figures."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from lazyvos.curves import Curves
from lazyvos.metrics import (
    CalibrationMeter,
    RiskMeter,
    aurc,
    brier,
    change,
    correlate,
    correlation_table,
    eaurc,
    ece,
    failure_auroc,
    foreground_region,
    frame_calibration,
    mce,
    nll,
    normalised,
    object_correlation,
    reliability,
    risk_coverage,
    top_label,
)
from lazyvos.plot_uncertainty import (
    correlation_figure,
    entropy_figure,
    reliability_figure,
    risk_coverage_figure,
)
from lazyvos.types import InputError

quick = settings(max_examples=50, deadline=None)
tenths = st.integers(0, 10).map(lambda i: i / 10)


@st.composite
def pixels(draw):
    """Confidences with many ties, and whether each is right."""
    n = draw(st.integers(1, 60))
    conf = draw(arrays(np.float64, n, elements=tenths | st.floats(0, 1, width=32)))
    return conf, draw(arrays(bool, n))


@st.composite
def frames(draw):
    """A clip of probability maps [K, H, W] in 64ths, so that every fine cell of the meter holds one value, and truth with void."""
    k, h, w, n = draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = [0, *range(1, k), 255]
    return [
        ((rng.multinomial(64, rng.dirichlet(np.full(k, 0.4)), (h, w)) / 64).transpose(2, 0, 1), rng.choice(ids, (h, w)).astype(np.uint8))
        for _ in range(n)
    ]


def slow_ece(conf, right, bins):
    """Literal: a loop over ((b - 1)/B, b/B]."""
    total = 0.0
    for b in range(bins):
        inside = [(c, r) for c, r in zip(conf, right) if max(0, math.ceil(c * bins) - 1) == b]
        if inside:
            total += abs(sum(r for _, r in inside) - sum(c for c, _ in inside)) / len(conf)
    return total


# --- calibration ---


@quick
@given(pixels(), st.integers(1, 20))
def test_ece_is_the_literal_one(p, bins):
    conf, right = p
    d = reliability(conf, right, bins)
    assert d.ece == pytest.approx(slow_ece(conf, right, bins), abs=1e-12)
    assert d.counts.sum() == len(conf)
    full = d.counts > 0
    assert (d.confidence[full] <= d.edges[1:][full] + 1e-9).all()
    assert (d.confidence[full] >= d.edges[:-1][full] - 1e-9).all()


@quick
@given(pixels(), st.integers(1, 20), st.booleans(), st.randoms(use_true_random=False))
def test_bounds_and_order(p, bins, adaptive, random):
    conf, right = p
    e, m = ece(conf, right, bins, adaptive=adaptive), mce(conf, right, bins, adaptive=adaptive)
    assert abs(right.mean() - conf.mean()) - 1e-12 <= e <= m + 1e-12 <= 1 + 1e-9
    order = list(range(len(conf)))
    random.shuffle(order)
    assert ece(conf[order], right[order], bins, adaptive=adaptive) == pytest.approx(e, abs=1e-12)


@quick
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_equal_count_bins_split_the_sorted_pixels(bins, each, seed):
    rng = np.random.default_rng(seed)
    conf, right = rng.permutation(np.linspace(0.1, 0.9, bins * each)), rng.random(bins * each) < 0.5
    order = np.argsort(conf)
    want = [(conf[o].mean(), right[o].mean()) for o in np.split(order, bins)]
    d = reliability(conf, right, bins, adaptive=True)
    np.testing.assert_allclose(np.stack([d.confidence, d.accuracy], 1), want, atol=1e-12)
    np.testing.assert_allclose(d.counts, each)
    assert d.ece == pytest.approx(np.mean([abs(a - b) for a, b in want]), abs=1e-12)


def test_calibrated_pixels_have_no_error():
    """Of 20 pixels with confidence k/20, k are right; and drawn at random the error goes to 0 with their number."""
    conf = np.repeat(np.arange(1, 21) / 20, 20)
    right = np.concatenate([np.arange(20) < k for k in range(1, 21)])
    for bins in (1, 5, 20):
        assert ece(conf, right, bins) == pytest.approx(0, abs=1e-12)
        assert ece(conf, right, bins, adaptive=True) == pytest.approx(0, abs=1e-12)
        assert mce(conf, right, bins) == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(0)
    errors = []
    for n in (1000, 200_000):
        conf = rng.uniform(0.5, 1, n)
        errors.append(ece(conf, rng.random(n) < conf))
    assert errors[1] < 0.006 < errors[0]


def test_overconfidence_has_a_known_error():
    conf, right = np.full(1000, 0.9), np.arange(1000) < 600
    for adaptive in (False, True):
        assert ece(conf, right, adaptive=adaptive) == pytest.approx(0.3)
        assert mce(conf, right, adaptive=adaptive) == pytest.approx(0.3)


def test_bin_edges_belong_to_the_lower_bin():
    d = reliability([0.0, 0.2, 0.2001, 1.0], [1, 1, 1, 1], 5)
    assert d.counts.tolist() == [2, 1, 0, 0, 1]


@quick
@given(frames())
def test_brier_and_nll_are_the_literal_ones(clip):
    p, y = clip[0]
    squares, logs = [], []
    for i, j in itertools.product(*map(range, y.shape)):
        if y[i, j] != 255:
            squares.append(sum((p[c, i, j] - (c == y[i, j])) ** 2 for c in range(len(p))))
            logs.append(-math.log(max(p[y[i, j], i, j], 1e-7)))
    if not squares:
        assert math.isnan(brier(p, y))
        assert math.isnan(nll(p, y))
        return
    assert brier(p, y) == pytest.approx(np.mean(squares), abs=1e-12)
    assert nll(p, y) == pytest.approx(np.mean(logs), abs=1e-12)
    assert 0 <= brier(p, y) <= 2


def test_a_sure_mistake():
    p = np.array([[[1.0]], [[0.0]]])
    assert brier(p, [[1]]) == 2
    assert nll(p, [[1]]) == pytest.approx(-math.log(1e-7))
    assert (brier(p, [[0]]), nll(p, [[0]])) == (0, 0)


@quick
@given(frames(), st.integers(1, 16))
def test_meter_equals_all_pixels_at_once(clip, bins):
    meter = CalibrationMeter(bins)
    for p, y in clip:
        meter.update(p, y)
    got = meter.result()
    near = [foreground_region(p.argmax(0), y) & (y != 255) for p, y in clip]
    for part, keep in ((got, [y != 255 for _, y in clip]), (got.foreground, near)):
        p = np.concatenate([q[:, k] for (q, _), k in zip(clip, keep)], 1)
        y = np.concatenate([t[k] for (_, t), k in zip(clip, keep)])
        assert part.pixels == y.size
        conf, right = top_label(p, y)
        want = {
            "ece": ece(conf, right, bins), "mce": mce(conf, right, bins), "adaptive_ece": ece(conf, right, bins, adaptive=True),
            "brier": brier(p, y), "nll": nll(p, y), "accuracy": right.mean() if y.size else math.nan,
            "confidence": conf.mean() if y.size else math.nan,
        }  # fmt: skip
        np.testing.assert_allclose(part.adaptive.edges, reliability(conf, right, bins, adaptive=True).edges)
        assert {k: getattr(part, k) for k in want} == pytest.approx(want, abs=1e-9, nan_ok=True)


def test_meter_with_free_probabilities_stays_close_and_merges():
    rng = np.random.default_rng(1)
    meters = [CalibrationMeter(), CalibrationMeter(), CalibrationMeter()]
    every = []
    for n in range(4):
        p = rng.dirichlet([3, 0.4, 0.4], (20, 30)).transpose(2, 0, 1).astype(np.float32)
        y = np.where(rng.random((20, 30)) < 0.8, p.argmax(0), 1).astype(np.uint8)
        every.append(top_label(p, y))
        for meter in (meters[0], meters[1 + n % 2]):
            meter.update(p, y)
    meters[1].merge(meters[2])
    conf, right = (np.concatenate(x) for x in zip(*every))
    got = meters[0].result()
    assert got.ece == pytest.approx(ece(conf, right), abs=1e-12)
    assert got.adaptive_ece == pytest.approx(ece(conf, right, adaptive=True), abs=1e-3)
    assert meters[1].result().as_dict() == pytest.approx(got.as_dict())
    assert all(type(v) in (int, float) for v in got.as_dict().values())
    with pytest.raises(InputError, match="bins=10"):
        meters[0].merge(CalibrationMeter(10))


def test_meter_does_not_grow():
    meter = CalibrationMeter()
    p, y = np.full((2, 6, 6), 0.5, np.float32), np.ones((6, 6), np.uint8)
    sizes = set()
    for _ in range(5):
        meter.update(p, y)
        sizes.add(sum(v.nbytes for v in vars(meter).values() if isinstance(v, np.ndarray)))
    assert len(sizes) == 1
    assert meter.result().pixels == 5 * 36


def test_background_hides_what_the_foreground_shows():
    """All background is right and sure; half of the object's pixels are wrong at 0.9."""
    y = np.zeros((100, 100), np.uint8)
    y[40:60, 40:60] = 1
    p1 = np.zeros((100, 100))
    p1[40:60, 40:60] = 0.9
    p1[40:60, 40:50] = 0.1
    result = frame_calibration(np.stack([1 - p1, p1]), y)
    assert result.ece == pytest.approx(400 / 10000 * 0.4)
    region = foreground_region(p1 > 0.5, y)
    assert region[40:60, 40:60].all()
    assert 400 < region.sum() < 700
    assert result.foreground.pixels == region.sum()
    assert result.foreground.ece == pytest.approx(400 / region.sum() * 0.4)
    assert result.as_dict()["fg_ece"] == result.foreground.ece
    assert frame_calibration(np.stack([1 - p1, p1]), y, dilate=None).foreground is None


@quick
@given(frames())
def test_foreground_holds_every_object(clip):
    p, y = clip[0]
    region = foreground_region(p.argmax(0), y)
    assert region[(p.argmax(0) > 0) | ((y > 0) & (y < 255))].all()
    assert not foreground_region(np.zeros_like(y), np.where(y == 255, 255, 0)).any()


def test_void_changes_nothing():
    rng = np.random.default_rng(2)
    p, y = rng.dirichlet([1, 1, 1], (8, 9)).transpose(2, 0, 1), rng.integers(0, 3, (8, 9), np.uint8)
    y[3:5] = 255
    left = y != 255
    whole, cut = frame_calibration(p, y, dilate=None), frame_calibration(p[:, left], y[left], dilate=None)
    assert whole.as_dict() == cut.as_dict()
    assert whole.pixels == 54


def test_ids_follow_the_channels_and_strangers_are_background():
    p = np.array([[0.1, 0.2, 0.9], [0.8, 0.1, 0.0], [0.1, 0.7, 0.1]])[:, None]
    conf, right = top_label(p, [[7, 3, 5]], objects=(7, 3))
    np.testing.assert_allclose(conf, [0.8, 0.7, 0.9])
    assert right.tolist() == [True, True, True]
    assert top_label(p, [[3, 7, 7]], objects=(7, 3))[1].tolist() == [False, False, False]


def test_tensors_and_half_precision():
    p = torch.softmax(torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0)), 0)
    y = torch.randint(0, 3, (6, 7), generator=torch.Generator().manual_seed(1))
    want = frame_calibration(p.numpy(), y.numpy()).as_dict()
    assert frame_calibration(p, y).as_dict() == want
    assert frame_calibration(p.half(), y).nll == pytest.approx(want["nll"], abs=1e-3)


def test_nothing_but_void_is_nan():
    p, y = np.full((2, 3, 3), 0.5), np.full((3, 3), 255)
    result = frame_calibration(p, y)
    assert result.pixels == 0
    assert all(math.isnan(v) for k, v in result.as_dict().items() if not k.endswith("pixels"))
    assert math.isnan(CalibrationMeter().result().ece)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: ece([0.5, 0.5], [True]), "one shape"),
        (lambda: ece([50.0], [True]), "percent"),
        (lambda: ece([math.nan], [True]), "NaN"),
        (lambda: ece([0.5], [2]), "neither"),
        (lambda: ece([0.5], [True], 0), "at least 1"),
        (lambda: CalibrationMeter(0), "at least 1"),
        (lambda: brier(np.full((2, 3, 3), 0.5), np.zeros((3, 4), int)), "label map"),
        (lambda: brier(np.ones((2, 3, 3), int), np.zeros((3, 3), int)), "floats"),
        (lambda: nll(np.full((2, 3, 3), 0.7), np.zeros((3, 3), int)), "sum to"),
        (lambda: nll(np.full((2, 3, 3), math.nan), np.zeros((3, 3), int)), "sum to"),
        (lambda: nll(np.full((2, 3, 3), 0.5), np.zeros((3, 3), int), (1, 2)), "2 channels"),
        (lambda: nll(np.full((2, 3, 3), 0.5), np.full((3, 3), 300)), "id 300"),
        (lambda: CalibrationMeter().update(np.full((2, 9), 0.5), np.zeros(9, int)), "height"),
    ],
)
def test_bad_input_is_named(call, word):
    with pytest.raises(InputError, match=word):
        call()


# --- risk ---

units = st.integers(1, 30).flatmap(lambda n: st.tuples(arrays(np.float64, n, elements=tenths), arrays(np.float64, n, elements=tenths)))


def slow_aurc(order, iou):
    risk = 1 - iou[list(order)]
    return np.mean([risk[:k].mean() for k in range(1, len(risk) + 1)])


@quick
@given(units)
def test_oracle_order_reaches_the_lower_bound(u):
    uncertainty, iou = u
    c = risk_coverage(uncertainty, iou)
    assert c.aurc >= c.oracle_aurc - 1e-12
    assert c.eaurc == pytest.approx(c.aurc - c.oracle_aurc, abs=1e-12)
    assert risk_coverage(1 - iou, iou).aurc == pytest.approx(c.oracle_aurc, abs=1e-12)
    assert eaurc(1 - iou, iou) == pytest.approx(0, abs=1e-12)
    assert aurc(iou, iou) >= c.aurc - 1e-12  # the worst order
    assert c.risk[-1] == pytest.approx(1 - iou.mean())
    assert c.coverage[-1] == 1


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_aurc_is_the_mean_over_orders_of_ties(seed, n):
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, 3, n).astype(float), rng.random(n)
    orders = [o for o in itertools.permutations(range(n)) if (np.diff(u[list(o)]) >= 0).all()]
    assert aurc(u, v) == pytest.approx(np.mean([slow_aurc(o, v) for o in orders]), abs=1e-12)


@quick
@given(units, tenths)
def test_auroc_counts_pairs(u, tau):
    uncertainty, iou = u
    pairs = [(a > b) + 0.5 * (a == b) for a in uncertainty[iou < tau] for b in uncertainty[iou >= tau]]
    got = failure_auroc(uncertainty, iou, tau)
    if not pairs:
        assert math.isnan(got)
        return
    assert got == pytest.approx(np.mean(pairs), abs=1e-12)
    assert failure_auroc(-uncertainty, iou, tau) == pytest.approx(1 - got, abs=1e-12)
    assert failure_auroc(np.exp(uncertainty), iou, tau) == got


def test_threshold_of_failure_is_strict():
    assert math.isnan(failure_auroc([0.1, 0.2], [0.5, 0.9], 0.5))
    assert failure_auroc([0.3, 0.2], [0.49, 0.5], 0.5) == 1


@quick
@given(units, st.integers(0, 30))
def test_risk_meter_equals_the_function(u, cut):
    uncertainty, iou = u[0].copy(), u[1]
    uncertainty[::7] = math.nan
    one, two = RiskMeter(), RiskMeter()
    for n, (a, b) in enumerate(zip(uncertainty, iou)):
        (one if n < cut else two).add(None if math.isnan(a) else a, b)
    one.merge(two)
    assert len(one) == len(iou)
    keep = ~np.isnan(uncertainty)
    got, want = one.curve(), risk_coverage(uncertainty[keep], iou[keep])
    np.testing.assert_array_equal(got.risk, want.risk)
    assert got.left_out == (~keep).sum()
    assert one.auroc(0.5) == pytest.approx(failure_auroc(uncertainty[keep], iou[keep], 0.5), nan_ok=True)


def test_no_unit_is_nan():
    c = RiskMeter().curve()
    assert math.isnan(c.aurc)
    assert math.isnan(c.eaurc)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: aurc([0.1], [0.5, 0.5]), "one length"),
        (lambda: aurc([math.inf], [0.5]), "infinite"),
        (lambda: RiskMeter().add(0.5, 50), "percent"),
        (lambda: failure_auroc([0.1], [0.5], 50), "tau"),
    ],
)
def test_bad_units_are_named(call, word):
    with pytest.raises(InputError, match=word):
        call()


# --- correlation ---

lines = st.integers(4, 30).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=tenths | st.just(math.nan)), arrays(np.float64, n, elements=tenths))
)


@quick
@given(lines, st.sampled_from(["spearman", "pearson"]))
def test_correlation_is_that_of_scipy(line, method):
    s, iou = line
    keep = ~np.isnan(s)
    keep[0] = False
    got = object_correlation(s, iou, method=method)
    if keep.sum() < 2 or np.ptp(s[keep]) == 0 or np.ptp(iou[keep]) == 0:
        assert math.isnan(got)
        return
    reference = {"spearman": scipy.stats.spearmanr, "pearson": scipy.stats.pearsonr}[method]
    assert got == pytest.approx(-reference(s[keep], iou[keep]).statistic, abs=1e-9)
    assert object_correlation(s, iou, method=method, quality=True) == -got


@quick
@given(lines)
def test_ranks_only_and_scale_only(line):
    s, iou = line
    want = object_correlation(s, iou)
    assert object_correlation(np.exp(5 * s), iou**3) == pytest.approx(want, nan_ok=True)
    linear = object_correlation(s, iou, method="pearson")
    assert object_correlation(1e6 * s + 3, iou, method="pearson") == pytest.approx(linear, abs=1e-6, nan_ok=True)


def test_first_frame_is_dropped_and_the_last_kept():
    iou = [0.0, 0.9, 0.8, 0.1]
    assert object_correlation([0.0, 0.1, 0.2, 0.9], iou) == 1
    assert object_correlation([0.0, 0.1, 0.2, 0.9], iou, first=0) < 1
    assert object_correlation([0.0, 0.1, 0.2, 0.0], iou) < 1


@pytest.mark.parametrize("shift", [-3, -1, 0, 2])
def test_shift_finds_the_delay(shift):
    rng = np.random.default_rng(3)
    s = rng.random(40)
    iou = rng.random(40)
    for t in range(40):
        if 0 <= t - shift < 40:
            iou[t] = 1 - s[t - shift]
    values = {k: object_correlation(s, iou, shift=k) for k in range(-4, 5)}
    assert values[shift] == pytest.approx(1)
    assert max(v for k, v in values.items() if k != shift) < 0.9
    assert math.isnan(object_correlation(s, iou, shift=50))


def test_summary_is_the_box_of_the_plot():
    rng = np.random.default_rng(4)
    iou = rng.random((40, 30))
    s = 1 - iou + rng.random((40, 30)) * rng.random((40, 1)) * 3
    s[7], iou[9] = 0.5, 1.0
    s[3] = 1 - s[3]
    got = correlate(zip(s, iou), "X-S_R")
    assert (got.undefined, len(got.coefficients)) == (2, 38)
    want = boxplot_stats(got.coefficients)[0]
    assert got.median == pytest.approx(want["med"])
    assert got.quartiles == pytest.approx((want["q1"], want["q3"]))
    assert got.whiskers == pytest.approx((want["whislo"], want["whishi"]))
    np.testing.assert_allclose(got.outliers, np.sort(want["fliers"]))
    assert len(got.outliers) > 0
    quality = correlate(zip(1 - s, iou), "Q-QAM", quality=True)
    np.testing.assert_allclose(quality.coefficients, got.coefficients)
    table = correlation_table([got, quality])
    assert table.index.tolist() == ["X-S_R", "Q-QAM"]
    assert table.loc["X-S_R", "median"] == got.median
    assert table["undefined"].tolist() == [2, 2]
    assert table["median"].dtype == float


def test_all_undefined():
    got = correlate([([0.5] * 4, [0.1, 0.2, 0.3, 0.4]), ([], [])])
    assert (got.undefined, len(got.coefficients)) == (2, 0)
    assert math.isnan(got.row()["median"])
    assert math.isnan(got.row()["whisker_low"])


def test_normalisation_names_the_area():
    total, area = [2.0, 0.0, 6.0], [4, 0, 3]
    np.testing.assert_array_equal(normalised(total, prediction=area), [0.5, math.nan, 2.0])
    np.testing.assert_array_equal(normalised(total, "truth", truth=[1, 2, 3]), [2, 0, 2])
    np.testing.assert_array_equal(normalised(total, "image", image=10), [0.2, 0, 0.6])
    with pytest.raises(InputError, match="truth is missing"):
        normalised(total, "truth", prediction=area)
    with pytest.raises(InputError, match="choose"):
        normalised(total, "size")
    with pytest.raises(InputError, match="one length"):
        normalised(total, prediction=[1, 2])


def test_changes():
    np.testing.assert_array_equal(change([1.0, 2.0, 4.0, 3.0]), [math.nan, 1, 2, -1])
    np.testing.assert_array_equal(change([1.0, 2.0, 4.0, 3.0], forward=True), [math.nan, 2, -1, math.nan])


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: object_correlation([1, 2], [0.5]), "one length"),
        (lambda: object_correlation([1, 2], [0.5, 50]), "outside"),
        (lambda: object_correlation([1, math.inf], [0.5, 0.5]), "infinite"),
        (lambda: object_correlation([1], [0.5], method="kendall"), "kendall"),
        (lambda: object_correlation([1], [0.5], first=-1), "first"),
    ],
)
def test_bad_series_are_named(call, word):
    with pytest.raises(InputError, match=word):
        call()


# --- figures ---


def drawn(figure: Figure) -> bytes:
    """The figure as pixels: nothing may fail when it is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return bytes(canvas.buffer_rgba())


def test_reliability_figure():
    rng = np.random.default_rng(5)
    conf = rng.uniform(0.4, 1, 2000)
    d = reliability(conf, rng.random(2000) < conf**2)
    figure = reliability_figure(d, title="tiny")
    full = d.counts > 0
    heights = [b.get_height() for b in figure.axes[0].containers[0]]
    np.testing.assert_allclose(heights, d.accuracy[full])
    assert f"{d.ece:.4f}" in figure.axes[0].get_legend().get_texts()[1].get_text()
    both = reliability_figure({"a": d, "b": reliability(conf, rng.random(2000) < conf, adaptive=True)})
    assert len(both.axes[0].lines) == 3
    assert drawn(figure) != drawn(both)
    with pytest.raises(InputError, match="no pixel"):
        reliability_figure(CalibrationMeter().result())


def test_correlation_figure():
    rng = np.random.default_rng(6)
    rows = [correlate([(rng.random(9), rng.random(9)) for _ in range(12)], name) for name in ("X-S_R", "E-V_R")]
    figure = correlation_figure({"DAVIS-17": rows, "LVOS": rows[:1]})
    assert [a.get_title() for a in figure.axes] == ["DAVIS-17", "LVOS"]
    levels = {round(float(np.unique(line.get_ydata())[0]), 9) for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1}
    assert {round(r.median, 9) for r in rows} <= levels
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["X-S_R\nn=12", "E-V_R\nn=12"]
    assert drawn(figure)
    assert drawn(correlation_figure([correlate([([1, 1], [0, 1])], "none")]))
    with pytest.raises(InputError, match="no correlation"):
        correlation_figure([])


def test_risk_coverage_figure():
    rng = np.random.default_rng(7)
    iou = rng.random(50)
    curves = {"S_R": risk_coverage(1 - iou + rng.random(50), iou), "V_R": risk_coverage(rng.random(50), iou)}
    figure = risk_coverage_figure(curves)
    assert len(figure.axes[0].lines) == 3  # one oracle for both
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), curves["S_R"].risk)
    assert drawn(figure)
    with pytest.raises(InputError, match="no unit"):
        risk_coverage_figure(RiskMeter().curve())


def test_entropy_figure(tmp_path: Path):
    events = [
        {"event": "commit", "t": 0, "scores": {}, "clicked": [1, 2], "kept": True},
        {"event": "commit", "t": 1, "scores": {"1": 0.1, "2": 0.2}, "kept": False},
        {"event": "request", "t": 2, "object": 1, "score": 0.7},
        {"event": "commit", "t": 2, "scores": {"1": 0.7, "2": 0.1}, "clicked": [1], "pseudo": [2], "kept": True, "iou": {"1": 0.3}},
        {"event": "commit", "t": 3, "scores": {"1": 0.2, "2": 0.1}, "kept": False, "iou": {"1": 0.8}},
    ]
    log = tmp_path / "session.jsonl"
    log.write_text("\n".join(json.dumps(e) for e in events))
    figure = entropy_figure(log, title="run")
    score, delta, iou = figure.axes
    np.testing.assert_allclose(delta.lines[0].get_ydata(), [0.6, -0.5])
    np.testing.assert_allclose(delta.lines[0].get_xdata(), [2, 3])
    marks = {c.get_label(): c.get_offsets().data.tolist() for c in score.collections}
    assert marks["request"] == marks["user correction"] == [[2, 0.7]]
    assert marks["pseudo-correction"] == [[2, 0.1]]
    assert [x for x, _ in marks["memory write"]] == [0, 2]
    assert score.lines[-1].get_ydata()[0] == 0.8
    assert {line.get_ydata()[0] for line in delta.lines[-2:]} == {0.5, 0.2}
    assert iou.lines[0].get_ydata()[0] == 0.3
    assert drawn(figure)

    one = entropy_figure(Curves.from_log(log), objects=[2], thresholds={"user": 0.4})
    assert len(one.axes) == 2
    assert one.axes[1].lines[-1].get_ydata()[0] == 0.4
    assert "request" not in {c.get_label() for c in one.axes[0].collections}
    assert len(entropy_figure(log, points=2).axes) == 2  # thinned: S_R and IoU, no change from frame to frame
    with pytest.raises(InputError, match="object 9"):
        entropy_figure(log, objects=[9])
    with pytest.raises(InputError, match="tau_x"):
        entropy_figure(log, thresholds={"tau_x": 1})
