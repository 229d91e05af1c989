"""Does a long run stay as it began? Resident memory and time per frame of thousands of frames."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos.bench import machine
from lazyvos.build import make_tracker
from lazyvos.datasets.synthetic import SyntheticClip
from lazyvos.device import pick_device
from lazyvos.outputs import peak_memory_mb
from lazyvos.types import InputError

POINTS = 40


def resident_mb() -> float | None:
    """Resident memory of this process in MB (10^6 bytes); where the system tells only the peak so far, that; else ``None``."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_memory_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def bench_flat(
    *, frames: int = 20_000, size: tuple[int, int] = (96, 128), memory: str = "readmem",
    memory_options: Mapping[str, Any] | None = None, backbone: str = "tiny", network: int = 64, device: str | None = None,
    precision: str = "auto", seed: int = 0, note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Track one generated clip of ``frames`` frames, drawn as they are needed, and watch memory and time.

    Parameters
    ----------
    frames: how long, at least 100.
    size: height and width of the frames.
    memory, memory_options: as in :func:`lazyvos.build.make_tracker`; READMem gets 20 slots and every frame offered by default.
    backbone: network, with the weights it ships with; ``network`` is the short side at which it runs.
    device, precision: as in :func:`lazyvos.build.make_tracker`.
    seed: of the clip.
    note: told how far it is.

    Returns a plain dict. ``points``: pairs of frame number and resident MB; over the last half ``growth_mb``, from its beginning to
    its end, and ``spread_mb``, largest less smallest. ``early`` and ``late`` frame ranges (of 20,000 frames 1,000 to 2,000 and the
    last 1,000; as many parts of other lengths), with ``ms`` and ``cpu_ms``, the median time of a frame in each on the wall clock
    and of this process, and ``times``, ``cpu_times``: late over early. Drawing is not counted. ``kept`` counts stored frames by the
    memory's word for it, ``entries`` are those left, and ``machine``, ``frames``, ``size``, ``memory`` say what was run.

    Raises :class:`InputError` for fewer than 100 frames.
    """
    if frames < 100:
        raise InputError(f"frames is {frames}; give 100 or more, else there is no early and late to compare")
    where = pick_device(device)
    options = {"slots": 20, "every": 1} if memory == "readmem" else {}
    clip = SyntheticClip(seed=seed, length=frames, size=size)
    tracker = make_tracker(
        backbone, memory=memory, memory_options={**options, **(memory_options or {})}, policy="never", refiner=None, size=network,
        device=where, precision=precision,
    )  # fmt: skip
    seconds, cpu = np.full(frames, np.nan), np.full(frames, np.nan)
    marks = {round(frames * i / POINTS) - 1 for i in range(1, POINTS + 1)}
    points: list[tuple[int, float | None]] = []
    words: dict[str, int] = {}
    for t, (frame, mask) in enumerate(clip.pairs()):
        wall, busy = time.perf_counter(), time.process_time()
        tracker.predict(frame)  # ends with the label map on the CPU, so the device is done
        if t == 0:
            tracker.correct(mask=mask)
        decision = tracker.commit()
        seconds[t], cpu[t] = time.perf_counter() - wall, time.process_time() - busy
        words[decision.reason] = words.get(decision.reason, 0) + 1
        if t in marks:
            points.append((t, resident_mb()))
            note(f"frame {t + 1} of {frames}")
    early, late = (frames // 20, frames // 10), (frames - frames // 20, frames)
    half = [mb for t, mb in points if mb is not None and t >= frames // 2 - 1]
    ms, cpu_ms = ([1e3 * float(np.median(s[a:b])) for a, b in (early, late)] for s in (seconds, cpu))
    return {
        "machine": machine(where), "backbone": backbone, "memory": memory, "frames": frames, "size": list(size), "network": network,
        "points": points, "growth_mb": half[-1] - half[0] if half else None, "spread_mb": max(half) - min(half) if half else None,
        "early": list(early), "late": list(late), "ms": ms, "cpu_ms": cpu_ms, "times": ms[1] / ms[0], "cpu_times": cpu_ms[1] / cpu_ms[0],
        "fps": 1 / float(np.median(seconds)), "kept": words, "entries": len(tracker.memory.frames()),
    }  # fmt: skip
