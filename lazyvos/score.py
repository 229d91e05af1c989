"""Scores of predictions that any tool made, by the protocols of the benchmarks.

============== =================== ==================== ======================================================================
protocol       frames              objects              means
============== =================== ==================== ======================================================================
davis          no first, no last   of the first mask    over objects (DAVIS 2017, semi-supervised)
davis-         all                 of the first mask    over objects, each with the proposal that fits best; void left out
unsupervised
interactive    all                 of the first mask    over objects (DAVIS interactive)
vos-benchmark  no first, no last   all, once they show  over objects
lvos           object's own range  of the meta file     of seen and of unseen videos, then of the two
vots           all                 all                  over sequences of means over objects; overlaps only
============== =================== ==================== ======================================================================

R@τ and V are given for every protocol with J and F: R@τ over all frames from the object's first visible one on (those that the
protocol drops included), V over the scored frames.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm.auto import tqdm

from lazyvos.measure import Frame, Job, Rules, TruthFiles, measure_all, series, truth_of
from lazyvos.metrics.davis import nanmean, series_statistics
from lazyvos.metrics.lvos import LvosObject, lvos_series, lvos_summary, per_object_mean, stability
from lazyvos.metrics.robustness import THRESHOLDS, success_rate
from lazyvos.metrics.vots import MEASURES, VotsScore, vots_object
from lazyvos.predictions import Predictions, Wanted, mask_size, refuse
from lazyvos.score_table import ScoreTable, Series
from lazyvos.truth import open_truth
from lazyvos.types import InputError

Protocol = Literal["davis", "davis-unsupervised", "lvos", "vos-benchmark", "vots", "interactive"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
_FIRST_MASK = ("davis", "davis-unsupervised", "interactive")
_OF_DATASET = {"vos": "vos-benchmark"}


def score_folder(
    gt: Any,
    pred: str | PathLike[str],
    protocol: Protocol | None = None,
    *,
    split: str | PathLike[str] | None = None,
    processes: int = 1,
    progress: bool = False,
    tolerance: float = 0.008,
    uint8_decay: bool = False,
    skip_ends: bool = True,
    first_frame_as_init: bool = False,
    unseen: str | PathLike[str] | Collection[str] | None = None,
) -> ScoreTable:
    """Score a folder of predictions.

    Parameters
    ----------
    gt: a dataset (:class:`lazyvos.datasets.base.Dataset`), or a folder as in :func:`lazyvos.truth.open_truth`.
    pred: what :class:`lazyvos.predictions.Predictions` understands: palette PNG, one PNG for each object, COCO RLE, VOT regions.
    protocol: see the table above; by default that of the dataset (``davis`` for plain folders).
    split: which sequences, where ``gt`` is a folder. processes: how many work at once; the numbers do not depend on it.
    progress: show a bar. tolerance: of F, as in :func:`lazyvos.metrics.contour`.
    uint8_decay: decay as the official DAVIS code computes it (see :func:`lazyvos.metrics.series_statistics`).
    skip_ends: for ``davis`` and ``vos-benchmark``, drop the first and the last frame.
    first_frame_as_init: for ``vots``, treat the first prediction as empty (see :func:`lazyvos.metrics.vots.vots_object`).
    unseen: for ``lvos``, the names of the videos of unseen categories or a text file with them, where the dataset lacks it.

    Raises
    ------
    InputError: before any mask is decoded, for predictions that are missing or have another size (the first five and their number),
        and for options that cannot work; while scoring, for a damaged mask or an id that no object has.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r} is unknown; choose {', '.join(PROTOCOLS)}")
    if processes < 1:
        raise InputError(f"processes is {processes}; give 1 or more")
    if isinstance(gt, str | PathLike):
        found, sequences = open_truth(gt, split)
    else:
        if split is not None:
            raise InputError("a split is for folders; choose the sequences when you make the dataset")
        found, sequences = _OF_DATASET.get(gt.protocol, gt.protocol), list(gt)
    chosen = str(protocol or found)
    if not sequences:
        raise InputError("the truth has no sequences")
    jobs = _prepare(sequences, Predictions(pred), chosen, tolerance)
    with tqdm(total=sum(len(job.names) for job in jobs), unit="frame", disable=not progress, dynamic_ncols=True) as bar:
        measured = measure_all(jobs, processes, bar.update)
    options = {"uint8_decay": uint8_decay, "skip_ends": skip_ends and chosen in ("davis", "vos-benchmark")}
    if chosen == "vots":
        return _vots(jobs, measured, sequences, first_frame_as_init)
    if chosen == "lvos":
        return _lvos(jobs, measured, sequences, _unseen(unseen, sequences))
    return _davis(chosen, jobs, measured, sequences, **options)


