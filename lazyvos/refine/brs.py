"""f-BRS-B (Sofiiuk et al., CVPR 2020): scales and biases of features are optimised until the answer agrees with the clicks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from lazyvos.refine.hrnet import resize
from lazyvos.types import Click

Heads = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class BrsConfig:
    """f-BRS-B as CiVOS configures it.

    Attributes
    ----------
    max_clicks: clicks fed to the network (the first ones); the objective uses all.
    skip_clicks: no optimisation up to this number of clicks.
    threshold: probability above which a pixel is object.
    regulariser, bias_weight: λ of ``λ (Σs² + w Σb²)`` and its w.
    radius: half side of the square around a click that the objective looks at, network pixels.
    same_mask: IoU with the last mask above which the search ends.
    history, gradient, evaluations, iterations: L-BFGS-B's m, pgtol, maxfun, maxiter.
    """

    max_clicks: int = 8
    skip_clicks: int = 1
    threshold: float = 0.5
    regulariser: float = 1e-3
    bias_weight: float = 10.0
    radius: int = 1
    same_mask: float = 0.99
    history: int = 20
    gradient: float = 1e-8
    evaluations: int = 20
    iterations: int = 40


def squares(
    copies: Sequence[Sequence[Click]], size: tuple[int, int], positive: bool, radius: int = 1
) -> Tensor:
    """``float32 [B, 1, H, W]``, 1 in squares around the clicks of one sign; each item has its own clicks.

    As in the published code a square that would start above or left of the image is empty; on the other two sides it is cut.
    """
    maps = torch.zeros(len(copies), 1, *size)
    for plane, clicks in zip(maps[:, 0], copies, strict=True):
        for click in clicks:
            top, left = round(click.y) - radius, round(click.x) - radius
            if click.positive is positive and top >= 0 and left >= 0:
                plane[top : top + 2 * radius + 1, left : left + 2 * radius + 1] = 1
    return maps


class BrsProblem:
    """One click's optimisation: features, heads, and where the answer must be object and where not.

    Parameters
    ----------
    heads: features ``[B, C, h, w]`` to (logit, auxiliary logit) ``[B, 1, h, w]``.
    features: of all copies (straight and mirrored); the same scales and biases serve them all.
    size: ``(height, width)`` of the network's input.
    copies: the clicks on each copy, in pixels of the network's input.
    """

    def __init__(
        self,
        heads: Heads,
        features: Tensor,
        size: tuple[int, int],
        copies: Sequence[Sequence[Click]],
        config: BrsConfig,
    ) -> None:
        self.heads, self.features, self.size, self.config = heads, features, size, config
        device = features.device
        self.positive = squares(copies, size, True, config.radius).to(device)
        self.negative = squares(copies, size, False, config.radius).to(device)

    @property
    def variables(self) -> int:
        """Length of x: one scale and one bias per channel."""
        return 2 * self.features.shape[1]

    def logits(self, x: Tensor) -> Tensor:
        """Logits ``[B, 1, H, W]`` of ``features * (1 + s) + b`` where ``x [2C]`` is s, then b."""
        scale, bias = x.view(2, 1, -1, 1, 1)
        return resize(self.heads(self.features * (1 + scale) + bias)[0], self.size)

    def loss(self, logits: Tensor, x: Tensor) -> Tensor:
        """Squared error at the clicked squares plus the regulariser (f-BRS, equation 4)."""
        prob = torch.sigmoid(logits)
        scale, bias = x.view(2, -1)
        missed = ((1 - prob) ** 2 * self.positive).sum() / (self.positive.sum() + 1e-5)
        wrong = (prob**2 * self.negative).sum() / (self.negative.sum() + 1e-5)
        penalty = (scale**2).sum() + self.config.bias_weight * (bias**2).sum()
        return missed + wrong + self.config.regulariser * penalty

    def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray, Tensor]:
        """Objective, its gradient ``float64 [2C]`` and the logits at ``x``."""
        with torch.inference_mode(False), torch.enable_grad():
            variables = torch.tensor(x, dtype=torch.float32, device=self.features.device, requires_grad=True)
            logits = self.logits(variables)
            loss = self.loss(logits, variables)
            (gradient,) = torch.autograd.grad(loss, variables)
        return float(loss.detach()), gradient.cpu().double().numpy(), logits.detach()

    def satisfied(self, prob: Tensor) -> bool:
        """Whether every clicked square is on the right side of the threshold."""
        missed, wrong = ((1 - prob) * self.positive).max(), (prob * self.negative).max()
        return bool(missed < 1 - self.config.threshold) and bool(wrong < self.config.threshold)


class Brs:
    """The search, warm-started from click to click. ``x`` are the variables at the start of the next click."""

    def __init__(self, config: BrsConfig | None = None) -> None:
        self.config = config or BrsConfig()
        self.x: np.ndarray | None = None
        self.evaluations = 0

    def start(self, problem: BrsProblem) -> np.ndarray:
        """The variables a click starts from: those of the last click, zeros at first."""
        return np.zeros(problem.variables) if self.x is None else self.x

    def solve(self, problem: BrsProblem, clicks: int) -> Tensor:
        """Logits ``[B, 1, H, W]`` with the lowest objective seen; with few ``clicks`` those of the variables at hand."""
        x0 = self.start(problem)
        if clicks <= self.config.skip_clicks:
            self.evaluations = 0
            with torch.no_grad():
                return problem.logits(torch.tensor(x0, dtype=torch.float32, device=problem.features.device))
        search = _Search(problem, self.config)
        found = minimize(
            search, x0, method="L-BFGS-B", jac=True,
            options={
                "maxcor": self.config.history, "ftol": 0.0, "gtol": self.config.gradient,
                "maxfun": self.config.evaluations, "maxiter": self.config.iterations,
            },
        )  # fmt: skip
        self.x, self.evaluations = np.asarray(found.x), search.count
        assert search.best is not None
        return search.best


class _Search:
    """What L-BFGS-B calls: the gradient is reported as zero, which ends the search, once nothing is left to gain."""

    def __init__(self, problem: BrsProblem, config: BrsConfig) -> None:
        self.problem, self.config = problem, config
        self.best: Tensor | None = None
        self.lowest = np.inf
        self.count = 0
        self._mask: Tensor | None = None

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, logits = self.problem.evaluate(x)
        self.count += 1
        if self.best is None or value < self.lowest:
            self.best, self.lowest = logits, value
        prob = torch.sigmoid(logits)
        mask, last = prob > self.config.threshold, self._mask
        self._mask = mask
        if self.problem.satisfied(prob) or (last is not None and _iou(mask, last) > self.config.same_mask):
            gradient = np.zeros_like(gradient)
        return value, gradient


def _iou(a: Tensor, b: Tensor) -> float:
    """IoU of two masks; two empty ones are the same."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
