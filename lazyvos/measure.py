"""The work of scoring: J and F of every object in every frame, chunk by chunk, in this process or in others.

Which objects and frames count, and what they sum up to, is up to the protocols in `lazyvos.score`. An object that neither truth
nor prediction shows in a frame scores 1 there and is not looked at.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lazyvos.masks.labels import VOID, read_mask
from lazyvos.metrics.jf import crop, crop_contour, crop_region, tolerance_radius
from lazyvos.predictions import Masks
from lazyvos.predictions_rle import decode_parts
from lazyvos.types import InputError

Labels = np.ndarray | dict[int, np.ndarray]
"""A label map ``uint8 [H, W]``, or a mask ``bool [H, W]`` for each object."""


@dataclass(frozen=True)
class TruthFiles:
    """Label maps in PNG files by frame number; can be sent to another process. ``white`` is as in `read_mask`."""

    files: Mapping[int, Path]
    size: tuple[int, int]
    white: int = 1
    merge: bool = False

    def read(self, t: int) -> Labels:
        """Truth of frame ``t``."""
        labels = read_mask(self.files[t], self.size, white=self.white)
        if self.merge:
            labels[(labels > 0) & (labels < VOID)] = 1
        return labels

    def only(self, times: Sequence[int]) -> TruthFiles:
        """The same for some frames."""
        return replace(self, files={t: self.files[t] for t in times})


@dataclass(frozen=True)
class TruthRegions:
    """Truth as VOT regions: for each object its lines by frame number (masks may overlap)."""

    lines: Mapping[int, Mapping[int, str]]
    size: tuple[int, int]

    def read(self, t: int) -> Labels:
        """Truth of frame ``t``."""
        return decode_parts({k: lines[t] for k, lines in self.lines.items()}, self.size)

    def only(self, times: Sequence[int]) -> TruthRegions:
        """The same for some frames."""
        return replace(self, lines={k: {t: lines[t] for t in times} for k, lines in self.lines.items()})


@dataclass(frozen=True)
class TruthSequence:
    """Truth from any `lazyvos.datasets.base.Sequence`; from ``masks(t)``, which may overlap, where it has that."""

    sequence: Any

    def read(self, t: int) -> Labels:
        """Truth of frame ``t``."""
        found = self.sequence.masks(t) if hasattr(self.sequence, "masks") else self.sequence.mask(t)
        if found is None:
            raise InputError(f"{self.sequence.name} has no truth for frame {t}, though it says so")
        return found if isinstance(found, dict) else np.asarray(found)

    def only(self, times: Sequence[int]) -> TruthSequence:
        """The same, without what a process has open."""
        light = copy.copy(self.sequence)
        getattr(light, "__dict__", {}).pop("frames", None)
        return TruthSequence(light)


Truth = TruthFiles | TruthRegions | TruthSequence


@dataclass(frozen=True)
class Rules:
    """What is measured.

    Attributes
    ----------
    contour: measure F (else it is 0). tolerance: of F, as in :func:`lazyvos.metrics.contour`.
    ignore_void: leave out pixels where the truth is 255; else they are background.
    objects: ids up to this are scored, and a larger one in a prediction is an error; ``None`` takes every id.
    proposals: if not 0, score each of so many proposals against each object instead (unsupervised).
    """

    contour: bool = True
    tolerance: float = 0.008
    ignore_void: bool = False
    objects: int | None = None
    proposals: int = 0


@dataclass(frozen=True)
class Job:
    """One sequence, or some of its frames: truth and prediction of ``names``, the frames' names by number."""

    sequence: str
    names: Mapping[int, str]
    truth: Truth
    masks: Mapping[int, Masks] = field(repr=False)
    size: tuple[int, int]
    rules: Rules = Rules()

    def split(self, most: int) -> Iterator[Job]:
        """Pieces of at most so many frames."""
        times = list(self.names)
        for i in range(0, len(times), most):
            part = times[i : i + most]
            yield replace(self, names={t: self.names[t] for t in part}, masks={t: self.masks[t] for t in part}, truth=self.truth.only(part))


