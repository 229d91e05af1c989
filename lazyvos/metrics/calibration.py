"""Are the probabilities of a segmentation honest? ECE, MCE, reliability diagram, Brier score and NLL.

Sources: C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (reliability diagram, ECE, MCE, equal-width
bins); K. Nguyen and B. O'Connor, EMNLP 2015 (equal-count bins); G. W. Brier, 1950. The confidence of a pixel is its largest
class probability, it is right where that class is the true one, and void pixels (255) are left out. Background fills most of
a frame and is easy, so the same numbers are also given for the foreground alone: the dilated union of prediction and truth.

Functions take arrays; `CalibrationMeter` takes the frames of a video one by one in constant memory.
`lazyvos.metrics.risk` asks the other question, whether the score of an object tells when its mask fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyvos.metrics.pixels import VOID, Pixels, as_array
from lazyvos.types import InputError

BINS = 15
_MANTISSA = 13  # bits of a float32 that a cell forgets: 10 of 23 stay
_LOWEST = (127 - 24) << 10  # cell of 2**-24, the least distance to 1 that float32 probabilities have
_CELLS = 24 * 1024 + 2


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram of B bins of confidence.

    Attributes
    ----------
    edges: confidences ``float64 [B + 1]`` between which the bins lie, ascending.
    counts: ``float64 [B]`` pixels in each; with equal counts a pixel may be shared by two bins.
    confidence, accuracy: ``float64 [B]``, mean confidence and share of right pixels of each bin; NaN where it is empty.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def gaps(self) -> np.ndarray:
        """|accuracy - confidence| of the bins that are not empty."""
        return np.abs(self.accuracy - self.confidence)[self.counts > 0]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean gap, every bin weighing as many as it holds; NaN without a pixel."""
        total = self.counts.sum()
        return float((self.counts[self.counts > 0] * self.gaps).sum() / total) if total else math.nan

    @property
    def mce(self) -> float:
        """Maximum calibration error: the largest gap of any bin; NaN without a pixel."""
        return float(self.gaps.max()) if self.gaps.size else math.nan


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration of the pixels of a region; all NaN if there is no pixel.

    Attributes
    ----------
    pixels: how many, void left out.
    ece, mce: over equal-width bins. ``adaptive_ece``: over equal-count bins.
    brier: mean over pixels of sum_c (p_c - [c = y])^2, in 0..2. ``nll``: mean of -ln p_y, in nats.
    accuracy, confidence: means over all pixels; confidence above accuracy means overconfident.
    reliability, adaptive: the diagrams behind the errors.
    foreground: the same for the dilated union of prediction and truth; ``None`` where it was not asked for.
    """

    pixels: int
    ece: float
    mce: float
    adaptive_ece: float
    brier: float
    nll: float
    accuracy: float
    confidence: float
    reliability: Reliability
    adaptive: Reliability
    foreground: Calibration | None = None

    def as_dict(self) -> dict[str, float]:
        """The numbers as one flat row; those of the foreground start with ``fg_``."""
        names = ("pixels", "ece", "mce", "adaptive_ece", "brier", "nll", "accuracy", "confidence")
        row = {name: getattr(self, name) for name in names}
        return row if self.foreground is None else row | {f"fg_{k}": v for k, v in self.foreground.as_dict().items()}


def reliability(confidence: Any, correct: Any, bins: int = BINS, *, adaptive: bool = False) -> Reliability:
    """Reliability diagram of ``confidence`` (0..1) and ``correct`` (bool), arrays of one shape.

    ``bins`` equal-width bins ((b - 1)/B, b/B], the first with 0. With ``adaptive`` they hold equally many pixels: pixels are
    sorted by confidence, and those of one confidence that an edge cuts are shared in proportion, so that the
    order of the input does not matter. Raises `InputError` for other shapes, values or numbers of bins.
    """
    conf, right = _pairs(confidence, correct)
    if not adaptive:
        return _equal_width(_width_sums(conf, right, _check_bins(bins)))
    _, cell = np.unique(conf, return_inverse=True)
    return _equal_count(_sums(cell, conf, right, 0), _check_bins(bins))


def ece(confidence: Any, correct: Any, bins: int = BINS, *, adaptive: bool = False) -> float:
    """Expected calibration error in 0..1; arguments as in `reliability`.

    >>> round(ece([0.9, 0.9, 0.6, 0.6], [True, True, True, False]), 3)
    0.1
    """
    return reliability(confidence, correct, bins, adaptive=adaptive).ece


def mce(confidence: Any, correct: Any, bins: int = BINS, *, adaptive: bool = False) -> float:
    """Maximum calibration error in 0..1; arguments as in `reliability`."""
    return reliability(confidence, correct, bins, adaptive=adaptive).mce


def top_label(probabilities: Any, truth: Any, objects: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Confidence ``float64 [N]`` and correctness ``bool [N]`` of the N pixels that are not void.

    ``probabilities``: floats ``[K, ...]``, background first, channel i + 1 of object ``objects[i]`` (1, 2, ... by default),
    summing to 1 over K; a NumPy array or a tensor. ``truth``: integers ``[...]`` of object ids, 0 background, 255 void. An id
    that no channel has counts as background, as in the DAVIS protocol. Raises `InputError` where they do not fit.
    """
    pixels = Pixels.of(probabilities, truth, objects)
    return pixels.confidence, pixels.correct


