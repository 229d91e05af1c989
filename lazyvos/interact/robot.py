"""The robot of interactive DAVIS: an error becomes a scribble, stage by stage (Caelles et al., 2018, arXiv:1803.00557).

Error mask, opening, medial axis, graph without cycles, longest path, Bézier curve. Every stage is a pure function; the only
random step, the order in which the medial axis removes equal pixels, has a seed. Also here: the robot of click benchmarks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import gammaln, xlog1py, xlogy
from skimage.morphology import medial_axis

from lazyvos.datasets.davis import Scribble
from lazyvos.interact.clicks import distance_field, first_maximum
from lazyvos.masks.labels import VOID
from lazyvos.types import Click, InputError

Graph = dict[int, list[int]]
"""For each node its neighbours. The order of both decides between equally long paths."""


@dataclass(frozen=True, kw_only=True)
class Robot:
    """Draws scribbles where a prediction is wrong.

    Attributes
    ----------
    kernel: radius of the opening as a share of half the root of the error's area; at most ``max_radius`` pixels.
    min_nodes: shorter pieces of the skeleton give no scribble.
    samples: points of a curve.
    seed: of the medial axis.
    """

    kernel: float = 0.2
    max_radius: float = 16.0
    min_nodes: int = 4
    samples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("kernel", "max_radius", "min_nodes", "samples"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the robot is {getattr(self, name)}; give more than 0")

    def scribbles(self, truth: np.ndarray, prediction: np.ndarray, objects: Iterable[int] | None = None) -> list[Scribble]:
        """Scribbles that say what should be where, by id (0, background, first) and by place.

        ``truth`` and ``prediction`` are label maps ``uint8 [H, W]``; pixels of truth 255 are void. ``objects`` are the ids to look
        at, default those of the truth. Raises :class:`InputError` for sizes that differ.
        """
        if np.shape(truth) != np.shape(prediction):
            raise InputError(f"truth is {list(np.shape(truth))} but the prediction {list(np.shape(prediction))}; give one size")
        ids = np.unique(truth).tolist() if objects is None else [0, *objects]
        height, width = truth.shape
        found = []
        for identity in sorted(set(ids) - {VOID}):
            for path in self.paths(error_mask(truth, prediction, identity)):
                curve = bezier(path, self.samples) if len(path) <= self.samples else path.astype(np.float64)
                found.append(Scribble(curve / (width, height), identity))
        return found

    def paths(self, mask: np.ndarray) -> list[np.ndarray]:
        """Paths ``int [P, 2]`` of ``(x, y)`` through a mask ``[H, W]``, from its opening on."""
        opened = opening(mask, self.kernel, self.max_radius)
        return [] if opened is None else skeleton_paths(skeleton(opened, self.seed), self.min_nodes)


def error_mask(truth: np.ndarray, prediction: np.ndarray, identity: int) -> np.ndarray:
    """Pixels that should be ``identity`` and are not, ``bool [H, W]``; void is no id."""
    return (truth == identity) & (prediction != identity)


def disk_footprint(radius: float) -> np.ndarray:
    """The disk ``dx² + dy² ≤ radius²`` on the grid −radius, −radius + 1, … up to one beyond radius, ``uint8 [n, n]``.

    Unless ``radius`` is whole, its middle is not the middle of the array.
    """
    grid = np.arange(-radius, radius + 1)
    return (grid[:, None] ** 2 + grid**2 <= radius * radius).astype(np.uint8)


def opening(mask: np.ndarray, kernel: float = 0.2, max_radius: float = 16.0) -> np.ndarray | None:
    """Remove what is thin: a minimum, then a maximum filter with a disk of radius min(kernel · √area / 2, max_radius).

    Where nothing is left the radius shrinks by a tenth, down to 1 pixel. Both filters take the disk as it is, so a disk that is
    off its middle moves the mask by a pixel (as in the benchmark). The image is mirrored beyond its border.

    Returns ``bool [H, W]``; the mask itself where the radius is at most 1 from the start, ``None`` where nothing is left.
    """
    binary = np.ascontiguousarray(np.asarray(mask) != 0).view(np.uint8)
    area = int(np.count_nonzero(binary))
    if not area:
        return None
    radius = min(kernel * np.sqrt(area) / 2, max_radius)
    if radius <= 1:
        return binary.astype(bool)
    margin = 2 * int(np.ceil(radius)) + 4
    x, y, w, h = cv2.boundingRect(binary)
    box = np.s_[max(y - margin, 0) : y + h + margin, max(x - margin, 0) : x + w + margin]
    inside = np.ascontiguousarray(binary[box])
    while radius > 1:
        shape = disk_footprint(radius)
        left = cv2.erode(inside, shape, borderType=cv2.BORDER_REFLECT)
        if left.any():
            out = np.zeros(binary.shape, bool)
            out[box] = cv2.dilate(left, shape, borderType=cv2.BORDER_REFLECT) > 0
            return out
        radius *= 0.9
    return None


def skeleton(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Medial axis of a mask ``[H, W]``, ``bool [H, W]``; outside the image is background."""
    binary = np.asarray(mask) != 0
    out = np.zeros(binary.shape, bool)
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(binary).view(np.uint8))
    if w:
        box = np.s_[y : y + h, x : x + w]
        out[box] = medial_axis(np.pad(binary[box], 1), rng=seed)[1:-1, 1:-1]
    return out


