"""Where the truth of a score comes from: a dataset, or a folder that is recognised by what lies in it."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos.images import image_files, image_size
from lazyvos.masks.labels import object_ids, read_mask
from lazyvos.types import InputError


class MaskSequence:
    """A bare folder of label maps, one PNG for each frame: what a score needs of `lazyvos.datasets.base.Sequence`.

    Attributes: ``name``, and ``files``, the masks in natural order.
    """

    def __init__(self, folder: Path) -> None:
        self.name, self.folder = folder.name, folder
        self.files = image_files(folder, frozenset({".png"}))
        if not self.files:
            raise InputError(f"sequence {self.name} has no truth: {folder} holds no PNG masks")

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the first mask in pixels."""
        return image_size(self.files[0])

    @property
    def frame_names(self) -> list[str]:
        """Names of the files without their endings."""
        return [file.stem for file in self.files]

    @property
    def annotated(self) -> list[int]:
        """All frames."""
        return list(range(len(self.files)))

    @cached_property
    def _first(self) -> tuple[int, int, list[int]]:
        """What white means in a black-and-white mask, and the first frame with an object and its ids.

        White is void (255) where other masks of the folder use labels, else the object.
        """
        for white, files in ((255, self.files[:32]), (1, self.files)):
            for t, file in enumerate(files):
                if ids := object_ids(read_mask(file, white=white)):
                    return white, t, ids
        raise InputError(f"no mask of sequence {self.name} holds an object (looked into all of {self.folder})")

    @property
    def white(self) -> int:
        """White in a black-and-white mask: 1, or 255 for void."""
        return self._first[0]

    def mask(self, t: int) -> np.ndarray:
        """Label map ``uint8 [H, W]`` of frame ``t``."""
        return read_mask(self.files[t], self.size, white=self.white)

    @property
    def start(self) -> int:
        """First frame with an object; raises InputError where there is none."""
        return self._first[1]

    @property
    def objects(self) -> list[int]:
        """Ids in the mask of frame ``start``."""
        return self._first[2]

    @cached_property
    def entries(self) -> dict[int, int]:
        """For each object the first frame that shows it; looks through all masks."""
        found: dict[int, int] = {}
        for t in self.annotated:
            for k in object_ids(self.mask(t)):
                found.setdefault(k, t)
        return found

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """The whole clip for each object."""
        return dict.fromkeys(self.entries, (0, len(self)))


def open_truth(root: str | PathLike[str], split: str | PathLike[str] | None = None) -> tuple[str, list[Any]]:
    """Name of the protocol that a folder suggests, and its sequences.

    Understood are LVOS (a ``*_meta.json``), VOTS (``list.txt`` or ``sequences/``), DAVIS layout (``JPEGImages/``), and a bare
    folder of masks (``SEQUENCE/FRAME.png``). ``split`` is "val" and the like, a list in ``ImageSets/``, or a text file with one
    sequence a line, which works for every layout.

    Raises :class:`InputError` for another folder, or a split that names a sequence that is not there.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise InputError(f"truth {root} is not a folder; give a dataset's folder or one with a folder of masks for each sequence")
    names = None
    if split is not None and Path(split).is_file():
        lines = Path(split).read_text(encoding="utf-8").splitlines()
        names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    metas = [*folder.glob("*_meta.json"), *folder.glob("*/*_meta.json")]
    if metas:
        from lazyvos.datasets.lvos import Lvos

        kind = "val" if split is None or names is not None else str(split)
        own = folder.name if any(meta.name == f"{folder.name}_meta.json" for meta in metas) else None
        return "lvos", _chosen(list(Lvos(folder, own or kind)), names, root)
    if (folder / "list.txt").is_file() or (folder / "sequences").is_dir():
        from lazyvos.datasets.vots import Vots

        return "vots", _chosen(list(Vots(folder)), names, root)
    if (folder / "JPEGImages").is_dir():
        from lazyvos.datasets.davis import DavisFolder

        return "davis", list(DavisFolder(folder, split, check=False))
    if split is not None and names is None:
        raise InputError(f"{split} is no file; a bare folder of masks has no splits, so give a text file with one sequence a line")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if names is not None:
        inside = [folder / name for name in names]
        missing = [path.name for path in inside if not path.is_dir()]
        if missing:
            raise InputError(f"{root} lacks {len(missing)} of the sequences in {split}: {', '.join(missing[:5])}")
    if not inside:
        raise InputError(f"{root} holds no sequences; give a dataset's folder or one with a folder of masks for each sequence")
    return "davis", [MaskSequence(path) for path in inside]


def _chosen(sequences: list[Any], names: list[str] | None, root: str | PathLike[str]) -> list[Any]:
    if names is None:
        return sequences
    at = {sequence.name: sequence for sequence in sequences}
    missing = [name for name in names if name not in at]
    if missing:
        raise InputError(f"{root} lacks {len(missing)} of the sequences in the split: {', '.join(missing[:5])}")
    return [at[name] for name in names]
