"""What a pseudo-correction hands to the refiner: options, and the clicks that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from lazyvos.interact.clicks import negatives_from_others
from lazyvos.interact.lookalike import lookalike
from lazyvos.interact.pseudo import Field, Location, pseudo_point
from lazyvos.types import Click, InputError, Prediction
from lazyvos.uncertainty.entropy import SmallObject

SAM_SIDE = 1024


@dataclass(frozen=True)
class PseudoOptions:
    """How an object is corrected without a person (thesis, section 6.4.4).

    Attributes
    ----------
    location, field: of the positive click, see :func:`lazyvos.interact.pseudo_point`. ``location="distance_only"`` is also what the
        released code does in effect, where the confidence has no weight.
    sam_grid: find the click on the square of 1024x1024 pixels that SAM sees (mask bicubic, entropy bilinear) as the released
        code does, and not on the frame.
    negatives: negative clicks beside the positive one: ``"none"`` (thesis), ``"others"`` at the centre of every other object's
        mask, ``"outside"`` on the brightest look-alike (:func:`lazyvos.interact.lookalike`), if its score exceeds
        ``tau_negative``.
    tau_negative: a look-alike counts from this part of the object's area on; 0.2, the thesis's own threshold for a
        pseudo-correction, for it is a sum of the same kind over the same area.
    box: give the mask's bounding box in the place of a single click; needs SAM-HQ.
    prompt_with_mask: rebuild the mask inside SAM-HQ and give it beside the click (on in the released run script); needs
        SAM-HQ.
    dilate, small_object: see :func:`lazyvos.uncertainty.dilate_mask`.

    Raises ValueError for an unknown word or a NaN threshold.
    """

    location: Location = "default"
    field: Field = "mask"
    sam_grid: bool = False
    negatives: Literal["none", "others", "outside"] = "none"
    tau_negative: float = 0.2
    box: bool = False
    prompt_with_mask: bool = False
    dilate: float = 0.05
    small_object: SmallObject = "shift"

    def __post_init__(self) -> None:
        choices = {
            "location": ("default", "distance_only", "confident_region"), "field": ("mask", "dilated"),
            "negatives": ("none", "others", "outside"), "small_object": ("shift", "identity"),
        }  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}.")
        if np.isnan(self.tau_negative):
            raise ValueError("tau_negative is NaN; give a number, or infinity for never.")

    def arguments(self, refiner: Any) -> dict[str, Any]:
        """Keyword arguments for ``refiner.refine``.

        Raises :class:`InputError` where the refiner cannot take the prompt (it names those it can in ``prompts``).
        """
        wanted = {name: True for name in ("box", "prompt_with_mask") if getattr(self, name)}
        unknown = [name for name in wanted if name not in getattr(refiner, "prompts", ())]
        if unknown:
            raise InputError(
                f"the policy corrects itself with {unknown[0]}=True, which {type(refiner).__name__} cannot take; "
                "use the refiner sam-hq, or leave this option of the pseudo-corrections off"
            )
        return wanted


def pseudo_prompt(prediction: Prediction, identity: int, options: PseudoOptions | None = None) -> tuple[Click, ...]:
    """Clicks for object ``identity``, the positive one first; empty where the object has no place for it."""
    o = options or PseudoOptions()
    mask = prediction.labels == identity
    find = _on_square if o.sam_grid else _on_frame
    point = find(mask, prediction, o)
    if point is None:
        return ()
    positive = Click(point[0], point[1], identity)
    if o.negatives == "others":
        return positive, *negatives_from_others(prediction.labels, identity)
    if o.negatives == "outside":
        found = lookalike(prediction, identity)
        if found is not None and found.score > o.tau_negative:
            return positive, Click(*found.at, identity, positive=False)
    return (positive,)


def _on_frame(mask: np.ndarray, prediction: Prediction, o: PseudoOptions) -> tuple[float, float] | None:
    return pseudo_point(
        mask, prediction.entropy, field=o.field, location=o.location, objects=max(1, len(prediction.objects)),
        dilate=o.dilate, small_object=o.small_object,
    )  # fmt: skip


def _on_square(mask: np.ndarray, prediction: Prediction, o: PseudoOptions) -> tuple[float, float] | None:
    """As :func:`_on_frame` on SAM's square; the point in pixels of the frame, centres of pixels on centres."""
    height, width = mask.shape
    square = (SAM_SIDE, SAM_SIDE)
    large = cv2.resize(mask.astype(np.float32), square, interpolation=cv2.INTER_CUBIC) > 0.5
    doubt = cv2.resize(np.ascontiguousarray(prediction.entropy, np.float32), square, interpolation=cv2.INTER_LINEAR)
    point = pseudo_point(
        large, doubt, field=o.field, location=o.location, objects=max(1, len(prediction.objects)), dilate=o.dilate,
        small_object=o.small_object,
    )  # fmt: skip
    if point is None:
        return None
    x, y = ((v + 0.5) * side / SAM_SIDE - 0.5 for v, side in zip(point, (width, height), strict=True))
    return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