def skeleton_paths(pixels: np.ndarray, min_nodes: int = 4) -> list[np.ndarray]:
    """The longest path through each piece of a skeleton ``bool [H, W]`` with ``min_nodes`` pixels or more, ``int [P, 2]`` of ``(x, y)``.

    Pieces come in row-major order of their first pixels.
    """
    points, graph = pixel_graph(pixels)
    trees = [remove_cycles(piece, points) for piece in pieces(graph) if len(piece) >= min_nodes]
    return [points[longest_path(tree)] for tree in trees]


def pixel_graph(pixels: np.ndarray) -> tuple[np.ndarray, Graph]:
    """Pixels of a skeleton ``bool [H, W]`` as ``int [N, 2]`` of ``(x, y)``, row by row, and which of them touch (at most √2 apart)."""
    rows, columns = np.nonzero(pixels)
    at = {place: node for node, place in enumerate(zip(rows.tolist(), columns.tolist()))}
    around = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if dr or dc]
    graph = {node: [at[r + dr, c + dc] for dr, dc in around if (r + dr, c + dc) in at] for (r, c), node in at.items()}
    return np.stack([columns, rows], 1), graph


def pieces(graph: Graph) -> list[Graph]:
    """The connected pieces of ``graph``, by their first nodes.

    A piece with at least half of all nodes keeps their order. The nodes of a smaller one come as a set of Python numbers holds
    them, and neighbours that come earlier come first among a node's neighbours: so does the graph library under the published robot,
    and the node that the search for the longest path starts from depends on it.
    """
    seen: set[int] = set()
    found = []
    for first in graph:
        if first in seen:
            continue
        members: set[int] = set()
        for node in _walk(graph, first):
            members.add(node)
        seen |= members
        order = set(iter(members)) if 2 * len(members) < len(graph) else (node for node in graph if node in members)
        piece: dict[int, dict[int, None]] = {node: {} for node in order}
        for node in piece:
            for neighbour in graph[node]:
                piece[node][neighbour] = piece[neighbour][node] = None
        found.append({node: list(neighbours) for node, neighbours in piece.items()})
    return found


