"""The interaction module: clicks on one frame become the masks of all objects there (thesis, section 4.4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lazyvos.refine.base import Refiner
from lazyvos.refine.ritm_predictor import RitmPredictor, RitmRefiner
from lazyvos.refine.zoom import ZoomConfig
from lazyvos.types import Click, InputError

COMBINATIONS = ("max", "product")
HARDNESS = 1000.0


def combine(stack: Tensor, how: str = "max") -> Tensor:
    """Independent masks of several objects to one nearly hard distribution.

    The background is 1 − max_k p_k (``"max"``, the released code) or ∏_k (1 − p_k) (``"product"``, the soft aggregation of STM); the same with one
    object. Log-odds of the values, clamped by 1e-7, are multiplied by 1000 before the softmax.

    Parameters
    ----------
    stack: ``float [O, H, W]`` in [0, 1].

    Returns ``float32 [1 + O, H, W]``, background first. Raises :class:`InputError` for another ``how``.
    """
    if how not in COMBINATIONS:
        raise InputError(f"combine {how!r} is unknown; choose one of {', '.join(COMBINATIONS)}")
    background = 1 - stack.amax(0, keepdim=True) if how == "max" else torch.prod(1 - stack, 0, keepdim=True)
    clamped = torch.cat([background, stack]).float().clamp(1e-7, 1 - 1e-7)
    return torch.softmax(HARDNESS * torch.log(clamped / (1 - clamped)), 0)


def without_clicks(refiner: Refiner | None, frame: np.ndarray, previous: Tensor) -> Tensor | None:
    """What the refiner's network says of a previous mask ``[H, W]`` when nothing was clicked; ``None`` where it cannot say.

    RITM can. SAM-HQ is nothing without a prompt, and the shipped click network never saw such a case in training.
    """
    if not isinstance(refiner, RitmRefiner) or not refiner.use_mask:
        return None
    predictor = RitmPredictor(refiner.net, zoom=ZoomConfig() if refiner.zoom else None, flip=refiner.flip)
    predictor.start(frame, previous)
    return predictor.add().cpu()


def masks_at(
    frame: np.ndarray,
    objects: Sequence[int],
    clicks: Mapping[int, Sequence[Click]],
    given: Mapping[int, Tensor],
    previous: Mapping[int, Tensor],
    refiner: Refiner | None,
) -> tuple[Tensor, dict[int, str]]:
    """Mask of every object on the frame of the interaction, each by itself.

    An object with clicks is predicted from the clicks of this round and its previous mask. One without is predicted from its previous
    mask alone (:func:`without_clicks`), or keeps it. A mask that was given stands as it is.

    Parameters
    ----------
    frame: ``uint8 [H, W, 3]`` RGB.
    clicks: by object. given: masks ``float [H, W]`` by object. previous: probabilities ``float [H, W]`` of the last round.

    Returns
    -------
    ``float32 [O, H, W]`` and for each object where its mask comes from: ``"clicks"``, ``"mask"``, ``"network"``, ``"kept"``.
    """
    planes, sources = [], {}
    for identity in objects:
        earlier = previous.get(identity)
        if identity in given:
            plane, source = given[identity], "mask"
        elif clicks.get(identity):
            assert refiner is not None
            plane, source = refiner.refine(frame, tuple(clicks[identity]), earlier), "clicks"
        else:
            assert earlier is not None
            answer = without_clicks(refiner, frame, earlier)
            plane, source = (earlier, "kept") if answer is None else (answer, "network")
        planes.append(plane.float().cpu())
        sources[identity] = source
    return torch.stack(planes), sources
