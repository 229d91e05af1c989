"""The experiments engine: results that come once, are whole, and do not depend on who ran beside them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lazyvos import hub
from lazyvos.backbones.mivos import MiVOS
from lazyvos.backbones.qdmn import QDMN
from lazyvos.backbones.stcn import STCN
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.experiments import Experiment, collect, export, run, run_table, save, summary, tidy
from lazyvos.experiments.data import fingerprint, open_dataset
from lazyvos.experiments.executors import Task, identify, work
from lazyvos.experiments.experiment import code_version, source_digest
from lazyvos.experiments.frame import TIMES
from lazyvos.experiments.reuse import SharedEncoder, shareable
from lazyvos.experiments.store import Store
from lazyvos.interact import Lazy
from lazyvos.memory import FifoMemory
from lazyvos.types import Action, InputError
from lazyvos.video import ArraySource

SIZE = (64, 96)
BASE = {"dataset": "generated:smoke", "dataset_options": {"length": 8, "size": SIZE}, "size": 64, "device": "cpu"}
SMALL = {"memory_options": {"slots": 3, "every": 2}}


def experiment(name: str, **changes) -> Experiment:
    return Experiment(**{"name": name, **BASE, **SMALL, **changes})


class Square:
    """A sequence: object 1 moves right from frame 0 on, object 2 comes with frame 3, frame 5 has no truth."""

    start, objects, entries = 0, [1], {1: 0, 2: 3}

    def __init__(self, name: str, spans: dict[int, tuple[int, int]] | None = None, broken: bool = False) -> None:
        self.name, self.size, self.broken = name, SIZE, broken
        self.spans = spans or {1: (0, 8), 2: (0, 8)}
        pictures = np.full((8, *SIZE, 3), 80, np.uint8)
        for t in range(8):
            for o, colour in ((1, (230, 60, 30)), (2, (30, 70, 230))):
                pictures[t][self._truth(t) == o] = colour
        self.frames = ArraySource(pictures)

    def __len__(self) -> int:
        return 8

    def _truth(self, t: int) -> np.ndarray:
        labels = np.zeros(SIZE, np.uint8)
        labels[10:34, 5 + 4 * t : 35 + 4 * t] = 1
        if t >= 3:
            labels[40:60, 60:90] = 2
        return labels

    def mask(self, t: int) -> np.ndarray | None:
        if self.broken and t == 4:
            raise OSError("mask 4 cannot be read")
        return None if t == 5 else self._truth(t)


class Squares:
    """A data set of such sequences."""

    name, root, protocol, fps = "squares", None, "davis", 5.0

    def __init__(self, broken: str = "", spans: dict[int, tuple[int, int]] | None = None) -> None:
        self._all = {name: Square(name, spans, name == broken) for name in ("a", "b")}
        self.names = list(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self):
        return iter(self._all.values())

    def __getitem__(self, name: str) -> Square:
        return self._all[name]


class Coin:
    """A policy that draws from torch's generator: one number for each object and frame."""

    pseudo_idu = user_idu = False

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate

    def decide(self, prediction):
        return {o: Action.ASK if torch.rand(1).item() < self.rate else Action.ACCEPT for o in prediction.objects}

    def admits(self, prediction) -> bool:
        return torch.rand(1).item() < 0.7


class Disk:
    """A refiner that answers a click with a disk around it."""

    def __init__(self, radius: int = 12) -> None:
        self.radius = radius

    def refine(self, image, clicks, mask=None):
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        planes = [(x - c.x) ** 2 + (y - c.y) ** 2 <= self.radius**2 for c in clicks if c.positive]
        return torch.from_numpy(np.any([np.zeros(image.shape[:2], bool), *planes], axis=0).astype(np.float32))


def repeatable(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=list(TIMES))


def facts(record: dict) -> dict:
    """A record without what differs from run to run."""
    return {k: v for k, v in record.items() if k not in ("seconds", "fps", "encoder", "together", "command")}


# what an experiment is


