"""Where on a frame the tracker is least sure."""

from __future__ import annotations

import cv2
import numpy as np

from lazyvos.types import Prediction


def doubtful_point(prediction: Prediction, object: int, margin: float = 0.25) -> tuple[float, float]:
    """``(x, y)`` of the most uncertain pixel in and around an object (anywhere, where the object is not seen).

    ``margin`` widens the object's bounding box by that part of its sides. The map is smoothed over 5x5 pixels first,
    so that one noisy pixel does not win.
    """
    doubt = _box_mean(prediction.entropy)
    rows, columns = np.nonzero(prediction.labels == object)
    top, left, bottom, right = 0, 0, *doubt.shape
    if len(rows):
        high, wide = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        top, left = max(0, int(rows.min() - margin * high)), max(0, int(columns.min() - margin * wide))
        bottom, right = int(rows.max() + 1 + margin * high), int(columns.max() + 1 + margin * wide)
    window = doubt[top:bottom, left:right]
    y, x = np.unravel_index(int(window.argmax()), window.shape)
    return float(left + x), float(top + y)


def _box_mean(plane: np.ndarray, side: int = 5) -> np.ndarray:
    return cv2.blur(np.ascontiguousarray(plane, np.float32), (side, side))
