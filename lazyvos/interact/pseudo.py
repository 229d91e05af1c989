"""Pseudo-clicks: the click that the tracker gives itself (thesis, section 6.4.4, Eq. 6.4 and 6.5)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lazyvos.interact.clicks import Point, distance_field, first_maximum, object_centre
from lazyvos.types import Click, Prediction
from lazyvos.uncertainty.entropy import SmallObject, dilate_mask

Field = Literal["mask", "dilated"]
Location = Literal["default", "distance_only", "confident_region"]


def pseudo_point(
    mask: np.ndarray,
    entropy: np.ndarray,
    *,
    field: Field = "mask",
    location: Location = "default",
    objects: int = 1,
    dilate: float = 0.05,
    small_object: SmallObject = "shift",
) -> Point | None:
    """The ``(x, y)`` inside ``mask`` that maximises ``M * E * (1 - S)``, first in row-major order (Eq. 6.4).

    Parameters
    ----------
    mask: M, the object's predicted mask ``[H, W]``, non-zero = object.
    entropy: ``float [H, W]`` in [0, 1]; S is this inside the dilated mask and 0 outside.
    field: E is the distance field of the mask itself (released code) or of the dilated mask (thesis, Eq.
        6.5).
    location: ``"distance_only"`` takes ``M * E``; ``"confident_region"`` the centre of the pixels of M
        where ``1 - S > 1 / objects``. That set is empty for a single object: then, as wherever the weights
        are 0 on the whole mask, the distance alone decides.
    objects: number of objects in the frame.
    dilate, small_object: see :func:`lazyvos.uncertainty.dilate_mask`.

    Returns ``None`` for an empty mask, and where the distance field is 0 on the whole mask (only with
    ``field="dilated"``, for a tiny mask that the dilation moved off itself). Raises ValueError for shapes
    that differ or for an unknown option.
    """
    if field not in ("mask", "dilated"):
        raise ValueError(f"field is {field!r}; choose 'mask' or 'dilated'.")
    if location not in ("default", "distance_only", "confident_region"):
        names = "'default', 'distance_only' or 'confident_region'"
        raise ValueError(f"location is {location!r}; choose {names}.")
    inside = np.asarray(mask) != 0
    if inside.shape != np.shape(entropy):
        raise ValueError(f"entropy has shape {np.shape(entropy)}, the mask {inside.shape}; make them equal.")
    if objects < 1:
        raise ValueError(f"objects is {objects}; give the number of objects in the frame, at least 1.")
    region = dilate_mask(inside, dilate, small_object)
    depth = distance_field(region if field == "dilated" else inside) * inside
    if not depth.any():
        return None
    confidence = 1.0 - np.where(region, entropy, 0.0)
    if location == "confident_region":
        centre = object_centre(inside & (confidence > 1.0 / objects))
        return first_maximum(depth) if centre is None else centre
    if location == "default":
        weighted = depth * confidence.clip(0.0, 1.0)
        if weighted.any():
            return first_maximum(weighted)
    return first_maximum(depth)


def pseudo_click(
    prediction: Prediction,
    identity: int,
    *,
    field: Field = "mask",
    location: Location = "default",
    dilate: float = 0.05,
    small_object: SmallObject = "shift",
) -> Click | None:
    """One positive click for object ``identity`` at its :func:`pseudo_point`; ``None`` where it has none."""
    point = pseudo_point(
        prediction.labels == identity,
        prediction.entropy,
        field=field,
        location=location,
        objects=len(prediction.objects),
        dilate=dilate,
        small_object=small_object,
    )
    return None if point is None else Click(point[0], point[1], identity)