def brier(probabilities: Any, truth: Any, objects: Sequence[int] | None = None) -> float:
    """Brier score in 0..2: mean over pixels of sum_c (p_c - [c = y])^2; arguments as in `top_label`. NaN without a pixel."""
    return _mean(Pixels.of(probabilities, truth, objects).brier)


def nll(probabilities: Any, truth: Any, objects: Sequence[int] | None = None) -> float:
    """Negative log-likelihood in nats: mean of -ln max(p_y, 1e-7); arguments as in `top_label`. NaN without a pixel."""
    return _mean(Pixels.of(probabilities, truth, objects).nll)


def foreground_region(labels: Any, truth: Any, dilate: float = 0.05) -> np.ndarray:
    """Pixels near an object, ``bool [H, W]``: the union of two label maps ``[H, W]``, dilated by the kernel of the masked
    entropy (`lazyvos.uncertainty.dilate_mask`; a union too small for it stays as it is). Void is no object here, but may lie inside.
    """
    from lazyvos.uncertainty.entropy import dilate_mask  # needs torch

    labels, truth = as_array(labels), as_array(truth)
    if labels.ndim != 2 or labels.shape != truth.shape:
        raise InputError(f"labels {labels.shape} and truth {truth.shape} must be two label maps [height, width] of one size")
    return dilate_mask((labels != 0) | ((truth != 0) & (truth != VOID)), dilate, "identity")


def frame_calibration(
    probabilities: Any, truth: Any, objects: Sequence[int] | None = None, *, bins: int = BINS, dilate: float | None = 0.05
) -> Calibration:
    """Calibration of one frame, exact also for equal-count bins; arguments as in `top_label` and `CalibrationMeter`."""
    pixels, near = _frame(probabilities, truth, objects, dilate)

    def summary(part: Pixels, inner: Calibration | None) -> Calibration:
        diagrams = [reliability(part.confidence, part.correct, bins, adaptive=a) for a in (False, True)]
        return _summary(diagrams[0], diagrams[1], float(part.brier.sum()), float(part.nll.sum()), inner)

    return summary(pixels, None if near is None else summary(near, None))


class CalibrationMeter:
    """`Calibration` of a video or a data set, frame by frame, in constant memory (about 1.2 MB).

    Everything is a sum, so the result equals that of all pixels at once, but for equal-count bins: there the pixels are first
    gathered in fine cells of confidence, whose distance to 1 agrees to one part in a thousand.

    Parameters
    ----------
    bins: bins of confidence.
    dilate: of the foreground's region, see `foreground_region`; ``None`` leaves the foreground out, and then ``truth`` may have any shape.
    """

    def __init__(self, bins: int = BINS, dilate: float | None = 0.05) -> None:
        self.bins, self.dilate = _check_bins(bins), dilate
        parts = 1 if dilate is None else 2
        self._width = np.zeros((parts, 3, bins))
        self._cells = np.zeros((parts, 3, _CELLS))
        self._scores = np.zeros((parts, 2))

    def update(self, probabilities: Any, truth: Any, objects: Sequence[int] | None = None) -> None:
        """Take one frame; arguments as in `top_label`."""
        pixels, near = _frame(probabilities, truth, objects, self.dilate)
        for n, part in enumerate((pixels,) if near is None else (pixels, near)):
            self._width[n] += _width_sums(part.confidence, part.correct, self.bins)
            self._cells[n] += _sums(_cell(part.confidence), part.confidence, part.correct, _CELLS)
            self._scores[n] += part.brier.sum(), part.nll.sum()

    def merge(self, other: CalibrationMeter) -> None:
        """Add what another meter saw, of another sequence say. Raises `InputError` for other bins or another region."""
        if (self.bins, self.dilate) != (other.bins, other.dilate):
            raise InputError(
                f"a meter with bins={other.bins}, dilate={other.dilate} cannot be added to one with bins={self.bins}, "
                f"dilate={self.dilate}; make both alike"
            )
        self._width += other._width
        self._cells += other._cells
        self._scores += other._scores

    def result(self) -> Calibration:
        """The numbers so far."""
        inner = None
        for width, cells, (squares, logs) in reversed(list(zip(self._width, self._cells, self._scores))):
            inner = _summary(_equal_width(width), _equal_count(cells[:, ::-1], self.bins), squares, logs, inner)
        assert inner is not None
        return inner


