"""Speed on this machine: frames per second, and what the faster forms of three hot spots gain, measured side by side."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from lazyvos.build import make_tracker, pick_device, pick_precision
from lazyvos.datasets.synthetic import SyntheticClip
from lazyvos.memory.gram import log_abs_det, replaced, replacement_log_dets
from lazyvos.memory.read import Part, read_values
from lazyvos.metrics import boundary_map, contour, disk, tolerance_radius

SIZES = ((240, 427), (480, 854))


@dataclass(frozen=True)
class Speed:
    """Frames per second at a frame size, with the network's short side ``network`` (``None`` = the frame's own).

    ``fps`` counts all frames, ``spread`` is the standard deviation of the speed over blocks of ten frames, ``p95_ms`` the
    time that 95 % of the frames keep within.
    """

    height: int
    width: int
    network: int | None
    frames: int
    fps: float
    spread: float
    p95_ms: float


@dataclass(frozen=True)
class Ratio:
    """Two ways to the same numbers: milliseconds of each (median), how many times faster, largest difference."""

    name: str
    naive_ms: float
    fast_ms: float
    difference: float

    @property
    def times(self) -> float:
        """How many times faster."""
        return self.naive_ms / self.fast_ms


def bench(
    *, seconds: float = 8.0, sizes: tuple[tuple[int, int], ...] = SIZES, memory: str = "fifo", device: str | None = None,
    precision: str = "auto", ratios: bool = True, note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure the shipped network and the hot spots.

    Parameters
    ----------
    seconds: time for each measurement of speed, after warming up.
    sizes: frame sizes (height, width).
    memory, device, precision: as in :func:`lazyvos.build.make_tracker`.
    ratios: also compare fast and naive forms.
    note: told what is being measured.

    Returns a plain dict: ``machine``, ``speeds`` and ``ratios``.
    """
    where = pick_device(device)
    speeds = []
    for size in sizes:
        for network in (0, None):
            note(f"{size[1]}x{size[0]}, network at {'its default size' if network == 0 else 'full size'}")
            speeds.append(speed(size, network, seconds, memory=memory, device=where, precision=precision))
    found = []
    if ratios:
        for name, measure in (
            ("top-k read", read_ratio), ("READMem alignment", alignment_ratio), ("READMem determinants", determinant_ratio),
            ("contour score F", contour_ratio),
        ):
            note(name)
            found.append(measure())
    return {
        "machine": machine(where), "memory": memory, "precision": pick_precision(precision, where), "speeds": [asdict(s) for s in speeds],
        "ratios": [{**asdict(r), "times": r.times} for r in found],
    }  # fmt: skip


def speed(
    size: tuple[int, int], network: int | None, seconds: float, *, memory: str = "fifo", device: str = "cpu", precision: str = "auto"
) -> Speed:
    """Track a generated clip of ``size`` (height, width) for about ``seconds``; frames are drawn beforehand."""
    clip = SyntheticClip(seed=3, length=24, size=size, difficulty="easy")
    pairs = list(clip.pairs())
    mask, frames = pairs[0][1], [frame.copy() for frame, _ in pairs]
    around = itertools.cycle([*range(len(frames)), *range(len(frames) - 2, 0, -1)])  # there and back: no jumps
    tracker = make_tracker("tiny", memory=memory, policy="never", refiner=None, size=network, device=device, precision=precision)
    source = (frames[i] for i in around)
    steps = tracker.track(source, mask=mask)
    warm = time.perf_counter() + min(seconds, 3.0)
    for count, _ in enumerate(steps):
        if count >= 10 and time.perf_counter() > warm:
            break
    times: list[float] = []
    while sum(times) < seconds or len(times) < 20:
        began = time.perf_counter()
        next(steps)  # ends with the label map on the CPU, so the device is done
        times.append(time.perf_counter() - began)
    blocks = [10 / sum(times[i : i + 10]) for i in range(0, len(times) - 9, 10)]
    return Speed(size[0], size[1], tracker.size, len(times), len(times) / sum(times), statistics.pstdev(blocks),
                 1000 * float(np.percentile(times, 95)))  # fmt: skip


