"""Data-parallel training: processes and slices give the same run, a lost process ends or restarts it, never hangs it.

Run as a script (by ``torchrun`` or with its environment), this file is one process of such a training.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import lazyvos
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.hub import save
from lazyvos.refine.clicknet import ClickNet
from lazyvos.training import cli
from lazyvos.training.clicks import ClickTask
from lazyvos.training.clips import ClipMaker
from lazyvos.training.config import Phase, TrainConfig
from lazyvos.training.data import procedural_stills
from lazyvos.training.loop import fit
from lazyvos.training.losses import bootstrapped_cross_entropy, dice
from lazyvos.training.parallel import ALONE, Group, draws, joined
from lazyvos.training.track import TrackTask
from lazyvos.types import InputError

CONFIG = TrainConfig(phases=(Phase(3, 48, 3, 2, 0, 3), Phase(3, 48, 2, 3, 0, 3)), warmup=2, hard_steps=3, deep=0.5)


class Net(XMem):
    """A small XMem with a parameter that some slices of some steps do not use."""

    def __init__(self, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        super().__init__(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False, dropout=dropout))
        self.extra = nn.Parameter(torch.ones(3))


class Uneven(TrackTask):
    """Steps 0, 3, …: no slice uses ``extra``; other steps: only the one that starts with clip 0. May end itself at a step."""

    fatal: tuple[int, int] | None = None
    """Step and signal."""

    def loss(self, net, batch, step):
        if self.fatal is not None and step == self.fatal[0]:
            os.kill(os.getpid(), self.fatal[1])
        loss, numbers = super().loss(net, batch, step)
        if step % 3 and batch.which.start == 0:
            loss = loss + (net.extra**2).sum()
        return loss, numbers


class Ends(TrackTask):
    """Ends its process's run at step 4."""

    def loss(self, net, batch, step):
        if step == 4:
            raise KeyboardInterrupt
        return super().loss(net, batch, step)


def task(config: TrainConfig = CONFIG) -> Uneven:
    return Uneven(ClipMaker(procedural_stills(4, seed=3, side=64), []), config)


def train(out: Path, group: Group = ALONE, parts: int = 1, work: TrackTask | None = None, **options) -> dict[str, torch.Tensor]:
    return fit(Net(0.2), work or task(), CONFIG, out, save_every=2, progress=False, group=group, parts=parts, **options)


def restarted(out: Path) -> None:
    """One process of two under ``torchrun``; the first time, the second one is killed after the checkpoint of step 2."""
    torch.set_num_threads(1)
    with joined("cpu", timeout=60) as group:
        work = task()
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and group.rank == 1:
            work.fatal = (3, signal.SIGKILL)
        average = train(out / "whole", group, work=work)
        with pytest.raises(KeyboardInterrupt):
            train(out / "broken", group, work=Ends(work.maker, CONFIG))
        told = []
        for config in (replace(CONFIG, phases=(Phase(1, 48, 1, 2, 0, 3),)), replace(CONFIG, seed=group.rank), replace(CONFIG, rate=1)):
            with pytest.raises(InputError) as refusal:
                fit(Net(), task(config), config, out / "whole", progress=False, group=group)
            told.append(str(refusal.value))
        torch.save({"average": average, "told": told, "restarts": os.environ["TORCHELASTIC_RESTART_COUNT"]}, out / f"{group.rank}.pt")


def lost(out: Path, ports: list[str]) -> None:
    """Two trainings of two processes each; in step 1, the second process of each is killed or stopped for ever."""
    children = {}
    for end, port in zip((signal.SIGKILL, signal.SIGSTOP), ports, strict=True):
        for rank in (0, 1):
            child = os.fork()
            if child:
                children[end, rank] = child
                continue
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            torch.set_num_threads(1)
            work = task()
            work.fatal = (1, end) if rank else None
            try:
                with joined("cpu", timeout=60) as group:
                    train(out / end.name, replace(group, timeout=3), work=work)
            except RuntimeError as error:
                (out / f"{end.name}.txt").write_text(str(error))
            os._exit(0)
    for (end, rank), child in children.items():
        if rank == 0:
            os.waitpid(child, 0)
            os.kill(children[end, 1], signal.SIGKILL)


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(lazyvos.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    lo = {"GLOO_SOCKET_IFNAME": "lo"} if Path("/sys/class/net/lo").exists() else {}
    return {**os.environ, **lo, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(*words: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    start = ["--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}", f"--max-restarts={restarts}"]
    command = [sys.executable, "-m", "torch.distributed.run", *start, *map(str, words)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def log(folder: Path) -> np.ndarray:
    with (folder / "log.csv").open(newline="") as file:
        return np.array([[float(v) for k, v in row.items() if k != "seconds"] for row in csv.DictReader(file)])


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k].float() - b[k].float()).abs().max()) for k in a)


