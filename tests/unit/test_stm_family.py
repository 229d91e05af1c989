"""STCN and MiVOS with small random networks: under the tracker, and the rules of their own inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lazyvos.backbones.base import Backbone
from lazyvos.backbones.fusion import FusionNet, difference_attention
from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.mivos import MiVOS, MiVOSConfig
from lazyvos.backbones.mivos_core import Clip, MiVOSCore
from lazyvos.backbones.stcn import STCN, STCNConfig, address_memory, address_query
from lazyvos.backbones.stcn_core import STCNCore
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.memory import FifoMemory, Memory, ReadMem, Unbounded
from lazyvos.tracker import Tracker

SIZE = (40, 60)


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    torch.manual_seed(3)
    return {"stcn": STCN(STCNConfig.small()).eval(), "mivos": MiVOS(MiVOSConfig.small()).eval()}


def frames(count: int) -> Tensor:
    big = torch.randn(3, SIZE[0], SIZE[1] + 3 * count, generator=torch.Generator().manual_seed(5))
    return torch.stack([big[:, :, 3 * t : 3 * t + SIZE[1]] for t in range(count)])


def box(left: int, right: int) -> Tensor:
    mask = torch.zeros(SIZE)
    mask[8:32, left:right] = 1
    return mask


def with_background(*masks: Tensor) -> Tensor:
    stack = torch.stack(masks)
    return torch.cat([1 - stack.sum(0, keepdim=True), stack])


# Under the tracker.


@pytest.mark.parametrize("name", ["stcn", "mivos"])
@pytest.mark.parametrize("kind", ["fifo", "readmem"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_objects_and_a_late_one(networks, name: str, kind: str, precision: str) -> None:
    def run() -> tuple[list[np.ndarray], Memory]:
        memory: Memory
        if kind == "fifo":
            memory = FifoMemory(slots=3, every=1, adjacent=True)
        else:
            memory = ReadMem(slots=3, every=1, flexible=True, lower_bound=-1.0)
        tracker = Tracker(networks[name], memory, size=32, precision=precision)
        steps = []
        for t, frame in enumerate(video):
            prediction = tracker.predict(frame)
            if t in given:
                prediction = tracker.correct(mask=given[t])
            steps.append(prediction.probabilities.float().numpy())
            tracker.commit()
        return steps, memory

    video = [np.roll(base, 2 * t, 1) for t in range(7)]
    given = {0: (box(4, 20) + 2 * box(30, 44)).numpy().astype(np.uint8), 3: (3 * box(46, 58)).numpy().astype(np.uint8)}
    first, memory = run()
    assert [len(p) for p in first] == [3, 3, 3, 4, 4, 4, 4]
    assert all(np.isfinite(p).all() and np.allclose(p.sum(0), 1, atol=1e-4) for p in first)
    assert {0, 3} <= set(memory.frames())
    assert len(memory.frames()) in (3, 4)
    again, _ = run()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    bank = memory._bank  # type: ignore[attr-defined]
    assert bank.shared == (name == "stcn")
    assert bank.live == (1, 2, 3)


base = np.random.default_rng(1).integers(0, 255, (*SIZE, 3), np.uint8)


@pytest.mark.parametrize("name", ["stcn", "mivos"])
def test_keys(networks, name: str) -> None:
    net = networks[name]
    assert isinstance(net, Backbone)
    assert net.initial_state(2, (2, 4)) is None
    image = torch.randn(3, 32, 64)
    masks = torch.rand(2, 32, 64) / 2
    with torch.inference_mode():
        query = net.encode(image)
        entries = [net.memorise(0, query, image, m, (1, 2), None, True)[0] for m in (masks, masks.flip(0))]
    swapped = [torch.allclose(entries[0].key, e.key, atol=1e-5) for e in entries]
    assert entries[0].key.shape[0] == entries[0].address.shape[0] == (1 if name == "stcn" else 2)
    assert swapped == [True, name == "stcn"], "only MiVOS's keys depend on the mask"
    assert torch.allclose(entries[0].value.flip(0), entries[1].value, atol=1e-4), "objects are treated alike"


def test_stcn_address_is_the_squared_distance() -> None:
    memory, query = torch.randn(16, 5), torch.randn(16, 7)
    inner = address_memory(memory).T @ address_query(query)
    distance = -((memory[:, :, None] - query[:, None]) ** 2).sum(0) / 4
    assert torch.allclose(inner - query.square().sum(0) / 4, distance, atol=1e-5)


def test_fewer_positions_than_top_k(networks) -> None:
    clips = [Clip(networks["mivos"], frames(2), 1, top_k=k) for k in (50, 10**6)]
    got = []
    for clip in clips:
        memory = Unbounded()
        with torch.inference_mode():
            memory.pin(clip.entry(0, 0, clip.padded(box(4, 20)[None], 1), (1,)), 0)
            got.append(clip.segment(memory, 1, (1,)))
    assert clips[0].query(0).address.shape[1] < 50
    assert torch.equal(got[0], got[1])


# STCN's inference.


def watched(core: STCNCore) -> tuple[list[int], dict[int, list[int]]]:
    """Frames as they are encoded for the memory, and the frames that each frame's read sees."""
    written: list[int] = []
    seen: dict[int, list[int]] = {}
    entry, segment = core.clip.entry, core.clip.segment

    def encode(identity: int, t: int, *rest: Any) -> Any:
        assert identity == len(written)
        written.append(t)
        return entry(identity, t, *rest)

    def read(memory: Memory, t: int, objects: tuple[int, ...]) -> Tensor:
        seen[t] = [written[identity] for identity in memory.frames()]
        return segment(memory, t, objects)

    core.clip.entry, core.clip.segment = encode, read  # type: ignore[method-assign]
    return written, seen


