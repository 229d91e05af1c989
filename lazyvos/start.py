"""Before a run: does its start fit the frames, and is it the run that a folder already holds?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lazyvos.interact.base import User
from lazyvos.masks import object_ids
from lazyvos.outputs import SUMMARY, RunResult
from lazyvos.tracker import Tracker
from lazyvos.types import Click, InputError
from lazyvos.video import Source


def check_start(
    clip: Source, clicks: Sequence[Click] | None, mask: np.ndarray | None, truth: Callable[[int], np.ndarray | None] | None
) -> None:
    """Raise :class:`InputError` where clicks, mask or truth do not fit the frames or one another (see ``run_clip``)."""
    if bool(clicks) == (mask is not None):
        raise InputError("give clicks or a mask to say what to follow, one of the two")
    for click in clicks or ():
        click.check_inside(clip.size)
    if clicks:
        wanted = {click.object for click in clicks}
        only_negative = wanted - {click.object for click in clicks if click.positive}
        if only_negative:
            raise InputError(f"object {min(only_negative)} has only negative clicks; add a positive one on it")
    else:
        assert mask is not None
        if mask.shape != clip.size:
            raise InputError(
                f"mask is {mask.shape[1]}x{mask.shape[0]} but the frames are {clip.size[1]}x{clip.size[0]} (width x height)"
            )
        wanted = set(object_ids(mask))
        if not wanted:
            raise InputError("mask holds no object; ids 1..254 mark objects, 0 is background")
    first = truth(0) if truth is not None else None
    if first is not None:
        if first.shape != clip.size:
            raise InputError(f"truth of frame 0 has shape {list(first.shape)}, the frames {list(clip.size)}")
        missing = wanted - set(object_ids(first))
        if missing:
            raise InputError(
                f"object {min(missing)} is not in the truth of frame 0, which has {object_ids(first)}; "
                "name objects as the truth does"
            )


def describe(
    clip: Source, tracker: Tracker, clicks: Sequence[Click] | None, mask: np.ndarray | None, user: User | None
) -> dict[str, Any]:
    """What is run, in plain values: enough to tell whether two runs are the same."""
    start: Any = None
    if clicks:
        start = [f"{c.x:g},{c.y:g}@{c.object}{'' if c.positive else '-'}" for c in clicks]
    elif mask is not None:
        start = "mask sha256 " + hashlib.sha256(np.asarray(mask, np.uint8).tobytes()).hexdigest()[:16]
    return {
        "source": clip.name, "size": list(clip.size), "fps": clip.fps, "start": start,
        "backbone": type(tracker.backbone).__name__, "memory": type(tracker.memory).__name__,
        "policy": repr(tracker.policy), "uncertainty": _named(tracker.uncertainty), "network_size": tracker.size, "device": str(tracker.device),
        "user": None if user is None else type(user).__name__, "torch": torch.__version__,
    }  # fmt: skip


def _named(part: object) -> str:
    return repr(part) if is_dataclass(part) else type(part).__name__


def difference(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """Name of the first fact that differs and would change the result."""
    return next((k for k in a if k not in ("device", "torch", "fps") and a[k] != b.get(k)), None)


def finished(folder: Path, setup: dict[str, Any], clip: Source) -> RunResult | None:
    """The result in the folder, if it is complete and of the same run."""
    try:
        saved = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        result = RunResult(**{**saved, "objects": tuple(saved["objects"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    whole = result.complete and difference(setup, result.setup) is None and result.frames == clip.length
    return result if whole else None


def read_snapshot(path: Path, setup: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A snapshot: ``t``, ``tracker``, ``counts``, ``log`` (bytes of the log then). No code in the file runs.

    Raises :class:`InputError` where it cannot be read or belongs to another run than ``setup``.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        before = json.loads(saved["setup"])
        if not {"t", "log", "counts", "tracker"} <= saved.keys():
            raise KeyError("incomplete")
    except Exception as error:  # torch raises many kinds for damaged or foreign files
        raise InputError(f"snapshot {path} cannot be read; run without --resume to start anew") from error
    other = difference(setup, before)
    if other is not None:
        raise InputError(
            f"snapshot {path} was made with another {other} ({before.get(other)}, now {setup[other]}); "
            "run it as before, or without --resume"
        )
    return saved
