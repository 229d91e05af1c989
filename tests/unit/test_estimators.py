"""Estimators of uncertainty behind the tracker: dropout, ensembles, quality, evidence, temperature."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from lazyvos import hub
from lazyvos.backbones.layers import evidence_logit
from lazyvos.backbones.mivos import MiVOS, MiVOSConfig
from lazyvos.backbones.qdmn import QDMN, QDMNConfig
from lazyvos.backbones.stcn import STCN, STCNConfig
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.build import (
    BACKBONES,
    ESTIMATORS,
    default_size,
    load_backbone,
    make_ensemble,
    make_memory,
    make_tracker,
    make_uncertainty,
)
from lazyvos.cli import main
from lazyvos.datasets import SyntheticClip
from lazyvos.ensemble import EnsembleTracker, Networks
from lazyvos.interact.policies import Lazy, Never
from lazyvos.memory import FifoMemory
from lazyvos.session import Session
from lazyvos.tracker import Tracker
from lazyvos.training.cli import initialise, only
from lazyvos.training.evidential import evidence_fit, evidential_loss, misleading
from lazyvos.types import Action, Click, InputError
from lazyvos.uncertainty import (
    Doubt,
    Entropy,
    Evidential,
    McDropout,
    Quality,
    Sampler,
    Split,
    Uncertainty,
    decompose,
    entropy_map,
    evidential_maps,
    fit_temperature,
    joint_evidence,
    tempered,
)

SIZE = (66, 92)
quick = settings(max_examples=25, deadline=None)
MEMORIES = ("fifo", "readmem", "longterm", "rmem", "dam4sam", "sam2long", "qdmn")


def small(seed: int = 0, **changes: Any) -> XMem:
    torch.manual_seed(seed)
    return XMem(XMemConfig("mobilenetv2", 8, 16, 8, (16, 8, 8), 16, attention=False, **changes)).eval()


def qdmn() -> QDMN:
    torch.manual_seed(1)
    net = QDMN(QDMNConfig.small()).eval()
    torch.nn.init.constant_(net.score.fc2.bias, 0.5)
    return net


@lru_cache
def tiny(member: int = 0, name: str = "tiny") -> Any:
    """The shipped network; members above 0 have other weights."""
    net = copy.deepcopy(hub.load(name))
    torch.manual_seed(member)
    with torch.no_grad():
        for parameter in net.parameters() if member else ():
            parameter.mul_(1 + 0.04 * torch.randn_like(parameter))
    return net


CLIP = SyntheticClip(seed=4, length=14, size=SIZE, objects=2, difficulty="easy")
FRAMES = [frame.copy() for frame, _ in CLIP.pairs()]


def frames(count: int) -> list[np.ndarray]:
    return FRAMES[:count]


def masks(*places: tuple[int, int]) -> np.ndarray:
    """A disk for each object, from 1."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    out = np.zeros(SIZE, np.uint8)
    for identity, (x, y) in enumerate(places, 1):
        out[(rows - y) ** 2 + (columns - x) ** 2 <= 144] = identity
    return out


TWO = CLIP.mask(0)
ONE = np.where(TWO == 1, 1, 0).astype(np.uint8)


class DiskRefiner:
    """A disk of radius 9 around every click."""

    def refine(self, frame: np.ndarray, clicks: Sequence[Click], mask: Any = None) -> torch.Tensor:
        rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
        near = [(rows - c.y) ** 2 + (columns - c.x) ** 2 <= 81 for c in clicks]
        return torch.from_numpy(np.any(near, 0).astype(np.float32))


def tracker(net: Any = None, memory: Any = None, **options: Any) -> Tracker:
    memory = FifoMemory(slots=4, every=2) if memory is None else memory
    return Tracker(small() if net is None else net, memory, size=48, **options)


def ensemble(nets: Sequence[Any], **options: Any) -> EnsembleTracker:
    return EnsembleTracker(nets, [FifoMemory(slots=4, every=2) for _ in nets], size=48, **options)


def run(track: Tracker, count: int = 7, start: np.ndarray = TWO) -> list[Any]:
    return [step.original for step in track.track(frames(count), mask=start)]


def probabilities(track: Tracker, **options: Any) -> torch.Tensor:
    return torch.stack([p.probabilities for p in run(track, **options)[1:]])


# What an estimator may need


def test_every_estimator_has_the_protocol_and_a_name():
    for name in ESTIMATORS:
        assert isinstance(make_uncertainty(name), Uncertainty)
    assert isinstance(make_uncertainty("dropout"), Sampler)
    assert make_uncertainty("aleatoric") == Split(part="aleatoric")
    assert make_uncertainty("frame-entropy", decimals=None) == Entropy(masked=False, decimals=None)
    with pytest.raises(InputError, match=r"nonsense.*entropy.*evidential"):
        make_uncertainty("nonsense")


