"""Where units of work run: here, in local processes, or on Dask workers. Each gives what :func:`work` returns."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn

from lazyvos.bench import machine
from lazyvos.device import pick_device
from lazyvos.experiments import lockstep
from lazyvos.experiments.data import open_dataset
from lazyvos.experiments.experiment import Experiment, code_version
from lazyvos.experiments.reuse import shareable
from lazyvos.types import InputError

Tick = Callable[[int], object]
ATTEMPTS = 3
"""How often a unit of work is tried when its worker is lost."""


@dataclass(frozen=True)
class Identity:
    """The fingerprint ``key`` of an experiment on a machine, whether its encoder may be shared, and what went into the key."""

    key: str
    shareable: bool
    facts: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A unit of work: experiments that go side by side over one sequence."""

    experiments: tuple[Experiment, ...]
    sequence: str
    frames: int
    share: bool


Outcome = tuple[int, list[dict[str, Any]] | Exception]
"""Number of a task, and its records or why there are none."""


class Executor(Protocol):
    """Runs units of work in any order."""

    def identify(self, experiments: Sequence[Experiment]) -> list[Identity]:
        """Fingerprints, as the machine that will do the work finds them."""
        ...

    def map(self, tasks: Sequence[Task], tick: Tick) -> Iterator[Outcome]:
        """Outcomes as they come; ``tick(n)`` when ``n`` more frames are done."""
        ...


def identify(experiments: Sequence[Experiment], configs: Sequence[dict[str, Any]] | None = None) -> list[Identity]:
    """Build every tracker once and fingerprint it: configuration, kind of device, weights, code.

    ``configs`` are those of the experiments, where another process (which has their source) found them. Raises
    :class:`InputError` for an experiment that cannot be built.
    """
    with torch.random.fork_rng(devices=[]):  # making a network draws its first weights
        return [_identity(e, c) for e, c in zip(experiments, configs or [e.config() for e in experiments], strict=True)]


