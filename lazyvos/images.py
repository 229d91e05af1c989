"""Still images: find them in a folder, check that they belong together, read them."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from lazyvos.types import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_ORIENTATION, _TURNED = 0x0112, frozenset({5, 6, 7, 8})  # EXIF tag, and its values that swap the sides


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key under which `frame2` comes before `frame10`."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower())
            for part in re.split(r"(\d+)", path.name) if part]


def image_files(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """JPEG and PNG files of a folder in natural order, hidden ones left out; raises InputError without a folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the images")
    return sorted((file for file in folder.iterdir()
                   if file.suffix.lower() in suffixes and not file.name.startswith(".")), key=natural)


def image_size(file: Path) -> tuple[int, int]:
    """Height and width of an image as shown, read from its header; raises InputError where it is no image."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION) in _TURNED
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{file} is not an image that can be read; remove it or write it again") from error
    return (width, height) if turned else (height, width)


def common_size(files: Sequence[Path]) -> tuple[int, int]:
    """Height and width that all images share; raises InputError naming the first that differs from most others."""
    sizes = [image_size(file) for file in files]
    size = Counter(sizes).most_common(1)[0][0]
    for file, other in zip(files, sizes, strict=True):
        if other != size:
            raise InputError(f"{file} is {other[1]}x{other[0]} but most images beside it are {size[1]}x{size[0]} "
                             "(width x height); resize it or remove it")
    return size


def read_image(file: Path) -> np.ndarray:
    """Read an image as `uint8 [H,W,3]` RGB, turned as its EXIF tag says; raises InputError where it is damaged."""
    data = np.fromfile(file, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(f"{file} is damaged; remove it or write it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_frame(frame: Any, size: tuple[int, ...], t: int, name: str) -> np.ndarray:
    """Return frame `t` of source `name`; raises InputError unless it is `uint8 [H,W,3]` of that size `(H, W)`."""
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(f"frame {t} of {name} is {frame.dtype} {list(frame.shape)}; frames are uint8 [H,W,3] in RGB")
    if frame.shape[:2] != tuple(size):
        raise InputError(f"frame {t} of {name} is {frame.shape[1]}x{frame.shape[0]} but the first is "
                         f"{size[1]}x{size[0]} (width x height); resize them to one size")
    return frame
