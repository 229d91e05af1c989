"""The unit of work: a group of experiments over one sequence, frame by frame side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.build import SIZES, make_memory, make_policy, make_refiner, make_tracker
from lazyvos.evaluate import first_clicks
from lazyvos.experiments.data import entries
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.measures import Absences, Volume
from lazyvos.experiments.reuse import SharedEncoder
from lazyvos.hub import load
from lazyvos.interact import Always, RandomBudget, SimulatedUser
from lazyvos.interact.policies import Lazy
from lazyvos.metrics import ObjectScore, Score, robustness_of
from lazyvos.metrics.lvos import lvos_series, stability
from lazyvos.scoring import Scoreboard
from lazyvos.tracker import Tracker
from lazyvos.types import Correction, Decision, InputError, Request


def network(experiment: Experiment, device: str) -> Any:
    """The backbone of an experiment; the last two are kept, so that sequences of one experiment load it once."""
    file = Path(experiment.weights) if experiment.weights is not None else None
    facts = file.stat() if file is not None and file.is_file() else None
    return _network(experiment.backbone, experiment.weights, device, facts and (facts.st_size, facts.st_mtime_ns))


@lru_cache(maxsize=2)
def _network(name: str, weights: str | None, device: str, _facts: tuple[int, int] | None) -> Any:
    return load(name, weights, device=device)


def forget_networks() -> None:
    """Free the networks that :func:`network` keeps."""
    _network.cache_clear()


def build_tracker(experiment: Experiment, device: str, net: Any = None) -> Tracker:
    """A fresh tracker as the experiment says; ``net`` is its backbone where it is loaded already.

    Raises :class:`InputError` for parts or options that cannot work.
    """
    e = experiment
    try:
        memory = make_memory(e.memory, **e.memory_options) if isinstance(e.memory, str) else e.memory(**e.memory_options)
        policy = _policy(e.policy, dict(e.policy_options))
        refiner: Any = None
        if e.refiner is not None and e.clicks:
            refiner = e.refiner
            if isinstance(refiner, str):
                options = {"weights": e.refiner_weights, "device": device, "precision": e.precision, **e.refiner_options}
                refiner = make_refiner(refiner, **options)
            else:
                refiner = refiner(**e.refiner_options)
        tracker = make_tracker(
            network(e, device) if net is None else net, memory=memory, policy=policy, refiner=refiner,
            size=SIZES.get(e.backbone, 480) if e.size == 0 else e.size, device=device, precision=e.precision,
        )  # fmt: skip
        if e.uncertainty != "entropy" or e.uncertainty_options:
            tracker.uncertainty = _uncertainty(e)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"experiment {e.name!r} cannot be built: {error}") from error
    return tracker


def _policy(which: Any, options: dict[str, Any]) -> Any:
    if not isinstance(which, str):
        return which(**options)
    if which == "always":
        return Always(**options)
    if which == "random":
        rest = options.pop("rest", {})
        return RandomBudget(rest=Lazy(**{"ask": False, **rest}) if isinstance(rest, dict) else rest, **options)
    return make_policy(which, **options)


def _uncertainty(experiment: Experiment) -> Any:
    from lazyvos.uncertainty.entropy import Entropy

    if experiment.uncertainty == "entropy":
        return Entropy(**experiment.uncertainty_options)
    if isinstance(experiment.uncertainty, str):
        raise InputError(f"uncertainty {experiment.uncertainty!r} is unknown; choose entropy, or give a class")
    return experiment.uncertainty(**experiment.uncertainty_options)


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
    ``j``, ``f``, ``present``; ``predicted`` is over all frames with truth.
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
        self.user = SimulatedUser(lambda t: sequence.mask(t + sequence.start), **experiment.user_options)
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
            labels, decision = self._enter(frame, truth, coming) if coming and truth is not None else self._step(t, frame)
            self.seconds += time.perf_counter() - began
        self.frames += 1
        self.volume.update(t, decision)
        if truth is None:
            return
        overlaps: dict[int, float] = {}
        for o, board in self.boards.items():
            first, end = self.spans[o]
            if max(first, self.entries[o]) <= t < end:
                overlaps |= (found := board.update(labels, truth))
                self.times[o] += [t] if found else []
        self.absences.update(labels, truth if masks is None else masks, overlaps)

    def _enter(self, frame: np.ndarray, truth: np.ndarray, coming: list[int]) -> tuple[np.ndarray, Decision]:
        """Objects get their first mask or click; nobody is asked on this frame."""
        self.tracker.predict(frame)
        if self.experiment.start == "mask":
            current = self.tracker.correct(mask=np.where(np.isin(truth, coming), truth, 0).astype(np.uint8))
        else:
            current = self.tracker.correct(first_clicks(truth, coming))
        return current.labels, self.tracker.commit()

    def _step(self, t: int, frame: np.ndarray) -> tuple[np.ndarray, Decision]:
        step = self.tracker.step(frame, self.user if self.experiment.user == "simulated" else None)
        self._count(t, step.requests, step.corrections)
        return step.prediction.labels, step.decision

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
                       "predicted": self.absences.predicted(o.id)},
        }  # fmt: skip
