"""What a run leaves behind: its result, its folder, and small helpers to write and stop cleanly."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos.journal import Journal
from lazyvos.masks.atomic import atomic_path
from lazyvos.types import InputError, Step

MASKS, OVERLAY, LOG, REPORT, SUMMARY, SNAPSHOT = (
    "masks", "overlay.mp4", "session.jsonl", "report.html", "summary.json", "snapshot.pt",
)  # fmt: skip

@dataclass(frozen=True)
class RunResult:
    """What came of a run, in plain numbers.

    Attributes
    ----------
    frames: frames done; ``complete`` says whether the clip was followed to its end, ``error`` why not.
    objects: ids of the tracked objects.
    J, F, JF: means over the objects by the DAVIS protocol, 0..1; ``robustness`` R@τ over all frames; ``None`` without truth.
    scores: J, F, JF of every object.
    requests, user_corrections, pseudo_corrections: how often the tracker asked, was answered, and corrected itself; the
        clicks or mask that started the objects do not count.
    fps: frames per second of tracking alone (no decoding, drawing, writing or waiting for a person).
    seconds: wall time of this run. peak_memory_mb: largest resident memory of the process so far, MB (``None`` on Windows).
    out, files: folder and what lies in it. setup: what was run, as needed to run it again.
    """

    frames: int
    complete: bool
    objects: tuple[int, ...]
    requests: int
    user_corrections: int
    pseudo_corrections: int
    fps: float | None
    seconds: float
    peak_memory_mb: float | None
    out: str
    files: dict[str, str]
    setup: dict[str, Any]
    J: float | None = None
    F: float | None = None
    JF: float | None = None
    robustness: dict[str, float] | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def make_folder(folder: Path) -> None:
    """Make an output folder and see that it can be written to; raises :class:`InputError` where not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"output {folder} is a file or lies below one; give a folder") from error
    except OSError as error:
        raise InputError(f"output folder {folder} cannot be written to ({error.strerror}); give another one") from error


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far in MB (10^6 bytes); ``None`` where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def note_step(journal: Journal, step: Step, iou: dict[int, float] | None, by: str) -> None:
    """Write a frame's events, named as those of :class:`lazyvos.session.Session`; ``by`` says who clicked."""
    clicked, pseudo = [], []
    for r in step.requests:
        journal.add("request", t=step.t, object=r.object, score=r.score, delta=r.delta, at=r.at)
    for correction in step.corrections:
        if correction.kind == "pseudo":
            pseudo.append(correction.object)
            continue
        clicked.append(correction.object)
        if correction.kind == "mask":
            journal.add("mask", t=step.t, objects=[correction.object])
        for c in correction.clicks:
            journal.add("click", t=step.t, object=c.object, x=c.x, y=c.y, positive=c.positive, by=by)
    if pseudo:
        journal.add("pseudo", t=step.t, objects=pseudo)
    areas = np.bincount(step.prediction.labels.ravel(), minlength=256)
    decision = step.decision
    journal.add(
        "commit", t=step.t, scores=dict(step.original.scores), deltas=dict(step.original.deltas),
        areas={o: int(areas[o]) for o in step.prediction.objects}, clicked=clicked, pseudo=pseudo,
        kept=decision.kept, reason=decision.reason, slot=decision.slot, replaced=decision.replaced,
        log_gram_before=decision.log_gram_before, log_gram_after=decision.log_gram_after,
        seconds=step.seconds, **({} if iou is None else {"iou": iou}),
    )  # fmt: skip


def drop_masks_after(folder: Path, last: int) -> None:
    """Remove ``00012.png`` … beyond frame ``last``: what an earlier, longer run left in the folder of masks."""
    for file in folder.glob("*.png"):
        if file.stem.isdecimal() and int(file.stem) > last:
            file.unlink()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one raises ``KeyboardInterrupt``."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("\nstopping after this frame; Ctrl-C again stops at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
