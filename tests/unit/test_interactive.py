"""Clicks from scribbles, the robot that draws them, the interactive benchmark and its curves."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import line
from skimage.morphology import medial_axis

from lazyvos import rounds_cli
from lazyvos.datasets import GeneratedBenchmark, InteractiveDavis, Scribble
from lazyvos.experiments.interactive import Benchmark, collect, first_scribbles, play, run, worst_frame
from lazyvos.interact.robot import (
    Robot,
    bezier,
    disk_footprint,
    error_mask,
    find_cycle,
    longest_path,
    next_click,
    opening,
    pieces,
    pixel_graph,
    remove_cycles,
    skeleton,
)
from lazyvos.interact.strategies import (
    NOTHING,
    Spot,
    Strategy,
    components,
    depth_map,
    named,
    polyline,
    rasterise,
    to_clicks,
)
from lazyvos.masks import write_mask
from lazyvos.metrics import contour, region
from lazyvos.metrics.interactive import Curves, curves, per_round
from lazyvos.types import InputError

FEW, FEWER = settings(max_examples=20, deadline=None), settings(max_examples=6, deadline=None)


@st.composite
def labels(draw, ids=3, low=1, high=48):
    """A label map of smooth patches of any size."""
    size = draw(st.integers(low, high)), draw(st.integers(low, high))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.normal(size=(ids + 1, *size)), (0, 2, 2))
    return field.argmax(0).astype(np.uint8)


def pair(draw_from):
    """Truth and a prediction of the same size."""
    truth, seed = draw_from
    rng = np.random.default_rng(seed)
    guess = np.roll(truth, rng.integers(-6, 7, 2), (0, 1))
    guess[rng.random(truth.shape) < 0.02] = rng.integers(0, truth.max() + 1)
    return truth, guess


pairs = st.tuples(labels(), st.integers(0, 999)).map(pair)


# Scribbles as pixels


@FEW
@given(st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), min_size=2, max_size=5))
def test_lines_are_thin_connected_and_near_the_true_line(points):
    points = np.array(points)
    pixels = polyline(points)
    assert (pixels[0] == points[0]).all()
    assert (pixels[-1] == points[-1]).all()
    assert np.abs(np.diff(pixels, axis=0)).max(initial=0) <= 1
    a, b = points[:2]
    first = polyline(points[:2])
    assert len(first) == np.abs(b - a).max() + 1
    steps = np.linspace(0, 1, len(first))[:, None]
    assert np.abs(first - (a + steps * (b - a))).max() <= 0.5 + 1e-9
    ties = np.abs(np.abs(a + steps * (b - a) - first) - 0.5).min(initial=1) < 1e-9
    if not ties:  # where a pixel is nearest to the line, all algorithms agree
        rows, columns = line(a[1], a[0], b[1], b[0])
        assert first.tolist() == np.stack([columns, rows], 1).tolist()


def test_a_tie_steps_at_once():
    assert polyline(np.array([[0, 0], [2, 1]])).tolist() == [[0, 0], [1, 1], [2, 1]]
    assert polyline(np.array([[3, 3]])).tolist() == [[3, 3]]


def test_raster_reaches_the_last_pixel_and_later_strokes_cover():
    strokes = [Scribble(np.array([[0.0, 0.0], [1.0, 0.0]]), 1), Scribble(np.array([[1.0, 0.0], [1.0, 1.0]]), 2)]
    canvas = rasterise(strokes, (5, 8))
    assert canvas[0].tolist() == [1] * 7 + [2]
    assert (canvas[:, 7] == 2).all()
    assert (canvas == NOTHING).sum() == 40 - 12
    assert (rasterise([], (2, 3)) == NOTHING).all()


@FEW
@given(labels(ids=1))
def test_components_are_ordered_by_size(mask):
    ranked = components(mask)
    assert ((ranked > 0) == (mask > 0)).all()
    sizes = np.bincount(ranked.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()
    first = [np.flatnonzero(ranked.ravel() == n + 1)[0] for n in range(len(sizes))]
    assert all(first[i] > first[i + 1] for i in range(len(sizes) - 1) if sizes[i] == sizes[i + 1])
    assert len(sizes) == ndimage.label(mask, np.ones((3, 3)))[1]


@FEW
@given(labels(ids=1))
def test_depth_counts_erosions(mask):
    depth, left, wanted = depth_map(mask), mask > 0, np.zeros(mask.shape, int)
    while left.any():
        wanted += left
        left = ndimage.binary_erosion(left)
    np.testing.assert_array_equal(depth, wanted)


@FEW
@given(labels(ids=1), st.floats(1, 50))
def test_depth_stops_before_few_pixels_are_left(mask, share):
    depth, full = depth_map(mask, share), depth_map(mask)
    if mask.any():
        assert (depth == depth.max()).sum() >= (mask > 0).sum() / share
        assert depth.max() == full.max() or (full > depth.max()).sum() < (mask > 0).sum() / share
        assert (depth == np.minimum(full, depth.max())).all()


# Strategies


@FEW
@given(pairs, st.integers(1, 4), st.integers(0, 60), st.booleans())
def test_a3_clicks_lie_in_errors_large_enough_and_are_not_too_many(maps, limit, area, per_region):
    truth, guess = maps
    strategy = Strategy(kind="a3", limit=limit, min_area=area, per_region=per_region)
    spots = strategy.spots([], truth.shape, truth=truth, prediction=guess)
    for o in range(1, 5):
        for positive in (True, False):
            region = (truth == o) & (guess != o) if positive else (guess == o) & (truth != o)
            own = [s for s in spots if s.object == o and s.positive == positive]
            assert len(own) <= limit
            ranked = components(region)
            sizes = []
            for click in to_clicks(own, truth.shape):
                n = ranked[click.y, click.x]
                assert n
                sizes.append((ranked == n).sum())
                assert sizes[-1] >= area
            if per_region:
                assert len(sizes) == sum((ranked == n).sum() >= area for n in range(1, min(ranked.max(), limit) + 1))
                assert sizes == sorted(sizes, reverse=True)
            elif own and area == 0:
                depth = depth_map(region)
                assert all(depth[c.y, c.x] == depth.max() for c in to_clicks(own, truth.shape))


@FEW
@given(labels(ids=2, low=8), st.integers(1, 4), st.booleans())
def test_first_round_of_a3_is_positive_and_inside(truth, limit, random_pixel):
    strategy = Strategy(kind="a3", limit=limit, min_area=10**6, random_pixel=random_pixel)
    spots = strategy.spots([], truth.shape, truth=truth)
    assert {s.object for s in spots} == set(np.unique(truth)) - {0}
    assert all(s.positive and truth[c.y, c.x] == c.object for s, c in zip(spots, to_clicks(spots, truth.shape)))


@FEWER
@given(pairs, st.integers(1, 3), st.booleans())
def test_a2_clicks_lie_on_scribbles(maps, limit, random_pixel):
    truth, guess = maps
    strokes = Robot(kernel=0.05).scribbles(truth, guess)
    spots = Strategy(kind="a2", limit=limit, random_pixel=random_pixel).spots(strokes, truth.shape, rng=3)
    canvas = rasterise(strokes, truth.shape)
    positive = [s for s in spots if s.positive]
    for spot, click in zip(positive, to_clicks(positive, truth.shape)):
        assert canvas[click.y, click.x] == spot.object
    drawn = {int(v) for v in np.unique(canvas)} - {NOTHING}
    for o in drawn - {0}:
        pieces_of = min(components(canvas == o).max(), limit)
        assert sum(s.object == o for s in positive) == pieces_of
        others = sum(min(components(canvas == k).max(), limit) for k in drawn - {o})
        assert sum(s.object == o and not s.positive for s in spots) == others


def test_a1_has_negatives_only_with_a_background_scribble():
    one, two = Scribble(np.array([[0.1, 0.1], [0.2, 0.1], [0.9, 0.1]]), 1), Scribble(np.array([[0.5, 0.8]]), 2)
    assert Strategy(kind="a1").spots([one, two], (10, 20)) == [Spot(1, 0.1, 0.2), Spot(2, 0.8, 0.5)]
    spots = Strategy(kind="a1").spots([one, two, Scribble(np.array([[0.3, 0.4]]), 0)], (10, 20), objects=[1, 2, 3])
    assert [s[:3] for s in spots if not s.positive] == [
        (1, 0.4, 0.3), (1, 0.8, 0.5), (2, 0.4, 0.3), (2, 0.1, 0.2), (3, 0.4, 0.3), (3, 0.1, 0.2), (3, 0.8, 0.5),
    ]  # fmt: skip


@FEW
@given(st.integers(1, 900), st.integers(0, 10**6))
def test_fractions_give_their_pixel_back(length, seed):
    at = seed % length
    click = to_clicks([Spot(1, at / length, 0.0)], (length, 1))[0]
    assert (click.y, click.x) == (at, 0)
    assert to_clicks([Spot(1, 1.0, 1.0)], (length, 3))[0].y == length - 1


@pytest.mark.parametrize("per_region", [False, True])
def test_a_region_of_just_the_minimum_area_is_clicked(per_region):
    truth = np.zeros((12, 12), np.uint8)
    truth[2:7, 3:7] = 1
    for area, count in ((20, 1), (21, 0)):
        strategy = Strategy(kind="a3", min_area=area, per_region=per_region)
        assert len(strategy.spots([], truth.shape, truth=truth, prediction=np.zeros_like(truth))) == count


def test_jitter_stays_in_the_radius_and_in_the_frame():
    truth = np.ones((6, 40), np.uint8)
    plain = to_clicks(Strategy(kind="a3").spots([], truth.shape, truth=truth), truth.shape)[0]
    seen = set()
    for seed in range(60):
        spots = Strategy(kind="a3", jitter=5).spots([], truth.shape, truth=truth, rng=seed)
        click = to_clicks(spots, truth.shape)[0]
        assert (click.x - plain.x) ** 2 + (click.y - plain.y) ** 2 <= 6**2
        click.check_inside(truth.shape)
        assert spots == Strategy(kind="a3", jitter=5).spots([], truth.shape, truth=truth, rng=seed)
        seen.add((click.x, click.y))
    assert len(seen) > 10


def test_what_a_strategy_refuses():
    for wrong in ({"kind": "a4"}, {"limit": 0}, {"min_area": -1}, {"jitter": float("nan")}):
        with pytest.raises(InputError):
            Strategy(**wrong)
    with pytest.raises(InputError, match="truth"):
        Strategy(kind="a3").spots([], (4, 4))
    with pytest.raises(InputError, match="height, width"):
        Strategy(kind="a3").spots([], (4, 4), truth=np.zeros((4, 5), np.uint8))
    with pytest.raises(InputError, match="nonsense"):
        named("a2", {"nonsense": 1})
    assert named("a3", {"limit": 3}) == Strategy(kind="a3", limit=3)


# The robot


@FEWER
@given(labels(ids=1), st.floats(0.05, 2.0), st.integers(0, 9))
def test_opening_and_skeleton_are_those_of_the_whole_image(mask, kernel, seed):
    wanted, radius = mask > 0, min(kernel * np.sqrt((mask > 0).sum()) / 2, 16)
    if radius > 1:
        wanted = np.zeros(mask.shape, bool)
    while radius > 1 and not wanted.any():
        shape = disk_footprint(radius)
        wanted = ndimage.maximum_filter(ndimage.minimum_filter(mask > 0, footprint=shape), footprint=shape)
        radius *= 0.9
    opened = opening(mask, kernel)
    if opened is None:
        assert not wanted.any()
    else:
        np.testing.assert_array_equal(opened, wanted)
    np.testing.assert_array_equal(skeleton(mask, seed), medial_axis(np.pad(mask > 0, 1), rng=seed)[1:-1, 1:-1])


@FEWER
@given(labels(ids=1, high=60), st.integers(0, 9))
def test_paths_run_inside_the_opened_mask_pixel_by_pixel(mask, seed):
    opened = opening(mask)
    paths = Robot(seed=seed).paths(mask)
    for path in paths:
        assert opened[path[:, 1], path[:, 0]].all()
        assert np.abs(np.diff(path, axis=0)).max(initial=0) == 1
        assert len(np.unique(path, axis=0)) == len(path)
    again = Robot(seed=seed).paths(mask)
    assert [p.tolist() for p in paths] == [p.tolist() for p in again]


@FEW
@given(labels(ids=1, high=60), st.booleans())
def test_graph_part_is_that_of_a_graph_library(mask, thick):
    networkx = pytest.importorskip("networkx")
    pixels = mask > 0 if thick and mask.size < 200 else skeleton(mask)
    points, graph = pixel_graph(pixels)
    whole = networkx.Graph()
    whole.add_nodes_from(graph)
    whole.add_edges_from((a, b) for a in graph for b in graph[a])
    theirs = [whole.subgraph(nodes).copy() for nodes in networkx.connected_components(whole)]
    ours = pieces(graph)
    assert [list(p) for p in ours] == [list(p) for p in theirs]
    for mine, other in zip(ours, theirs):
        try:
            cycle = [a for a, _ in networkx.find_cycle(other)]
        except networkx.NetworkXNoCycle:
            cycle = []
        assert find_cycle(mine) == cycle
        tree = remove_cycles(mine, points)
        assert sum(map(len, tree.values())) == 2 * (len(tree) - 1)
        assert not find_cycle(tree)
        one = networkx.Graph((a, b) for a in tree for b in tree[a])
        path = longest_path(tree)
        assert len(path) == (networkx.diameter(one) + 1 if len(one) else 1)


@FEWER
@given(labels(ids=14, high=37), labels(ids=14, high=37))
def test_robot_takes_any_size_and_many_objects(truth, other):
    guess = np.resize(other, truth.shape)
    truth[-1, -1] = 255
    strokes = Robot(samples=40, kernel=0.1).scribbles(truth, guess)
    assert [s.object for s in strokes] == sorted(s.object for s in strokes)
    assert all(((s.points >= 0) & (s.points < 1)).all() for s in strokes)
    assert 255 not in {s.object for s in strokes}
    for s in strokes:
        assert error_mask(truth, guess, s.object).any()
    for kind in ("a1", "a2", "a3"):
        spots = Strategy(kind=kind, limit=3, min_area=0).spots(strokes, truth.shape, truth=truth, prediction=guess)
        for click in to_clicks(spots, truth.shape):
            click.check_inside(truth.shape)


def test_nothing_wrong_nothing_drawn():
    truth = np.zeros((9, 9), np.uint8)
    truth[2:7, 2:7] = 1
    assert Robot().scribbles(truth, truth) == []
    assert opening(np.zeros((3, 3), bool)) is None
    with pytest.raises(InputError, match="one size"):
        Robot().scribbles(truth, truth[:4])
    with pytest.raises(InputError, match="kernel"):
        Robot(kernel=0)


def test_long_bezier_curves_are_exact():
    points = np.stack([np.arange(1000.0), np.arange(1000.0)[::-1] / 7], 1)
    curve = bezier(points, 50)
    np.testing.assert_allclose(curve, np.linspace(points[-1], points[0], 50), rtol=0, atol=1e-6)
    snake = np.array([[0, y] if y % 2 else [1, y] for y in range(40)])
    assert len(Robot(samples=7).scribbles(np.pad(np.ones((3, 60), np.uint8), 9), np.zeros((21, 78), np.uint8))[0].points) > 7
    assert bezier(snake, 3)[0].tolist() == snake[-1].tolist()


@FEW
@given(pairs)
def test_next_click_heals_an_oracle_until_nothing_is_wrong(maps):
    truth, guess = (m == 1 for m in maps)
    clicked = []
    for _ in range(12):
        click = next_click(truth, guess, clicked)
        missing, extra = truth & ~guess, guess & ~truth
        if click is None:
            break
        assert (missing if click.positive else extra)[click.y, click.x]
        assert (click.x, click.y) not in clicked
        clicked.append((click.x, click.y))
    else:
        return
    assert not any(m[y, x] for m in (missing, extra) for y, x in np.ndindex(m.shape) if (x, y) not in clicked)


def test_next_click_is_positive_only_where_missing_is_deeper():
    truth, guess = np.zeros((9, 20), np.uint8), np.zeros((9, 20), np.uint8)
    truth[2:7, 2:7], guess[2:7, 12:17] = 1, 1
    assert not next_click(truth, guess).positive
    truth[1:8, 1:8] = 1
    click = next_click(truth, guess, identity=4)
    assert (click.x, click.y, click.object, click.positive) == (4, 4, 4, True)
    truth[1:8, 1:8] = 255
    assert not next_click(truth, guess).positive


# Curves


@FEW
@given(st.floats(0, 1), st.integers(1, 16))
def test_area_of_a_constant_metric(m, rounds):
    line_ = Curves(np.full(rounds, m), np.arange(1.0, rounds + 1), 2.0 * rounds)
    assert line_.r_auc() == pytest.approx(m * (rounds + 0.5) / (rounds + 1))
    assert line_.r_auc("rounds") == pytest.approx(m)
    assert line_.auc == pytest.approx(m * (1 - 0.5 / (2 * rounds)))
    if rounds == 8:
        assert line_.r_auc() == pytest.approx(8.5 / 9 * m)
    with pytest.raises(InputError):
        line_.r_auc("other")


def test_published_factor():
    assert Curves(np.ones(8), np.arange(8.0), 9.0).r_auc() == pytest.approx(0.944, abs=5e-4)


def _report(rows):
    return pd.DataFrame(rows, columns=["sequence", "sample", "round", "object", "frame", "J", "F", "JF", "seconds"])


def test_missing_rounds_keep_the_last_values_and_take_no_time():
    rows = [("a", 1, n, 1, t, 0.1 * n, 0.5, 0.2 * n, 4.0) for n in (1, 2) for t in range(3)]
    rows += [("b", 1, n, o, 0, 0.5, 0.5, 0.5, 10.0) for n in (1, 2, 3) for o in (1, 2)]
    table = per_round(_report(rows), 3, samples=[("c", 1, 1)])
    own = table[table["sequence"] == "a"]
    assert own["JF"].tolist() == pytest.approx([0.2, 0.4, 0.4])
    assert own["seconds"].tolist() == [4, 4, 0]
    assert table[table["sequence"] == "c"][["J", "F", "JF", "seconds"]].to_numpy().tolist() == [[0, 0, 0, 0]] * 3
    line_ = curves(_report(rows), 3, seconds_per_object=100)
    assert line_.metric.tolist() == pytest.approx([(0.2 + 1) / 3, (0.4 + 1) / 3, (0.4 + 1) / 3])
    assert line_.seconds.tolist() == pytest.approx([7, 14, 19])
    assert line_.timeout == 150
    assert curves(_report(rows), 3, seconds_per_object=None).timeout == 30
    assert curves(_report(rows), 3, seconds_per_object=1).timeout == 19
    assert line_.at(7) == pytest.approx(0.4)
    assert line_.at(1000) == pytest.approx(1.4 / 3)
    with pytest.raises(InputError, match="no column"):
        per_round(_report(rows).drop(columns="J"), 3)
    with pytest.raises(InputError, match="empty"):
        per_round(_report([]), 3)


# The benchmark


class Clip:
    """Squares that move; object 2 comes late, a corner is void."""

    def __init__(self, name="clip", length=9, size=(40, 56)):
        self.name, self.size, self._length = name, size, length
        self.frames = SimpleNamespace(frame=lambda t: np.zeros((*size, 3), np.uint8))
        self.entries, self.objects, self.start, self.annotated = {1: 0, 2: 3}, [1], 0, list(range(length))

    def __len__(self):
        return self._length

    def mask(self, t):
        out = np.zeros(self.size, np.uint8)
        out[6:26, 4 + 2 * t : 22 + 2 * t] = 1
        if t >= 3:
            out[28:38, 40 - 3 * t : 54 - 3 * t] = 2
        out[:3, :3] = 255
        return out


class Oracle:
    """Knows the truth of clicked objects near clicked frames."""

    def __init__(self, clip, reach=1):
        self.clip, self.reach, self.known, self.calls, self.closed = clip, reach, set(), [], False

    def interact(self, frame, clicks):
        self.calls.append((frame, tuple(clicks)))
        for click in clicks:
            if click.positive:
                self.known |= {(t, click.object) for t in range(frame - self.reach, frame + self.reach + 1)}

    def labels(self, t):
        truth = self.clip.mask(t)
        return np.where(np.isin(truth, [o for k, o in self.known if k == t]), truth, 0).astype(np.uint8)

    def close(self):
        self.closed = True


class Clock:
    """Every look takes a second."""

    def __init__(self, step=1.0):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def _play(clip, rules=None, tracker=None, **options):
    rules = rules or Benchmark()
    [(number, first), *_] = first_scribbles([clip], clip, rules)
    tracker = tracker or Oracle(clip)
    return play(clip, number, first, lambda _: tracker, rules, clock=Clock(), **options), tracker


def test_a_session_goes_to_the_worst_frame_and_gets_better():
    record, tracker = _play(Clip(), Benchmark(rounds=8))
    assert len(record["rounds"]) == 8
    assert tracker.closed
    chosen = [r["frame"] for r in record["rounds"]]
    assert chosen[0] == 0
    assert len(set(chosen[1:])) == 7
    means = [(np.array(r["J"]).mean() + np.array(r["F"]).mean()) / 2 for r in record["rounds"]]
    assert means == sorted(means)
    assert means[-1] > 0.95
    j, f = (np.array(record["rounds"][0][m]) for m in "JF")
    assert chosen[1] == int(np.argmin((j + f).mean(1)))
    assert [r["seconds"] for r in record["rounds"]] == [1.0] * 8
    for frame, clicks in tracker.calls:
        assert frame in chosen
        assert all(c.object in (1, 2) for c in clicks)
    started = set()
    for _, clicks in tracker.calls:
        started |= {c.object for c in clicks if c.positive}
        assert {c.object for c in clicks} <= started


def test_scores_are_of_all_frames_by_the_usual_measures():
    clip = Clip()
    record, tracker = _play(clip, Benchmark(rounds=3))
    truths = [clip.mask(t) for t in range(len(clip))]
    guesses = [tracker.labels(t) for t in range(len(clip))]
    for i, o in enumerate(record["objects"]):
        last = record["rounds"][-1]
        for t in range(len(clip)):
            void = truths[t] == 255
            assert last["J"][t][i] == region(guesses[t] == o, truths[t] == o, void)
            assert last["F"][t][i] == contour(guesses[t] == o, truths[t] == o, void)


def test_a_perfect_tracker_is_not_clicked_again():
    record, tracker = _play(Clip(length=2), tracker=Oracle(Clip(length=2), reach=9))
    assert len(tracker.calls) == 1
    assert len(record["rounds"]) == 8
    assert all(not r["clicks"] for r in record["rounds"][1:])


def test_time_runs_out():
    clip = Clip()
    rules = Benchmark(rounds=4, seconds=1.0)  # 8 s in all
    [(_, first), *_] = first_scribbles([clip], clip, rules)
    record = play(clip, 1, first, Oracle, rules, clock=Clock(3.0))
    assert record["late"]
    assert len(record["rounds"]) == 2
    done = run([clip], Oracle, rules, clock=Clock(3.0), progress=False)
    own = done.frame[done.frame["sample"] == 1]
    assert own["round"].max() == 2
    table = done.per_round()
    assert table["seconds"].tolist() == [3, 3, 0, 0]
    assert table["JF"][2] == table["JF"][1] > 0
    assert done.summary()["late"] == len(done.records)
    none = run([clip], Oracle, rules, clock=Clock(30.0), progress=False)
    assert none.frame.empty
    assert none.summary()["R-AUC-JF"] == 0
    free = run([clip], Oracle, Benchmark(rounds=4, seconds=None), clock=Clock(30.0), progress=False)
    assert free.summary()["late"] == 0
    assert free.summary()["timeout"] == 120


def test_choice_of_the_next_frame():
    j = np.array([[0.9, 0.9], [0.2, 0.8], [0.6, 0.3], [0.2, 0.8]])
    f = np.array([[0.1, 0.0], [0.9, 0.9], [0.6, 0.6], [0.9, 0.9]])
    frames = [10, 20, 30, 40]
    assert worst_frame(j, f, frames) == 10
    assert worst_frame(j, f, frames, Benchmark(metric="J")) == 30
    assert worst_frame(j, f, frames, Benchmark(choose="thesis")) == 30
    assert worst_frame(j, f, frames, Benchmark(metric="F"), used=[10]) == 30
    assert worst_frame(j, f, frames, Benchmark(metric="J", candidates=(20, 40))) == 20
    assert worst_frame(j, f, frames, Benchmark(candidates=(20, 40), metric="J"), used=[20]) == 40
    assert worst_frame(j, f, frames, Benchmark(candidates=(20, 40), metric="J"), used=[20, 40]) == 20
    with pytest.raises(InputError, match="candidates"):
        worst_frame(j, f, frames, Benchmark(candidates=(5,)))


def test_generated_first_scribbles():
    clip = Clip()
    rules = Benchmark()
    sets = first_scribbles([clip], clip, rules)
    assert [n for n, _ in sets] == [1, 2, 3]
    assert sets[0][1].frame == 0
    assert len({s.frame for _, s in sets}) == 3
    for _, one in sets:
        truth = clip.mask(one.frame)
        assert [s.object for s in one.strokes] == [o for o in (1, 2) if (truth == o).any()]
        for stroke in one.strokes:
            canvas = rasterise([stroke], clip.size)
            assert (truth[canvas == stroke.object] == stroke.object).mean() > 0.9
    again = first_scribbles([clip], clip, rules)
    assert [s.frame for _, s in again] == [s.frame for _, s in sets]
    drawn = {tuple(s.frame for _, s in first_scribbles([clip], clip, Benchmark(first="random", seed=k))) for k in range(5)}
    assert len(drawn) > 1
    tiny = Clip()
    tiny.mask = lambda t: np.pad(np.array([[1, 1], [0, 0]], np.uint8), 9)
    tiny.size = (20, 20)
    dot = first_scribbles([tiny], tiny, Benchmark(sets=1))[0][1].strokes
    assert [(s.object, len(s.points)) for s in dot] == [(1, 1)]
    click = to_clicks(Strategy(kind="a1").spots(dot, tiny.size), tiny.size)[0]
    assert tiny.mask(0)[int(click.y), int(click.x)] == 1


def _davis(tmp_path):
    clip = Clip("walk", 4)
    for t in range(4):
        write_mask(tmp_path / "Annotations" / "480p" / "walk" / f"{t:05d}.png", clip.mask(t))
        write_mask(tmp_path / "JPEGImages" / "480p" / "walk" / f"{t:05d}.png", clip.mask(t))
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("walk\n")
    (tmp_path / "Scribbles" / "walk").mkdir(parents=True)
    for n in (1, 2, 4):
        strokes = [[], [], [{"path": [[0.3, 0.3], [0.4, 0.4]], "object_id": 1}], []]
        (tmp_path / "Scribbles" / "walk" / f"{n:03d}.json").write_text(json.dumps({"scribbles": strokes, "annotated_frame": 2}))
    return InteractiveDavis(tmp_path)


def test_scribbles_of_the_dataset_come_first(tmp_path):
    dataset = _davis(tmp_path)
    found = first_scribbles(dataset, dataset["walk"], Benchmark(sets=3))
    assert [n for n, _ in found] == [1, 2, 4]
    assert [s.frame for _, s in found] == [2, 2, 2]
    assert [n for n, _ in first_scribbles(dataset, dataset["walk"], Benchmark(sets=2))] == [1, 2]
    done = run(dataset, Oracle, Benchmark(rounds=2), progress=False)
    assert set(done.frame["sample"]) == {1, 2, 4}
    assert (done.frame.query("round == 1")["shown"] == 2).all()
    out = tmp_path / "results"
    for fresh in (0, 3, 2):  # other scribbles are another start
        if fresh == 2:
            file = tmp_path / "Scribbles" / "walk" / "002.json"
            file.write_text(file.read_text().replace("0.4, 0.4", "0.4, 0.5"))
        assert run(dataset, Oracle, Benchmark(rounds=2), out=out, progress=False).reused == fresh


class Killed(Exception):
    """Someone pulled the plug."""


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    clips = [Clip("one", 6), Clip("two", 5)]
    rules = Benchmark(rounds=3, sets=2, strategy=Strategy(kind="a2", limit=2, jitter=3, random_pixel=True))
    whole = run(clips, Oracle, rules, out=tmp_path / "whole", clock=Clock(), progress=False)
    made = []

    def dying(clip):
        made.append(clip.name)
        if len(made) == 3:
            raise Killed
        return Oracle(clip)

    with pytest.raises(Killed):
        run(clips, dying, rules, out=tmp_path / "cut", clock=Clock(), progress=False)
    assert len(list(collect(tmp_path / "cut"))) == 2
    assert not [p for p in (tmp_path / "cut").rglob("*") if p.name.startswith(".")]
    rest = []
    resumed = run(clips, lambda c: rest.append(c.name) or Oracle(c), rules, out=tmp_path / "cut", clock=Clock(), progress=False)
    assert resumed.reused == 2
    assert rest == ["two"] * 2
    pd.testing.assert_frame_equal(resumed.frame, whole.frame)
    assert resumed.summary() == whole.summary()
    for other in (replace(rules, rounds=2), replace(rules, choose="thesis")):
        assert run(clips[:1], Oracle, other, out=tmp_path / "cut", clock=Clock(), progress=False).reused == 0
    assert run(clips[:1], Oracle, rules, identity={"weights": "b"}, out=tmp_path / "cut", clock=Clock(), progress=False).reused == 0
    assert run(clips, Oracle, rules, out=tmp_path / "cut", clock=Clock(), progress=False, sequences=["two"]).reused == 2


def test_report_and_summary():
    done = run([Clip("one")], Oracle, Benchmark(rounds=3, sets=1), clock=Clock(), progress=False)
    frame = done.frame
    assert len(frame) == 3 * 2 * 9
    assert not frame.duplicated(["sequence", "sample", "round", "object", "frame"]).any()
    np.testing.assert_allclose(frame["JF"], (frame["J"] + frame["F"]) / 2)
    assert (frame["seconds"] == 1).all()
    summary, table = done.summary(), done.per_round()
    assert summary["JF"] == pytest.approx(frame.query("round == 3")["JF"].mean())
    assert table["JF"].tolist() == pytest.approx(frame.groupby("round")["JF"].mean().tolist())
    ordinates = [0, *table["JF"], table["JF"].iloc[-1]]
    assert summary["R-AUC-JF"] == pytest.approx(np.mean([(a + b) / 2 for a, b in pairwise(ordinates)]))
    clicks = sum(len(r["clicks"]) for r in done.records[0]["rounds"])
    assert summary["NoC"] == clicks / 2 == table["clicks"].iloc[-1]
    assert frame.drop_duplicates(["round", "object"])["clicks"].sum() == clicks
    assert summary["seconds"] == 3
    assert summary["hardware"]
    json.dumps(summary)


def test_what_the_benchmark_refuses():
    for wrong in ({"rounds": 0}, {"rounds": 17}, {"seconds": 0.0}, {"seconds": 100.0}, {"sets": 0}, {"choose": "x"}, {"candidates": ()}):
        with pytest.raises(InputError):
            Benchmark(**wrong)
    with pytest.raises(InputError, match="nobody"):
        run([Clip()], Oracle, sequences=["nobody"], progress=False)
    empty = Clip()
    empty.entries = {}
    with pytest.raises(InputError, match="no truth"):
        _play(empty)
    with pytest.raises(InputError, match="labels are"):
        _play(Clip(), tracker=SimpleNamespace(interact=lambda *a: None, labels=lambda t: np.zeros((2, 2), np.uint8)))


@pytest.mark.parametrize("strategy", ["a1", "a2", "a3"])
def test_command_on_generated_clips(strategy, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    rounds_cli.add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    words = ["generated:smoke", "--strategy", strategy, "--limit", "3", "--min-area", "9", "--rounds", "3", "--sets", "1", "--out", str(tmp_path)]
    words += ["--sequences", GeneratedBenchmark("smoke").names[-1]]
    factory = lambda args: (lambda clip: Oracle(clip, 3), {"tracker": "oracle"}, "cpu")  # noqa: E731
    answer = rounds_cli.run(parser.parse_args([*words, "--json"]), factory)
    assert capsys.readouterr().out == ""
    json.dumps(answer)
    assert [r["round"] for r in answer["per_round"]] == [1, 2, 3]
    assert answer["per_round"][-1]["JF"] > answer["per_round"][0]["JF"]
    assert answer["reused"] == 0
    assert len(pd.read_csv(tmp_path / "rounds.csv")) == 3
    again = rounds_cli.run(parser.parse_args(words), factory)
    assert again["reused"] == 1
    assert again["per_round"] == answer["per_round"]
    assert "R-AUC-JF" in capsys.readouterr().out
    with pytest.raises(InputError, match="no sequence"):
        rounds_cli.run(parser.parse_args([*words[:1], "--sequences", "nobody"]), factory)
    with pytest.raises(InputError, match="rounds is 99"):
        rounds_cli.run(parser.parse_args([*words, "--rounds", "99"]), factory)


def test_two_rounds_of_the_shipped_network():
    parser = argparse.ArgumentParser()
    rounds_cli.add_arguments(parser)
    args = parser.parse_args(["generated:smoke", "--size", "96", "--fusion", "linear", "--device", "cpu", "--precision", "fp32"])
    make, identity, device = rounds_cli.trackers(args)
    assert device == "cpu"
    assert identity["backbone weights"]
    clip = next(iter(GeneratedBenchmark("smoke")))
    done = run([clip], make, Benchmark(rounds=2, sets=1), identity=identity, progress=False)
    assert done.per_round()["JF"].iloc[-1] > 0.3
