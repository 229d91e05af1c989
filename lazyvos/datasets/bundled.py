"""The clip that comes with lazyvos: a horse in tabby fur that has to be followed for 200 frames.

It trots behind a pillar (partly hidden) and a wall (wholly hidden), meets another horse of the same fur, leaves the
frame, comes back nearer and the other way round under a cloud, and passes behind a bush. Everything is composed from
photographs in the public domain or under CC0; `data/samples/README.md` names them.
"""
from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from math import hypot
from os import PathLike
from pathlib import Path
from typing import overload

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

from lazyvos.datasets.motion import Gait, Wander, ramp
from lazyvos.datasets.photos import blob, cutout, hue_turned, landscape, photo, sprite, tiled, tinted
from lazyvos.datasets.scene import Clip, Layer, Pose, Scene
from lazyvos.masks.atomic import atomic_path
from lazyvos.types import InputError
from lazyvos.video import Source, open_source

LENGTH, SIZE, FPS, SEED = 200, (256, 456), 25.0, 7
VIDEO, MASKS = "tabby_horse.mp4", "tabby_horse_masks.npz"
"""Names of the two files in `data/samples`."""

# frame; x of the middle and y of the hooves in pixels of the backdrop; scale
_HERO = [(0, 290, 282, 0.92), (48, 460, 284, 0.95), (70, 570, 284, 0.95), (88, 700, 284, 0.95), (98, 755, 285, 0.96),
         (112, 890, 286, 1.0), (124, 975, 288, 1.02), (138, 1230, 290, 1.05), (145, 1400, 296, 1.1),
         (153, 1400, 318, 1.3), (163, 1215, 318, 1.3), (182, 1060, 320, 1.34), (200, 945, 322, 1.38)]
_OTHER = [(0, 1500, 276, 0.86), (80, 1200, 276, 0.86), (105, 1015, 290, 0.95), (120, 915, 293, 0.98),
          (140, 855, 291, 0.95), (165, 810, 290, 0.95), (200, 730, 288, 0.94)]
# frame; point of the backdrop in the middle of the frame; scale
_CAMERA = [(0, 345, 190, 1.06), (30, 400, 190, 1.06), (95, 760, 190, 1.08), (120, 935, 192, 1.06),
           (135, 1020, 192, 1.04), (200, 990, 200, 1.06)]


def bundled_clip() -> Clip:
    """The bundled clip, drawn anew: 200 frames of 456x256 at 25 frames/s, one object; exact masks from `mask(t)`."""
    return Clip("tabby horse", _scene(), LENGTH, fps=FPS)


class PackedMasks(Sequence[np.ndarray]):
    """Label maps `uint8 [H,W]` (0 and 1) by frame number, kept as one bit for each pixel.

    Attributes:
        visible: `float32 [T]`, share of the object's whole silhouette that each frame shows.
    """

    def __init__(self, bits: np.ndarray, width: int, visible: np.ndarray) -> None:
        self._bits, self._width, self.visible = bits, width, visible

    def __len__(self) -> int:
        return len(self._bits)

    @overload
    def __getitem__(self, t: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, t: slice) -> list[np.ndarray]: ...

    def __getitem__(self, t: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(t, slice):
            return [self[i] for i in range(*t.indices(len(self)))]
        return np.unpackbits(self._bits[t], axis=1, count=self._width)

    def save(self, path: str | PathLike[str]) -> None:
        """Write to `.npz`: changes from frame to frame, packed and compressed."""
        changes = self._bits.copy()
        changes[1:] ^= self._bits[:-1]
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, changes=changes, width=self._width, visible=self.visible)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> PackedMasks:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(np.bitwise_xor.accumulate(stored["changes"], axis=0), int(stored["width"]), stored["visible"])

    @classmethod
    def of(cls, clip: Clip) -> PackedMasks:
        """Draw all masks of a clip with one object."""
        bits = np.stack([np.packbits(labels > 0, axis=1) for _, labels in clip.pairs()])
        visible = np.array([clip.states(t)[0].visible for t in range(len(clip))], np.float32)
        return cls(bits, clip.size[1], visible)


def open_bundled(prefetch: int = 8) -> tuple[Source, PackedMasks]:
    """Open the clip that comes with the package: its frames (from the mp4) and its exact masks."""
    return open_source(sample(VIDEO), prefetch=prefetch), PackedMasks.load(sample(MASKS))


_unpacked = ExitStack()
atexit.register(_unpacked.close)


def sample(name: str) -> Path:
    """Path of a file of `data/samples`; raises InputError where the package lacks it."""
    beside = Path(__file__).resolve().parents[2] / "data" / "samples" / name
    if beside.is_file():
        return beside
    try:
        path = _unpacked.enter_context(as_file(files("lazyvos_data").joinpath("samples", name)))
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise InputError(f"the package lacks its sample {name}; install lazyvos again") from error
    if not path.is_file():
        raise InputError(f"the package lacks its sample {name}; install lazyvos again")
    return path


