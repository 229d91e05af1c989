"""Seconds a frame and peak memory of every backbone, each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from lazyvos.bench import SIZES, machine
from lazyvos.build import BACKBONES, make_memory
from lazyvos.datasets.synthetic import SyntheticClip
from lazyvos.device import pick_device, pick_precision
from lazyvos.hub import MEMBERS, load
from lazyvos.outputs import peak_memory_mb
from lazyvos.tracker import Tracker

NAMES = tuple(name for name in BACKBONES if name not in MEMBERS)


def bench_backbones(
    *, names: tuple[str, ...] = NAMES, sizes: tuple[tuple[int, int], ...] = SIZES, memory: str = "fifo",
    device: str | None = None, precision: str = "auto", objects: int = 1, frames: int = 12,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure each backbone of ``names`` (random weights) on generated frames of each size, at the frame's own size.

    Every frame enters the memory, which is filled to its ten slots before the clock starts. Peak memory is the process's largest resident set on the CPU, the
    allocator's peak on a GPU.

    Returns a plain dict: ``machine``, ``memory``, ``precision``, and ``backbones``: rows of ``backbone``, ``parameters``,
    ``height``, ``width``, ``objects``, ``seconds`` (median per frame), ``peak_mb``.

    Raises ``RuntimeError`` when a process fails.
    """
    where = pick_device(device)
    precision = pick_precision(precision, where)
    make_memory(memory)
    rows = []
    for name in names:
        for size in sizes:
            note(f"{name} at {size[1]}x{size[0]}")
            words = [name, str(size[0]), str(size[1]), memory, where, precision, str(objects), str(frames)]
            done = subprocess.run([sys.executable, "-m", __name__, *words], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{name} at {size[1]}x{size[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    return {"machine": machine(where), "memory": memory, "precision": precision, "backbones": rows}


def measure(
    name: str, height: int, width: int, memory: str, device: str, precision: str, objects: int = 1, frames: int = 12
) -> dict[str, Any]:
    """One row of :func:`bench_backbones`, measured in this process."""
    net: Any = load(name, seed=0, device=device)
    clip = SyntheticClip(seed=3, length=8, size=(height, width), objects=objects, difficulty="easy")
    pairs = list(clip.pairs())
    options = {"every": 1} if memory in ("fifo", "readmem", "longterm") else {}
    tracker = Tracker(net, make_memory(memory, **options), size=None, device=device, precision=precision)
    seconds = []
    for step in range(11 + frames):
        frame, mask = pairs[step % len(pairs)]
        began = time.perf_counter()
        tracker.predict(frame)  # ends with the label map on the CPU, so the device is done
        if step == 0:
            tracker.correct(mask=mask)
        tracker.commit()
        if step >= 11:
            seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else peak_memory_mb()
    return {
        "backbone": name, "parameters": sum(p.numel() for p in net.parameters()), "height": height, "width": width,
        "objects": objects, "seconds": statistics.median(seconds), "peak_mb": peak,
    }  # fmt: skip


if __name__ == "__main__":
    name, height, width, memory, device, precision, objects, frames = sys.argv[1:]
    print(json.dumps(measure(name, int(height), int(width), memory, device, precision, int(objects), int(frames))))
