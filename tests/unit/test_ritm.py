"""RITM's predictor where no published number speaks: crops kept and renewed, borders, many clicks, f-BRS-B's search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from lazyvos.refine import Refiner, RitmRefiner
from lazyvos.refine.brs import Brs, BrsConfig, BrsProblem, _Search, squares
from lazyvos.refine.ritm import RitmConfig, RitmNet, click_points
from lazyvos.refine.ritm_predictor import RitmPredictor
from lazyvos.refine.zoom import Roi, ZoomIn, interval_iou, mirror, mirror_clicks, unmirror
from lazyvos.types import Click, InputError

SIZE = (600, 800)


def at(row: float, column: float, positive: bool = True, name: int = 1) -> Click:
    return Click(column, row, name, positive)


def answer(top: int, bottom: int, left: int, right: int, size: tuple[int, int] = SIZE) -> Tensor:
    """A previous answer that is certain of one box (ends included)."""
    prob = torch.zeros(1, 1, *size)
    prob[:, :, top : bottom + 1, left : right + 1] = 0.9
    return prob


def zoomed(zoom: ZoomIn, previous: Tensor, clicks: list[Click]) -> Roi | None:
    zoom.previous = previous
    zoom.transform(previous, clicks)
    return zoom.active


# zoom-in


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ((0, 9), (5, 14), 5 / 15),
        ((0, 4), (4, 8), 1 / 9),
        ((0, 9), (20, 29), 0.0),
        ((3, 7), (3, 7), 1.0),
        ((0, 9), (2, 3), 0.2),
    ],
)
def test_interval_iou_counts_both_ends(a: tuple[int, int], b: tuple[int, int], wanted: float) -> None:
    assert interval_iou(a, b) == pytest.approx(wanted)
    assert interval_iou(b, a) == pytest.approx(wanted)


def test_roi_iou_is_a_product() -> None:
    assert Roi(0, 9, 0, 9).iou(Roi(0, 4, 0, 9)) == pytest.approx(0.5)
    assert Roi(0, 9, 0, 9).iou(Roi(0, 4, 0, 4)) == pytest.approx(0.25)
    assert Roi(0, 9, 0, 9).iou(Roi(0, 9, 10, 19)) == 0


def test_zoom_sleeps_at_the_first_click_and_without_an_answer() -> None:
    two = [at(210, 310), at(220, 320)]
    assert zoomed(ZoomIn(), answer(200, 239, 300, 339), two[:1]) is None
    assert zoomed(ZoomIn(), torch.full((1, 1, *SIZE), 0.5), two) is None  # 0.5 is not above the threshold
    fresh = ZoomIn()
    image = torch.rand(1, 4, *SIZE)
    same, clicks = fresh.transform(image, two)
    assert same is image
    assert clicks == two


def test_zoom_takes_the_smallest_crop_around_a_small_object() -> None:
    # rows 200..239: centre 219.5, half 100 -> 119.5 and 319.5, both to the even neighbour
    assert zoomed(ZoomIn(), answer(200, 239, 300, 339), [at(210, 310)] * 2) == Roi(120, 320, 220, 420)


def test_zoom_includes_positive_clicks_only() -> None:
    box = answer(200, 239, 300, 339)
    assert zoomed(ZoomIn(), box, [at(210, 310), at(500, 700, positive=False)]) == Roi(120, 320, 220, 420)
    # rows 200..400: 1.4 * 201 = 281.4 around 300; columns 300..500 alike around 400
    assert zoomed(ZoomIn(), box, [at(210, 310), at(400, 500)]) == Roi(159, 441, 259, 541)


def test_zoom_is_cut_at_the_border() -> None:
    zoom = ZoomIn()
    assert zoomed(zoom, answer(0, 39, 760, 799), [at(0, 799)] * 2) == Roi(0, 120, 680, 799)
    crop, clicks = zoom.transform(torch.rand(1, 4, *SIZE), [at(0, 799), at(599, 0, positive=False)])
    assert crop.shape == (1, 4, 400, 397)
    assert (clicks[0].y, clicks[0].x) == (0, pytest.approx(397 * 119 / 120))
    assert (clicks[1].y, clicks[1].x) == (pytest.approx(400 * 599 / 121), pytest.approx(-397 * 680 / 120))


def test_zoom_keeps_its_crop_while_it_fits() -> None:
    zoom = ZoomIn()
    first = zoomed(zoom, answer(200, 239, 300, 339), [at(210, 310)] * 2)
    assert zoomed(zoom, answer(220, 259, 310, 349), [at(319, 310)] * 2) is first
    assert (
        zoomed(zoom, answer(220, 259, 310, 349), [at(320, 310)] * 2) is not first
    )  # the last row counts as outside


@pytest.mark.parametrize("click", [(320, 300), (119, 300), (200, 420), (200, 219)])
def test_zoom_renews_its_crop_for_a_positive_click_outside(click: tuple[int, int]) -> None:
    zoom = ZoomIn()
    box = answer(200, 239, 300, 339)
    first = zoomed(zoom, box, [at(210, 310)] * 2)
    assert zoomed(zoom, box, [at(210, 310), at(*click, positive=False)]) is first
    renewed = zoomed(zoom, box, [at(210, 310), at(*click)])
    assert renewed is not None
    assert renewed is not first
    assert renewed.top <= click[0] <= renewed.bottom
    assert renewed.left <= click[1] <= renewed.right


def test_zoom_renews_its_crop_when_it_overlaps_too_little() -> None:
    zoom = ZoomIn()
    click = [at(299, 399)] * 2
    first = zoomed(zoom, answer(150, 449, 250, 549), click)  # 300 pixels -> 421
    assert first is not None
    assert first.size == (421, 421)
    assert zoomed(zoom, answer(190, 409, 290, 509), click) is first  # 220 pixels -> 309: (309/421)^2 = 0.539
    renewed = zoomed(zoom, answer(195, 404, 295, 504), click)  # 210 pixels -> 295: 0.7 a side, 0.491 in all
    assert renewed is not None
    assert renewed.size == (295, 295)


def test_zoom_inverse_pastes_into_zeros_and_becomes_the_reference() -> None:
    zoom = ZoomIn()
    roi = zoomed(zoom, answer(200, 239, 300, 339), [at(210, 310)] * 2)
    assert roi is not None
    prob = zoom.inverse(torch.full((1, 1, 400, 400), 0.75))
    assert zoom.previous is prob
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[roi.top : roi.bottom + 1, roi.left : roi.right + 1] = True
    assert torch.allclose(prob[0, 0][inside], torch.tensor(0.75))
    assert prob[0, 0][~inside].abs().max() == 0


def test_mirror_there_and_back() -> None:
    image = torch.rand(1, 3, 5, 7)
    both = mirror(image)
    assert torch.equal(both[1], image[0].flip(2))
    assert torch.allclose(unmirror(both), image)
    click = at(2, 1.25)
    assert mirror_clicks([click], 7) == [at(2, 4.75)]
    assert mirror_clicks(mirror_clicks([click], 7), 7) == [click]


# click maps


def test_disks_include_their_rim_and_take_fractions() -> None:
    net = RitmNet(RitmConfig(2, 2, True))
    maps = net.click_maps(click_points([[at(10, 12), at(9.5, 3, positive=False)]]), (20, 30))
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    assert torch.equal(maps[0, 0], ((rows - 10) ** 2 + (columns - 12) ** 2 <= 25).float())
    assert torch.equal(maps[0, 1], ((rows - 9.5) ** 2 + (columns - 3) ** 2 <= 25).float())
    assert maps[0, 0, 10, 17] == 1
    assert maps[0, 0, 10, 18] == 0


def test_points_are_empty_only_where_both_coordinates_are_negative() -> None:
    net = RitmNet(RitmConfig(2, 2, True))
    points = click_points([[at(-2, 8), at(-2, -3, positive=False)], []])
    assert points.shape == (2, 2, 3)
    maps = net.click_maps(points, (10, 20))
    assert maps[0, 0, 0, 8] == 1
    assert maps[0, 0, 3, 8] == 1
    assert maps[0, 1].sum() == 0
    assert maps[1].sum() == 0


# f-BRS-B


def test_squares_at_the_border() -> None:
    def count(row: float, column: float) -> int:
        return int(squares([[at(row, column)]], (8, 10), True).sum())

    assert count(4, 5) == 9
    assert [count(0, 5), count(4, 0), count(0, 0)] == [0, 0, 0]  # published quirk: they would start at -1
    assert [count(7, 5), count(4, 9), count(7, 9)] == [6, 6, 4]
    assert [count(-30, 5), count(30, 5), count(4, -30)] == [0, 0, 0]
    assert int(squares([[at(4, 5)]], (8, 10), False).sum()) == 0


def test_squares_round_the_mirrored_column_after_mirroring() -> None:
    click = at(4, 2.5)
    plane = squares([[click], mirror_clicks([click], 10)], (8, 10), True)
    assert plane[0, 0].any(0).nonzero().flatten().tolist() == [1, 2, 3]
    assert plane[1, 0].any(0).nonzero().flatten().tolist() == [
        5,
        6,
        7,
    ]  # 6.5 goes to 6; mirrored later it would be 7


def summing_heads(features: Tensor) -> tuple[Tensor, Tensor]:
    logit = features.sum(1, keepdim=True)
    return logit, logit


def problem(features: Tensor, clicks: list[Click], config: BrsConfig | None = None) -> BrsProblem:
    size = (features.shape[-2], features.shape[-1])
    return BrsProblem(summing_heads, features, size, [clicks] * len(features), config or BrsConfig())


def test_objective_by_hand() -> None:
    own = problem(torch.ones(1, 2, 8, 8), [at(2, 2), at(5, 5, positive=False)])
    prob = 1 / (1 + np.exp(-2.6))  # 2 * (1 * 1.1 + 0.2)
    squared = 9 / (9 + 1e-5) * ((1 - prob) ** 2 + prob**2)
    value, gradient, logits = own.evaluate(np.array([0.1, 0.1, 0.2, 0.2]))
    assert logits.unique().tolist() == pytest.approx([2.6])
    assert value == pytest.approx(squared + 1e-3 * (2 * 0.01 + 10 * 2 * 0.04), rel=1e-5)
    slope = 9 / (9 + 1e-5) * prob * (1 - prob) * (-2 * (1 - prob) + 2 * prob)
    assert gradient == pytest.approx([slope + 2e-4, slope + 2e-4, slope + 4e-3, slope + 4e-3], rel=1e-4)


def test_both_copies_share_one_sum() -> None:
    features = torch.ones(2, 1, 8, 8)
    features[1] = -1
    click = at(4, 0)  # at the left border: its square is empty here and whole in the mirrored copy
    own = BrsProblem(summing_heads, features, (8, 8), [[click], mirror_clicks([click], 8)], BrsConfig())
    missed = 1 - 1 / (1 + np.exp(1.0))
    assert own.evaluate(np.zeros(2))[0] == pytest.approx(6 / (6 + 1e-5) * missed**2, rel=1e-5)


def test_search_waits_for_the_second_click() -> None:
    own, brs = problem(torch.ones(1, 2, 8, 8), [at(4, 4, positive=False)]), Brs()
    logits = brs.solve(own, 1)
    assert brs.x is None
    assert brs.evaluations == 0
    assert torch.equal(logits, torch.full((1, 1, 8, 8), 2.0))


def test_search_ends_at_once_where_the_clicks_agree() -> None:
    brs = Brs()
    brs.solve(problem(torch.ones(1, 2, 8, 8), [at(4, 4)]), 2)
    assert brs.evaluations == 1
    assert brs.x is not None
    assert not brs.x.any()


def contested() -> BrsProblem:
    """Object everywhere, one click for and one against: only a scale that tells the channels apart agrees with both."""
    features = torch.zeros(1, 2, 8, 16)
    features[:, 0, :, :8] = 1
    features[:, 1, :, 8:] = 1
    return problem(features, [at(4, 3), at(4, 12, positive=False)], BrsConfig(same_mask=1.1))


def test_search_agrees_with_the_clicks_and_warm_starts_the_next() -> None:
    own, brs = contested(), Brs(BrsConfig(same_mask=1.1))
    prob = torch.sigmoid(brs.solve(own, 2))
    assert prob[0, 0, 4, 3] > 0.5
    assert prob[0, 0, 4, 12] < 0.5
    assert brs.x is not None
    assert brs.x[1] < -0.1
    assert brs.start(own) is brs.x
    assert brs.evaluations >= 2


def test_search_returns_the_lowest_objective_it_saw() -> None:
    seen: list[tuple[float, Tensor]] = []

    class Watched(BrsProblem):
        def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray, Tensor]:
            value, gradient, logits = super().evaluate(x)
            seen.append((value, logits))
            return value, gradient, logits

    own = contested()
    watched = Watched(own.heads, own.features, own.size, [[at(4, 3), at(4, 12, positive=False)]], own.config)
    found = Brs(own.config).solve(watched, 2)
    assert len(seen) > 1
    assert found is min(seen, key=lambda pair: pair[0])[1]


def test_search_stops_when_the_mask_stays() -> None:
    own = contested()
    x = np.zeros(own.variables)
    search = _Search(own, BrsConfig())
    assert search(x)[1].any()  # the first evaluation has nothing to compare with
    assert not search(x + 1e-3)[1].any()
    patient = _Search(own, own.config)
    assert patient(x)[1].any()
    assert patient(x + 1e-3)[1].any()


# predictor


class DiskNet(RitmNet):
    """Says object exactly where the positive disks are; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(RitmConfig(2, 2, True))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def features(self, image: Tensor, points: Tensor) -> Tensor:
        self.seen.append((image, points))
        return self.click_maps(points, (image.shape[-2], image.shape[-1]))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logit = 20 * features[:, :1] - 10
        return logit, logit


