"""Users that are no person: nobody, a simulated one who knows the truth, and a replay of recorded clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lazyvos.interact.base import Answer
from lazyvos.interact.clicks import (
    Point,
    dispersed_point,
    nearest_to_centroid,
    negatives_from_others,
    object_centre,
)
from lazyvos.masks.labels import VOID
from lazyvos.types import Click, Correction, Prediction, Request


@dataclass(frozen=True)
class Nobody:
    """Answers no request: the tracker goes on by itself."""

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Sequence[Click] | None:
        """Always ``None``."""
        return None


@dataclass(frozen=True)
class SimulatedUser:
    """A user who knows the truth and gives one click per request (thesis, section 6.6.2).

    Attributes
    ----------
    truth: frame number -> label map ``uint8 [H, W]`` of object ids, 255 = void (unknown), or ``None`` where
        the frame is not annotated; then the request stays unanswered.
    location: ``"centre"`` clicks the pixel deepest inside the true object (the maximum of its distance
        field), ``"centroid"`` the object pixel nearest to its centroid, ``"dispersed"`` a random pixel away
        from the centre and from the border, for people do not click on centres (thesis, section 6.9).
    absent: what to do where the object is not in the frame. ``"negative"`` clicks negatively in the centre
        of the predicted region, leaving out void pixels; ``"skip"`` gives no answer. No answer where
        nothing is predicted.
    negative_from_others: adds a negative click at the centre of every other object's predicted mask.
    correct_with: ``"click"``, or ``"ground_truth"``: the answer is the true mask, empty where the object is
        absent (thesis, Table 6.4); void pixels stay as they are predicted.
    seed: of dispersed clicks; a click depends on it, the frame and the object alone.
    """

    truth: Callable[[int], np.ndarray | None]
    location: Literal["centre", "centroid", "dispersed"] = "centre"
    absent: Literal["negative", "skip"] = "negative"
    negative_from_others: bool = False
    correct_with: Literal["click", "ground_truth"] = "click"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.location not in ("centre", "centroid", "dispersed"):
            raise ValueError(f"location is {self.location!r}; choose 'centre', 'centroid' or 'dispersed'.")
        if self.correct_with not in ("click", "ground_truth"):
            raise ValueError(f"correct_with is {self.correct_with!r}; choose 'click' or 'ground_truth'.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give a whole number of at least 0.")
        if self.absent not in ("negative", "skip"):
            raise ValueError(f"absent is {self.absent!r}; choose 'negative' or 'skip'.")

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Answer:
        """The click (or mask) for the requested object, or ``None``.

        Raises ValueError where the truth has not the size of the prediction.
        """
        truth = self.truth(request.t)
        if truth is None:
            return None
        if truth.shape != prediction.labels.shape:
            raise ValueError(
                f"truth of frame {request.t} has shape {truth.shape}, the prediction "
                f"{prediction.labels.shape}; give label maps at the size of the frames."
            )
        if self.correct_with == "ground_truth":
            unknown = (truth == VOID) & (prediction.labels == request.object)
            return (truth == request.object) | unknown
        point, positive = self._locate(truth == request.object, request), True
        if point is None and self.absent == "negative":
            point = object_centre((prediction.labels == request.object) & (truth != VOID))
            positive = False
        if point is None:
            return None
        clicks: tuple[Click, ...] = (Click(point[0], point[1], request.object, positive),)
        if self.negative_from_others:
            clicks += negatives_from_others(prediction.labels, request.object)
        return clicks

    def _locate(self, mask: np.ndarray, request: Request) -> Point | None:
        if self.location == "dispersed":
            return dispersed_point(mask, np.random.default_rng((self.seed, request.t, request.object)))
        return object_centre(mask) if self.location == "centre" else nearest_to_centroid(mask)


class ReplayUser:
    """Gives the clicks that a person gave before: the ``"user"`` corrections of a log, by frame and object.

    Pseudo-corrections in the log are left out, for the policy makes its own. Several corrections of one
    object on one frame give their clicks in the order of the log. A request the log does not know stays
    unanswered. Raises ValueError for a correction by mask, which no click can replay.
    """

    def __init__(self, log: Iterable[Correction]) -> None:
        self._clicks: dict[tuple[int, int], tuple[Click, ...]] = {}
        for correction in log:
            if correction.kind == "mask":
                raise ValueError(
                    f"frame {correction.t}, object {correction.object} was corrected by a mask; "
                    "only clicks can be replayed, so leave this correction out of the log."
                )
            if correction.kind == "user":
                key = correction.t, correction.object
                self._clicks[key] = self._clicks.get(key, ()) + correction.clicks

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Sequence[Click] | None:
        """The recorded clicks for this frame and object, or ``None``."""
        return self._clicks.get((request.t, request.object))