def test_fingerprint_is_of_what_decides_the_result() -> None:
    plain = experiment("a")
    assert experiment("b", scale="paper", sequences=("calm-s0",)).config() == plain.config()
    for change in ({"memory": "readmem"}, {"memory_options": {"slots": 4}}, {"seed": 1}, {"size": 96}, {"start": "click"},
                   {"policy": "lazy"}, {"later": "ignore"}, {"dataset_options": {"length": 9}}):  # fmt: skip
        assert experiment("a", **change).config() != plain.config(), change
    assert plain == experiment("a")
    assert len({plain, experiment("a"), experiment("a", seed=1)}) == 2


def test_options_cannot_be_changed_from_outside() -> None:
    options = {"slots": 3}
    one = experiment("a", memory_options=options)
    options["slots"] = 5
    assert one.memory_options == {"slots": 3}


def test_classes_stand_by_their_source() -> None:
    first = experiment("a", policy=Coin).config()["policy"]
    assert first["class"].endswith("Coin")
    assert len(first["source"]) == 16
    assert source_digest(Coin) != source_digest(FifoMemory)

    def make(slots: int):
        return lambda: FifoMemory(slots=slots, every=2)

    one, two = (experiment("a", memory=make(n), memory_options={}).config()["memory"] for n in (3, 4))
    assert one["source"] == two["source"]
    assert one != two  # what the function holds counts, too


