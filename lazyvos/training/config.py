"""What a training run is: phases, optimiser, seeds. A run is a function of this and of the data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Phase:
    """A stretch of training with fixed clip shape: ``steps`` batches of ``batch`` clips."""

    steps: int
    side: int
    batch: int
    frames: int
    video_share: float
    max_gap: int


@dataclass(frozen=True)
class TrainConfig:
    """A training run of the tracker.

    One cosine over all phases, linear warm-up, learning rate of the encoder scaled by ``encoder_rate`` and
    its first ``frozen`` stages fixed; exponential weight average with decay ``average``.
    """

    phases: tuple[Phase, ...] = field(
        default=(
            Phase(1500, 128, 12, 2, 0.25, 10),
            Phase(1200, 144, 8, 3, 0.4, 15),
            Phase(1600, 192, 4, 4, 0.5, 22),
        )
    )
    rate: float = 1e-3
    encoder_rate: float = 0.15
    frozen: int = 7
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 60
    final_rate: float = 0.03
    clip: float = 2.0
    average: float = 0.998
    hard_share: float = 0.3
    hard_steps: int = 800
    two_objects: float = 0.4
    deep: float = 0.4
    seed: int = 0
    bf16: bool = False

    @property
    def steps(self) -> int:
        """All steps of the run."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """The phase that step ``step`` (0-based) belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    @staticmethod
    def smoke() -> TrainConfig:
        """A few steps, to see that everything runs."""
        return TrainConfig(phases=(Phase(4, 64, 2, 2, 0.0, 3), Phase(4, 64, 2, 3, 0.0, 3)), warmup=2, hard_steps=4)
