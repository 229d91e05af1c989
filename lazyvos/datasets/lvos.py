"""LVOS v1 and v2 (Hong et al., 2023, 2024): `<split>/JPEGImages`, `<split>/Annotations`, `<split>/<split>_meta.json`.

Files are numbered 1, 6, 11, …: every fifth frame of a video at 30 frames per second. The meta file gives each object's
range of file numbers; only there it is scored. Videos count as seen or unseen by whether their category occurs in the
train split; text files with the names of one or the other kind may lie beside the meta file.
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
"""File numbers from one frame to the next."""

FPS = 6.0
"""Frames per second of what is given."""


class LvosSequence(FolderSequence):
    """One video of LVOS.

    Attributes:
        seen: its category occurs in the train split; None where no list says so.
    """

    def __init__(self, name: str, images: Path, annotations: Path, objects: dict[int, dict[str, Any]],
                 prefetch: int = 8, seen: bool | None = None) -> None:
        super().__init__(name, images, annotations, prefetch)
        self._meta, self.seen = objects, seen

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers of the files, which the ranges of the meta file speak of."""
        strange = [file for file in self.images if not file.stem.isdigit()]
        if strange:
            raise InputError(f"{strange[0]} has no number for a name; the frames of LVOS are called 00000001.jpg and so on")
        return [int(file.stem) for file in self.images]

    @cached_property
    def spans(self) -> dict[int, tuple[int, int]]:
        """For each object, the frames of its range `[start, end)` as indices of frames."""
        found = {}
        for key, entry in sorted(self._meta.items()):
            try:
                limits = entry["frame_range"]
                first, end = int(limits["start"]), int(limits["end"])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"the meta file gives no frame_range with start and end for {self.name}, object {key}; "
                                 "copy it again") from error
            inside = [t for t, number in enumerate(self.numbers) if first <= number < end]
            if not inside:
                raise InputError(f"the range {first} to {end} of {self.name}, object {key}, holds no frame of "
                                 f"{self._folder}; unpack the frames again")
            found[key] = (inside[0], inside[-1] + 1)
        return found

    @property
    def entries(self) -> dict[int, int]:
        """For each object, the first frame of its range."""
        return {key: first for key, (first, _) in self.spans.items()}

    @cached_property
    def start(self) -> int:
        """First frame at which an object enters."""
        if not self.entries:
            raise InputError(f"the meta file lists no object of sequence {self.name}; copy it again")
        return min(self.entries.values())

    @cached_property
    def objects(self) -> list[int]:
        """Ids of the objects that enter at frame `start`."""
        return [key for key, t in self.entries.items() if t == self.start]


class Lvos(Table[LvosSequence]):
    """A split of LVOS v1 or v2; a `lazyvos.datasets.base.Dataset`.

    Args:
        root: the folder that holds `val/` (and `train/`, `test/`), or that split's folder itself.
        split: "train", "val" or "test".
        prefetch: most frames that a sequence reads ahead.
        name: what the dataset is called.

    Attributes:
        unseen: names of the videos with an unseen category, or None where no list is there.

    Raises:
        InputError: a part is missing or the meta file names a video that is not there.
    """

    protocol = "lvos"
    fps: float | None = FPS

    def __init__(self, root: str | PathLike[str], split: str = "val", *, prefetch: int = 8, name: str | None = None) -> None:
        self.root, self.split = Path(root), split
        self.name = name or f"lvos-{split}"
        self._where = str(self.root)
        base = self.root / split if (self.root / split).is_dir() else self.root
        metas = [place for place in (base / f"{split}_meta.json", self.root / f"{split}_meta.json") if place.is_file()]
        self.meta = metas[0] if metas else base / f"{split}_meta.json"
        objects = meta_objects(self.meta)
        images, annotations = base / "JPEGImages", base / "Annotations"
        for place in (images, annotations):
            if not place.is_dir():
                raise InputError(f"{place} does not exist; unpack the archive of {split} there")
        missing = sorted(set(objects) - set(folders(images)))
        if missing:
            raise InputError(f"{images} lacks {len(missing)} of the videos in {self.meta}: {some(missing)}; unpack it again")
        self.unseen = _unseen(self.root, base, split, list(objects))
        self._sequences = {
            video: LvosSequence(video, images / video, annotations / video, objects[video], prefetch,
                                None if self.unseen is None else video not in self.unseen) for video in sorted(objects)}


def _unseen(root: Path, base: Path, split: str, names: list[str]) -> frozenset[str] | None:
    """Videos that a list beside the meta file calls unseen, or does not call seen; None without a list."""
    for place in dict.fromkeys((base, root, root / "ImageSets")):
        for kind in ("unseen", "seen"):
            for file in (place / f"{kind}_videos.txt", place / f"{split}_{kind}.txt", place / f"{kind}.txt"):
                if file.is_file():
                    listed = set(file.read_text(encoding="utf-8").split())
                    return frozenset(n for n in names if (n in listed) == (kind == "unseen"))
    return None
