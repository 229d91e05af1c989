"""The generated benchmark: named suites of seeded clips of any length, with exact masks, visibility and attributes.

A suite is a list of cases, a case a `Difficulty` and a number of objects; each case is drawn for each seed. Nothing is
downloaded or stored: equal arguments give equal pixels on every machine with the same versions of NumPy and OpenCV.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import hypot
from typing import Any

import numpy as np

from lazyvos.datasets.base import Table
from lazyvos.datasets.synthetic import Difficulty, SyntheticClip
from lazyvos.types import InputError

_CALM = Difficulty.at(0.0)


def _alone(attribute: str, level: float) -> Difficulty:
    """A calm clip but for one attribute, at a level from 0 (calm) to 1 (as hard as it gets)."""
    return replace(_CALM, **_RAMPS[attribute](level))


_RAMPS: dict[str, Callable[[float], dict[str, float]]] = {
    "drift": lambda x: {"drift": 1.2 * x},
    "occlusion": lambda x: {"occlusion": min(1.0, 0.4 + 0.6 * x), "cover": 0.5 + 1.3 * x},
    "reentry": lambda x: {"absence": x},
    "lookalike": lambda x: {"lookalike": x},
    "scale": lambda x: {"scaling": 0.05 + 0.6 * x},
    "camera": lambda x: {"camera": 0.05 + 0.75 * x},
    "blur": lambda x: {"blur": 3.0 * x},
    "light": lambda x: {"light": 0.03 + 0.37 * x, "noise": 1 + 5 * x},
    "motion": lambda x: {"speed": 0.4 + 2.6 * x, "turning": 3 + 37 * x, "deformation": 0.008 + 0.04 * x},
}

ATTRIBUTES = (*_RAMPS, "objects")
"""What can make a clip hard: drift of appearance, occlusion, exit and re-entry, look-alikes, scale, camera motion,
blur, light, the object's own motion, several objects."""


