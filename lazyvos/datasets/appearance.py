"""What changes the look of a drawn clip: the weather over its frames, and objects whose look drifts."""
from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from lazyvos.datasets.motion import Wander
from lazyvos.datasets.photos import TEXTURES, covering, hue_turned


class Weather:
    """Light that changes in time and across the frame, a focus that comes and goes, and grain."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], *, light: float, blur: float, noise: float) -> None:
        self._size, self._spread, self._widest = size, light, blur
        self._light, self._focus = Wander(rng, 13, 140), Wander(rng, 1, 80)
        self._grain = np.clip(rng.normal(0, noise, (size[0] + 32, size[1] + 32, 3)), -20, 20).astype(np.int16)

    def blur(self, t: int) -> float:
        """Spread of the blur in pixels; up to 0.2 is none."""
        return self._widest * max(0.0, 0.5 + 0.5 * float(self._focus(t)[0]))

    def light(self, t: int) -> float:
        """Brightness of the whole frame; 1 is that of the pictures."""
        return 1 + self._spread * 0.7 * float(self._light(t)[0])

    def __call__(self, frame: np.ndarray, t: int) -> np.ndarray:
        height, width = self._size
        sigma = self.blur(t)
        if sigma > 0.2:
            frame = cv2.GaussianBlur(frame, (0, 0), sigma)
        level = self._light(t)
        field = 1 + self._spread * (0.7 * level[0] + 0.5 * level[1:].reshape(3, 4))
        gain = cv2.resize(field.clip(0.2, 2).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        lit = cv2.multiply(frame, cv2.merge([gain] * 3), dtype=cv2.CV_8U)
        a, b = t * 17 % 32, t * 29 % 32
        return cv2.add(lit, self._grain[a:a + height, b:b + width], dtype=cv2.CV_8U)


class Drift:
    """A sprite whose hue turns and whose texture fades into another one and back, slowly; frame 0 is the sprite."""

    def __init__(self, rng: np.random.Generator, sprite: np.ndarray, spread: float) -> None:
        self._sprite, self._spread = sprite, spread
        self._path = Wander(rng, 2, 700)
        alpha = sprite[..., 3:].astype(np.uint16)
        other = covering(str(rng.choice(list(TEXTURES))), sprite.shape[:2], rng)
        self._other = np.concatenate([(other * alpha // 255).astype(np.uint8), sprite[..., 3:]], axis=-1)
        self._look = lru_cache(maxsize=2)(self._draw)

    def _change(self, t: int) -> tuple[float, float]:
        """Degrees of hue and share of the other texture."""
        turn, fade = self._spread * (self._path(t) - self._path(0))
        return 60.0 * float(turn), min(abs(float(fade)), 1.0)

    def amount(self, t: int) -> float:
        """The larger of hue turned in 60 degrees (at most 1) and share of the other texture."""
        degrees, share = self._change(t)
        return max(min(abs(degrees) / 60, 1.0), share)

    def __call__(self, t: int) -> np.ndarray:
        return self._look(t)

    def _draw(self, t: int) -> np.ndarray:
        degrees, share = self._change(t)
        if not degrees and not share:
            return self._sprite
        mixed = cv2.addWeighted(self._sprite, 1 - share, self._other, share, 0) if share else self._sprite
        drawn = hue_turned(mixed, degrees)
        drawn[..., 3] = self._sprite[..., 3]
        return drawn