def _prepare(sequences: list[Any], predictions: Predictions, protocol: str, tolerance: float) -> list[Job]:
    """One job for each sequence, after the headers of truth and predictions were read."""
    from lazyvos.metrics.unsupervised import MAX_PROPOSALS

    jobs, problems = [], []
    for s in sequences:
        truth, size = truth_of(s), tuple(s.size)
        if isinstance(truth, TruthFiles):
            for file in truth.files.values():
                if (shape := mask_size(file)) != size:
                    raise InputError(f"mask {file} of the truth is {shape[1]}x{shape[0]} but the frames are {size[1]}x{size[0]}; resize it without smoothing")
        times = list(s.annotated)
        if protocol in _FIRST_MASK:
            times = [t for t in times if t >= s.start]
        elif protocol == "lvos":
            times = [t for t in times if any(first <= t < end for first, end in s.spans.values())]
        if not times:
            raise InputError(f"sequence {s.name} has no truth to score by")
        names = s.frame_names
        rules = Rules(
            contour=protocol != "vots", tolerance=tolerance, ignore_void=protocol in ("vots", "davis-unsupervised"),
            objects=max(s.objects) if protocol in _FIRST_MASK else None,
            proposals=MAX_PROPOSALS if protocol == "davis-unsupervised" else 0,
        )  # fmt: skip
        wanted = Wanted(s.name, size, {t: names[t] for t in times}, lambda s=s: s.entries, len(s), getattr(s, "object_names", {}))  # type: ignore[misc]
        masks, wrong = predictions.find(wanted)
        problems += wrong
        jobs.append(Job(s.name, wanted.names, truth, masks, size, rules))
    refuse(problems, predictions.root)
    return jobs


def _davis(protocol: str, jobs: list[Job], measured: list[dict[int, Frame]], sequences: list[Any], *, uint8_decay: bool, skip_ends: bool) -> ScoreTable:
    """Protocols that give every object the mean, recall and decay of DAVIS."""
    objects: list[dict[str, Any]] = []
    kept: dict[tuple[str, int], Series] = {}
    notes = []
    for job, frames, s in zip(jobs, measured, sequences, strict=True):
        if job.rules.proposals:
            found = _matched(job, frames)
        else:
            n = job.rules.objects
            ids = range(1, n + 1) if n is not None else sorted({k for frame in frames.values() for k in frame.row})
            found = {k: (None, *series(frames, k)) for k in ids}
        if job.rules.objects is not None and (gaps := sorted(set(found) - set(s.objects))):
            notes.append(f"{job.sequence}: ids {gaps} are below the largest of the first mask but not in it; {protocol} scores them as objects")
        inner = np.ones(len(frames), bool)
        if skip_ends:
            inner[0] = inner[-1] = False
        for k, (proposal, j, f, present, predicted) in found.items():
            scored = inner.copy()
            if job.rules.objects is None:  # counts from the first scored frame that shows it in truth or prediction
                shown = np.flatnonzero(inner & (present | predicted))
                scored[: shown[0] if shown.size else len(scored)] = False
                if not (present & scored).any():
                    continue
            row: dict[str, Any] = {"sequence": job.sequence, "id": k, "frames": int(scored.sum())}
            row |= {} if proposal is None else {"proposal": proposal}
            for m, values in (("J", j[scored]), ("F", f[scored])):
                numbers = series_statistics(values, uint8_decay)
                row |= {m: numbers.mean, f"{m}_recall": numbers.recall, f"{m}_decay": numbers.decay}
            row |= {"JF": (row["J"] + row["F"]) / 2, "V": stability(j[scored], f[scored]), **_robustness(j, present, predicted)}
            objects.append(row)
            kept[job.sequence, k] = Series(tuple(job.names.values()), j, f, present, predicted, scored)
    columns = [c for c in dict.fromkeys(c for row in objects for c in row) if c not in ("sequence", "id", "frames", "proposal")]

    def mean(rows: list[dict[str, Any]]) -> dict[str, float]:
        return {c: nanmean([row[c] for row in rows]) for c in columns}

    return _table(protocol, mean(objects), mean, jobs, objects, kept, notes)


def _matched(job: Job, frames: Mapping[int, Frame]) -> dict[int, tuple[Any, ...]]:
    """Series of each object against the proposal it gets (unsupervised)."""
    from lazyvos.metrics.unsupervised import score_pairs

    n = job.rules.objects or 0
    present = np.array([[frame.row[k][2] for k in range(1, n + 1)] for frame in frames.values()])
    largest = max(frame.largest for frame in frames.values())
    score, proposals = score_pairs([f.pairs for f in frames.values() if f.pairs is not None], present, largest, job.sequence)
    return {o.id: (p, o.j, o.f, o.present, o.present | (o.j < 1)) for o, p in zip(score.objects, proposals, strict=True)}


