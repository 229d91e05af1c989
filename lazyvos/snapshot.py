"""Files of a session that goes on another day: what is in them, and the clip from that frame on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lazyvos.masks.atomic import atomic_path
from lazyvos.types import Click, InputError

Edit = Click | np.ndarray
"""What a person did to a frame: a click, or a whole label map ``uint8 [H, W]``."""


def write_snapshot(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write tensors and plain values; the file appears when it is whole."""
    with atomic_path(path) as temporary:
        torch.save({"format": 1, **content}, temporary)


def read_snapshot(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What :func:`write_snapshot` wrote; no code of the file runs.

    Raises :class:`InputError` where the file is missing or is no snapshot.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist; give a file that Session.snapshot wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged or foreign files
        raise InputError(f"{path} is no session snapshot; give a file that Session.snapshot wrote") from error
    if not isinstance(content, dict) or content.get("format") != 1 or "tracker" not in content:
        raise InputError(f"{path} is no session snapshot; give a file that Session.snapshot wrote")
    return content


def packed(edit: Edit) -> Any:
    """An edit as plain numbers or a tensor."""
    return [edit.x, edit.y, edit.object, edit.positive] if isinstance(edit, Click) else torch.from_numpy(edit)


def unpacked(edit: Any) -> Edit:
    """The edit that :func:`packed` took apart."""
    return edit.numpy() if isinstance(edit, torch.Tensor) else Click(*edit)


def length_of(source: Any) -> int | None:
    """Number of frames, or ``None`` where it is not known."""
    try:
        return len(source)
    except TypeError:
        return None


def frames_from(source: Any, t: int) -> Iterator[np.ndarray]:
    """Frames from number ``t``, by random access where the source has it."""
    length = length_of(source)
    if t and length is not None and hasattr(source, "frame"):
        return (source.frame(index) for index in range(t, length))
    return islice(iter(source), t, None)
