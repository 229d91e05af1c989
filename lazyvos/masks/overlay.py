"""Drawing masks, uncertainty and clicks over a frame."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

OVERLAY_COLORS = np.array([(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233),
                           (240, 228, 66)], np.uint8)
"""Colours of objects 1, 2, ... on screen, `uint8 [7,3]` RGB, repeated after the seventh: Okabe and Ito's palette,
which people with any kind of colour vision can tell apart."""


def overlay(frame: np.ndarray, labels: np.ndarray | None = None, *, alpha: float = 0.45, contour: int = 1,
            colors: np.ndarray = OVERLAY_COLORS, entropy: np.ndarray | None = None,
            clicks: Iterable[Any] = ()) -> np.ndarray:
    """Draw over a frame, in a copy.

    Args:
        frame: `uint8 [H,W,3]` RGB.
        labels: `uint8 [H,W]`; 0 and 255 (void) stay clear.
        alpha: opacity of the fill, 0 to 1.
        contour: width in pixels of the line around each object, 0 for none.
        colors: `uint8 [N,3]` RGB of objects 1, 2, ..., repeated after N.
        entropy: `float [H,W]`, 0 (sure) to 1 (unsure): a heat map over the whole frame, clear where it is 0.
        clicks: values with `x`, `y` in pixels and `positive`; + stands in a disc, - in a square.

    Returns:
        `uint8 [H,W,3]` RGB.
    """
    drawn = frame.copy()
    if entropy is not None:
        _same_size(entropy, frame, "entropy map")
        _heat(drawn, entropy)
    if labels is not None:
        _same_size(labels, frame, "label map")
        table = np.zeros((256, 3), np.uint8)
        table[1:255] = np.resize(np.asarray(colors, np.uint8), (254, 3))
        inside = (labels != 0) & (labels != 255)
        mixed = cv2.addWeighted(drawn, 1 - alpha, table[labels], alpha, 0)
        np.copyto(drawn, mixed, where=inside[..., None])
        if contour > 0:
            edge = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
            line = cv2.dilate((edge & inside).astype(np.uint8), np.ones((contour, contour), np.uint8)) > 0
            nearest = labels if contour == 1 else cv2.dilate(labels, np.ones((contour, contour), np.uint8))
            drawn[line] = table[nearest[line]]
    for click in clicks:
        _marker(drawn, round(click.x), round(click.y), bool(click.positive))
    return drawn


def _same_size(plane: np.ndarray, frame: np.ndarray, what: str) -> None:
    if plane.shape != frame.shape[:2]:
        raise ValueError(f"the {what} has shape {list(plane.shape)} but the frame {list(frame.shape[:2])}; resize it")


def _heat(frame: np.ndarray, entropy: np.ndarray) -> None:
    level = np.clip(np.nan_to_num(entropy), 0, 1).astype(np.float32)
    heat = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = 0.8 * np.sqrt(level)[..., None]
    frame[:] = (frame * (1 - weight) + heat * weight).astype(np.uint8)


def _marker(frame: np.ndarray, x: int, y: int, positive: bool) -> None:
    """White sign on a dark disc (+) or a dark square (-), with a white rim: told apart without colour."""
    radius = max(6, round(min(frame.shape[:2]) / 45))
    corner, across = (x - radius, y - radius), (x + radius, y + radius)
    dark, white, arm = (0, 90, 60) if positive else (150, 30, 0), (255, 255, 255), radius // 2 + 1
    for color, width in ((dark, cv2.FILLED), (white, 1)):
        if positive:
            cv2.circle(frame, (x, y), radius, color, width, cv2.LINE_AA)
        else:
            cv2.rectangle(frame, corner, across, color, width)
    cv2.line(frame, (x - arm, y), (x + arm, y), white, 2)
    if positive:
        cv2.line(frame, (x, y - arm), (x, y + arm), white, 2)