def _scene() -> Scene:
    rng = np.random.default_rng(SEED)
    horse = cutout("horse", 124, rng)
    hero, other = PchipInterpolator(*_keys(_HERO)), PchipInterpolator(*_keys(_OTHER))
    view, shake = PchipInterpolator(*_keys(_CAMERA)), Wander(rng, 3, 40)

    def camera(t: int) -> Pose:
        x, y, scale = view(t)
        a, b, c = shake(t)
        return Pose(x + 1.2 * a, y + 1.2 * b, scale, 0.004 * c)

    def trot(track: PchipInterpolator, turned: int) -> Layer:
        """A horse on its track, looking left from frame `turned` on."""
        def pose(t: int) -> Pose:
            x, y, scale = track(t)
            bounce = 2.5 * scale * np.sin(4 * np.pi * stride(t))
            return Pose(x, y + bounce - scale * horse.shape[0] / 2, scale, 0.03 * np.sin(2 * np.pi * stride(t)),
                        flip=t >= turned)

        def stride(t: int) -> float:
            return float(track(t)[0]) / 105

        return Layer(horse, pose, warp=Gait(stride), world=True)

    def shadow(track: PchipInterpolator) -> Layer:
        def pose(t: int) -> Pose:
            x, y, scale = track(t)
            return Pose(x, y - 3 * scale, scale)

        return Layer(_shadow(), pose, world=True)

    def still(picture: np.ndarray, x: float, base: float) -> Layer:
        place = Pose(x, base - picture.shape[0] / 2)
        return Layer(picture, lambda t: place, world=True)

    first, second = trot(hero, 149), trot(other, 0)
    layers = (
        shadow(hero), shadow(other),
        Layer(first.sprite, first.pose, 1, first.warp, world=True),
        Layer(hue_turned(horse, 0, 0.86), second.pose, 0, second.warp, world=True),
        still(_masonry("gravel", 42, 205, (1.0, 0.96, 0.9)), 450, 303),
        still(_masonry("brick", 192, 186, (1.25, 0.72, 0.6)), 720, 306),
        still(_bush(rng, 84), 1040, 348), still(_bush(rng, 60), 250, 345), still(_bush(rng, 48), 890, 340),
    )
    return Scene(SIZE, landscape(1500, 350, 150), camera, layers, _weather(rng, camera))


def _keys(rows: Sequence[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(rows, float)
    return table[:, 0], table[:, 1:]


def _shadow() -> np.ndarray:
    dark = np.zeros((34, 150), np.float32)
    cv2.ellipse(dark, (75, 17), (52, 6), 0, 0, 360, 0.42, -1)
    soft = cv2.GaussianBlur(dark, (0, 0), 5)
    return np.concatenate([np.zeros((34, 150, 3)), 255 * soft[..., None]], axis=-1).astype(np.uint8)


def _masonry(name: str, width: int, height: int, color: tuple[float, float, float]) -> np.ndarray:
    """An upright wall, darker at its foot and at its right side."""
    stone = cv2.resize(tiled(tinted(photo(name), color), height * 2, width * 2), (width, height),
                       interpolation=cv2.INTER_AREA).astype(np.float32)
    stone *= np.linspace(1.1, 0.72, height)[:, None, None] * np.linspace(1.05, 0.8, width)[None, :, None]
    return sprite(np.ones((height, width), bool), np.clip(stone, 0, 255).astype(np.uint8), height)


def _bush(rng: np.random.Generator, height: int) -> np.ndarray:
    """Leaves cut from the photograph of grass, with gaps to see through."""
    shape = cv2.resize(blob(rng, 0.25).astype(np.uint8), (2 * height, height)) > 0
    leaves = photo("grass")[100:100 + height, 60:60 + 2 * height]
    gaps = cv2.GaussianBlur(leaves[..., 0], (0, 0), 1.2) < 92
    edge = cv2.distanceTransform(np.pad(shape, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    return sprite(shape & ~(gaps & (edge < height / 5)), tinted(leaves, (0.55, 0.85, 0.35), 1.2), height, shade=0.35)


def _weather(rng: np.random.Generator, camera: Callable[[int], Pose]) -> Callable[[np.ndarray, int], np.ndarray]:
    """Light that flickers and sinks under a cloud, blur where the camera is fast, and grain."""
    height, width = SIZE
    flicker = Wander(rng, 1, 60)
    grain = np.clip(rng.normal(0, 2.2, (height + 32, width + 32, 3)), -10, 10).astype(np.int16)
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    vignette = (1.04 - 0.16 * (x ** 2 + y ** 2) ** 1.2)[..., None]

    def finish(frame: np.ndarray, t: int) -> np.ndarray:
        before, after = camera(t - 1), camera(t + 1)
        smear = int(0.25 * hypot(after.x - before.x, after.y - before.y))
        if smear > 1:
            frame = cv2.blur(frame, (smear, 1))
        light = (1 + 0.03 * float(flicker(t)[0])) * (1 - 0.32 * ramp((t - 140) / 22))
        tint = np.array([1.0, 1.0, 1.0]) + np.array([-0.04, 0.0, 0.05]) * ramp((t - 140) / 22)
        a, b = (t * 17) % 32, (t * 29) % 32
        lit = cv2.GaussianBlur(frame, (0, 0), 0.4) * (vignette * (light * tint)) + grain[a:a + height, b:b + width]
        return np.clip(lit, 0, 255).astype(np.uint8)

    return finish
