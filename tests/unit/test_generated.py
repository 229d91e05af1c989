"""The generated benchmark: repeatable, listed without drawing, exact attributes, and each suite about what it says."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lazyvos.datasets import SUITES, Case, Difficulty, GeneratedBenchmark, Suite, SyntheticClip, open_dataset
from lazyvos.datasets.generated import ATTRIBUTES
from lazyvos.types import InputError

pytest.importorskip("skimage")
SMALL = (72, 112)


def test_listing_draws_nothing(monkeypatch):
    monkeypatch.setattr(SyntheticClip, "__init__", lambda *_, **__: pytest.fail("a clip was drawn"))
    for name, suite in SUITES.items():
        benchmark = open_dataset(f"generated:{name}")
        assert len(benchmark) == len(suite.cases) * len(suite.seeds)
        assert benchmark.protocol == "davis"
        assert benchmark.root is None
        for sequence in benchmark:
            assert (len(sequence), sequence.size, sequence.start) == (suite.length, suite.size, 0)
            assert set(sequence.tags) <= set(ATTRIBUTES)
            assert sequence.entries == dict.fromkeys(sequence.objects, 0)
    assert {tag for tags in GeneratedBenchmark("attributes").tags.values() for tag in tags} == set(ATTRIBUTES)
    assert len(GeneratedBenchmark("long").names) == 6
    assert SUITES["long"].length >= 1000


def test_equal_arguments_equal_pixels():
    for name in GeneratedBenchmark("smoke").names:
        one, other = GeneratedBenchmark("smoke")[name], GeneratedBenchmark("smoke", length=50)[name]
        for t in (0, 17, 5):
            np.testing.assert_array_equal(one.frames.frame(t), other.frames.frame(t))
            np.testing.assert_array_equal(one.mask(t), other.mask(t))
        assert one.description == GeneratedBenchmark("smoke")[name].description
        assert one.description != other.description
    benchmark = GeneratedBenchmark("smoke", seeds=(3, 4), length=5, size=SMALL)
    assert benchmark.names == [f"{case}-s{seed}" for case in ("calm", "hidden", "away") for seed in (3, 4)]
    first, second = benchmark["calm-s3"], benchmark["calm-s4"]
    assert (first.frames.frame(0) != second.frames.frame(0)).mean() > 0.5
    assert len(list(first.frames)) == 5
    assert first.mask(4).shape == SMALL


@pytest.mark.parametrize("name", ["hidden-s0", "away-s0"])
def test_smoke_has_hard_moments(name):
    sequence = GeneratedBenchmark("smoke")[name]
    seen = [facts for t in range(len(sequence)) for facts in sequence.attributes(t).values()]
    assert all(0 <= facts.visible <= 1 and 0 <= facts.outside <= 1 for facts in seen)
    if name == "hidden-s0":
        assert any(facts.occluded for facts in seen)
        assert any(facts.lookalike for facts in seen)
        assert max(facts.drift for facts in seen) == 0
    else:
        assert any(facts.absent and facts.outside > 0.9 for facts in seen)
        assert not seen[-1].absent, "it comes back"
        assert max(facts.drift for facts in seen) > 0


def test_attributes_agree_with_masks():
    sequence = GeneratedBenchmark("mixed", seeds=(1,), length=80, size=SMALL)["hard-s1"]
    for t in range(0, 80, 9):
        labels = sequence.mask(t)
        facts = sequence.attributes(t)
        assert list(facts) == sequence.objects
        for key, found in facts.items():
            assert found.absent == (not (labels == key).any())
            assert found.camera >= 0
            assert 0 <= found.drift <= 1
    assert sequence.attributes(0)[1].scale == 1
    assert sequence.attributes(0)[1].camera == 0


def test_levels_are_graded():
    def worth(attribute, grade):
        sequence = GeneratedBenchmark("graded", seeds=(0,), length=200, size=SMALL)[f"{attribute}-{grade}-s0"]
        facts = [sequence.attributes(t)[1] for t in range(0, 200, 8)]
        return {"drift": np.mean([f.drift for f in facts]), "blur": np.mean([f.blur for f in facts]),
                "camera": np.mean([f.camera for f in facts]), "light": np.std([f.light for f in facts]),
                "scale": np.std([f.scale or 1 for f in facts])}[attribute]

    for attribute in ("drift", "blur", "camera", "light", "scale"):
        easy, hard = worth(attribute, "easy"), worth(attribute, "hard")
        assert hard > 1.3 * easy >= 0, attribute
    assert [len(GeneratedBenchmark("graded")[f"objects-{grade}-s0"].objects) for grade in ("easy", "medium", "hard")] == [3, 4, 6]


def test_drift_changes_the_look_and_nothing_else():
    calm = Difficulty.at(0.5)
    plain = SyntheticClip(2, None, SMALL, objects=2, difficulty=calm)
    drifting = SyntheticClip(2, None, SMALL, objects=2, difficulty=replace(calm, drift=1.0))
    np.testing.assert_array_equal(plain.frame(0), drifting.frame(0))
    t = 170
    np.testing.assert_array_equal(plain.mask(t), drifting.mask(t))
    changed = np.abs(plain.frame(t).astype(int) - drifting.frame(t)).max(-1) > 25
    inside = plain.mask(t) > 0
    assert changed[inside].mean() > 0.4
    grown = np.pad(inside, 4)
    near = np.any([np.roll(grown, (dy, dx), (0, 1)) for dy in range(-4, 5) for dx in range(-4, 5)], axis=0)[4:-4, 4:-4]
    looks = sum(actor.passed(t) for actor in plain.actors)
    assert looks or not changed[~near].any(), "the place stays what it was"
    assert all(actor.drifted(0) == 0 for actor in drifting.actors)
    assert max(actor.drifted(t) for actor in drifting.actors) > 0.5
    assert max(actor.drifted(t) for actor in plain.actors) == 0


def test_old_clips_stay_what_they_were():
    assert Difficulty.at(1.0).drift == Difficulty().drift == 0
    clip = SyntheticClip(3, None, (96, 160), objects=2, difficulty="hard")
    assert all(layer.look is None for layer in clip.scene.layers)


def test_a_suite_of_your_own():
    suite = Suite((Case("mine", Difficulty(blur=2.0), 2, ("blur",)),), (5,), 4, SMALL)
    benchmark = GeneratedBenchmark(suite)
    assert benchmark.names == ["mine-s5"]
    assert benchmark[0].objects == [1, 2]
    with pytest.raises(InputError, match="two cases"):
        GeneratedBenchmark(replace(suite, cases=suite.cases * 2))


@pytest.mark.parametrize(("wrong", "reason"), [({"suite": "none"}, "no suite 'none'; choose from smoke"), ({"seeds": ()}, "seeds"),
                                               ({"seeds": (1, 1)}, "different"), ({"length": 0}, "length"), ({"size": (20, 90)}, "size")])
def test_bad_arguments(wrong, reason):
    with pytest.raises(InputError, match=reason):
        GeneratedBenchmark(**wrong)
