"""From clicks on a frame to a mask with RITM: one new click at a time, zoom-in, mirrored copy, f-BRS-B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lazyvos.refine.brs import Brs, BrsConfig, BrsProblem
from lazyvos.refine.hrnet import resize
from lazyvos.refine.ritm import RitmNet, click_points
from lazyvos.refine.zoom import ZoomConfig, ZoomIn, mirror, mirror_clicks, unmirror
from lazyvos.types import Click, InputError

ZOOM = ZoomConfig()


class RitmPredictor:
    """The answer for one object on one frame, improved with every click (RITM, section 3.2; f-BRS, sections 3 and 4).

    The clicks enter right after the network's first layer, so nothing of the network can be kept from click to click;
    within one click f-BRS-B computes the features once and searches with the heads alone.

    Parameters
    ----------
    net: the network, in evaluation mode.
    zoom: zoom-in, ``None`` for none.
    flip: average the logits with those of the mirrored frame.
    brs: f-BRS-B, ``None`` for none.
    """

    def __init__(
        self, net: RitmNet, *, zoom: ZoomConfig | None = ZOOM, flip: bool = True, brs: BrsConfig | None = None
    ) -> None:
        self.net, self.flip = net, flip
        self._zoom_config, self._brs_config = zoom, brs
        self.zoom: ZoomIn | None = None
        self.brs: Brs | None = None
        self.clicks: list[Click] = []
        self._image: Tensor | None = None
        self._previous: Tensor | None = None

    def start(self, frame: np.ndarray, mask: Tensor | None = None) -> None:
        """Take ``frame uint8 [H, W, 3]`` RGB and forget all clicks; ``mask float [H, W]`` is an earlier probability.

        Raises :class:`InputError` for a frame of another form or a mask of another size. A mask handed in feeds the
        network only; the zoom-in waits for an answer of the network's own.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(
                f"frame has shape {frame.shape} and type {frame.dtype}; give uint8 [H, W, 3] in RGB"
            )
        size = frame.shape[:2]
        if mask is not None and tuple(mask.shape) != size:
            raise InputError(
                f"mask has shape {tuple(mask.shape)}, the frame {size}; give a mask of the frame's size"
            )
        with torch.inference_mode(False), torch.no_grad():
            device = self.net.mean.device
            image = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1))).to(device).float() / 255
            self._image = image.unsqueeze(0)
            plane = torch.zeros(size, device=device) if mask is None else mask.to(device).float().clone()
            self._previous = plane.view(1, 1, *size)
        self.clicks = []
        self.zoom = ZoomIn(self._zoom_config) if self._zoom_config is not None else None
        self.brs = Brs(self._brs_config) if self._brs_config is not None else None

    def add(self, *clicks: Click) -> Tensor:
        """One prediction with these clicks beside the earlier ones: probability ``float32 [H, W]`` on the network's device.

        Raises :class:`InputError` for a click outside the frame, and ``RuntimeError`` before :meth:`start`.
        """
        image, _ = self._state()
        for click in clicks:
            click.check_inside((image.shape[-2], image.shape[-1]))
        self.clicks.extend(clicks)
        with torch.inference_mode(False), torch.no_grad():
            features, size, copies = self._enter()
            if self.brs is None:
                logits = resize(self.net.heads(features)[0], size)
            else:
                logits = self.brs.solve(self._problem(self.brs, features, size, copies), len(self.clicks))
            prob = torch.sigmoid(unmirror(logits) if self.flip else logits)
            self._previous = prob if self.zoom is None else self.zoom.inverse(prob)
        return self._previous[0, 0]

    def problem(self, click: Click) -> BrsProblem:
        """What f-BRS-B would optimise if ``click`` came next; the predictor's clicks and answer stay as they are."""
        if self.brs is None:
            raise RuntimeError("this predictor has no f-BRS-B; build it with brs=BrsConfig()")
        kept = None if self.zoom is None else self.zoom.kept
        self.clicks.append(click)
        try:
            with torch.inference_mode(False), torch.no_grad():
                return self._problem(self.brs, *self._enter())
        finally:
            self.clicks.pop()
            if self.zoom is not None:
                self.zoom.kept = kept

    def _state(self) -> tuple[Tensor, Tensor]:
        if self._image is None or self._previous is None:
            raise RuntimeError("there is no frame at hand; call start() first")
        return self._image, self._previous

    def _enter(self) -> tuple[Tensor, tuple[int, int], list[list[Click]]]:
        """Features of all copies, the size of the network's input, and all clicks in its pixels, for each copy."""
        image = torch.cat(self._state(), 1)
        clicks = list(self.clicks)
        if self.zoom is not None:
            image, clicks = self.zoom.transform(image, clicks)
        copies = [clicks]
        size = (image.shape[-2], image.shape[-1])
        if self.flip:
            image, copies = mirror(image), [clicks, mirror_clicks(clicks, size[1])]
        limit = None if self._brs_config is None else self._brs_config.max_clicks
        points = click_points([own[:limit] for own in copies], image.device)
        return self.net.features(image, points), size, copies

    def _problem(
        self, brs: Brs, features: Tensor, size: tuple[int, int], copies: Sequence[Sequence[Click]]
    ) -> BrsProblem:
        return BrsProblem(self.net.heads, features, size, copies, brs.config)


