"""The command line: outputs, one-sentence errors, exit codes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lazyvos.cli import main
from lazyvos.masks import VideoWriter, read_mask, write_mask
from lazyvos.terminal import TerminalUser
from lazyvos.types import Click, InputError, Prediction, Request

LENGTH, SIZE = 12, (96, 128)


def _truth(t: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[30:70, 10 + 4 * t : 50 + 4 * t] = 1
    return labels


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip.mp4, frames/, truth/, and files that are wrong in many ways."""
    folder = tmp_path_factory.mktemp("clip")
    rng = np.random.default_rng(0)
    with VideoWriter(folder / "clip.mp4", 10) as video:
        for t in range(LENGTH):
            frame = rng.integers(60, 100, (*SIZE, 3)).astype(np.uint8)
            frame[_truth(t) == 1] = (220, 60, 40)
            video.write(frame)
            (folder / "frames").mkdir(exist_ok=True)
            Image.fromarray(frame).save(folder / "frames" / f"f{t}.png")
            write_mask(folder / "truth" / f"{t:05d}.png", _truth(t))
            write_mask(folder / "truth-f" / f"f{t}.png", _truth(t))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("hello\n" * 50)
    (folder / "cut.mp4").write_bytes((folder / "clip.mp4").read_bytes()[:1500])
    (folder / "nothing").mkdir()
    write_mask(folder / "small.png", np.ones((10, 20), np.uint8))
    write_mask(folder / "blank.png", np.zeros(SIZE, np.uint8))
    write_mask(folder / "wrong-truth" / "00000.png", np.ones((10, 20), np.uint8))
    return folder


def _track(clip: Path, out: Path, *more: str, source: str = "clip.mp4") -> list[str]:
    return ["track", str(clip / source), "--out", str(out), "--size", "96", "--device", "cpu", *more]


def test_track_a_video_with_truth(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(_track(clip, tmp_path, "--mask", str(clip / "truth" / "00000.png"), "--truth", str(clip / "truth"),
                       "--user", "simulated", "--json"))  # fmt: skip
    said = capsys.readouterr()
    assert code == 0
    assert said.out.count("\n") == 1
    answer = json.loads(said.out)
    assert answer["frames"] == LENGTH
    assert 0 <= answer["JF"] <= 1
    assert "tracking" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "masks", "overlay.mp4", "report.html", "session.jsonl", "summary.json",
    ]  # fmt: skip
    assert np.array_equal(read_mask(tmp_path / "masks" / "00000.png"), _truth(0))
    assert len(list((tmp_path / "masks").iterdir())) == LENGTH


def test_track_a_folder_for_people(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(_track(clip, tmp_path, "--click", "30,50", "--click", "100,10@2", "--click", "2,2-", "--max-frames", "3",
                       "--no-video", "--no-report", "--truth", str(clip / "truth-f"), source="frames"))  # fmt: skip
    assert code == 2  # object 2 is not in the truth
    assert "object 2" in capsys.readouterr().err
    code = main(_track(clip, tmp_path, "--click", "30,50", "--click", "2,2-", "--max-frames", "3", "--memory", "readmem",
                       "--no-video", "--no-report", "--truth", str(clip / "truth-f"), source="frames"))  # fmt: skip
    said = capsys.readouterr().out
    assert code == 0
    for text in ("J&F", "R@0.5", "requests", "pseudo-corrections", "frames/s", "peak memory", str(tmp_path / "masks")):
        assert text in said, text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "session.jsonl", "summary.json"]
    assert len(list((tmp_path / "masks").iterdir())) == 3


