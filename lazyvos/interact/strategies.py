"""Click strategies: how the scribbles of one frame become clicks (thesis, section 4.4.1).

Positions are fractions of the frame, ``row / H`` and ``column / W``; :func:`to_clicks` makes pixels of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from lazyvos.datasets.davis import Scribble
from lazyvos.types import Click, InputError

Kind = Literal["a1", "a2", "a3"]
NOTHING = -1
"""Value of pixels that no scribble covers, in the raster of :func:`rasterise`."""


class Spot(NamedTuple):
    """A click as a strategy gives it: object, position as fractions of the frame's height and width, sign."""

    object: int
    row: float
    column: float
    positive: bool = True


def polyline(points: np.ndarray) -> np.ndarray:
    """Pixels of the lines between consecutive points ``int [P, 2]``, as ``int [N, 2]``; joints occur twice.

    The short axis steps where the line has come at least half a pixel away (Bresenham, "Algorithm for computer control of a digital
    plotter", 1965), seen from the first of two points.
    """
    points = np.asarray(points, np.int64).reshape(-1, 2)
    if len(points) < 2:
        return points.copy()
    steps = np.diff(points, axis=0)
    length = np.abs(steps).max(1)
    line = np.repeat(np.arange(len(steps)), length + 1)
    along = np.arange(len(line)) - np.repeat(np.cumsum(length + 1) - length - 1, length + 1)
    moved = (2 * along[:, None] * np.abs(steps[line]) + length[line, None]) // (2 * np.maximum(length, 1)[line, None])
    return points[line] + np.sign(steps[line]) * moved


def rasterise(strokes: Iterable[Scribble], size: tuple[int, int]) -> np.ndarray:
    """Draw scribbles into ``int16 [H, W]``: object ids, 0 the background's, :data:`NOTHING` elsewhere; later ones cover earlier ones.

    Points are multiplied by ``(W − 1, H − 1)`` and truncated, although the robot divides by ``(W, H)`` (interactive DAVIS).
    """
    height, width = size
    canvas = np.full((height, width), NOTHING, np.int16)
    for stroke in strokes:
        points = (np.asarray(stroke.points, np.float64).reshape(-1, 2) * (width - 1, height - 1)).astype(np.int64)
        x, y = polyline(points.clip(0, (width - 1, height - 1))).T
        canvas[y, x] = stroke.object
    return canvas


def components(mask: np.ndarray) -> np.ndarray:
    """8-connected components of a mask ``[H, W]`` as ``int32 [H, W]``: 1 is the largest, 0 is outside.

    Of equally large ones, that whose first pixel comes later in row-major order is first.
    """
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found, first, pixels = np.unique(labels, return_index=True, return_counts=True)
    inside = found > 0
    order = np.lexsort((-first[inside], -pixels[inside]))
    rank = np.zeros(count + 1, np.int32)
    rank[found[inside][order]] = np.arange(1, count + 1)
    return rank[labels]


