"""SAM-HQ as a refiner: prompts, options, one encoding per frame, weights. A small network of the package's parts stands for the large
ones; what only they can show is asked of one TinyViT with random weights."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.build import make_memory
from lazyvos.interact import object_centre
from lazyvos.refine import Refiner
from lazyvos.refine.sam_hq import SamHqRefiner, _next_click
from lazyvos.refine.sam_hq_net import MODELS, Answer, Prompt, SamHqNet, build_sam_hq, sam_hq_package
from lazyvos.tracker import Tracker
from lazyvos.types import Click, InputError

pytestmark = pytest.mark.skipif(find_spec("segment_anything_hq") is None, reason="segment-anything-hq is not installed")

SIDE = 128
SIZE = (60, 90)
FRAME = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
MASK = torch.zeros(SIZE)
MASK[10:40, 20:50] = 0.9
INSIDE, OUTSIDE = Click(30, 20), Click(70, 50)


def small_net(seed: int = 0) -> Any:
    """SAM-HQ with a ViT of two blocks for 128x128 pixels."""
    sam_hq_package()
    parts = importlib.import_module("segment_anything_hq.modeling")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = parts.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2)
        net = parts.Sam(
            parts.ImageEncoderViT(
                img_size=SIDE, embed_dim=32, depth=2, num_heads=2, out_chans=32, use_rel_pos=True, window_size=4,
                global_attn_indexes=(0, 1),
            ),
            parts.PromptEncoder(32, (SIDE // 16, SIDE // 16), (SIDE, SIDE), mask_in_chans=16),
            parts.MaskDecoderHQ(transformer_dim=32, transformer=transformer, vit_dim=32),
        )  # fmt: skip
        for value in net.parameters():  # fresh biases are zero; a mask should cross 0 and depend on everything
            value.data += 0.05 * torch.randn_like(value)
    return net.eval()


@pytest.fixture(scope="module")
def net() -> Any:
    return small_net()


@pytest.fixture(scope="module")
def make(net: Any) -> Callable[..., SamHqRefiner]:
    return lambda **options: SamHqRefiner(net, side=SIDE, **options)


@pytest.fixture(scope="module")
def tiny() -> SamHqRefiner:
    return SamHqRefiner("vit_tiny", seed=1)


def counted(refiner: SamHqRefiner, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what the image encoder is given from here on."""
    calls: list[tuple[int, ...]] = []
    encoder: Any = refiner.net.image_encoder
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x: calls.append(tuple(x.shape)) or forward(x))
    return calls


def prompts_of(refiner: SamHqRefiner, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Prompt, bool, Answer]]:
    """What the decoder is asked from here on, whether for several masks, and its answers."""
    seen: list[tuple[Prompt, bool, Answer]] = []
    decode = refiner._sam.decode

    def spy(view: Any, prompt: Prompt, **options: bool) -> Answer:
        answer = decode(view, prompt, **options)
        seen.append((prompt, options["several"], answer))
        return answer

    monkeypatch.setattr(refiner._sam, "decode", spy)
    return seen


def by_the_package(net: Any, clicks: list[Click], *, box: list[int] | None = None, mask: Tensor | None = None,
                   several: bool = True, hq_token_only: bool = True) -> Tensor:  # fmt: skip
    """The same through the package's own predictor; a box and clicks in pixels of the frame."""
    predictor = sam_hq_package().SamPredictor(net)
    square = torch.from_numpy(FRAME).permute(2, 0, 1)[None].float()
    square = F.interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=True)
    predictor.set_torch_image(square, (SIDE, SIDE))

    def place(x: float, y: float) -> list[float]:
        return [(x + 0.5) * SIDE / SIZE[1] - 0.5, (y + 0.5) * SIDE / SIZE[0] - 0.5]

    logits, _, _ = predictor.predict_torch(
        torch.tensor([[place(c.x, c.y) for c in clicks]]) if clicks else None,
        torch.tensor([[int(c.positive) for c in clicks]]) if clicks else None,
        torch.tensor([place(*box[:2]) + place(*box[2:])]) if box else None,
        None if mask is None else mask[None, None],
        several, return_logits=True, hq_token_only=hq_token_only,
    )  # fmt: skip
    assert logits.shape == (1, 1, SIDE, SIDE)  # one mask, also of several
    return torch.sigmoid(F.interpolate(logits, SIZE, mode="bilinear"))[0, 0]


