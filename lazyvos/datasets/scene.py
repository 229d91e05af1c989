"""A small compositor: a backdrop, a camera and layers, rendered one frame at a time with exact masks.

Every frame depends on its index alone, so frames can be asked for in any order and a scene has no end.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from math import ceil, cos, floor, sin

import cv2
import numpy as np

from lazyvos.video import Source


@dataclass(frozen=True)
class Pose:
    """Where a layer is.

    Attributes:
        x, y: its centre in pixels of the frame (of the backdrop for a layer of the world).
        scale: pixels of the frame for one pixel of the sprite.
        angle: clockwise turn in radians.
        flip: mirrored left to right.
    """

    x: float
    y: float
    scale: float = 1.0
    angle: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Layer:
    """Something that is pasted over the backdrop.

    Attributes:
        sprite: `uint8 [h,w,4]`, colour times opacity and opacity (premultiplied RGBA).
        pose: gives the pose at frame t, or None where the layer is not there.
        label: 1 to 254 for an object, 0 for scenery (it hides what is behind it where its opacity is at least 1/2).
        warp: gives the elastic displacement at frame t, `float32 [g,g,2]` in sprite widths and heights.
        world: the pose is in pixels of the backdrop and moves with the camera.
        look: gives the sprite at frame t, of the same size and opacity as `sprite`, where its look changes.
    """

    sprite: np.ndarray
    pose: Callable[[int], Pose | None]
    label: int = 0
    warp: Callable[[int], np.ndarray] | None = None
    world: bool = False
    look: Callable[[int], np.ndarray] | None = None


@dataclass(frozen=True)
class Rendered:
    """One frame of a scene.

    Attributes:
        frame: `uint8 [H,W,3]` RGB.
        labels: `uint8 [H,W]`.
        shown: for each label, pixels that can be seen.
        area: for each label, pixels of the whole silhouette, hidden and outside parts included (0: far outside).
        inside: for each label, pixels of the silhouette inside the frame, hidden ones included.
    """

    frame: np.ndarray
    labels: np.ndarray
    shown: dict[int, int]
    area: dict[int, int]
    inside: dict[int, int]


@dataclass(frozen=True)
class Scene:
    """A backdrop `uint8 [h,w,3]`, a camera and layers from back to front.

    `camera(t)` says which point of the backdrop is in the middle of the frame, how many frame pixels one backdrop pixel
    takes (`scale`), and how far the picture is turned. `finish(frame, t)` changes the light, focus and noise of the
    composed frame.
    """

    size: tuple[int, int]
    backdrop: np.ndarray
    camera: Callable[[int], Pose]
    layers: tuple[Layer, ...]
    finish: Callable[[np.ndarray, int], np.ndarray] | None = None

    def render(self, t: int) -> Rendered:
        """Compose frame `t`."""
        height, width = self.size
        camera = self.camera(t)
        frame = cv2.warpAffine(self.backdrop, _to_frame(camera, self.size), (width, height),
                               flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        labels = np.zeros(self.size, np.uint8)
        area: dict[int, int] = {}
        inside: dict[int, int] = {}
        for layer in self.layers:
            pose = layer.pose(t)
            if pose is not None and layer.world:
                pose = _seen(pose, camera, self.size)
            whole, within = _paste(frame, labels, layer, pose, t) if pose is not None else (0, 0)
            if layer.label:
                area[layer.label] = area.get(layer.label, 0) + whole
                inside[layer.label] = inside.get(layer.label, 0) + within
        counts = np.bincount(labels.ravel(), minlength=256)
        shown = {label: int(counts[label]) for label in area}
        if self.finish is not None:
            frame = self.finish(frame, t)
        return Rendered(frame, labels, shown, area, inside)


@dataclass(frozen=True)
class ObjectState:
    """How much of an object a frame shows.

    Attributes:
        object: its label.
        visible: seen pixels over pixels of its whole silhouette, 0 to 1.
        occluded: more than a twentieth of what is inside the frame is hidden by something else.
        absent: not one pixel is seen.
        box: left, top, right, bottom of what is seen (right and bottom excluded), or None.
    """

    object: int
    visible: float
    occluded: bool
    absent: bool
    box: tuple[int, int, int, int] | None


class Clip(Source):
    """A rendered video with exact masks: a source whose frames and masks can be asked for in any order.

    `length` None never ends. Frames are drawn when asked for, and only the last one is kept.
    """

    def __init__(self, name: str, scene: Scene, length: int | None, fps: float | None = 25.0) -> None:
        super().__init__(name, scene.size, length, fps, prefetch=0)
        self.scene = scene
        self._last: tuple[int, Rendered] | None = None

    @property
    def objects(self) -> list[int]:
        """Labels of the objects, in order."""
        return sorted({layer.label for layer in self.scene.layers if layer.label})

    def mask(self, t: int) -> np.ndarray:
        """Exact label map `uint8 [H,W]` of frame `t`."""
        return self.rendered(t).labels

    def states(self, t: int) -> list[ObjectState]:
        """What frame `t` shows of each object, in the order of the labels."""
        drawn = self.rendered(t)
        found = []
        for label in self.objects:
            shown, inside, area = drawn.shown[label], drawn.inside[label], drawn.area[label]
            box = cv2.boundingRect((drawn.labels == label).astype(np.uint8)) if shown else None
            found.append(ObjectState(label, shown / area if area else 0.0, shown < 0.95 * inside, shown == 0,
                                     (box[0], box[1], box[0] + box[2], box[1] + box[3]) if box else None))
        return found

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames with their label maps, in order."""
        for t in count() if self.length is None else range(self.length):
            drawn = self.rendered(t)
            yield drawn.frame, drawn.labels

    def _frames(self) -> Iterator[np.ndarray]:
        return (frame for frame, _ in self.pairs())

    def _frame(self, t: int) -> np.ndarray:
        return self.rendered(t).frame

    def rendered(self, t: int) -> Rendered:
        """Frame `t` with its labels and the pixels of each object."""
        if t < 0 or (self.length is not None and t >= self.length):
            raise IndexError(f"frame {t} of {self.name} does not exist; it has {self.length or 'endless'} frames")
        last = self._last
        if last is None or last[0] != t:
            drawn = self.scene.render(t)
            drawn.frame.setflags(write=False)
            drawn.labels.setflags(write=False)
            self._last = last = (t, drawn)
        return last[1]


