"""Rounds of clicks on a clip: bounds, memory, fusion, objects that come later, undo, resume, and what must not be touched."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lazyvos import hub
from lazyvos.backbones.fusion import FusionNet
from lazyvos.backbones.fusion_light import LightFusion
from lazyvos.backbones.mivos import MiVOS, MiVOSConfig
from lazyvos.backbones.mivos_core import MiVOSCore
from lazyvos.backbones.qdmn import QDMN, QDMNConfig
from lazyvos.backbones.stcn import STCN, STCNConfig
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.build import MEMORIES
from lazyvos.datasets import SyntheticClip
from lazyvos.geometry import MEAN, STD
from lazyvos.masks import read_mask
from lazyvos.memory import Unbounded
from lazyvos.refine.clicknet import ClickNet
from lazyvos.refine.ritm import H18S, RitmNet
from lazyvos.refine.ritm_predictor import RitmRefiner
from lazyvos.refine.tiny import TinyRefiner
from lazyvos.rounds import Leg, Rounds, combine, time_weights
from lazyvos.rounds.clip import Frames
from lazyvos.rounds.state import Cell, most_probable
from lazyvos.tracker import Tracker
from lazyvos.training import cli
from lazyvos.training.clips import ClipMaker
from lazyvos.training.config import Phase, TrainConfig
from lazyvos.training.data import procedural_stills
from lazyvos.training.fuse import FuseTask
from lazyvos.types import Click, InputError
from lazyvos.uncertainty import Entropy

CLIP = SyntheticClip(seed=2, length=9, size=(64, 96), objects=2, difficulty="easy")
PAIRS = [(frame.copy(), mask.copy()) for frame, mask in CLIP.pairs()]
FRAMES = np.stack([frame for frame, _ in PAIRS])
TRUTH = [mask for _, mask in PAIRS]
T, SIZE = len(PAIRS), (64, 96)
BACKBONES = {
    "tiny": lambda: XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False)),
    "tiny-stm": lambda: XMem(XMemConfig("mobilenetv2", 8, 16, 0, (16, 8, 8), 16, attention=False, anisotropic=False)),
    "xmem": lambda: XMem(XMemConfig(key_dim=16, value_dim=32, hidden_dim=8, widths=(32, 16, 16))),
    "stcn": lambda: STCN(STCNConfig.small()),
    "mivos": lambda: MiVOS(MiVOSConfig.small()),
    "qdmn": lambda: QDMN(QDMNConfig.small()),
}


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    torch.manual_seed(5)
    return {name: make().eval() for name, make in BACKBONES.items()}


class Disks:
    """A refiner whose answer is known: a disk around each positive click, the earlier mask kept; notes what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[Click, ...], Tensor | None]] = []

    def refine(self, frame: np.ndarray, clicks: Sequence[Click], mask: Tensor | None = None) -> Tensor:
        assert clicks
        self.seen.append((tuple(clicks), None if mask is None else mask.clone()))
        ys, xs = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
        out = torch.zeros(SIZE) if mask is None else mask.float().clone()
        for click in clicks:
            out[(xs - click.x) ** 2 + (ys - click.y) ** 2 <= 64] = 0.9 if click.positive else 0.1
        return out


def only(mask: np.ndarray, *ids: int) -> np.ndarray:
    return np.where(np.isin(mask, ids), mask, 0).astype(np.uint8)


def build(net: Any, **more: Any) -> Rounds:
    settings = {"size": None, "progress": False, "refiner": None, "fusion": "linear", "device": "cpu", "precision": "fp32", **more}
    return Rounds(settings.pop("video", FRAMES), net, **settings)


def soft(rounds: Rounds) -> list[Tensor]:
    return [rounds.probabilities(t) for t in range(T)]


# The parts, by hand


def test_time_weights_of_both_ends_and_between():
    assert time_weights(4, 4, 14) == (1.0, 0.0)
    assert time_weights(7, 4, 14) == (0.7, 0.3)
    assert time_weights(7, 10, 5) == (0.4, 0.6)


