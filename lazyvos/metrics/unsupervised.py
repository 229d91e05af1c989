"""DAVIS 2019 unsupervised protocol: proposals without fixed numbers are matched with the objects, then scored.

Source: S. Caelles et al., "The 2019 DAVIS Challenge on VOS: Unsupervised Multi-Object Segmentation", arXiv:1905.00737. No
frame is dropped, and void pixels (255) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from lazyvos.metrics.davis import VOID, ObjectScore, Score, series_statistics
from lazyvos.metrics.jf import boundary_map, disk, tolerance_radius

MAX_PROPOSALS = 20
"""Most proposals of a sequence."""


def pair_scores(pred: np.ndarray, gt: np.ndarray, proposals: int, objects: int, tolerance: float = 0.008) -> np.ndarray:
    """J and F of every proposal with every object in one frame: float64 ``[2, proposals, objects]``.

    ``pred`` and ``gt`` are label maps ``uint8 [H, W]`` with ids from 1 on; where ``gt`` is 255 both become background.
    """
    radius = tolerance_radius((gt.shape[0], gt.shape[1]), tolerance)
    keep = gt != VOID
    pred, gt = pred * keep, gt * keep
    ours, truth = _planes(pred, gt, proposals), _planes(gt, pred, objects)
    shape = disk(radius)
    near = [(mask, edge, edge if not edge.any() else cv2.dilate(edge, shape)) for mask, edge in truth]
    out = np.empty((2, proposals, objects))
    for i, (p, edge_p) in enumerate(ours):
        count_p = np.count_nonzero(edge_p)
        wide_p = cv2.dilate(edge_p, shape) if count_p else edge_p
        for k, (g, edge_g, wide_g) in enumerate(near):
            union, count_g = np.count_nonzero(p | g), np.count_nonzero(edge_g)
            out[0, i, k] = np.count_nonzero(p & g) / union if union else 1.0
            if not count_p or not count_g:
                out[1, i, k] = float(count_p == count_g)
                continue
            precision, recall = np.count_nonzero(edge_p & wide_g) / count_p, np.count_nonzero(edge_g & wide_p) / count_g
            out[1, i, k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return out


def _planes(labels: np.ndarray, other: np.ndarray, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks 1..number and their boundaries, uint8, on the box of everything in both maps plus one pixel."""
    x, y, width, height = cv2.boundingRect(labels | other)
    box = labels[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1]
    masks = [(box == k).view(np.uint8) for k in range(1, number + 1)]
    return [(m, boundary_map(m).view(np.uint8) if m.any() else m) for m in masks]


def assign(j: np.ndarray, f: np.ndarray) -> list[int]:
    """For each object the proposal that it gets: the assignment with the largest sum of mean (J+F)/2.

    ``j`` and ``f`` are ``[proposals, objects, frames]`` with at least as many proposals as objects.
    """
    from scipy.optimize import linear_sum_assignment  # only here: it takes half a second to import

    rows, columns = linear_sum_assignment(-(j.mean(2) + f.mean(2)) / 2)
    at = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    return [at[k] for k in range(j.shape[1])]


def score_pairs(
    pairs: Sequence[np.ndarray], present: np.ndarray, proposals: int, sequence: str = "", uint8_decay: bool = False
) -> tuple[Score, list[int]]:
    """Score of a sequence from `pair_scores` of each frame, and for each object the number of its proposal.

    ``present`` (bool ``[T, objects]``) says where the truth shows the object. ``pairs`` need a row for each proposal; with
    fewer proposals than objects, rows of empty proposals must follow. ``proposals`` is the number of real ones.
    """
    objects = present.shape[1]
    stack = np.stack(list(pairs), -1)[:, : max(proposals, objects)]
    chosen = assign(stack[0], stack[1])
    scores = []
    for k, row in enumerate(chosen):
        j, f = stack[0, row, k], stack[1, row, k]
        statistics = series_statistics(j, uint8_decay), series_statistics(f, uint8_decay)
        scores.append(ObjectScore(sequence, k + 1, len(j), *statistics, 0, j, f, present[:, k]))
    return Score(tuple(scores)), [row + 1 for row in chosen]


def evaluate_unsupervised(preds: Iterable[Any], gts: Iterable[Any], sequence: str = "", tolerance: float = 0.008) -> Score:
    """Score proposals against annotations: two iterables of label maps ``uint8 [H, W]``, read one pair at a time.

    Objects are 1..(largest id of the first annotation, 255 apart), proposals 1..(largest id in the predictions), at most 20.
    Raises ValueError for more proposals or if one iterable ends before the other.
    """
    pairs: list[np.ndarray] = []
    present: list[np.ndarray] = []
    objects = proposals = 0
    for pred, gt in zip(preds, gts, strict=True):
        p, g = np.asarray(pred, np.uint8), np.asarray(gt, np.uint8)
        if not pairs:
            objects = int(np.max(g * (g != VOID)))
        proposals = max(proposals, int(p.max()))
        if proposals > MAX_PROPOSALS:
            raise ValueError(f"{sequence or 'the sequence'} has proposal {proposals}; {MAX_PROPOSALS} are allowed, numbered from 1.")
        pairs.append(pair_scores(p, g, max(MAX_PROPOSALS, objects), objects, tolerance))
        present.append(np.isin(np.arange(1, objects + 1), g))
    return score_pairs(pairs, np.array(present).reshape(len(pairs), objects), proposals, sequence)[0]