@pytest.mark.slow
def test_killed_and_restarted_processes_equal_accumulation_in_one(tmp_path: Path):
    done = torchrun(__file__, "restarted", tmp_path, restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    zero, one = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (zero["restarts"], one["restarts"]) == ("1", "1")
    assert all(torch.equal(value, one["average"][key]) for key, value in zero["average"].items())
    wanted = train(tmp_path / "alone", parts=2)
    assert furthest(zero["average"], wanted) < 1e-5
    assert log(tmp_path / "whole") == pytest.approx(log(tmp_path / "alone"), abs=1e-5)
    plain = TrackTask(task().maker, CONFIG)  # a run of two processes goes on in one
    rest = train(tmp_path / "broken", parts=2, work=plain)
    assert furthest(rest, train(tmp_path / "unbroken", parts=2, work=plain)) < 1e-5
    assert zero["told"] == one["told"]
    few, other, changed = zero["told"]
    assert "batch of 1 clips cannot be split over 2 processes" in few
    assert "configuration of process 1 is not that of process 0" in other
    assert "another configuration" in changed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_a_lost_process_ends_the_other_with_a_reason(tmp_path: Path):
    began = time.monotonic()
    ports = [free_port(), free_port()]
    subprocess.run([sys.executable, __file__, "lost", tmp_path, *ports], env=environment(), timeout=100, check=True)
    for end in ("SIGKILL", "SIGSTOP"):
        told = (tmp_path / f"{end}.txt").read_text()
        assert told.startswith("process 0 of 2 lost the others: one of them ended, or said nothing for 3 s (")
        assert "\n" not in told
    assert time.monotonic() - began < 60


def parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args([*map(str, words), "--smoke", "--device", "cpu"])


@pytest.mark.slow
def test_command_under_torchrun_equals_one_process(tmp_path: Path):
    both = ["--dropout", "0.2", "--out"]
    done = torchrun("-m", "lazyvos", "train", "tiny", "--smoke", "--device", "cpu", "--json", *both, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["processes"] == 2
    cli.run(parsed("tiny", "--accumulate", "2", *both, tmp_path / "one"))
    assert log(tmp_path / "two").shape == (8, 5)
    assert log(tmp_path / "two") == pytest.approx(log(tmp_path / "one"), abs=1e-5)
    two, one = (torch.load(tmp_path / name / "average.pt", weights_only=True) for name in ("two", "one"))
    assert furthest(two, one) < 1e-5
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(p.name for p in (tmp_path / "one").iterdir())


@pytest.mark.parametrize("kind", ["track", "click"])
def test_gradient_of_slices_is_that_of_the_batch(kind: str):
    config = replace(CONFIG, phases=(Phase(2, 48, 5, 2 if kind == "track" else 1, 0, 3),), hard_steps=1)
    maker = ClipMaker(procedural_stills(6, seed=3, side=64), [])
    work = task(config) if kind == "track" else ClickTask(maker, config)
    net = Net() if kind == "track" else ClickNet()
    found = []
    for parts in (1, 2, 5):
        net.zero_grad()
        total = 0.0
        for which in ALONE.slices(5, parts):
            loss, _ = work.loss(net, work.batch(1, which), 1)
            if kind == "track" and which.start == 0:  # what Uneven adds to the first slice alone
                loss = loss - (net.extra**2).sum()
            (loss * (len(which) / 5)).backward()
            total += loss.item() * len(which) / 5
        found.append((total, {k: p.grad.clone() for k, p in net.named_parameters() if p.grad is not None and k != "extra"}))
    for total, gradients in found[1:]:
        assert total == pytest.approx(found[0][0], abs=1e-5)
        assert furthest(gradients, found[0][1]) < 1e-4 * max(float(g.abs().max()) for g in gradients.values())


def test_uneven_slices_give_the_curve_of_the_whole_batch(tmp_path: Path):
    work = TrackTask(task().maker, CONFIG)
    for parts in (1, 2):
        fit(Net(), work, CONFIG, tmp_path / str(parts), progress=False, parts=parts)
    assert log(tmp_path / "2") == pytest.approx(log(tmp_path / "1"), abs=1e-4)


def test_slices_share_out_every_clip_once():
    for world, parts, clips in ((1, 1, 3), (2, 1, 3), (3, 2, 7), (4, 2, 8)):
        taken = [which for rank in range(world) for which in Group(rank, world).slices(clips, parts)]
        assert [i for which in taken for i in which] == list(range(clips))
        assert max(map(len, taken)) - min(map(len, taken)) <= 1
    with pytest.raises(InputError, match="3 clips cannot be split over 2 processes in 2 parts"):
        Group(0, 2).slices(3, 2)


def test_losses_are_means_over_clips():
    torch.manual_seed(1)
    logits, labels = torch.randn(3, 3, 8, 8), torch.randint(0, 3, (3, 8, 8))
    labels[1, :6] = 255
    prob = torch.softmax(logits, 1)[:, 1:]
    for share in (1.0, 0.3):
        single = [bootstrapped_cross_entropy(logits[i : i + 1], labels[i : i + 1], share) for i in range(3)]
        assert bootstrapped_cross_entropy(logits, labels, share).item() == pytest.approx(torch.stack(single).mean().item())
    assert dice(prob, labels).item() == pytest.approx(np.mean([dice(prob[i : i + 1], labels[i : i + 1]).item() for i in range(3)]))


def test_draws_are_a_function_of_their_seed_and_leave_no_trace():
    def drawn(*seed: int) -> torch.Tensor:
        with draws(torch.device("cpu"), *seed):
            return torch.rand(4)

    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    assert torch.equal(drawn(1, 2, 3), drawn(1, 2, 3))
    assert not torch.equal(drawn(1, 2, 3), drawn(1, 2, 4))
    assert torch.equal(torch.rand(2), wanted)


def test_environment_without_launcher_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="RANK is not set"), joined("cpu"):
        pass
    monkeypatch.delenv("WORLD_SIZE")
    with joined("cpu") as group:
        assert group == Group()
        group.agree("anything", object())
        assert group.share(lambda: 7) == 7
    with pytest.raises(InputError, match="timeout of 0"), joined("cpu", 0):
        pass


def test_weights_of_a_relative_are_cut_to_fit(tmp_path: Path):
    tiny = XMem(XMemConfig.tiny())
    save(tiny, tmp_path / "tiny.safetensors")
    stm = XMem(XMemConfig.tiny_stm())
    before = {k: v.clone() for k, v in stm.state_dict().items()}
    told = cli.initialise(stm, tmp_path / "tiny.safetensors")
    given = load_file(tmp_path / "tiny.safetensors")
    cut = [k for k, v in stm.state_dict().items() if v.shape != given[k].shape]
    assert cut == ["decoder.fuser.block1.downsample.weight", "decoder.fuser.block1.conv1.weight"]
    for key, value in stm.state_dict().items():
        assert torch.equal(value, given[key].float()[:, : value.shape[1]] if key in cut else given[key].float())
    assert "decoder.fuser.block1.conv1.weight (288 to 256 inputs)" in told
    assert told.endswith("left random: none")
    save(stm, tmp_path / "stm.safetensors")
    told = cli.initialise(tiny, tmp_path / "stm.safetensors")
    assert "cut: none" in told
    assert "key_proj.d_proj.weight" in told
    assert before.keys() == stm.state_dict().keys()
    save(nn.Linear(2, 3), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="shares no tensor"):
        cli.initialise(tiny, tmp_path / "other.safetensors")


def test_command_trains_the_memory_network_from_weights_of_the_tracker(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(XMem(XMemConfig.tiny()), tmp_path / "tiny.safetensors")
    facts = cli.run(parsed("tiny-stm", "--init", tmp_path / "tiny.safetensors", "--scale", 0.25, "--out", tmp_path / "out"))
    assert "288 to 256 inputs" in capsys.readouterr().err
    assert set(load_file(str(facts["weights"]))) == set(XMem(XMemConfig.tiny_stm()).state_dict())


def test_options_of_video_folders(tmp_path: Path):
    from PIL import Image

    for name in ("a", "b"):
        for kind in ("JPEGImages", "Tracks"):
            (tmp_path / kind / name).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save(tmp_path / "JPEGImages" / name / "0.jpg")
        Image.fromarray(np.ones((32, 40), np.uint8)).save(tmp_path / "Tracks" / name / "0.png")
    parse = cli.VideoSet.parse
    (video,) = parse(f"{tmp_path}:annotations=Tracks,weight=0.3,only=b").load([])
    assert (video.name, video.weight, len(video.frames)) == ("b", 0.3, 1)
    assert [v.name for v in parse(f"{tmp_path}:annotations=Tracks,only=a,only=b").load(["a"])] == ["b"]
    assert parse("D:/clips") == cli.VideoSet("D:/clips")
    with pytest.raises(InputError, match="'wieght=2' is no option"):
        parse("clips:wieght=2")
    with pytest.raises(InputError, match="weight 0 must be"):
        parse("clips:weight=0")
    with pytest.raises(InputError, match="no sequence 'c'"):
        parse(f"{tmp_path}:annotations=Tracks,only=c").load([])
    with pytest.raises(InputError, match="gives no video"):
        parse(f"{tmp_path}:annotations=Tracks").load(["a", "b"])


@pytest.mark.parametrize(("words", "message"), [
    (["tiny", "--dropout", "1"], "--dropout 1.0"), (["tiny-click", "--dropout", "0.1"], "tiny-click has none"),
    (["tiny", "--batch-scale", "0"], "--batch-scale 0"), (["tiny", "--accumulate", "3"], "batch of 2 clips"),
    (["tiny", "--timeout", "0"], "timeout of 0 s"),
])  # fmt: skip
def test_options_that_cannot_work_are_refused(words: list[str], message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        cli.run(parsed(*words, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


if __name__ == "__main__":
    if sys.argv[1] == "lost":
        lost(Path(sys.argv[2]), sys.argv[3:])
    else:
        restarted(Path(sys.argv[2]))
