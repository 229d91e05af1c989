"""Videos with masks: DAVIS-layout folders, seeded random clips, and the bundled clip."""
from __future__ import annotations

from lazyvos.datasets.bundled import PackedMasks, bundled_clip, open_bundled
from lazyvos.datasets.davis import DavisFolder, Sequence
from lazyvos.datasets.scene import Clip, ObjectState
from lazyvos.datasets.synthetic import Difficulty, SyntheticClip

__all__ = [
    "Clip",
    "DavisFolder",
    "Difficulty",
    "ObjectState",
    "PackedMasks",
    "Sequence",
    "SyntheticClip",
    "bundled_clip",
    "open_bundled",
]
