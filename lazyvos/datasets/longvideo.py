"""LV1, the Long-time Video dataset (Liang et al., 2020): three videos of thousands of frames, few of them annotated."""
from __future__ import annotations

from os import PathLike

from lazyvos.datasets.davis import DavisFolder


class LongVideo(DavisFolder):
    """LV1 in its DAVIS layout: `JPEGImages/<sequence>/`, `Annotations/<sequence>/` with masks of some frames.

    `annotated` of a sequence names the frames with a mask; only they can be scored (thesis, section 2.3: every 30th).
    Arguments are those of `DavisFolder`; nothing is read ahead of need.
    """

    def __init__(self, root: str | PathLike[str], split: str | PathLike[str] | None = None, *, prefetch: int = 8,
                 name: str = "lv1") -> None:
        super().__init__(root, split, check=False, prefetch=prefetch, name=name)
