"""How fast scoring is, against the plain way to write it down, and what a second process gains.

`plain_score` is the comparison: the DAVIS protocol frame by frame on whole images, as a description of the measures reads. Both
read the same files, and their numbers have to agree.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage import morphology

from lazyvos.datasets.synthetic import SyntheticClip
from lazyvos.masks.labels import read_mask, write_mask
from lazyvos.score import score_folder

Dilate = Callable[[np.ndarray, int], np.ndarray]


def plain_score(gt: Path, pred: Path, dilate: Dilate) -> dict[tuple[str, int], tuple[float, float]]:
    """Mean J and F of every object by the DAVIS protocol, for folders ``SEQUENCE/FRAME.png``, on whole images.

    ``dilate(mask, radius)`` widens a mask ``bool [H, W]`` by a disk.
    """
    scores = {}
    for folder in sorted(gt.iterdir()):
        files = sorted(folder.iterdir())
        objects = range(1, int(read_mask(files[0]).max()) + 1)
        values: dict[int, list[tuple[float, float]]] = {k: [] for k in objects}
        for file in files[1:-1]:  # the first and the last frame are not scored
            truth, mask = read_mask(file), read_mask(pred / folder.name / file.name)
            for k in objects:
                values[k].append((plain_region(mask == k, truth == k), plain_contour(mask == k, truth == k, dilate)))
        for k in objects:
            scores[folder.name, k] = (float(np.mean([j for j, _ in values[k]])), float(np.mean([f for _, f in values[k]])))
    return scores


def plain_region(p: np.ndarray, g: np.ndarray) -> float:
    """J: intersection over union, 1 if both masks are empty."""
    union = (p | g).sum()
    return float((p & g).sum() / union) if union else 1.0


def plain_contour(p: np.ndarray, g: np.ndarray, dilate: Dilate) -> float:
    """F: boundary pixels matched within 0.8 % of the diagonal."""
    radius = int(np.ceil(0.008 * np.sqrt(p.shape[0] ** 2 + p.shape[1] ** 2)))
    edge_p, edge_g = plain_boundary(p), plain_boundary(g)
    if not edge_p.any() or not edge_g.any():
        return float(edge_p.any() == edge_g.any())
    precision = (edge_p & dilate(edge_g, radius)).sum() / edge_p.sum()
    recall = (edge_g & dilate(edge_p, radius)).sum() / edge_g.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour; beyond the frame nothing differs."""
    right, lower, both = mask.copy(), mask.copy(), mask.copy()
    right[:, :-1] = mask[:, 1:]
    lower[:-1] = mask[1:]
    both[:-1, :-1] = mask[1:, 1:]
    both[-1, :-1] = mask[-1, 1:]
    both[:-1, -1] = mask[1:, -1]
    return (mask != right) | (mask != lower) | (mask != both)