def late(net: STCN, include_last: bool) -> tuple[STCNCore, list[int], dict[int, list[int]]]:
    core = STCNCore(net, frames(10), 2, mem_every=3, include_last=include_last, since_last=True)
    written, seen = watched(core)
    core.interact(box(4, 24)[None], 0, 5, [1])
    core.interact(box(20, 50)[None], 4, None, [2])
    return core, written, seen


def test_stcn_counts_from_the_last_annotation(networks) -> None:
    _, written, seen = late(networks["stcn"], include_last=False)
    assert written == [0, 3, 4, 7]
    assert seen[4] == [0, 3]
    assert seen[7] == [0, 3, 4]
    assert seen[9] == [0, 3, 4, 7]


def test_stcn_previous_frame_leaves_at_the_next_write(networks) -> None:
    _, _, seen = late(networks["stcn"], include_last=True)
    assert [seen[t] for t in (1, 2, 3, 4)] == [[0], [0, 1], [0, 2], [0, 3]]
    assert [seen[t] for t in (5, 6, 7, 8)] == [[0, 3, 4], [0, 3, 4, 5], [0, 3, 4, 6], [0, 3, 4, 7]]


def test_stcn_modulo_rule(networks) -> None:
    core = STCNCore(networks["stcn"], frames(8), 1, mem_every=3)
    written, _ = watched(core)
    core.interact(box(4, 24)[None], 1)
    assert written == [1, 3, 6]