def test_combine_takes_the_largest_or_the_product_as_background():
    stack = torch.tensor([0.4, 0.4, 0.4]).view(3, 1, 1)
    assert combine(stack, "max").argmax(0).item() == 0  # background 0.6
    assert combine(stack, "product").argmax(0).item() == 1  # background 0.6**3 = 0.216
    pair = torch.tensor([0.7, 0.3]).view(2, 1, 1)
    got = combine(pair, "max")[:, 0, 0]
    odds = [1000 * math.log(p / (1 - p)) for p in (0.3, 0.7, 0.3)]
    assert torch.allclose(got, torch.softmax(torch.tensor(odds), 0), atol=1e-6)
    one = torch.tensor([0.49, 0.51]).view(1, 1, 2)
    assert combine(one).argmax(0)[0].tolist() == [0, 1]
    assert torch.equal(combine(one, "max"), combine(one, "product"))


def test_most_probable_is_argmax_and_the_first_of_equals():
    full = torch.rand(4, 9, 11, generator=torch.Generator().manual_seed(0)).mul(5).round()
    table = torch.tensor([0, 7, 3, 9], dtype=torch.uint8)
    assert torch.equal(most_probable(full, (7, 3, 9)), table[full.argmax(0)])


def test_bounds_are_the_thesis_equations(networks):
    rounds = build(networks["tiny-stm"])
    state = rounds.interact(4, mask=TRUTH[4]).after
    assert Leg.of(state, 4, 1, (1, 2), T).frames == range(5, T)  # its own frame is no bound
    assert Leg.of(state, 1, 1, (1, 2), T).frames == range(2, 4)
    assert Leg.of(state, 1, -1, (1, 2), T).frames == range(0, -1, -1)
    assert Leg.of(state, 7, -1, (1, 2), T).frames == range(6, 4, -1)
    assert Leg.of(state, 5, -1, (1, 2), T).frames == range(4, 4, -1)


# The pipeline against what exists


