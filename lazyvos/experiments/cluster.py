"""Units of work on the workers of a Dask cluster."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from lazyvos.experiments.executors import Identity, Outcome, Task, Tick, identify, work
from lazyvos.experiments.experiment import Experiment, code_version
from lazyvos.types import InputError


class Dask:
    """Workers of a Dask cluster: ``client`` is a ``distributed.Client``.

    Dask gives the tasks of a lost worker to another one. On a machine with several CUDA devices, its workers take them in
    turn. Data sets must lie at the same path for all; results come back to the caller, so they need no common folder. Threads are
    as with :class:`Processes`.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def identify(self, experiments: Sequence[Experiment]) -> list[Identity]:
        """See :class:`Executor`; asks one worker, and makes sure that all workers run the same code."""
        versions = {code_version(), *self.client.run(code_version).values()}
        if len(versions) > 1:
            raise InputError("the workers run another version of lazyvos than this process; install the same one everywhere")
        return self.client.submit(identify, list(experiments), [e.config() for e in experiments], pure=False).result()

    def map(self, tasks: Sequence[Task], tick: Tick) -> Iterator[Outcome]:
        """See :class:`Executor`."""
        from distributed import as_completed as completed

        threads, ranks = torch.get_num_threads(), self._ranks()
        futures = {self.client.submit(_on_worker, task, threads, ranks, pure=False): n for n, task in enumerate(tasks)}
        try:
            for future in completed(list(futures)):
                number = futures[future]
                error = future.exception()
                if error is None:
                    tick(tasks[number].frames)
                yield number, future.result() if error is None else error
                future.release()
        finally:
            self.client.cancel([future for future in futures if not future.done()])

    def _ranks(self) -> dict[str, int]:
        """Name of each worker -> its number among those of its machine."""
        found: dict[str, int] = {}
        count: dict[str, int] = {}
        for one in sorted(self.client.scheduler_info(n_workers=-1)["workers"].values(), key=lambda w: (w["host"], str(w["name"]))):
            found[str(one["name"])] = count.get(one["host"], 0)
            count[one["host"]] = found[str(one["name"])] + 1
        return found


def _on_worker(task: Task, threads: int, ranks: dict[str, int]) -> list[dict[str, Any]]:
    from distributed import get_worker

    name, count = str(get_worker().name), torch.cuda.device_count()
    torch.set_num_threads(threads)
    rank = ranks.get(name, zlib.crc32(name.encode()))
    return work(task, f"cuda:{rank % count}" if count > 1 else None)


@contextmanager
def connect(which: str, workers: int) -> Iterator[Any]:
    """A client of ``"dask"`` (a cluster of ``workers`` local processes, ended with the client) or of a scheduler's address.

    Raises :class:`InputError` where Dask is missing or no scheduler answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InputError('the executor dask needs Dask; pip install "lazyvos[cluster]"') from error
    if which == "dask":
        with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(which, timeout=20)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {which}; start one with `dask scheduler` and workers with `dask worker {which}`") from error
    with client:
        yield client
