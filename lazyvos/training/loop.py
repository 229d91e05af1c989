"""The training loop: prefetched batches, one cosine, weight average, checkpoints, exact resume, CSV log; in one process or
in several (:mod:`lazyvos.training.parallel`)."""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lazyvos.masks.atomic import atomic_path
from lazyvos.training.config import TrainConfig
from lazyvos.training.parallel import ALONE, Group
from lazyvos.types import InputError


class Task(Protocol):
    """What is trained: where batches come from and what they cost."""

    def batch(self, step: int, which: range | None = None) -> Any:
        """The clips ``which`` of a step's batch (``None``: all of it), each a function of step and number alone; runs in a
        background thread."""
        ...

    def loss(self, net: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss to minimise and the numbers to log, all of them means over the clips of ``batch``."""
        ...


def rate_at(config: TrainConfig, step: int) -> float:
    """Learning-rate factor: linear warm-up, then one cosine down to ``final_rate``."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _optimiser(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    trunk = getattr(net, "key_encoder", None)
    slow: set[int] = set()
    if trunk is not None and hasattr(trunk, "features"):
        for index, layer in enumerate(trunk.features):
            if index < config.frozen:
                layer.requires_grad_(False)
        slow = {id(p) for p in trunk.features.parameters()}
    groups = [
        {"params": [p for p in net.parameters() if p.requires_grad and id(p) not in slow], "scale": 1.0},
        {"params": [p for p in net.parameters() if p.requires_grad and id(p) in slow], "scale": config.encoder_rate},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.rate, betas=config.betas, weight_decay=config.weight_decay
    )


def _save(path: Path, state: dict[str, Any]) -> None:
    with atomic_path(path) as partial:
        torch.save(state, partial)


def fit(
    net: nn.Module,
    task: Task,
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = True,
    save_every: int = 200,
    snapshot_every: int = 0,
    progress: bool = True,
    on_save: Callable[[int, dict[str, Tensor]], None] | None = None,
    group: Group = ALONE,
    parts: int = 1,
) -> dict[str, Tensor]:
    """Train ``net`` and return its averaged weights (fp32 state dict).

    ``out`` receives ``last.pt`` (everything an exact resume needs), ``average.pt`` (weights), ``log.csv``, and
    ``average-<step>.pt`` every ``snapshot_every`` steps. With ``resume`` a run continues from ``last.pt`` and
    gives the same weights as one that was never stopped.

    Each process of ``group`` calls this with the same arguments and takes its share of every batch, in ``parts`` slices
    one after another (less memory). The process of rank 0 alone reads and writes ``out``, shows the progress and calls
    ``on_save``; all return the same weights. Runs with equal ``world · parts`` do the same arithmetic up to the order of
    sums; other numbers of slices change dropout's draws, and rounding. A run may go on with another number of processes.

    Raises :class:`InputError` when ``last.pt`` belongs to another configuration or a batch has fewer clips than there
    are slices, and ``RuntimeError`` when the loss is no longer finite or another process is lost.
    """
    slices = {phase.batch: group.slices(phase.batch, parts) for phase in config.phases}
    group.agree("the training configuration", (config, parts))
    folder, device = Path(out), next(net.parameters()).device
    if group.first:
        folder.mkdir(parents=True, exist_ok=True)
    optimiser = _optimiser(net, config)
    last = folder / "last.pt"
    state = group.share(lambda: _checkpoint(last if resume else None, config, net))
    net.load_state_dict(state["net"])
    average = copy.deepcopy(net.state_dict())
    start = state.get("step", 0)
    if start:
        optimiser.load_state_dict(state["optimiser"])
        average = {key: value.to(device) for key, value in state["average"].items()}
    log_path = folder / "log.csv"
    rows = _kept_rows(log_path, start) if group.first else []
    trained = [p for p in net.parameters() if p.requires_grad]
    net.train()

    def save(step: int) -> None:
        state = {"config": repr(config), "net": net.state_dict(), "optimiser": optimiser.state_dict()}
        _save(last, {**state, "average": average, "step": step})
        _save(folder / "average.pt", average)
        if snapshot_every and step % snapshot_every == 0:
            _save(folder / f"average-{step}.pt", average)
        _write_rows(log_path, rows)
        if on_save is not None:
            on_save(step, average)

    def draw(step: int) -> list[tuple[float, Any]]:
        clips = config.phase_at(step).batch
        return [(len(which) / clips, task.batch(step, which)) for which in slices[clips]]

    began = time.perf_counter()
    with ThreadPoolExecutor(1) as pool, tqdm(
        total=config.steps, initial=start, desc="train", unit="step", disable=not (progress and group.first)
    ) as bar:
        queue = [pool.submit(draw, s) for s in range(start, min(start + 3, config.steps))]
        for step in range(start, config.steps):
            batches = queue.pop(0).result()
            if step + 3 < config.steps:
                queue.append(pool.submit(draw, step + 3))
            factor = rate_at(config, step)
            for param_group in optimiser.param_groups:
                param_group["lr"] = config.rate * factor * param_group["scale"]
            optimiser.zero_grad(set_to_none=True)
            numbers: dict[str, float] = {}
            for share, batch in batches:
                with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                    loss, found = task.loss(net, batch, step)
                (loss * share).backward()
                for key, value in {"loss": loss.item(), **found}.items():
                    numbers[key] = numbers.get(key, 0.0) + share * value
            numbers = group.add_up(trained, numbers)
            if not math.isfinite(numbers["loss"]):
                raise RuntimeError(f"loss is {numbers['loss']} at step {step}; lower the learning rate ({config.rate})")
            nn.utils.clip_grad_norm_([p for p in trained if p.grad is not None], config.clip)
            optimiser.step()
            decay = min(config.average, (step + 1) / (step + 10))
            with torch.no_grad():
                for key, value in net.state_dict().items():
                    if value.dtype.is_floating_point:
                        average[key].lerp_(value, 1 - decay)
                    else:
                        average[key].copy_(value)
            seconds = time.perf_counter() - began
            rows.append({"step": step, **numbers, "rate": factor, "seconds": round(seconds, 2)})
            bar.update()
            if step % 10 == 0:
                recent = rows[-50:]
                bar.set_postfix(loss=f"{sum(r['loss'] for r in recent) / len(recent):.3f}", refresh=False)
            if group.first and ((step + 1) % save_every == 0 or step + 1 == config.steps):
                save(step + 1)
    return average


def _checkpoint(last: Path | None, config: TrainConfig, net: nn.Module) -> dict[str, Any]:
    """What ``last`` holds, or the weights of ``net`` where there is no such file."""
    if last is None or not last.exists():
        return {"net": {key: value.cpu() for key, value in net.state_dict().items()}}
    state: dict[str, Any] = torch.load(last, map_location="cpu", weights_only=True)
    if state["config"] != repr(config):
        raise InputError(f"{last} was written by another configuration; use another folder or resume=False")
    return state


def _kept_rows(path: Path, start: int) -> list[dict[str, Any]]:
    if not path.exists() or start == 0:
        return []
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if row["step"] < start]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_path(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