FRAME = np.random.default_rng(0).integers(0, 256, (500, 640, 3), dtype=np.uint8)


def test_predictor_answers_where_the_clicks_are() -> None:
    predictor = RitmPredictor(DiskNet())
    predictor.start(FRAME)
    first = predictor.add(at(200, 300)) > 0.5
    assert first.sum() == 81  # pixels within 5 pixels of a point
    both = predictor.add(at(260, 330)) > 0.5
    assert predictor.zoom is not None
    assert predictor.zoom.active is not None
    labels, count = ndimage.label(both.numpy())
    assert count == 2
    centres = ndimage.center_of_mass(both.numpy(), labels, [1, 2])
    assert np.allclose(centres, [(200, 300), (260, 330)], atol=0.6)
    assert 10 < both.sum() / 2 < 40  # the disks shrink with the zoom


@pytest.mark.parametrize("corner", [(0, 0), (0, 639), (499, 0), (499, 639)])
def test_predictor_takes_clicks_in_the_corners(corner: tuple[int, int]) -> None:
    predictor = RitmPredictor(DiskNet(), brs=BrsConfig())
    predictor.start(FRAME)
    predictor.add(at(250, 320))
    prob = predictor.add(at(*corner))
    assert prob.shape == FRAME.shape[:2]
    assert prob.isfinite().all()
    assert prob[corner] > 0.5