def test_a_network_that_cannot_serve_an_estimator_is_refused_at_once():
    class Odd(Entropy):
        needs: ClassVar[frozenset[str]] = frozenset({"weather"})

    torch.manual_seed(0)
    stcn = STCN(STCNConfig.small()).eval()
    for estimator, net, message in (
        (Quality(), small(), "quality.*qdmn"), (Evidential(), small(), "evidence.*tiny-evidential"), (Split(), small(), "make_ensemble"),
        (McDropout(), stcn, "STCN.*xmem"), (Odd(), small(), "weather.*members"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            tracker(net, uncertainty=estimator)
    with pytest.raises(InputError, match=r"peek.*object"):
        tracker(small(), object(), uncertainty=McDropout())
    for estimator, message in ((McDropout(), "Split"), (Quality(), "qdmn"), (Evidential(), "tiny-evidential")):
        with pytest.raises(InputError, match=message):
            ensemble([small(), small(1)], uncertainty=estimator)


def test_a_wrong_estimator_set_later_is_refused_by_predict():
    track = tracker()
    next(track.track(frames(1), mask=ONE))
    track.uncertainty = Split()
    with pytest.raises(InputError, match="make_ensemble"):
        track.predict(frames(2)[1])


@pytest.mark.parametrize(
    "options",
    [{"passes": 0}, {"ratio": 1.0}, {"ratio": -0.1}, {"seed": -1}, {"at_once": 0}, {"part": "mean"}, {"dilate": 2.0}],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(options))):
        McDropout(**options)


def test_no_estimator_is_asked_before_the_first_object():
    for track in (tracker(uncertainty=McDropout(2)), tracker(qdmn(), uncertainty=Quality()), ensemble([small()], uncertainty=Split())):
        found = track.predict(frames(1)[0])
        assert found.objects == ()
        assert not found.entropy.any()
        assert found.scores == {}
        track.commit()


def test_an_estimator_gets_the_members_it_asks_for():
    class Spread:
        """Standard deviation of the foreground over the members."""

        needs = frozenset({"members"})
        seen: ClassVar[list[tuple[int, ...]]] = []

        def sample(self, scene: Any) -> Any:
            return McDropout(4, 0.5).sample(scene)

        def check(self, backbone: Any, memory: Any) -> None:
            pass

        def __call__(self, probabilities, labels, objects, *, members) -> Doubt:
            self.seen.append(tuple(members.shape))
            np.testing.assert_allclose(members.mean(0), probabilities, atol=1e-5)
            return Doubt(members[:, 1:].std(0).amax(0).numpy(), dict.fromkeys(objects, float(members.std())))

    found = run(tracker(uncertainty=Spread()), 3)
    assert Spread.seen == [(4, 3, *SIZE)] * 2
    assert found[-1].scores[1] > 0
    assert found[-1].parts is not None

    class Count(Entropy):
        needs: ClassVar[frozenset[str]] = frozenset({"members"})

        def __call__(self, probabilities, labels, objects, *, members) -> Doubt:
            return Doubt(np.zeros(SIZE, np.float32), dict.fromkeys(objects, float(len(members))))

    assert run(ensemble([small(), small(1)], uncertainty=Count()), 2)[-1].scores == {1: 2.0, 2: 2.0}


def test_the_sum_over_the_frame_is_that_of_the_map():
    p = torch.from_numpy(np.moveaxis(np.random.default_rng(0).dirichlet(np.ones(3), SIZE), -1, 0)).float()
    doubt = Entropy(masked=False)(p, TWO, (1, 2))
    assert doubt.scores[1] == doubt.scores[2] == pytest.approx(float(entropy_map(p).double().sum()))
    parts = decompose([p, p.roll(1, 1)])
    whole = Split(masked=False)(parts.mean, TWO, (1, 2), parts=parts)
    assert whole.scores[2] == pytest.approx(float(parts.epistemic.double().sum()))
    assert whole.parts is parts
    for estimator in (Split(), Quality(), Evidential()):
        with pytest.raises(ValueError, match="let a tracker call it"):
            estimator(p, TWO, (1, 2))


# Monte-Carlo dropout


@pytest.mark.parametrize("net", [small(), small(2, anisotropic=False), MiVOS(MiVOSConfig.small()).eval(), qdmn()])
def test_channel_weights_on_the_query_side_are_the_similarity_of_masked_keys(net):
    torch.manual_seed(3)
    with torch.inference_mode():
        now, before = torch.randn(2, 3, 32, 48)
        query, other = net.encode(now), net.encode(before)
        entry, _ = net.memorise(0, other, before, torch.rand(1, 32, 48), (1,), net.initial_state(1, other.grid), False)
        channels, area = len(query.key), query.address.shape[1]
        weights = torch.tensor([[1.0] * channels, (torch.rand(channels) > 0.4).float().tolist()]) * 1.25**2
        weights[0] = 1
        found = (entry.address[0].T @ net.weighted_address(query, weights)).unflatten(1, (2, area)).double()
        torch.testing.assert_close(net.weighted_address(query, weights)[:, :area], query.address)
        m, q = entry.key[0].flatten(1).double(), query.key.flatten(1).double()
        for w, got in zip(weights.double(), found.unbind(1), strict=True):
            root = w.sqrt()[:, None]
            if isinstance(net, XMem):
                _, _, selection, _ = net.encode_key(now.unsqueeze(0))
                e = torch.ones_like(q) if selection is None else selection[0].flatten(1).double()
                s = 1.0 if entry.shrinkage is None else entry.shrinkage[0].flatten().double()[:, None]
                wanted = -s * (e[:, None] * ((m * root)[:, :, None] - (q * root)[:, None]) ** 2).sum(0) / channels**0.5
            else:
                wanted = (m * root).T @ (q * root) / channels**0.5
            if isinstance(net, XMem) and not net.config.anisotropic:  # a constant of the query, as published
                got, wanted = got - got[0], wanted - wanted[0]
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("net", [tiny(), tiny(0, "tiny-stm"), qdmn()])
def test_nothing_dropped_is_the_plain_prediction(net):
    plain, dropped = probabilities(tracker(net)), probabilities(tracker(net, uncertainty=McDropout(3, 0.0)))
    torch.testing.assert_close(dropped, plain, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", MEMORIES)
def test_passes_leave_no_trace_in_the_memory(name):
    options = {"slots": 3, "every": 2} if name in ("fifo", "readmem", "rmem") else {"every": 2} if name in ("longterm", "qdmn") else {}
    if name == "longterm":
        options |= {"max_mid_term_frames": 3, "min_mid_term_frames": 2, "prototypes": 4}
    net, states = tiny(), []
    for estimator in (None, McDropout(3, 0.0)):
        track = tracker(net, make_memory(name, **options), uncertainty=estimator)
        run(track, 12)
        states.append(track.state())
    a, b = (json.loads(json.dumps(s, default=lambda x: x.double().round(decimals=3).add(0.0).tolist())) for s in states)
    frame, other = (tracker(net, m) for m in (make_memory(name, **options), make_memory(name, **options)))
    frame.load_state(states[0])
    other.load_state(states[1])
    assert frame.memory.frames() == other.memory.frames()
    near(a, b)


def near(a: Any, b: Any, where: str = "") -> None:
    """Equal nested values, numbers to 1 %."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            near(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list) and a and not isinstance(a[0], (dict, str)):
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), atol=2e-2, rtol=1e-2, err_msg=where)
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for n, pair in enumerate(zip(a, b, strict=True)):
            near(*pair, f"{where}/{n}")
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-2, abs=2e-2), where
    else:
        assert a == b, where


@pytest.mark.parametrize("name", MEMORIES)
def test_a_peek_is_a_read(name):
    memory = make_memory(name)
    track = tracker(tiny(), memory)
    run(track, 6)
    with torch.inference_mode():
        query = track.backbone.encode(torch.randn(3, 48, 80), track._state)
        value = memory.read(query, (1, 2), 30).value.flatten(2).transpose(1, 2)
        holders = [memory, *([memory._aligner] if name == "readmem" else [])]
        held = [dict(vars(holder)) for holder in holders]
        peeked = memory.peek(torch.cat([query.address, query.address.flip(1)], 1), (1, 2), 30)
        for holder, before in zip(holders, held, strict=True):  # what was noted of the read is the very same
            assert all(vars(holder)[key] is value for key, value in before.items())
    torch.testing.assert_close(peeked, torch.cat([value, value.flip(1)], 1), atol=1e-5, rtol=1e-5)


def test_passes_together_are_passes_one_by_one():
    net = tiny()
    found = [probabilities(tracker(net, uncertainty=McDropout(5, 0.4, at_once=n))) for n in (1, 2, 5, None)]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


def test_a_pass_is_a_function_of_seed_frame_and_number():
    dropout = McDropout(20, 0.2, 7)
    weights = dropout.weights(4, 64)
    assert set(weights.unique().tolist()) == {0.0, weights.max().item()}
    assert weights.max().item() == pytest.approx(1.25**2)
    assert (weights == 0).float().mean().item() == pytest.approx(0.2, abs=0.05)
    assert len(weights.unique(dim=0)) == 20
    torch.testing.assert_close(McDropout(5, 0.2, 7).weights(4, 64), weights[:5])
    assert not torch.equal(dropout.weights(5, 64), weights)
    assert not torch.equal(McDropout(20, 0.2, 8).weights(4, 64), weights)
    net = tiny()
    first, again, other = (probabilities(tracker(net, uncertainty=McDropout(3, 0.4, s))) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_mean_of_the_passes_is_predicted_and_stored():
    stored: list[Any] = []

    class Spy(FifoMemory):
        def offer(self, entry, clock, *, force=False):
            stored.append(entry)
            return super().offer(entry, clock, force=force)

    track = tracker(tiny(), Spy(slots=4, every=1), uncertainty=McDropout(4, 0.5, part="epistemic"))
    found = run(track, 4)
    for entry, prediction in zip(stored, found[1:], strict=True):
        assert track._geometry is not None
        torch.testing.assert_close(track._geometry.probabilities(entry.masks), prediction.probabilities[1:], atol=1e-5, rtol=0)
        parts = prediction.parts
        assert torch.equal(parts.mean, prediction.probabilities)
        assert float(parts.epistemic.min()) >= 0
        assert float(parts.epistemic.max()) > 1e-4
        torch.testing.assert_close(parts.total, parts.aleatoric + parts.epistemic, atol=1e-5, rtol=0)
        np.testing.assert_array_equal(prediction.entropy, parts.epistemic)
    assert torch.equal(torch.from_numpy(found[-1].labels).long(), found[-1].probabilities.argmax(0))


@pytest.mark.parametrize("kind", ["dropout", "ensemble", "shared", "quality"])
def test_a_clip_goes_on_from_a_state(kind, tmp_path: Path):
    nets = [tiny(), tiny(1)]

    def fresh() -> Tracker:
        if kind == "dropout":
            return tracker(nets[0], uncertainty=McDropout(3, 0.4))
        if kind == "quality":
            return tracker(judge, uncertainty=Quality())
        return ensemble(nets, shared_mask=kind == "shared", uncertainty=Split())

    judge = qdmn() if kind == "quality" else None
    whole, first, second = fresh(), fresh(), fresh()
    clip = frames(8)
    wanted = [p.prediction for p in whole.track(clip, mask=TWO)]
    for _ in first.track(clip[:4], mask=TWO):
        pass
    first.predict(clip[4])  # a frame at hand is no part of the state
    torch.save(first.state(), tmp_path / "state.pt")
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for prediction, step in zip(wanted[4:], second.track(clip[4:]), strict=True):
        assert torch.equal(step.prediction.probabilities, prediction.probabilities)
        assert step.prediction.scores == prediction.scores
        assert step.prediction.deltas == prediction.deltas


# Ensembles


def test_an_ensemble_of_one_is_the_plain_tracker():
    net = tiny()

    class Now(Never):
        """Every wish in turn, and every fifth frame is refused."""

        def decide(self, prediction):
            asks, corrects = prediction.t % 4 == 1, prediction.t % 3 == 2
            return {1: Action.ASK if asks else Action.ACCEPT, 2: Action.PSEUDO if corrects else Action.ACCEPT}

        def admits(self, prediction):
            return prediction.t % 5 != 4

    class Clicks:
        def answer(self, request, frame, prediction):
            return [Click(30 + request.t, 30, request.object)]

    plain = tracker(net, policy=Now(), refiner=DiskRefiner())
    several = ensemble([net], policy=Now(), refiner=DiskRefiner())
    kinds, reasons = set(), set()
    for a, b in zip(plain.track(frames(12), Clicks(), mask=TWO), several.track(frames(12), Clicks(), mask=TWO), strict=True):
        assert torch.equal(a.prediction.probabilities, b.prediction.probabilities)
        np.testing.assert_array_equal(a.prediction.entropy, b.prediction.entropy)
        assert (a.original.scores, a.original.deltas, a.requests, a.corrections) == (b.original.scores, b.original.deltas, b.requests, b.corrections)
        assert (a.decision.kept, a.decision.reason) == (b.decision.kept, b.decision.reason)
        kinds |= {c.kind for c in a.corrections}
        reasons.add(a.decision.reason)
    assert kinds == {"user", "mask", "pseudo"}
    assert {"uncertain", "forced", "filled"} <= reasons
    assert plain.objects == several.objects
    plain.drop(1)
    several.drop(1)
    assert several.objects == (2,)
    clip = frames(14)
    assert torch.equal(plain.step(clip[12]).prediction.probabilities, several.step(clip[12]).prediction.probabilities)


def test_the_order_of_the_members_does_not_matter():
    nets = [tiny(), tiny(1), tiny(2)]
    a, b = (run(ensemble(order, uncertainty=Split())) for order in (nets, nets[::-1]))
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities, atol=1e-6, rtol=0)
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    assert a[-1].scores[1] > 0


def test_members_keep_their_own_masks_unless_they_share():
    nets = [tiny(), tiny(1)]
    for shared in (False, True):
        stored: list[list[Any]] = [[], []]

        def spy(into: list[Any]) -> FifoMemory:
            class Spy(FifoMemory):
                def offer(self, entry, clock, *, force=False):
                    into.append(entry.masks)
                    return super().offer(entry, clock, force=force)

            return Spy(slots=4, every=1)

        track = EnsembleTracker(nets, [spy(s) for s in stored], size=48, shared_mask=shared)
        predictions = run(track, 4)
        assert len(stored[0]) == len(stored[1]) == 3
        same = [torch.equal(a, b) for a, b in zip(*stored, strict=True)]
        assert all(same) if shared else not any(same)
        mean = sum(torch.stack(s) for s in stored) / 2
        assert track._geometry is not None
        for masks_, prediction in zip(mean, predictions[1:], strict=True):
            torch.testing.assert_close(track._geometry.probabilities(masks_), prediction.probabilities[1:], atol=1e-5, rtol=0)
        # A correction reaches every member as a mask; of the other object each keeps what it does.
        clip = frames(6)
        track.predict(clip[4])
        given = np.where(masks((44, 30)) == 1, 2, 0).astype(np.uint8)
        current = track.correct(mask=given)
        track.commit()
        wanted = track._geometry.masks(torch.from_numpy((given == 2).astype(np.float32))[None])[0]
        for member in stored:
            assert ((member[-1][1] > 0.5) == (wanted > 0.5)).float().mean() > 0.98
        np.testing.assert_array_equal((current.labels == 2) | (current.labels == 1), (given == 2) | (current.labels == 1))
        assert track.predict(clip[5]).objects == (1, 2)
        track.revert()
        track.commit()


def test_an_ensemble_steps_back_and_takes_new_objects():
    track = ensemble([small(), small(1)])
    clip = frames(5)
    track.predict(clip[0])
    track.correct(mask=ONE)
    track.commit()
    plain = track.predict(clip[1])
    track.correct(mask=np.where(TWO == 2, 2, 0).astype(np.uint8))
    assert torch.equal(track.revert().probabilities, plain.probabilities)
    track.correct(mask=np.where(TWO == 2, 2, 0).astype(np.uint8))
    track.commit()
    assert track.objects == (1, 2)
    assert [m.objects for m in track.members] == [(1, 2)] * 2
    track.predict(clip[2])
    with pytest.raises(RuntimeError, match="not committed"):
        track.predict(clip[3])
    with pytest.raises(RuntimeError, match="between frames"):
        track.drop(1)
    track.commit()
    track.drop(1)
    found = track.predict(clip[3])
    assert found.objects == (2,)
    assert found.probabilities.shape[0] == 2


def test_refused_frames_are_refused_by_every_member():
    track = ensemble([small(), small(1)], policy=Lazy(ask=False, pseudo=False, tau_memory=-1.0))
    run(track, 4)
    assert [d.reason for d in track.decisions] == ["uncertain"] * 2
    assert all(member.memory.frames() == (0,) for member in track.members)


def test_parts_of_an_ensemble_that_do_not_belong_together_are_refused():
    memory = FifoMemory()
    with pytest.raises(InputError, match="2 networks came with 1 memories"):
        EnsembleTracker([small(), small()], [memory])
    with pytest.raises(InputError, match="1 of them different"):
        EnsembleTracker([small(), small()], [memory, memory])
    with pytest.raises(InputError, match="at least one"):
        Networks([])
    two, plain = ensemble([small(), small(1)]), tracker()
    run(two, 2)
    run(plain, 2)
    with pytest.raises(InputError, match="no ensemble"):
        two.load_state(plain.state())
    with pytest.raises(ValueError, match="'ensemble' memory"):
        plain.load_state(two.state())
    with pytest.raises(InputError, match=r"2 members.*1 members"):
        ensemble([small()]).load_state(two.state())


def test_a_session_works_with_an_ensemble(tmp_path: Path):
    nets = [tiny(), tiny(1)]
    session = Session(frames(6), ensemble(nets, refiner=DiskRefiner()), out=tmp_path)
    session.correct([Click(30, 30, 1)])
    for _ in range(2):
        session.advance()
    session.snapshot(tmp_path / "half.pt")
    wanted = [session.advance().prediction.probabilities for _ in range(3)]
    session.close()
    again = Session.resume(tmp_path / "half.pt", frames(6), ensemble(nets, refiner=DiskRefiner()))
    for p in wanted:
        assert torch.equal(again.advance().prediction.probabilities, p)


# By name


def test_ensembles_by_name():
    track = make_ensemble(["tiny", tiny(), tiny(1)], memory="readmem", uncertainty="epistemic", shared_mask=True, size=48, device="cpu")
    assert track.shared_mask
    assert len({id(m.memory) for m in track.members}) == 3
    found = run(track, 3)[-1]
    assert found.parts is not None
    assert found.scores[1] > 0
    named = make_tracker("tiny+tiny", size=48, device="cpu", refiner=None)
    assert isinstance(named, EnsembleTracker)
    assert default_size("tiny+tiny-b") == default_size("tiny-drop") == 320
    assert make_ensemble([tiny()], device="cpu", refiner=None).size == 480
    for call in (lambda: make_tracker("tiny+nonsense"), lambda: make_ensemble(["nonsense"]), lambda: load_backbone("nonsense")):
        with pytest.raises(InputError, match="backbone 'nonsense' is unknown"):
            call()
    with pytest.raises(InputError, match="2 networks but weights 'a' are 1"):
        load_backbone("tiny+tiny", "a")
    with pytest.raises(InputError, match="2 memories came with one network"):
        make_tracker(tiny(), memory=[FifoMemory(), FifoMemory()], refiner=None)


def test_members_are_weights_of_a_network():
    assert {"tiny-b", "tiny-c", "tiny-drop", "tiny-evidential"} <= set(BACKBONES)
    assert all(hub.network_named(name) == "tiny" for name in ("tiny", "tiny-b", "tiny-c", "tiny-drop"))
    assert {"tiny", "tiny-stm", "tiny-click"} <= set(hub.shipped())
    net = hub.load("tiny-b", hub.find_weights("tiny"))
    assert isinstance(net, XMem)
    with pytest.raises(InputError, match=r"tiny-d.*tiny-drop"):
        hub.load("tiny-d")


def test_the_command_line_takes_an_estimator(tmp_path: Path, capsys):
    from lazyvos.masks import VideoWriter

    clip = SyntheticClip(seed=1, length=4, size=(64, 96), objects=1, difficulty="easy")
    with VideoWriter(tmp_path / "clip.mp4", 10) as video:
        for frame, _ in clip.pairs():
            video.write(frame)
    words = ["track", str(tmp_path / "clip.mp4"), "--click", "48,32", "--size", "48", "--device", "cpu", "--no-video", "--no-report"]
    assert main([*words, "--out", str(tmp_path / "a"), "--uncertainty", "dropout", "--json"]) == 0
    assert "McDropout" in json.loads(capsys.readouterr().out.splitlines()[-1])["setup"]["uncertainty"]
    assert main([*words, "--out", str(tmp_path / "b"), "--uncertainty", "epistemic", "--backbone", "tiny+tiny"]) == 0
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "c"), "--uncertainty", "quality"]) == 2
    assert "qdmn" in capsys.readouterr().err


# Quality


def test_quality_is_relative_to_the_annotated_frame():
    net, entries = qdmn(), {}

    class Spy(FifoMemory):
        def pin(self, entry, clock):
            entries[entry.t] = entry
            return super().pin(entry, clock)

    track = tracker(net, Spy(slots=4, every=1), uncertainty=Quality())
    clip = frames(5)
    for prediction in (step.original for step in track.track(clip, mask=TWO)):
        if prediction.t == 0:
            continue
        assert track._geometry is not None
        np.testing.assert_array_equal(prediction.entropy, entropy_map(prediction.probabilities).numpy())
        assert set(prediction.scores) == {1, 2}
    reference = entries[0].quality
    found = track.predict(clip[0])
    pending = track._current()
    with torch.inference_mode():
        wanted = net.entry(0, pending.image, pending.prob[1:], (1, 2)).quality / reference
    assert [1 - found.scores[o] for o in (1, 2)] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert float(reference.min()) > 0


@pytest.mark.parametrize("memory", ["qdmn", "fifo"])
def test_looking_at_the_quality_changes_nothing_else(memory):
    calls = []

    class Counted(QDMN):
        def entry(self, t, *rest):
            calls.append(t)
            return super().entry(t, *rest)

    torch.manual_seed(1)
    net = Counted(QDMNConfig.small()).eval()
    a, b = (tracker(net, make_memory(memory, every=3), uncertainty=u) for u in (None, Quality()))
    plain = probabilities(a)
    calls.clear()
    assert torch.equal(probabilities(b), plain)
    assert len(calls) <= 7 + 2  # once a frame, and again where the frame is due
    assert a.memory.frames() == b.memory.frames()


# Evidence


alphas = st.lists(st.floats(1.0, 200.0), min_size=2, max_size=2)


@quick
@given(alphas)
def test_evidential_maps_are_those_of_the_beta(pair):
    a, b = pair
    maps = evidential_maps(torch.tensor([a - 1, b - 1], dtype=torch.float64).view(2, 1, 1))
    beta = stats.beta(a, b)
    assert float(maps.mean[0]) == pytest.approx(beta.mean())
    assert float(maps.variance[0]) == pytest.approx(beta.var())
    assert float(maps.vacuity) == pytest.approx(2 / (a + b))
    expected, _ = integrate.quad(lambda p: beta.pdf(p) * (special.entr(p) + special.entr(1 - p)), 0, 1, limit=200)
    assert float(maps.aleatoric) == pytest.approx(expected / np.log(2), rel=1e-4)
    assert float(maps.total) == pytest.approx((special.entr(beta.mean()) + special.entr(1 - beta.mean())) / np.log(2), abs=1e-6)
    assert float(maps.epistemic) == pytest.approx(float(maps.total) - expected / np.log(2), abs=1e-4)


@quick
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_expected_entropy_of_any_dirichlet(k, seed):
    rng = np.random.default_rng(seed)
    alpha = 1 + rng.exponential(5.0, k)
    maps = evidential_maps(torch.from_numpy(alpha - 1).view(k, 1, 1))
    strength = alpha.sum()
    wanted = (alpha / strength * (special.psi(strength + 1) - special.psi(alpha + 1))).sum() / np.log(k)
    assert float(maps.aleatoric) == pytest.approx(wanted)
    drawn = rng.dirichlet(alpha, 4000)
    assert float(maps.aleatoric) == pytest.approx(special.entr(drawn).sum(1).mean() / np.log(k), abs=0.02)
    assert 0 < float(maps.vacuity) <= 1
    assert float(maps.epistemic) >= 0


@quick
@given(alphas, st.booleans())
def test_evidential_losses_are_expectations(pair, first):
    a, b = pair
    beta = stats.beta(a, b)
    evidence = torch.tensor([[a - 1, b - 1]], dtype=torch.float64)
    truth = torch.tensor([[1.0, 0.0] if first else [0.0, 1.0]], dtype=torch.float64)
    y = float(first)
    squares, _ = integrate.quad(lambda p: beta.pdf(p) * 2 * (y - p) ** 2, 0, 1, limit=200)
    assert float(evidence_fit(evidence, truth)) == pytest.approx(squares, rel=1e-4, abs=1e-9)
    crossed, _ = integrate.quad(lambda p: -beta.pdf(p) * np.log(p if first else 1 - p), 0, 1, limit=200)
    assert float(evidence_fit(evidence, truth, "digamma")) == pytest.approx(crossed, rel=1e-4)
    left = stats.beta(1, b) if first else stats.beta(a, 1)
    divergence, _ = integrate.quad(lambda p: left.pdf(p) * left.logpdf(p), 1e-12, 1 - 1e-12, limit=400)
    assert float(misleading(evidence, truth)) == pytest.approx(divergence, rel=1e-3, abs=1e-6)


def test_evidential_loss_leaves_out_void_and_has_finite_gradients():
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (2, 6, 6))
    raw = (torch.randn(2, 2, 6, 6) * 40).requires_grad_()
    for form in ("squares", "digamma"):
        for weight in (0.0, 1.0):
            loss, fit, divergence = evidential_loss(torch.nn.functional.softplus(raw), labels, form=form, weight=weight)
            assert loss.item() == pytest.approx(fit + weight * divergence, rel=1e-5)
            (gradient,) = torch.autograd.grad(loss, raw)
            assert torch.isfinite(gradient).all()
            assert gradient.abs().sum() > 0
    labels[:, :3] = 255
    loss, *_ = evidential_loss(torch.nn.functional.softplus(raw), labels)
    (gradient,) = torch.autograd.grad(loss, raw)
    assert not gradient[:, :, :3].any()
    whole, *_ = evidential_loss(torch.nn.functional.softplus(raw)[:, :, 3:], labels[:, 3:])
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    labels[:] = 255
    assert evidential_loss(torch.nn.functional.softplus(raw), labels)[0].item() == 0
    with pytest.raises(ValueError, match="squares"):
        evidence_fit(torch.ones(1, 2), torch.ones(1, 2), "cubes")  # type: ignore[arg-type]


def test_evidence_of_several_objects_is_joined():
    evidence = torch.tensor([[[[50.0, 0.0, 0.0]], [[0.0, 50.0, 0.0]]], [[[0.0, 0.0, 0.0]], [[50.0, 40.0, 0.0]]]])
    joint = joint_evidence(evidence)
    assert joint.tolist() == [[[0.0, 40.0, 0.0]], [[50.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]
    maps = evidential_maps(joint)
    assert maps.mean.argmax(0).tolist()[0][:2] == [1, 0]
    assert maps.vacuity[0, 2] == 1
    assert maps.total[0, 2] == pytest.approx(1, abs=1e-5)
    for wrong in (torch.ones(2, 3, 4, 4), torch.ones(2, 4, 4), torch.ones(0, 2, 4, 4)):
        with pytest.raises(ValueError, match="objects, 2"):
            joint_evidence(wrong)
    with pytest.raises(ValueError, match="at least 0"):
        evidential_maps(-torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="K of 2"):
        evidential_maps(torch.ones(1, 3, 3))


def test_an_evidential_network_tracks_and_doubts():
    net = small(evidential=True)
    for part in ("total", "aleatoric", "epistemic", "vacuity"):
        found = run(tracker(net, uncertainty=Evidential(part=part)), 4)[-1]
        np.testing.assert_array_equal(found.entropy, getattr(found.parts, part).numpy())
        assert 0 <= found.entropy.min() <= found.entropy.max() <= 1
        assert found.parts.mean.shape == (3, *SIZE)
    plain = run(tracker(net), 4)[-1]
    torch.testing.assert_close(plain.probabilities, found.probabilities)
    single = run(tracker(net, uncertainty=Evidential()), 4, start=ONE)[-1]
    assert ((single.parts.mean[1] > 0.5).numpy() == (single.labels == 1)).mean() > 0.99


def test_an_evidential_network_starts_where_the_plain_one_is(tmp_path: Path):
    plain, evidential = small(), small(9, evidential=True)
    hub.save(plain, tmp_path / "plain.safetensors", half=False)
    told = initialise(evidential, tmp_path / "plain.safetensors")
    assert "left random: none" in told
    with torch.inference_mode():
        image, value = torch.randn(3, 48, 80), torch.randn(2, 16, 3, 5)
        a, b = plain.encode(image), evidential.encode(image)
        logits, moved = plain.decode(a, value, plain.initial_state(2, a.grid))
        evidence, same = evidential.decode_evidence(b, value, evidential.initial_state(2, b.grid))
        torch.testing.assert_close(same, moved)
        told_apart = evidence_logit(evidence, 1)
        torch.testing.assert_close(evidential.decode(b, value, evidential.initial_state(2, b.grid))[0], told_apart)
        torch.testing.assert_close(evidence, torch.nn.functional.softplus(torch.stack([logits, -logits], 1)), atol=1e-4, rtol=1e-4)
        assert ((told_apart > 0) == (logits > 0)).all()
    only(evidential, "decoder.pred")
    assert sum(p.requires_grad for p in evidential.parameters()) == 2
    with pytest.raises(InputError, match=r"--only head.*decoder"):
        only(evidential, "head")


def test_the_command_line_trains_the_evidence_alone(tmp_path: Path):
    out = tmp_path / "run"
    assert main(["train", "tiny-evidential", "--init", "tiny", "--only", "decoder.pred", "--smoke", "--device", "cpu", "--out", str(out)]) == 0
    net = hub.load("tiny-evidential", out / "tiny-evidential.safetensors")
    changed = {k for k, v in tiny().state_dict().items() if v.shape != net.state_dict()[k].shape or not torch.equal(v, net.state_dict()[k])}
    assert changed == {"decoder.pred.weight", "decoder.pred.bias"}
    assert net.decoder.pred.weight.shape[0] == 2
    assert {"fit", "misleading"} <= set((out / "log.csv").read_text().splitlines()[0].split(","))
    found = run(make_tracker(net, size=48, refiner=None, uncertainty="evidential", device="cpu"), 2)
    assert found[-1].parts is not None


# Temperature


@quick
@given(st.floats(0.1, 10.0), st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_temperature_divides_logits(temperature, seed, k):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (k, 3, 4)))
    p = logits.softmax(0)
    got = tempered(p, temperature)
    kept = p.amin(0) > 1e-6
    wanted = (logits / temperature).softmax(0)
    torch.testing.assert_close(got[:, kept], wanted[:, kept], atol=1e-6, rtol=1e-5)
    assert torch.equal(got.argmax(0), p.argmax(0))
    assert tempered(p, 1.0) is p


def test_temperature_of_one_changes_no_estimate_and_more_is_less_sure():
    p = torch.from_numpy(np.moveaxis(np.random.default_rng(0).dirichlet(np.ones(3), SIZE), -1, 0)).float()
    plain, same, warm, cold = (Entropy(**o)(p, TWO, (1, 2)) for o in ({}, {"temperature": 1.0}, {"temperature": 2.0}, {"temperature": 0.5}))
    assert (plain.map == same.map).all()
    assert plain.scores == same.scores
    assert cold.scores[1] < plain.scores[1] < warm.scores[1]
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature"):
            Entropy(temperature=wrong)


def test_the_fitted_temperature_is_the_one_that_spoiled_the_logits():
    rng = np.random.default_rng(0)
    clips = []
    for objects in ((1,), (3, 7)):
        logits = rng.normal(0, 2, (1 + len(objects), 80, 90))
        p = special.softmax(logits, 0)
        channel = (rng.random((80, 90)) > p.cumsum(0)).sum(0)
        truth = np.array((0, *objects), np.uint8)[channel]
        truth[:5], truth[5:9] = 255, 99
        clips.append((torch.from_numpy(special.softmax(logits * 2.5, 0)).float(), truth, objects))
    fit = fit_temperature(iter(clips))
    assert fit.temperature == pytest.approx(2.5, rel=0.06)
    assert fit.after < fit.before
    assert fit.pixels == 2 * 71 * 90
    nll = []
    for p, truth, objects in clips:
        known = np.isin(truth, (0, *objects))
        at = np.array([(0, *objects).index(i) for i in truth[known]])
        nll.append(-np.log(tempered(p, fit.temperature).numpy()[:, known][at, np.arange(len(at))]))
    assert fit.after == pytest.approx(np.concatenate(nll).mean(), rel=1e-4)
    assert fit_temperature(clips, pixels=1000).pixels == 2000
    with pytest.raises(InputError, match="held-out"):
        fit_temperature([(clips[0][0], np.full((80, 90), 255, np.uint8), (1,))])
    with pytest.raises(ValueError, match="frame 0"):
        fit_temperature([(clips[0][0], clips[0][1], (1, 2))])