@dataclass(eq=False)
class _Object:
    """One object of the frame at hand: where its answer started, and the answer."""

    predictor: RitmPredictor
    mask: Tensor | None
    answer: Tensor


class RitmRefiner:
    """RITM behind the :class:`lazyvos.refine.base.Refiner` protocol.

    A further click on the same frame goes on from the answer before it; the result depends on frame, clicks and mask alone, whether
    the clicks came in one call or in several. Only the last frame is kept (by identity: do not write into its array).

    Parameters
    ----------
    net: the network; it is put into evaluation mode.
    zoom, flip, brs: zoom-in, mirrored copy and f-BRS-B, all on as in CiVOS. f-BRS-B runs from an object's second click on.
    together: one prediction for all clicks of a call, as CiVOS does in a round; else one per click, as RITM was made for.
    use_mask: hand the earlier mask to the network.
    """

    def __init__(
        self, net: RitmNet, *, zoom: bool = True, flip: bool = True, brs: bool = True, together: bool = False,
        use_mask: bool = True,
    ) -> None:  # fmt: skip
        self.net = net.eval()
        self.together, self.use_mask = together, use_mask
        self.zoom, self.flip, self.brs = zoom, flip, brs
        self._frame: np.ndarray | None = None
        self._objects: dict[int, _Object] = {}

    def refine(self, frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None = None) -> Tensor:
        """See :class:`lazyvos.refine.base.Refiner`."""
        if not clicks:
            raise InputError("a refiner needs at least one click")
        mask = mask if self.use_mask else None
        if self._frame is not frame:
            self._frame, self._objects = frame, {}
        name = clicks[0].object
        kept = self._objects.get(name)
        if kept is None or not self._continues(kept, clicks, mask):
            kept = self._begin(frame, mask)
        new = clicks[len(kept.predictor.clicks) :]
        self._objects.pop(name, None)
        for group in (new,) if self.together and new else ((click,) for click in new):
            kept.answer = kept.predictor.add(*group)
        self._objects[name] = kept
        return kept.answer.cpu().clone()

    def _begin(self, frame: np.ndarray, mask: Tensor | None) -> _Object:
        predictor = RitmPredictor(
            self.net,
            zoom=ZoomConfig() if self.zoom else None,
            flip=self.flip,
            brs=BrsConfig() if self.brs else None,
        )
        predictor.start(frame, mask)
        return _Object(predictor, None if mask is None else mask.detach().cpu().clone(), torch.empty(0))

    def _continues(self, kept: _Object, clicks: Sequence[Click], mask: Tensor | None) -> bool:
        seen = kept.predictor.clicks
        if (kept.mask is None) != (mask is None) or list(clicks[: len(seen)]) != seen:
            return False
        if self.together and len(clicks) != len(seen):
            return False
        return mask is None or kept.mask is None or torch.equal(kept.mask, mask.cpu())