def filled(points: Tensor) -> list[list[tuple[float, float]]]:
    """The points of every batch item that are not empty, sorted."""
    return [sorted((r, c) for r, c, _ in item.tolist() if max(r, c) >= 0) for item in points]


def test_brs_feeds_eight_clicks_and_judges_all() -> None:
    clicks = [at(100 + 10 * i, 200 + 7 * i, positive=i % 3 != 2) for i in range(11)]
    net = DiskNet()
    predictor = RitmPredictor(net, zoom=None, brs=BrsConfig())
    predictor.start(FRAME)
    predictor.add(*clicks[:10])
    fed = filled(net.seen[-1][1])
    assert fed[0] == sorted((c.y, c.x) for c in clicks[:8])
    assert fed[1] == sorted((c.y, 639 - c.x) for c in clicks[:8])
    judged = predictor.problem(clicks[10])
    assert judged.positive[0].sum() == 9 * sum(c.positive for c in clicks)
    assert judged.negative[0].sum() == 9 * sum(not c.positive for c in clicks)
    assert predictor.clicks == clicks[:10]  # asking for the problem changes nothing
    plain = RitmPredictor(net, zoom=None, flip=False)
    plain.start(FRAME)
    plain.add(*clicks)
    assert len(filled(net.seen[-1][1])[0]) == 11


