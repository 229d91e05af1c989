"""One clip from the first frame to the last: track it, and leave masks, a video, a log, a report and a summary."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lazyvos.interact.base import User
from lazyvos.interact.limits import limits
from lazyvos.journal import Journal
from lazyvos.masks import MaskWriter, VideoWriter, atomic_path, object_ids, overlay, read_mask
from lazyvos.metrics import robustness_of
from lazyvos.outputs import (
    LOG,
    MASKS,
    OVERLAY,
    REPORT,
    SNAPSHOT,
    SUMMARY,
    RunResult,
    drop_masks_after,
    make_folder,
    note_step,
    peak_memory_mb,
    stopping,
    write_json,
)
from lazyvos.report import Thumbnails, write_report
from lazyvos.scoring import Scoreboard
from lazyvos.start import check_start, describe, finished, read_snapshot
from lazyvos.tracker import Tracker
from lazyvos.types import Click, InputError, Step
from lazyvos.video import StreamSource, open_source

SHOW_CLICKS = 12  # frames for which a click stays visible in the overlay


def run_clip(
    source: Any,
    tracker: Tracker,
    out: str | PathLike[str],
    *,
    clicks: Sequence[Click] | None = None,
    mask: np.ndarray | None = None,
    user: User | None = None,
    truth: Callable[[int], np.ndarray | None] | None = None,
    progress: bool = True,
    video: bool = True,
    report: bool = True,
    resume: bool = False,
    snapshot_every: int = 500,
) -> RunResult:
    """Track a clip of any length in constant memory and write what there is to see into the folder ``out``.

    Written are ``masks/00000.png`` … (palette PNG, one per frame, as it goes), ``overlay.mp4``, ``session.jsonl`` (one event
    per line, numbers of every frame), ``report.html`` and ``summary.json``; every file is whole or absent. Ctrl-C ends the run
    after the current frame, writes all of this for the frames done, leaves a snapshot and raises
    ``KeyboardInterrupt``; so does a source that breaks off, with its own error.

    Parameters
    ----------
    source: anything :func:`lazyvos.video.open_source` opens.
    tracker: a fresh tracker.
    clicks, mask: what starts the objects on the first frame: clicks in pixels, or ``uint8 [H, W]`` of object ids; one of the two.
    user: answers requests; ``None`` = nobody, then nothing is asked.
    truth: frame number to label map ``uint8 [H, W]`` (255 void) or ``None``; scores the run.
    progress: show a progress bar on stderr.
    video, report: whether to write ``overlay.mp4`` and ``report.html``.
    resume: go on after the last snapshot in ``out``; masks and log of the frames before are used as they are. Without a
        snapshot the run starts at the first frame; a run that was complete is not repeated.
    snapshot_every: frames between snapshots.

    Raises :class:`InputError` before any work for a start that does not fit the frames, or a snapshot of another run.
    """
    clip = open_source(source)
    folder = Path(out)
    check_start(clip, clicks, mask, truth)
    if tracker.t >= 0:
        raise InputError(f"this tracker has seen {tracker.t + 1} frames already; build a fresh one for every run")
    if snapshot_every < 1:
        raise InputError(f"snapshot_every is {snapshot_every}; give 1 or more frames")
    make_folder(folder)
    setup = describe(clip, tracker, clicks, mask, user)
    if resume and (done := finished(folder, setup, clip)) is not None:
        return done
    run = _Run(clip, tracker, folder, clicks, mask, user, truth, progress, video, snapshot_every, setup)
    if resume:
        run.load()
    return run.go(report)


class _Run:
    """The loop of :func:`run_clip` and what it holds on the way: nothing that grows with the frames but scores."""

    def __init__(
        self, clip: Any, tracker: Tracker, folder: Path, clicks: Sequence[Click] | None, mask: np.ndarray | None,
        user: User | None, truth: Callable[[int], np.ndarray | None] | None, progress: bool, video: bool,
        snapshot_every: int, setup: dict[str, Any],
    ) -> None:  # fmt: skip
        self.clip, self.tracker, self.folder = clip, tracker, folder
        self.clicks, self.mask, self.user, self.truth = clicks, mask, user, truth
        self.progress, self.snapshot_every, self.setup = progress, snapshot_every, setup
        self.video = VideoWriter(folder / OVERLAY, clip.fps) if video else None
        self.thumbs = Thumbnails()
        names = {c.object for c in clicks} if clicks else set(object_ids(mask)) if mask is not None else set()
        self.objects = tuple(sorted(names))
        self.board = Scoreboard(clip.name, self.objects) if truth is not None else None
        self.counts = {"requests": 0, "user": 0, "pseudo": 0}
        self.done = -1  # last frame whose mask and log are there
        self.before: int | None = None  # last frame of the snapshot, on resume
        self.busy, self.tracked = 0.0, 0
        self.recent: deque[tuple[int, Click]] = deque(maxlen=32)
        self.journal: Journal | None = None

    # resume

    def load(self) -> None:
        """Take up the snapshot in the folder, if there is one."""
        path = self.folder / SNAPSHOT
        if not path.is_file():
            return
        if isinstance(self.clip, StreamSource):
            raise InputError(f"{self.clip.name} cannot be read again from its beginning; run it without --resume")
        saved = read_snapshot(path, self.setup, self.tracker.device)
        t, log = int(saved["t"]), int(saved["log"])
        journal = self.folder / LOG
        if not journal.is_file() or journal.stat().st_size < log:
            raise InputError(f"{journal} is shorter than at the snapshot; run without --resume to start anew")
        missing = next((k for k in range(t + 1) if not self._mask(k).is_file()), None)
        if missing is not None:
            raise InputError(f"{self._mask(missing)} is missing; run without --resume to start anew")
        self.tracker.load_state(saved["tracker"])
        os.truncate(journal, log)
        self.counts, self.before = dict(saved["counts"]), t
        self.clicks = self.mask = None

    def _save(self) -> None:
        assert self.journal is not None
        assert self.journal.path is not None
        content = {
            "t": self.done, "tracker": self.tracker.state(), "counts": self.counts, "setup": json.dumps(self.setup),
            "log": self.journal.path.stat().st_size,
        }  # fmt: skip
        with atomic_path(self.folder / SNAPSHOT) as temporary:
            torch.save(content, temporary)

    def _mask(self, t: int) -> Path:
        return self.folder / MASKS / f"{t:05d}.png"

    # the loop

    def go(self, report: bool) -> RunResult:
        """Run to the end and write everything."""
        began = time.perf_counter()
        if self.before is None:
            for name in (LOG, SNAPSHOT, SUMMARY):
                (self.folder / name).unlink(missing_ok=True)
        self.journal = Journal(self.folder / LOG, keep=1)
        if self.before is None:
            self.journal.add("opened", source=self.clip.name, size=self.clip.size, fps=self.clip.fps,
                             length=self.clip.length, live=self.clip.live, thresholds=limits(self.tracker.policy))  # fmt: skip
        else:
            self.journal.add("resumed", t=self.before)
        trouble: BaseException | None = None
        with ExitStack() as files:
            files.callback(self.journal.close)
            files.callback(self.clip.close)
            if self.video is not None:
                files.enter_context(self.video)
            try:
                with stopping() as stop:
                    self._frames(stop)
                    if stop.is_set():
                        raise KeyboardInterrupt
            except (KeyboardInterrupt, InputError) as error:  # the frames done are kept
                trouble = error
            self.journal.add("ended", frames=self.done + 1)
        result = self._result(time.perf_counter() - began, trouble, report)
        if trouble is None:
            drop_masks_after(self.folder / MASKS, self.done)
            (self.folder / SNAPSHOT).unlink(missing_ok=True)
        if report and self.done >= 0:
            write_report(self.folder / LOG, self.folder / REPORT, result.as_dict(), self.thumbs.pictures())
        write_json(self.folder / SUMMARY, result.as_dict())
        if trouble is not None:
            raise trouble
        return result

    def _frames(self, stop: threading.Event) -> None:
        writer = MaskWriter(self.folder / MASKS)
        bar = tqdm(total=self.clip.length, unit="frame", desc="tracking", disable=not self.progress, mininterval=0.5,
                   dynamic_ncols=True)  # fmt: skip
        try:
            for t, frame in enumerate(self.clip):
                if self.before is not None and t <= self.before:
                    labels, iou = read_mask(self._mask(t), self.clip.size), None
                    self._score(t, labels)
                else:
                    step = self._step(frame)
                    labels = step.prediction.labels
                    writer.write(t, labels)
                    iou = self._score(t, labels)
                    self._note(step, iou)
                    bar.set_postfix(self._postfix(step), refresh=False)
                self._draw(t, frame, labels)
                self.done = t
                bar.update()
                new = self.before is None or t > self.before
                if new and (stop.is_set() or (t + 1) % self.snapshot_every == 0):
                    writer.close()
                    self._save()
                    writer = MaskWriter(self.folder / MASKS)
                if stop.is_set():
                    break
        finally:
            bar.close()
            writer.close()
        if self.before is not None and self.done < self.before:
            raise InputError(f"{self.clip.name} ends before frame {self.before}, where the snapshot stands")

    def _step(self, frame: np.ndarray) -> Step:
        waited = float(getattr(self.user, "waited", 0.0))
        if self.clicks is not None or self.mask is not None:
            step = next(self.tracker.track([frame], self.user, clicks=self.clicks, mask=self.mask))
            self.clicks = self.mask = None
        else:
            step = self.tracker.step(frame, self.user)
        self.busy += step.seconds - (float(getattr(self.user, "waited", 0.0)) - waited)
        self.tracked += 1
        return step

    def _score(self, t: int, labels: np.ndarray) -> dict[int, float] | None:
        truth = self.truth(t) if self.truth is not None else None
        return self.board.update(labels, truth) if self.board is not None and truth is not None else None

    def _postfix(self, step: Step) -> dict[str, str]:
        worst = max(step.original.scores.values(), default=0.0)
        return {"uncertainty": f"{worst:.2f}", **{name: str(n) for name, n in self.counts.items() if n}}

    def _note(self, step: Step, iou: dict[int, float] | None) -> None:
        assert self.journal is not None
        first = self.tracked == 1 and self.before is None
        note_step(self.journal, step, iou, "start" if first else type(self.user).__name__)
        self.counts["requests"] += len(step.requests)
        for correction in step.corrections:
            self.recent.extend((step.t, click) for click in correction.clicks if correction.kind != "pseudo")
            if not first:
                self.counts["pseudo" if correction.kind == "pseudo" else "user"] += 1

    def _draw(self, t: int, frame: np.ndarray, labels: np.ndarray) -> None:
        while self.recent and self.recent[0][0] <= t - SHOW_CLICKS:
            self.recent.popleft()
        asked = any(at == t for at, _ in self.recent) and t > 0
        if self.video is None and not self.thumbs.wants(t, asked):
            return
        picture = overlay(frame, labels, contour=2, clicks=[click for _, click in self.recent])
        if self.video is not None:
            self.video.write(picture)
        self.thumbs.offer(t, picture, asked)

    # the end

    def _result(self, seconds: float, trouble: BaseException | None, report: bool) -> RunResult:
        files = {"masks": MASKS, "log": LOG, "summary": SUMMARY}
        if self.video is not None and self.done >= 0:
            files["overlay"] = OVERLAY
        if report and self.done >= 0:
            files["report"] = REPORT
        score = self.board.result() if self.board is not None else None
        numbers = score.as_dict() if score is not None and score.objects else {}
        robust = robustness_of(score) if score is not None and score.objects else None
        return RunResult(
            frames=self.done + 1, complete=trouble is None, objects=self.objects, requests=self.counts["requests"],
            user_corrections=self.counts["user"], pseudo_corrections=self.counts["pseudo"],
            fps=self.tracked / self.busy if self.busy > 0 else None, seconds=seconds, peak_memory_mb=peak_memory_mb(),
            out=str(self.folder), files={k: str(self.folder / v) for k, v in files.items()}, setup=self.setup,
            J=numbers.get("J"), F=numbers.get("F"), JF=numbers.get("JF"),
            robustness=None if robust is None else {f"{tau:g}": value for tau, value in robust.items()},
            scores=[{k: o[k] for k in ("id", "frames", "J", "F", "JF")} for o in numbers.get("objects", [])],
            error=None if trouble is None else str(trouble) or "interrupted",
        )  # fmt: skip
