"""COCO's run-length code of a mask, as JSON can hold it.

Runs are counted down the columns, starting with background. The compressed form writes each count as the difference
to the count two places before, in groups of five bits (least first), one printable character each: format of the
COCO API (Lin et al., 2014), which pycocotools reads and writes.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lazyvos.types import InputError


def rle_encode(mask: np.ndarray, compress: bool = True) -> dict[str, Any]:
    """Encode a mask `bool [H,W]` as `{"size": [H, W], "counts": str}`, or with a list of counts if not `compress`."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise InputError(f"a mask has shape [H,W], but this one has {list(mask.shape)}")
    flat = mask.astype(bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges]) if flat.size else np.zeros(0, int)
    counts = np.diff(np.concatenate([starts, [flat.size]])).tolist()
    if flat.size and flat[0]:
        counts.insert(0, 0)
    return {"size": [int(side) for side in mask.shape], "counts": _pack(counts) if compress else counts}


def rle_decode(rle: dict[str, Any]) -> np.ndarray:
    """Decode `{"size": [H, W], "counts": str | bytes | list}` to `bool [H,W]`; raises InputError where it is wrong."""
    try:
        height, width = (int(side) for side in rle["size"])
        packed = rle["counts"]
        counts = np.asarray(_unpack(packed) if isinstance(packed, (str, bytes)) else packed, np.int64)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError('an RLE mask is {"size": [height, width], "counts": text or list}, but this one cannot be '
                         "read") from error
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise InputError(f"the counts of this RLE mask add up to {counts.sum()} but its size {height}x{width} has "
                         f"{height * width} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def _pack(counts: Iterable[int]) -> str:
    text = bytearray()
    before: list[int] = []
    for place, count in enumerate(counts):
        rest = count - before[-2] if place > 2 else count
        before.append(count)
        more = True
        while more:
            group, rest = rest & 31, rest >> 5
            more = rest != (-1 if group & 16 else 0)
            text.append(48 + group + 32 * more)
    return text.decode("ascii")


def _unpack(text: str | bytes) -> list[int]:
    data = text.encode("ascii") if isinstance(text, str) else text
    counts: list[int] = []
    place = 0
    while place < len(data):
        value, shift, more = 0, 0, True
        while more:
            code = data[place] - 48
            value |= (code & 31) << shift
            more = bool(code & 32)
            place, shift = place + 1, shift + 5
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
