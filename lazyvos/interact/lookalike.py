"""Where, outside an object's mask, something looks like the object (thesis, section 6.9)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy.optimize import brentq

from lazyvos.interact.clicks import distance_field, first_maximum
from lazyvos.types import Prediction
from lazyvos.uncertainty.entropy import dilate_mask


@dataclass(frozen=True)
class Lookalike:
    """A lit place outside an object's mask.

    ``score``: its summed uncertainty divided by the object's area; ``at``: ``(x, y)`` deep inside it, in pixels; ``area``: of the
    object's predicted mask, in pixels.
    """

    score: float
    at: tuple[int, int]
    area: int


def lookalike(
    prediction: Prediction, identity: int, *, bright: float = 0.5, margin: float = 0.2, area: float = 0.0
) -> Lookalike | None:
    """The brightest place outside an object's mask that could be the object; ``None`` where nothing is lit.

    Uncertainty of a pixel is the entropy (in bits, 0..1) of "this object or not". Places are connected pixels with at least
    ``bright`` (0.5 is a probability of 0.11) beyond the mask dilated by ``margin``; the one with the largest sum is taken. The
    sum is divided by the object's area, as the score inside the mask is (Eq. 6.3), so the two have the same scale.

    Parameters
    ----------
    margin: kernel side squared as a fraction of the area (:func:`lazyvos.uncertainty.dilate_mask`). 0.2, four times the
        method's 0.05: twice the width, which leaves the blurred edge of the mask out.
    area: divide by this where it is larger than the mask's own area: the object's usual one, for a mask that shrank.
    """
    if identity not in prediction.objects:
        return None
    p = prediction.probabilities[1 + prediction.objects.index(identity)].detach().float().cpu().numpy()
    inside = prediction.labels == identity
    size = int(np.count_nonzero(inside))
    least = _probability(bright)
    lit = cv2.inRange(p, least, 1.0 - least)
    if not lit.any():
        return None
    lit[dilate_mask(inside, margin) | inside] = 0
    count, places, boxes, _ = cv2.connectedComponentsWithStats(lit, connectivity=8)
    if count < 2:
        return None
    rows, columns = np.nonzero(lit)
    sums = np.bincount(places[rows, columns], _bits(p[rows, columns]), count)
    best = int(np.argmax(sums))
    x, y, w, h = (int(v) for v in boxes[best, :4])
    window = slice(y, y + h), slice(x, x + w)
    column, row = first_maximum(distance_field(places[window] == best) * _bits(p[window]))
    return Lookalike(float(sums[best]) / max(size, area, 1.0), (x + column, y + row), size)


def _bits(p: np.ndarray) -> np.ndarray:
    """Entropy of probabilities of "yes or no", in bits."""
    p = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


@lru_cache(maxsize=8)
def _probability(bits: float) -> float:
    """The probability of at most one half that has this entropy; half, where none has."""
    if not 0.0 < bits < 1.0:
        return 0.0 if bits <= 0 else 0.5
    return float(brentq(lambda p: float(_bits(np.array(p))) - bits, 1e-7, 0.5))
