"""Label maps `uint8 [H,W]`, one-hot stacks `bool [O,H,W]`, and the PNG files they live in."""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lazyvos.masks.atomic import atomic_path
from lazyvos.types import InputError

VOID = 255
"""Label of pixels that nobody decided; the scores leave them out."""


@cache
def davis_palette() -> np.ndarray:
    """Colours of the labels in DAVIS and Pascal VOC masks: `uint8 [256,3]` RGB, read-only.

    The bits of the label are dealt to red, green and blue in turn, from the highest bit of each down.
    """
    colors = np.zeros((256, 3), np.uint8)
    labels = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    colors.setflags(write=False)
    return colors


def object_ids(labels: np.ndarray) -> list[int]:
    """Labels of the objects in a label map `[H,W]`, in order, without background and void."""
    present = np.bincount(np.asarray(labels, np.uint8).ravel(), minlength=256)
    return [int(label) for label in np.flatnonzero(present) if label not in (0, VOID)]


def one_hot(labels: np.ndarray, ids: Sequence[int] | None = None) -> np.ndarray:
    """Split a label map `[H,W]` into `bool [O,H,W]`, one plane for each of `ids` (default: those that occur)."""
    wanted = np.asarray(object_ids(labels) if ids is None else ids, np.uint8)
    return np.asarray(labels)[None] == wanted[:, None, None]


def label_map(masks: np.ndarray, ids: Sequence[int] | None = None) -> np.ndarray:
    """Join `bool [O,H,W]` into a label map `uint8 [H,W]`; where planes overlap the later one wins.

    `ids` are the labels of the planes, 1 to O by default; raises InputError where their number differs.
    """
    masks = np.asarray(masks)
    names = list(range(1, len(masks) + 1)) if ids is None else list(ids)
    if masks.ndim != 3 or len(names) != len(masks):
        raise InputError(f"masks have shape {list(masks.shape)} and there are {len(names)} ids; give [O,H,W] and O ids")
    labels = np.zeros(masks.shape[1:], np.uint8)
    for name, mask in zip(names, masks, strict=True):
        labels[mask.astype(bool)] = name
    return labels


def write_mask(path: str | PathLike[str], labels: np.ndarray) -> None:
    """Write a label map `uint8 [H,W]` as a palette PNG in the colours of DAVIS; the file appears when it is whole."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0:
        raise InputError(f"a label map has shape [H,W], but this one has {list(labels.shape)}")
    if labels.dtype != np.uint8:
        if labels.dtype.kind not in "biu" or labels.min() < 0 or labels.max() > 255:
            raise InputError(f"a label map holds whole numbers 0 to 255, but this one is {labels.dtype} with values "
                             f"{labels.min()} to {labels.max()}")
        labels = labels.astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(davis_palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", compress_level=4)


def read_mask(path: str | PathLike[str], size: tuple[int, int] | None = None, *, white: int = 1) -> np.ndarray:
    """Read a mask image as a label map `uint8 [H,W]`.

    Palette images give their indices, grey ones their values, 1-bit ones 0 and 1, colour ones the labels that have
    those colours in the DAVIS palette. Black-and-white masks (grey or colour, only 0 and 255) give 0 and `white`.

    Args:
        path: the image, usually PNG.
        size: height and width that it must have.
        white: what white means in a black-and-white mask: an object, or 255 for void.

    Raises:
        InputError: it is missing, no image, of another size, or has colours that no label has.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the path of a mask image")
    try:
        with Image.open(path) as image:
            if size is not None and (image.height, image.width) != tuple(size):
                raise InputError(f"mask {path} is {image.width}x{image.height} but the frames are {size[1]}x{size[0]} "
                                 "(width x height); resize it without smoothing")
            if image.mode in ("P", "L", "1"):
                labels = np.array(image, np.uint8)
            elif image.mode.startswith("I"):
                wide = np.asarray(image)
                if wide.max() > 255 or wide.min() < 0:
                    raise InputError(f"mask {path} holds labels up to {wide.max()}; labels are 0 to 255")
                labels = wide.astype(np.uint8)
            else:
                return _from_colors(np.asarray(image.convert("RGB")), path, white)
            grey = image.mode == "L"
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{path} is not a mask image that can be read; write it again as PNG") from error
    return _black_and_white(labels, white) if grey else labels


def _black_and_white(labels: np.ndarray, white: int) -> np.ndarray:
    present = np.bincount(labels.ravel(), minlength=256) > 0
    return np.where(labels > 0, white, 0).astype(np.uint8) if not present[1:255].any() else labels


def _from_colors(image: np.ndarray, path: Path, white: int) -> np.ndarray:
    codes = image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    if np.isin(codes, (0, 0xFFFFFF)).all():
        return np.where(codes > 0, white, 0).astype(np.uint8)
    known = davis_palette().astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    order = np.argsort(known)
    found = order[np.searchsorted(known, codes, sorter=order).clip(max=255)]
    wrong = known[found] != codes
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise InputError(f"mask {path} has the colour {tuple(int(c) for c in image[y, x])} at x={x}, y={y}, which no "
                         "label has; save it as a palette PNG without smoothing")
    return found.astype(np.uint8)
