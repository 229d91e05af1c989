"""The shipped refiner: prompts, caching, mirror symmetry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lazyvos.refine import ClickNet, Refiner, TinyRefiner
from lazyvos.types import Click, InputError

FRAME = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def net() -> ClickNet:
    torch.manual_seed(0)
    return ClickNet().eval()


def test_answer_has_the_size_of_the_frame_and_is_a_probability(net: ClickNet):
    refiner = TinyRefiner(net, sizes=(32, 48))
    assert isinstance(refiner, Refiner)
    answer = refiner.refine(FRAME, [Click(30, 20)])
    assert answer.shape == (50, 70)
    assert answer.dtype == torch.float32
    assert 0 <= answer.min() <= answer.max() <= 1


def test_the_prompt_matters(net: ClickNet):
    refiner = TinyRefiner(net, sizes=(48,))
    one = refiner.refine(FRAME, [Click(30, 20)])
    assert torch.equal(one, refiner.refine(FRAME, [Click(30, 20)]))
    mask = torch.zeros(50, 70)
    mask[10:30, 20:40] = 1
    for other in (
        refiner.refine(FRAME, [Click(60, 40)]),
        refiner.refine(FRAME, [Click(30, 20, positive=False)]),
        refiner.refine(FRAME, [Click(30, 20), Click(60, 40, positive=False)]),
        refiner.refine(FRAME, [Click(30, 20)], mask),
    ):
        assert not torch.allclose(one, other, atol=1e-6)
    blind = TinyRefiner(net, sizes=(48,), use_mask=False)
    assert torch.equal(blind.refine(FRAME, [Click(30, 20)], mask), one)


def test_a_second_click_on_the_frame_does_not_encode_again(net: ClickNet, monkeypatch: pytest.MonkeyPatch):
    calls = []
    original = net.encode
    monkeypatch.setattr(net, "encode", lambda frames: calls.append(len(frames)) or original(frames))
    refiner = TinyRefiner(net, sizes=(32, 48))
    refiner.refine(FRAME, [Click(30, 20)])
    refiner.refine(FRAME, [Click(30, 20), Click(10, 10)])
    assert calls == [2, 2]
    refiner.refine(FRAME.copy(), [Click(30, 20)])
    assert calls == [2, 2, 2, 2]


def test_mirrored_frame_gives_mirrored_answer(net: ClickNet):
    """Holds where padding is even, so that both views are padded alike."""
    refiner = TinyRefiner(net, sizes=(48,))
    frame = FRAME[:48, :64]
    answer = refiner.refine(frame, [Click(20, 30)])
    mirrored = refiner.refine(np.ascontiguousarray(frame[:, ::-1]), [Click(43, 30)])
    assert torch.allclose(answer, mirrored.flip(-1), atol=1e-5)


def test_bad_calls_are_named(net: ClickNet):
    with pytest.raises(InputError, match="at least one click"):
        TinyRefiner(net).refine(FRAME, [])
    with pytest.raises(InputError, match="sizes"):
        TinyRefiner(net, sizes=(8,))