def test_predictor_feeds_its_answer_back_and_takes_a_mask() -> None:
    net = DiskNet()
    predictor = RitmPredictor(net, zoom=None, flip=False)
    mask = torch.rand(500, 640)
    predictor.start(FRAME, mask)
    first = predictor.add(at(20, 30))
    assert torch.equal(net.seen[0][0][0, 3], mask)
    assert torch.allclose(net.seen[0][0][0, :3], torch.from_numpy(FRAME).permute(2, 0, 1) / 255)
    predictor.add(at(40, 50))
    assert torch.equal(net.seen[1][0][0, 3], first)
    predictor.start(FRAME)
    predictor.add(at(40, 50))
    assert net.seen[2][0][0, 3].abs().max() == 0


def test_predictor_names_what_is_wrong() -> None:
    predictor = RitmPredictor(DiskNet())
    with pytest.raises(RuntimeError, match=r"start\(\)"):
        predictor.add(at(1, 1))
    with pytest.raises(InputError, match="uint8"):
        predictor.start(FRAME.astype(np.float32))
    with pytest.raises(InputError, match="mask has shape"):
        predictor.start(FRAME, torch.zeros(5, 5))
    predictor.start(FRAME)
    with pytest.raises(InputError, match="outside the frame"):
        predictor.add(at(500, 1))
    assert predictor.clicks == []
    with pytest.raises(RuntimeError, match="f-BRS-B"):
        predictor.problem(at(1, 1))