def _identity(experiment: Experiment, config: dict[str, Any]) -> Identity:
    device = pick_device(experiment.device)
    net = lockstep.network(experiment, device)
    tracker = lockstep.build_tracker(experiment, device, net)
    facts = {
        "config": config, "size": tracker.size, "precision": tracker.precision, "device": tracker.device.type,
        "weights": {"backbone": weights_digest(net), "refiner": weights_digest(tracker.refiner)}, "code": code_version(),
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
    return Identity(key, shareable(net), facts)


def weights_digest(part: Any) -> str | None:
    """SHA-256 over the names and values of a network's tensors, or of the networks that a part holds."""
    nets = [part] if isinstance(part, nn.Module) else [v for v in getattr(part, "__dict__", {}).values() if isinstance(v, nn.Module)]
    if not nets:
        return None
    digest = hashlib.sha256()
    for net in nets:
        for name, value in net.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def work(task: Task, device: str | None = None, tick: Tick | None = None) -> list[dict[str, Any]]:
    """Do a task in this process; ``device`` is where CUDA experiments go (default: as they say)."""
    where = pick_device(task.experiments[0].device)
    if device is not None and where == "cuda":
        where = pick_device(device)
    dataset = _dataset(task.experiments[0])
    records = lockstep.evaluate_group(task.experiments, dataset[task.sequence], where, share=task.share, tick=tick)
    rate = getattr(dataset, "fps", None)  # of the annotated frames; it goes before that of the files
    more = {"dataset": dataset.name, "protocol": dataset.protocol, "machine": machine(where)}
    return [{**record, **more, "clip_fps": rate or record["clip_fps"]} for record in records]


def _dataset(experiment: Experiment) -> Any:
    try:
        return _opened(experiment.dataset, pickle.dumps(dict(experiment.dataset_options)))
    except (pickle.PicklingError, AttributeError, TypeError):  # options that no cache can hold
        return open_dataset(experiment)


@lru_cache(maxsize=2)
def _opened(dataset: Any, options: bytes) -> Any:
    # The options were pickled by this very process a moment ago.
    return open_dataset(Experiment(name="", dataset=dataset, dataset_options=pickle.loads(options)))


def forget() -> None:
    """Free the networks and data sets that :func:`work` keeps between tasks."""
    lockstep.forget_networks()
    _opened.cache_clear()


class Local:
    """One task after the other in this process; progress frame by frame."""

    def identify(self, experiments: Sequence[Experiment]) -> list[Identity]:
        """See :class:`Executor`."""
        forget()
        return identify(experiments)

    def map(self, tasks: Sequence[Task], tick: Tick) -> Iterator[Outcome]:
        """See :class:`Executor`."""
        try:
            for number, task in enumerate(tasks):
                try:
                    yield number, work(task, tick=tick)
                except Exception as error:
                    yield number, error
        finally:
            forget()


class Processes(Local):
    """A pool of ``workers`` local processes; with CUDA, worker i sees device i modulo their number.

    A script that uses it needs ``if __name__ == "__main__":``. Where a process dies its tasks are tried again. Every process has
    as many torch threads as the caller, since their number changes the last bits of a result: with n workers on a CPU, give
    the caller an n-th of the cores (``OMP_NUM_THREADS``).
    """

    def __init__(self, workers: int = 2) -> None:
        if workers < 1:
            raise InputError(f"workers is {workers}; give 1 or more")
        self.workers = workers

    def map(self, tasks: Sequence[Task], tick: Tick) -> Iterator[Outcome]:
        """See :class:`Executor`."""
        _check_picklable(tasks)
        left = dict(enumerate(tasks))
        for attempt in range(ATTEMPTS):
            for number, outcome in self._once(left, tick):
                if isinstance(outcome, BrokenProcessPool) and attempt < ATTEMPTS - 1:
                    continue
                left.pop(number)
                yield number, outcome
            if not left:
                return

    def _once(self, left: dict[int, Task], tick: Tick) -> Iterator[Outcome]:
        context = multiprocessing.get_context("spawn")
        ranks = context.Value("i", 0)
        threads = torch.get_num_threads()
        with ProcessPoolExecutor(min(self.workers, len(left)), context, _start, (ranks, threads)) as pool:
            try:
                futures = {pool.submit(_unpacked, pickle.dumps(task)): number for number, task in left.items()}
                for future in as_completed(futures):
                    number = futures[future]
                    error = future.exception()
                    if error is None:
                        tick(left[number].frames)
                    yield number, future.result() if error is None else error  # type: ignore[misc]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _unpacked(task: bytes) -> list[dict[str, Any]]:
    return work(pickle.loads(task))  # here, so that a class that is missing here is an error and not a lost process


def _start(ranks: Any, threads: int) -> None:
    """First thing in a worker process: choose its CUDA device before CUDA starts, and as many threads as the caller has."""
    with ranks.get_lock():
        rank = ranks.value
        ranks.value += 1
    torch.set_num_threads(threads)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    if len(devices) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[rank % len(devices)]


def _check_picklable(tasks: Sequence[Task]) -> None:
    for task in tasks:
        try:
            for experiment in task.experiments:
                pickle.loads(pickle.dumps(experiment))
        except Exception as error:
            raise InputError(f"experiment {task.experiments[0].name!r} cannot be sent to another process ({error}); put its classes into "
                             "a module, or use the executor local or dask") from error  # fmt: skip
        parts: list[Any] = [part for e in task.experiments for part in (e.memory, e.policy, e.refiner, e.uncertainty, e.dataset)]
        parts = [part for part in parts if getattr(part, "__module__", "") == "__main__" and _interactive()]
        if parts:
            raise InputError(f"{parts[0].__name__} is defined in a notebook, which other processes cannot read; put it into a "
                             "module, or use the executor local or dask")  # fmt: skip


def _interactive() -> bool:
    import __main__

    return not hasattr(__main__, "__file__")


@contextmanager
def open_executor(which: Any, workers: int = 1) -> Iterator[Executor]:
    """``"local"``, ``"processes"``, ``"dask"`` (a cluster of ``workers`` local processes), the address of a Dask scheduler
    (``tcp://HOST:8786``), a ``distributed.Client``, or an :class:`Executor`.

    Raises :class:`InputError` for anything else, and where Dask is missing or its scheduler does not answer.
    """
    from lazyvos.experiments import cluster

    if which == "local":
        yield Local()
    elif which == "processes":
        yield Processes(workers)
    elif isinstance(which, str) and (which == "dask" or "://" in which):
        with cluster.connect(which, workers) as client:
            yield cluster.Dask(client)
    elif hasattr(which, "map") and hasattr(which, "identify"):
        yield which
    elif hasattr(which, "scheduler_info"):
        yield cluster.Dask(which)
    else:
        raise InputError(f"executor {which!r} is unknown; choose local, processes, dask, or a scheduler's address such as tcp://host:8786")