def skimage_dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """With scikit-image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return np.asarray(morphology.dilation(mask, morphology.disk(radius)), bool)


def opencv_dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """With OpenCV: the same on the whole image, but faster by itself."""
    return cv2.dilate(mask.astype(np.uint8), morphology.disk(radius)).astype(bool)


def write_clips(folder: Path, clips: int, frames: int, size: tuple[int, int], seed: int = 0) -> None:
    """Generated truth in ``folder/gt`` and disturbed predictions in ``folder/pred``, clips of 2 and 3 objects in turn.

    A prediction is the truth moved by some pixels, eaten into in every second frame, and without one object now and then.
    """
    rng = np.random.default_rng(seed)
    for n in range(clips):
        clip = SyntheticClip(seed=seed + n, length=frames, size=size, objects=3 - n % 2)
        for t, (_, truth) in enumerate(clip.pairs()):
            dy, dx = (int(v) for v in rng.integers(-4, 5, 2))
            mask = cv2.warpAffine(truth, np.array([[1, 0, dx], [0, 1, dy]], np.float32), size[::-1], flags=cv2.INTER_NEAREST)
            if t % 2:
                mask = cv2.erode(mask, np.ones((3, 3), np.uint8))
            if t % 7 == 6:
                mask[mask == 1] = 0
            write_mask(folder / "gt" / clip.name / f"{t:05d}.png", truth)
            write_mask(folder / "pred" / clip.name / f"{t:05d}.png", mask)


def bench_score(
    *, clips: int = 2, frames: int = 20, size: tuple[int, int] = (480, 854), copies: int = 60, repeats: int = 2, seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Compare our scoring with `plain_score` in one process, and two processes with one.

    Parameters
    ----------
    clips, frames, size, seed: generated clips, frames of each, height and width in pixels.
    copies: how often each clip is there for the comparison of processes; long enough to see more than their start.
    repeats: times are the best of so many; the comparison with scikit-image runs once.
    note: told what is being measured.

    Returns a plain dict: ``size``, ``frames``, ``objects``; ``plain`` (with scikit-image) and ``plain_opencv``, each with ``cpu`` and
    ``wall`` seconds of both ways, ``times_cpu``, ``times_wall`` and the largest ``difference`` of a number; ``processes`` with ``frames``,
    ``one`` and ``two`` wall seconds, their quotient ``share`` and the largest ``difference``; and, for busy machines, CPU seconds: ``cpu_one``
    of one process, ``cpu_two`` half of those of two, and their quotient ``cpu_share``.
    """
    found: dict[str, Any] = {"size": list(size), "frames": clips * frames}
    with tempfile.TemporaryDirectory(prefix="lazyvos-bench-") as name:
        folder = Path(name)
        note("drawing clips")
        write_clips(folder, clips, frames, size, seed)
        gt, pred = folder / "gt", folder / "pred"
        note("scoring")
        table, ours = _best(lambda: score_folder(gt, pred, "davis"), repeats)
        found["objects"] = len(table.objects)
        mine = {(row["sequence"], row["id"]): (row["J"], row["F"]) for row in table.objects}
        for key, dilate, often in (("plain", skimage_dilate, 1), ("plain_opencv", opencv_dilate, repeats)):
            note(f"scoring whole images ({key})")
            numbers, theirs = _best(lambda dilate=dilate: plain_score(gt, pred, dilate), often)  # type: ignore[misc]
            if numbers.keys() != mine.keys():
                raise RuntimeError("both ways must score the same objects")
            found[key] = {
                "cpu": [theirs[0], ours[0]], "wall": [theirs[1], ours[1]], "times_cpu": theirs[0] / ours[0], "times_wall": theirs[1] / ours[1],
                "difference": max(abs(a - b) for k in mine for a, b in zip(mine[k], numbers[k], strict=True)),
            }  # fmt: skip
        note(f"one and two processes, {clips * copies} clips")
        for part in (gt, pred):
            for clip in sorted(part.iterdir()):
                for n in range(1, copies):
                    shutil.copytree(clip, part / f"{clip.name}-{n}")
        times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        tables = {}
        for _ in range(repeats):
            for processes, into in times.items():  # in turn, so that a busy machine slows both alike
                before = os.times()
                tables[processes], (cpu, wall) = _best(lambda p=processes: score_folder(gt, pred, "davis", processes=p), 1)  # type: ignore[misc]
                after = os.times()
                others = after.children_user + after.children_system - before.children_user - before.children_system
                into.append(((cpu + others) / processes, wall))
        pairs = [(a[c], b[c]) for a, b in zip(tables[1].objects, tables[2].objects, strict=True) for c in ("J", "F", "J_decay", "F_decay")]
        (cpu_one, one), (cpu_two, two) = ((min(c for c, _ in t), min(w for _, w in t)) for t in times.values())
        found["processes"] = {
            "frames": clips * frames * copies, "one": one, "two": two, "share": two / one,
            "cpu_one": cpu_one, "cpu_two": cpu_two, "cpu_share": cpu_two / cpu_one, "difference": max(abs(a - b) for a, b in pairs),
        }  # fmt: skip
    return found


def _best(run: Callable[[], Any], repeats: int) -> tuple[Any, tuple[float, float]]:
    """Result, and least CPU and wall seconds of the runs."""
    cpu, wall = [], []
    for _ in range(repeats):
        a, b = time.process_time(), time.perf_counter()
        result = run()
        cpu.append(time.process_time() - a)
        wall.append(time.perf_counter() - b)
    return result, (min(cpu), min(wall))
