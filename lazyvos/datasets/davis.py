"""Folders laid out like DAVIS: `JPEGImages/`, `Annotations/`, `ImageSets/<split>.txt`.

The layout is that of Perazzi et al. (2016) and Pont-Tuset et al. (2017). A folder for the resolution between the two
top levels (`JPEGImages/480p/bear/`) and for the year among the splits (`ImageSets/2017/val.txt`) is understood too.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from lazyvos.images import image_files, image_size, natural
from lazyvos.masks.labels import object_ids, read_mask
from lazyvos.types import InputError
from lazyvos.video import Source, open_source

_PNG = frozenset({".png"})


class Sequence:
    """One video of a DAVIS-layout folder: frames, and masks where there are any.

    Attributes:
        name: name of the folder.
        images: files of the frames in order.
        annotations: files of the masks by frame index; not every frame needs one.
    """

    def __init__(self, name: str, images: Path, annotations: Path, prefetch: int = 8) -> None:
        self.name = name
        self._folder, self._prefetch = images, prefetch
        if not images.is_dir():
            raise InputError(f"sequence {name} has no frames: {images} does not exist")
        self.images = image_files(images)
        if not self.images:
            raise InputError(f"sequence {name} has no frames: {images} holds no JPEG or PNG images")
        at = {file.stem: t for t, file in enumerate(self.images)}
        masks = image_files(annotations, _PNG) if annotations.is_dir() else []
        strange = [file for file in masks if file.stem not in at]
        if strange:
            raise InputError(f"mask {strange[0]} belongs to no frame of {images}; masks are named like their frames")
        self.annotations = {at[file.stem]: file for file in masks}

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Sequence({self.name!r}, {len(self)} frames, {len(self.annotations)} masks)"

    @cached_property
    def frames(self) -> Source:
        """The frames, read when asked for."""
        return open_source(self._folder, prefetch=self._prefetch)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.frames.size

    @cached_property
    def start(self) -> int:
        """Index of the first frame whose mask holds an object; raises InputError where there is none."""
        if not self.annotations:
            raise InputError(f"sequence {self.name} has no masks; put them into Annotations/{self.name}/")
        for t in sorted(self.annotations):
            if object_ids(read_mask(self.annotations[t], white=self._white)):
                return t
        raise InputError(f"no mask of sequence {self.name} holds an object "
                         f"(looked from {self.annotations[min(self.annotations)]} on)")

    def mask(self, t: int) -> np.ndarray | None:
        """Label map `uint8 [H,W]` of frame `t` with 255 for void, or None where that frame has no mask."""
        if not 0 <= t < len(self):
            raise IndexError(f"frame {t} of {self.name} does not exist; it has frames 0 to {len(self) - 1}")
        file = self.annotations.get(t)
        return None if file is None else read_mask(file, self.size, white=self._white)

    @cached_property
    def _white(self) -> int:
        """White in a black-and-white mask: the object, or void where other masks of the sequence use labels."""
        for t in sorted(self.annotations)[:32]:
            if object_ids(read_mask(self.annotations[t], white=255)):
                return 255
        return 1

    @cached_property
    def objects(self) -> list[int]:
        """Labels of the objects in the mask of frame `start`, in order."""
        mask = self.mask(self.start)
        assert mask is not None
        return object_ids(mask)

    def check(self) -> None:
        """Read the headers of all files; raises InputError naming the first whose size differs, or a missing part."""
        height, width = self.size
        for file in self.annotations.values():
            found = image_size(file)
            if found != (height, width):
                raise InputError(f"mask {file} is {found[1]}x{found[0]} but the frames are {width}x{height} "
                                 "(width x height); resize it without smoothing")
        _ = self.start


class DavisFolder:
    """Sequences of a DAVIS-layout folder.

    Args:
        root: the folder that holds `JPEGImages/` and `Annotations/`.
        split: name of a list in `ImageSets/` (`val`, `2017/val`), or path of a text file with one sequence a line;
            without it, all sequences by name.
        resolution: name of the folder between `JPEGImages/` and the sequences, where there is one; by default `480p`,
            or the only one.
        check: look at every file's size before any work.
        prefetch: most frames that a sequence reads ahead.

    Raises:
        InputError: a part is missing, a listed sequence does not exist, or a mask has another size than its frames.
    """

    def __init__(self, root: str | PathLike[str], split: str | PathLike[str] | None = None, *,
                 resolution: str | None = None, check: bool = True, prefetch: int = 8) -> None:
        self.root = Path(root)
        self.split = None if split is None else str(split)
        if not self.root.is_dir():
            raise InputError(f"{root} is not a folder; give the folder that holds JPEGImages/ and Annotations/")
        images = self._images(resolution)
        annotations = self.root / "Annotations" / images.relative_to(self.root / "JPEGImages")
        if not annotations.is_dir():
            raise InputError(f"{annotations} does not exist; put the masks there, one folder for each sequence")
        names = _folders(images) if split is None else self._listed(Path(split))
        self._sequences = {name: Sequence(name, images / name, annotations / name, prefetch) for name in names}
        if check:
            for sequence in self:
                sequence.check()

    @property
    def names(self) -> list[str]:
        """Names of the sequences in the order of the split."""
        return list(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences.values())

    def __getitem__(self, name: str | int) -> Sequence:
        if isinstance(name, int):
            return list(self._sequences.values())[name]
        if name not in self._sequences:
            raise InputError(f"{self.root} has no sequence {name!r}; it has {_some(self.names)}")
        return self._sequences[name]

    def _images(self, resolution: str | None) -> Path:
        images = self.root / "JPEGImages"
        if not images.is_dir():
            raise InputError(f"{images} does not exist; give the folder that holds JPEGImages/ and Annotations/")
        if resolution is not None:
            if not (images / resolution).is_dir():
                raise InputError(f"{images / resolution} does not exist; there are {_some(_folders(images))}")
            return images / resolution
        folders = _folders(images)
        if not folders:
            raise InputError(f"{images} holds no sequences; it needs one folder of frames for each")
        nested = [name for name in folders if _folders(images / name) and not image_files(images / name)]
        if not nested:
            return images
        if "480p" not in nested and len(nested) > 1:
            raise InputError(f"{images} holds several resolutions ({_some(nested)}); choose one of them")
        return images / ("480p" if "480p" in nested else nested[0])

    def _listed(self, split: Path) -> list[str]:
        sets = self.root / "ImageSets"
        name = split if split.suffix == ".txt" else split.with_name(split.name + ".txt")
        places = [split, sets / name, sets / "2017" / name, sets / "2016" / name]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            lists = sorted(str(path.relative_to(sets).with_suffix("")) for path in sets.rglob("*.txt"))
            raise InputError(f"{self.root} has no split {split}; " + (f"it has {_some(lists)}" if lists else
                             f"write the names of the sequences, one a line, into {sets / name}"))
        lines = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines:
            raise InputError(f"{file} is empty; write the names of the sequences into it, one a line")
        # the lists of 2016 name every frame: /JPEGImages/480p/bear/00000.jpg
        return list(dict.fromkeys(line.split("/")[-2] if "." in line and "/" in line else line for line in lines))


def _folders(folder: Path) -> list[str]:
    return [path.name for path in sorted((path for path in folder.iterdir()
                                          if path.is_dir() and not path.name.startswith(".")), key=natural)]


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
