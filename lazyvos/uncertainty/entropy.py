"""Normalised entropy of a segmentation, and its masked score per object (thesis, section 6.4.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from lazyvos.uncertainty.base import Doubt
from lazyvos.uncertainty.temperature import check_temperature, tempered

SmallObject = Literal["shift", "identity"]
Normalise = Literal["mask", "region"]

_FLOOR = 1e-7  # smallest probability that goes into a logarithm, as in XMem's aggregation


def check_probabilities(probabilities: Tensor) -> Tensor:
    """Return ``probabilities [K, H, W]`` as float32 or float64, or raise ValueError saying what is wrong.

    They must be floating point, at least 0 and sum to 1 over the first axis, to 1e-4 (1e-2 in half
    precision).
    """
    if probabilities.ndim != 3 or not probabilities.is_floating_point():
        raise ValueError(
            f"probabilities are {probabilities.dtype} of shape {tuple(probabilities.shape)}; "
            "give a floating-point tensor [1 + objects, height, width]."
        )
    fine = probabilities.dtype in (torch.float32, torch.float64)
    p = probabilities.detach() if fine else probabilities.detach().float()
    if p.numel():
        low, high = p.sum(0).aminmax()
        off = max(abs(float(low) - 1.0), abs(float(high) - 1.0))
        least = float(p.amin())
        tolerance = 1e-4 if fine else 1e-2
        if not (off <= tolerance and least >= -tolerance):  # also false for NaN
            raise ValueError(
                f"probabilities sum to {float(low):.6g}..{float(high):.6g}, the smallest is {least:.6g}; "
                "they must be at least 0 and sum to 1 over the first axis (background included)."
            )
    return p


def raw_entropy(p: Tensor) -> Tensor:
    """Entropy of ``p [K, ...]`` over K, divided by ln K, in the precision of ``p``; no check, no rounding."""
    total = torch.zeros_like(p[0])
    if p.shape[0] > 1:
        for channel in p:  # one at a time stays in the cache: up to ten times faster than all at once
            total.addcmul_(channel, channel.clamp_min(_FLOOR).log_(), value=-1.0)
        total.div_(math.log(p.shape[0])).clamp_(0.0, 1.0)
    return total


def entropy_map(probabilities: Tensor, decimals: int | None = 4) -> Tensor:
    """Pixel-wise entropy in [0, 1], ``S = -sum_k p_k ln p_k / ln K`` (thesis, Eq. 6.2).

    Parameters
    ----------
    probabilities: ``[K, H, W]``, K = background + objects; sums to 1 over K. A probability of 0 is legal.
        Computed in float32, or in float64 where given so. Resize probabilities, never the entropy.
    decimals: rounds the map, as the published method does; ``None`` leaves it unrounded.

    Returns ``float32 [H, W]`` on the device of the input; 0 everywhere where K = 1. Raises ValueError for a
    wrong shape or for values that are no probabilities.
    """
    s = raw_entropy(check_probabilities(probabilities))
    if decimals is not None:
        s = torch.round(s, decimals=decimals)
    return s.float()


def kernel_side(area: int, dilate: float = 0.05) -> int:
    """Side of the kernel for ``area`` pixels: ``floor(sqrt(dilate * area))``, made even, at least 2."""
    side = math.floor(math.sqrt(dilate * area))
    return max(2, side + side % 2)


def dilation_kernel(side: int) -> np.ndarray:
    """The dilation kernel ``uint8 [side, side]`` of an even side: a disk whose centre lies between pixels.

    With c = side / 2, cell (i, j) of the lower right quadrant is set where ``i**2 + j**2 < (c - 1)**2``;
    the other quadrants mirror it. A side of 2 has no cell set. The anchor is index c in both directions, so
    a mask grows by c - 1 pixels to the bottom and right and c - 2 to the top and left. Raises ValueError
    for an odd side or below 2.
    """
    if side < 2 or side % 2:
        raise ValueError(f"side of the dilation kernel is {side}; it must be even and at least 2.")
    c = side // 2
    squares = np.arange(c) ** 2
    quadrant = squares[:, None] + squares[None, :] < (c - 1) ** 2
    lower = np.hstack([quadrant[:, ::-1], quadrant])
    return np.vstack([lower[::-1], lower]).astype(np.uint8)


def dilate_mask(mask: np.ndarray, dilate: float = 0.05, small_object: SmallObject = "shift") -> np.ndarray:
    """The region over which an object's entropy is summed: ``bool [H, W]`` from a mask ``[H, W]``.

    The mask is dilated by :func:`dilation_kernel` of side :func:`kernel_side`. Where that side is 2 (below
    180 pixels at the default of 5 %) the published method moves the mask by one pixel to the bottom right
    instead; ``small_object="identity"`` leaves such a mask as it is. ``dilate=0`` returns every mask as it
    is.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}; give one mask [height, width].")
    out = np.zeros(mask.shape, bool)
    binary = np.ascontiguousarray(mask != 0).view(np.uint8)
    area = cv2.countNonZero(binary)
    if area:
        box, region = _region(binary, area, dilate, small_object)
        out[box] = region.view(bool)
    return out