def remove_cycles(piece: Graph, points: np.ndarray) -> Graph:
    """A connected piece as a tree.

    As long as a depth-first search finds a cycle, its longest edge goes, the first of several in the order of the cycle.
    """
    tree = {node: list(neighbours) for node, neighbours in piece.items()}
    while cycle := find_cycle(tree):
        ends = list(zip(cycle, cycle[1:] + cycle[:1]))
        steps = [int(((points[a] - points[b]) ** 2).sum()) for a, b in ends]
        a, b = ends[steps.index(max(steps))]
        tree[a].remove(b)
        tree[b].remove(a)
    return tree


def find_cycle(graph: Graph) -> list[int]:
    """Nodes of the first cycle that a depth-first search from the first node closes, in its order, or none.

    ``graph`` is connected. The cycle begins with the node where it closes.
    """
    first = next(iter(graph))
    path, where = [first], {first: 0}
    seen = {first}
    tried = [iter(graph[first])]
    while path:
        node = path[-1]
        for neighbour in tried[-1]:
            if len(path) > 1 and neighbour == path[-2]:
                continue
            if neighbour in where:
                return path[where[neighbour] :]
            if neighbour not in seen:
                seen.add(neighbour)
                where[neighbour] = len(path)
                path.append(neighbour)
                tried.append(iter(graph[neighbour]))
                break
        else:
            del where[node]
            path.pop()
            tried.pop()
    return []


def longest_path(tree: Graph) -> list[int]:
    """Nodes of a path with the most hops in a tree.

    It begins at the node farthest from the first one and ends at the one farthest from there; of several, those that a
    breadth-first search meets first.
    """
    start = _farthest(_walk(tree, next(iter(tree))))
    came = _walk(tree, start)
    path = [_farthest(came)]
    while path[-1] != start:
        path.append(came[path[-1]][0])
    return path[::-1]


def _walk(graph: Graph, first: int) -> dict[int, tuple[int, int]]:
    """Breadth first: for each node that can be reached, in this order, where from and after how many hops."""
    came, queue = {first: (first, 0)}, deque([first])
    while queue:
        node = queue.popleft()
        for neighbour in graph[node]:
            if neighbour not in came:
                came[neighbour] = (node, came[node][1] + 1)
                queue.append(neighbour)
    return came


def _farthest(came: dict[int, tuple[int, int]]) -> int:
    return max(came, key=lambda node: came[node][1])


def bezier(points: np.ndarray, samples: int = 1000) -> np.ndarray:
    """Bézier curve with ``points [P, D]`` as control points, ``float64 [samples, D]`` at equal steps, from the last point to the first."""
    control = np.asarray(points, np.float64)[::-1]
    n, k = len(control) - 1, np.arange(len(control))
    t = np.linspace(0.0, 1.0, samples)[:, None]
    logs = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + xlogy(k, t) + xlog1py(n - k, -t)
    weights = np.exp(logs)
    return (weights / weights.sum(1, keepdims=True)) @ control


def next_click(truth: np.ndarray, prediction: np.ndarray, clicked: Iterable[Sequence[float]] = (), identity: int = 1) -> Click | None:
    """The next click of the usual robot of click benchmarks (number of clicks to reach an IoU): the depth of the larger error.

    The largest distances to the border of what is missing and of what is too much are compared; the click is positive only where the
    former is strictly larger, at the first of the deepest pixels in row-major order that was not clicked.

    Parameters
    ----------
    truth, prediction: masks ``[H, W]``, non-zero = object; pixels of truth 255 are void.
    clicked: ``(x, y)`` of earlier clicks.

    Returns ``None`` where nothing is left to click.
    """
    void = np.asarray(truth) == VOID
    target, guess = (np.asarray(truth) != 0) & ~void, np.asarray(prediction) != 0
    fields = [distance_field(target & ~guess), distance_field(guess & ~target & ~void)]
    for x, y in clicked:
        for field in fields:
            field[int(y), int(x)] = 0
    positive = bool(fields[0].max() > fields[1].max())
    field = fields[0] if positive else fields[1]
    return Click(*first_maximum(field), identity, positive) if field.any() else None
