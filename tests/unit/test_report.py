"""Curves, figures and the HTML report."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image

from lazyvos import plot
from lazyvos.curves import Curves, Line, Mark, Marks
from lazyvos.report import Thumbnails, table, write_report
from lazyvos.types import Correction, Decision, InputError, Prediction, Request, Step

SPIKE = 31_337


def _event(t: int, **more) -> dict:
    return {"event": "commit", "t": t, "scores": {"1": 0.2 + 0.1 * np.sin(t / 50), "2": 0.4}, "kept": t % 5 == 0, "clicked": [],
            "pseudo": [], "log_gram_after": -t / 1000 if t % 10 == 0 else None, "iou": {"1": 0.9, "2": 0.8}, **more}  # fmt: skip


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "session.jsonl"
    with path.open("w") as out:
        out.write(json.dumps(_event(0, scores={}, clicked=[1, 2], log_gram_after=0.0)) + "\n")
        for t in range(1, 50_000):
            if t == SPIKE:
                out.write(json.dumps({"event": "request", "t": t, "object": 1, "score": 0.97}) + "\n")
                out.write(json.dumps(_event(t, scores={"1": 0.97, "2": 0.4}, clicked=[1], pseudo=[2])) + "\n")
            else:
                out.write(json.dumps(_event(t)) + "\n")
        out.write('{"event": "commit", "t": 50')  # cut off by a crash
    return path


def test_long_logs_are_thinned_and_keep_their_peaks(long_log: Path) -> None:
    curves = Curves.from_log(long_log, points=1000)
    assert curves.frames == 50_000
    for line in (*curves.scores.values(), *curves.iou.values(), curves.gram):
        assert 100 < len(line) <= 1100 or len(set(line.values)) == 1
        assert line.t == sorted(line.t)
    assert (SPIKE, 0.97) in zip(curves.scores[1].t, curves.scores[1].values)
    assert min(curves.scores[1].values) == pytest.approx(0.1, abs=1e-3)
    assert [(m.t, m.object) for m in curves.marks["start"]] == [(0, 1), (0, 2)]
    assert [(m.t, m.object, m.score) for m in curves.marks["user"]] == [(SPIKE, 1, 0.97)]
    assert [(m.t, m.object, m.score) for m in curves.marks["pseudo"]] == [(SPIKE, 2, 0.4)]
    assert [(m.t, m.score) for m in curves.marks["request"]] == [(SPIKE, 0.97)]
    assert curves.marks["memory"].total == 10_000
    assert len(curves.marks["memory"]) <= 600


def test_line_without_thinning_keeps_every_value_and_gaps() -> None:
    line = Line()
    for t, value in enumerate([0.1, None, float("nan"), 0.3]):
        line.add(t, value)
    line.flush()
    assert (line.t, line.values) == ([0, 3], [0.1, 0.3])


def test_marks_stay_bounded_and_cover_the_whole_run() -> None:
    marks = Marks(most=50)
    for t in range(10_000):
        marks.add(Mark(t, 0, None))
    times = [mark.t for mark in marks]
    assert len(times) <= 50
    assert times[0] == 0
    assert times[-1] > 9000
    assert len(set(np.diff(times))) == 1


def test_report_is_one_small_file_without_network(long_log: Path, tmp_path: Path) -> None:
    thumbs = Thumbnails(few=3)
    for t in range(40):
        thumbs.offer(t, np.full((90, 160, 3), t, np.uint8), t == 17)
    summary = {
        "frames": 50_000, "complete": True, "JF": 0.85, "J": 0.8, "F": 0.9, "scores": [{"id": 1, "JF": 0.7}, {"id": 2, "JF": None}],
        "robustness": {"0.1": 0.99}, "requests": 1, "user_corrections": 1, "pseudo_corrections": 1, "fps": 12.34, "seconds": 5.0,
        "peak_memory_mb": 512.3, "setup": {"source": "a/<b>.mp4", "size": [90, 160], "memory": "ReadMem"},
    }  # fmt: skip
    path = tmp_path / "report.html"
    write_report(long_log, path, summary, thumbs.pictures())
    page = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 6e6
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?https?:", page)
    assert "&lt;b&gt;.mp4" in page
    assert "<b>.mp4" not in page
    for text in ("0.850", "R@0.1", "12.3 frames/s", "512 MB", "frame 17 · corrected", "not scored", "user correction"):
        assert text in page, text
    assert "Curves show the lowest and highest value of every" in page
    assert page.count('src="data:image/jpeg') == len(thumbs.pictures())
    assert not list(tmp_path.glob(".*"))


def test_report_needs_frames(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        write_report(tmp_path / "none.jsonl", tmp_path / "r.html")
    (tmp_path / "empty.jsonl").write_text('{"event": "opened"}\n')
    with pytest.raises(InputError, match="no tracked frame"):
        write_report(tmp_path / "empty.jsonl", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_table_leaves_out_what_was_not_measured() -> None:
    rows = dict(table({"frames": 3, "complete": False, "requests": 0, "user_corrections": 0, "pseudo_corrections": 0, "seconds": 1.0}))
    assert rows["frames"] == "3 (stopped early)"
    assert "J&F" not in rows
    assert "peak memory" not in rows


def test_thumbnails_are_few_and_spread() -> None:
    thumbs = Thumbnails(few=4, width=32)
    for t in range(1000):
        if thumbs.wants(t, t in (3, 900)):
            thumbs.offer(t, np.full((40, 64, 3), t % 256, np.uint8), t in (3, 900))
        assert len(thumbs._even) <= 8
    pictures = thumbs.pictures()
    assert len(pictures) <= 4 + 2
    assert [t for t, _, asked in pictures if asked] == [3, 900]
    times = [t for t, _, asked in pictures if not asked]
    assert times[0] == 0
    assert times[-1] >= 750
    with Image.open(io.BytesIO(base64.b64decode(pictures[0][1].split(",")[1]))) as image:
        assert image.size == (32, 20)


def _step(t: int, gram: float | None) -> Step:
    labels = np.zeros((8, 10), np.uint8)
    prob = torch.stack([torch.ones(8, 10), torch.zeros(8, 10)])
    seen = Prediction(t, labels, prob, (1,), np.zeros((8, 10), np.float32), {1: 0.1 * t} if t else {}, {1: None})
    asked = (Request(t, 1, 0.1 * t, 0.1),) if t == 2 else ()
    done = (Correction(t, 1, "pseudo" if t == 3 else "user"),) if t in (0, 2, 3) else ()
    return Step(t, seen, seen, asked, done, Decision(t, True, "filled", log_gram_after=gram), 0.01)


@pytest.mark.parametrize("gram", [None, -2.5])
def test_entropy_curves_of_steps(gram: float | None) -> None:
    figure = plot.entropy_curves(_step(t, gram) for t in range(5))
    assert isinstance(figure, go.Figure)
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces["object 1"].x) == [1, 2, 3, 4]
    assert list(traces["object 1"].y) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert list(traces["request"].x) == list(traces["user correction"].x) == [2]
    assert list(traces["pseudo-correction"].x) == [3]
    assert list(traces["start of an object"].x) == [0]
    assert ("log|Γ| (diversity)" in traces) == (gram is not None)
    if gram is not None:
        assert set(traces["log|Γ| (diversity)"].y) == {gram}


def test_pictures_for_notebooks() -> None:
    frame = np.full((40, 60, 3), 90, np.uint8)
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 10:30] = 1
    figure = plot.overlay(frame, labels, title="frame 3")
    assert figure.layout.title.text == "frame 3"
    with Image.open(io.BytesIO(base64.b64decode(figure.data[0].source.split(",")[1]))) as image:
        drawn = np.asarray(image).astype(int)
    assert drawn.shape == frame.shape
    assert drawn[20, 20, 2] - drawn[20, 20, 0] > 40  # object 1 is blue
    assert np.abs(drawn[35, 50] - 90).max() < 8
    heat = np.zeros((40, 60), np.float32)
    heat[5:15, 5:15] = 1
    for under in (None, frame):
        assert len(plot.entropy_image(heat, under).to_json()) < 50_000
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        plot.entropy_image(frame)