def _lvos(jobs: list[Job], measured: list[dict[int, Frame]], sequences: list[Any], unseen: Mapping[str, bool | None]) -> ScoreTable:
    objects: list[dict[str, Any]] = []
    scores: list[LvosObject] = []
    kept: dict[tuple[str, int], Series] = {}
    notes = [] if any(v is not None for v in unseen.values()) else ["nothing says which videos are unseen: J, F, JF and V are plain means over objects"]
    for job, frames, s in zip(jobs, measured, sequences, strict=True):
        for k, (first, end) in sorted(s.spans.items()):
            inside = {t: frame for t, frame in frames.items() if first <= t < end}
            j, f, present, predicted = series(inside, k)
            times = list(inside)
            step = min((b - a for a, b in pairwise(times)), default=1)
            length = max(len(range(first, end, step)), len(times))
            if length > len(times):
                notes.append(f"{job.sequence}, object {k}: {length - len(times)} of {length} frames of its range have no truth and count as 0")
            a, b = lvos_series(j, f, length)
            score = LvosObject(job.sequence, k, a.size, nanmean(a), nanmean(b), stability(a, b), unseen[job.sequence])
            scores.append(score)
            objects.append({"sequence": job.sequence, "id": k, "frames": score.frames, "unseen": score.unseen, "J": score.J, "F": score.F,
                            "JF": score.JF, "V": score.V, **_robustness(j, present, predicted)})  # fmt: skip
            scored = np.ones(len(times), bool)
            scored[:1] = scored[-1:] = False
            kept[job.sequence, k] = Series(tuple(job.names[t] for t in times), j, f, present, predicted, scored)

    def mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
        names = [c for c in objects[0] if c not in ("sequence", "id", "frames", "unseen")]
        return {"unseen": rows[0]["unseen"], **{c: nanmean([row[c] for row in rows]) for c in names}}

    whole = mean(objects)
    whole.pop("unseen")
    return _table("lvos", {**whole, **lvos_summary(scores), "per_object_mean": per_object_mean(scores)}, mean, jobs, objects, kept, notes)


def _vots(jobs: list[Job], measured: list[dict[int, Frame]], sequences: list[Any], first_frame_as_init: bool) -> ScoreTable:
    objects: list[dict[str, Any]] = []
    scores = []
    kept: dict[tuple[str, int], Series] = {}
    notes = []
    for job, frames, s in zip(jobs, measured, sequences, strict=True):
        if len(frames) < len(s):
            notes.append(f"{job.sequence}: only {len(frames)} of {len(s)} frames have truth")
        known = set(getattr(s, "truths", ())) | {k for frame in frames.values() for k, row in frame.row.items() if row[2]}
        for k in sorted(known):
            j, f, present, predicted = series(frames, k)
            score = vots_object(j, present, predicted, sequence=job.sequence, id=k, first_frame_as_init=first_frame_as_init)
            scores.append(score)
            counts = dict(zip(("tracked", "drifted", "missed", "hallucinated", "noticed"), score.counts, strict=True))
            objects.append({"sequence": job.sequence, "id": k, "frames": len(j), **{m: getattr(score, m) for m in MEASURES}, **counts})
            kept[job.sequence, k] = Series(tuple(job.names.values()), score.overlaps, f, present, score.predicted, np.ones(len(j), bool))

    def mean(rows: list[dict[str, Any]]) -> dict[str, float]:
        return {m: nanmean([row[m] for row in rows]) for m in MEASURES}

    whole = {m: VotsScore(tuple(scores)).mean(m) for m in MEASURES}
    return _table("vots", whole, mean, jobs, objects, kept, notes)


def _table(
    protocol: str, whole: dict[str, Any], mean: Callable[[list[dict[str, Any]]], dict[str, Any]], jobs: list[Job], objects: list[dict[str, Any]],
    kept: dict[tuple[str, int], Series], notes: Iterable[str],
) -> ScoreTable:  # fmt: skip
    sequences = []
    for job in jobs:
        rows = [row for row in objects if row["sequence"] == job.sequence]
        if rows:
            sequences.append({"sequence": job.sequence, "objects": len(rows), "frames": len(job.names), **mean(rows)})
    counts = {"sequences": len(jobs), "objects": len(objects), "frames": sum(len(job.names) for job in jobs)}
    return ScoreTable(protocol, {**whole, **counts, "notes": list(notes)}, sequences, objects, kept)


def _robustness(j: np.ndarray, present: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """R@τ of one object; NaN where no frame shows it."""
    first = int(present.argmax()) if present.any() else len(present)
    return {f"R@{tau:g}": success_rate(j, present, predicted, tau, start=first) for tau in THRESHOLDS}


def _unseen(given: str | PathLike[str] | Collection[str] | None, sequences: list[Any]) -> dict[str, bool | None]:
    """For each sequence, whether its category is unseen; None where nothing says so."""
    if given is None:
        seen = {s.name: getattr(s, "seen", None) for s in sequences}
        return {name: None if value is None else not value for name, value in seen.items()}
    if isinstance(given, str | PathLike):
        if not Path(given).is_file():
            raise InputError(f"{given} does not exist; give a text file with the names of the unseen videos")
        given = Path(given).read_text(encoding="utf-8").split()
    return {s.name: s.name in given for s in sequences}
