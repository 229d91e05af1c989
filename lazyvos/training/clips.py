"""Training clips: stills set in motion, and windows of real videos, with pasted second objects.

A clip is a function of its seed alone, so that a resumed run sees the same data.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lazyvos.training.data import VOID, Still, Video, visible_ids


@dataclass(frozen=True)
class ClipSpec:
    """What one clip looks like: ``frames`` of ``side``×``side`` pixels with up to ``objects`` objects."""

    side: int
    frames: int
    objects: int
    max_gap: int = 10
    video_share: float = 0.3


@dataclass
class Clip:
    """``frames uint8 [T, S, S, 3]``, ``labels uint8 [T, S, S]`` (1..n, 255 void)."""

    frames: np.ndarray
    labels: np.ndarray


class Motion:
    """A smooth random path of position, angle, scale, shear and elastic grid, one pose per frame."""

    def __init__(self, rng: np.random.Generator, frames: int, side: int, strength: float, elastic: float) -> None:
        def walk(step: float) -> np.ndarray:
            drift = rng.normal(0, step)
            return np.cumsum(np.r_[0, drift * 0.7 + rng.normal(0, step * 0.7, frames - 1)])

        self.side = side
        self.shift = np.stack([walk(0.06 * strength * side), walk(0.06 * strength * side)], 1)
        self.angle = np.deg2rad(walk(7 * strength))
        self.scale = np.exp(walk(0.07 * strength))
        self.shear = walk(0.06 * strength)
        self.stretch = np.exp(walk(0.04 * strength))
        grids = rng.normal(0, 1, (frames, 5, 5, 2)).astype(np.float32)
        self.elastic = np.cumsum(grids, 0) / np.sqrt(np.arange(1, frames + 1))[:, None, None, None] * elastic * side

    def maps(
        self, t: int, source: np.ndarray, at: np.ndarray, zoom: float, flip: bool, turn: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixel maps (output → source) for frame ``t``: the source point ``source`` lands on ``at``."""
        angle, scale = self.angle[t] + turn, zoom * self.scale[t]
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        warp = np.array([[self.stretch[t], self.shear[t]], [0, 1 / self.stretch[t]]])
        forward = scale * rotation @ warp @ np.diag([-1.0 if flip else 1.0, 1.0])
        inverse = np.linalg.inv(forward).astype(np.float32)
        ys, xs = np.mgrid[0 : self.side, 0 : self.side].astype(np.float32)
        xs = xs - np.float32(at[0] + self.shift[t, 0])
        ys = ys - np.float32(at[1] + self.shift[t, 1])
        bend = cv2.resize(self.elastic[t].astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_CUBIC)
        xs, ys = xs + bend[..., 0], ys + bend[..., 1]
        return (
            inverse[0, 0] * xs + inverse[0, 1] * ys + np.float32(source[0]),
            inverse[1, 0] * xs + inverse[1, 1] * ys + np.float32(source[1]),
        )


