"""Training the click network: pictures, iterative clicks, normalised focal loss plus dice (RITM, sections 3.3 and 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from lazyvos.refine.clicknet import ClickNet, click_disks
from lazyvos.training.clips import ClipMaker, ClipSpec
from lazyvos.training.config import TrainConfig
from lazyvos.training.losses import VOID, dice, normalised_focal
from lazyvos.training.track import normalised


def inner_point(region: np.ndarray, rng: np.random.Generator, depth: float = 0.5) -> tuple[float, float] | None:
    """A random ``(row, column)`` deeper inside ``region`` than ``depth`` times its greatest depth; ``None`` if empty."""
    padded = np.pad(region.astype(np.uint8), 1)
    field = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    greatest = field.max()
    if greatest <= 0:
        return None
    rows, columns = np.nonzero(field >= depth * greatest)
    pick = int(rng.integers(len(rows)))
    return float(rows[pick]), float(columns[pick])


def next_click(
    prediction: np.ndarray, truth: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[float, float], bool] | None:
    """A click in the larger of the two kinds of error: missed (positive) or too much (negative)."""
    missed, extra = truth & ~prediction & known, prediction & ~truth & known
    positive = missed.sum() >= extra.sum()
    point = inner_point(missed if positive else extra, rng)
    return None if point is None else (point, bool(positive))


@dataclass(frozen=True)
class Pictures:
    """``frames uint8 [B, S, S, 3]`` and ``labels uint8 [B, S, S]`` (1 target, 0 other, 255 void) of the pictures
    ``which`` of a step's batch."""

    frames: np.ndarray
    labels: np.ndarray
    which: range


class ClickTask:
    """Pictures with one target each (:class:`lazyvos.training.loop.Task`)."""

    def __init__(self, maker: ClipMaker, config: TrainConfig, rounds: int = 3) -> None:
        self.maker, self.config, self.rounds = maker, config, rounds

    def batch(self, step: int, which: range | None = None) -> Pictures:
        """All pictures of a step, or those that ``which`` numbers."""
        phase = self.config.phase_at(step)
        which = range(phase.batch) if which is None else which
        spec = ClipSpec(phase.side, 1, 1, phase.max_gap, phase.video_share)
        clips = [self.maker.draw((self.config.seed, step, i), spec) for i in which]
        labels = np.stack([c.labels[0] for c in clips])
        labels = np.where((labels == 1) | (labels == VOID), labels, 0)
        return Pictures(np.stack([c.frames[0] for c in clips]), labels, which)

    def loss(self, net: nn.Module, batch: Pictures, step: int) -> tuple[Tensor, dict[str, float]]:
        """Clicks are added against the network's own errors without gradient; the last answer is scored.

        Mean over pictures. The number of rounds is drawn once for all pictures of a step, everything else per picture.
        """
        assert isinstance(net, ClickNet)
        device = next(net.parameters()).device
        frames, labels = batch.frames, batch.labels
        rngs = [np.random.default_rng((self.config.seed, step, i, 1)) for i in batch.which]
        x = normalised(torch.from_numpy(frames).to(device))
        truth, known = labels == 1, labels != VOID
        features = net.encode(x)
        points: list[tuple[list[tuple[float, float]], list[tuple[float, float]]]] = [([], []) for _ in frames]
        size = (frames.shape[1], frames.shape[2])
        previous = np.zeros((len(frames), *size), np.float32)
        for index, rng in enumerate(rngs):
            if rng.random() < 0.25:  # a tracked mask to be corrected
                previous[index] = _spoiled(truth[index], rng)
                click = next_click(previous[index] > 0.5, truth[index], known[index], rng)
            else:
                point = inner_point(truth[index], rng, rng.choice([0.2, 0.6, 0.95]))
                click = None if point is None else (point, True)
            if click is not None:
                points[index][0 if click[1] else 1].append(click[0])
        shared = np.random.default_rng((self.config.seed, step, 0, 2))
        rounds = int(shared.integers(0, self.rounds + 1)) if shared.random() < 0.6 else 0
        for _ in range(rounds):
            with torch.no_grad():
                maps = self._maps(points, previous, size, device)
                previous = torch.sigmoid(net.decode(features, maps))[:, 0].float().cpu().numpy()
            for index, rng in enumerate(rngs):
                click = next_click(previous[index] > 0.5, truth[index], known[index], rng)
                if click is not None:
                    points[index][0 if click[1] else 1].append(click[0])
        logits = net.decode(features, self._maps(points, previous, size, device))
        target = torch.from_numpy(truth).to(device).float().unsqueeze(1)
        weight = torch.from_numpy(known).to(device).float().unsqueeze(1)
        focal = normalised_focal(logits, target, weight)
        overlap = dice(torch.sigmoid(logits), torch.from_numpy(labels).to(device).long())
        inside = ((logits > 0) & (target > 0.5)).sum((1, 2, 3)).float()
        iou = inside / ((logits > 0) | (target > 0.5)).sum((1, 2, 3)).clamp(min=1)
        return focal + overlap, {"focal": focal.item(), "dice": overlap.item(), "iou": iou.mean().item()}

    @staticmethod
    def _maps(
        points: list[tuple[list[tuple[float, float]], list[tuple[float, float]]]],
        previous: np.ndarray, size: tuple[int, int], device: torch.device,
    ) -> Tensor:  # fmt: skip
        disks = torch.stack([torch.stack([click_disks(p, size), click_disks(n, size)]) for p, n in points])
        return torch.cat([torch.from_numpy(previous).unsqueeze(1), disks], 1).to(device)


def _spoiled(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a tracker that is losing the object might have: shifted, part missing, grown, or elsewhere."""
    mask: np.ndarray = truth.astype(np.uint8)
    height, width = mask.shape
    kind = rng.integers(4)
    if kind == 0:
        shift = np.array([[1, 0, rng.normal(0, 0.12 * width)], [0, 1, rng.normal(0, 0.12 * height)]], np.float32)
        mask = cv2.warpAffine(mask, shift, (width, height), flags=cv2.INTER_NEAREST)
    elif kind == 1:
        cut = int(rng.integers(1, width))
        mask[:, :cut] = 0
    elif kind == 2:
        reach = int(rng.integers(3, 21))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        mask = cv2.dilate(mask, kernel) if rng.random() < 0.5 else cv2.erode(mask, kernel)
    if kind == 3 or rng.random() < 0.3:
        cv2.circle(mask, (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(5, width // 4)), 1, -1)
    return mask.astype(np.float32)