def depth_map(mask: np.ndarray, minimal_region_size: float = 0.0) -> np.ndarray:
    """How deep pixels lie: 1 + the number of erosions with a 3x3 cross that each survives; ``int32 [H, W]``, 0 outside.

    Outside the image is background. With ``minimal_region_size`` f > 0 no erosion is made that would leave fewer than area / f pixels.
    """
    binary = np.ascontiguousarray(np.asarray(mask) != 0).view(np.uint8)
    padded = cv2.copyMakeBorder(binary, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = np.rint(cv2.distanceTransform(padded, cv2.DIST_L1, 3)[1:-1, 1:-1]).astype(np.int32)
    if minimal_region_size > 0 and binary.any():
        left = np.cumsum(np.bincount(depth.ravel())[::-1])[::-1]  # pixels at this depth or deeper
        deepest = np.flatnonzero(left[1:] >= left[1] / minimal_region_size)
        depth = np.minimum(depth, 1 + (deepest.max() if deepest.size else 0))
    return depth


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How scribbles become clicks.

    Attributes
    ----------
    kind: ``"a1"`` one click per object at the middle of all its scribbles; ``"a2"`` one per connected piece of its scribbles; ``"a3"``
        in the depth of where the prediction is wrong.
    limit: most clicks per object: of a2 positive ones, of a3 positive and negative ones each. a1 gives one.
    min_area: a3 leaves out clicks whose error region has fewer pixels; not in the first round.
    per_region: a3 gives every error region its click, the largest first. Without, as in the released code, only those regions
        get one that reach the largest depth of all of the object.
    minimal_region_size: of a3, see :func:`depth_map`.
    jitter: clicks are moved by a random offset of at most so many pixels (the released code offers 5).
    random_pixel: a random member of the points or pixels instead of the one nearest to their mean.

    Raises :class:`InputError` for values that make no sense.
    """

    kind: Kind = "a2"
    limit: int = 1
    min_area: int = 100
    per_region: bool = False
    minimal_region_size: float = 0.0
    jitter: float = 0.0
    random_pixel: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("a1", "a2", "a3"):
            raise InputError(f"strategy {self.kind!r} is unknown; choose a1, a2 or a3")
        if self.limit < 1:
            raise InputError(f"limit is {self.limit}; give at least 1 click per object")
        for name in ("min_area", "minimal_region_size", "jitter"):
            if not getattr(self, name) >= 0 or getattr(self, name) == float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more")

    def spots(
        self,
        strokes: Sequence[Scribble],
        size: tuple[int, int],
        *,
        objects: Iterable[int] | None = None,
        truth: np.ndarray | None = None,
        prediction: np.ndarray | None = None,
        rng: np.random.Generator | int = 0,
    ) -> list[Spot]:
        """Clicks for one frame, positive ones first, each by object.

        Parameters
        ----------
        strokes: scribbles of the frame (a1, a2). size: ``(H, W)``.
        objects: ids that may get clicks; default those with a scribble (a1, a2) or in one of the label maps (a3).
        truth, prediction: label maps ``uint8 [H, W]`` of a3, 255 = void. Without a prediction it is the first round: clicks lie in
            the objects, all are positive and no region is too small.
        rng: seed or generator of the random options.

        Raises :class:`InputError` where a3 gets no truth, or a label map of another size.
        """
        pick = _Pick(size, self.jitter, self.random_pixel, np.random.default_rng(rng))
        if self.kind == "a3":
            return self._a3(size, objects, truth, prediction, pick)
        found = self._a1(strokes, pick) if self.kind == "a1" else self._a2(strokes, size, pick)
        wanted = sorted({o for o in found if o} if objects is None else {int(o) for o in objects} - {0})
        positive = [Spot(o, *at) for o in wanted for at in found.get(o, [])]
        if self.kind == "a1" and 0 not in found:
            return positive
        return positive + [Spot(o, *at, False) for o in wanted for other in sorted(found) if other != o for at in found[other]]

    def _a1(self, strokes: Sequence[Scribble], pick: _Pick) -> dict[int, list[tuple[float, float]]]:
        paths: dict[int, list[np.ndarray]] = {}
        for stroke in strokes:
            if len(stroke.points):
                paths.setdefault(int(stroke.object), []).append(np.asarray(stroke.points, np.float64)[:, ::-1])
        return {o: [pick.fraction(*pick.member(np.concatenate(parts)))] for o, parts in paths.items()}

    def _a2(self, strokes: Sequence[Scribble], size: tuple[int, int], pick: _Pick) -> dict[int, list[tuple[float, float]]]:
        canvas = rasterise(strokes, size)
        return {int(o): pick.components(components(canvas == o), self.limit) for o in np.unique(canvas) if o != NOTHING}

    def _a3(
        self, size: tuple[int, int], objects: Iterable[int] | None, truth: np.ndarray | None, prediction: np.ndarray | None, pick: _Pick
    ) -> list[Spot]:
        if truth is None:
            raise InputError("strategy a3 looks for errors and needs the true label map of the frame; give truth, or take a1 or a2")
        for name, labels in (("truth", truth), ("prediction", prediction)):
            if labels is not None and np.shape(labels) != tuple(size):
                raise InputError(f"{name} is {list(np.shape(labels))} but the frame {list(size)} (height, width); give the frame's size")
        ids = np.unique(truth) if prediction is None else np.union1d(truth, prediction)
        wanted = sorted({int(o) for o in (ids if objects is None else objects)} - {0, 255})
        signs: dict[bool, list[Spot]] = {True: [], False: []}
        for o in wanted:
            if prediction is None:
                signs[True] += [Spot(o, *at) for at in self._deepest(truth == o, 0, pick)]
                continue
            for positive, region in ((True, (truth == o) & (prediction != o)), (False, (prediction == o) & (truth != o) & (truth != 255))):
                signs[positive] += [Spot(o, *at, positive) for at in self._deepest(region, self.min_area, pick)]
        return signs[True] + signs[False]

    def _deepest(self, region: np.ndarray, min_area: int, pick: _Pick) -> list[tuple[float, float]]:
        """Clicks in an error region ``bool [H, W]``."""
        if not region.any():
            return []
        if self.per_region:
            regions, found = components(region), []
            for n in range(1, min(int(regions.max()), self.limit) + 1):
                one = regions == n
                if np.count_nonzero(one) >= min_area:
                    depth = depth_map(one, self.minimal_region_size)
                    found += pick.components(components(depth == depth.max()), 1)
            return found
        depth = depth_map(region, self.minimal_region_size)
        chosen = components(depth == depth.max())
        regions = components(region)
        area = np.bincount(regions.ravel())
        small = [n for n in range(1, int(chosen.max()) + 1) if area[regions[chosen == n][0]] < min_area]
        return pick.components(chosen, self.limit, small)


class _Pick:
    """Which member of a set of points is clicked."""

    def __init__(self, size: tuple[int, int], jitter: float, random_pixel: bool, rng: np.random.Generator) -> None:
        self.size, self.jitter, self.random_pixel, self.rng = size, jitter, random_pixel, rng

    def member(self, points: np.ndarray) -> tuple[float, float]:
        """The one of ``points [N, 2]`` nearest to their mean, the first of several; or a random one."""
        if self.random_pixel:
            row, column = points[self.rng.integers(len(points))]
        else:
            away = points - points.mean(0)
            row, column = points[np.argmin(np.sqrt((away * away).sum(1)))]
        return float(row), float(column)

    def fraction(self, row: float, column: float) -> tuple[float, float]:
        """Fractions moved by the jitter, and kept inside the frame."""
        if not self.jitter:
            return row, column
        height, width = self.size
        radius, angle = self.jitter * np.sqrt(self.rng.random()), 2 * np.pi * self.rng.random()
        moved = np.clip((row * height + radius * np.sin(angle), column * width + radius * np.cos(angle)), 0, (height - 1, width - 1))
        return float(moved[0] / height), float(moved[1] / width)

    def components(self, labels: np.ndarray, limit: int, skip: Sequence[int] = ()) -> list[tuple[float, float]]:
        """One point for each of the first ``limit`` components, as fractions, without those in ``skip``."""
        height, width = self.size
        found = []
        for n in range(1, min(int(labels.max()), limit) + 1):
            if n not in skip:
                row, column = self.member(np.argwhere(labels == n))
                found.append(self.fraction(row / height, column / width))
        return found


def to_clicks(spots: Iterable[Spot], size: tuple[int, int]) -> list[Click]:
    """Clicks in whole pixels of a frame of ``size = (H, W)``: fraction times size, truncated.

    A millionth of a pixel is added first, so that ``row / H * H`` is the row again in floating-point numbers.
    """
    height, width = size
    return [
        Click(min(int(s.column * width + 1e-6), width - 1), min(int(s.row * height + 1e-6), height - 1), s.object, s.positive) for s in spots
    ]


def named(kind: str, options: Mapping[str, object] | None = None) -> Strategy:
    """A strategy by name with options of :class:`Strategy`; raises :class:`InputError` for one that it does not have."""
    try:
        return replace(Strategy(kind=kind), **(options or {}))  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(f"strategy {kind} cannot be made with {dict(options or {})}: {error}") from error
