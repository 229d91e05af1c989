"""Draw the bundled clip again: `python -m lazyvos.datasets.make_bundled [FOLDER]`.

Writes the mp4 and the masks to FOLDER (default: `data/samples` of the source tree) and prints their sizes.
"""
from __future__ import annotations

import sys
from pathlib import Path

from lazyvos.datasets.bundled import FPS, MASKS, VIDEO, PackedMasks, bundled_clip
from lazyvos.masks.writers import VideoWriter


def make(folder: Path) -> tuple[Path, Path]:
    """Write the two files of the bundled clip into `folder`; returns their paths."""
    clip = bundled_clip()
    video, masks = folder / VIDEO, folder / MASKS
    with VideoWriter(video, FPS, crf=17, preset="slow") as writer:
        for frame in clip:
            writer.write(frame)
    PackedMasks.of(clip).save(masks)
    return video, masks


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "data" / "samples"
    for path in make(target):
        print(f"{path}: {path.stat().st_size} bytes")