def read_ratio(entries: int = 20, grid: tuple[int, int] = (30, 54), k: int = 30, channels: int = 128, seed: int = 0) -> Ratio:
    """The memory's read (block top-k, gathered values) against ``torch.topk`` and a dense weight matrix.

    Random keys of ``entries`` stored frames of ``grid`` (480p at stride 16), 64-dimensional, value width ``channels``.
    """
    random = torch.Generator().manual_seed(seed)
    area = grid[0] * grid[1]
    address = torch.randn(entries * area, 129, generator=random)
    query = torch.randn(129, area, generator=random) / 8
    values = torch.randn(1, entries, area, channels, generator=random)
    out = torch.empty(1, area, channels)
    part = Part((0,), tuple(range(entries)))

    def fast() -> Tensor:
        read_values(address, query, values, range(entries), [part], k, out)
        return out[0]

    def naive() -> Tensor:
        scores = address @ query
        best, index = scores.topk(k, 0)
        weights = torch.zeros_like(scores).scatter_(0, index, best.softmax(0))
        return weights.T @ values.view(entries * area, channels)

    difference = float((naive() - fast()).abs().max())
    slow, quick = _race(naive, fast)
    return Ratio(f"top-k read, {entries} frames of {grid[1]}x{grid[0]}: topk + dense weights / block top-k + gather",
                 slow, quick, difference)  # fmt: skip


def alignment_ratio(entries: int = 20, grid: tuple[int, int] = (30, 54), channels: int = 64, seed: int = 0) -> Ratio:
    """READMem's alignment of stored keys to the query: a gather against a product with hw x hw transition matrices."""
    random = torch.Generator().manual_seed(seed)
    area = grid[0] * grid[1]
    keys = torch.randn(entries, area, channels, generator=random)
    index = torch.randint(area, (entries, area), generator=random)
    start = torch.arange(entries).unsqueeze(1) * area

    def fast() -> Tensor:
        return keys.flatten(0, 1).index_select(0, (index + start).flatten()).view(entries, area, channels)

    def naive() -> Tensor:
        moved = []
        for key, at in zip(keys, index, strict=True):
            transition = torch.zeros(area, area)
            transition[at, torch.arange(area)] = 1
            moved.append((key.T @ transition).T)
        return torch.stack(moved)

    difference = float((naive() - fast()).abs().max())
    slow, quick = _race(naive, fast)
    return Ratio(f"READMem alignment, {entries} keys of {grid[1]}x{grid[0]}: transition matrices / gather", slow, quick, difference)


def determinant_ratio(entries: int = 20, seed: int = 0) -> Ratio:
    """All |Γ| after replacing each entry in turn: one factorisation against one determinant per entry."""
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(entries + 1, 200)) + 1.0
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    products = keys @ keys.T
    gram, row, own = products[:-1, :-1], products[-1, :-1], float(products[-1, -1])

    def naive() -> np.ndarray:
        return np.array([log_abs_det(replaced(gram, n, row, own)) for n in range(entries)])

    difference = float(np.abs(naive() - replacement_log_dets(gram, row, own)).max())
    slow, quick = _race(naive, lambda: replacement_log_dets(gram, row, own))
    return Ratio(f"READMem determinants, {entries} entries: one each / one factorisation", slow, quick, difference)


def contour_ratio(seed: int = 0) -> Ratio:
    """F on the masks' bounding box against F on the whole frame, for a mask of 1/9 of an 854x480 frame."""
    height, width = 480, 854
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    radius = 90 + 12 * np.sin(np.arctan2(rows - 250, columns - 400) * 7 + rng.random())
    truth = np.hypot(rows - 250, columns - 400) < radius
    mask = np.roll(truth, (3, -5), (0, 1))
    tolerance = disk(tolerance_radius((height, width)))

    def whole() -> float:
        ours, true = boundary_map(mask).astype(np.uint8), boundary_map(truth).astype(np.uint8)
        precision = np.count_nonzero(ours & cv2.dilate(true, tolerance).astype(np.uint8)) / np.count_nonzero(ours)
        recall = np.count_nonzero(true & cv2.dilate(ours, tolerance).astype(np.uint8)) / np.count_nonzero(true)
        return float(2 * precision * recall / (precision + recall))

    difference = abs(whole() - contour(mask, truth))
    naive, fast = _race(whole, lambda: contour(mask, truth))
    return Ratio("contour score F: whole frame / bounding box", naive, fast, difference)


def machine(device: str) -> dict[str, Any]:
    """Where the numbers come from."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as facts:
            name = next((line.split(":", 1)[1].strip() for line in facts if line.startswith("model name")), name)
    except OSError:
        pass
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {"cpu": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu, "device": device,
            "torch": torch.__version__, "python": platform.python_version(), "system": platform.platform()}  # fmt: skip


def _race(naive: Callable[[], Any], fast: Callable[[], Any], seconds: float = 1.5) -> tuple[float, float]:
    """Median milliseconds of both, measured in turn so that a busy machine slows both alike."""
    times: tuple[list[float], list[float]] = [], []
    naive()
    fast()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for run, into in ((naive, times[0]), (fast, times[1])):
            began = time.perf_counter()
            run()
            into.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[0]), 1000 * statistics.median(times[1])
