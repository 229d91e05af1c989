"""Run experiments: every sequence once, results as they come, nothing done twice."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import pandas as pd
from tqdm import tqdm

import lazyvos
from lazyvos.experiments.data import fingerprint, open_dataset
from lazyvos.experiments.executors import Identity, Task, open_executor
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.frame import tidy
from lazyvos.experiments.recipe import Records
from lazyvos.experiments.store import Store
from lazyvos.types import InputError


@dataclass(frozen=True)
class Result:
    """One experiment on one sequence: what :func:`lazyvos.experiments.lockstep.evaluate_group` records, and where from.

    ``reused``: it was found finished, not made now.
    """

    experiment: str
    sequence: str
    record: dict[str, Any]
    reused: bool = False


@dataclass
class Report:
    """What a run did and what it could spare.

    ``finished`` results were there before; ``made`` are new; ``encoder_passes`` were computed and ``encoder_passes_saved`` shared
    between experiments; ``failed`` names sequences that ended in an error.
    """

    finished: int = 0
    made: int = 0
    encoder_passes: int = 0
    encoder_passes_saved: int = 0
    failed: int = 0

    def __str__(self) -> str:
        both = self.encoder_passes + self.encoder_passes_saved
        share = f" ({100 * self.encoder_passes_saved / both:.0f} %)" if both else ""
        return (
            f"{self.made} results made, {self.finished} found finished; {self.encoder_passes_saved} of {both} encoder passes{share} "
            "shared between experiments" + (f"; {self.failed} failed" if self.failed else "")
        )


class Run(Iterator[Result]):
    """Results as they come. ``report`` says what was reused so far; ``keys`` are the fingerprints of the experiments, in order;
    ``sequences`` the names of the sequences of each."""

    def __init__(
        self, results: Generator[Result, None, None], report: Report, keys: list[str], sequences: dict[str, list[str]], open_: ExitStack
    ) -> None:
        self.report, self.keys, self.sequences = report, keys, sequences
        self._results, self._open = results, open_

    def __next__(self) -> Result:
        return next(self._results)

    def records(self) -> dict[str, Records]:
        """Go on to the end: what every experiment recorded, by its name, in the order of its sequences."""
        found: dict[str, dict[str, Any]] = {name: {} for name in self.sequences}
        for result in self:
            found[result.experiment][result.sequence] = result.record
        return {name: [found[name][s] for s in order] for name, order in self.sequences.items()}

    def close(self) -> None:
        """Stop; what is finished stays."""
        self._results.close()
        self._open.close()


def run(
    experiments: Iterable[Experiment],
    executor: Any = "local",
    workers: int = 1,
    out: str | PathLike[str] = "lazyvos-experiments",
    progress: bool = True,
    *,
    share: bool = True,
    together: int = 8,
) -> Run:
    """Run every experiment on every sequence of its data set that has no finished result in ``out``.

    Parameters
    ----------
    executor, workers: where, see :func:`lazyvos.experiments.executors.open_executor`.
    out: folder of the results (:class:`lazyvos.experiments.store.Store`). A result counts as finished if configuration, weights,
        code, kind of device and frames are the same; so a run that was killed goes on where it was.
    progress: show a bar that counts frames.
    share: experiments with the same network, size and precision go over a sequence side by side, at most ``together`` of them,
        and share encoder passes where that is exact. Results are bit-identical without; only speed and CUDA memory
        are measured better alone (``share=False``, or ``alone`` of an experiment).

    Returns
    -------
    An iterator of :class:`Result`: finished ones first, then those made, in the order in which they come.

    Raises :class:`InputError` before any work for an experiment, data set or executor that cannot work. An error in one
    sequence does not stop the others; it is raised, as ``RuntimeError``, when they are done.
    """
    todo = list(experiments)
    if not todo:
        raise InputError("there is no experiment to run; give at least one")
    twice = [name for name, count in Counter(e.name for e in todo).items() if count > 1]
    if twice:
        raise InputError(f"two experiments are called {twice[0]!r}; give each its own name")
    if together < 1:
        raise InputError(f"together is {together}; give 1 or more")
    with ExitStack() as stack:  # closes the executor here if something below is wrong
        store = Store.at(out)
        plans = _sequences(todo)
        where = stack.enter_context(open_executor(executor, workers))
        identities = where.identify(todo)
        report = Report()
        sequences = {e.name: list(plan) for e, plan in zip(todo, plans, strict=True)}
        opened = stack.pop_all()
        results = _results(todo, identities, plans, store, where, report, share, together, progress, opened)
        return Run(results, report, [identity.key for identity in identities], sequences, opened)


def run_table(experiments: Iterable[Experiment], **options: Any) -> pd.DataFrame:
    """:func:`run` to its end; the tidy table (:func:`lazyvos.experiments.frame.tidy`), a row per experiment, sequence and object.

    Rows come in the order of the experiments and of their data set. ``table.attrs["report"]`` says what was reused.
    """
    todo = list(experiments)
    running = run(todo, **options)
    results = list(running)
    order = {(e.name, sequence): i for i, (e, sequence) in enumerate((e, s) for e in todo for s in running.sequences[e.name])}
    results.sort(key=lambda r: order[r.experiment, r.sequence])
    table = tidy((r.experiment, r.record) for r in results)
    table.attrs["report"] = asdict(running.report)
    return table


def collect(out: str | PathLike[str]) -> pd.DataFrame:
    """The tidy table of everything finished in a folder, by the names the experiments had when they ran."""
    return tidy((record["experiment"], record) for record in Store.at(out))


def _sequences(experiments: Sequence[Experiment]) -> list[dict[str, tuple[str, int]]]:
    """For each experiment: sequence name -> its fingerprint and number of frames to track."""
    seen: dict[str, dict[str, tuple[str, int]]] = {}
    plans = []
    for e in experiments:
        label = _dataset_label(e)
        if label not in seen:
            dataset = open_dataset(e)
            seen[label] = {s.name: (fingerprint(s), len(s) - s.start) for s in dataset}
        elif e.sequences is not None:
            open_dataset(e)
        plans.append({n: facts for n, facts in seen[label].items() if e.sequences is None or n in e.sequences})
    return plans


def _dataset_label(e: Experiment) -> str:
    config = e.config()
    return f"{config['dataset']} {config['dataset_options']}"


def _results(
    todo: list[Experiment], identities: list[Identity], plans: list[dict[str, tuple[str, int]]], store: Store, where: Any,
    report: Report, share: bool, together: int, progress: bool, stack: ExitStack,
) -> Generator[Result, None, None]:  # fmt: skip
    by_name = {e.name: (identity, plan) for e, identity, plan in zip(todo, identities, plans, strict=True)}
    pending: dict[tuple[Any, ...], list[Experiment]] = {}
    labels = {e.name: _dataset_label(e) for e in todo}
    for e, identity, plan in zip(todo, identities, plans, strict=True):
        for sequence, (clip, frames) in plan.items():
            found = store.load(identity.key, sequence, clip)
            if found is not None:
                report.finished += 1
                yield Result(e.name, sequence, found, reused=True)
                continue
            facts = identity.facts
            alike: tuple[Any, ...] = (facts["weights"]["backbone"], facts["size"], facts["precision"], facts["device"], labels[e.name])
            if e.alone or not (share and identity.shareable):
                alike = (*alike, e.name)
            pending.setdefault((sequence, frames, *alike), []).append(e)
    tasks = []
    for (sequence, frames, *_), group in pending.items():
        for i in range(0, len(group), together):
            some = tuple(group[i : i + together])
            tasks.append(Task(some, sequence, frames * len(some), share))
    failures: list[tuple[str, Exception]] = []
    with stack, tqdm(total=sum(t.frames for t in tasks), unit="frame", disable=not progress or not tasks, desc="experiments") as bar:
        for number, outcome in where.map(tasks, bar.update) if tasks else ():
            task = tasks[number]
            if isinstance(outcome, Exception):
                report.failed += len(task.experiments)
                failures.append((f"{task.experiments[0].name!r} on {task.sequence!r}", outcome))
                continue
            for e, record in zip(task.experiments, outcome, strict=True):
                identity, plan = by_name[e.name]
                record = _complete(record, e, identity, task.sequence, plan[task.sequence][0])
                store.save(record)
                report.made += 1
                report.encoder_passes += record["encoder"]["passes"]
                report.encoder_passes_saved += record["encoder"]["saved"]
                bar.set_postfix_str(f"{report.encoder_passes_saved} encoder passes saved", refresh=False)
                yield Result(e.name, task.sequence, record)
    if failures:
        where_, error = failures[0]
        raise RuntimeError(
            f"{len(failures)} of {len(tasks)} sequences failed, first {where_}: {type(error).__name__}: {error}; "
            f"finished results stay in {store.root}"
        ) from error


def _complete(record: dict[str, Any], e: Experiment, identity: Identity, sequence: str, clip: str) -> dict[str, Any]:
    return {
        "experiment": e.name, "sequence": sequence, "key": identity.key, "clip": clip, "scale": e.scale,
        "seed": e.seed, "user": e.user, **record, "facts": identity.facts, "weights_file": e.weights,
        "lazyvos": lazyvos.__version__, "command": shlex.join(sys.argv),
    }  # fmt: skip
