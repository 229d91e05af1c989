"""DAM4SAM's memory: recent frames, and anchors from moments when a look-alike was near (Videnovic et al., CVPR 2025)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from lazyvos.memory.chosen import ChosenMemory, View


@dataclass(frozen=True, kw_only=True)
class Dam4SamConfig:
    """Settings; the defaults are the published ones.

    total: entries that are read: the distractor-resolving memory (DRM) and the recent-appearance memory (RAM).
    drm: entries of the DRM at most, the annotated frame among them. stride: of the RAM, in frames.
    score: predicted IoU that an anchor must exceed. area: bounds of its area over the median of the last ``areas`` non-empty ones
        of the last ``span`` frames. gap: frames that must lie between anchors. box_iou: at or below this a distractor is suspected.
    levels: where a network gives one soft mask only, the cuts below 0.5 that stand for its alternatives.
    """

    total: int = 7
    drm: int = 4
    stride: int = 5
    score: float = 0.8
    area: tuple[float, float] = (0.8, 1.2)
    areas: int = 10
    span: int = 300
    gap: int = 5
    box_iou: float = 0.7
    levels: tuple[float, ...] = (0.1, 0.3)

    def __post_init__(self) -> None:
        if not 1 <= self.drm < self.total:
            raise ValueError(f"drm is {self.drm} of total {self.total} entries; give at least 1, and leave 1 for recent frames")
        for name in ("stride", "areas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if any(not 0 < level < 0.5 for level in self.levels):
            raise ValueError(f"levels are {self.levels}; each must lie between 0 and 0.5, the cut of the mask itself")


def select_drm(anchors: Sequence[int], t: int, size: int = 4, first: int = 0) -> list[int]:
    """The DRM that frame ``t`` reads: ``first``, and the ``size − 1`` latest anchors older than t − 1, ascending."""
    older = sorted(a for a in anchors if a != first and a < t - 1)
    return [first, *older[max(0, len(older) - (size - 1)) :]]


def select_ram(
    visible: Collection[int], anchors: Collection[int], t: int, count: int, stride: int = 5, first: int = 0
) -> list[int]:
    """The RAM that frame ``t`` reads, in the order of the search: at most ``count`` frames.

    The first pick is t − 1, else the next frame back; each further one the next multiple of ``stride`` back. Frames where the target
    was not ``visible``, the annotated frame ``first`` and anchors are passed over; but an anchor at t − 1, which the DRM does not hold
    yet, is taken.
    """
    usable = {f for f in visible if first < f < t and f not in anchors}
    usable |= {t - 1} & set(anchors) - {first}
    found: list[int] = []
    while len(found) < count:
        back = [f for f in usable if not found or (f < found[-1] and f % stride == 0)]
        if not back:
            break
        found.append(max(back))
    return found


def distractor_overlap(mask: np.ndarray, alternatives: Sequence[np.ndarray]) -> float:
    """How much an alternative would move the mask's bounding box: the smallest IoU of both boxes; 1 where none adds a pixel.

    ``bool [H, W]`` all. Of each alternative only the largest (8-)connected part outside the mask counts; it is joined with the mask.
    """
    if not mask.any():
        return 1.0
    own, least = _box(mask), 1.0
    for other in alternatives:
        rest = (other & ~mask).astype(np.uint8)
        if rest.any():
            labels, stats = cv2.connectedComponentsWithStats(rest, connectivity=8)[1:3]
            part = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
            least = min(least, _iou(own, _box(mask | part)))
    return least


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _iou(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    common = max(0, width) * max(0, height)
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(sizes) - common)


@dataclass
class AnchorRule:
    """Decides frame by frame which become anchors. Remembers the last anchor and the last areas ``(t, pixels)``."""

    config: Dam4SamConfig = field(default_factory=Dam4SamConfig)
    last: int | None = None
    areas: list[tuple[int, int]] = field(default_factory=list)

    def plain(self, t: int, score: float, area: int) -> bool:
        """Every condition but the distractor; takes note of the area.

        Without an earlier area there is no median, and no anchor.
        """
        config = self.config
        recent = [a for f, a in self.areas if f < t and t - f <= config.span][-config.areas :]
        if area > 0:
            self.areas = [*(pair for pair in self.areas if pair[0] != t), (t, area)][-config.areas - 1 :]
        far = self.last is None or t - self.last > config.gap
        if not (score > config.score and area > 0 and far and recent):
            return False
        return config.area[0] <= area / float(np.median(recent)) <= config.area[1]

    def offer(self, t: int, score: float, mask: np.ndarray, alternatives: Sequence[np.ndarray]) -> bool:
        """Does frame ``t`` become an anchor? ``score``: predicted IoU of ``mask``; ``bool [H, W]`` both mask and alternatives."""
        good = self.plain(t, score, int(mask.sum())) and distractor_overlap(mask, alternatives) <= self.config.box_iou
        self.last = t if good else self.last
        return good


@dataclass
class DamTrack:
    """RAM and DRM of one object; holds no more frame numbers than it may still read."""

    config: Dam4SamConfig
    first: int
    newest: int
    anchors: list[int] = field(default_factory=list)
    visible: list[int] = field(default_factory=list)
    rule: AnchorRule = field(default_factory=AnchorRule)

    def offer(self, view: View) -> str:
        """See :class:`lazyvos.memory.chosen.Track`: ``anchor``, ``recent`` or ``absent``."""
        t, config = view.t, self.config
        if t == self.first:
            return "pinned"
        self.newest = max(self.newest, t)
        self.anchors, self.visible = ([f for f in frames if f != t] for frames in (self.anchors, self.visible))
        if self.rule.last == t:
            self.rule.last = max(self.anchors, default=None)
        area = view.area
        good = area is not None and self.rule.plain(t, view.score, area)
        if good and not view.certain:
            good = distractor_overlap(view.binary, view.alternatives(config.levels)) <= config.box_iou
        if good or view.certain:
            self.rule.last = t
            self.anchors = sorted([*self.anchors, t])[-config.drm :]
            return "anchor"
        if area == 0:
            return "absent"
        newest, *older = sorted([*self.visible, t], reverse=True)
        room = config.total - len(select_drm(self.anchors, self.newest + 1, config.drm, self.first))
        steps = [f for f in (newest, *older) if f % config.stride == 0][:room]
        self.visible = sorted({newest, *steps})
        return "recent"

    def reads(self) -> list[int]:
        """See :class:`lazyvos.memory.chosen.Track`."""
        config, now = self.config, self.newest + 1
        drm = select_drm(self.anchors, now, config.drm, self.first)
        return sorted({*drm, *select_ram(self.visible, self.anchors, now, config.total - len(drm), config.stride, self.first)})

    def needs(self) -> set[int]:
        """See :class:`lazyvos.memory.chosen.Track`."""
        return {self.first, *self.anchors, *self.visible}

    def state(self) -> dict[str, Any]:
        """See :class:`lazyvos.memory.chosen.Track`."""
        values = {k: v for k, v in asdict(self).items() if k not in ("config", "rule")}
        return {**values, "last": self.rule.last, "areas": [list(pair) for pair in self.rule.areas]}


class Dam4SamMemory(ChosenMemory[DamTrack]):
    """DAM4SAM with :class:`Dam4SamConfig`, or its fields as keywords; each object has a RAM and a DRM of its own.

    Made for SAM 2, which gives three masks with predicted IoUs a frame; here, for any network:

    - *score*: the network's own quality (QDMN), else the IoU that the soft mask expects of itself
      (:func:`lazyvos.memory.chosen.expected_iou`);
    - *area*: pixels with a probability above 0.5; a target without such a pixel is absent, and its frame is not stored;
    - *alternatives*: ``Entry.alternatives`` where a network fills them, else the soft mask cut at the lower ``levels``. Networks with one
      mask an object half believe in a look-alike where SAM 2 would give it a mask of its own.

    Frames without ``Entry.masks`` count as present and do not become anchors. A frame that a person corrected becomes an anchor at
    once, of all its objects, even of one that is not on it. Temporal positions, which SAM 2 gives the entries of the RAM, have no
    counterpart in these networks.

    Every frame is offered and encoded. At most ``total`` + ``drm`` + 1 frames are stored for an object, ``total`` are read.
    """

    kind = "dam4sam"
    _words = ("pinned", "anchor", "recent", "absent")

    def __init__(self, config: Dam4SamConfig | None = None, **settings: Any) -> None:
        super().__init__()
        self.config = replace(config or Dam4SamConfig(), **settings)

    def _started(self, t: int) -> DamTrack:
        return DamTrack(self.config, t, t, rule=AnchorRule(self.config))

    def _loaded(self, state: dict[str, Any]) -> DamTrack:
        rule = AnchorRule(self.config, state["last"], [(int(t), int(a)) for t, a in state["areas"]])
        return DamTrack(self.config, state["first"], state["newest"], list(state["anchors"]), list(state["visible"]), rule)