def _region(
    binary: np.ndarray, area: int, dilate: float, small_object: SmallObject
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The dilated region of a non-empty 0/1 mask: a window of the image, and ``uint8`` 0/1 inside it.

    The kernel is a 2x2 block widened by the disk of the offsets shorter than c - 1. So a pixel is in the
    region where its distance to the mask, moved over the block, is below c - 1: one exact distance
    transform for any size.
    """
    height, width = binary.shape
    x, y, w, h = cv2.boundingRect(binary)
    side = kernel_side(area, dilate)
    grow = side // 2 - 1
    if dilate == 0 or (side == 2 and small_object == "identity"):
        box = slice(y, y + h), slice(x, x + w)
        return box, binary[box]
    rows = slice(max(0, y - grow), min(height, y + h + grow + 1))
    columns = slice(max(0, x - grow), min(width, x + w + grow + 1))
    window = binary[rows, columns]
    block = np.zeros_like(window)
    block[1:, 1:] = window[:-1, :-1]
    if side > 2:
        block |= window
        block[1:] |= window[:-1]
        block[:, 1:] |= window[:, :-1]
        distance = cv2.distanceTransform(1 - block, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        block = (distance < math.sqrt(grow**2 - 0.5)).view(np.uint8)  # squared distances are whole numbers
    return (rows, columns), block


def masked_scores(
    values: np.ndarray,
    labels: np.ndarray,
    objects: Sequence[int],
    normalise: Normalise = "mask",
    dilate: float = 0.05,
    small_object: SmallObject = "shift",
) -> dict[int, float]:
    """Score of each object: the sum of ``values [H, W]`` over its dilated mask (Eq. 6.3), divided by a size.

    ``normalise="mask"`` divides by the area of the undilated mask (released code; can exceed 1 for thin
    objects), ``"region"`` by the size of the dilated one (thesis, section 6.4.2). 0 for an object without a
    pixel in ``labels uint8 [H, W]``. ``dilate`` and ``small_object``: see :func:`dilate_mask`.
    Raises ValueError where the shapes differ.
    """
    if values.shape != labels.shape:
        raise ValueError(f"values have shape {values.shape}, labels {labels.shape}; they must be equal.")
    scores: dict[int, float] = {}
    for identity in objects:
        binary = (labels == identity).view(np.uint8)
        area = cv2.countNonZero(binary)
        score = 0.0
        if area:
            box, region = _region(binary, area, dilate, small_object)
            score = cv2.mean(values[box], region)[0]  # summed in float64
            if normalise == "mask":
                score *= cv2.countNonZero(region) / area
        scores[identity] = score
    return scores


def score_changes(scores: Mapping[int, float], earlier: Mapping[int, float]) -> dict[int, float | None]:
    """Signed change of every score since the frame before; ``None`` for an object without one in ``earlier``.

    Frame 0 is never recorded, so ``earlier`` is empty for frames 0 and 1. Always hand in the scores of
    original predictions, not of corrected ones (thesis, section 6.4.4).
    """
    return {o: score - earlier[o] if o in earlier else None for o, score in scores.items()}


@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    """How a map becomes a score per object; the estimators share these options.

    Attributes
    ----------
    normalise: ``"mask"`` divides by the area of the undilated mask, ``"region"`` by the size of the dilated
        one.
    dilate: kernel side squared as a fraction of the object's area; 0 leaves masks undilated.
    small_object: what a kernel of side 2 does, ``"shift"`` (as released) or ``"identity"``.
    masked: ``False`` gives every object the sum of the map over the whole frame (S and V without masks, thesis,
        figure 6.5), whatever the other options.
    """

    normalise: Normalise = "mask"
    dilate: float = 0.05
    small_object: SmallObject = "shift"
    masked: bool = True

    def __post_init__(self) -> None:
        if self.normalise not in ("mask", "region"):
            raise ValueError(f"normalise is {self.normalise!r}; choose 'mask' or 'region'.")
        if self.small_object not in ("shift", "identity"):
            raise ValueError(f"small_object is {self.small_object!r}; choose 'shift' or 'identity'.")
        if not 0.0 <= self.dilate <= 1.0:
            raise ValueError(f"dilate is {self.dilate}; give a fraction of the object's area in 0..1.")

    def scores(self, values: np.ndarray, labels: np.ndarray, objects: Sequence[int]) -> dict[int, float]:
        """Score of each object from a map ``[H, W]``; see :func:`masked_scores`."""
        if not self.masked:
            return dict.fromkeys(objects, float(values.sum(dtype=np.float64)))
        return masked_scores(values, labels, objects, self.normalise, self.dilate, self.small_object)


@dataclass(frozen=True, kw_only=True)
class Entropy(ScoreRule):
    """Entropy map, and per object its sum over the dilated mask divided by a size (thesis, section 6.4.2).

    Attributes
    ----------
    decimals: rounding of the map; ``None`` for none.
    temperature: the logits are divided by it first (:mod:`lazyvos.uncertainty.temperature`); 1 changes nothing.
    normalise, dilate, small_object, masked: see :class:`ScoreRule`.

    >>> p = torch.tensor([0.75, 0.25]).view(2, 1, 1).expand(2, 4, 4)
    >>> doubt = Entropy(dilate=0)(p, np.ones((4, 4), np.uint8), (1,))
    >>> round(doubt.scores[1], 4)
    0.8113
    """

    decimals: int | None = 4
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decimals is not None and self.decimals < 0:
            raise ValueError(f"decimals is {self.decimals}; give 0 or more, or None for no rounding.")
        check_temperature(self.temperature)

    def __call__(self, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...]) -> Doubt:
        """Map and scores of one frame.

        ``probabilities [1 + O, H, W]`` at the size of ``labels uint8 [H, W]``; ``objects`` in channel
        order. Raises ValueError where they do not belong together.
        """
        check_frame(probabilities, labels, objects)
        if self.temperature != 1:
            probabilities = tempered(probabilities, self.temperature)
        values = entropy_map(probabilities, self.decimals).cpu().numpy()
        return Doubt(values, self.scores(values, labels, objects))


def check_frame(probabilities: Tensor, labels: np.ndarray, objects: Sequence[int]) -> None:
    """Raises ValueError unless ``probabilities`` are ``[1 + O, H, W]`` of the ``labels [H, W]`` and ``objects``."""
    wanted = (1 + len(objects), *labels.shape)
    if tuple(probabilities.shape) != wanted:
        raise ValueError(f"probabilities have shape {tuple(probabilities.shape)}; expected {wanted}.")
