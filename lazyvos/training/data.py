"""Pictures and videos for training, decoded once into uint8 arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from lazyvos.masks.labels import VOID
from lazyvos.types import InputError


@dataclass
class Still:
    """One picture: ``image uint8 [H, W, 3]`` RGB and ``labels uint8 [H, W]`` (0 background, 255 void)."""

    image: np.ndarray
    labels: np.ndarray
    ids: list[int] = field(default_factory=list)


@dataclass
class Video:
    """One annotated video: ``frames`` of uint8 ``[H, W, 3]`` and ``labels`` of uint8 ``[H, W]``, all one size."""

    name: str
    frames: list[np.ndarray]
    labels: list[np.ndarray]
    weight: float = 1.0


def _labels(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        labels = np.array(file)
    if labels.ndim != 2:
        raise InputError(f"mask {path} has shape {labels.shape}; masks are label maps [H, W], save it as a palette PNG")
    return labels.astype(np.uint8)


def _shrink(image: np.ndarray, labels: np.ndarray, short_side: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = labels.shape
    scale = short_side / min(height, width)
    if scale >= 1:
        return image, labels
    size = (round(width * scale), round(height * scale))
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST),
    )


def visible_ids(labels: np.ndarray, least: float = 0.004) -> list[int]:
    """Object ids that cover at least the share ``least`` of a label map."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [i for i in range(1, VOID) if counts[i] >= least * labels.size]


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    found = {p.stem: p for p in sorted(images.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png")}
    wanted = {p.stem: p for p in sorted(masks.glob("*.png"))}
    missing = sorted(set(found) - set(wanted))
    if missing:
        raise InputError(f"{masks} has no mask {missing[0]}.png for {found[missing[0]]}; every picture needs one")
    return [(found[stem], wanted[stem]) for stem in found]


def load_stills(roots: Iterable[str | Path], short_side: int = 256, progress: bool = True) -> list[Still]:
    """Read folders that hold ``images/`` and ``masks/`` with equal file names.

    Raises :class:`InputError` when a folder or a mask is missing.
    """
    pairs: list[tuple[Path, Path]] = []
    for root in map(Path, roots):
        if not (root / "images").is_dir() or not (root / "masks").is_dir():
            raise InputError(f"{root} is no set of stills: it needs the folders images/ and masks/")
        pairs += _pairs(root / "images", root / "masks")
    stills = []
    for picture, mask in tqdm(pairs, desc="stills", unit="img", leave=False, disable=not progress):
        with Image.open(picture) as file:
            image = np.array(file.convert("RGB"))
        image, labels = _shrink(image, _labels(mask), short_side)
        ids = visible_ids(labels)
        if ids:
            stills.append(Still(image, labels, ids))
    return stills


def load_videos(
    roots: Iterable[str | Path],
    *,
    exclude: Sequence[str] = (),
    only: Sequence[str] | None = None,
    annotations: str = "Annotations",
    short_side: int = 320,
    weight: float = 1.0,
    progress: bool = True,
) -> list[Video]:
    """Read DAVIS-layout folders (``JPEGImages/<name>/``, ``<annotations>/<name>/``), leaving ``exclude`` out.

    ``only`` names the sequences to take from each folder (default: all that have masks). A sequence of ``weight`` 2
    is drawn twice as often as one of weight 1.

    Raises :class:`InputError` when a folder or a mask is missing, or ``only`` names a sequence that does not exist.
    """
    videos = []
    for root in map(Path, roots):
        if not (root / "JPEGImages").is_dir() or not (root / annotations).is_dir():
            raise InputError(f"{root} is no DAVIS-layout folder: it needs JPEGImages/ and {annotations}/")
        folders = sorted(path for path in (root / "JPEGImages").iterdir() if path.is_dir())
        absent = sorted(set(only or ()) - {folder.name for folder in folders if (root / annotations / folder.name).is_dir()})
        if absent:
            raise InputError(f"{root} has no sequence {absent[0]!r} in both JPEGImages/ and {annotations}/; correct the name")
        for folder in tqdm(folders, desc=root.name, unit="clip", leave=False, disable=not progress):
            masks = root / annotations / folder.name
            if folder.name in exclude or (only is not None and folder.name not in only) or not masks.is_dir():
                continue
            video = Video(folder.name, [], [], weight)
            for picture, mask in _pairs(folder, masks):
                with Image.open(picture) as file:
                    frame = np.array(file.convert("RGB"))
                frame, labels = _shrink(frame, _labels(mask), short_side)
                video.frames.append(frame)
                video.labels.append(labels)
            if video.frames:
                videos.append(video)
    return videos


def procedural_stills(count: int, seed: int, side: int = 224) -> list[Still]:
    """Random smooth blobs textured with noise on noise: training data where there is none at all."""
    rng = np.random.default_rng(seed)

    def texture() -> np.ndarray:
        image = np.zeros((side, side, 3), np.float32)
        for cells in (3, 9, 31):
            image += cv2.resize(rng.random((cells, cells, 3), np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        return np.clip(image * (255 / 3), 0, 255).astype(np.uint8)

    stills: list[Still] = []
    while len(stills) < count:
        angles = np.linspace(0, 2 * np.pi, 9, endpoint=False)
        radius = rng.uniform(0.08, 0.3) * side * rng.uniform(0.6, 1.4, 9)
        centre = rng.uniform(0.3, 0.7, 2) * side
        points = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], 1)
        labels = np.zeros((side, side), np.uint8)
        cv2.fillPoly(labels, [points.astype(np.int32)], 1)
        labels = (cv2.GaussianBlur(labels * 255, (0, 0), side / 40) > 127).astype(np.uint8)
        tint = rng.uniform(0.4, 1.6, 3)
        front = np.clip(texture() * tint, 0, 255).astype(np.uint8)
        image = np.where(labels[..., None] > 0, front, texture())
        if (ids := visible_ids(labels)):
            stills.append(Still(image, labels, ids))
    return stills
