"""What is asked of a round, checked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lazyvos.masks.labels import object_ids
from lazyvos.refine.base import Refiner
from lazyvos.rounds.state import State
from lazyvos.types import Click, InputError


@dataclass(frozen=True, eq=False)
class Ask:
    """Clicks and masks ``float32 [H, W]`` by object on a frame; ``new`` objects in the order they occur."""

    frame: int
    clicks: dict[int, tuple[Click, ...]]
    masks: dict[int, Tensor]
    new: tuple[int, ...]
    flat: tuple[Click, ...]

    @property
    def empty(self) -> bool:
        """Nothing was clicked and no mask given."""
        return not self.clicks and not self.masks


def checked(
    frame: int, clicks: tuple[Click, ...], mask: np.ndarray | None, objects: Sequence[int] | None, state: State,
    refiner: Refiner | None,
) -> Ask:  # fmt: skip
    """See :meth:`lazyvos.rounds.Rounds.interact`."""
    size = state.geometry.frame
    for click in clicks:
        click.check_inside(size)
    if clicks and refiner is None:
        raise InputError("clicks need a refiner; build the rounds with one, or give a mask")
    grouped = {o: tuple(c for c in clicks if c.object == o) for o in dict.fromkeys(click.object for click in clicks)}
    masks = _given(mask, objects, size, state)
    both = sorted(set(grouped) & set(masks))
    if both:
        raise InputError(f"object {both[0]} has clicks and a mask on frame {frame}; give one of them")
    for identity, own in grouped.items():
        if identity not in state.objects and not any(click.positive for click in own):
            raise InputError(f"object {identity} is new and has only negative clicks; begin with a positive one")
    new = tuple(o for o in (*grouped, *masks) if o not in state.objects)
    if not clicks and not masks and not state.objects:
        raise InputError("there is nothing to start from; give the first round clicks or a mask")
    return Ask(frame, grouped, masks, tuple(sorted(new)), clicks)


def _given(
    mask: np.ndarray | None, objects: Sequence[int] | None, size: tuple[int, int], state: State
) -> dict[int, Tensor]:
    if mask is None:
        if objects is not None:
            raise InputError("objects says what a mask speaks of; give mask=… with it")
        return {}
    mask = np.asarray(mask)
    if mask.shape != size or mask.dtype.kind not in "biu":
        raise InputError(f"mask has shape {list(mask.shape)} and type {mask.dtype}, the frame is {list(size)}; give a label map [H, W] of object ids")
    if mask.size and (mask.min() < 0 or mask.max() > 255):
        raise InputError(f"mask holds ids from {mask.min()} to {mask.max()}; ids are 0 to 254, and 255 is void")
    present = object_ids(mask)
    wanted = present if objects is None else [int(o) for o in objects]
    if not wanted:
        raise InputError("mask holds no object; ids 1 to 254 mark objects, or say with objects=… which ones are absent")
    strange = [o for o in present if o not in wanted]
    if strange:
        raise InputError(f"mask holds object {strange[0]}, which objects={wanted} leaves out; add it or remove it from the mask")
    unknown = [o for o in wanted if o not in present and o not in state.objects]
    if unknown:
        raise InputError(f"object {unknown[0]} is not known and has no pixel in the mask; known are {list(state.objects)}")
    return {o: torch.from_numpy((mask == o).astype(np.float32)) for o in wanted}
