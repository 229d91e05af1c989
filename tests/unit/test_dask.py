"""The engine on Dask: the same results as here, also when a worker is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from lazyvos.experiments import Experiment, run, run_table
from lazyvos.experiments.frame import TIMES
from lazyvos.types import InputError

distributed = pytest.importorskip("distributed", reason='needs Dask: pip install "lazyvos[cluster]"')

SMALL = {"dataset": "generated:smoke", "dataset_options": {"length": 24, "size": [64, 96], "seeds": [0, 1]}, "size": 64, "device": "cpu"}
TODO = [Experiment(name="fifo", memory_options={"slots": 3, "every": 2}, **SMALL),
        Experiment(name="readmem", memory="readmem", memory_options={"slots": 3, "every": 2}, **SMALL)]  # fmt: skip


@pytest.mark.slow
def test_two_workers_one_killed_give_what_one_process_gives(tmp_path: Path) -> None:
    here = run_table(TODO, out=tmp_path / "here", progress=False)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        workers = client.run(os.getpid)
        assert len(set(workers.values()) - {os.getpid()}) == 2
        running = run(TODO, client, out=tmp_path / "there", progress=False)
        results = [next(running)]
        busy = {address: keys for address, keys in client.processing().items() if keys}
        victim = next(iter(busy))  # a worker with a sequence in its hands
        os.kill(workers[victim], signal.SIGKILL)
        results += list(running)
        after = client.run(os.getpid)
        assert workers[victim] not in after.values()
    assert len(results) == 12
    assert running.report.made == 12
    assert running.report.failed == 0
    there = run_table(TODO, out=tmp_path / "there", progress=False)  # from the files, in order
    assert there.attrs["report"]["finished"] == 12
    pd.testing.assert_frame_equal(there.drop(columns=list(TIMES)), here.drop(columns=list(TIMES)))
    by_name = here.groupby(["experiment", "sequence"])["JF"].mean()
    for result in results:
        mean = pd.Series([o["JF"] for o in result.record["objects"]]).mean()
        assert mean == by_name[result.experiment, result.sequence]


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client

    monkeypatch.setattr("distributed.Client", lambda address, timeout: Client(address, timeout=0.5))
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run(TODO, "tcp://127.0.0.1:9", out=tmp_path, progress=False)


def test_workers_take_the_devices_of_their_machine_in_turn() -> None:
    from lazyvos.experiments.cluster import Dask

    class Client:
        def scheduler_info(self, n_workers: int) -> dict:
            assert n_workers == -1
            return {"workers": {f"tcp://{i}": {"host": host, "name": i} for i, host in enumerate("abaab")}}

    assert Dask(Client())._ranks() == {"0": 0, "2": 1, "3": 2, "1": 0, "4": 1}
