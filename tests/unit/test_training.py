"""Training: clips are functions of their seed, losses have their known values, a resumed run equals an unbroken one."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lazyvos import hub
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.refine.clicknet import ClickNet, click_disks
from lazyvos.training import cli
from lazyvos.training.clicks import ClickTask, inner_point, next_click
from lazyvos.training.clips import ClipMaker, ClipSpec
from lazyvos.training.config import Phase, TrainConfig
from lazyvos.training.data import load_stills, load_videos, procedural_stills
from lazyvos.training.loop import fit, rate_at
from lazyvos.training.losses import bootstrapped_cross_entropy, dice, normalised_focal
from lazyvos.training.track import TrackTask
from lazyvos.types import InputError

STILLS = procedural_stills(6, seed=3, side=96)
SMALL = TrainConfig(phases=(Phase(3, 48, 1, 2, 0, 3), Phase(3, 48, 1, 3, 0, 3)), warmup=2, hard_steps=4)


def small_net() -> XMem:
    torch.manual_seed(0)
    return XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False))


def test_clip_is_a_function_of_its_seed():
    maker = ClipMaker(STILLS, [])
    spec = ClipSpec(64, 4, 2)
    one, again, other = maker.draw((1, 2), spec), maker.draw((1, 2), spec), maker.draw((1, 3), spec)
    assert np.array_equal(one.frames, again.frames)
    assert np.array_equal(one.labels, again.labels)
    assert not np.array_equal(one.frames, other.frames)
    assert one.frames.shape == (4, 64, 64, 3)
    assert one.labels.shape == (4, 64, 64)


def test_clips_show_their_objects_first_and_move():
    maker = ClipMaker(STILLS, [])
    for seed in range(12):
        clip = maker.draw((seed,), ClipSpec(96, 3, 2))
        assert {1, 2} <= set(np.unique(clip.labels[0]))
        assert (clip.frames[0] != clip.frames[2]).any()


def test_video_windows_come_from_the_video(tmp_path: Path):
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / kind / "ball").mkdir(parents=True)
    for t in range(6):
        frame = np.full((64, 80, 3), 40, np.uint8)
        mask = np.zeros((64, 80), np.uint8)
        frame[20:40, 10 + 5 * t : 30 + 5 * t] = (250, 30, 30)
        mask[20:40, 10 + 5 * t : 30 + 5 * t] = 1
        Image.fromarray(frame).save(tmp_path / "JPEGImages/ball" / f"{t:05d}.jpg")
        Image.fromarray(mask).save(tmp_path / "Annotations/ball" / f"{t:05d}.png")
    videos = load_videos([tmp_path])
    assert [len(v.frames) for v in videos] == [6]
    assert load_videos([tmp_path], exclude=["ball"]) == []
    clip = ClipMaker([], videos).draw((0,), ClipSpec(64, 3, 1, max_gap=2, video_share=1))
    assert (clip.labels[0] == 1).any()
    (tmp_path / "Annotations/ball/00003.png").unlink()
    with pytest.raises(InputError, match=r"00003\.png"):
        load_videos([tmp_path])


def test_missing_folders_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="images/"):
        load_stills([tmp_path])
    with pytest.raises(InputError, match="JPEGImages"):
        load_videos([tmp_path])


def test_bootstrapped_cross_entropy():
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 0] = 4.0
    labels = torch.tensor([[[1, 0], [0, 255]]])
    easy = math.log(1 + math.exp(-4))
    assert bootstrapped_cross_entropy(logits, labels, 1.0).item() == pytest.approx((easy + 2 * math.log(2)) / 3)
    assert bootstrapped_cross_entropy(logits, labels, 0.34).item() == pytest.approx(math.log(2))


def test_dice_of_perfect_and_empty():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, :2] = 1
    truth = (labels == 1).float().unsqueeze(1)
    assert dice(truth, labels).item() == pytest.approx(0)
    assert dice(torch.zeros_like(truth), labels).item() == pytest.approx(1 - 1 / 9)


def test_normalised_focal_is_cross_entropy_where_all_pixels_are_equal():
    logits, truth = torch.full((2, 1, 4, 4), 0.3), torch.ones(2, 1, 4, 4)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    assert normalised_focal(logits, truth).item() == pytest.approx(expected.item(), rel=1e-5)


def test_cosine_starts_low_peaks_and_ends_low():
    config = TrainConfig()
    assert rate_at(config, 0) < 0.05
    assert rate_at(config, config.warmup) == pytest.approx(1)
    assert rate_at(config, config.steps) == pytest.approx(config.final_rate)


def test_resumed_run_equals_unbroken_run(tmp_path: Path):
    maker = ClipMaker(STILLS, [])
    whole = fit(small_net(), TrackTask(maker, SMALL), SMALL, tmp_path / "a", save_every=2, progress=False)

    class Dies(TrackTask):
        def loss(self, net, batch, step):
            if step == 4:
                raise KeyboardInterrupt
            return super().loss(net, batch, step)

    with pytest.raises(KeyboardInterrupt):
        fit(small_net(), Dies(maker, SMALL), SMALL, tmp_path / "b", save_every=2, progress=False)
    rest = fit(small_net(), TrackTask(maker, SMALL), SMALL, tmp_path / "b", save_every=2, progress=False)
    for key, value in whole.items():
        assert torch.equal(value, rest[key]), key
    rows = [(tmp_path / run / "log.csv").read_text().splitlines() for run in "ab"]
    assert len(rows[0]) == len(rows[1]) == 7
    with pytest.raises(InputError, match="another configuration"):
        fit(small_net(), TrackTask(maker, SMALL), replace(SMALL, rate=1e-4), tmp_path / "b", progress=False)


def test_training_lowers_the_loss():
    net = small_net()
    config = TrainConfig(phases=(Phase(1, 64, 4, 2, 0, 3),))
    task = TrackTask(ClipMaker(STILLS, []), config)
    batch = task.batch(0)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(25):
        loss, _ = task.loss(net, batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_click_disks_are_inclusive():
    disk = click_disks([(10, 10)], (21, 21), radius=5)
    assert disk[10, 15] == 1
    assert disk[10, 16] == 0
    assert disk.sum() == 81
    assert click_disks([], (4, 4)).sum() == 0


def test_next_click_goes_to_the_larger_error():
    rng = np.random.default_rng(0)
    truth, known = np.zeros((40, 40), bool), np.ones((40, 40), bool)
    truth[5:25, 5:25] = True
    click = next_click(np.zeros_like(truth), truth, known, rng)
    assert click is not None
    (row, column), positive = click
    assert positive
    assert truth[int(row), int(column)]
    too_much = truth.copy()
    too_much[28:38, :] = True
    click = next_click(too_much, truth, known, rng)
    assert click is not None
    assert not click[1]
    assert click[0][0] >= 28
    assert next_click(truth, truth, known, rng) is None
    assert inner_point(np.zeros((5, 5), bool), rng) is None


def test_click_task_gives_gradients_to_every_part():
    config = TrainConfig(phases=(Phase(1, 64, 2, 1, 0, 1),))
    task = ClickTask(ClipMaker(STILLS, []), config)
    torch.manual_seed(0)
    net = ClickNet()
    loss, numbers = task.loss(net, task.batch(0), 0)
    loss.backward()
    assert 0 <= numbers["iou"] <= 1
    for name in ("clicks.enter.weight", "fuser.block1.conv1.weight", "up_8_4.out_conv.conv1.weight", "key_encoder.reduce.weight"):
        assert net.get_parameter(name).grad.abs().sum() > 0, name


@pytest.mark.parametrize("net", ["tiny", "tiny-click"])
def test_command_trains_without_any_data(net: str, tmp_path: Path):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    facts = cli.run(parser.parse_args([net, "--out", str(tmp_path), "--smoke", "--device", "cpu"]))
    loaded = hub.load(net, facts["weights"])
    assert not loaded.training
    assert (tmp_path / "log.csv").read_text().startswith("step,")