@pytest.mark.parametrize(
    ("source", "more", "sentence"),
    [
        ("none.mp4", [], "none.mp4 does not exist"),
        ("empty.mp4", [], "is empty (0 bytes)"),
        ("text.mp4", [], "text.mp4 is"),
        ("cut.mp4", [], "is cut off"),
        ("nothing", [], "holds no JPEG or PNG images"),
        ("clip.mp4", ["--click", "200,50"], "click (200, 50) lies outside the frame of 128x96"),
        ("clip.mp4", ["--click", "left"], "click 'left' is not understood"),
        ("clip.mp4", ["--click", "5,5@300"], "object 300"),
        ("clip.mp4", ["--click", "5,5-"], "only negative clicks"),
        ("clip.mp4", ["--mask", "{clip}/small.png"], "is 20x10 but the frames are 128x96"),
        ("clip.mp4", ["--mask", "{clip}/none.png"], "none.png does not exist"),
        ("clip.mp4", ["--mask", "{clip}/blank.png"], "mask holds no object"),
        ("clip.mp4", ["--mask", "{clip}/text.mp4"], "is not a mask image"),
        ("clip.mp4", ["--click", "5,5", "--mask", "{clip}/blank.png"], "one of the two"),
        ("clip.mp4", ["--nothing-given"], "unrecognized arguments: --nothing-given"),
        ("clip.mp4", [None], "--click x,y on the object, or --mask FILE"),
        ("clip.mp4", ["--click", "30,50", "--user", "simulated"], "needs --truth"),
        ("clip.mp4", ["--click", "30,50", "--user", "ask"], "needs a terminal"),
        ("clip.mp4", ["--click", "30,50", "--user", "everybody"], "everybody"),
        ("clip.mp4", ["--click", "30,50", "--truth", "{clip}/nothing"], "holds no PNG masks"),
        ("clip.mp4", ["--click", "30,50", "--truth", "{clip}/wrong-truth"], "is 20x10 but the frames are 128x96"),
        ("clip.mp4", ["--click", "30,50", "--memory", "elephant"], "elephant"),
        ("clip.mp4", ["--click", "30,50", "--policy", "bold"], "bold"),
        ("clip.mp4", ["--click", "30,50", "--backbone", "huge"], "huge"),
        ("clip.mp4", ["--click", "30,50", "--weights", "{clip}/text.mp4"], "cannot be read"),
        ("clip.mp4", ["--click", "30,50", "--size", "3"], "32 to 4320"),
        ("clip.mp4", ["--click", "30,50", "--max-frames", "0"], "give 1 or more"),
        ("clip.mp4", ["--click", "30,50", "--out", "{clip}/text.mp4"], "is a file"),
        ("clip.mp4", ["--click", "30,50", "--device", "abacus"], "abacus"),
    ],
)
def test_wrong_input_is_one_sentence_and_touches_nothing(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    source: str, more: list[str | None], sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    out = tmp_path / "out"
    words = [word.format(clip=clip) for word in more if word is not None]
    if not more or "--nothing-given" in more:
        words += ["--click", "30,50"]
    code = main(_track(clip, out, *words, source=source))
    said = capsys.readouterr()
    assert code == 2, said.err
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert sentence in lines[0]
    assert "Traceback" not in said.err
    assert not out.exists()


def test_existing_results_stay_whole_on_a_wrong_call(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--mask", str(clip / "truth" / "00000.png"), "--no-report"]
    assert main(_track(clip, tmp_path, *start, "--max-frames", "2")) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(_track(clip, tmp_path, "--click", "500,500")) == 2
    assert main(_track(clip, tmp_path, *start, source="cut.mp4")) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_debug_shows_where(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        main(_track(clip, tmp_path, "--click", "500,500", "--debug"))


def test_unexpected_errors_end_with_1(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the machine\nis on fire")

    monkeypatch.setattr("lazyvos.run.run_clip", broken)
    assert main(_track(clip, tmp_path, "--click", "30,50")) == 1
    assert capsys.readouterr().err == (
        "lazyvos: unexpected RuntimeError: the machine is on fire; run again with --debug to see where\n"
    )


def test_ctrl_c_ends_with_130(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from lazyvos.tracker import Tracker

    real = Tracker.commit

    def commit(self: Tracker):
        if self.t == 3:
            os.kill(os.getpid(), 2)
        return real(self)

    monkeypatch.setattr(Tracker, "commit", commit)
    start = ["--mask", str(clip / "truth" / "00000.png")]
    assert main(_track(clip, tmp_path, *start)) == 130
    assert "interrupted" in capsys.readouterr().err
    for t in range(4):
        read_mask(tmp_path / "masks" / f"{t:05d}.png", SIZE)
    monkeypatch.setattr(Tracker, "commit", real)
    assert main(_track(clip, tmp_path, *start, "--resume", "--json")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == LENGTH


def test_demo_on_a_few_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--frames", "3", "--out", str(tmp_path), "--size", "64", "--device", "cpu", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["frames"] == 3
    assert answer["setup"]["memory"] == "ReadMem"
    assert answer["setup"]["user"] == "SimulatedUser"
    for key in ("JF", "robustness", "requests", "user_corrections", "pseudo_corrections", "fps", "peak_memory_mb"):
        assert answer[key] is not None
    assert set(answer["files"]) == {"masks", "log", "summary", "overlay", "report"}
    assert all(Path(path).exists() for path in answer["files"].values())
    assert main(["demo", "--frames", "2000", "--out", str(tmp_path / "x")]) == 2
    assert "has 200" in capsys.readouterr().err


def test_eval_prints_one_object(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "davis"
    shutil.copytree(clip / "frames", root / "JPEGImages" / "boxes")
    shutil.copytree(clip / "truth-f", root / "Annotations" / "boxes")
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "mine.txt").write_text("boxes\n")
    words = ["eval", str(root), "--split", str(root / "ImageSets" / "mine.txt"), "--out", str(tmp_path / "out"), "--size", "64",
             "--device", "cpu"]  # fmt: skip
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"J", "F", "JF", "fps", "sequences"} <= set(answer)
    assert answer["config"]["memory"] == "fifo"
    assert answer["sequences"]["boxes"]["JF"] == pytest.approx(answer["JF"])
    assert main(words) == 0
    assert "boxes" in capsys.readouterr().out
    assert main([*words[:3], "absent", *words[4:]]) == 2
    assert "has no split absent" in capsys.readouterr().err


def test_help_and_version_are_quick_and_load_nothing_heavy() -> None:
    began = time.perf_counter()
    code = "import sys; from lazyvos.cli import main; main(['--help']); print([m for m in ('torch', 'plotly', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - began < 10
    for command in ("demo", "track", "eval", "train", "bench", "lab"):
        assert command in done.stdout


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("demo", "track", "eval", "train", "bench", "lab"):
        assert main([command, "--help"]) == 0
        assert "--json" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["fly"]) == 2
    assert main(["--version"]) == 0


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_at_a_terminal(tmp_path: Path) -> None:
    picture, told = tmp_path / "request.png", io.StringIO()
    typed = _Terminal("12\n500,2\n10,20 30,5- 7,7@3\n\n")
    user = TerminalUser(picture, typed, told)
    import torch

    seen = Prediction(7, np.ones((40, 60), np.uint8) * 2, torch.full((2, 40, 60), 0.5), (2,), np.ones((40, 60), np.float32),
                      {2: 0.71}, {2: 0.52})  # fmt: skip
    request, frame = Request(7, 2, 0.71, 0.52, (30.0, 20.0)), np.zeros((40, 60, 3), np.uint8)
    answer = user.answer(request, frame, seen)
    assert answer == (Click(10, 20, 2), Click(30, 5, 2, False), Click(7, 7, 3))
    assert "frame 7: object 2 is uncertain (0.71, +0.52)" in told.getvalue()
    assert "click '12' is not understood" in told.getvalue()
    assert "outside the frame of 60x40" in told.getvalue()
    with Image.open(picture) as image:
        assert image.size == (60, 40)
        assert np.asarray(image).max() > 100
    assert user.answer(request, frame, seen) is None  # the empty line
    assert user.answer(request, frame, seen) is None  # the end of the input
    asked = told.getvalue().count("is uncertain")
    assert user.answer(request, frame, seen) is None
    assert told.getvalue().count("is uncertain") == asked
    assert user.waited > 0
