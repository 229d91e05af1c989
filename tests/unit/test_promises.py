"""What lazyvos promises its users, with the shipped weights: corrections matter, memory is bounded, objects live apart."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import lazyvos
from lazyvos.build import make_tracker
from lazyvos.interact.clicks import object_centre
from lazyvos.metrics import region
from lazyvos.types import Click


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_correction_changes_its_frame_and_the_frames_after_it_for_the_better():
    """A tracker started on the look-alike is corrected once; that frame and those after it find the true object."""
    source, truth = lazyvos.open_bundled()
    first, at, last = 105, 110, 120
    masks = [np.asarray(truth[t]) for t in range(first, last + 1)]
    frames = [source.frame(t) for t in range(first, last + 1)]
    shift = 60
    wrong = np.roll(masks[0], shift, axis=1)
    wrong[:, :shift] = 0

    def run(corrected: bool) -> list[float]:
        tracker = make_tracker(policy="never", device="cpu")
        overlaps = []
        for k, frame in enumerate(frames):
            prediction = tracker.predict(frame)
            if k == 0:
                prediction = tracker.correct(mask=wrong)
            elif corrected and first + k == at:
                prediction = tracker.correct(mask=masks[k])
            tracker.commit()
            overlaps.append(region(prediction.labels == 1, masks[k] == 1))
        return overlaps

    without, with_it = run(False), run(True)
    position = at - first
    assert with_it[:position] == without[:position]
    assert with_it[position] == 1.0
    assert with_it[position] > without[position] + 0.2
    assert np.mean(with_it[position + 1 :]) > np.mean(without[position + 1 :]) + 0.15
    assert all(a > b for a, b in zip(with_it[position + 1 :], without[position + 1 :], strict=True))


def test_one_click_on_the_bundled_clip_finds_the_object():
    source, truth = lazyvos.open_bundled()
    mask = np.asarray(truth[0])
    point = object_centre(mask == 1)
    assert point is not None
    tracker = make_tracker(policy="never", device="cpu")
    steps = tracker.track((source.frame(t) for t in range(12)), clicks=[Click(*point)])
    overlaps = [region(step.prediction.labels == 1, np.asarray(truth[step.t]) == 1) for step in steps]
    assert np.mean(overlaps) > 0.6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to read the resident memory")
def test_resident_memory_does_not_grow_with_the_video():
    clip = lazyvos.SyntheticClip(seed=4, length=2500, size=(64, 96))
    tracker = make_tracker(policy="never", refiner=None, size=64, device="cpu")
    after: list[float] = []
    for step in tracker.track(clip, mask=np.asarray(clip.mask(0))):
        if step.t in (500, 2499):
            gc.collect()
            after.append(resident())
    assert len(tracker.memory.frames()) <= 20
    assert after[1] - after[0] < 30


def test_encoding_is_done_once_whatever_the_number_of_objects(monkeypatch: pytest.MonkeyPatch):
    tracker = make_tracker(policy="never", refiner=None, size=64, device="cpu")
    calls = {"encode": 0, "decode": 0}
    for name in calls:
        original = getattr(tracker.backbone, name)

        def counted(*args, _name=name, _original=original, **options):
            calls[_name] += 1
            return _original(*args, **options)

        monkeypatch.setattr(tracker.backbone, name, counted)
    mask = np.zeros((64, 96), np.uint8)
    for identity in range(1, 7):
        mask[8 * identity : 8 * identity + 6, 10:40] = identity
    frames = [np.random.default_rng(t).integers(0, 255, (64, 96, 3), np.uint8) for t in range(4)]
    for _ in tracker.track(frames, mask=mask):
        pass
    assert calls == {"encode": 4, "decode": 3}


def test_bf16_agrees_with_fp32():
    source, truth = lazyvos.open_bundled()
    labels = {}
    for precision in ("fp32", "bf16"):
        tracker = make_tracker(policy="never", refiner=None, device="cpu", precision=precision)
        frames = (source.frame(t) for t in range(8))
        labels[precision] = [s.prediction.labels for s in tracker.track(frames, mask=np.asarray(truth[0]))]
    agree = [region(a == 1, b == 1) for a, b in zip(labels["fp32"], labels["bf16"], strict=True)]
    assert min(agree) > 0.9


def test_shipped_networks_keep_within_their_budget():
    for name in ("tiny", "tiny-click"):
        net = lazyvos.load(name)
        assert sum(p.numel() for p in net.parameters()) <= 5_000_000
        file = Path(lazyvos.__file__).parent / "weights" / f"{name}.safetensors"
        assert file.stat().st_size <= 12e6
        assert all(torch.isfinite(p).all() for p in net.parameters())
