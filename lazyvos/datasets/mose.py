"""MOSE (Ding et al., 2023): `<split>/JPEGImages`, `<split>/Annotations` in DAVIS layout.

Every frame of the train split has a mask; of the valid split only the first frame (results go to a server).
"""
from __future__ import annotations

from os import PathLike
from pathlib import Path

from lazyvos.datasets.davis import DavisFolder


class Mose(DavisFolder):
    """A split of MOSE.

    Args:
        root: the folder that holds `valid/` and `train/`, or that split's folder itself.
        split: "train" or "valid".
        prefetch: most frames that a sequence reads ahead.
        name: what the dataset is called.
    """

    protocol = "vos"

    def __init__(self, root: str | PathLike[str], split: str = "valid", *, prefetch: int = 8, name: str | None = None) -> None:
        base = Path(root) / split if (Path(root) / split).is_dir() else Path(root)
        super().__init__(base, check=False, prefetch=prefetch, name=name or f"mose-{split}")
        self.split = split
