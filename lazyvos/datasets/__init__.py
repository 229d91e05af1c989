"""Videos with masks: public benchmarks, DAVIS-layout folders, the generated benchmark, and the bundled clip.

`open_dataset` opens any of them; all of them look like `Dataset`, a table of `Sequence`.
"""
from __future__ import annotations

from lazyvos.datasets.base import Dataset, Sequence
from lazyvos.datasets.bundled import PackedMasks, bundled_clip, open_bundled
from lazyvos.datasets.catalog import Facts, catalog, data_folder, facts_of, open_dataset
from lazyvos.datasets.check import CheckReport, Problem, check_dataset
from lazyvos.datasets.davis import DavisFolder, FolderSequence, InteractiveDavis, Scribble, Scribbles
from lazyvos.datasets.generated import SUITES, Case, FrameAttributes, GeneratedBenchmark, Suite
from lazyvos.datasets.longvideo import LongVideo
from lazyvos.datasets.lvos import Lvos
from lazyvos.datasets.mose import Mose
from lazyvos.datasets.playlist import Playlist, PlaylistFolder
from lazyvos.datasets.scene import Clip, ObjectState
from lazyvos.datasets.synthetic import Difficulty, SyntheticClip
from lazyvos.datasets.vots import Vots, read_regions, vot_decode, vot_encode, write_regions
from lazyvos.datasets.youtube import YouTubeVOS

__all__ = [
    "SUITES",
    "Case",
    "CheckReport",
    "Clip",
    "Dataset",
    "DavisFolder",
    "Difficulty",
    "Facts",
    "FolderSequence",
    "FrameAttributes",
    "GeneratedBenchmark",
    "InteractiveDavis",
    "LongVideo",
    "Lvos",
    "Mose",
    "ObjectState",
    "PackedMasks",
    "Playlist",
    "PlaylistFolder",
    "Problem",
    "Scribble",
    "Scribbles",
    "Sequence",
    "Suite",
    "SyntheticClip",
    "Vots",
    "YouTubeVOS",
    "bundled_clip",
    "catalog",
    "check_dataset",
    "data_folder",
    "facts_of",
    "open_bundled",
    "open_dataset",
    "read_regions",
    "vot_decode",
    "vot_encode",
    "write_regions",
]
