"""The unit of work: a group of experiments over one sequence, frame by frame side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.build import make_user
from lazyvos.evaluate import first_clicks
from lazyvos.experiments.data import entries
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.measures import Absences, Volume
from lazyvos.experiments.parts import build_tracker, forget_networks, network, watched
from lazyvos.experiments.reuse import SharedEncoder
from lazyvos.metrics import ObjectScore, Score, robustness_of
from lazyvos.metrics.lvos import lvos_series, stability
from lazyvos.scoring import Scoreboard
from lazyvos.tracker import Tracker
from lazyvos.types import Correction, Decision, InputError, Prediction, Request
from lazyvos.uncertainty.serve import call

__all__ = ["build_tracker", "evaluate_group", "forget_networks", "network", "predicted"]


def evaluate_group(
    experiments: Sequence[Experiment], sequence: Any, device: str, *, share: bool = True, tick: Callable[[int], object] | None = None
) -> list[dict[str, Any]]:
    """Run experiments with one backbone, size and precision over a sequence; a record for each, in order.

    All trackers see a frame before the next one is read, so that it is decoded once and (where that is exact) encoded
    once, and nothing is kept. Each draws from its own random numbers, so that a record does not depend on its company.
    ``tick(n)`` is called when ``n`` frames of an experiment are done.

    Returns
    -------
    Plain dicts for JSON: ``frames``, ``seconds`` (tracking alone; a shared encoder pass counts in full for each), ``fps``,
    ``peak_mib`` (CUDA memory, where the experiment ran alone), ``encoder`` (passes made and saved), ``memory`` (see
    :meth:`lazyvos.experiments.measures.Volume.record`), ``unseen`` (of the category, LVOS), and ``objects`` with J, F, their recall
    and decay, V, R@τ, the measures of VOTS (where every frame has truth), and series over the scored frames: their numbers ``t``,
    ``j``, ``f``, ``present``, ``area`` (pixels) and ``score`` of the uncorrected prediction (``None`` where it does not know the object yet)
    and one by the name of each watched estimator; ``predicted`` is over all frames with truth.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    alone = bool(cuda) and len(experiments) == 1
    with torch.random.fork_rng(devices=cuda):
        shared = SharedEncoder(network(experiments[0], device), share and len(experiments) > 1)
        if len(experiments) == 1 and experiments[0].alone:
            _warm_up(build_tracker(experiments[0], device, shared.net), sequence)
        runs = [_Run(e, sequence, build_tracker(e, device, shared.view()), cuda) for e in experiments]
        if alone:
            torch.cuda.reset_peak_memory_stats(cuda[0])
        source = sequence.frames
        for t, frame in enumerate(islice(iter(source), sequence.start, None), sequence.start):
            shared.forget()
            truth = sequence.mask(t)
            masks = sequence.masks(t) if hasattr(sequence, "masks") else None
            for run in runs:
                passes, saved = shared.passes, shared.saved
                run.frame(t, frame, truth, masks)
                run.passes += shared.passes - passes
                run.saved += shared.saved - saved
            if tick is not None:
                tick(len(runs))
        shared.forget()
        peak = torch.cuda.max_memory_allocated(cuda[0]) / 2**20 if alone else None
    getattr(source, "close", lambda: None)()
    return [{**run.record(), "peak_mib": peak, "together": len(runs)} for run in runs]


def predicted(experiment: Experiment, sequence: Any, device: str, t: int) -> Prediction:
    """The uncorrected prediction of frame ``t``, as the experiment comes to it. Raises :class:`InputError` for a frame that is not tracked."""
    if not sequence.start <= t < len(sequence):
        raise InputError(f"frame {t} of {sequence.name!r} is not tracked; frames are {sequence.start}..{len(sequence) - 1}")
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        shared = SharedEncoder(network(experiment, device), False)
        run = _Run(experiment, sequence, build_tracker(experiment, device, shared.view()), cuda)
        for at, frame in enumerate(islice(iter(sequence.frames), sequence.start, t + 1), sequence.start):
            run.frame(at, frame, sequence.mask(at))
    getattr(sequence.frames, "close", lambda: None)()
    assert run.original is not None
    return run.original


def _warm_up(tracker: Tracker, sequence: Any) -> None:
    """A tracker for nothing over the first frames, so that what torch does once is not timed."""
    mask = sequence.mask(sequence.start)
    for t in range(sequence.start, min(sequence.start + 3, len(sequence))):
        tracker.predict(sequence.frames.frame(t))
        if t == sequence.start:
            tracker.correct(mask=mask)
        tracker.commit()