Row = dict[int, tuple[float, float, bool, bool]]
"""J, F, whether the truth and whether the prediction shows it: for each object that one of them shows."""


@dataclass(frozen=True)
class Frame:
    """What was measured in one frame: ``row``; or, with proposals, ``pairs`` ``[2, P, O]`` and the largest proposal's id."""

    row: Row
    pairs: np.ndarray | None = None
    largest: int = 0


def measure(job: Job) -> dict[int, Frame]:
    """Measure the frames of a job, one after the other.

    Raises :class:`InputError` for a damaged mask, another size, or an id in a prediction that no object has.
    """
    out = {}
    for t, name in job.names.items():
        where = f"{job.sequence}, frame {name}"
        truth, pred = job.truth.read(t), job.masks[t].read(job.size)
        for what, found in (("truth", truth), ("prediction", pred)):
            for mask in found.values() if isinstance(found, dict) else (found,):
                if mask.shape != tuple(job.size):
                    raise InputError(f"{where}: the {what} is {mask.shape[1]}x{mask.shape[0]}, not {job.size[1]}x{job.size[0]}; resize it without smoothing")
        out[t] = _pairs(pred, truth, job.rules, where) if job.rules.proposals else Frame(measure_frame(pred, truth, job.rules, where))
    return out


def measure_frame(pred: Labels, truth: Labels, rules: Rules = Rules(), where: str = "this frame") -> Row:
    """J and F of every object that prediction or truth shows, as `Row`.

    Boundaries are taken on the box of each object alone; the numbers are those of the whole image.
    """
    shape = (truth if isinstance(truth, np.ndarray) else next(iter(truth.values()))).shape
    radius = tolerance_radius((shape[0], shape[1]), rules.tolerance)
    void = None
    if isinstance(truth, np.ndarray) and truth.max() == VOID:
        void = truth == VOID
        truth = np.where(void, np.uint8(0), truth)
    if isinstance(pred, np.ndarray) and isinstance(truth, np.ndarray):
        y, x = _box(pred | truth)
        pred, truth = pred[y, x], truth[y, x]
        void = None if void is None else void[y, x]
    there, shown = _ids(pred), _ids(truth)
    _check_ids(there, rules, where)
    row: Row = {}
    for k in sorted(there | shown):
        if rules.objects is not None and k > rules.objects:
            continue  # enters later: not an object of this protocol
        p, g = _plane(pred, k, shape), _plane(truth, k, shape)
        if void is not None and rules.ignore_void:
            p, g = p & ~void, g & ~void
        a, b = crop(p.view(np.uint8), g.view(np.uint8))
        row[k] = (crop_region(a, b), crop_contour(a, b, radius) if rules.contour else 0.0, k in shown, k in there)
    return row


def _check_ids(there: set[int], rules: Rules, where: str) -> None:
    if rules.objects is not None and there and max(there) > rules.objects:
        most = max(there)
        hint = " (a binary mask must be saved with 1, not 255)" if most == VOID else ""
        raise InputError(f"{where}: the prediction has id {most}, but the first annotation only has ids up to {rules.objects}{hint}; "
                         "renumber the prediction")  # fmt: skip


def _pairs(pred: Labels, truth: Labels, rules: Rules, where: str) -> Frame:
    from lazyvos.metrics.unsupervised import pair_scores

    if isinstance(pred, dict) or isinstance(truth, dict):
        raise InputError(f"{where}: the unsupervised protocol needs label maps, because proposals must not overlap; join the masks")
    objects = rules.objects or 0
    largest = int(pred.max())
    if largest > rules.proposals:
        raise InputError(f"{where}: the prediction has proposal {largest}; at most {rules.proposals} are allowed, numbered from 1")
    shown = np.bincount(truth.ravel(), minlength=objects + 1) > 0
    row: Row = {k: (0.0, 0.0, bool(shown[k]), False) for k in range(1, objects + 1)}
    return Frame(row, pair_scores(pred, truth, max(rules.proposals, objects), objects, rules.tolerance), largest)


