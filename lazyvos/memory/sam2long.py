"""SAM2Long: several pathways through the masks of a video, and a memory of the frames worth reading (Ding et al., ICCV 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.memory.chosen import ChosenMemory, View
from lazyvos.types import Decision


class Branch(NamedTuple):
    """A candidate mask that became a pathway: the pathway it continues, its number there, its cumulative score."""

    pathway: int
    candidate: int
    score: float


def select_branches(
    parents: Sequence[float], ious: Sequence[Sequence[float]], occlusion: Sequence[float], keep: int = 3, certain: float = 2.0
) -> list[Branch]:
    """The ``keep`` new pathways, best first, of the candidates of all pathways.

    The score of a candidate is its parent's plus ln(predicted IoU + 1e-5). If some pathway has an occlusion logit beyond ±``certain``
    the best are taken. Otherwise, in the order of scores, those whose IoU (negative where the object is judged absent), rounded
    to 2 decimals, differs from those taken before; then, if too few, the best candidate of each pathway that is not among them.

    Parameters
    ----------
    parents: cumulative score of each of P pathways. ious: predicted IoU of its candidates ``[P][C]``. occlusion: its logit,
        positive where the object is seen.
    """
    found = [
        Branch(p, c, parent + math.log(iou + 1e-5))
        for p, (parent, row) in enumerate(zip(parents, ious, strict=True))
        for c, iou in enumerate(row)
    ]
    found.sort(key=lambda branch: -branch.score)
    if max(map(abs, occlusion)) > certain:
        return found[:keep]
    chosen: list[Branch] = []
    seen: set[float] = set()
    for branch in found:
        iou = ious[branch.pathway][branch.candidate]
        signed = round(iou if occlusion[branch.pathway] > 0 else -iou, 2)
        if len(chosen) < keep and signed not in seen:
            chosen.append(branch)
            seen.add(signed)
    for p in range(len(parents)):
        if len(chosen) < keep and all(branch.pathway != p for branch in chosen):
            chosen.append(next(branch for branch in found if branch.pathway == p))
    return chosen


def usable_frames(
    ious: Sequence[float], occlusion: Sequence[float], t: int, threshold: float = 0.1, horizon: int = 15, first: int = 0
) -> list[int]:
    """Frames after ``first`` that a pathway may read at frame ``t``, ascending.

    Walking back from t − 1, at most ``horizon`` with an IoU above ``threshold`` and a positive occlusion logit, and t − 1 in any
    case. Both series have a number for each frame before t.
    """
    good = [f for f in range(t - 1, first, -1) if ious[f] > threshold and occlusion[f] > 0][:horizon]
    return sorted({*good, *range(max(first + 1, t - 1), t)})


def key_weights(occlusion: Sequence[float], low: float = 0.95, high: float = 1.05) -> np.ndarray:
    """Weights ``float64 [n]`` of entries, spread evenly from ``low`` to ``high`` in increasing order of their occlusion logits.

    A single entry gets 1; of equal logits the earlier entry gets the lower weight.
    """
    weights = np.ones(len(occlusion))
    if len(weights) > 1:
        weights[np.argsort(np.asarray(occlusion), kind="stable")] = np.linspace(low, high, len(weights))
    return weights


@dataclass(frozen=True)
class Node:
    """The newest frame of a pathway; ``before`` leads back to the annotated frame (``None`` there, or where traces are not kept)."""

    t: int
    candidate: int
    iou: float
    occlusion: float
    score: float
    usable: tuple[int, ...]
    before: Node | None


class PathTree:
    """Pathways through the candidate masks of a video, for a segmenter that predicts several masks a frame for each pathway.

    On each frame run the segmenter once a pathway, on the memory :meth:`reads` of that pathway, and hand all predictions to :meth:`step`. On
    the frame after the annotated one there is a single path: its best candidate is taken with score 0, and all pathways start
    from it. The published result is :meth:`trace` at the end of the video; an online user takes :attr:`best` on each frame.

    Parameters
    ----------
    paths: P. certain: see :func:`select_branches`. threshold, horizon: see :func:`usable_frames`. recent: frames a pathway
        reads besides the annotated one. first: the annotated frame. traces: keep what :meth:`trace` needs; it grows with the video.
    """

    def __init__(
        self, paths: int = 3, *, certain: float = 2.0, threshold: float = 0.1, horizon: int = 15, recent: int = 6, first: int = 0,
        traces: bool = True,
    ) -> None:  # fmt: skip
        if paths < 1:
            raise ValueError(f"paths is {paths}; there must be at least 1 pathway")
        self.paths, self.certain, self.threshold, self.horizon = paths, certain, threshold, horizon
        self.recent, self.first, self.traces = recent, first, traces
        self.t = first
        self.nodes: tuple[Node, ...] = (Node(first, 0, 1.0, math.inf, 0.0, (), None),)

    @property
    def scores(self) -> tuple[float, ...]:
        """Cumulative score of each pathway, the best first once they have parted."""
        return tuple(node.score for node in self.nodes)

    @property
    def best(self) -> int:
        """The pathway with the best score."""
        return max(range(len(self.nodes)), key=lambda p: self.nodes[p].score)

    def step(self, ious: Sequence[Sequence[float]], occlusion: Sequence[float]) -> list[Branch]:
        """Predicted IoUs ``[pathways][C]`` and occlusion logit of each pathway on the next frame; gives the new pathways.

        Raises ValueError unless there is a row for each pathway (one on the first frame).
        """
        if len(ious) != len(self.nodes) or len(occlusion) != len(self.nodes):
            raise ValueError(f"{len(ious)} rows of IoUs and {len(occlusion)} logits for {len(self.nodes)} pathways; give one of each per pathway")
        if self.t == self.first:
            branches = [Branch(0, int(np.argmax(ious[0])), 0.0)] * self.paths
        else:
            branches = select_branches(self.scores, ious, occlusion, self.paths, self.certain)
        self.t += 1
        self.nodes = tuple(self._node(branch, ious, occlusion) for branch in branches)
        return branches

    def _node(self, branch: Branch, ious: Sequence[Sequence[float]], occlusion: Sequence[float]) -> Node:
        parent, iou, logit = self.nodes[branch.pathway], ious[branch.pathway][branch.candidate], occlusion[branch.pathway]
        good = iou > self.threshold and logit > 0
        usable = (*parent.usable, self.t)[-self.horizon :] if good else parent.usable
        return Node(self.t, branch.candidate, iou, logit, branch.score, usable, parent if self.traces else None)

    def reads(self, pathway: int) -> list[int]:
        """Frames that a pathway reads next: the annotated one, and the latest usable ones, ascending."""
        newest = () if self.t == self.first else (self.t,)
        usable = sorted({*self.nodes[pathway].usable, *newest})
        return [self.first, *usable[max(0, len(usable) - self.recent) :]]

    def trace(self) -> list[Node]:
        """The best pathway from the frame after the annotated one to the newest. Raises ValueError where traces are not kept."""
        node, back = self.nodes[self.best], []
        while node.t > self.first:
            back.append(node)
            if node.before is None:
                raise ValueError("this tree keeps no traces; build it with traces=True")
            node = node.before
        return back[::-1]


@dataclass
class LongTrack:
    """What one object reads: its annotated frame and the latest frames ``(t, logit)`` on which it was surely seen."""

    first: int
    threshold: float = 0.1
    recent: int = 6
    good: list[tuple[int, float]] = field(default_factory=list)
    newest: tuple[int, float] | None = None

    def offer(self, view: View) -> str:
        """See :class:`lazyvos.memory.chosen.Track`: ``recent`` or ``doubtful`` (read once, as the previous frame)."""
        return self.note(view.t, view.score, view.logit)

    def note(self, t: int, score: float, logit: float) -> str:
        """:meth:`offer` with the numbers themselves."""
        if t == self.first:
            return "pinned"
        self.good = [pair for pair in self.good if pair[0] != t]
        if self.newest is None or t >= self.newest[0]:
            self.newest = t, logit
        if score > self.threshold and logit > 0:
            self.good = sorted([*self.good, (t, logit)])[-self.recent :]
            return "recent"
        return "doubtful"

    def weighed(self) -> list[tuple[int, float]]:
        """Frames that are read besides the annotated one, with their occlusion logits."""
        frames = sorted({*self.good, *([] if self.newest is None else [self.newest])})
        return frames[max(0, len(frames) - self.recent) :]

    def reads(self) -> list[int]:
        """See :class:`lazyvos.memory.chosen.Track`."""
        return [self.first, *(t for t, _ in self.weighed())]

    def needs(self) -> set[int]:
        """See :class:`lazyvos.memory.chosen.Track`."""
        return {self.first, *(t for t, _ in self.good), *([] if self.newest is None else [self.newest[0]])}

    def state(self) -> dict[str, Any]:
        """See :class:`lazyvos.memory.chosen.Track`."""
        newest = None if self.newest is None else list(self.newest)
        return {"first": self.first, "good": [list(pair) for pair in self.good], "newest": newest}


class Sam2LongMemory(ChosenMemory[LongTrack]):
    """SAM2Long's memory rule on the tracker's own, single path; it does *not* keep several pathways.

    The networks of lazyvos give one mask for each object and frame, so there is nothing to choose among; the tree of pathways is
    :class:`PathTree`, for segmenters that predict several masks. What this memory takes over: each object reads its annotated frame and the
    latest ``recent`` frames with a score above ``threshold`` on which it is seen, the previous frame always among them, with
    keys weighted from ``low`` to ``high`` in the order of certainty that it is seen. The annotated frame keeps weight 1.

    *Score*: the network's own quality (QDMN), else the IoU that the soft mask expects of itself. *Seen*, in place of SAM 2's
    occlusion logit: the logit of the largest probability. Frames without ``Entry.masks`` count as certain. Where addresses are keys
    (MiVOS, QDMN: inner products) the weight w multiplies them, as published. Where the similarity is a distance (XMem, STCN) that
    would punish the certain frames, so w multiplies their share instead: ln w is added to the similarity.

    Every frame is offered and encoded; at most ``recent`` + 2 frames are stored for an object.
    """

    kind = "sam2long"
    _words = ("pinned", "recent", "doubtful")

    def __init__(self, recent: int = 6, *, threshold: float = 0.1, low: float = 0.95, high: float = 1.05) -> None:
        super().__init__()
        if recent < 1:
            raise ValueError(f"recent is {recent}; at least the previous frame must be read")
        if not 0 < low <= high:
            raise ValueError(f"low is {low} and high {high}; weights must be positive, low at most high")
        self._recent, self._threshold, self._low, self._high = recent, threshold, low, high
        self._inner = True

    def _started(self, t: int) -> LongTrack:
        return LongTrack(t, self._threshold, self._recent)

    def _loaded(self, state: dict[str, Any]) -> LongTrack:
        good = [(int(t), float(x)) for t, x in state["good"]]
        newest = state["newest"] and (int(state["newest"][0]), float(state["newest"][1]))
        return LongTrack(int(state["first"]), self._threshold, self._recent, good, newest)

    def _store(self, entry: Entry, *, pin: bool, force: bool) -> Decision:
        self._inner = entry.address.shape[1] == entry.key.shape[1]
        return super()._store(entry, pin=pin, force=force)

    def weights(self, object_id: int) -> dict[int, float]:
        """Weight of each frame that an object reads next, by frame number."""
        track = self._tracks[object_id]
        weighed = track.weighed()
        values = key_weights([logit for _, logit in weighed], self._low, self._high)
        return {track.first: 1.0, **{t: float(w) for (t, _), w in zip(weighed, values, strict=True)}}

    def _alike(self, identity: int) -> object:
        return tuple(self.weights(identity).items())

    def _addresses(
        self, row: int, members: list[tuple[int, int]], slots: list[int], query: Tensor
    ) -> tuple[Tensor, Tensor]:
        stored, query = super()._addresses(row, members, slots, query)
        weights = self.weights(members[0][0])
        factor = torch.tensor([weights[self._bank.frames[slot]] for slot in slots], device=stored.device)
        factor = factor.repeat_interleave(stored.shape[0] // len(slots)).unsqueeze(1)
        if self._inner:
            return stored * factor, query
        return torch.cat([stored, factor.log()], 1), torch.cat([query, torch.ones_like(query[:1])])

    def state(self) -> dict[str, object]:
        """See :class:`lazyvos.memory.base.Memory`."""
        return {**super().state(), "inner": self._inner}

    def load_state(self, state: dict[str, Any]) -> None:
        """See :class:`lazyvos.memory.base.Memory`. Raises ValueError for the state of another kind of memory."""
        super().load_state(state)
        self._inner = bool(state["inner"])