# refiner


@pytest.fixture
def net() -> DiskNet:
    return DiskNet()


def test_refiner_result_does_not_depend_on_how_the_clicks_came(net: DiskNet) -> None:
    a, b, c = at(200, 300), at(260, 330), at(230, 310, positive=False)
    steps = RitmRefiner(net)
    assert isinstance(steps, Refiner)
    steps.refine(FRAME, [a])
    steps.refine(FRAME, [a, b])
    one_by_one = steps.refine(FRAME, [a, b, c])
    assert one_by_one.dtype == torch.float32
    assert one_by_one.shape == (500, 640)
    assert len(net.seen) == 3  # a further click costs one run
    assert torch.equal(steps.refine(FRAME, [a, b, c]), one_by_one)
    assert len(net.seen) == 3  # the same question costs nothing
    assert torch.equal(RitmRefiner(net).refine(FRAME, [a, b, c]), one_by_one)


def test_refiner_starts_over_when_something_else_changes(net: DiskNet) -> None:
    refiner = RitmRefiner(net, brs=False)
    a, b = at(200, 300), at(260, 330)

    def runs(frame: np.ndarray, clicks: list[Click], mask: Tensor | None = None) -> int:
        before = len(net.seen)
        refiner.refine(frame, clicks, mask)
        return len(net.seen) - before

    assert runs(FRAME, [a, b]) == 2
    assert runs(FRAME, [a]) == 1  # taken back
    assert runs(FRAME, [b]) == 1
    assert runs(FRAME, [b, a]) == 1
    mask = torch.rand(500, 640)
    assert runs(FRAME, [b, a], mask) == 2
    assert runs(FRAME, [b, a], mask.clone()) == 0
    assert runs(FRAME.copy(), [b, a], mask) == 2


def test_refiner_keeps_objects_apart(net: DiskNet) -> None:
    refiner = RitmRefiner(net)
    first, second = at(200, 300), at(100, 400, name=2)
    refiner.refine(FRAME, [first])
    refiner.refine(FRAME, [second])
    further = refiner.refine(FRAME, [first, at(220, 310)])
    assert len(net.seen) == 3
    assert torch.equal(RitmRefiner(net).refine(FRAME, [first, at(220, 310)]), further)


def test_refiner_together_runs_once_per_call(net: DiskNet) -> None:
    refiner = RitmRefiner(net, together=True)
    clicks = [at(200, 300), at(260, 330)]
    both = refiner.refine(FRAME, clicks)
    assert len(net.seen) == 1
    assert (both > 0.5).sum() == 162  # no answer to zoom on yet
    refiner.refine(FRAME, [*clicks, at(100, 100)])
    assert len(net.seen) == 2
    with pytest.raises(InputError, match="at least one click"):
        refiner.refine(FRAME, [])


def test_refiner_searches_inside_inference_mode() -> None:
    torch.manual_seed(0)
    net = RitmNet(RitmConfig(2, 4, True))
    refiner = RitmRefiner(net)
    frame = np.ascontiguousarray(FRAME[:96, :128])
    clicks = [at(40, 60), at(50, 70, positive=False)]
    with torch.inference_mode():
        mask = torch.rand(96, 128)
        prob = refiner.refine(frame, clicks, mask)
    assert prob.shape == (96, 128)
    assert prob.isfinite().all()
    assert 0 <= prob.min()
    assert prob.max() <= 1
    plain = RitmRefiner(net, brs=False).refine(frame, clicks, mask)
    assert not torch.allclose(plain, prob)