# the answer


def test_answer_has_the_size_of_the_frame_and_is_a_probability(make: Callable[..., SamHqRefiner]):
    refiner = make()
    assert isinstance(refiner, Refiner)
    assert refiner.quality is None
    answer = refiner.refine(FRAME, [INSIDE])
    assert answer.shape == SIZE
    assert answer.dtype == torch.float32
    assert 0 <= answer.min() < 0.5 < answer.max() <= 1
    assert refiner.quality is not None


@pytest.mark.parametrize(
    "clicks",
    [[INSIDE], [OUTSIDE], [Click(30.5, 20.25), Click(80, 50, positive=False)], [Click(30, 20, positive=False)], [INSIDE, OUTSIDE]],
)
@pytest.mark.parametrize("hq_token_only", [True, False])
def test_clicks_alone_are_the_prompt(net: Any, make: Callable[..., SamHqRefiner], clicks: list[Click], hq_token_only: bool):
    """Also negative ones alone; and an earlier mask is left out."""
    wanted = by_the_package(net, clicks, hq_token_only=hq_token_only)
    refiner = make(hq_token_only=hq_token_only)
    assert torch.allclose(refiner.refine(FRAME, clicks), wanted, atol=1e-5)
    assert torch.equal(refiner.refine(FRAME, clicks, MASK), refiner.refine(FRAME, clicks))


def test_a_large_frame_is_averaged_not_sampled(make: Callable[..., SamHqRefiner]):
    """White lines of one pixel, eight apart, become grey and do not fall between the samples."""
    lines, grey = np.zeros((512, 1024, 3), np.uint8), np.full((512, 1024, 3), 32, np.uint8)
    lines[:, ::8] = 255
    black = np.zeros_like(lines)
    refiner = make()
    one, same, other = (refiner.refine(frame, [Click(300, 200)]) for frame in (lines, grey, black))
    assert (one - same).abs().mean() < 0.1 * (other - same).abs().mean()


def test_prompts_differ_in_their_answers(make: Callable[..., SamHqRefiner]):
    """Else the comparisons with the package would say nothing."""
    refiner = make()
    answers = [refiner.refine(FRAME, [c]) for c in (INSIDE, OUTSIDE, Click(30, 20, positive=False))]
    answers += [make(**{o: True}).refine(FRAME, [INSIDE], MASK) for o in ("box", "with_mask", "prompt_with_mask")]
    answers.append(make(hq_token_only=False).refine(FRAME, [INSIDE]))
    for i, one in enumerate(answers):
        for other in answers[:i]:
            assert (one - other).abs().max() > 1e-3


