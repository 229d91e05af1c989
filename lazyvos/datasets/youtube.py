"""YouTube-VOS 2018 and 2019 (Xu et al., 2018): `<split>/JPEGImages`, `<split>/Annotations`, `<split>/meta.json`.

Frames are given at 6 per second (every fifth frame of the video) or, in the all-frames variant, all of them. In the
valid and test splits a mask is given only where an object first appears; `meta.json` names each object's frames.
"""
from __future__ import annotations

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from lazyvos.datasets.base import Table, folders, meta_objects, some
from lazyvos.datasets.davis import FolderSequence
from lazyvos.types import InputError

STEP = 5
"""Every which frame of the video is given, annotated and scored."""


class YouTubeSequence(FolderSequence):
    """One video of YouTube-VOS.

    Attributes:
        categories: for each object id, its category.

    In the valid split the mask of a frame may hold only the objects that enter there: at frame `t` take those ids whose
    `entries` is `t`.
    """

    def __init__(self, name: str, images: Path, annotations: Path, objects: dict[int, dict[str, Any]],
                 prefetch: int = 8) -> None:
        super().__init__(name, images, annotations, prefetch)
        self._meta = objects
        self.categories = {key: str(entry.get("category", "unknown")) for key, entry in objects.items()}

    @cached_property
    def listed(self) -> dict[int, list[int]]:
        """For each object, the frames that `meta.json` lists: results are asked for there, every fifth of the video."""
        at = {file.stem: t for t, file in enumerate(self.images)}
        found = {}
        for key, entry in sorted(self._meta.items()):
            names = [str(frame) for frame in entry.get("frames", [])]
            missing = [frame for frame in names if frame not in at]
            if missing:
                raise InputError(f"meta.json lists frame {missing[0]} of {self.name}, object {key}, but "
                                 f"{self._folder} does not hold it; unpack the frames again")
            if not names:
                raise InputError(f"meta.json lists no frame of {self.name}, object {key}; copy it again")
            found[key] = sorted(at[frame] for frame in names)
        return found

    @cached_property
    def entries(self) -> dict[int, int]:
        """For each object, its first listed frame."""
        return {key: frames[0] for key, frames in self.listed.items()}

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """For each object, from its first listed frame to behind its last."""
        return {key: (frames[0], frames[-1] + 1) for key, frames in self.listed.items()}

    @cached_property
    def start(self) -> int:
        """First frame at which an object enters."""
        if not self.entries:
            raise InputError(f"meta.json lists no object of sequence {self.name}; copy it again")
        return min(self.entries.values())

    @cached_property
    def objects(self) -> list[int]:
        """Ids of the objects that enter at frame `start`."""
        return [key for key, t in self.entries.items() if t == self.start]


class YouTubeVOS(Table[YouTubeSequence]):
    """A split of YouTube-VOS; a `lazyvos.datasets.base.Dataset`.

    Args:
        root: the folder that holds `valid/` (and `train/`, `test/`), or that split's folder itself.
        split: "train", "valid" or "test".
        all_frames: frames from `<split>_all_frames/` (also below `all_frames/`), 30 per second.
        prefetch: most frames that a sequence reads ahead.
        name: what the dataset is called.

    Raises:
        InputError: a part is missing or `meta.json` names a video that is not there.
    """

    protocol = "vos"

    def __init__(self, root: str | PathLike[str], split: str = "valid", *, all_frames: bool = False, prefetch: int = 8,
                 name: str | None = None) -> None:
        self.root, self.split = Path(root), split
        self.name = name or f"youtube-vos-{split}"
        self.fps: float | None = 30.0 if all_frames else 30.0 / STEP
        self._where = str(self.root)
        base = self.root / split if (self.root / split).is_dir() else self.root
        self.meta = base / "meta.json"
        objects = meta_objects(self.meta)
        annotations = base / "Annotations"
        images = base / "JPEGImages"
        if all_frames:
            places = [self.root / f"{split}_all_frames", self.root / "all_frames" / f"{split}_all_frames",
                      base.parent / f"{split}_all_frames"]
            found = next((place for place in places if (place / "JPEGImages").is_dir()), None)
            if found is None:
                raise InputError(f"{places[0] / 'JPEGImages'} does not exist; unpack the all-frames archive of {split} there")
            images = found / "JPEGImages"
        for place in (images, annotations):
            if not place.is_dir():
                raise InputError(f"{place} does not exist; unpack the archive of {split} there")
        missing = sorted(set(objects) - set(folders(images)))
        if missing:
            raise InputError(f"{images} lacks {len(missing)} of the videos in {self.meta}: {some(missing)}; unpack it again")
        self._sequences = {video: YouTubeSequence(video, images / video, annotations / video, objects[video], prefetch)
                           for video in sorted(objects)}
