"""What is known of every frame after a round: who is there, how good it is where truth is known, and how uncertain."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lazyvos.masks.labels import VOID, object_ids
from lazyvos.metrics.jf import crop, crop_contour, crop_region, mask_pair, tolerance_radius
from lazyvos.rounds import RoundResult, State
from lazyvos.types import InputError

QUALITIES = ("J&F", "J", "F")
UNCERTAINTY = "uncertainty"
Read = Callable[[int], "np.ndarray | None"]
Curves = dict[int, np.ndarray]


class Row(NamedTuple):
    """One frame: objects that have a pixel, and J and F of all objects seen in the mask or the truth; ``None`` without truth."""

    present: frozenset[int]
    scores: dict[int, tuple[float, float]] | None


def truth_reader(truth: Any, length: int, size: tuple[int, int]) -> Read | None:
    """A function that gives the true label map ``uint8 [H, W]`` of frame ``t``, or ``None`` where it is not known.

    Parameters
    ----------
    truth: a sequence of a dataset or a clip (``mask(t)``), a label map for every frame, a mapping from frame numbers to label maps, or
        ``None``.
    length: number of frames. size: ``(H, W)``.

    Raises :class:`InputError` for another number of masks or a mask that does not fit, ``TypeError`` for anything else.
    """
    if truth is None:
        return None
    if not isinstance(truth, Mapping) and hasattr(truth, "__len__") and len(truth) != length:
        raise InputError(f"truth has {len(truth)} masks, the clip {length} frames; give one for each frame, or a mapping from frame numbers to masks")
    if callable(getattr(truth, "mask", None)):
        take: Callable[[int], Any] = truth.mask
    elif isinstance(truth, Mapping):
        strange = [t for t in truth if not isinstance(t, int | np.integer) or not 0 <= t < length]
        if strange:
            raise InputError(f"truth names frame {strange[0]!r}; the clip has frames 0 to {length - 1}")
        take = truth.get
    elif hasattr(truth, "__len__") and hasattr(truth, "__getitem__"):
        take = truth.__getitem__
    else:
        raise TypeError(f"truth is a sequence of a dataset, label maps or a mapping from frames to them, not {type(truth).__name__}")

    def read(t: int) -> np.ndarray | None:
        found = take(t)
        if found is None:
            return None
        labels = np.asarray(found)
        if labels.shape != size or labels.dtype.kind not in "bui":
            raise InputError(f"the true mask of frame {t} has shape {list(labels.shape)} and type {labels.dtype}, the frame is {list(size)}; "
                             "give label maps [H, W] of object ids")  # fmt: skip
        return labels.astype(np.uint8)

    read(min(truth, default=0) if isinstance(truth, Mapping) else 0)  # a wrong size shows at once
    return read


class Quality:
    """Rows of all frames of a state (:class:`lazyvos.rounds.State`), made once and kept as long as the state itself.

    Args:
        read: what :func:`truth_reader` gives.
        stop: asked before every frame; ends the work with :class:`InterruptedError` where it says so.
    """

    def __init__(self, read: Read | None, stop: Callable[[], bool] = lambda: False) -> None:
        self._read, self._stop = read, stop
        self._lock = threading.Lock()
        self._kept: weakref.WeakKeyDictionary[State, tuple[Row, ...]] = weakref.WeakKeyDictionary()

    @property
    def measured(self) -> bool:
        """Is there truth?"""
        return self._read is not None

    def of(self, state: State, before: State | None = None, touched: tuple[int, ...] = ()) -> tuple[Row, ...]:
        """Rows of all frames; only ``touched`` ones are computed where those of the state ``before`` are known."""
        with self._lock:
            if (found := self._kept.get(state)) is not None:
                return found
            earlier = None if before is None else self._kept.get(before)
            if earlier is None:
                rows = [self._row(state, t) for t in range(len(state.cells))]
            else:
                rows = list(earlier)
                for t in touched:
                    rows[t] = self._row(state, t)
            self._kept[state] = tuple(rows)
            return self._kept[state]

    def ready(self, results: Sequence[RoundResult]) -> bool:
        """Are the rows after and before the last round made?"""
        return not results or all(not state.objects or state in self._kept for state in (results[-1].after, results[-1].before))

    def curves(self, results: Sequence[RoundResult], measure: str) -> tuple[Curves, Curves]:
        """``float32 [T]`` by object after the last of ``results``, and before it (empty for a quality that was not computed)."""
        if not results:
            return {}, {}
        last = results[-1]
        if measure == UNCERTAINTY:
            return uncertainty_curves(last.after), uncertainty_curves(last.before)
        earlier = self._kept.get(last.before) if last.before.objects else None
        return quality_curves(self.of(last.after, last.before, last.touched), measure), {} if earlier is None else quality_curves(earlier, measure)

    def data(self, results: Sequence[RoundResult]) -> dict[str, Any]:
        """For the page: ``float32`` bytes by measure and object, now and before the last round; only what is ready."""
        ready = bool(results) and self.ready(results)
        found = {m: self.curves(results, m) for m in (*(QUALITIES if ready and self.measured else ()), UNCERTAINTY)}
        return {
            "now": {m: as_bytes(now) for m, (now, _) in found.items()}, "before": {m: as_bytes(before) for m, (_, before) in found.items()},
            "present": as_bytes(presence(self._kept[results[-1].after])) if ready else {},
        }  # fmt: skip

    def _row(self, state: State, t: int) -> Row:
        if self._stop():
            raise InterruptedError
        labels = state.labels(t)
        present, truth = frozenset(object_ids(labels)), None if self._read is None else self._read(t)
        if truth is None:
            return Row(present, None)
        void = truth == VOID
        radius, nothing = tolerance_radius((labels.shape[0], labels.shape[1])), None if not void.any() else void
        scores = {}
        for name in sorted(present | set(object_ids(truth))):
            pair = crop(*mask_pair(labels == name, truth == name, nothing))
            scores[name] = crop_region(*pair), crop_contour(*pair, radius)
        return Row(present, scores)


def quality_curves(rows: tuple[Row, ...], measure: str) -> Curves:
    """``float32 [T]`` for every object; NaN where truth is not known, 1 where an object is neither there nor found."""
    names = sorted({name for row in rows for name in row.scores or ()})
    out = {name: np.full(len(rows), np.nan, np.float32) for name in names}
    pick: Callable[[tuple[float, float]], float] = {"J&F": lambda s: (s[0] + s[1]) / 2, "J": lambda s: s[0], "F": lambda s: s[1]}[measure]
    for t, row in enumerate(rows):
        if row.scores is not None:
            for name in names:
                out[name][t] = pick(row.scores.get(name, (1.0, 1.0)))
    return out


def uncertainty_curves(state: State) -> Curves:
    """``float32 [T]`` for every object; NaN on frames where no round came by. Their mean is :meth:`lazyvos.Rounds.uncertainty`."""
    out = {name: np.full(len(state.cells), np.nan, np.float32) for name in state.objects}
    for t, cell in enumerate(state.cells):
        if cell is not None:
            scores = state.scores(t)
            for name in state.objects:
                out[name][t] = scores.get(name, 0.0)
    return out


def presence(rows: tuple[Row, ...]) -> Curves:
    """``uint8 [T]`` for every object: 1 where it has a pixel."""
    names = sorted({name for row in rows for name in row.present})
    return {name: np.array([name in row.present for row in rows], np.uint8) for name in names}


def as_bytes(curves: Curves) -> dict[str, bytes]:
    """By object id, as JSON wants its names."""
    return {str(name): values.tobytes() for name, values in curves.items()}


def mean(curves: Curves) -> np.ndarray:
    """Mean over objects, ``float32 [T]``; NaN where none has a value."""
    if not curves:
        return np.zeros(0, np.float32)
    stack = np.stack(list(curves.values()))
    count = np.isfinite(stack).sum(0)
    return np.where(count > 0, np.nansum(stack, 0) / np.maximum(count, 1), np.nan).astype(np.float32)
