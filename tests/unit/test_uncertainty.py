"""Entropy, dilation, masked scores and the ensemble decomposition: what must hold for any input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazyvos.uncertainty import (
    Doubt,
    Entropy,
    Uncertainty,
    decompose,
    dilate_mask,
    dilation_kernel,
    entropy_map,
    kernel_side,
    masked_scores,
    score_changes,
)

quick = settings(max_examples=40, deadline=None)


@st.composite
def simplex(draw, members: int = 1):
    """Probabilities float64 [members, K, H, W]."""
    k, h, w = draw(st.integers(1, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = rng.dirichlet(np.full(k, draw(st.sampled_from([0.02, 0.3, 1.0, 20.0]))), (members, h, w))
    return torch.from_numpy(np.moveaxis(p, -1, 1).copy())


masks = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda size: hnp.arrays(bool, size))


@st.composite
def blobs(draw):
    """Masks of up to 48x48 with a few filled boxes, which may touch the border."""
    size = draw(st.integers(4, 48)), draw(st.integers(4, 48))
    mask = np.zeros(size, bool)
    for _ in range(draw(st.integers(1, 3))):
        y, x = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
        mask[y : y + draw(st.integers(1, 40)), x : x + draw(st.integers(1, 40))] = True
    return mask


def brute_force(mask, dilate, small_object):
    """dilation(y, x) = max over set cells (i, j) of mask(y + i - c, x + j - c), outside the image 0."""
    if dilate == 0:
        return mask
    side = kernel_side(int(mask.sum()), dilate)
    c = side // 2
    if side == 2 and small_object == "identity":
        return mask
    cells = [(0, 0)] if side == 2 else np.argwhere(dilation_kernel(side))
    out = np.zeros_like(mask)
    h, w = mask.shape
    padded = np.pad(mask, c)
    for i, j in cells:
        out |= padded[i : i + h, j : j + w]
    return out


@quick
@given(simplex(), st.sampled_from([None, 2, 4]))
def test_entropy_follows_its_definition(p, decimals):
    p = p[0]
    got = entropy_map(p, decimals)
    logs = torch.where(p > 0, p.clamp_min(1e-300).log(), 0)
    want = -(p * logs).sum(0) / max(math.log(len(p)), 1e-9)
    assert got.dtype == torch.float32
    assert got.shape == p.shape[1:]
    assert float(got.min()) >= 0.0
    assert float(got.max()) <= 1.0
    bound = 1e-5 + (0.0 if decimals is None else 0.5 * 10.0**-decimals)
    assert torch.allclose(got.double(), want, rtol=0, atol=bound)
    if decimals is not None:
        steps = got.double() * 10**decimals
        assert torch.allclose(steps, steps.round(), rtol=0, atol=1e-2)


@quick
@given(simplex(), st.randoms(use_true_random=False))
def test_entropy_does_not_see_the_order_of_channels(p, random):
    order = list(range(p.shape[1]))
    random.shuffle(order)
    torch.testing.assert_close(entropy_map(p[0], None), entropy_map(p[0][order], None), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_entropy_at_its_ends(channels):
    certain = torch.zeros(channels, 2, 3)
    certain[1] = 1.0
    assert torch.equal(entropy_map(certain, None), torch.zeros(2, 3))
    even = torch.full((channels, 2, 3), 1 / channels)
    torch.testing.assert_close(entropy_map(even, None), torch.ones(2, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(entropy_map(even.bfloat16(), None), torch.ones(2, 3), rtol=0, atol=1e-2)


def test_entropy_leaves_its_input_alone_and_needs_no_gradient():
    p = torch.tensor([0.3, 0.7]).view(2, 1, 1).requires_grad_()
    assert not entropy_map(p).requires_grad
    assert p.flatten().tolist() == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize(
    "bad",
    [
        torch.full((2, 3, 3), 0.6),
        torch.tensor([1.5, -0.5]).view(2, 1, 1),
        torch.full((2, 3, 3), math.nan),
        torch.full((3, 3), 0.5),
        torch.ones(1, 3, 3, dtype=torch.long),
    ],
)
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match="probabilities"):
        entropy_map(bad)


@quick
@given(
    st.one_of(masks, blobs()),
    st.sampled_from([0.0, 0.05, 0.2, 1.0]),
    st.sampled_from(["shift", "identity"]),
)
def test_dilation_is_its_definition(mask, dilate, small_object):
    before = mask.copy()
    got = dilate_mask(mask, dilate, small_object)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, brute_force(mask, dilate, small_object))
    np.testing.assert_array_equal(mask, before)
    np.testing.assert_array_equal(got, dilate_mask(mask.astype(np.uint8) * 255, dilate, small_object))


def test_dilation_of_a_large_object_is_its_definition():
    y, x = np.mgrid[:200, :260]
    mask = (y - 90) ** 2 / 80**2 + (x - 160) ** 2 / 110**2 < 1
    assert kernel_side(int(mask.sum())) > 30
    np.testing.assert_array_equal(dilate_mask(mask), brute_force(mask, 0.05, "shift"))


def test_a_small_object_is_shifted():
    mask = np.zeros((5, 5), bool)
    mask[1, 2] = mask[4, 4] = True
    shifted = np.zeros((5, 5), bool)
    shifted[2, 3] = True  # the other pixel left the image
    np.testing.assert_array_equal(dilate_mask(mask), shifted)


@given(st.integers(0, 500_000))
def test_kernel_side_is_even_and_as_large_as_asked(area):
    side = kernel_side(area)
    assert side % 2 == 0
    assert side >= 2
    assert side == 2 or (side - 2) ** 2 < 0.05 * area + 1e-6 <= (side + 1) ** 2 + 1e-6


@pytest.mark.parametrize("side", [0, 1, 5])
def test_kernel_of_a_wrong_side_is_refused(side):
    with pytest.raises(ValueError, match="even"):
        dilation_kernel(side)


@quick
@given(blobs(), st.sampled_from(["mask", "region"]), st.integers(0, 2**32 - 1))
def test_scores_are_sums_over_regions(mask, normalise, seed):
    values = np.random.default_rng(seed).random(mask.shape, dtype=np.float32)
    labels = np.where(mask, 7, 0).astype(np.uint8)
    region = dilate_mask(mask)
    size = mask.sum() if normalise == "mask" else region.sum()
    want = values[region].sum(dtype=float) / size if size else 0.0
    scores = masked_scores(values, labels, (3, 7), normalise)
    assert list(scores) == [3, 7]
    assert scores[3] == 0.0
    assert scores[7] == pytest.approx(want, abs=1e-9)


def test_entropy_scores_a_frame():
    p = torch.softmax(torch.randn(3, 24, 30, generator=torch.Generator().manual_seed(1)) * 3, 0)
    labels = np.array([0, 4, 9], np.uint8)[p.argmax(0).numpy()]
    entropy = Entropy(dilate=0)
    doubt = entropy(p, labels, (4, 9))
    assert isinstance(entropy, Uncertainty)
    assert isinstance(doubt, Doubt)
    assert doubt.map.dtype == np.float32
    assert doubt.map.shape == labels.shape
    for o in (4, 9):
        assert doubt.scores[o] == pytest.approx(doubt.map[labels == o].mean(dtype=float))


def test_entropy_names_what_does_not_fit():
    p, labels = torch.full((2, 4, 4), 0.5), np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="expected"):
        Entropy()(p, labels, (1, 2))
    with pytest.raises(ValueError, match="expected"):
        Entropy()(p, labels[:2], (1,))
    wrong = (
        {"normalise": "area"},
        {"dilate": 5},
        {"dilate": math.nan},
        {"decimals": -1},
        {"small_object": "drop"},
    )
    for options in wrong:
        with pytest.raises(ValueError, match=next(iter(options))):
            Entropy(**options)


def test_scores_need_a_map_of_the_same_size():
    with pytest.raises(ValueError, match="values have shape"):
        masked_scores(np.zeros((3, 4), np.float32), np.zeros((4, 3), np.uint8), (1,))


def test_changes_need_an_earlier_score():
    assert score_changes({1: 0.75, 2: 0.5}, {1: 1.0}) == {1: -0.25, 2: None}
    assert score_changes({}, {1: 1.0}) == {}


@quick
@given(simplex(members=3))
def test_decomposition(members):
    parts = decompose(members)
    torch.testing.assert_close(parts.mean, members.mean(0))
    torch.testing.assert_close(parts.total.float(), entropy_map(parts.mean, None))
    torch.testing.assert_close(parts.epistemic, parts.total - parts.aleatoric, rtol=0, atol=1e-9)
    assert float(parts.epistemic.min()) >= 0
    assert float(parts.total.max()) <= 1
    same = decompose([members[0]] * 4)
    torch.testing.assert_close(same.epistemic, torch.zeros_like(same.total), rtol=0, atol=1e-9)


def test_members_that_disagree_are_epistemic_doubt():
    one = torch.tensor([1.0, 0.0]).view(2, 1, 1)
    parts = decompose([one, one.flip(0)])
    assert (parts.total.item(), parts.aleatoric.item()) == pytest.approx((1.0, 0.0))


def test_members_must_fit():
    with pytest.raises(ValueError, match="empty"):
        decompose([])
    with pytest.raises(ValueError, match="shapes"):
        decompose([torch.full((2, 1, 1), 0.5), torch.full((2, 1, 2), 0.5)])