class _Run:
    """One experiment on one sequence."""

    def __init__(self, experiment: Experiment, sequence: Any, tracker: Tracker, cuda: list[torch.device]) -> None:
        self.experiment, self.sequence, self.tracker, self._cuda = experiment, sequence, tracker, cuda
        self.entries = entries(sequence, experiment.later)
        spans = getattr(sequence, "spans", {})
        self.spans = {o: tuple(spans.get(o, (0, len(sequence)))) for o in self.entries}
        self.boards = {o: Scoreboard(sequence.name, [o]) for o in self.entries}
        self.times: dict[int, list[int]] = {o: [] for o in self.entries}
        self.absences = Absences(self.entries, sequence.start)
        self.volume = Volume(tracker.memory)
        name = "centre" if experiment.user == "simulated" else experiment.user
        self.user: Any = None
        if name != "none":
            self.user = make_user(**{"name": name, **experiment.user_options}, truth=lambda t: sequence.mask(t + sequence.start))
        self.watch = watched(experiment)
        self.doubts: dict[int, dict[str, list[float | None]]] = {o: {name: [] for name in ("area", "score", *self.watch)} for o in self.entries}
        self.original: Prediction | None = None
        self.seconds, self.frames, self.passes, self.saved = 0.0, 0, 0, 0
        self.asked: dict[int, list[int]] = {o: [] for o in self.entries}
        self.clicked: dict[int, list[int]] = {o: [] for o in self.entries}
        self.pseudo: dict[int, list[int]] = {o: [] for o in self.entries}
        torch.manual_seed(experiment.seed)
        self._random = self._draws()

    def frame(self, t: int, frame: np.ndarray, truth: np.ndarray | None, masks: dict[int, np.ndarray] | None = None) -> None:
        """Track frame ``t`` and score it; ``masks`` are the objects of the truth where they may overlap."""
        coming = [o for o, at in self.entries.items() if at == t and truth is not None and (truth == o).any()]
        with self._own_random():
            began = time.perf_counter()
            labels, decision, original = self._enter(frame, truth, coming) if coming and truth is not None else self._step(t, frame)
            self.seconds += time.perf_counter() - began
        self.frames, self.original = self.frames + 1, original
        self.volume.update(t, decision)
        if truth is None:
            return
        doubts = self._doubts(original)
        overlaps: dict[int, float] = {}
        for o, board in self.boards.items():
            first, end = self.spans[o]
            if max(first, self.entries[o]) <= t < end:
                overlaps |= (found := board.update(labels, truth))
                if found:
                    self.times[o].append(t)
                    for name, scores in doubts.items():
                        self.doubts[o][name].append(_finite(scores.get(o)))
        self.absences.update(labels, truth if masks is None else masks, overlaps)

    def _doubts(self, original: Prediction) -> dict[str, Mapping[int, float]]:
        """Of the uncorrected prediction: pixels of each object, the tracker's own scores, and those of the watched estimators."""
        area = {o: float(np.count_nonzero(original.labels == o)) for o in original.objects}
        given = {"parts": original.parts}
        watched = {name: call(one, original.probabilities, original.labels, original.objects, given).scores for name, one in self.watch.items()}
        return {"area": area, "score": original.scores, **watched}

    def _enter(self, frame: np.ndarray, truth: np.ndarray, coming: list[int]) -> tuple[np.ndarray, Decision, Prediction]:
        """Objects get their first mask or click; nobody is asked on this frame."""
        original = self.tracker.predict(frame)
        if self.experiment.start == "mask":
            current = self.tracker.correct(mask=np.where(np.isin(truth, coming), truth, 0).astype(np.uint8))
        else:
            current = self.tracker.correct(first_clicks(truth, coming))
        return current.labels, self.tracker.commit(), original

    def _step(self, t: int, frame: np.ndarray) -> tuple[np.ndarray, Decision, Prediction]:
        step = self.tracker.step(frame, self.user)
        self._count(t, step.requests, step.corrections)
        return step.prediction.labels, step.decision, step.original

    def _count(self, t: int, requests: Sequence[Request], corrections: Sequence[Correction]) -> None:
        for request in requests:
            self.asked[request.object].append(t)
        for correction in corrections:
            (self.pseudo if correction.kind == "pseudo" else self.clicked)[correction.object].append(t)

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        torch.set_rng_state(self._random[0])
        for device, state in zip(self._cuda, self._random[1:], strict=True):
            torch.cuda.set_rng_state(state, device)
        yield
        self._random = self._draws()

    def _draws(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._cuda)]

    def record(self) -> dict[str, Any]:
        """What came of it."""
        seconds = self.seconds + self.tracker.backbone.owed  # type: ignore[attr-defined]
        scores = [o for board in self.boards.values() for o in board.result().objects]
        rate, seen = getattr(self.sequence.frames, "fps", None), getattr(self.sequence, "seen", None)
        return {
            "start": self.sequence.start, "frames": self.frames, "seconds": seconds, "fps": self.frames / seconds if seconds else None, "clip_fps": rate,
            "encoder": {"passes": self.passes, "saved": self.saved},
            "memory": self.volume.record(), "unseen": None if seen is None else not seen,
            "objects": [self._object(o) for o in scores],
        }  # fmt: skip

    def _object(self, o: ObjectScore) -> dict[str, Any]:
        plain = Score((o,)).as_dict()
        plain.pop("objects")
        robust = {f"{tau:g}": None if np.isnan(v) else v for tau, v in robustness_of(Score((o,))).items()}
        v = stability(*lvos_series(o.j, o.f))
        return {
            "id": o.id, "entry": self.entries[o.id], "span": list(self.spans[o.id]), "scored": o.frames, **plain, "R": robust,
            "V": None if np.isnan(v) else v, "vots": self.absences.measures(o.id, len(self.sequence)),
            "asked": self.asked[o.id], "clicked": self.clicked[o.id], "pseudo": self.pseudo[o.id],
            "series": {"t": self.times[o.id], "j": o.j.tolist(), "f": o.f.tolist(), "present": o.present.astype(int).tolist(),
                       "predicted": self.absences.predicted(o.id), **self.doubts[o.id]},
        }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
