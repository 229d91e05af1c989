"""Temperature scaling (Guo et al., ICML 2017): the simplest calibration, one number by which logits are divided."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lazyvos.types import InputError

_FLOOR = 1e-7  # of probabilities, as in the entropy
_BOUNDS = (math.log(0.02), math.log(50.0))  # of ln T


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless ``temperature`` is a number above 0."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; give a number above 0, 1 for none.")


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities ``[K, ...]`` whose logits were divided by ``temperature``: softmax of (ln p) / T.

    Logits that differ by a constant give the same, so the probabilities are enough. Which channel is largest stays.
    ``temperature=1`` returns the input itself; above 1 is less sure, below 1 surer.
    """
    check_temperature(temperature)
    if temperature == 1:
        return probabilities
    p = probabilities if probabilities.dtype == torch.float64 else probabilities.float()
    return torch.softmax(p.clamp_min(_FLOOR).log() / temperature, 0)


@dataclass(frozen=True)
class Fit:
    """A fitted ``temperature``; ``before`` and ``after`` are the mean negative log-likelihoods in nats over ``pixels`` pixels."""

    temperature: float
    before: float
    after: float
    pixels: int


def fit_temperature(
    frames: Iterable[tuple[Tensor, np.ndarray, tuple[int, ...]]], *, pixels: int = 20000, seed: int = 0
) -> Fit:
    """The temperature with the smallest negative log-likelihood on held-out frames.

    Parameters
    ----------
    frames: of each frame the probabilities ``[1 + O, H, W]``, the truth ``uint8 [H, W]`` of object ids (255 = void; an id that is
        not among the objects is left out too), and the objects in channel order, as ``Prediction`` has them.
    pixels: how many pixels of a frame are drawn (all, where it has no more); ``seed`` of the draw.

    Raises :class:`InputError` where no frame has a pixel with truth.
    """
    from scipy.optimize import minimize_scalar  # only here: it takes a while to import

    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    for n, (probabilities, truth, objects) in enumerate(frames):
        if tuple(probabilities.shape) != (1 + len(objects), *truth.shape):
            raise ValueError(
                f"frame {n} has probabilities of shape {tuple(probabilities.shape)} but truth {truth.shape} and {len(objects)} objects"
            )
        channel = np.full(256, -1)
        channel[[0, *objects]] = np.arange(1 + len(objects))
        wanted = channel[truth].ravel()
        known = np.flatnonzero(wanted >= 0)
        if len(known) > pixels:
            known = np.random.default_rng((seed, n)).choice(known, pixels, replace=False)
        if len(known):
            at = torch.from_numpy(known).to(probabilities.device)
            p = probabilities.flatten(1)[:, at].double().clamp_min(_FLOOR).log().cpu().numpy()
            drawn.append((p, wanted[known]))
    count = sum(len(wanted) for _, wanted in drawn)
    if not count:
        raise InputError("no frame has a pixel with truth; give held-out frames with label maps of the objects")

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        total = 0.0
        for logs, wanted in drawn:
            scaled = logs * scale
            top = scaled.max(0)
            total += float((np.log(np.exp(scaled - top).sum(0)) + top - scaled[wanted, np.arange(len(wanted))]).sum())
        return total / count

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-4})
    return Fit(math.exp(found.x), loss(0.0), float(found.fun), count)
