"""Where to click: points of a mask, found from its distance field; ``(x, y)`` in whole pixels."""

from __future__ import annotations

import cv2
import numpy as np

from lazyvos.masks.labels import object_ids
from lazyvos.types import Click

Point = tuple[int, int]


def distance_field(mask: np.ndarray) -> np.ndarray:
    """Exact Euclidean distance, in pixels, of each object pixel to the nearest pixel that is not the object.

    The image counts as surrounded by background. ``mask [H, W]``, non-zero = object; returns ``float64 [H,
    W]``, 0 outside the object. Raises ValueError for another number of dimensions.
    """
    binary = _binary(mask)
    out = np.zeros(binary.shape)
    x, y, w, h = cv2.boundingRect(binary)
    if w:
        padded = cv2.copyMakeBorder(binary[y : y + h, x : x + w], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        rough = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        squares = np.rint(rough.astype(np.float64) ** 2)  # whole numbers, so float32 can be made exact
        out[y : y + h, x : x + w] = np.sqrt(squares)
    return out


def first_maximum(values: np.ndarray) -> Point:
    """``(x, y)`` of the largest number of ``values [H, W]``; of several, the first in row-major order."""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(column), int(row)


def object_centre(mask: np.ndarray) -> Point | None:
    """The pixel deepest inside an object, the first in row-major order; ``None`` for an empty mask."""
    field = distance_field(mask)
    return first_maximum(field) if field.any() else None


def nearest_to_centroid(mask: np.ndarray) -> Point | None:
    """The object pixel nearest to the centroid, first in row-major order; ``None`` for an empty mask."""
    rows, columns = np.nonzero(_binary(mask))
    if not rows.size:
        return None
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(columns[nearest]), int(rows[nearest])


def dispersed_point(mask: np.ndarray, rng: np.random.Generator, low: float = 0.25, high: float = 0.75) -> Point | None:
    """A random object pixel away from the centre and from the border; ``None`` for an empty mask.

    Uniform over the pixels whose depth (:func:`distance_field`) is between ``low`` and ``high`` times the largest. A mask without
    such pixels, one of one or two pixels across, is drawn from as a whole.
    """
    field = distance_field(mask)
    deepest = field.max(initial=0.0)
    if deepest == 0:
        return None
    rows, columns = np.nonzero((field >= low * deepest) & (field <= high * deepest))
    if not rows.size:
        rows, columns = np.nonzero(field)
    chosen = int(rng.integers(rows.size))
    return int(columns[chosen]), int(rows[chosen])


def other_centres(labels: np.ndarray, identity: int) -> list[Point]:
    """Centres of all objects of ``labels uint8 [H, W]`` but ``identity``, by rising id; 255 is no object."""
    others = [v for v in object_ids(labels) if v != identity]
    return [centre for v in others if (centre := object_centre(labels == v)) is not None]


def negatives_from_others(labels: np.ndarray, identity: int) -> tuple[Click, ...]:
    """A negative click for object ``identity`` at the centre of every other object of ``labels [H, W]``."""
    return tuple(Click(x, y, identity, positive=False) for x, y in other_centres(labels, identity))


def _binary(mask: np.ndarray) -> np.ndarray:
    """``uint8`` 0/1, contiguous, of a mask of any type."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}; give one mask [height, width].")
    return np.ascontiguousarray(mask != 0).view(np.uint8)
