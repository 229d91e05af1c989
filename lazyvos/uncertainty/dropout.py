"""Monte-Carlo dropout on the key projection (Gal & Ghahramani, ICML 2016; thesis, section 6.8.3).

Each pass drops whole channels of the keys, of the frame and of the memory alike, with one draw for both. The similarity is a
sum over channels, so that this is a similarity with a weight for each channel, and the weights can stand on the side of the frame
alone: the memory is stored once, for all passes, and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.layers import aggregate
from lazyvos.memory.base import Peeks
from lazyvos.types import InputError
from lazyvos.uncertainty.base import Scene
from lazyvos.uncertainty.ensemble import Part, Split

_PIXELS = 500_000  # of all objects and passes that are decoded at once, unless it is said how many


@dataclass(frozen=True)
class McDropout(Split):
    """Several passes of each frame with spatial dropout on the keys; their mean is the prediction.

    Encoders and the ordinary pass run once; each further pass reads the memory with its own channel weights and decodes, with
    the frame's features shared. The recurrent state moves by the ordinary, undropped pass. The memory stores the mean; all passes
    share it (the thesis does not say). A pass is a function of ``seed``, frame number and its own number, so that clips repeat exactly,
    also after a resume. Works with XMem of any size, MiVOS and QDMN, not with STCN, and with every memory of lazyvos.

    Attributes
    ----------
    passes, ratio: how many, and which share of the key channels each drops (20 and 0.2 in the thesis). The others grow by
        1 / (1 - ratio), on both sides, as in training.
    part: which map and score, see :class:`~lazyvos.uncertainty.ensemble.Split`; its other options hold too.
    at_once: passes that are read and decoded together; ``None`` chooses by their size. More need more memory.
    """

    passes: int = 20
    ratio: float = 0.2
    seed: int = 0
    at_once: int | None = None
    part: Part = field(default="total", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passes < 1:
            raise ValueError(f"passes is {self.passes}; give at least 1.")
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}; give the share of channels to drop, at least 0 and less than 1.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give a whole number of at least 0.")
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at_once is {self.at_once}; give at least 1 pass, or None.")

    def check(self, backbone: Any, memory: Any) -> None:
        """Raises :class:`~lazyvos.types.InputError` where the network or the memory cannot be read with weighted channels."""
        if not hasattr(backbone, "weighted_address"):
            raise InputError(
                f"McDropout cannot weigh the key channels of {type(backbone).__name__}: its memory holds squared norms, not channels; "
                "use tiny, tiny-stm, xmem, mivos or qdmn"
            )
        if not isinstance(memory, Peeks):
            raise InputError(f"McDropout needs a memory with peek(), and {type(memory).__name__} has none; use one of lazyvos")

    def weights(self, t: int, channels: int) -> Tensor:
        """Channel weights ``float32 [passes, C_k]`` of frame ``t``: the square of the dropout mask, which is 0 or 1 / (1 - ratio)."""
        kept = np.random.default_rng((self.seed, t)).random((self.passes, channels)) >= self.ratio
        return torch.from_numpy((kept / (1 - self.ratio) ** 2).astype(np.float32))

    def sample(self, scene: Scene) -> Iterator[Tensor]:
        """See :class:`~lazyvos.uncertainty.base.Sampler`."""
        query, objects, net, state = scene.query, scene.objects, scene.backbone, scene.state
        height, width = query.grid
        memory: Any = scene.memory
        weigh = net.weighted_address  # type: ignore[attr-defined]
        weights = self.weights(scene.t, query.key.shape[0]).to(query.key.device)
        together = self.at_once or max(1, _PIXELS // (height * width * net.stride**2 * len(objects)))
        for some in weights.split(together):
            count = len(some)
            value = memory.peek(weigh(query, some), objects, net.top_k)
            readout = value.unflatten(1, (count, height, width)).permute(1, 0, 4, 2, 3).flatten(0, 1)
            states = None if state is None else state.repeat(count, *(1 for _ in state.shape[1:]))
            with scene.autocast():
                logits, _ = net.decode(query, readout, states)
            yield from aggregate(torch.sigmoid(logits.float()).unflatten(0, (count, len(objects))), 1)[1]