@dataclass(frozen=True)
class Case:
    """A kind of clip: its name in the suite, how hard it is, how many objects, and which attributes it is about."""

    name: str
    difficulty: Difficulty
    objects: int = 1
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A list of cases with the seeds, length (frames) and size (height, width) it is meant for.

    `act` is the number of frames in which each object may be hidden or leave once (`SyntheticClip`).
    """

    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    length: int
    size: tuple[int, int]
    act: int = 100


def _graded(levels: tuple[tuple[str, float], ...]) -> tuple[Case, ...]:
    alone = [Case(f"{name}-{grade}" if len(levels) > 1 else name, _alone(name, level), 1, (name,))
             for name in _RAMPS for grade, level in levels]
    many = [Case(f"objects-{grade}" if len(levels) > 1 else "objects", _CALM, 2 + round(4 * level), ("objects",))
            for grade, level in levels]
    return (*alone, *many)


_ALL = replace(Difficulty.at(1.0), drift=0.8)
_GRADES = (("easy", 0.25), ("medium", 0.6), ("hard", 1.0))
_TOUGH = ("drift", "occlusion", "reentry", "lookalike", "scale", "camera", "blur", "light", "motion")

SUITES: dict[str, Suite] = {
    "smoke": Suite((
        Case("calm", _CALM),
        Case("hidden", replace(_alone("occlusion", 0.8), lookalike=1.0), 1, ("occlusion", "lookalike")),
        Case("away", replace(_alone("reentry", 1.0), drift=0.5), 2, ("reentry", "drift", "objects")),
    ), (0,), 24, (96, 160), 24),
    "attributes": Suite(_graded((("hard", 1.0),)), (0, 1), 120, (240, 426)),
    "graded": Suite(_graded(_GRADES), (0, 1, 2), 200, (240, 426)),
    "multi": Suite(tuple(Case(f"{n}-objects", Difficulty.at(0.5), n, ("objects", "occlusion", "lookalike", "reentry"))
                         for n in (2, 3, 5, 8)), (0, 1, 2), 200, (240, 426)),
    "mixed": Suite((
        Case("easy", Difficulty.at(0.0), 2, ("objects",)),
        Case("medium", Difficulty.at(0.5), 2, ("objects", *_TOUGH[1:])),
        Case("hard", _ALL, 2, ("objects", *_TOUGH)),
    ), (0, 1, 2, 3), 200, (240, 426)),
    "long": Suite((
        Case("medium", replace(Difficulty.at(0.5), drift=0.5), 1, _TOUGH),
        Case("hard", _ALL, 1, _TOUGH),
        Case("crowd", _ALL, 3, ("objects", *_TOUGH)),
    ), (0, 1), 2000, (240, 426)),
}
"""The named suites. `smoke` is for tests; `attributes` and `graded` change one thing at a time; `multi`, `mixed` and
`long` change many."""


@dataclass(frozen=True)
class FrameAttributes:
    """What makes one frame hard for one object.

    Attributes:
        object: its id.
        visible: seen pixels over pixels of its whole silhouette, 0 to 1.
        absent: not one pixel is seen.
        occluded: more than a twentieth of what is inside the frame is hidden by something else.
        outside: share of its silhouette outside the frame, 0 to 1.
        lookalike: something of the same look is on its way across the frame.
        drift: how far its look is from that of frame 0, 0 to 1.
        scale: side of a square of its silhouette's area, over that of frame 0; None where it is far outside.
        camera: movement of the camera since the frame before, in pixels of the frame.
        blur: spread of the blur in pixels.
        light: brightness of the frame; 1 is neutral.
    """

    object: int
    visible: float
    absent: bool
    occluded: bool
    outside: float
    lookalike: bool
    drift: float
    scale: float | None
    camera: float
    blur: float
    light: float


class GeneratedSequence:
    """One clip of the generated benchmark; a `lazyvos.datasets.base.Sequence`. It is drawn when first asked for.

    Attributes:
        name: case and seed, as `occlusion-hard-s2`.
        tags: the attributes that the clip is about, of `ATTRIBUTES`.
        case: what it is drawn from.
        seed: which clip of the case.
    """

    def __init__(self, case: Case, seed: int, length: int, size: tuple[int, int], act: int, fps: float) -> None:
        self.name, self.case, self.seed, self.tags = f"{case.name}-s{seed}", case, seed, case.tags
        self._length, self._size, self._act, self._fps = length, size, act, fps

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"GeneratedSequence({self.name!r}, {len(self)} frames, {self.case.objects} objects)"

    @cached_property
    def frames(self) -> SyntheticClip:
        """The clip itself, which is a source; frames and masks can be asked for in any order."""
        clip = SyntheticClip(self.seed, self._length, self._size, self.case.objects, self.case.difficulty,
                             fps=self._fps, act=self._act)
        clip.name = self.name
        return clip

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self._size

    @property
    def start(self) -> int:
        """Always 0: all objects are at least half visible there."""
        return 0

    @property
    def objects(self) -> list[int]:
        """Ids of the objects, from 1."""
        return list(range(1, self.case.objects + 1))

    @property
    def frame_names(self) -> list[str]:
        """Frame numbers in five digits."""
        return [f"{t:05d}" for t in range(len(self))]

    @property
    def entries(self) -> dict[int, int]:
        """For each object, the first frame with a mask of it: 0."""
        return dict.fromkeys(self.objects, 0)

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """For each object, the frames that are scored: all."""
        return dict.fromkeys(self.objects, (0, len(self)))

    @property
    def annotated(self) -> list[int]:
        """Frames with truth: all."""
        return list(range(len(self)))

    def mask(self, t: int) -> np.ndarray:
        """Exact label map `uint8 [H,W]` of frame `t`."""
        return self.frames.mask(t)

    def attributes(self, t: int) -> dict[int, FrameAttributes]:
        """What makes frame `t` hard, for each object."""
        clip = self.frames
        drawn = clip.rendered(t)
        now, before = clip.scene.camera(t), clip.scene.camera(max(t - 1, 0))
        moved = hypot(now.x - before.x, now.y - before.y) * now.scale
        found = {}
        for state, actor in zip(clip.states(t), clip.actors):
            area, inside = drawn.area[state.object], drawn.inside[state.object]
            found[state.object] = FrameAttributes(
                state.object, state.visible, state.absent, state.occluded, 1 - inside / area if area else 1.0,
                actor.passed(t), actor.drifted(t), (area / self._first[state.object]) ** 0.5 if area else None,
                moved, clip.weather.blur(t), clip.weather.light(t))
        return found

    @cached_property
    def _first(self) -> dict[int, int]:
        return dict(self.frames.rendered(0).area)

    @property
    def description(self) -> dict[str, Any]:
        """Everything that decides the pixels, as plain JSON values; equal descriptions mean equal clips."""
        return {"case": self.case.name, "seed": self.seed, "objects": self.case.objects, "length": self._length,
                "size": list(self._size), "act": self._act, "difficulty": asdict(self.case.difficulty)}


class GeneratedBenchmark(Table[GeneratedSequence]):
    """A suite of drawn clips; a `lazyvos.datasets.base.Dataset`.

    Args:
        suite: one of `SUITES`, or a `Suite` of your own.
        seeds: which clips of each case; default: the suite's.
        length: frames of each clip; default: the suite's.
        size: height and width, at least 64; default: the suite's.
        fps: frames per second that the clips claim.

    Raises:
        InputError: an argument is out of range.
    """

    protocol = "davis"
    root = None

    def __init__(self, suite: str | Suite = "smoke", seeds: tuple[int, ...] | list[int] | None = None,
                 length: int | None = None, size: tuple[int, int] | None = None, *, fps: float = 25.0) -> None:
        if isinstance(suite, str) and suite not in SUITES:
            raise InputError(f"the generated benchmark has no suite {suite!r}; choose from {', '.join(SUITES)}")
        self.suite = SUITES[suite] if isinstance(suite, str) else suite
        self.name = f"generated:{suite}" if isinstance(suite, str) else "generated"
        self._where, self.fps = self.name, fps
        chosen = tuple(self.suite.seeds if seeds is None else seeds)
        frames = self.suite.length if length is None else length
        shape = self.suite.size if size is None else (int(size[0]), int(size[1]))
        if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
            raise InputError(f"seeds are {list(chosen)}; give at least one, all different and 0 or more")
        if frames < 1:
            raise InputError(f"length is {frames}; give 1 or more frames")
        if min(shape) < 64:
            raise InputError(f"size is {shape}; give height and width of at least 64 pixels")
        drawn = [GeneratedSequence(case, seed, frames, shape, self.suite.act, fps)
                 for case in self.suite.cases for seed in chosen]
        self._sequences = {sequence.name: sequence for sequence in drawn}
        if len(self._sequences) < len(drawn):
            raise InputError("two cases of the suite have one name; give each its own")

    @property
    def tags(self) -> dict[str, tuple[str, ...]]:
        """For each sequence, the attributes it is about."""
        return {sequence.name: sequence.tags for sequence in self}
