"""Movements that are functions of the frame number: smooth wandering, ramps, gaits and elastic fields."""
from __future__ import annotations

import numpy as np


class Wander:
    """Smooth random walk around 0 that never ends: three sine waves with drawn periods and phases.

    `wander(t)` gives values `[n]` of about unit spread; `period` is the middle of the periods in frames.
    """

    def __init__(self, rng: np.random.Generator, n: int, period: float) -> None:
        self._speed = 2 * np.pi / (period * rng.uniform((0.55, 0.9, 1.5), (0.8, 1.4, 2.4), (n, 3)))
        self._phase = rng.uniform(0, 2 * np.pi, (n, 3))
        self._weight = np.array([0.45, 0.75, 0.95])

    def __call__(self, t: float) -> np.ndarray:
        return np.sin(self._speed * t + self._phase) @ self._weight


def ramp(x: float) -> float:
    """0 below 0, 1 above 1, smooth between (3x^2 - 2x^3)."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def plateau(t: float, start: float, end: float, edge: float) -> float:
    """0 outside `start`..`end`, 1 inside, with smooth edges of `edge` frames within the span."""
    return ramp((t - start) / edge) * ramp((end - t) / edge)


class Elastic:
    """A sheet of jelly: displacements `float32 [5,5,2]` of about `amount` sprite sizes that change over `period`."""

    def __init__(self, rng: np.random.Generator, amount: float, period: float) -> None:
        self._wander = Wander(rng, 50, period)
        self._amount = amount

    def __call__(self, t: int) -> np.ndarray:
        return (self._amount * self._wander(t)).reshape(5, 5, 2).astype(np.float32)


class Gait:
    """A trot for the horse silhouette: legs swing, head and tail nod. `phase(t)` counts strides.

    Returns displacements `float32 [12,12,2]` in sprite sizes.
    """

    def __init__(self, phase: object, amount: float = 1.0) -> None:
        if not callable(phase):
            raise TypeError("phase is a function of the frame number")
        self._phase, self._amount = phase, amount
        side = (np.arange(12) + 0.5) / 12
        u, v = np.meshgrid(side, side)
        self._legs = np.clip((v - 0.5) / 0.5, 0, 1) ** 1.3
        self._lag = 2.2 * np.pi * u
        self._head = np.clip((u - 0.6) / 0.4, 0, 1) * np.clip((0.55 - v) / 0.55, 0, 1)
        self._tail = np.clip((0.14 - u) / 0.14, 0, 1) * np.clip((v - 0.25) / 0.5, 0, 1)

    def __call__(self, t: int) -> np.ndarray:
        turn = 2 * np.pi * self._phase(t)
        across = 0.12 * self._legs * np.sin(turn + self._lag) + 0.05 * self._tail * np.sin(turn + 1)
        down = (0.06 * self._head * np.sin(turn + 0.7)
                + 0.05 * self._legs * np.clip(np.cos(turn + self._lag), -0.3, 1))
        return (self._amount * np.stack([across, down], axis=-1)).astype(np.float32)