def test_of_three_masks_the_one_with_the_highest_predicted_iou_counts(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    refiner = make()
    view, prompt = refiner._view(FRAME), Prompt(torch.tensor([[30.0, 20.0]]), torch.tensor([1]))
    decoder: Any = refiner.net.mask_decoder
    predict, masks = decoder.predict_masks, []

    def scripted(**given: Any) -> tuple[Tensor, Tensor]:
        masks.append(predict(**given)[0])
        return masks[-1], torch.tensor([[0.9, 0.1, 0.7, 0.3]])

    monkeypatch.setattr(decoder, "predict_masks", scripted)
    with torch.inference_mode():
        several, single = (refiner._sam.decode(view.embedding, prompt, several=s) for s in (True, False))
        added = refiner._sam.decode(view.embedding, prompt, hq_token_only=False)
    assert several.iou == pytest.approx(0.7)
    assert single.iou == pytest.approx(0.9)
    assert torch.equal(several.logits, masks[0][0, -1])
    assert torch.equal(single.logits, masks[0][0, -1])
    assert torch.equal(added.logits, masks[0][0, 2] + masks[0][0, -1])


# options


def test_box_takes_the_place_of_a_single_positive_click(net: Any, make: Callable[..., SamHqRefiner]):
    refiner, box = make(box=True), [20, 10, 49, 39]
    negative = Click(25, 15, positive=False)
    assert torch.allclose(refiner.refine(FRAME, [INSIDE], MASK), by_the_package(net, [], box=box), atol=1e-5)
    assert torch.allclose(refiner.refine(FRAME, [INSIDE, negative], MASK), by_the_package(net, [INSIDE, negative], box=box), atol=1e-5)
    assert torch.allclose(refiner.refine(FRAME, [Click(49.5, 39.5)], MASK), by_the_package(net, [], box=box), atol=1e-5)
    for clicks in ([OUTSIDE], [Click(50, 30)], [negative]):
        assert torch.allclose(refiner.refine(FRAME, clicks, MASK), by_the_package(net, clicks), atol=1e-5)


@pytest.mark.parametrize("option", ["box", "with_mask", "prompt_with_mask"])
@pytest.mark.parametrize("mask", [None, torch.full(SIZE, 0.5)])
def test_options_need_a_mask_that_is_not_empty(make: Callable[..., SamHqRefiner], option: str, mask: Tensor | None):
    assert torch.equal(make(**{option: True}).refine(FRAME, [INSIDE], mask), make().refine(FRAME, [INSIDE]))


def test_with_mask_gives_its_logits(net: Any, make: Callable[..., SamHqRefiner]):
    small = F.interpolate(MASK[None, None], (SIDE // 4, SIDE // 4), mode="bilinear", antialias=True)[0, 0].clamp(1e-4, 1 - 1e-4)
    wanted = by_the_package(net, [INSIDE], mask=torch.log(small / (1 - small)), several=False)
    assert torch.allclose(make(with_mask=True).refine(FRAME, [INSIDE], MASK), wanted, atol=1e-4)


def test_rebuilding_feeds_the_logits_back_and_ends_with_the_click(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    refiner = make(prompt_with_mask=True)
    seen = prompts_of(refiner, monkeypatch)
    refiner.refine(FRAME, [OUTSIDE], MASK)
    steps, (last, several, _) = seen[:-1], seen[-1]
    assert 1 < len(steps) <= 8
    centre = object_centre((MASK > 0.5).numpy())
    assert centre is not None
    assert torch.allclose(steps[0][0].points, refiner._square([centre], SIZE))
    truth = (MASK > 0.5).numpy()
    ious = []
    for index, (prompt, several_masks, answer) in enumerate(steps):
        assert several_masks is (index == 0)
        assert prompt.mask is (steps[index - 1][2].logits if index else None)
        assert prompt.points.shape == (index + 1, 2)
        guess = (refiner._on_frame(answer.logits, SIZE) > 0).numpy()
        if index + 1 < len(steps):  # the next click is on an error of this answer, and of its sign
            x, y = ((steps[index + 1][0].points[-1] + 0.5) * torch.tensor([SIZE[1] / SIDE, SIZE[0] / SIDE]) - 0.5).round().int()
            assert guess[y, x] != truth[y, x]
            assert bool(steps[index + 1][0].labels[-1]) is bool(truth[y, x])
        ious.append((guess & truth).sum() / (guess | truth).sum())
    assert last.mask is steps[int(np.argmax(ious))][2].logits
    assert several is False
    assert torch.allclose(last.points, refiner._square([(OUTSIDE.x, OUTSIDE.y)], SIZE))
    refiner.refine(FRAME, [INSIDE], MASK)
    assert len(seen) == len(steps) + 2  # the rebuilt mask is kept for the next click


@pytest.mark.parametrize(("ious", "steps", "best"), [([0.5, 0.85], 2, 1), ([0.9], 1, 0), ([0.3, 0.6, 0.4, 0.6, 0.2, 0.1, 0.1, 0.1], 8, 1)])
def test_rebuilding_stops_at_an_iou_and_keeps_the_best_step(
    make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch, ious: list[float], steps: int, best: int
):
    """The decoder answers with the upper part of the mask, as much as gives the IoU."""
    refiner, given = make(prompt_with_mask=True), []

    def decode(view: Any, prompt: Prompt, **options: bool) -> Answer:
        rows = round(30 * ious[len(given)]) if len(given) < len(ious) else 30
        plane = torch.full(SIZE, -5.0)
        plane[10 : 10 + rows, 20:50] = 5
        given.append((prompt, plane))
        return Answer(plane, 0.5)

    monkeypatch.setattr(refiner._sam, "decode", decode)
    monkeypatch.setattr(refiner, "_on_frame", lambda logits, size: logits)
    refiner.refine(FRAME, [INSIDE], MASK)
    assert len(given) == steps + 1
    assert given[-1][0].mask is given[best][1]


def test_next_click_goes_to_the_deeper_error_and_not_twice_to_the_same_pixel():
    mask, guess = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    mask[5:16, 5:16] = True
    guess[5:16, 5:9] = guess[20:25, 20:25] = True
    first = Click(10, 10)
    missed = _next_click(mask, guess, [first])
    assert missed == Click(12, 8)
    again = _next_click(mask, guess, [first, missed])
    assert again is not None
    assert again != missed
    assert again.positive
    guess[20:29, 20:29] = True
    guess[25:28, 0:15] = False
    mask[25:28, 0:15] = True  # more pixels are missed than too much, but not as deep
    assert _next_click(mask, guess, [first]) == Click(24, 24, positive=False)
    assert _next_click(mask, mask, [first]) is None


# one encoding per frame


def test_a_frame_is_encoded_once(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    refiner = make()
    calls = counted(refiner, monkeypatch)
    first = refiner.refine(FRAME, [INSIDE])
    assert calls == [(1, 3, SIDE, SIDE)]
    refiner.refine(FRAME, [INSIDE, OUTSIDE])
    refiner.refine(FRAME.copy(), [Click(5, 5, object=2)], MASK)
    assert torch.equal(refiner.refine(np.asfortranarray(FRAME), [INSIDE]), first)
    assert len(calls) == 1


def test_an_array_written_into_is_another_frame(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    refiner, frame = make(), FRAME.copy()
    before = refiner.refine(frame, [INSIDE])
    calls = counted(refiner, monkeypatch)
    frame[30:40, 30:40] = 0
    after = refiner.refine(frame, [INSIDE])
    assert len(calls) == 1
    assert not torch.allclose(before, after, atol=1e-5)
    assert torch.equal(after, make().refine(frame, [INSIDE]))
    assert len(calls) == 2


def test_pixels_of_another_shape_are_another_frame(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    refiner = make()
    calls = counted(refiner, monkeypatch)
    refiner.refine(FRAME, [INSIDE])
    refiner.refine(FRAME.reshape(90, 60, 3), [INSIDE])
    assert len(calls) == 2


def test_the_last_used_frames_are_kept(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    refiner = make(cache=2)
    calls = counted(refiner, monkeypatch)
    frames = [np.full((20, 20, 3), value, np.uint8) for value in (0, 80, 160)]
    for index in (0, 1, 0, 2, 0):
        refiner.refine(frames[index], [Click(1, 1)])
    assert len(calls) == 3
    refiner.refine(frames[1], [Click(1, 1)])
    assert len(calls) == 4
    assert len(refiner._views) == 2


# in a tracker


def test_a_tracker_is_started_and_corrected_with_two_objects(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    refiner = make(box=True)
    calls = counted(refiner, monkeypatch)
    tracker = Tracker(XMem(XMemConfig.tiny()).eval(), make_memory("fifo"), refiner=refiner, size=64)
    tracker.predict(FRAME)
    started = tracker.correct([INSIDE, Click(70, 50, object=2), Click(5, 5, object=2, positive=False)])
    assert started.objects == (1, 2)
    wanted = refiner.refine(FRAME, [INSIDE])
    assert ((started.labels == 1) == (wanted > 0.5).numpy()).all()
    tracker.commit()
    tracker.predict(FRAME[::-1].copy())
    corrected = tracker.correct([Click(30, 20, positive=False)])
    assert corrected.refined == (1,)
    assert len(calls) == 2


# weights, precision, parts


def test_wrong_calls_are_named(make: Callable[..., SamHqRefiner], net: Any, tmp_path: Path):
    refiner = make()
    with pytest.raises(InputError, match="at least one click"):
        refiner.refine(FRAME, [])
    with pytest.raises(InputError, match="outside the frame of 90x60"):
        refiner.refine(FRAME, [Click(90, 10)])
    with pytest.raises(InputError, match="uint8"):
        refiner.refine(FRAME.astype(np.float32), [INSIDE])
    with pytest.raises(InputError, match=r"mask has shape \(5, 5\)"):
        refiner.refine(FRAME, [INSIDE], torch.zeros(5, 5))
    assert not refiner._views  # nothing was encoded
    for options, words in (
        ({"cache": 0}, "cache is 0"), ({"precision": "int8"}, "precision 'int8'"), ({"seed": 1}, "built already"),
        ({"with_mask": True, "prompt_with_mask": True}, "choose one"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            make(**options)
    with pytest.raises(InputError, match="this network takes 128x128"):
        SamHqRefiner(net)
    with pytest.raises(InputError, match="vit_tiny, vit_b, vit_l, vit_h"):
        SamHqRefiner("vit_huge", seed=0)
    with pytest.raises(InputError, match="exclude one another"):
        SamHqRefiner("vit_tiny", tmp_path / "w.pth", seed=0)
    with pytest.raises(InputError, match="do not exist"):
        SamHqRefiner("vit_tiny", tmp_path / "w.pth")
    with pytest.raises(InputError, match="are of network 'sam-hq:vit_tiny', not 'sam-hq:vit_b'"):
        SamHqRefiner("vit_b", "sam-hq-vit-tiny")


def test_importing_the_package_warns_of_nothing():
    """Of timm's old names nothing; what timm would say of others is still heard."""
    code = (
        "import torch, warnings\n"
        "from lazyvos.refine.sam_hq_net import sam_hq_package\n"
        "with warnings.catch_warnings(record=True) as heard:\n"
        "    warnings.simplefilter('always')\n"
        "    sam_hq_package()\n"
        "    import timm.models.hub\n"
        "print([str(w.message) for w in heard if 'timm' in str(w.message) or 'tiny_vit' in str(w.message)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "['Importing from timm.models.hub is deprecated, please import via timm.models']"


@pytest.mark.parametrize(
    ("kind", "text"),
    [(FutureWarning, "Importing from timm.models.hub is deprecated"), (UserWarning, "Overwriting other in registry with segment_any")],
)
def test_other_warnings_of_the_package_are_heard(monkeypatch: pytest.MonkeyPatch, kind: type[Warning], text: str):
    def fake(name: str) -> None:
        if name == "segment_anything_hq":
            warnings.warn(text, kind, stacklevel=2)

    monkeypatch.setattr(importlib, "import_module", fake)
    with pytest.warns(kind, match=text):
        sam_hq_package()


@pytest.mark.parametrize(("model", "tensors", "millions"), [("vit_b", 339, 94.8), ("vit_l", 507, 313.7), ("vit_h", 619, 642.7)])
def test_large_models_build(model: str, tensors: int, millions: float):
    """Without memory for their weights; random ones need 0.4 to 2.6 GB."""
    assert model in MODELS
    with torch.device("meta"):
        net = build_sam_hq(model, seed=0)
    assert len(net.state_dict()) == tensors
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert SamHqNet(net).side == 1024


def test_low_precision_is_near(make: Callable[..., SamHqRefiner], monkeypatch: pytest.MonkeyPatch):
    refiner = make(precision="bf16")
    kinds = []
    encoder: Any = refiner.net.prompt_encoder
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda **given: kinds.append(torch.is_autocast_enabled("cpu")) or forward(**given))
    answer, exact = refiner.refine(FRAME, [INSIDE]), make().refine(FRAME, [INSIDE])
    assert kinds[0] is False
    assert answer.dtype == torch.float32
    assert 0 < (answer - exact).abs().max() < 0.05


def test_seed_decides_random_weights(tiny: SamHqRefiner):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    with pytest.warns(UserWarning, match="random weights"):
        other = build_sam_hq("vit_tiny").state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = build_sam_hq("vit_tiny", seed=1).state_dict()
    assert torch.equal(torch.rand(1), expected)
    mine = tiny.net.state_dict()
    assert len(mine) == 464
    assert all(torch.equal(mine[k], same[k]) for k in mine)
    assert any(not torch.equal(mine[k], other[k]) for k in mine)


@pytest.fixture(scope="module")
def weights(tiny: SamHqRefiner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = {k: v + 0.5 if "attention_biases" in k else v for k, v in tiny.net.state_dict().items()}
    path = tmp_path_factory.mktemp("sam") / "tiny.pth"
    torch.save(state, path)
    yield path
    path.unlink()


def test_weights_are_read_and_reach_the_attention(weights: Path):
    """TinyViT keeps tables made from its biases, which a loader may forget to make anew."""
    state = torch.load(weights, weights_only=True)
    net = build_sam_hq("vit_tiny", weights)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    tables = [m for m in net.modules() if hasattr(m, "attention_biases")]
    assert tables
    for module in tables:
        assert torch.equal(module.ab, module.attention_biases[:, module.attention_bias_idxs])
        assert (module.ab == 0.5).all()


def test_wrong_weights_are_refused_with_the_first_differences(weights: Path, tmp_path: Path):
    state = torch.load(weights, weights_only=True)
    state["mask_decoder.extra"] = state.pop("mask_decoder.hf_token.weight")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"missing \['mask_decoder.hf_token.weight'\]; unexpected \['mask_decoder.extra'\]"):
        build_sam_hq("vit_tiny", tmp_path / "other.pth")
    torch.save({"code": Path.touch}, tmp_path / "code.pth")
    with pytest.raises(InputError, match="cannot be read"):
        build_sam_hq("vit_tiny", tmp_path / "code.pth")


def test_tiny_vit_sees_a_frame_once_and_answers_as_its_own_decoder(tiny: SamHqRefiner, monkeypatch: pytest.MonkeyPatch):
    encoder: Any = tiny.net.image_encoder
    kept, forward = [], encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda x: kept.append((x, forward(x))) or kept[-1][1])
    first = tiny.refine(FRAME, [INSIDE])
    assert torch.equal(tiny.refine(FRAME, [INSIDE]), first)
    second = tiny.refine(FRAME, [INSIDE, Click(80, 50, positive=False)])
    assert not torch.allclose(first, second, atol=1e-5)
    ((image, (features, early)),) = kept
    assert image.shape == (1, 3, 1024, 1024)
    net: Any = tiny.net
    point = torch.tensor([[[(30.5) * 1024 / 90 - 0.5, (20.5) * 1024 / 60 - 0.5]]])
    with torch.inference_mode():
        sparse, dense = net.prompt_encoder(points=(point, torch.ones(1, 1)), boxes=None, masks=None)
        masks, ious = net.mask_decoder(
            image_embeddings=features, image_pe=net.prompt_encoder.get_dense_pe(), sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense, multimask_output=True, hq_token_only=True, interm_embeddings=early,
        )  # fmt: skip
        logits = net.postprocess_masks(masks, (1024, 1024), (1024, 1024))
    assert masks.shape == (1, 1, 256, 256)
    assert ious.shape == (1, 1)
    wanted = torch.sigmoid(F.interpolate(logits, SIZE, mode="bilinear"))[0, 0]
    assert torch.allclose(first, wanted, atol=1e-5)