def test_source_of_a_notebook_counts_by_what_it_does() -> None:
    def made(body: str):
        space: dict = {"__name__": "__main__"}
        exec(body, space)
        return space["Part"]

    texts = ("class Part:\n  k = 1\n  def f(self):\n    return [x + 1 for x in (1, 2)]\n",
             "class Part:\n  k = 1\n  def f(self):\n    return [x + 2 for x in (1, 2)]\n",
             "class Part:\n  k = 2\n  def f(self):\n    return [x + 1 for x in (1, 2)]\n",
             "class Part:\n  k = 1\n  def f(self, a=3):\n    return [x + 1 for x in (1, 2)]\n",
             "class Part:\n  k = 1\n  def f(self, a=4):\n    return [x + 1 for x in (1, 2)]\n")  # fmt: skip
    digests = [source_digest(made(text)) for text in texts]
    assert len(set(digests)) == 5
    assert digests[0] == source_digest(made(texts[0]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "box"}, "start 'box' of experiment 'x' is unknown"),
        ({"user": "me"}, "user 'me'"),
        ({"scale": "big"}, "choose smoke or paper"),
        ({"memory": "elephant"}, "memory 'elephant' is unknown"),
        ({"memory_options": {"slotz": 3}}, "experiment 'x' cannot be built: .*slotz"),
        ({"uncertainty": "luck"}, "uncertainty 'luck' is unknown"),
        ({"policy": partial(Coin, 0.1)}, "policy of experiment 'x' holds"),
        ({"memory_options": {"slots": object()}}, "memory_options of experiment 'x' holds"),
        ({"sequences": ("nobody",)}, "no sequence 'nobody'; it has calm-s0"),
        ({"dataset": "generated:moon"}, "no suite 'moon'"),
        ({"dataset_options": {"colour": 1}}, "cannot be opened with"),
    ],
)
def test_wrong_experiments_are_named_before_work(changes: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        run([experiment("x", **changes)], out=tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.json"))


def test_run_refuses_what_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two experiments are called 'x'"):
        run([experiment("x"), experiment("x", seed=1)], out=tmp_path)
    with pytest.raises(InputError, match="no experiment"):
        run([], out=tmp_path)
    with pytest.raises(InputError, match="executor 'moon' is unknown"):
        run([experiment("x")], "moon", out=tmp_path)


def test_key_follows_weights_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, other = tmp_path / "copy.safetensors", tmp_path / "other.safetensors"
    shutil.copy(Path(hub.__file__).parent / "weights" / "tiny.safetensors", copy)
    net = hub.load("tiny")
    with torch.no_grad():
        next(net.parameters()).add_(1)
    hub.save(net, other)
    keys = [i.key for i in identify([experiment("a"), experiment("b", weights=str(copy)), experiment("c", weights=str(other))])]
    assert keys[0] == keys[1] != keys[2]
    monkeypatch.setattr("lazyvos.experiments.executors.code_version", lambda: "later")
    assert identify([experiment("a")])[0].key != keys[0]


def test_code_version_covers_what_decides_and_no_more() -> None:
    from lazyvos.experiments.experiment import _ASIDE

    root = Path(hub.__file__).parent
    left = {str(f.relative_to(root)) for f in root.rglob("*.py") if not any(f.relative_to(root).match(p) for p in _ASIDE)}
    assert {"tracker.py", "build.py", "hub.py", "scoring.py", "memory/readmem.py", "metrics/davis.py", "experiments/lockstep.py",
            "experiments/reuse.py", "datasets/synthetic.py", "backbones/xmem.py"} <= left  # fmt: skip
    assert not {"cli.py", "report.py", "experiments/tables.py", "training/loop.py"} & left
    assert code_version() == code_version()


# running


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("out")
    todo = [experiment("fifo"), experiment("readmem", memory="readmem")]
    running = run(todo, out=out, progress=False)
    return out, todo, running, list(running)


def test_results_come_by_sequence_and_lie_on_disk(finished) -> None:
    out, todo, running, results = finished
    assert {(r.experiment, r.sequence) for r in results} == {(e.name, s) for e in todo for s in ("calm-s0", "hidden-s0", "away-s0")}
    files = sorted(out.rglob("*.json"))
    assert len(files) == 6
    assert {f.parent.name for f in files} == set(running.keys)
    assert all(json.loads(f.read_text())["objects"] for f in files)
    assert not [f for f in out.rglob("*") if f.is_file() and f.suffix != ".json"]


def test_encoder_passes_are_shared_and_counted(finished) -> None:
    _, _, running, results = finished
    assert (running.report.encoder_passes, running.report.encoder_passes_saved) == (24, 24)
    assert "24 of 48 encoder passes (50 %)" in str(running.report)
    assert sum(r.record["encoder"]["passes"] for r in results) == 24


def test_what_is_finished_is_not_made_again(finished) -> None:
    out, todo, _, results = finished
    before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in out.rglob("*.json")}
    again = run([*todo, experiment("same as fifo")], out=out, progress=False)
    found = list(again)
    assert all(r.reused for r in found)
    assert (again.report.finished, again.report.made, again.report.encoder_passes) == (9, 0, 0)
    assert before == {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in out.rglob("*.json")}
    assert {r.experiment for r in found} == {"fifo", "readmem", "same as fifo"}
    assert found[0].record == next(r.record for r in results if (r.experiment, r.sequence) == ("fifo", found[0].sequence))


def test_results_do_not_depend_on_company(finished, tmp_path: Path) -> None:
    _, todo, _, results = finished
    alone = run(todo, out=tmp_path, progress=False, share=False)
    records = {(r.experiment, r.sequence): r.record for r in alone}
    assert alone.report.encoder_passes == 48
    for result in results:
        assert facts(result.record) == facts(records[result.experiment, result.sequence])


def test_random_draws_users_and_policies_do_not_mix(tmp_path: Path) -> None:
    more = {"sequences": ("hidden-s0",), "dataset_options": {"length": 6, "size": SIZE}, "start": "click", "user": "simulated",
            "refiner": Disk, "refiner_options": {"radius": 9}}  # fmt: skip
    todo = [experiment("coin", policy=Coin, **more), experiment("coin too", policy=Coin, seed=5, **more),
            experiment("lazy", policy="lazy", policy_options={"tau_user": 0.02, "tau_pseudo": 0.005}, memory="readmem", **more)]  # fmt: skip
    before = torch.get_rng_state()
    together = {r.experiment: r.record for r in run(todo, out=tmp_path / "a", progress=False)}
    assert torch.equal(before, torch.get_rng_state())
    for e in reversed(todo):
        (alone,) = run([e], out=tmp_path / "b", progress=False)
        assert facts(alone.record) == facts(together[e.name])
    clicks = {name: [o["clicked"] for o in record["objects"]] for name, record in together.items()}
    assert clicks["coin"] != clicks["coin too"]
    assert any(clicks["lazy"])
    table = tidy(together.items())
    assert table["NoC"].sum() == sum(len(c) for name in clicks for c in clicks[name])
    assert (table["asked"] >= table["NoC"]).all()


def test_only_a_state_free_encoder_is_shared() -> None:
    with torch.device("meta"):
        nets = {"mivos": MiVOS().eval(), "stcn": STCN().eval(), "xmem": XMem(XMemConfig.tiny()).eval(), "qdmn": QDMN().eval()}
    assert {name: shareable(net) for name, net in nets.items()} == {"mivos": True, "stcn": True, "xmem": True, "qdmn": False}
    list(nets["stcn"].modules())[-1].train()
    assert not shareable(nets["stcn"])  # as with MC dropout

    class Own(XMem):
        def encode(self, image, state=None):
            return super().encode(image, state)

    with torch.device("meta"):
        assert not shareable(Own(XMemConfig.tiny()).eval())


def test_another_image_is_never_answered_from_the_last_one() -> None:
    shared = SharedEncoder(hub.load("tiny"))
    one, two = torch.zeros(3, 64, 96), torch.full((3, 64, 96), 0.01)
    with torch.inference_mode():
        first = shared.view().encode(one)
        assert shared.view().encode(one.clone()) is first
        assert shared.view().encode(two) is not first
        shared.forget()
        assert shared.view().encode(two) is not first
    assert (shared.passes, shared.saved) == (3, 1)


def test_damaged_or_foreign_results_are_made_again(tmp_path: Path) -> None:
    one = experiment("one", dataset=Squares, dataset_options={})
    first = {r.sequence: r.record for r in run([one], out=tmp_path, progress=False)}
    store = Store.at(tmp_path)
    store.file(first["a"]["key"], "a").write_text('{"key": "cut of')
    store.save({**first["b"], "clip": "another"})
    again = run([one], out=tmp_path, progress=False)
    found = {r.sequence: r.record for r in again}
    assert (again.report.made, again.report.finished) == (2, 0)
    assert {name: facts(r) for name, r in found.items()} == {name: facts(r) for name, r in first.items()}


def test_a_failing_sequence_does_not_stop_the_others(tmp_path: Path) -> None:
    one = experiment("one", dataset=Squares, dataset_options={"broken": "a"})
    running = run([one], out=tmp_path, progress=False)
    assert next(running).sequence == "b"
    with pytest.raises(RuntimeError, match=r"1 of 2 sequences failed, first 'one' on 'a': OSError: mask 4"):
        next(running)
    assert len(collect(tmp_path)) == 2
    assert running.report.failed == 1


def test_closing_a_run_keeps_what_is_finished(tmp_path: Path) -> None:
    running = run([experiment("one", dataset=Squares, dataset_options={})], out=tmp_path, progress=False)
    next(running)
    running.close()
    assert list(running) == []
    assert collect(tmp_path)["sequence"].unique().tolist() == ["a"]


# what is scored


def test_later_objects_enter_with_their_first_annotation(tmp_path: Path) -> None:
    squares = {"dataset": Squares, "dataset_options": {}, "sequences": ("a",)}
    table = run_table([experiment("enter", **squares), experiment("ignore", later="ignore", **squares)], out=tmp_path, progress=False)
    entered = table[table["experiment"] == "enter"].set_index("object")
    assert entered["entry"].to_dict() == {1: 0, 2: 3}
    assert entered["scored"].to_dict() == {1: 5, 2: 2}  # annotated frames less first and last: 0 1 2 3 4 6 7, 3 4 6 7
    assert entered.loc[2, "J"] > 0.8
    assert table[table["experiment"] == "ignore"]["object"].tolist() == [1]
    assert (table["clip_fps"] == 5.0).all()


def test_only_the_span_of_an_object_is_scored(tmp_path: Path) -> None:
    options = {"dataset": Squares, "dataset_options": {"spans": {1: [2, 5], 2: [0, 7]}}, "sequences": ("a",)}
    table = run_table([experiment("one", **options)], out=tmp_path, progress=False).set_index("object")
    assert table["scored"].to_dict() == {1: 1, 2: 1}


def test_scores_are_those_of_the_protocol(tmp_path: Path) -> None:
    """J&F of the engine equals evaluating the masks that a plain tracker makes."""
    from lazyvos.build import make_tracker
    from lazyvos.metrics import evaluate_sequence

    e = experiment("one", sequences=("hidden-s0",))
    table = run_table([e], out=tmp_path, progress=False)
    clip = open_dataset(e)["hidden-s0"]
    tracker = make_tracker(memory_options={"slots": 3, "every": 2}, policy="never", refiner=None, size=64, device="cpu")
    masks = [step.prediction.labels for step in tracker.track(clip.frames, mask=clip.mask(0))]
    score = evaluate_sequence(masks, [clip.mask(t) for t in range(len(clip))])
    assert table["J"].tolist() == [score.objects[0].J.mean]
    assert table["F"].tolist() == [score.objects[0].F.mean]


def test_summary_counts_work_over_objects() -> None:
    def record(clicks: list[list[int]]) -> dict:
        objects = [
            {"id": i, "entry": 0, "scored": 8, "J": 0.5, "F": 0.7, "JF": 0.6, "J_recall": 1.0, "F_recall": 1.0, "J_decay": 0.0,
             "F_decay": 0.0, "R": {"0.5": 1.0}, "asked": c, "clicked": c, "pseudo": []}
            for i, c in enumerate(clicks, 1)
        ]  # fmt: skip
        return {"dataset": "d", "sequence": "s", "scale": "smoke", "user": "simulated", "start": 0, "frames": 10, "seconds": 2.0, "fps": 5.0,
                "clip_fps": 2.0, "peak_mib": None, "memory": {"log_gram": None}, "encoder": {"passes": 10, "saved": 0},
                "objects": objects, "machine": {"gpu": None, "cpu": "test"}, "facts": {"precision": "fp32"}}  # fmt: skip

    row = summary(tidy([("x", record([[3, 5], []]))])).iloc[0]
    assert row["NoC"] == 2
    assert row["ACI"] == pytest.approx((2.4 + 0.2) / 2)  # worked example: gaps 3, 2, 4 of 10 frames give 2.4; one gap 9 gives 0.2
    assert row["IDI"] == pytest.approx((3 + 2 + 4 + 9) / 4 / 2.0)
    assert (row["videos"], row["objects"], row["frames"], row["fps"]) == (1, 2, 10, 5.0)


def test_exports(tmp_path: Path) -> None:
    table = pd.DataFrame({"name": ["a|b", "50 % & x_1"], "J": [0.12345, float("nan")], "n": [3, 4]})
    text = export(table, "markdown", 2)
    assert text.splitlines() == ["| name       |    J |   n |", "|------------|-----:|----:|", "| a\\|b       | 0.12 |   3 |", "| 50 % & x_1 |      |   4 |"]
    assert r"50 \% \& x\_1 &  & 4 \\" in export(table, "latex", 2)
    assert export(table, "latex").startswith(r"\begin{tabular}{lrr}")
    assert export(table, "csv").splitlines()[1] == "a|b,0.12345,3"
    with pytest.raises(InputError, match="format 'word'"):
        export(table, "word")
    save(table, tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv")["J"][0] == 0.12345
    with pytest.raises(InputError, match="must end in"):
        save(table, tmp_path / "t.doc")


def test_tables_are_in_the_order_asked_for(finished) -> None:
    out, todo, _, _ = finished
    table = run_table(todo[::-1], out=out, progress=False)
    assert table["experiment"].drop_duplicates().tolist() == ["readmem", "fifo"]
    assert table["sequence"].drop_duplicates().tolist() == ["calm-s0", "hidden-s0", "away-s0"]
    assert table.attrs["report"]["finished"] == 6
    key = ["experiment", "sequence", "object"]
    mine, all_ = (t.sort_values(key).reset_index(drop=True) for t in (table, collect(out)))
    pd.testing.assert_frame_equal(mine, all_)


def test_fingerprint_of_a_clip_follows_its_content() -> None:
    prints = {fingerprint(open_dataset(experiment("x", dataset_options={"length": n, "size": SIZE}))["calm-s0"]) for n in (8, 9)}
    assert len(prints) == 2
    assert fingerprint(Square("a")) == fingerprint(Square("a")) != fingerprint(Square("b"))


# other processes

SCRIPT = """
import sys
from lazyvos.experiments import Experiment, run
if __name__ == "__main__":
    one = Experiment(name="one", dataset="generated:smoke", dataset_options={"length": 10, "size": [64, 96], "seeds": list(range(8))},
                     sequences=tuple(f"calm-s{i}" for i in range(8)), size=64, device="cpu", memory_options={"slots": 3, "every": 2})
    running = run([one], out=sys.argv[1], progress=False)
    for result in running:
        print(result.sequence, flush=True)
    print(running.report.finished, running.report.made)
"""


def test_kill_9_in_the_middle_costs_no_finished_sequence(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), str(out)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(3):  # three sequences are done, the fourth has begun
        child.stdout.readline()
    time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in out.rglob("*.json") if not f.name.startswith(".")}
    assert 3 <= len(before) < 8

    again = subprocess.run([sys.executable, str(tmp_path / "script.py"), str(out)], capture_output=True, text=True, check=True)
    assert again.stdout.split()[-2:] == [str(len(before)), str(8 - len(before))]
    assert before == {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in before}
    one = experiment("one", dataset_options={"length": 10, "size": [64, 96], "seeds": list(range(8))}, sequences=tuple(f"calm-s{i}" for i in range(8)))
    whole = run_table([one], out=tmp_path / "whole", progress=False)
    assert whole.attrs["report"]["made"] == 8
    pd.testing.assert_frame_equal(repeatable(collect(out)), repeatable(whole))


@pytest.mark.slow
def test_processes_give_what_one_process_gives(finished, tmp_path: Path) -> None:
    out, todo, _, _ = finished
    table = run_table(todo, executor="processes", workers=2, out=tmp_path, progress=False)
    assert table.attrs["report"]["made"] == 6
    pd.testing.assert_frame_equal(repeatable(table), repeatable(run_table(todo, out=out, progress=False)))


FRAGILE = """
import multiprocessing, os, signal
from pathlib import Path
from lazyvos.memory import FifoMemory

def memory(flag, **options):
    if multiprocessing.parent_process() is not None and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return FifoMemory(**options)
"""


@pytest.mark.slow
def test_sequences_of_a_killed_process_are_tried_again(finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fragile_memory.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    from fragile_memory import memory

    options = {"flag": str(tmp_path / "killed"), **SMALL["memory_options"]}
    table = run_table([experiment("fifo", memory=memory, memory_options=options)], executor="processes", workers=2, out=tmp_path / "out", progress=False)
    assert (tmp_path / "killed").exists()
    whole = run_table(finished[1][:1], out=finished[0], progress=False)
    pd.testing.assert_frame_equal(repeatable(table), repeatable(whole))


def test_work_is_a_plain_function_of_its_task(finished) -> None:
    _, todo, _, results = finished
    ticks: list[int] = []
    records = work(Task(tuple(todo), "calm-s0", 16, True), tick=ticks.append)
    assert ticks == [2] * 8
    kept = next(r.record for r in results if (r.experiment, r.sequence) == ("fifo", "calm-s0"))
    assert records[0]["objects"] == kept["objects"]


def test_lazy_policy_reaches_the_tracker() -> None:
    from lazyvos.experiments.lockstep import build_tracker

    tracker = build_tracker(experiment("x", policy="lazy", policy_options={"tau_user": 0.4}), "cpu")
    assert tracker.policy == Lazy(tau_user=0.4)
    assert tracker.refiner is not None
    assert build_tracker(experiment("x"), "cpu").refiner is None
    random = build_tracker(experiment("x", policy="random", policy_options={"rate": 0.1, "rest": {"tau_pseudo": 0.3}}), "cpu").policy
    assert (random.rate, random.rest) == (0.1, Lazy(ask=False, tau_pseudo=0.3))
