"""Seeded clips of any length with exact masks: things cut from photographs that move, hide, leave and come back.

Frame t depends on the configuration and on t alone: clips are repeatable, frames can be asked for in any order, and a
clip of a million frames takes no more memory than one of ten.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import cos, pi, radians, sin

import numpy as np

from lazyvos.datasets.appearance import Drift, Weather
from lazyvos.datasets.motion import Elastic, Gait, Wander, plateau
from lazyvos.datasets.photos import CUTOUTS, backdrop, covering, cutout, hue_turned, sprite
from lazyvos.datasets.scene import Clip, Layer, Pose, Scene
from lazyvos.types import InputError

LEVELS = {"easy": 0.0, "medium": 0.5, "hard": 1.0}
"""Named difficulties as arguments of `Difficulty.at`."""


@dataclass(frozen=True)
class Difficulty:
    """How hard a clip is.

    Attributes:
        speed: typical speed of an object, in hundredths of the frame height per frame.
        scaling: spread of its size, in octaves.
        turning: spread of its angle, in degrees.
        deformation: spread of its elastic displacement, in object sizes.
        camera: spread of the camera's path, in frame heights.
        occlusion: share of acts in which something passes in front of an object.
        cover: size of what passes, in sizes of the object; above about 1.2 it hides all of it for a while.
        absence: share of acts in which an object leaves the frame and comes back.
        lookalike: share of acts in which something of the same look passes by.
        light: spread of the brightness, overall and across the frame.
        blur: largest blur, in pixels.
        noise: spread of the grain, in grey levels.
        drift: spread of the slow change of an object's look; at 1 its hue turns by about 60 degrees and its texture
            fades into another one and back, over some hundred frames. The outline stays.
    """

    speed: float = 1.0
    scaling: float = 0.2
    turning: float = 10.0
    deformation: float = 0.03
    camera: float = 0.2
    occlusion: float = 0.4
    cover: float = 1.2
    absence: float = 0.25
    lookalike: float = 0.4
    light: float = 0.12
    blur: float = 0.7
    noise: float = 2.5
    drift: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise InputError(f"difficulty {name} is {value}; give 0 or more")
        if self.occlusion + self.absence > 1:
            raise InputError(f"occlusion {self.occlusion} and absence {self.absence} add up to more than 1; lower one")

    @classmethod
    def at(cls, level: float) -> Difficulty:
        """Difficulty on a line from easy (0) over medium (1/2) to hard (1)."""
        if not 0 <= level <= 1:
            raise InputError(f"difficulty is {level}; give 0 (easy) to 1 (hard)")
        return cls(**{name: (1 - level) * easy + level * hard
                      for (name, easy), hard in zip(asdict(_EASY).items(), asdict(_HARD).values(), strict=True)})


_EASY = Difficulty(0.4, 0.05, 3, 0.008, 0.05, 0.0, 0.6, 0.0, 0.0, 0.03, 0.0, 1.0)
_HARD = Difficulty(1.6, 0.35, 25, 0.04, 0.4, 0.55, 1.6, 0.4, 0.9, 0.22, 1.3, 4.0)


@dataclass(frozen=True)
class _Act:
    """What happens to one object in one stretch of frames; places in frames and turns."""

    kind: str  # "leave", "hide" or "rest"
    start: float
    end: float
    directions: tuple[float, float]
    prop: int
    twin: bool
    twin_start: float
    twin_end: float


class SyntheticClip(Clip):
    """A random clip.

    Args:
        seed: the clip; equal arguments give equal frames.
        length: number of frames, None for an endless clip.
        size: height and width in pixels, at least 64.
        objects: number of objects with masks, 1 to 20.
        difficulty: "easy", "medium", "hard", a level from 0 to 1, or a `Difficulty`.
        fps: frames per second that the clip claims.
        act: frames of one act; in each, an object may be hidden once or leave once, never at its beginning.
        kinds: which cut-outs (`photos.CUTOUTS`) to draw the objects from.

    Attributes:
        actors: for each object in order, the `Actor` that moves it.
        weather: the `Weather` over the frames.

    All objects are at least half visible in frame 0. Raises InputError for arguments outside these ranges.
    """

    def __init__(self, seed: int = 0, length: int | None = 200, size: tuple[int, int] = (240, 426), objects: int = 1,
                 difficulty: str | float | Difficulty = "medium", *, fps: float = 25.0, act: int = 100,
                 kinds: tuple[str, ...] = CUTOUTS) -> None:
        self.seed, self.act, self.kinds = int(seed), int(act), tuple(kinds)
        self.difficulty = _difficulty(difficulty)
        _check(self.seed, length, size, objects, self.act, self.kinds)
        self.actors: tuple[Actor, ...]
        self.weather: Weather
        for attempt in range(100):
            scene = _compose(self, (int(size[0]), int(size[1])), objects, attempt)
            super().__init__(f"synthetic-{seed}", scene, length, fps)
            if all(state.visible >= 0.5 for state in self.states(0)):
                return
        raise InputError(f"{objects} objects do not fit into a frame of {size[1]}x{size[0]}; ask for fewer")


def _difficulty(wanted: str | float | Difficulty) -> Difficulty:
    if isinstance(wanted, Difficulty):
        return wanted
    if isinstance(wanted, str):
        if wanted not in LEVELS:
            raise InputError(f"difficulty is {wanted!r}; give {', '.join(LEVELS)}, a level from 0 to 1, or a Difficulty")
        wanted = LEVELS[wanted]
    return Difficulty.at(float(wanted))


def _check(seed: int, length: int | None, size: tuple[int, int], objects: int, act: int, kinds: tuple[str, ...]) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}; give 0 or more")
    if length is not None and length < 1:
        raise InputError(f"length is {length}; give 1 or more frames, or None for an endless clip")
    if len(size) != 2 or min(size) < 64:
        raise InputError(f"size is {tuple(size)}; give height and width of at least 64 pixels")
    if not 1 <= objects <= 20:
        raise InputError(f"objects is {objects}; give 1 to 20")
    if act < 20:
        raise InputError(f"act is {act}; give 20 or more frames")
    if not kinds or not set(kinds) <= set(CUTOUTS):
        raise InputError(f"kinds is {kinds}; choose from {', '.join(CUTOUTS)}")


def _compose(clip: SyntheticClip, size: tuple[int, int], objects: int, attempt: int) -> Scene:
    hard = clip.difficulty
    rng = np.random.default_rng([clip.seed, attempt])
    height, width = size
    room = 1.25 + 2 * min(hard.camera, 1)
    place = backdrop(rng, round(width * room), round(height * room))
    order = [clip.kinds[i % len(clip.kinds)] for i in rng.permutation(max(objects, len(clip.kinds)))]
    props = [cutout("blob", round(height * 0.4), rng) for _ in range(2)] + [_pillar(rng, round(height * 0.6))]
    behind: list[Layer] = []
    things: list[Layer] = []
    front: list[Layer] = []
    actors = []
    for i in range(objects):
        actor = Actor(clip, size, i, objects, order[i], rng, attempt)
        actors.append(actor)
        things.append(Layer(actor.sprite, actor.pose, i + 1, actor.warp, look=actor.look))
        (behind if rng.random() < 0.5 else front).append(Layer(actor.twin, actor.twin_pose, 0, actor.warp))
        front += [Layer(prop, actor.hidden_by(n, prop)) for n, prop in enumerate(props)]
    camera = _camera(rng, hard, place, size)
    clip.actors, clip.weather = tuple(actors), Weather(rng, size, light=hard.light, blur=hard.blur, noise=hard.noise)
    return Scene(size, place, camera, (*behind, *things, *front), clip.weather)


class Actor:
    """One object: how it looks, where it goes, who passes."""

    def __init__(self, clip: SyntheticClip, size: tuple[int, int], index: int, objects: int, kind: str,
                 rng: np.random.Generator, attempt: int) -> None:
        hard = clip.difficulty
        self._height, self._width = size
        self._hard, self._act_frames = hard, clip.act
        tall = round(self._height * rng.uniform(0.26, 0.42) / objects ** 0.35)
        self.sprite = cutout(kind, max(tall, 16), rng)
        if rng.random() < 0.5:
            self.sprite = hue_turned(self.sprite, rng.uniform(-25, 25), rng.uniform(0.85, 1.1))
        alike = self.sprite if rng.random() < 0.6 else self.sprite[:, ::-1]
        self.twin = hue_turned(alike, rng.uniform(-12, 12), rng.uniform(0.8, 1.15))
        self._reach = 0.75 * max(self.sprite.shape[:2]) * 2 ** (2 * hard.scaling)
        self._spread = (0.33 * self._width / objects ** 0.5, 0.27 * self._height)
        self._home = (self._width * (index + 0.5) / objects, self._height / 2)
        step = max(hard.speed, 0.02) / 100 * self._height
        self._path = Wander(rng, 2, 2 * pi * 0.6 * self._spread[0] / step)
        self._form = Wander(rng, 2, 90)
        trot = kind == "horse" and hard.deformation > 0
        self.warp: Callable[[int], np.ndarray] | None = None
        if trot:
            self.warp = Gait(lambda t: t / 22, min(1.5, hard.deformation / 0.025))
        elif hard.deformation > 0:
            self.warp = Elastic(rng, hard.deformation, 45)
        self._act = lru_cache(maxsize=4)(lambda number: _draw_act(clip, index, number, attempt))
        # a source of its own, so that clips without drift stay what they were
        self._drift = Drift(np.random.default_rng([clip.seed, attempt, index, 0, 1]), self.sprite, hard.drift) if hard.drift else None
        self.look: Callable[[int], np.ndarray] | None = self._drift

    def drifted(self, t: int) -> float:
        """How far its look is from that of frame 0: 0 is alike, 1 about 60 degrees of hue or another texture."""
        return self._drift.amount(t) if self._drift is not None else 0.0

    def pose(self, t: int) -> Pose:
        """Along its path, or on the way out of the frame and back."""
        act = self._act(t // self._act_frames)
        x, y = self._home + np.array(self._spread) * np.tanh(0.8 * self._path(t))
        if act.kind == "leave":
            away = plateau(t, act.start, act.end, 0.3 * (act.end - act.start))
            turn = act.directions[t > (act.start + act.end) / 2]
            x += away * (self._edge(turn)[0] - x)
            y += away * (self._edge(turn)[1] - y)
        bigger, angle = self._form(t)
        return Pose(float(x), float(y), 2.0 ** float(self._hard.scaling * np.clip(bigger, -2, 2)),
                    radians(self._hard.turning) * float(angle))

    def _edge(self, turn: float) -> tuple[float, float]:
        """A point just outside the frame, in the direction `turn`."""
        x, y = cos(turn), sin(turn)
        far = min((self._width / 2 + self._reach) / max(abs(x), 1e-6), (self._height / 2 + self._reach) / max(abs(y), 1e-6))
        return self._width / 2 + far * x, self._height / 2 + far * y

    def twin_pose(self, t: int) -> Pose | None:
        """The look-alike crosses the frame on a straight line, close to the object."""
        act = self._act(t // self._act_frames)
        if not act.twin or not act.twin_start <= t <= act.twin_end:
            return None
        middle = self.pose(round((act.twin_start + act.twin_end) / 2))
        way = 2 * (t - act.twin_start) / (act.twin_end - act.twin_start) - 1
        side = 1 if act.directions[0] < pi else -1
        return Pose(middle.x + side * way * (self._width + self._reach), middle.y + 0.35 * self._reach * side,
                    middle.scale * 0.95, -middle.angle, flip=side < 0)

    def passed(self, t: int) -> bool:
        """Whether its look-alike is on its way across the frame."""
        return self.twin_pose(t) is not None

    def hidden_by(self, number: int, prop: np.ndarray) -> Callable[[int], Pose | None]:
        """Path of occluder `number`: it comes from outside, lingers in front of the object, and goes on."""
        size = self._hard.cover * max(self.sprite.shape[:2]) / min(prop.shape[:2])

        def pose(t: int) -> Pose | None:
            act = self._act(t // self._act_frames)
            if act.kind != "hide" or act.prop != number or not act.start <= t <= act.end:
                return None
            at = self.pose(t)
            way = 2 * (t - act.start) / (act.end - act.start) - 1
            far = (0.15 * way + 0.85 * way ** 3) * (self._width + self._reach * (1 + self._hard.cover))
            return Pose(at.x + far * cos(act.directions[0]), at.y + 0.3 * far * sin(act.directions[0]), size)

        return pose


def _draw_act(clip: SyntheticClip, index: int, number: int, attempt: int) -> _Act:
    rng = np.random.default_rng([clip.seed, attempt, index, number])
    first, frames, hard = number * clip.act, clip.act, clip.difficulty
    draw = rng.random()
    kind = "leave" if draw < hard.absence else "hide" if draw < hard.absence + hard.occlusion else "rest"
    start = first + frames * rng.uniform(0.12, 0.3)
    twin_start = first + frames * rng.uniform(0.1, 0.45)
    turns = rng.uniform(0, 2 * pi, 2)
    return _Act(kind, start, start + frames * rng.uniform(0.5, 0.68), (float(turns[0]), float(turns[1])),
                int(rng.integers(3)), bool(rng.random() < hard.lookalike), twin_start, twin_start + 0.5 * frames)


def _pillar(rng: np.random.Generator, height: int) -> np.ndarray:
    shape = np.ones((2 * height, height), bool)
    return sprite(shape, covering(str(rng.choice(["brick", "gravel"])), shape.shape, rng), height)


def _camera(rng: np.random.Generator, hard: Difficulty, place: np.ndarray, size: tuple[int, int]) -> Callable[[int], Pose]:
    wander = Wander(rng, 4, 150)
    middle = np.array([place.shape[1], place.shape[0]]) / 2

    def camera(t: int) -> Pose:
        x, y, zoom, angle = wander(t)
        move = 0.5 * hard.camera * size[0]
        return Pose(float(middle[0] + move * x), float(middle[1] + 0.5 * move * y),
                    1.08 + 0.12 * min(hard.camera, 1) * float(np.tanh(zoom)), 0.1 * hard.camera * float(angle))

    return camera
