"""Predictions as JSON: run-length codes of COCO, one for each object and frame.

Two forms are understood, alone or as the ``annotations`` of a COCO file (with ``images`` and ``videos``):

- one entry for each mask: ``{"sequence": "bear", "frame": "00012", "object": 1, "segmentation": {"size": [H, W], "counts": …}}``;
- one entry for each track, as of YouTube-VIS: ``"segmentations"``, a list with a code or ``null`` for each frame.

Keys may also be called as in ``SEQUENCE``, ``FRAME`` and ``OBJECT`` below. A frame is named like its file (endings and folders
do not matter), or by the number in that name. ``"segmentation": null`` is an empty mask; it is also how a frame without any
object is told from one that was forgotten, unless ``images`` lists the frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lazyvos.masks.labels import read_mask
from lazyvos.masks.rle import rle_decode
from lazyvos.types import InputError

SEQUENCE = ("sequence", "video", "video_name", "seq_name", "video_id")
FRAME = ("frame", "frame_name", "file_name", "image", "frame_index", "image_id")
OBJECT = ("object", "object_id", "track_id", "instance_id", "category_id")


def decode_parts(parts: Mapping[int, Any], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """A mask ``bool [H, W]`` for each object from a binary PNG's path, a run-length code, a VOT region, or None (empty)."""
    out: dict[int, np.ndarray] = {}
    for k, source in parts.items():
        if source is None:
            out[k] = np.zeros(size, bool)
        elif isinstance(source, Path):
            out[k] = read_mask(source, size) > 0
        elif isinstance(source, str):
            from lazyvos.datasets.vots import vot_decode

            out[k] = vot_decode(source, size)
        else:
            out[k] = rle_decode(source)
    return out


class RleFile:
    """The masks of one JSON file by sequence and frame; ``sequence`` is meant where entries name none.

    Raises :class:`InputError` for a file that is no such list, naming the first entry that cannot be used.
    """

    def __init__(self, path: Path, sequence: str | None = None) -> None:
        self.path = path
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as JSON ({error}); write it again") from error
        table = stored if isinstance(stored, dict) else {"annotations": stored}
        entries = table.get("annotations", table.get("predictions"))
        if not isinstance(entries, list):
            raise InputError(f"{path} holds no list of masks; give a list of entries with sequence, frame, object and segmentation")
        videos = {v["id"]: v for v in table.get("videos", []) if isinstance(v, dict) and "id" in v}
        self._videos = {key: str(v.get("name", PurePosixPath(str((v.get("file_names") or ["?"])[0])).parent.name)) for key, v in videos.items()}
        self._images = {i["id"]: i for i in table.get("images", []) if isinstance(i, dict) and "id" in i}
        self._frames: dict[str, dict[str, dict[int, Any]]] = {}
        self._tracks: dict[str, list[tuple[int, list[Any]]]] = {}
        for image in self._images.values():
            name, frame = self._of_image(image, sequence)
            if name is not None:
                self._frames.setdefault(name, {}).setdefault(_key(frame), {})
        for number, entry in enumerate(entries):
            self._add(entry, number, sequence)

    def find(
        self, sequence: str, names: Mapping[int, str], size: tuple[int, int], length: int
    ) -> tuple[dict[int, dict[int, Any]], list[str]]:
        """Codes of a sequence by frame number and object, and what is missing or of another size.

        ``names`` are the frames by number, ``length`` is the number of all frames of the sequence.
        """
        frames, tracks = self._frames.get(sequence, {}), self._tracks.get(sequence, [])
        if not frames and not tracks:
            return {}, [f"{self.path} holds no mask of {sequence}"]
        for k, codes in tracks:
            if len(codes) not in (len(names), length):
                return {}, [f"{self.path}: object {k} of {sequence} has {len(codes)} segmentations, not one for each of {length} frames"]
        found: dict[int, dict[int, Any]] = {}
        problems = []
        for place, (t, name) in enumerate(names.items()):
            parts = frames.get(_key(name if name.isdecimal() or _key(name) in frames else str(t)))
            if parts is None and not tracks:
                problems.append(f"{self.path} has no entry for {sequence}, frame {name}")
                continue
            found[t] = dict(parts or {}) | {k: codes[t if len(codes) == length else place] for k, codes in tracks}
            for k, code in found[t].items():
                if code is not None and tuple(code["size"]) != tuple(size):
                    problems.append(f"{self.path}: {sequence}, frame {name}, object {k} is {code['size'][1]}x{code['size'][0]}, "
                                    f"not {size[1]}x{size[0]}")  # fmt: skip
        return found, problems

    def _add(self, entry: Any, number: int, sequence: str | None) -> None:
        if not isinstance(entry, dict):
            raise InputError(f"{self.path}: entry {number} is no object; give sequence, frame, object and segmentation")
        image = self._images.get(entry.get("image_id", entry.get("image"))) if self._images else None
        name, frame = self._of_image(image, sequence) if image is not None else (None, _frame(entry))
        video = _first(entry, SEQUENCE)
        name = name or (self._videos.get(video, str(video)) if video is not None else sequence)
        k, track = _first(entry, OBJECT), entry.get("segmentations")
        if name is None or (frame is None and track is None):
            raise InputError(f"{self.path}: entry {number} does not say which {'sequence' if name is None else 'frame'} it is of; "
                             f"add {'sequence' if name is None else 'frame'}")  # fmt: skip
        if track is None and entry.get("segmentation") is None and k is None:  # a frame without objects
            self._frames.setdefault(name, {}).setdefault(_key(str(frame)), {})
            return
        if isinstance(k, str) and k.isdecimal():
            k = int(k)
        if not isinstance(k, int) or k < 1:
            raise InputError(f"{self.path}: entry {number} has object {k!r}; give a whole number from 1 on")
        codes = [_checked(code, self.path, number) for code in (track if isinstance(track, list) else [entry.get("segmentation")])]
        if track is not None:
            self._tracks.setdefault(name, []).append((k, codes))
            return
        parts = self._frames.setdefault(name, {}).setdefault(_key(str(frame)), {})
        if k in parts:
            raise InputError(f"{self.path}: entry {number} is a second mask of {name}, frame {frame}, object {k}; give one")
        parts[k] = codes[0]

    def _of_image(self, image: Mapping[str, Any], sequence: str | None) -> tuple[str | None, str]:
        """Sequence and frame of an entry of ``images``."""
        path = PurePosixPath(str(image.get("file_name", image["id"])))
        video = _first(image, SEQUENCE)
        if video is not None:
            return self._videos.get(video, str(video)), path.stem
        return (path.parent.name or sequence), path.stem


def _first(entry: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _frame(entry: Mapping[str, Any]) -> str | None:
    value = _first(entry, FRAME)
    return None if value is None else PurePosixPath(str(value)).stem if isinstance(value, str) else str(value)


def _key(frame: str) -> str:
    """A frame's name without leading zeros, so that 12 and 00012 are the same."""
    return str(int(frame)) if frame.isdecimal() else frame


def _checked(code: Any, path: Path, number: int) -> dict[str, Any] | None:
    """An RLE code with a size, or None for an empty mask."""
    if code is None or code == []:
        return None
    if not isinstance(code, dict) or "counts" not in code or not isinstance(code.get("size"), list) or len(code["size"]) != 2:
        raise InputError(f'{path}: the segmentation of entry {number} is no run-length code {{"size": [H, W], "counts": …}}; '
                         "polygons must be drawn first")  # fmt: skip
    return code
