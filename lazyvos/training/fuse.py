"""Training the small fusion network: two rounds on a short clip, the frames between them to be fused (MiVOS, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.backbones.fusion import FusionNet
from lazyvos.rounds import Rounds
from lazyvos.training.clicks import _spoiled
from lazyvos.training.clips import ClipMaker, ClipSpec
from lazyvos.training.config import TrainConfig
from lazyvos.training.losses import VOID, dice

LEAST = 4  # frames of a clip: two annotated ones and some between


@dataclass(frozen=True)
class Pairs:
    """What the network sees, and the truth.

    ``image [M, 3, S, S]``; ``old``, ``new [M, 1, S, S]``; ``attention [M, 2, S, S]``; ``distance`` two of ``[M, 1, 1, 1]``; ``truth uint8
    [M, S, S]`` (1 object, 255 void). M = clips x frames x objects, clip by clip.
    """

    image: Tensor
    old: Tensor
    new: Tensor
    attention: Tensor
    distance: tuple[Tensor, Tensor]
    truth: Tensor


class _Recorder(FusionNet):
    """Stands in for the network and notes what it would be given; answers with the new result."""

    def __init__(self) -> None:
        super().__init__(1)
        self.seen: list[tuple[Any, ...]] = []

    def forward(self, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, distance: tuple[float, float]) -> Tensor:
        self.seen.append((image.clone(), old, new, attention, distance))
        return torch.logit(new, 1e-6)


class FuseTask:
    """Pairs of results to fuse (:class:`lazyvos.training.loop.Task`), made by :class:`lazyvos.rounds.Rounds` itself.

    Round 1 annotates one end of a clip, half of the time with a mask that is wrong in part; round 2 gives the other end its
    true mask. What lies between is fused. Clips run forwards or backwards.

    Parameters
    ----------
    tracker: the propagation network; it is not trained.
    picks: frames that are fused of each clip.
    """

    def __init__(self, maker: ClipMaker, config: TrainConfig, tracker: Any, picks: int = 3) -> None:
        self.maker, self.config, self.tracker, self.picks = maker, config, tracker, picks

    def batch(self, step: int, which: range | None = None) -> Pairs:
        """All clips of a step, or those that ``which`` numbers."""
        phase = self.config.phase_at(step)
        which = range(phase.batch) if which is None else which
        rng = np.random.default_rng((self.config.seed, step))
        objects = 2 if rng.random() < self.config.two_objects else 1
        spec = ClipSpec(phase.side, max(LEAST, phase.frames), objects, phase.max_gap, phase.video_share)
        rows = [row for i in which for row in self._clip((self.config.seed, step, i), spec)]
        images, old, new, attention, near, far, truth = (torch.cat(column) for column in zip(*rows, strict=True))
        return Pairs(images, old, new, attention, (near.view(-1, 1, 1, 1), far.view(-1, 1, 1, 1)), truth)

    def _clip(self, seed: tuple[int, ...], spec: ClipSpec) -> list[tuple[Tensor, ...]]:
        clip = self.maker.draw(seed, spec)
        rng = np.random.default_rng((*seed, 4))
        frames, labels = clip.frames, clip.labels
        if rng.random() < 0.5:
            frames, labels = frames[::-1].copy(), labels[::-1].copy()
        ids = tuple(range(1, spec.objects + 1))
        recorder, last = _Recorder(), spec.frames - 1
        device = str(next(self.tracker.parameters()).device)
        rounds = Rounds(frames, self.tracker, None, recorder, size=None, device=device, precision="fp32", store="float16", progress=False)
        first = _known(labels[0])
        given = first if rng.random() < 0.5 else _wrong(first, ids, rng)
        if not all((given == o).any() for o in ids):  # every object has to start somewhere
            for o in ids:
                if not (given == o).any():
                    y, x = rng.integers(spec.side, size=2)
                    cv2.circle(given, (int(x), int(y)), 3, o, -1)
        rounds.interact(0, mask=given)
        rounds.interact(last, mask=_known(labels[last]), objects=tuple(o for o in ids if (given == o).any()))
        picked = rng.choice(len(recorder.seen), min(self.picks, len(recorder.seen)), replace=False)
        rows: list[tuple[Tensor, ...]] = []
        for k in sorted(int(k) for k in picked):
            image, old, new, attention, (near, far) = recorder.seen[k]
            marks = labels[last - 1 - k]
            truth = np.stack([np.where(marks == VOID, VOID, marks == o) for o in ids[: len(old)]]).astype(np.uint8)
            count = len(old)
            rows.append((image, old, new, attention, torch.full((count,), near), torch.full((count,), far), torch.from_numpy(truth)))
        return rows

    def loss(self, net: nn.Module, batch: Pairs, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy plus dice, mean over the fused masks. Also the IoU of the network, of the linear mean and of either result."""
        device = next(net.parameters()).device
        image, old, new, attention = (x.to(device) for x in (batch.image, batch.old, batch.new, batch.attention))
        near, far = (x.to(device) for x in batch.distance)
        marks = batch.truth.to(device).long()
        logits = net(image, old, new, attention, (near, far)).float()
        known = (marks != VOID).unsqueeze(1)
        truth = (marks == 1).unsqueeze(1)
        losses = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
        entropy = ((losses * known).sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)).mean()
        overlap = dice(torch.sigmoid(logits), marks)
        results = {"iou": logits > 0, "linear": near * new + far * old > 0.5, "new": new > 0.5, "old": old > 0.5}
        numbers = {name: _iou(mask & known, truth & known) for name, mask in results.items()}
        return entropy + overlap, {"cross_entropy": entropy.item(), "dice": overlap.item(), **numbers}


def _known(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == VOID, 0, labels).astype(np.uint8)


def _wrong(labels: np.ndarray, ids: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A label map with the masks of a tracker that is losing the objects."""
    out = np.zeros_like(labels)
    for identity in rng.permutation(ids):
        out[_spoiled(labels == identity, rng) > 0.5] = identity
    return out


def _iou(mask: Tensor, truth: Tensor) -> float:
    inside, either = (mask & truth).sum((1, 2, 3)).float(), (mask | truth).sum((1, 2, 3)).float()
    return torch.where(either > 0, inside / either.clamp(min=1), torch.ones_like(either)).mean().item()