def test_stcn_new_object_takes_its_place(networks) -> None:
    net, new = networks["stcn"], box(20, 50)
    alone = STCNCore(net, frames(10), 1, mem_every=3, since_last=True)
    alone.interact(box(4, 24)[None], 0, 5)
    core, _, _ = late(net, include_last=False)
    assert torch.equal(core.clip.prob[:2, :4], alone.clip.prob[:, :4]), "an object that is not there changes nothing"
    assert not core.clip.prob[2, :4].any()
    before = alone.clip.prob[1, 4]
    given = core.clip.padded(new[None], 1)[0]
    expected = aggregate(torch.stack([before * (given <= 0.5), given]), 0)[1]
    assert torch.equal(core.clip.prob[:, 4], expected)
    assert float(core.clip.prob[1, 4][given > 0.5].max()) < 1e-6
    labels = core.clip.masks()
    assert (labels[4][new > 0] == 2).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda core: core.interact(box(4, 24)[None]), "mask has shape"),
        (lambda core: core.interact(box(4, 24)[None], 0, None, [3]), "objects are"),
        (lambda core: core.interact(torch.stack([box(4, 24)] * 2), 9), "outside the clip"),
        (lambda core: core.interact(torch.stack([box(4, 24)] * 2), 1, 1), "end is 1"),
    ],
)
def test_stcn_wrong_calls(networks, call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(STCNCore(networks["stcn"], frames(3), 2))


# MiVOS's inference.


@pytest.mark.parametrize("name", ["stcn", "mivos"])
def test_second_interaction_on_a_frame_appends(networks, name: str) -> None:
    first, second = with_background(box(4, 24), box(30, 40)), with_background(box(4, 20), box(30, 50))
    core = MiVOSCore(networks[name], frames(4), 2, mem_freq=2)
    core.interact(first, 1)
    once = core.clip.prob.clone()
    core.interact(second, 1)
    fresh = MiVOSCore(networks[name], frames(4), 2, mem_freq=2)
    fresh.interact(second, 1)
    assert torch.equal(core.clip.prob[:, 1], fresh.clip.prob[:, 1])
    for t in (0, 2, 3):
        assert not torch.allclose(core.clip.prob[:, t], once[:, t], atol=1e-5)
        assert not torch.allclose(core.clip.prob[:, t], fresh.clip.prob[:, t], atol=1e-5)
    memory = Unbounded()
    clip = core.clip
    with torch.inference_mode():
        for identity, mask in enumerate((first, second)):
            memory.pin(clip.entry(identity, 1, clip.padded(mask, 3)[1:], (1, 2)), 0)
        assert torch.allclose(clip.segment(memory, 2, (1, 2)), clip.prob[:, 2], atol=1e-6)


class FixedFusion(FusionNet):
    """Gives back the old result, or the new one."""

    def __init__(self, old: bool) -> None:
        super().__init__()
        self.old = old
        self.distances: list[tuple[float, float]] = []

    def forward(self, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, distance: tuple[float, float]) -> Tensor:
        self.distances.append(distance)
        return torch.logit((old if self.old else new).clamp(1e-6, 1 - 1e-6))


def test_fusion_only_between_interacted_frames(networks) -> None:
    a, b = with_background(box(4, 24)), with_background(box(10, 30))

    def rounds(fusion: FixedFusion | None) -> tuple[Tensor, Tensor]:
        core = MiVOSCore(networks["mivos"], frames(8), 1, mem_freq=2, fusion=fusion)
        core.interact(a, 1)
        before = core.clip.prob.clone()
        core.interact(b, 5)
        return before, core.clip.prob

    before, plain = rounds(None)
    keep = FixedFusion(old=True)
    _, kept = rounds(keep)
    assert sorted(keep.distances) == [(0.25, 0.75), (0.5, 0.5), (0.75, 0.25)], "frames 2, 3, 4 of the gap from 1 to 5"
    for t in (0, 1):
        assert torch.equal(kept[:, t], before[:, t]), "behind the bound nothing changes"
    for t in (5, 6, 7):
        assert torch.equal(kept[:, t], plain[:, t]), "towards the end the new result counts"
    for t in (2, 3, 4):
        old = aggregate(before[1:, t].clamp(1e-6, 1 - 1e-6), 0)[1]
        assert torch.allclose(kept[:, t], old, atol=1e-4)
    _, newer = rounds(FixedFusion(old=False))
    for t in (2, 3, 4):
        new = aggregate(plain[1:, t].clamp(1e-6, 1 - 1e-6), 0)[1]
        assert torch.allclose(newer[:, t], new, atol=1e-4), "what is memorised is the result before fusion"


def test_attention_carries_the_difference_to_the_same_place() -> None:
    address = 200 * torch.eye(6).unsqueeze(0)
    positive = torch.zeros(2, 32, 48)
    positive[0, :16, 16:32] = 1
    got = difference_attention(address, torch.eye(6), positive, positive.flip(0), (2, 3))
    assert got.shape == (2, 2, 32, 48)
    assert float(got[0, 0, 8, 24]) == pytest.approx(0.94, abs=0.01)  # bilinear, a pixel off the centre
    assert float(got[0, 0, 28, 24]) == pytest.approx(0, abs=0.01)
    assert torch.equal(got[0, 0], got[1, 1])
    assert not got[0, 1].any()


def test_what_a_clip_refuses(networks) -> None:
    net = networks["mivos"]
    with pytest.raises(ValueError, match="frames have shape"):
        Clip(net, torch.zeros(3, 32, 32), 1)
    with pytest.raises(ValueError, match="at least 1 object"):
        Clip(net, frames(1), 0)
    recurrent: nn.Module = XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False))
    with pytest.raises(ValueError, match="carries a state"):
        Clip(recurrent, frames(1), 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask has shape"):
        MiVOSCore(net, frames(2), 1).interact(box(4, 24)[None], 0)
