"""Region similarity J and contour accuracy F of one mask.

Source: F. Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016, section 5. `lazyvos.metrics.davis` puts frames together to the score of a sequence.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np


def _binary(mask: Any, name: str) -> np.ndarray:
    """Return a bool or integer mask ``[H, W]`` as contiguous uint8 0/1."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"{name} has shape {mask.shape}; give one non-empty mask [height, width].")
    if mask.dtype.kind not in "bui":
        raise ValueError(f"{name} has type {mask.dtype}; threshold it to a bool or integer mask first.")
    return np.ascontiguousarray(mask != 0).view(np.uint8)


def mask_pair(pred: Any, gt: Any, void: Any | None) -> tuple[np.ndarray, np.ndarray]:
    """Check two masks, and set both to 0 where void."""
    p, g = _binary(pred, "pred"), _binary(gt, "gt")
    if p.shape != g.shape:
        raise ValueError(f"pred is {p.shape} but gt is {g.shape}; resize the prediction to the truth's size.")
    if void is not None:
        keep = 1 - _binary(void, "void")
        if keep.shape != g.shape:
            raise ValueError(f"void is {keep.shape} but gt is {g.shape}; they must have one size.")
        p, g = p & keep, g & keep
    return p, g


def crop(p: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut two uint8 masks to their common bounding box plus one pixel (inside the image).

    J and F stay exactly the same: a boundary pixel lies in the box or one step above or left of it, and the
    extra row below and column to the right are background, where the rules of the last row and the last
    column agree with the rule of the interior. Empty masks give an empty crop.
    """
    boxes = [b for b in (cv2.boundingRect(p), cv2.boundingRect(g)) if b[2]]
    if not boxes:
        return p[:0, :0], g[:0, :0]
    top = max(min(b[1] for b in boxes) - 1, 0)
    left = max(min(b[0] for b in boxes) - 1, 0)
    bottom, right = max(b[1] + b[3] for b in boxes) + 1, max(b[0] + b[2] for b in boxes) + 1
    return p[top:bottom, left:right], g[top:bottom, left:right]


def boundary_map(mask: Any) -> np.ndarray:
    """Boundary pixels of a mask ``[H, W]`` (bool or integer), as bool ``[H, W]``.

    A pixel is boundary if it differs from its right, its lower or its lower-right neighbour; in the last row
    only the right one counts, in the last column only the lower one. The image frame is no boundary.

    >>> boundary_map(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    return _boundary(_binary(mask, "mask")).view(bool)


def _boundary(m: np.ndarray) -> np.ndarray:
    edge = np.zeros(m.shape, np.uint8)
    edge[:, :-1] |= m[:, :-1] ^ m[:, 1:]
    edge[:-1] |= m[:-1] ^ m[1:]
    edge[:-1, :-1] |= m[:-1, :-1] ^ m[1:, 1:]
    return edge


@lru_cache(maxsize=32)
def disk(radius: float) -> np.ndarray:
    """Disk ``dx^2 + dy^2 <= radius^2`` (pixels) as read-only uint8 ``[2r+1, 2r+1]``, r the floor of radius."""
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius is {radius}; give 0 or more pixels.")
    axis = np.arange(-int(radius), int(radius) + 1)
    out = (axis[:, None] ** 2 + axis**2 <= radius * radius).astype(np.uint8)
    out.flags.writeable = False
    return out


def tolerance_radius(shape: tuple[int, int], tolerance: float = 0.008) -> float:
    """Contour tolerance in pixels for an image of ``shape`` (height, width).

    Below 1, ``tolerance`` is a share of the image diagonal, rounded up to whole pixels; from 1 on it is taken
    as pixels.

    >>> tolerance_radius((480, 854)), tolerance_radius((480, 854), 3)
    (8, 3)
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance is {tolerance}; give a share of the diagonal below 1, or pixels from 1 on.")
    if tolerance >= 1:
        return tolerance
    return math.ceil(tolerance * math.sqrt(shape[0] ** 2 + shape[1] ** 2))


def region(pred: Any, gt: Any, void: Any | None = None) -> float:
    """Region similarity J of one frame and object: the intersection over union, in 0..1.

    ``pred``, ``gt`` and ``void`` are bool or integer masks ``[H, W]`` (nonzero = inside); void pixels are left
    out. Two empty masks give 1. Raises ValueError for masks of another type or of different sizes.

    >>> region(np.array([[1, 1, 0]]), np.array([[0, 1, 1]]))
    0.3333333333333333
    """
    return crop_region(*crop(*mask_pair(pred, gt, void)))


def crop_region(p: np.ndarray, g: np.ndarray) -> float:
    """J of two uint8 0/1 masks ``[h, w]`` as `crop` returns them."""
    union = int(np.count_nonzero(p | g))
    return int(np.count_nonzero(p & g)) / union if union else 1.0


def contour(pred: Any, gt: Any, void: Any | None = None, tolerance: float = 0.008) -> float:
    """Contour accuracy F of one frame and object, in 0..1.

    F is the harmonic mean of precision and recall of the boundary pixels, matched within
    `tolerance_radius`. ``pred``, ``gt`` and ``void`` are bool or integer masks ``[H, W]``; both masks are set to
    0 in void pixels before the boundary is taken. Two masks without boundary give 1, one without gives 0.
    The work is done on the bounding box of both masks, with the same result as on the whole image.
    Raises ValueError as `region` does, and for a negative tolerance.
    """
    p, g = mask_pair(pred, gt, void)
    radius = tolerance_radius((p.shape[0], p.shape[1]), tolerance)
    return crop_contour(*crop(p, g), radius)


def crop_contour(p: np.ndarray, g: np.ndarray, radius: float) -> float:
    """F of two uint8 0/1 masks ``[h, w]`` as `crop` returns them; ``radius`` in pixels."""
    edge_p, edge_g = _boundary(p), _boundary(g)
    count_p, count_g = int(np.count_nonzero(edge_p)), int(np.count_nonzero(edge_g))
    if not count_p or not count_g:
        return float(count_p == count_g)
    shape = disk(radius)
    precision = int(np.count_nonzero(edge_p & cv2.dilate(edge_g, shape))) / count_p
    recall = int(np.count_nonzero(edge_g & cv2.dilate(edge_p, shape))) / count_g
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