def _warp(image: np.ndarray, maps: tuple[np.ndarray, np.ndarray], nearest: bool = False) -> np.ndarray:
    return cv2.remap(
        image, maps[0], maps[1], cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip


def _centre(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean point (x, y) and square root of the area of a mask, in pixels."""
    ys, xs = np.nonzero(mask)
    return np.array([xs.mean(), ys.mean()]), float(np.sqrt(len(xs)))


class ClipMaker:
    """Draws clips from stills and videos.

    Modes: a still moved as a whole; a cut-out moved over another still or over a real video; a second cut-out
    that is a second object, an occluder, or a look-alike (the same cut-out, labelled background).
    """

    def __init__(self, stills: list[Still], videos: list[Video]) -> None:
        if not stills and not videos:
            raise ValueError("no training data: give stills, videos, or use the procedural generator")
        self.stills, self.videos = stills, videos
        weights = np.array([v.weight for v in videos], float)
        self._odds = weights / weights.sum() if len(videos) else weights

    def draw(self, seed: tuple[int, ...], spec: ClipSpec) -> Clip:
        """One clip, a function of ``seed`` and ``spec``; every wanted object is visible in frame 0."""
        rng = np.random.default_rng(seed)
        for _ in range(20):
            real = bool(self.videos) and (not self.stills or rng.random() < spec.video_share)
            clip = self._video(rng, spec) if real else self._still(rng, spec)
            counts = np.bincount(clip.labels[0].ravel(), minlength=256)
            if all(counts[i] >= 0.003 * spec.side**2 for i in range(1, spec.objects + 1)):
                break
        frames = _colours(rng, clip.frames)
        return Clip(frames, clip.labels)

    def _still(self, rng: np.random.Generator, spec: ClipSpec) -> Clip:
        still = self.stills[rng.integers(len(self.stills))]
        ids = list(rng.permutation(still.ids))
        side, frames = spec.side, spec.frames
        wanted = ids[: spec.objects]
        roles = np.zeros(256, np.uint8)
        roles[VOID] = VOID
        for role, identity in enumerate(wanted, 1):
            roles[identity] = role
        labels = roles[still.labels]
        target = labels == 1
        centre, extent = _centre(target)
        motion = Motion(rng, frames, side, rng.choice([0.3, 0.7, 1.2]), rng.choice([0.0, 0.008, 0.016]))
        cover = side / min(still.image.shape[:2])
        zoom = cover * rng.uniform(0.9, 1.7)
        zoom = min(zoom, 0.75 * side / extent)
        at = np.array([side, side]) * rng.uniform(0.3, 0.7, 2)
        flip, turn = rng.random() < 0.5, np.deg2rad(rng.normal(0, 8))
        if rng.random() < 0.3:  # cut out: the object moves over another picture
            behind = self.stills[rng.integers(len(self.stills))]
            clip = self._backdrop(rng, behind, spec)
            self._paste(rng, clip, still.image, target, role=1)
        else:
            out = np.empty((frames, side, side, 3), np.uint8)
            marks = np.empty((frames, side, side), np.uint8)
            for t in range(frames):
                maps = motion.maps(t, centre, at, zoom, flip, turn)
                out[t], marks[t] = _warp(still.image, maps), _warp(labels, maps, nearest=True)
            clip = Clip(out, marks)
        self._second(rng, clip, spec, (still.image, target))
        return clip

    def _backdrop(self, rng: np.random.Generator, still: Still, spec: ClipSpec) -> Clip:
        side = spec.side
        motion = Motion(rng, spec.frames, side, rng.choice([0.2, 0.7]), 0.0)
        size = np.array(still.image.shape[1::-1])
        zoom = side / size.min() * rng.uniform(1.1, 1.6)
        frames = np.empty((spec.frames, side, side, 3), np.uint8)
        for t in range(spec.frames):
            maps = motion.maps(t, size / 2, np.array([side / 2, side / 2]), zoom, False, 0.0)
            frames[t] = cv2.remap(still.image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return Clip(frames, np.zeros((spec.frames, side, side), np.uint8))

    def _second(
        self, rng: np.random.Generator, clip: Clip, spec: ClipSpec, own: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Paste a second object, an occluder or a look-alike over the clip, where the dice say so."""
        have = len(visible_ids(np.where(clip.labels[0] == VOID, 0, clip.labels[0]), 0.003))
        if not self.stills:
            return
        if have < spec.objects:
            other = self.stills[rng.integers(len(self.stills))]
            self._paste(rng, clip, other.image, other.labels == rng.choice(other.ids), role=have + 1)
        dice = rng.random()
        if dice < 0.25:
            self._paste(rng, clip, *own, role=0, aside=True)
        elif dice < 0.55:
            other = self.stills[rng.integers(len(self.stills))]
            self._paste(rng, clip, other.image, other.labels == rng.choice(other.ids), role=0)

    def _paste(
        self, rng: np.random.Generator, clip: Clip, image: np.ndarray, mask: np.ndarray, role: int, aside: bool = False
    ) -> None:
        frames, side = clip.labels.shape[:2]
        if not mask.any():
            return
        centre, extent = _centre(mask)
        zoom = side * rng.uniform(0.12, 0.5) / extent
        motion = Motion(rng, frames, side, rng.choice([0.7, 1.3, 2.2]), rng.choice([0.0, 0.01]))
        at = side * rng.uniform(0.1, 0.9, 2)
        flip, turn = rng.random() < 0.5, np.deg2rad(rng.normal(0, 12))
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
        for t in range(frames):
            maps = motion.maps(t, centre, at, zoom, flip, turn)
            alpha = cv2.remap(soft, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
            if aside and t == 0 and ((alpha > 0.5) & (clip.labels[0] > 0)).sum() > 0.3 * (clip.labels[0] > 0).sum():
                return
            colour = cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            blend = clip.frames[t] + alpha[..., None] * (colour.astype(np.float32) - clip.frames[t])
            clip.frames[t] = blend.astype(np.uint8)
            clip.labels[t][alpha > 0.5] = role

    def _video(self, rng: np.random.Generator, spec: ClipSpec) -> Clip:
        video = self.videos[rng.choice(len(self.videos), p=self._odds)]
        length, side = len(video.frames), spec.side
        times = [int(rng.integers(length))]
        gap = int(rng.integers(1, spec.max_gap + 1))
        direction = 1 if rng.random() < 0.5 else -1
        for _ in range(spec.frames - 1):
            step = direction * int(rng.integers(1, gap + 1))
            if not 0 <= times[-1] + step < length:
                direction, step = -direction, -step
            times.append(int(np.clip(times[-1] + step, 0, length - 1)))
        first = video.labels[times[0]]
        ids = visible_ids(first, 0.0015)
        roles = np.zeros(256, np.uint8)
        roles[VOID] = VOID
        pasted_only = bool(self.stills) and rng.random() < 0.15
        if ids and not pasted_only:
            for role, identity in enumerate(rng.permutation(ids)[: spec.objects], 1):
                roles[identity] = role
        marked = roles[first] == 1
        height, width = first.shape
        centre = _centre(marked)[0] if marked.any() else np.array([width, height]) * rng.uniform(0.3, 0.7, 2)
        zoom = side / height * rng.uniform(0.75, 1.8)
        visible = side / zoom
        centre = centre + rng.uniform(-0.3, 0.3, 2) * visible
        for axis, limit in enumerate((width, height)):  # keep the window inside the picture where it fits
            if visible < limit:
                centre[axis] = np.clip(centre[axis], visible / 2, limit - visible / 2)
        motion = Motion(rng, spec.frames, side, 0.25 * rng.random(), 0.0)
        flip, turn = rng.random() < 0.5, np.deg2rad(rng.normal(0, 4))
        frames = np.empty((spec.frames, side, side, 3), np.uint8)
        labels = np.empty((spec.frames, side, side), np.uint8)
        for k, t in enumerate(times):
            maps = motion.maps(k, centre, np.array([side / 2, side / 2]), zoom, flip, turn)
            frames[k] = _warp(video.frames[t], maps)
            labels[k] = _warp(roles[video.labels[t]], maps, nearest=True)
        clip = Clip(frames, labels)
        have = len(visible_ids(np.where(labels[0] == VOID, 0, labels[0]), 0.003))
        if self.stills and (have < spec.objects or rng.random() < 0.25):
            other = self.stills[rng.integers(len(self.stills))]
            role = have + 1 if have < spec.objects else 0
            self._paste(rng, clip, other.image, other.labels == rng.choice(other.ids), role)
            if have + 1 < spec.objects:
                other = self.stills[rng.integers(len(self.stills))]
                self._paste(rng, clip, other.image, other.labels == rng.choice(other.ids), have + 2)
        return clip


def _colours(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Shared colour jitter, slight per-frame light changes, channel permutation, grey and blur by chance."""
    lut = np.arange(256, dtype=np.float32)[None, :, None] / 255
    gain, bias = rng.uniform(0.7, 1.3, 3) * rng.uniform(0.8, 1.2), rng.uniform(-0.08, 0.08, 3)
    gamma = np.exp(rng.normal(0, 0.2))
    out = frames
    if rng.random() < 0.12:
        out = out[..., rng.permutation(3)]
    if rng.random() < 0.06:
        out = np.repeat(out.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    drift = np.cumsum(rng.normal(0, 0.02, len(frames)))
    blur = rng.random(len(frames)) < (0.25 if rng.random() < 0.3 else 0.03)
    result = np.empty(out.shape, np.uint8)
    for t, frame in enumerate(out):
        table = np.clip((lut**gamma) * (gain + drift[t]) + bias, 0, 1) * 255
        frame = cv2.LUT(np.ascontiguousarray(frame), table.astype(np.uint8))
        if blur[t]:
            length = int(rng.integers(3, 8))
            kernel = np.zeros((length, length), np.float32)
            if rng.random() < 0.5:
                kernel[length // 2] = 1 / length
            else:
                kernel[:, length // 2] = 1 / length
            frame = cv2.filter2D(frame, -1, kernel)
        result[t] = frame
    return result
