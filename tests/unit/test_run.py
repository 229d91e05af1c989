"""Running a clip: what is written, scored, resumed, and left after trouble."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from lazyvos.build import make_tracker
from lazyvos.interact import Always, SimulatedUser
from lazyvos.masks import davis_palette, read_mask, write_mask
from lazyvos.metrics import evaluate_sequence
from lazyvos.run import run_clip
from lazyvos.types import Click, InputError
from lazyvos.video import Source

LENGTH, SIZE = 12, (96, 128)


def _truth(t: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[20:50, 10 + 3 * t : 40 + 3 * t] = 1
    labels[60:85, 70 - 3 * t : 100 - 3 * t] = 3
    return labels


def _frame(t: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 100, (*SIZE, 3)).astype(np.uint8)
    labels = _truth(t)
    picture[labels == 1] = (220, 60, 40)
    picture[labels == 3] = (40, 90, 230)
    return picture


class Clip(Source):
    """Frames by number; ``at`` is called before frame ``when`` is given."""

    def __init__(self, length: int = LENGTH, when: int = -1, at=None) -> None:
        super().__init__("boxes", SIZE, length, 10.0, prefetch=0)
        self.when, self.at = when, at

    def _frames(self) -> Iterator[np.ndarray]:
        for t in range(self.length or 0):
            if t == self.when:
                self.at()
            yield _frame(t)


def _tracker(**options):
    return make_tracker("tiny", size=96, device="cpu", **{"policy": "never", "memory": "fifo", **options})


def _run(out: Path, clip: Source | None = None, **options):
    options = {"mask": _truth(0), "truth": _truth, "progress": False, "report": False, **options}
    return run_clip(clip or Clip(), options.pop("tracker", None) or _tracker(refiner=None), out, **options)


def _masks(out: Path) -> list[np.ndarray]:
    return [read_mask(file) for file in sorted((out / "masks").glob("*.png"))]


def _log(out: Path, event: str) -> list[dict]:
    lines = (out / "session.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("whole")
    return out, _run(out, report=True)


def test_everything_is_written_and_agrees(whole) -> None:
    out, result = whole
    masks = _masks(out)
    assert len(masks) == LENGTH
    assert result.frames == LENGTH
    assert result.complete
    assert result.objects == (1, 3)
    with Image.open(out / "masks" / "00004.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:12] == davis_palette()[:4].ravel().tolist()
    with av.open(str(out / "overlay.mp4")) as video:
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(pictures) == LENGTH
    assert pictures[0].shape == (*SIZE, 3)
    assert np.abs(pictures[3].astype(int) - _frame(3)).mean() > 1  # something is drawn
    commits = _log(out, "commit")
    assert [entry["t"] for entry in commits] == list(range(LENGTH))
    for entry, mask in zip(commits, masks, strict=True):
        assert entry["areas"] == {"1": int((mask == 1).sum()), "3": int((mask == 3).sum())}
    assert json.loads((out / "summary.json").read_text())["JF"] == result.JF
    assert (out / "report.html").stat().st_size > 1_000_000
    assert not (out / "snapshot.pt").exists()
    assert result.fps is not None
    assert result.fps > 0
    assert 50 < result.peak_memory_mb < 20_000


def test_scores_are_those_of_the_masks_on_disk(whole) -> None:
    out, result = whole
    table = np.zeros(256, np.uint8)
    table[[1, 3]] = 1, 2  # the protocol counts a gap in the ids as an object
    truths = [table[_truth(t)] for t in range(LENGTH)]
    score = evaluate_sequence([table[m] for m in _masks(out)], truths)
    assert pytest.approx(score.J) == result.J
    assert pytest.approx(score.F) == result.F
    assert [entry["id"] for entry in result.scores] == [1, 3]
    assert [entry["JF"] for entry in result.scores] == pytest.approx([o.JF for o in score.objects])
    assert set(result.robustness) == {"0.1", "0.25", "0.5"}
    ious = [[entry["iou"][str(o)] for entry in _log(out, "commit")] for o in (1, 3)]
    assert ious == [pytest.approx(o.j, abs=1e-6) for o in score.objects]
    assert result.robustness["0.5"] == pytest.approx(np.mean(np.array(ious) >= 0.5))


def test_requests_and_answers_are_counted_and_logged(tmp_path: Path) -> None:
    result = _run(tmp_path, Clip(4), tracker=_tracker(policy=Always()), user=SimulatedUser(_truth), video=False)
    assert result.requests == len(_log(tmp_path, "request")) == 3 * 2
    assert result.user_corrections == 3 * 2
    clicks = _log(tmp_path, "click")
    assert {(entry["t"], entry["object"]) for entry in clicks} == {(t, o) for t in (1, 2, 3) for o in (1, 3)}
    for entry in clicks:
        assert _truth(entry["t"])[entry["y"], entry["x"]] == entry["object"]
    assert not (tmp_path / "overlay.mp4").exists()
    assert "overlay" not in result.files


def test_clicks_start_objects(tmp_path: Path) -> None:
    clicks = [Click(25, 35, 1), Click(85, 72, 3), Click(5, 5, 3, positive=False)]
    result = _run(tmp_path, Clip(2), tracker=_tracker(), clicks=clicks, mask=None, truth=None)
    assert result.objects == (1, 3)
    assert result.user_corrections == 0
    assert result.JF is None
    assert len(_log(tmp_path, "click")) == 3


def _break(error: str):
    def at() -> None:
        raise InputError(error)

    return at


def test_resume_after_a_break_gives_the_same_as_no_break(whole, tmp_path: Path) -> None:
    out, result = whole
    with pytest.raises(InputError, match="breaks off"):
        _run(tmp_path, Clip(when=8, at=_break("it breaks off")), snapshot_every=3)
    left = json.loads((tmp_path / "summary.json").read_text())
    assert (left["frames"], left["complete"], left["error"]) == (8, False, "it breaks off")
    assert len(_masks(tmp_path)) == 8
    with av.open(str(tmp_path / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 8
    write_mask(tmp_path / "masks" / "00007.png", np.zeros(SIZE, np.uint8))  # after the snapshot: done again

    calls = []
    tracker = _tracker(refiner=None)
    step = tracker.step
    tracker.step = lambda *given: calls.append(1) or step(*given)
    again = _run(tmp_path, tracker=tracker, resume=True, snapshot_every=3)
    assert len(calls) == LENGTH - 6
    assert again.complete
    assert (again.J, again.F, again.robustness) == (result.J, result.F, result.robustness)
    assert all(np.array_equal(a, b) for a, b in zip(_masks(tmp_path), _masks(out), strict=True))
    assert [entry["t"] for entry in _log(tmp_path, "commit")] == list(range(LENGTH))
    assert [entry["t"] for entry in _log(tmp_path, "resumed")] == [5]
    with av.open(str(tmp_path / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == LENGTH


def test_ctrl_c_keeps_everything_and_resumes(whole, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, Clip(when=4, at=lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert signal.getsignal(signal.SIGINT) is before
    assert len(_masks(tmp_path)) == 5  # the frame at hand is finished
    assert json.loads((tmp_path / "summary.json").read_text())["error"] == "interrupted"
    assert not list(tmp_path.rglob(".*"))
    again = _run(tmp_path, resume=True)
    assert again.JF == whole[1].JF
    assert [entry["t"] for entry in _log(tmp_path, "resumed")] == [4]


def test_resume_refuses_another_run_and_damaged_snapshots(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        _run(tmp_path, Clip(when=4, at=_break("x")), snapshot_every=2)
    masks = _masks(tmp_path)
    other = _truth(0)
    other[0, 0] = 1
    with pytest.raises(InputError, match="another start"):
        _run(tmp_path, mask=other, resume=True)
    with pytest.raises(InputError, match="another memory"):
        _run(tmp_path, tracker=_tracker(memory="readmem", refiner=None), resume=True)
    (tmp_path / "masks" / "00001.png").rename(tmp_path / "away.png")
    with pytest.raises(InputError, match=r"00001\.png is missing"):
        _run(tmp_path, resume=True)
    (tmp_path / "away.png").rename(tmp_path / "masks" / "00001.png")
    (tmp_path / "snapshot.pt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        _run(tmp_path, resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(masks, _masks(tmp_path), strict=True))


def test_a_complete_run_is_not_repeated_on_resume(tmp_path: Path) -> None:
    first = _run(tmp_path, Clip(2))
    stamp = (tmp_path / "masks" / "00001.png").stat().st_mtime_ns
    assert _run(tmp_path, Clip(2), resume=True) == first
    assert (tmp_path / "masks" / "00001.png").stat().st_mtime_ns == stamp


def test_masks_of_an_earlier_longer_run_go(tmp_path: Path) -> None:
    _run(tmp_path, Clip(5))
    (tmp_path / "masks" / "mine.png").write_bytes(b"kept")
    _run(tmp_path, Clip(2))
    assert sorted(file.name for file in (tmp_path / "masks").iterdir()) == ["00000.png", "00001.png", "mine.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": None}, "clicks or a mask"),
        ({"clicks": [Click(1, 1)]}, "one of the two"),
        ({"mask": None, "clicks": [Click(128, 1)]}, "outside the frame of 128x96"),
        ({"mask": None, "clicks": [Click(5, 5, 2, positive=False)]}, "only negative clicks"),
        ({"mask": np.zeros(SIZE, np.uint8)}, "holds no object"),
        ({"mask": np.ones((40, 50), np.uint8)}, "50x40 but the frames are 128x96"),
        ({"mask": None, "clicks": [Click(5, 5, 2)]}, r"object 2 is not in the truth of frame 0, which has \[1, 3\]"),
        ({"snapshot_every": 0}, "snapshot_every"),
    ],
)
def test_wrong_starts_are_refused_before_anything_is_written(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        _run(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_used_tracker_is_refused(tmp_path: Path) -> None:
    tracker = _tracker(refiner=None)
    tracker.step(_frame(0))
    with pytest.raises(InputError, match="has seen 1 frames already"):
        _run(tmp_path / "out", tracker=tracker)


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("whole")
    with pytest.raises(InputError, match="is a file"):
        _run(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "whole"
