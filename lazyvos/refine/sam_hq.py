"""SAM-HQ as a refiner: clicks on a frame become a mask, as in Lazy-XMem (thesis, chapter 6)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.interact.clicks import distance_field, first_maximum, object_centre
from lazyvos.refine.sam_hq_net import Answer, Embedding, Prompt, SamHqNet, build_sam_hq
from lazyvos.types import Click, InputError

REBUILD_CLICKS = 8
REBUILD_IOU = 0.8
_REBUILT = 32  # masks remembered for one frame, 256 kB each
_SURE = 1e-4  # probabilities are kept this far from 0 and 1 before they become logits


@dataclass(eq=False)
class _View:
    """A frame that was encoded: its size ``(H, W)``, and the masks that were rebuilt on it, by content."""

    size: tuple[int, int]
    embedding: Embedding
    rebuilt: dict[bytes, Tensor] = field(default_factory=dict)


class SamHqRefiner:
    """SAM-HQ behind the :class:`lazyvos.refine.base.Refiner` protocol.

    The frame is resized to a square (1024, aspect ratio not kept), the clicks with it; the clicks alone are the prompt, positive or
    negative, also negative ones only. Of three masks the one with the highest predicted IoU is taken, HQ token only; its logits are
    resized to the frame and become probabilities, so that 0.5 is logit 0.

    Frames are known by their pixels: an equal copy is not encoded again, an array written into is. So a second click on a
    frame, or another object, costs the decoder alone.

    Parameters
    ----------
    model: ``"vit_tiny"``, ``"vit_b"``, ``"vit_l"``, ``"vit_h"``; or a network that is built already (``weights`` and ``seed`` are for names).
    weights, seed: as in :func:`lazyvos.refine.sam_hq_net.build_sam_hq`.
    device, precision: where it runs; ``"fp32"``, or ``"bf16"``/``"fp16"`` autocast of encoder and decoder.
    side: of the square, in pixels; it must be the network's own, which is 1024 for all published weights.
    with_mask: give the earlier probability, as logits, beside the clicks (thesis: this lowers the score).
    prompt_with_mask: rebuild the earlier mask inside SAM-HQ first and give these logits beside the clicks: a click at the mask's centre, then
        on the deepest point of the error (missed: positive, too much: negative) up to eight in all, feeding the logits back, until the
        IoU is 0.8; the best step counts.
    box: give the bounding box of the earlier mask in the place of a single positive click. It is left out where a positive
        click lies outside it or there is none; of several clicks all are given with it.
    hq_token_only: else the mask of SAM's own token is added (the package's default).
    cache: number of frames whose embedding is kept, the last used ones (12 MB each).

    An earlier mask is what has a probability above 0.5; the options that use it do nothing where it is empty.

    Attributes
    ----------
    net: the network. side: of its input.
    quality: IoU that SAM-HQ predicted for the last answer, ``None`` before it.

    Raises :class:`InputError` for an unknown model or option, weights that do not fit, or a missing package.
    """

    def __init__(
        self,
        model: str | nn.Module = "vit_tiny",
        weights: str | Path | None = None,
        *,
        seed: int | None = None,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        side: int = 1024,
        with_mask: bool = False,
        prompt_with_mask: bool = False,
        box: bool = False,
        hq_token_only: bool = True,
        cache: int = 2,
    ) -> None:
        types: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        if precision not in types:
            raise InputError(f"precision {precision!r} is unknown; choose fp32, bf16 or fp16")
        if cache < 1:
            raise InputError(f"cache is {cache}; keep at least one frame")
        if with_mask and prompt_with_mask:
            raise InputError("with_mask and prompt_with_mask are two ways to give the earlier mask; choose one")
        if isinstance(model, nn.Module) and (weights is not None or seed is not None):
            raise InputError("weights and seed are for models by name; this network is built already")
        net: Any = build_sam_hq(model, weights, seed=seed) if isinstance(model, str) else model.eval()
        own = int(net.image_encoder.img_size)
        if side != own:
            raise InputError(f"side is {side}, but this network takes {own}x{own} pixels; give side={own}")
        self.net: nn.Module = net.to(device)
        self.side = side
        self.with_mask, self.prompt_with_mask = with_mask, prompt_with_mask
        self.box, self.hq_token_only, self.cache = box, hq_token_only, cache
        self.quality: float | None = None
        self._sam = SamHqNet(self.net, types[precision])
        self._views: OrderedDict[bytes, _View] = OrderedDict()

    prompts = ("box", "prompt_with_mask")
    """What :meth:`refine` takes beside clicks; a policy's pseudo-corrections may ask for it."""

    @torch.inference_mode()
    def refine(
        self, frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None = None, *,
        box: bool | None = None, prompt_with_mask: bool | None = None,
    ) -> Tensor:  # fmt: skip
        """See :class:`lazyvos.refine.base.Refiner`. ``box`` and ``prompt_with_mask``: as the options of the class, for this call.

        Raises :class:`InputError` without clicks, for a click outside the frame, a wrong frame, or a mask of another size.
        """
        size = _checked(frame, clicks, mask)
        view = self._view(frame)
        earlier = None if mask is None else (mask > 0.5).cpu().numpy()
        with_box = self.box if box is None else box
        rebuild = self.prompt_with_mask if prompt_with_mask is None else prompt_with_mask
        corners = logits = None
        if earlier is not None and mask is not None and earlier.any():
            corners = _box(earlier, clicks) if with_box else None
            if rebuild:
                logits = self._rebuilt(view, earlier)
            elif self.with_mask:
                logits = self._logits(mask)
        answer = self._ask(view, clicks, corners, logits)
        self.quality = answer.iou
        return torch.sigmoid(self._on_frame(answer.logits, size)).cpu()

    def _view(self, frame: np.ndarray) -> _View:
        name = _digest(frame)
        view = self._views.get(name)
        if view is None:
            view = _View((frame.shape[0], frame.shape[1]), self._sam.encode(frame))
            self._views[name] = view
            if len(self._views) > self.cache:
                self._views.popitem(last=False)
        self._views.move_to_end(name)
        return view

    def _ask(
        self, view: _View, clicks: Sequence[Click], box: tuple[int, int, int, int] | None, mask: Tensor | None
    ) -> Answer:
        """With a mask in the prompt a single mask is asked for, else three."""
        points = labels = corners = None
        if box is not None:
            corners = self._square([box[:2], box[2:]], view.size).flatten()
        if box is None or len(clicks) > 1:
            points = self._square([(c.x, c.y) for c in clicks], view.size)
            labels = torch.tensor([int(c.positive) for c in clicks], device=self._sam.device)
        prompt = Prompt(points, labels, corners, mask)
        return self._sam.decode(view.embedding, prompt, several=mask is None, hq_token_only=self.hq_token_only)

    def _square(self, points: Sequence[tuple[float, float]], size: tuple[int, int]) -> Tensor:
        """Pixels ``(x, y)`` of the frame in the square; centres of pixels stay where they are in the picture."""
        scale = torch.tensor([self.side / size[1], self.side / size[0]], device=self._sam.device)
        return (torch.tensor(points, dtype=torch.float32, device=self._sam.device) + 0.5) * scale - 0.5

    def _on_frame(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits of the decoder at the square's size, then at the frame's; bilinear."""
        square = F.interpolate(logits[None, None], (self.side, self.side), mode="bilinear", align_corners=False)
        return F.interpolate(square, size, mode="bilinear", align_corners=False)[0, 0]

    def _logits(self, mask: Tensor) -> Tensor:
        """An earlier probability as the decoder's logits."""
        side = self._sam.mask_side
        plane = mask.to(self._sam.device).float()[None, None]
        small = F.interpolate(plane, (side, side), mode="bilinear", align_corners=False, antialias=True)[0, 0]
        return torch.logit(small, _SURE)

    def _rebuilt(self, view: _View, mask: np.ndarray) -> Tensor:
        name = _digest(mask)
        if name not in view.rebuilt:
            if len(view.rebuilt) >= _REBUILT:
                view.rebuilt.clear()
            view.rebuilt[name] = self._rebuild(view, mask)
        return view.rebuilt[name]

    def _rebuild(self, view: _View, mask: np.ndarray) -> Tensor:
        """Logits ``[4g, 4g]`` with which SAM-HQ comes closest to ``mask bool [H, W]`` (not empty)."""
        clicks: list[Click] = []
        guess = np.zeros_like(mask)
        fed: Tensor | None = None
        best, highest = torch.empty(0), -1.0
        while len(clicks) < REBUILD_CLICKS and highest < REBUILD_IOU:
            click = _next_click(mask, guess, clicks)
            if click is None:
                break
            clicks.append(click)
            fed = self._ask(view, clicks, None, fed).logits
            guess = (self._on_frame(fed, view.size) > 0).cpu().numpy()
            iou = np.count_nonzero(guess & mask) / np.count_nonzero(guess | mask)
            if iou > highest:
                best, highest = fed, iou
        return best


def _next_click(mask: np.ndarray, guess: np.ndarray, clicks: Sequence[Click]) -> Click | None:
    """A click on the deepest pixel of what is missed or too much, not twice on the same; ``None`` without an error left."""
    if not clicks:
        centre = object_centre(mask)
        return None if centre is None else Click(*centre)
    missed, extra = distance_field(mask & ~guess), distance_field(guess & ~mask)
    for click in clicks:
        missed[int(click.y), int(click.x)] = extra[int(click.y), int(click.x)] = 0
    positive = bool(missed.max() >= extra.max())
    depth = missed if positive else extra
    return Click(*first_maximum(depth), positive=positive) if depth.any() else None


def _box(mask: np.ndarray, clicks: Sequence[Click]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom pixel of ``mask [H, W]`` (not empty), where all positive clicks, at least one, are inside."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
    inside = [left <= c.x < right + 1 and top <= c.y < bottom + 1 for c in clicks if c.positive]
    return (left, top, right, bottom) if inside and all(inside) else None


def _digest(pixels: np.ndarray) -> bytes:
    """Name of an array by shape and content."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _checked(frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None) -> tuple[int, int]:
    """``(H, W)`` of the frame, once everything fits."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise InputError(f"frame has shape {frame.shape} and type {frame.dtype}; give uint8 [H, W, 3] in RGB")
    size = (frame.shape[0], frame.shape[1])
    if not clicks:
        raise InputError("a refiner needs at least one click")
    for click in clicks:
        click.check_inside(size)
    if mask is not None and tuple(mask.shape) != size:
        raise InputError(f"mask has shape {tuple(mask.shape)}, the frame {size}; give a mask of the frame's size")
    return size