def _box(labels: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of everything in a label map plus one pixel (inside the image)."""
    x, y, width, height = cv2.boundingRect(labels)
    if not width:
        return slice(0, 0), slice(0, 0)
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def _ids(labels: Labels) -> set[int]:
    if isinstance(labels, dict):
        return {k for k, mask in labels.items() if mask.any()}
    most = int(labels.max()) if labels.size else 0
    if most <= 8:  # as a rule; a few comparisons are faster than a histogram
        return {k for k in range(1, most + 1) if (labels == k).any()}
    counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
    return set(np.flatnonzero(counts.ravel()).tolist()) - {0}


def _plane(labels: Labels, k: int, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(labels, dict):
        return np.ascontiguousarray(labels[k] if k in labels else np.zeros(shape, bool), bool)
    return labels == k


def measure_all(jobs: Sequence[Job], processes: int = 1, done: Callable[[int], Any] = lambda frames: None) -> list[dict[int, Frame]]:
    """Measure every job; ``done`` is told the number of frames of each piece that is finished.

    With ``processes`` above 1 the jobs are cut into pieces that are spread over this process and fresh ones (started by "spawn", so
    scripts need their ``if __name__ == "__main__":``); this one works while the others start. The numbers are the same.
    """
    results: list[dict[int, Frame]] = [{} for _ in jobs]
    frames = sum(len(job.names) for job in jobs)
    if processes <= 1 or frames < 2 * processes:
        for job, result in zip(jobs, results, strict=True):
            for piece in job.split(16):
                result.update(measure(replace(piece, truth=job.truth)))
                done(len(piece.names))
        return results
    most = max(4, min(32, frames // (4 * processes)))
    pieces = [(n, piece) for n, job in enumerate(jobs) for piece in job.split(most)]
    pieces.sort(key=lambda piece: -len(piece[1].names))
    try:
        pickle.dumps([piece for _, piece in pieces[:1]])
    except Exception as error:
        raise InputError(f"the truth of {pieces[0][1].sequence} cannot be sent to another process ({error}); use 1 process") from error
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes - 1, mp_context=context, initializer=_one_thread) as pool:
        waiting = {pool.submit(measure, piece): (n, piece) for n, piece in pieces}

        def collect(futures: Iterable[Future[dict[int, Frame]]]) -> None:
            for future in futures:
                n, piece = waiting.pop(future)
                results[n].update(future.result())
                done(len(piece.names))

        try:
            for future in list(waiting)[::-1]:  # from the end; the others begin at the front
                if future.cancel():
                    n, piece = waiting.pop(future)
                    results[n].update(measure(piece))
                    done(len(piece.names))
                collect(takewhile(Future.done, list(islice(waiting, 8))))
            collect(as_completed(list(waiting)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [dict(sorted(result.items())) for result in results]


def _one_thread() -> None:
    cv2.setNumThreads(1)


def truth_of(sequence: Any) -> Truth:
    """Truth of a dataset's sequence in a form that other processes can read: its files where it is a folder of PNG."""
    from lazyvos.datasets.davis import FolderSequence
    from lazyvos.datasets.vots import VotsSequence
    from lazyvos.truth import MaskSequence

    if isinstance(sequence, MaskSequence):
        return TruthFiles(dict(enumerate(sequence.files)), sequence.size, sequence.white)
    if isinstance(sequence, VotsSequence):
        return TruthRegions({k: dict(enumerate(lines)) for k, lines in sequence.regions.items()}, sequence.size)
    if isinstance(sequence, FolderSequence) and type(sequence).mask is FolderSequence.mask:
        return TruthFiles(dict(sequence.annotations), sequence.size, sequence._white, sequence.merge)
    return TruthSequence(sequence)


def series(frames: Mapping[int, Frame], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """J, F (float64 ``[T]``), in the truth and in the prediction (bool ``[T]``) of object ``k`` over all measured frames."""
    rows = [frame.row.get(k, (1.0, 1.0, False, False)) for frame in frames.values()]
    table = np.array(rows, np.float64).reshape(-1, 4).T
    return table[0], table[1], table[2] > 0, table[3] > 0


