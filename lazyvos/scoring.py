"""Truth beside a clip: reading it from a folder, and scoring a run against it frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from lazyvos.images import image_files, image_size
from lazyvos.masks.labels import VOID, object_ids, read_mask
from lazyvos.metrics import DavisScorer, Score, region, summarise
from lazyvos.types import InputError
from lazyvos.video import FolderSource, Source


class TruthFolder:
    """Label maps of a folder of PNG files, by frame number: ``truth(t)`` is ``uint8 [H, W]`` or ``None``.

    The masks belong to the frames of the same file name where ``source`` is a folder of images; else, in natural order,
    to all frames where their number is that of the frames; else file ``00012.png`` belongs to frame 12. Not every frame
    needs a mask. Files are read when asked for; only their headers are read at once.

    Raises :class:`InputError` for a folder without masks, a mask of another size than the frames, or a name that
    fits no frame.
    """

    def __init__(self, folder: str | PathLike[str], source: Source) -> None:
        self.folder, self.size = Path(folder), source.size
        if not self.folder.is_dir():
            raise InputError(f"truth {folder} is not a folder; give a folder of PNG masks, one for each frame")
        files = image_files(self.folder, frozenset({".png"}))
        if not files:
            raise InputError(f"truth {folder} holds no PNG masks; give a folder of PNG masks, one for each frame")
        self._files = self._named(files, source)
        for file in files:
            found = image_size(file)
            if found != self.size:
                raise InputError(
                    f"mask {file} is {found[1]}x{found[0]} but the frames are {self.size[1]}x{self.size[0]} "
                    "(width x height); resize it without smoothing"
                )
        sample = [self._files[t] for t in sorted(self._files)[:32]]
        self._white = 255 if any(object_ids(read_mask(file, white=255)) for file in sample) else 1

    def _named(self, files: list[Path], source: Source) -> dict[int, Path]:
        if isinstance(source, FolderSource):
            at = {file.stem: t for t, file in enumerate(source.files)}
            if all(file.stem in at for file in files):
                return {at[file.stem]: file for file in files}
        if len(files) == source.length:
            return dict(enumerate(files))
        strange = next((file for file in files if not file.stem.isdecimal()), None)
        if strange is not None:
            raise InputError(f"mask {strange} belongs to no frame; name it after its frame, such as 00012.png for frame 12")
        return {int(file.stem): file for file in files}

    def __len__(self) -> int:
        return len(self._files)

    def __call__(self, t: int) -> np.ndarray | None:
        """Label map of frame ``t``, 255 = void; ``None`` where it has no mask."""
        file = self._files.get(t)
        return None if file is None else read_mask(file, self.size, white=self._white)


class Scoreboard:
    """Scores chosen objects of one sequence by the DAVIS protocol (see :class:`lazyvos.metrics.DavisScorer`).

    Every object is scored by itself, from the first truth that shows it, so that gaps in the ids and objects nobody
    tracks do not count. Nothing is kept but a few numbers per frame.
    """

    def __init__(self, sequence: str, objects: Iterable[int]) -> None:
        self.sequence = sequence
        self._scorers = {o: DavisScorer(sequence) for o in objects}

    def update(self, labels: np.ndarray, truth: np.ndarray) -> dict[int, float]:
        """Score one frame, label maps ``uint8 [H, W]`` (255 in the truth is void); returns J per object shown so far."""
        found = {}
        for identity, scorer in self._scorers.items():
            mine, true = (labels == identity).astype(np.uint8), truth == identity
            if scorer.frames or true.any():
                scorer.update(mine, np.where(truth == VOID, VOID, true).astype(np.uint8))
                found[identity] = region(mine, true)
        return found

    def result(self) -> Score:
        """Score so far; objects that no truth showed are left out."""
        scores = [
            Score(tuple(replace(o, id=identity) for o in scorer.result().objects))
            for identity, scorer in self._scorers.items()
            if scorer.frames
        ]
        return summarise(scores)
