"""Data-parallel training: processes started by ``torchrun`` split every batch and add up their gradients.

The batch of a step is a function of the step alone. Its clips are cut into slices, one process takes its own slices one
after another, and every loss is a mean over clips; so the sum of gradients weighted by the size of the slices is the
gradient of the whole batch, whatever the number of processes.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from lazyvos.device import pick_device
from lazyvos.types import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The processes of a training run; ``Group()`` is a single process, for which every method is trivial.

    ``rank`` counts from 0 to ``world − 1``; ``timeout`` is how many seconds a process waits for the others.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    timeout: float = 600.0

    @property
    def first(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def slices(self, clips: int, parts: int = 1) -> list[range]:
        """This process's part of a batch: ``parts`` of ``world · parts`` ranges that differ by one clip at most.

        Raises :class:`InputError` when there are fewer clips than ranges.
        """
        if parts < 1:
            raise InputError(f"a batch cannot be taken in {parts} parts; give 1 or more")
        count = self.world * parts
        if clips < count:
            raise InputError(
                f"a batch of {clips} clips cannot be split over {self.world} processes in {parts} parts each; "
                f"use at most {clips} in all, or larger batches"
            )
        bounds = [clips * i // count for i in range(count + 1)]
        own = range(self.rank * parts, (self.rank + 1) * parts)
        return [range(bounds[i], bounds[i + 1]) for i in own]

    def add_up(self, parameters: Sequence[nn.Parameter], numbers: dict[str, float]) -> dict[str, float]:
        """Replace each gradient by its sum over the processes and return the sums of ``numbers``.

        A parameter without gradient in every process keeps none; one without gradient here gets that of the others.
        All processes end with the same bits in the same memory layout. One collective call.
        """
        if self.world == 1:
            return numbers
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        used = pieces[0].new_tensor([float(p.grad is not None) for p in parameters])
        values = pieces[0].new_tensor(list(numbers.values()))
        flat = torch.cat([*(piece.reshape(-1) for piece in pieces), used, values])
        with self._together():
            work = dist.all_reduce(flat, async_op=True)
            assert work is not None
            work.wait(timedelta(seconds=self.timeout))
        sums = list(flat.split([*(p.numel() for p in parameters), len(parameters), len(numbers)]))
        totals, counts = sums.pop().tolist(), sums.pop().tolist()
        for parameter, total, count in zip(parameters, sums, counts, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(total.view(parameter.shape)) if count else None
        return dict(zip(numbers, totals, strict=True))

    def share(self, make: Callable[[], T]) -> T:
        """What ``make()`` gives in process 0, in all of them; its :class:`InputError` is raised in all of them."""
        if self.world == 1:
            return make()
        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = make()
            except InputError as error:
                box[1] = str(error)
        with self._together():
            dist.broadcast_object_list(box, 0)
        if box[1] is not None:
            raise InputError(box[1])
        return box[0]  # type: ignore[no-any-return]

    def agree(self, what: str, value: object) -> None:
        """Raises :class:`InputError` in all processes unless ``repr(value)`` is the same in all of them."""
        if self.world == 1:
            return
        found: list[str] = [""] * self.world
        with self._together():
            dist.all_gather_object(found, repr(value))
        other = next((rank for rank, text in enumerate(found) if text != found[0]), None)
        if other is not None:
            raise InputError(f"{what} of process {other} is not that of process 0; give all processes the same")

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} of {self.world} lost the others: one of them ended, or said nothing for "
                f"{self.timeout:g} s ({_short(error)}); start all again, the run goes on from its last checkpoint"
            ) from error


ALONE = Group()


@contextmanager
def joined(device: str | None = None, timeout: float = 600.0) -> Iterator[Group]:
    """The group that the environment speaks of (``RANK``, ``WORLD_SIZE``, … as ``torchrun`` sets them), or a single process.

    Processes talk over gloo on the CPU and over nccl on GPUs; process ``LOCAL_RANK`` of a machine takes GPU ``LOCAL_RANK``.

    Raises :class:`InputError` for a device that not every process can have, and ``RuntimeError`` when the others do not
    come within ``timeout`` seconds.
    """
    if not 0 < timeout <= 86400:
        raise InputError(f"a timeout of {timeout:g} s cannot work; give more than 0 and at most 86400 seconds")
    world = int(os.environ.get("WORLD_SIZE", 1))
    where = pick_device(device)
    if world == 1:
        yield Group(device=where, timeout=timeout)
        return
    kind, _, number = where.partition(":")
    local = int(os.environ.get("LOCAL_RANK", 0))
    if number:
        raise InputError(f"device {where!r} names one GPU for {world} processes; give cuda, and each takes its own")
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise InputError(
                f"process {local} of this machine has no GPU ({torch.cuda.device_count()} found); "
                "start one process per GPU, or use the device cpu"
            )
        torch.cuda.set_device(local)
        where = f"cuda:{local}"
    absent = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if absent:
        raise InputError(f"WORLD_SIZE says {world} processes but {absent[0]} is not set; start them with torchrun")
    group = Group(int(os.environ["RANK"]), world, where, timeout)
    patience = timedelta(seconds=timeout)
    try:
        store = _fresh(next(dist.rendezvous("env://", timeout=patience))[0], group)
        backend = "nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=group.rank, world_size=world, timeout=patience)
    except RuntimeError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RuntimeError(
            f"process {group.rank} of {world} could not meet the others at {place} within {timeout:g} s "
            f"({_short(error)}); see that all are started and that the address can be reached"
        ) from error
    yield group
    dist.destroy_process_group()  # not after an error: a process that waits for the dead would hang


def _fresh(store: dist.Store, group: Group) -> dist.Store:
    """A part of ``store`` that only the living processes of ``group`` know.

    ``torchrun`` restarts processes on the store of those that died, where the addresses of the dead still stand; restart
    counts may differ between machines. So process 0 answers the random name of each other process with that of the session,
    until all have confirmed it under the session's own name.
    """

    def polls() -> Iterator[None]:
        deadline = time.monotonic() + group.timeout
        while time.monotonic() < deadline:
            yield
            time.sleep(0.02)
        raise RuntimeError("the others gave no sign")

    name = uuid.uuid4().hex
    if group.first:
        waiting = set(range(1, group.world))
        for _ in polls():
            waiting = {rank for rank in waiting if not store.check([f"{name}/{rank}"])}
            if not waiting:
                return dist.PrefixStore(name, store)
            for rank in waiting:
                if store.check([f"hello/{rank}"]):
                    store.set(f"answer/{rank}", f"{store.get(f'hello/{rank}').decode()} {name}")
    store.set(f"hello/{group.rank}", name)
    for _ in polls():
        if store.check([f"answer/{group.rank}"]):
            asked, session = store.get(f"answer/{group.rank}").decode().split()
            if asked == name:
                store.set(f"{session}/{group.rank}", "here")
                return dist.PrefixStore(session, store)
    raise AssertionError("polls() ends by raising")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


@contextmanager
def draws(device: torch.device, *seed: int) -> Iterator[None]:
    """Inside, torch's own random numbers (dropout) are a function of ``seed``; afterwards they go on as before."""
    state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(state)
        yield