def test_rounds_are_mivos_interaction_rounds(networks):
    """Same masks, same frames, a frame twice: MiVOS's own core, with its learned fusion, gives the same."""
    torch.manual_seed(1)
    fusion, net = FusionNet().eval(), networks["mivos"]
    frames = torch.from_numpy(FRAMES).permute(0, 3, 1, 2).float() / 255
    frames = (frames - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    core = MiVOSCore(net, frames, 2, mem_freq=2, fusion=fusion)
    rounds = build(net, fusion=fusion, memory_options={"every": 2}, store="float32")
    for t in (1, 7, 4, 1):
        mask = torch.stack([torch.from_numpy(TRUTH[t] == k).float() for k in range(3)])
        core.interact(mask, t)
        rounds.interact(t, mask=TRUTH[t], objects=(1, 2))
        for s in range(T):
            assert torch.allclose(rounds.probabilities(s)[1:], core.clip.prob[1:, s], atol=1e-4), (t, s)


@pytest.mark.parametrize("name", BACKBONES)
def test_first_round_forward_is_the_tracker(networks, name):
    """Forward from frame 0 the tracker does the same, recurrent states included."""
    net = networks[name]
    rounds = build(net, memory_options={"every": 2}, store="float32")
    rounds.interact(0, mask=TRUTH[0])
    tracker = Tracker(net, Unbounded(2, flexible=True, adjacent=True), size=None)
    for t, step in enumerate(tracker.track(list(FRAMES), mask=TRUTH[0])):
        if t:
            assert torch.allclose(rounds.probabilities(t), step.prediction.probabilities, atol=2e-3), t


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_goes_both_ways_from_a_fresh_state(networks, name):
    """Backwards from the last frame of a clip is forwards from the first of the reversed clip."""
    there, back = build(networks[name], store="float32"), build(networks[name], store="float32", video=FRAMES[::-1].copy())
    assert there.interact(T - 1, mask=TRUTH[-1]).bounds == (0, T - 1)
    back.interact(0, mask=TRUTH[-1])
    for t in range(T):
        assert torch.equal(there.probabilities(t), back.probabilities(T - 1 - t))
    middle = there.interact(3, mask=TRUTH[3])
    assert middle.bounds == (0, T - 2)


@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_takes_rounds(networks, memory):
    for name in ("tiny-stm", "qdmn"):  # one key for all objects, one for each
        rounds = build(networks[name], memory=memory, video=FRAMES[:5])
        for t in (4, 0, 2):
            result = rounds.interact(t, mask=TRUTH[t])
        assert result.touched == (1, 2, 3)
        assert all(torch.isfinite(rounds.probabilities(t)).all() for t in range(5))


# Fusion


@pytest.mark.parametrize("name", ["tiny", "mivos"])
def test_none_and_linear_are_their_formulas(networks, name):
    net, results = networks[name], {}
    for kind in ("none", "linear"):
        rounds = build(net, fusion=kind, store="float32")
        rounds.interact(1, mask=TRUTH[1])
        rounds.interact(7, mask=only(TRUTH[7], 1), objects=(1, 2))
        results[kind] = soft(rounds)
        before = rounds.results[0]
    for t in range(2, 7):
        new, old = results["none"][t], before.probabilities(t)
        wanted = (t - 1) / 6 * new + (7 - t) / 6 * old
        assert torch.allclose(results["linear"][t], wanted, atol=1e-6)
    assert torch.equal(results["linear"][8], results["none"][8])  # towards the end of the clip nothing is fused
    assert not torch.equal(results["linear"][4], results["none"][4])


def test_learned_fusion_sees_what_was_added_and_removed(networks):
    """The attention that reaches the network is that of the two parts of the difference, and the weights are (n_c, n_r)."""
    seen = []

    class Spy(FusionNet):
        def forward(self, image, old, new, attention, distance):
            seen.append((old, new, attention, distance))
            return torch.logit(new.clamp(1e-4, 1 - 1e-4))

    rounds = build(networks["mivos"], fusion=Spy(), store="float32")
    rounds.interact(0, mask=only(TRUTH[0], 1))
    before = [rounds.probabilities(t) for t in range(T)]
    empty = np.zeros(SIZE, np.uint8)
    rounds.interact(4, mask=empty, objects=(1,))  # nothing is added, the old mask is removed
    assert [d for *_, d in seen] == [((4 - k) / 4, k / 4) for k in (1, 2, 3)]
    for (old, _, attention, _), t in zip(seen, (3, 2, 1), strict=True):
        assert torch.equal(old[0, 0], before[t][1])
        assert float(attention[:, 0].abs().max()) == 0
        assert float(attention[:, 1].max()) > 0


# Memory


def spied(history: str, net: Any, turns: Sequence[int]) -> list[tuple[list[Any], tuple[int, ...]]]:
    """Entries pinned and frames stored at the end, for every pass."""
    made: list[Any] = []

    class Spy(Unbounded):
        def __init__(self) -> None:
            super().__init__(2, flexible=True, adjacent=True)
            self.pins: list[Any] = []
            made.append(self)

        def pin(self, entry, clock):
            self.pins.append(entry)
            return super().pin(entry, clock)

    rounds = build(net, memory=Spy, history=history)
    made.clear()
    for t in turns:
        rounds.interact(t, mask=TRUTH[t])
    return [(memory.pins, memory.frames()) for memory in made[-2:]]


def test_bank_starts_with_what_history_says(networks):
    net = networks["tiny-stm"]
    turns = (3, 6, 3)
    (code, stored), _ = spied("code", net, turns)
    (latest, _), _ = spied("latest", net, turns)
    (restart, _), (back, backwards) = spied("restart", net, turns)
    assert [len(code), len(latest), len(restart), len(back)] == [3, 2, 1, 1]
    assert [e.t for e in code] == [0, 1, 2]  # order of annotation
    assert torch.equal(code[1].value, latest[0].value)
    assert torch.equal(code[2].value, latest[1].value)
    assert torch.equal(code[2].value, restart[0].value)
    assert stored == (0, 1, 2, 3)  # frames 4 and 5: the first is the previous frame of the last, which is not memorised
    assert backwards == (0, 2)  # frames 2, 1 and 0: the second is stored; the last is not memorised


def test_cache_changes_nothing(networks):
    for name in ("tiny", "qdmn"):
        with_cache, without = (build(networks[name], cache_mb=size, video=FRAMES[:5]) for size in (512, 0))
        for t in (0, 4, 2):
            for rounds in (with_cache, without):
                rounds.interact(t, mask=TRUTH[t])
        assert all(torch.equal(with_cache.probabilities(t), without.probabilities(t)) for t in range(5))


# The interaction module


def test_refiner_gets_this_rounds_clicks_and_the_previous_probability(networks):
    refiner = Disks()
    rounds = build(networks["tiny"], refiner=refiner)
    first = (Click(20, 20, 1), Click(60, 40, 2))
    rounds.interact(2, first)
    assert [clicks for clicks, _ in refiner.seen] == [(first[0],), (first[1],)]
    assert all(mask is None for _, mask in refiner.seen)
    before = rounds.probabilities(5)
    result = rounds.interact(5, [Click(30, 30, 1), Click(50, 10, 1, False)])
    clicks, mask = refiner.seen[-1]
    assert clicks == (Click(30, 30, 1), Click(50, 10, 1, False))
    assert mask is not None
    assert torch.allclose(mask, before[1], atol=0.005)  # kept to 1/255
    assert {o: row.source for o, row in result.objects.items()} == {1: "clicks", 2: "kept"}
    labels = rounds.labels(5)
    assert labels[30, 30] == 1
    assert labels[10, 50] != 1
    assert set(rounds.probabilities(5).unique().tolist()) <= {0.0, 1.0}  # the hard combination


def test_ritm_also_predicts_objects_without_clicks(networks):
    torch.manual_seed(2)
    rounds = build(networks["tiny-stm"], refiner=RitmRefiner(RitmNet(H18S), together=True, brs=False), video=FRAMES[:3])
    rounds.interact(0, mask=TRUTH[0])
    result = rounds.interact(1, [Click(30, 30, 2)])
    assert {o: row.source for o, row in result.objects.items()} == {1: "network", 2: "clicks"}


def test_shipped_click_network_answers(networks):
    rounds = build(networks["tiny"], refiner=TinyRefiner(ClickNet().eval(), sizes=(64,)))
    assert rounds.interact(4, [Click(30, 30, 3)]).objects[3].source == "clicks"
    assert rounds.objects == (3,)


def test_clicks_missing_keep_the_masks_but_count(networks):
    rounds = build(networks["tiny"])
    rounds.interact(0, mask=TRUTH[0])
    before = soft(rounds)
    result = rounds.interact(3)
    assert (result.touched, rounds.round, rounds.annotated) == ((), 2, (0,))
    assert all(torch.equal(a, b) for a, b in zip(before, soft(rounds), strict=True))


# What must not be touched


def test_annotated_frames_are_not_touched(networks):
    rounds = build(networks["tiny"])
    for t in (0, 8, 4):
        rounds.interact(t, mask=TRUTH[t])
    kept = rounds.state.cells
    result = rounds.interact(6, mask=TRUTH[6])
    assert result.bounds == (5, 7)
    assert result.touched == (5, 6, 7)
    for t in (0, 1, 2, 3, 4, 8):
        assert rounds.state.cells[t] is kept[t]
    for t in (0, 4, 6, 8):
        assert np.array_equal(rounds.labels(t), TRUTH[t])
    assert set(result.changed()) <= {5, 6, 7}


def test_annotated_again_a_frame_is_replaced_and_no_bound(networks):
    rounds = build(networks["tiny"])
    rounds.interact(4, mask=TRUTH[4])
    result = rounds.interact(4, mask=only(TRUTH[4], 1), objects=(1, 2))
    assert result.bounds == (0, T - 1)
    assert np.array_equal(rounds.labels(4), only(TRUTH[4], 1))
    assert rounds.annotated == (4,)


def test_a_later_object_passes_frames_annotated_before_it_existed(networks):
    rounds = build(networks["mivos"])
    rounds.interact(2, mask=only(TRUTH[2], 1))
    rounds.interact(6, mask=only(TRUTH[6], 1))
    old = [rounds.state.planes(t, (1,)) for t in range(T)]
    result = rounds.interact(4, mask=only(TRUTH[4], 2))
    assert result.touched == tuple(range(T))
    assert (result.objects[1].frames, result.objects[2].frames) == (2, T - 1)
    assert result.objects[2].new
    assert not result.objects[1].new
    for t in (0, 1, 2, 6, 7, 8):
        assert torch.equal(rounds.state.planes(t, (1,)), old[t])
        assert rounds.state.cells[t].objects == (1, 2)
        assert float(rounds.state.planes(t, (1, 2)).sum(0).max()) <= 1 + 1 / 255  # the new object takes what the old one leaves
    assert np.array_equal(rounds.labels(2) == 1, TRUTH[2] == 1)
    assert (rounds.state.annotated_for(2), rounds.state.annotated_for(1)) == ({4}, {2, 4, 6})
    again = rounds.interact(3, mask=TRUTH[3])
    assert (again.objects[1].frames, again.objects[2].frames) == (0, 3)
    assert again.touched == (0, 1, 2, 3)


# Back and forth, disk


def test_undo_restores_and_redo_brings_back(networks):
    rounds, heard = build(networks["tiny"]), []
    rounds.watch(lambda _, what: heard.append(what))
    rounds.interact(0, mask=only(TRUTH[0], 1))
    state = rounds.state
    second = rounds.interact(5, mask=TRUTH[5])
    assert rounds.undo() is second
    assert rounds.state is state
    assert rounds.objects == (1,)
    assert rounds.redo() is second
    assert rounds.state is second.after
    rounds.undo()
    rounds.interact(3, mask=TRUTH[3])
    assert not rounds.can_redo
    assert heard == ["round", "round", "undo", "redo", "undo", "round"]
    rounds.undo()
    rounds.undo()
    with pytest.raises(InputError, match="no round to undo"):
        rounds.undo()


def test_undo_forgets_the_memory_of_the_round(networks):
    plain, other = build(networks["tiny"]), build(networks["tiny"])
    plain.interact(0, mask=TRUTH[0])
    other.interact(0, mask=TRUTH[0])
    other.interact(4, mask=only(TRUTH[4], 1), objects=(1, 2))
    other.undo()
    for rounds in (plain, other):
        rounds.interact(6, mask=TRUTH[6])
    assert all(torch.equal(a, b) for a, b in zip(soft(plain), soft(other), strict=True))


@pytest.mark.parametrize("store", ["uint8", "float16"])
def test_rounds_go_on_from_disk_as_if_never_left(networks, store, tmp_path: Path):
    net, refiner = networks["tiny"], Disks()
    rounds = build(net, refiner=refiner, out=tmp_path / "a", store=store)
    rounds.interact(2, [Click(20, 20, 1)])
    rounds.interact(6, [Click(60, 40, 2), Click(25, 20, 1)])
    rounds.interact(6)
    again = Rounds.open(tmp_path / "a", FRAMES, backbone=net, refiner=Disks(), progress=False, device="cpu")
    assert (again.round, again.objects, again.annotated) == (3, (1, 2), (2, 6))
    for a, b in zip(rounds.results, again.results, strict=True):
        assert (a.clicks, a.touched, a.objects, a.frame) == (b.clicks, b.touched, b.objects, b.frame)
        assert dict(a.seconds) == dict(b.seconds)
    for each in (rounds, again):
        each.interact(4, [Click(40, 30, 2)])
    for t in range(T):
        assert np.array_equal(rounds.labels(t), again.labels(t))
        assert torch.equal(rounds.probabilities(t), again.probabilities(t))
        assert np.array_equal(read_mask(tmp_path / "a" / "round-004" / f"{t:05d}.png"), again.labels(t))
        assert np.array_equal(read_mask(tmp_path / "a" / "round-003" / f"{t:05d}.png"), rounds.results[2].labels(t))
    assert np.allclose(rounds.uncertainty(), again.uncertainty(), atol=0)
    again.undo()
    assert not (tmp_path / "a" / "round-004").exists()
    assert len(json.loads((tmp_path / "a" / "rounds.json").read_text())["rounds"]) == 3
    again.redo()
    assert Rounds.open(tmp_path / "a", FRAMES, backbone=net, refiner=None, progress=False).round == 4


def test_an_interrupted_round_leaves_no_trace(networks, tmp_path: Path):
    rounds = build(networks["tiny"], out=tmp_path / "a")
    rounds.interact(0, mask=TRUTH[0])
    state, files = rounds.state, sorted(p.name for p in tmp_path.rglob("*"))
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rounds.interact(5, mask=TRUTH[5], progress=stop)
    assert told == [(0, 7), (1, 7), (2, 7)]
    assert rounds.state is state
    assert sorted(p.name for p in tmp_path.rglob("*")) == files
    plain = build(networks["tiny"])
    plain.interact(0, mask=TRUTH[0])
    for each in (rounds, plain):
        each.interact(5, mask=TRUTH[5])
    assert all(torch.equal(a, b) for a, b in zip(soft(rounds), soft(plain), strict=True))


def test_damage_and_other_clips_are_named(networks, tmp_path: Path):
    net, folder = networks["tiny"], tmp_path / "a"
    rounds = build(net, out=folder)
    rounds.interact(0, mask=TRUTH[0])
    with pytest.raises(InputError, match="holds rounds already"):
        build(net, out=folder)
    with pytest.raises(InputError, match="8 of 96x64"):
        Rounds.open(folder, FRAMES[:8], backbone=net)
    with pytest.raises(InputError, match="backbone of one's own"):
        Rounds.open(folder, FRAMES)
    with pytest.raises(InputError, match="size=None"):
        Rounds.open(folder, FRAMES, backbone=net, size=240)
    (folder / "round-001.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="missing or damaged"):
        Rounds.open(folder, FRAMES, backbone=net)
    with pytest.raises(InputError, match="does not exist"):
        Rounds.open(tmp_path / "b", FRAMES, backbone=net)


# Scores, frames, errors


def test_suggestion_is_the_most_uncertain_frame_left(networks):
    rounds = build(networks["tiny"], store="float32")
    assert rounds.suggest() is None
    rounds.interact(4, mask=TRUTH[4])
    scores = rounds.uncertainty()
    assert scores.shape == (T,)
    for t in (0, 7):
        labels = rounds.labels(t)
        by_hand = Entropy()(rounds.probabilities(t), labels, (1, 2)).scores
        assert scores[t] == pytest.approx(np.mean(list(by_hand.values())), abs=1e-6)
        assert rounds.uncertainty(2)[t] == pytest.approx(by_hand[2], abs=1e-6)
    order = sorted((t for t in range(T) if t != 4), key=lambda t: -scores[t])
    assert rounds.suggest() == order[0]
    rounds.interact(order[0], mask=TRUTH[order[0]])
    assert rounds.suggest() not in (4, order[0])
    for t in range(T):
        rounds.interact(t, mask=TRUTH[t])
    assert rounds.suggest() is None
    with pytest.raises(InputError, match="object 9 is not known"):
        rounds.uncertainty(9)


def test_labels_probabilities_and_sizes_of_another_network_size(networks):
    rounds = build(networks["tiny"], size=48)
    result = rounds.interact(3, mask=TRUTH[3])
    labels = list(rounds.labels())
    assert len(labels) == len(rounds) == len(list(result)) == T
    assert all(m.shape == SIZE and m.dtype == np.uint8 for m in labels)
    assert np.array_equal(labels[3], TRUTH[3])  # at the frame's own size, not the network's
    assert tuple(rounds.probabilities(0).shape) == (3, *SIZE)
    assert torch.allclose(rounds.probabilities(0).sum(0), torch.ones(SIZE), atol=1e-5)
    assert isinstance(rounds.state.cells[0], Cell)
    assert result.model_seconds <= result.total_seconds


def test_frames_in_any_order_from_anything_with_an_end(tmp_path: Path):
    assert np.array_equal(Frames(FRAMES)[5], FRAMES[5])
    for limit in (1, 2**30):  # a temporary file, memory
        frames = Frames(list(FRAMES), limit)
        assert len(frames) == T
        assert all(np.array_equal(frames[t], FRAMES[t]) for t in (8, 0, 3))
    with pytest.raises(InputError, match="length of iterable is not known"):
        Frames(frame for frame in FRAMES)


def test_wrong_input_is_named(networks):
    net = networks["tiny"]
    for settings, message in (
        ({"history": "all"}, "history 'all' is unknown"), ({"combine": "sum"}, "combine 'sum'"), ({"memory": "big"}, "memory 'big'"),
        ({"memory": Unbounded()}, "every pass needs a fresh one"), ({"fusion": "mean"}, "fusion 'mean'"), ({"store": "int4"}, "store 'int4'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            build(net, **settings)
    with pytest.raises(InputError, match="needs members"):
        build(net, uncertainty=type("Other", (Entropy,), {"needs": frozenset({"members"})})())
    with pytest.raises(InputError, match="backbone 'large'"):
        build("large")
    rounds = build(net, refiner=Disks())
    for call, message in (
        (lambda: rounds.interact(T, [Click(1, 1)]), "frame 9 does not exist"),
        (lambda: rounds.interact(0), "nothing to start from"),
        (lambda: rounds.interact(0, [Click(96, 1)]), "outside the frame"),
        (lambda: rounds.interact(0, [Click(9, 1, 2, False)]), "object 2 is new and has only negative"),
        (lambda: rounds.interact(0, mask=TRUTH[0][:32]), "mask has shape"),
        (lambda: rounds.interact(0, mask=np.zeros(SIZE, np.uint8)), "mask holds no object"),
        (lambda: rounds.interact(0, mask=TRUTH[0], objects=(1,)), "mask holds object 2"),
        (lambda: rounds.interact(0, mask=TRUTH[0], objects=(1, 2, 7)), "object 7 is not known"),
        (lambda: rounds.interact(0, [Click(1, 1, 1)], mask=TRUTH[0]), "object 1 has clicks and a mask"),
        (lambda: rounds.interact(0, objects=(1,)), "give mask"),
        (lambda: rounds.redo(), "no round to redo"),
        (lambda: rounds.labels(-1), "frame -1 does not exist"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            call()
    assert rounds.round == 0
    with pytest.raises(InputError, match="need a refiner"):
        build(net).interact(0, [Click(1, 1)])


# The small fusion network


def test_light_fusion_begins_as_the_linear_mean_and_learns():
    torch.manual_seed(0)
    net = LightFusion()
    image, old, new = torch.randn(2, 3, 32, 48), torch.rand(2, 1, 32, 48), torch.rand(2, 1, 32, 48)
    attention = torch.rand(2, 2, 32, 48)
    got = torch.sigmoid(net(image, old, new, attention, (0.25, 0.75)))
    assert torch.allclose(got, 0.25 * new + 0.75 * old, atol=2e-4)
    both = torch.tensor([0.25, 1.0]).view(2, 1, 1, 1)
    got = torch.sigmoid(net(image, old, new, attention, (both, 1 - both)))
    assert torch.allclose(got[1], new[1], atol=2e-3)
    assert torch.equal(got[:1], torch.sigmoid(net(image, old, new, attention, (0.25, 0.75)))[:1])
    assert sum(p.numel() for p in net.parameters()) * 2 < 60_000


def test_fusion_is_trained_on_what_rounds_would_give_it(networks):
    config = TrainConfig(phases=(Phase(2, 48, 2, 5, 0, 3),), two_objects=1.0)
    task = FuseTask(ClipMaker(procedural_stills(4, seed=3, side=96), []), config, networks["tiny-stm"], picks=2)
    one, again = task.batch(0), task.batch(0)
    assert all(torch.equal(a, b) for a, b in zip((one.old, one.new, one.attention), (again.old, again.new, again.attention), strict=True))
    count = len(one.old)
    assert count == 8  # clips x frames x objects
    assert tuple(one.image.shape) == (8, 3, 48, 48)
    assert torch.allclose(one.distance[0] + one.distance[1], torch.ones(8, 1, 1, 1))
    assert set(torch.unique(one.distance[0] * 4).round(decimals=4).tolist()) <= {1.0, 2.0, 3.0}
    parts = task.batch(0, range(1, 2))
    assert torch.equal(parts.new, one.new[4:])
    net = LightFusion()
    loss, numbers = task.loss(net, one, 0)
    loss.backward()
    assert numbers["iou"] == pytest.approx(numbers["linear"], abs=0.02)
    assert net.final_conv.weight.grad.abs().sum() > 0


def test_a_trained_fusion_merges_rounds(networks, tmp_path: Path):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    facts = cli.run(parser.parse_args(["tiny-fusion", "--out", str(tmp_path), "--smoke", "--device", "cpu"]))
    assert hub.network_of(hub.read_weights(facts["weights"])) == "tiny-fusion"
    rounds = build(networks["tiny"], fusion="learned", fusion_weights=facts["weights"])
    for t in (0, 8):
        rounds.interact(t, mask=TRUTH[t])
    assert torch.isfinite(rounds.probabilities(4)).all()
    if "tiny-fusion" not in hub.shipped():
        with pytest.raises(InputError, match="needs weights"):
            build(networks["tiny"], fusion="learned")