def _to_frame(camera: Pose, size: tuple[int, int]) -> np.ndarray:
    """Affine 2x3 from backdrop to frame."""
    c, s = camera.scale * cos(camera.angle), camera.scale * sin(camera.angle)
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    return np.array([[c, -s, x - c * camera.x + s * camera.y], [s, c, y - s * camera.x - c * camera.y]])


def _seen(pose: Pose, camera: Pose, size: tuple[int, int]) -> Pose:
    x, y = _to_frame(camera, size) @ (pose.x, pose.y, 1.0)
    return replace(pose, x=x, y=y, scale=pose.scale * camera.scale, angle=pose.angle + camera.angle)


def _paste(frame: np.ndarray, labels: np.ndarray, layer: Layer, pose: Pose, t: int) -> tuple[int, int]:
    """Draw a layer in place; returns the pixels of its silhouette, all and inside the frame."""
    height, width = labels.shape
    h, w = layer.sprite.shape[:2]
    x, y, scale = float(pose.x), float(pose.y), float(pose.scale)
    c, s = cos(pose.angle) * scale, sin(pose.angle) * scale
    grow = 1.15 if layer.warp is not None else 1.0
    reach_x = (abs(c) * w + abs(s) * h) / 2 * grow + 2
    reach_y = (abs(s) * w + abs(c) * h) / 2 * grow + 2
    left, right = floor(x - reach_x), ceil(x + reach_x)
    top, bottom = floor(y - reach_y), ceil(y + reach_y)
    if right < 0 or bottom < 0 or left >= width or top >= height:
        return 0, 0
    if not layer.label:  # the size of scenery is not asked for: stay inside the frame
        left, right, top, bottom = max(left, 0), min(right, width - 1), max(top, 0), min(bottom, height - 1)
    dx = (np.arange(left, right + 1, dtype=np.float64) - x) / scale ** 2
    dy = (np.arange(top, bottom + 1, dtype=np.float64) - y)[:, None] / scale ** 2
    turn = -1 if pose.flip else 1
    u = (turn * c * dx + (w - 1) / 2).astype(np.float32) + (turn * s * dy).astype(np.float32)
    v = (-s * dx + (h - 1) / 2).astype(np.float32) + (c * dy).astype(np.float32)
    if layer.warp is not None:
        field = cv2.resize(layer.warp(t), (32, 32), interpolation=cv2.INTER_CUBIC)
        move = cv2.remap(field, u * np.float32(31 / (w - 1)), v * np.float32(31 / (h - 1)), cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_REPLICATE)
        u += move[..., 0] * np.float32(w)
        v += move[..., 1] * np.float32(h)
    drawn = cv2.remap(layer.sprite if layer.look is None else layer.look(t), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    whole = int(np.count_nonzero(drawn[..., 3] >= 128)) if layer.label else 0
    y0, y1, x0, x1 = max(top, 0), min(bottom + 1, height), max(left, 0), min(right + 1, width)
    drawn = drawn[y0 - top:y1 - top, x0 - left:x1 - left]
    covers = drawn[..., 3] >= 128
    clear = 255 - drawn[..., 3:].astype(np.uint16)
    under = frame[y0:y1, x0:x1]
    under[:] = drawn[..., :3] + ((under * clear + 127) // 255).astype(np.uint8)
    labels[y0:y1, x0:x1][covers] = layer.label
    return whole, int(np.count_nonzero(covers))