def _frame(
    probabilities: Any, truth: Any, objects: Sequence[int] | None, dilate: float | None
) -> tuple[Pixels, Pixels | None]:
    """All pixels of a frame, and those of its foreground."""
    pixels = Pixels.of(probabilities, truth, objects)
    return pixels, None if dilate is None else pixels.at(foreground_region(pixels.predicted, pixels.true, dilate))


def _summary(width: Reliability, count: Reliability, squares: float, logs: float, inner: Calibration | None) -> Calibration:
    n = float(width.counts.sum())
    full = width.counts > 0
    accuracy, confidence = ((width.counts * v)[full].sum() / n if n else math.nan for v in (width.accuracy, width.confidence))
    return Calibration(
        round(n), width.ece, width.mce, count.ece, float(squares) / n if n else math.nan, float(logs) / n if n else math.nan,
        float(accuracy), float(confidence), width, count, inner,
    )  # fmt: skip


def _sums(index: np.ndarray, confidence: np.ndarray, correct: np.ndarray, least: int) -> np.ndarray:
    """Pixels, sum of confidence and right pixels of every index, ``float64 [3, M]``."""
    weights = (None, confidence, correct)
    return np.stack([np.bincount(index, w, least).astype(np.float64) for w in weights])


def _width_sums(confidence: np.ndarray, correct: np.ndarray, bins: int) -> np.ndarray:
    return _sums((np.ceil(confidence * bins).astype(np.intp) - 1).clip(0, bins - 1), confidence, correct, bins)


def _cell(confidence: np.ndarray) -> np.ndarray:
    """Fine cell of each confidence, 0 for certainty: the leading bits of its distance to 1."""
    bits = (1.0 - confidence).astype(np.float32).view(np.int32) >> _MANTISSA
    return np.maximum(bits - _LOWEST + 1, 0)


def _equal_width(sums: np.ndarray) -> Reliability:
    return _diagram(np.linspace(0.0, 1.0, sums.shape[1] + 1), sums)


def _equal_count(cells: np.ndarray, bins: int) -> Reliability:
    """Bins that hold equally many pixels, from sums of cells ``[3, M]`` in order of confidence; a cell is shared in proportion."""
    cells = cells[:, cells[0] > 0]
    if not cells.shape[1]:
        return _diagram(np.full(bins + 1, math.nan), np.zeros((3, bins)))
    totals = np.concatenate([np.zeros((3, 1)), cells.cumsum(1)], 1)
    at = totals[0, -1] * np.arange(bins + 1) / bins
    cut = np.stack([np.interp(at, totals[0], row) for row in totals])
    inside = np.searchsorted(totals[0, 1:], at, side="right").clip(max=cells.shape[1] - 1)
    return _diagram((cells[1] / cells[0])[inside], np.diff(cut, axis=1))


def _diagram(edges: np.ndarray, sums: np.ndarray) -> Reliability:
    counts = sums[0]
    means = np.divide(sums[1:], counts, out=np.full_like(sums[1:], math.nan), where=counts > 0)
    return Reliability(edges, counts, means[0], means[1])


def _pairs(confidence: Any, correct: Any) -> tuple[np.ndarray, np.ndarray]:
    conf, right = as_array(confidence).astype(np.float64), as_array(correct)
    if conf.shape != right.shape:
        raise InputError(f"confidence {conf.shape} and correct {right.shape} must have one shape")
    if conf.size and not (conf.min() >= 0 and conf.max() <= 1):
        raise InputError("confidence has a value outside 0..1 (or NaN); give shares, not percent")
    if right.dtype != bool and not np.isin(right, (0, 1)).all():
        raise InputError("correct has a value that is neither True nor False; say of each pixel whether it is right")
    return conf.ravel(), right.ravel().astype(bool)


def _check_bins(bins: int) -> int:
    if bins < 1:
        raise InputError(f"bins is {bins}; give at least 1 bin")
    return bins


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
