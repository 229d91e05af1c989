"""Clicks, pseudo-clicks, policies and users: what must hold for any input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from lazyvos.interact import (
    Always,
    Lazy,
    Never,
    Nobody,
    Policy,
    RandomBudget,
    ReplayUser,
    SimulatedUser,
    User,
    distance_field,
    nearest_to_centroid,
    negatives_from_others,
    object_centre,
    other_centres,
    pseudo_click,
    pseudo_point,
)
from lazyvos.types import Action, Click, Correction, Prediction, Request
from lazyvos.uncertainty import dilate_mask

quick = settings(max_examples=50, deadline=None)
sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))
masks = sizes.flatmap(lambda size: hnp.arrays(bool, size, elements=st.booleans(), fill=st.just(True)))
scores = st.floats(0, 2)
changes = st.none() | st.floats(-1, 2)
FRAME = np.zeros((4, 4, 3), np.uint8)


def prediction(t=5, scores=None, deltas=None, labels=None, entropy=None):
    scores = {} if scores is None else scores
    labels = np.zeros((4, 4), np.uint8) if labels is None else labels
    entropy = np.zeros(labels.shape, np.float32) if entropy is None else entropy
    return Prediction(
        t=t,
        labels=labels,
        probabilities=torch.zeros(1 + len(scores), *labels.shape),
        objects=tuple(scores),
        entropy=entropy,
        scores=scores,
        deltas=dict.fromkeys(scores) if deltas is None else deltas,
    )


def padded_distance(mask):
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


# --- clicks


@quick
@given(masks)
def test_distance_field_is_exact(mask):
    field = distance_field(mask)
    assert field.dtype == np.float64
    np.testing.assert_array_equal(field, padded_distance(mask))
    np.testing.assert_array_equal(field > 0, mask)


def test_distance_field_of_a_large_object_is_exact():
    y, x = np.mgrid[:300, :400]
    mask = ((y - 140) ** 2 + (x - 150) ** 2 < 135**2) & ((y - 100) ** 2 + (x - 300) ** 2 > 60**2)
    np.testing.assert_array_equal(distance_field(mask), padded_distance(mask))


@quick
@given(masks)
def test_centres_lie_inside(mask):
    centre, middle = object_centre(mask), nearest_to_centroid(mask)
    assert (centre is None) == (middle is None) == (not mask.any())
    if centre and middle:
        field = padded_distance(mask)
        assert field[centre[1], centre[0]] == field.max()
        assert not (field.ravel()[: centre[1] * mask.shape[1] + centre[0]] == field.max()).any()
        rows, columns = np.nonzero(mask)
        distances = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
        x, y = middle
        assert mask[y, x]
        assert (y - rows.mean()) ** 2 + (x - columns.mean()) ** 2 == pytest.approx(distances.min(), abs=1e-9)


def test_a_frame_full_of_one_object_has_its_centre_in_the_middle():
    assert object_centre(np.ones((5, 9))) == (2, 2)  # first of the deepest row
    assert nearest_to_centroid(np.ones((5, 9))) == (4, 2)


@quick
@given(
    hnp.arrays(np.uint8, (12, 15), elements=st.sampled_from([0, 1, 2, 5, 255])), st.sampled_from([1, 2, 3, 5])
)
def test_negatives_lie_on_the_others(labels, identity):
    clicks = negatives_from_others(labels, identity)
    others = [v for v in (1, 2, 5) if v != identity and (labels == v).any()]
    assert [labels[c.y, c.x] for c in clicks] == others
    assert all(c.object == identity and not c.positive for c in clicks)
    assert other_centres(labels, identity) == [(c.x, c.y) for c in clicks]


def test_more_than_one_mask_is_refused():
    for function in (distance_field, object_centre, nearest_to_centroid):
        with pytest.raises(ValueError, match="mask has shape"):
            function(np.ones((2, 3, 3)))


# --- pseudo-clicks


@quick
@given(
    masks,
    st.sampled_from(["mask", "dilated"]),
    st.sampled_from(["default", "distance_only", "confident_region"]),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_pseudo_click_lies_inside_its_object(mask, field, location, objects, seed):
    entropy = np.random.default_rng(seed).random(mask.shape, dtype=np.float32)
    point = pseudo_point(mask, entropy, field=field, location=location, objects=objects)
    if point is None:
        assert not mask.any() or (field == "dilated" and not (dilate_mask(mask) & mask).any())
        return
    x, y = point
    assert mask[y, x]
    region = dilate_mask(mask)
    depth = padded_distance(region if field == "dilated" else mask)
    confidence = 1 - np.where(region, entropy, 0)
    if location == "default":
        assert depth[y, x] * confidence[y, x] == pytest.approx((mask * depth * confidence).max(), rel=1e-6)
    elif location == "distance_only":
        assert depth[y, x] == (mask * depth).max()
    else:
        confident = mask & (confidence > 1 / objects)
        assert confident[y, x] or not confident.any()


def test_pseudo_click_keeps_away_from_doubt():
    mask = np.zeros((40, 60), bool)
    mask[5:35, 5:55] = True
    entropy = np.zeros(mask.shape, np.float32)
    assert pseudo_point(mask, entropy) == object_centre(mask)
    entropy[:, :30] = 0.9
    x, _ = pseudo_point(mask, entropy)
    assert x >= 30
    assert pseudo_point(mask, entropy, location="distance_only") == object_centre(mask)
    right = mask.copy()
    right[:, :30] = False
    assert pseudo_point(mask, entropy, location="confident_region", objects=2) == object_centre(right)


def test_pseudo_click_with_nothing_to_trust_goes_by_distance():
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    doubt = np.ones(mask.shape, np.float32)
    for location in ("default", "confident_region"):
        assert pseudo_point(mask, doubt, location=location) == object_centre(mask)


def test_pseudo_click_of_a_prediction():
    labels = np.zeros((20, 30), np.uint8)
    labels[4:17, 8:21] = 3
    p = prediction(scores={3: 0.5, 4: 0.0}, labels=labels)
    assert pseudo_click(p, 3) == Click(14, 10, 3, True)
    assert pseudo_click(p, 4) is None


def test_pseudo_click_names_what_does_not_fit():
    mask, entropy = np.ones((4, 4), bool), np.zeros((4, 4), np.float32)
    for options in ({"field": "thesis"}, {"location": "middle"}, {"objects": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            pseudo_point(mask, entropy, **options)
    with pytest.raises(ValueError, match="entropy has shape"):
        pseudo_point(mask, entropy[:2])


# --- policies


def test_policies_and_users_keep_their_protocols():
    for policy in (Lazy(), Never(), Always(), RandomBudget()):
        assert isinstance(policy, Policy)
        assert (policy.pseudo_idu, policy.user_idu) == (False, True)
        assert hash(policy) == hash(type(policy)())
    for user in (Nobody(), SimulatedUser(lambda t: None), ReplayUser([])):
        assert isinstance(user, User)


@quick
@given(
    scores, changes, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["delta", "level"])
)
def test_raising_a_threshold_never_asks_or_refuses_more(score, change, low, high, pseudo, trigger):
    low, high = sorted((low, high))
    p = prediction(scores={1: score}, deltas={1: change})
    before = Lazy(low, min(pseudo, low), low, trigger=trigger)
    after = Lazy(high, min(pseudo, low), high, trigger=trigger)
    if after.decide(p)[1] is Action.ASK:
        assert before.decide(p)[1] is Action.ASK
    if before.decide(p)[1] is Action.ACCEPT and score != low and change != low:
        assert after.decide(p)[1] is Action.ACCEPT
    assert after.admits(p) or not before.admits(p)


@quick
@given(
    st.dictionaries(st.integers(1, 9), st.tuples(scores, changes), max_size=4),
    st.sampled_from(["delta", "level"]),
)
def test_objects_are_decided_one_by_one(objects, trigger):
    s, d = {o: v[0] for o, v in objects.items()}, {o: v[1] for o, v in objects.items()}
    lazy = Lazy(trigger=trigger)
    together = lazy.decide(prediction(scores=s, deltas=d))
    alone = {o: lazy.decide(prediction(scores={o: s[o]}, deltas={o: d[o]}))[o] for o in objects}
    assert together == alone
    assert lazy.admits(prediction(scores=s, deltas=d)) == all(v <= 0.8 for v in s.values())
    if trigger == "delta":
        for o, change in d.items():
            wish = together[o]
            assert (wish is Action.ASK) == (change is not None and change > 0.5)
            assert (wish is Action.PSEUDO) == (change is not None and 0.2 < change < 0.5)


def test_switches_of_lazy():
    p = prediction(scores={1: 0.9, 2: 0.3, 3: 0.1}, deltas={1: 0.6, 2: 0.3, 3: None})
    ask, pseudo, accept = Action.ASK, Action.PSEUDO, Action.ACCEPT
    assert Lazy().decide(p) == {1: ask, 2: pseudo, 3: accept}
    assert Lazy(ask=False).decide(p) == {1: accept, 2: pseudo, 3: accept}
    assert Lazy(pseudo=False).decide(p) == {1: ask, 2: accept, 3: accept}
    assert not Lazy().admits(p)
    assert Lazy(udu=False).admits(p)
    assert Lazy(tau_memory=0.9).admits(p)
    first = prediction(t=0, scores={1: 0.9}, deltas={1: None})
    assert Lazy(trigger="level").decide(first) == {1: accept}
    assert Always().decide(first) == RandomBudget(1.0).decide(first) == {1: accept}
    assert set(Always().decide(p).values()) == {ask}
    assert set(Never().decide(p).values()) == {accept}
    assert Always().admits(p)
    assert Never().admits(p)


def test_random_budget_keeps_its_rate_and_its_draws():
    frames = [prediction(t, {1: 0.1, 2: 0.1}) for t in range(1, 1001)]
    policy = RandomBudget(0.1, seed=3)
    asked = [(p.t, o) for p in frames for o, wish in policy.decide(p).items() if wish is Action.ASK]
    again = [(p.t, o) for p in reversed(frames) for o, wish in policy.decide(p).items() if wish is Action.ASK]
    assert asked == sorted(again)
    assert 140 < len(asked) < 260  # 200 expected, standard deviation 13.4
    assert {t for t, o in asked if o == 1} != {t for t, o in asked if o == 2}
    other = RandomBudget(0.1, seed=4)
    assert asked != [(p.t, o) for p in frames for o, wish in other.decide(p).items() if wish is Action.ASK]


def test_random_budget_leaves_the_rest_alone():
    p = prediction(scores={1: 0.9, 2: 0.3}, deltas={1: 0.6, 2: 0.3})
    assert RandomBudget(0.0).decide(p) == {1: Action.ACCEPT, 2: Action.PSEUDO}
    assert RandomBudget(1.0).decide(p) == {1: Action.ASK, 2: Action.ASK}
    assert not RandomBudget().admits(p)
    assert RandomBudget(rest=Lazy(ask=False, udu=False, pseudo_idu=True)).admits(p)
    assert RandomBudget(rest=Lazy(ask=False, pseudo_idu=True)).pseudo_idu


def test_policies_name_what_is_wrong():
    with pytest.raises(ValueError, match="trigger"):
        Lazy(trigger="jump")
    with pytest.raises(ValueError, match="tau_user"):
        Lazy(tau_user=float("nan"))
    with pytest.raises(ValueError, match="rate"):
        RandomBudget(1.5)
    with pytest.raises(ValueError, match="seed"):
        RandomBudget(seed=-1)
    with pytest.raises(ValueError, match="rest"):
        RandomBudget(rest=Lazy())


# --- users


def ask(t=5, identity=1):
    return Request(t, identity, 0.9, 0.6)


def scene():
    """Truth: object 1 an L, object 2 absent, a strip of void; prediction: both objects elsewhere."""
    truth = np.zeros((20, 30), np.uint8)
    truth[2:18, 3:7] = truth[14:18, 3:25] = 1
    truth[:, 27:] = 255
    labels = np.zeros_like(truth)
    labels[3:8, 20:25], labels[5:12, 24:30] = 1, 2
    return truth, prediction(scores={1: 0.9, 2: 0.9}, labels=labels)


@quick
@given(
    hnp.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 255])),
    st.sampled_from(["centre", "centroid"]),
)
def test_simulated_user_clicks_the_true_object(truth, location):
    user = SimulatedUser(lambda t: truth, location)
    p = prediction(scores={1: 0.9, 2: 0.9}, labels=np.full(truth.shape, 2, np.uint8))
    for identity in (1, 2):
        clicks = user.answer(ask(identity=identity), FRAME, p)
        if (truth == identity).any():
            (click,) = clicks
            assert click.positive
            assert click.object == identity
            assert truth[click.y, click.x] == identity
        elif clicks:
            (click,) = clicks
            assert not click.positive
            assert p.labels[click.y, click.x] == identity
            assert truth[click.y, click.x] != 255
        else:
            assert not ((p.labels == identity) & (truth != 255)).any()


def test_simulated_user_options():
    truth, p = scene()
    assert SimulatedUser(lambda t: truth).answer(ask(), FRAME, p) == (Click(5, 15, 1, True),)
    assert SimulatedUser(lambda t: truth, "centroid").answer(ask(), FRAME, p) == (Click(10, 14, 1, True),)
    (negative,) = SimulatedUser(lambda t: truth).answer(ask(identity=2), FRAME, p)
    assert not negative.positive
    assert p.labels[negative.y, negative.x] == 2
    assert negative.x < 27
    assert SimulatedUser(lambda t: truth, absent="skip").answer(ask(identity=2), FRAME, p) is None
    both = SimulatedUser(lambda t: truth, negative_from_others=True).answer(ask(), FRAME, p)
    assert [(c.object, c.positive) for c in both] == [(1, True), (1, False)]
    assert p.labels[both[1].y, both[1].x] == 2


def test_simulated_user_without_truth_or_prediction_stays_silent():
    truth, p = scene()
    assert SimulatedUser(lambda t: None).answer(ask(), FRAME, p) is None
    assert SimulatedUser(lambda t: truth).answer(ask(identity=3), FRAME, p) is None
    assert Nobody().answer(ask(), FRAME, p) is None


def test_simulated_user_asks_for_the_frame_of_the_request():
    seen = []
    SimulatedUser(seen.append).answer(ask(t=17), FRAME, prediction())
    assert seen == [17]


def test_simulated_user_names_what_is_wrong():
    with pytest.raises(ValueError, match="truth of frame 5"):
        SimulatedUser(lambda t: np.ones((3, 3), np.uint8)).answer(ask(), FRAME, prediction())
    with pytest.raises(ValueError, match="location"):
        SimulatedUser(lambda t: None, "border")
    with pytest.raises(ValueError, match="absent"):
        SimulatedUser(lambda t: None, absent="ignore")


def test_replay_gives_the_recorded_clicks():
    a, b, c = Click(1, 2, 1), Click(3, 4, 1, False), Click(5, 6, 2)
    user = ReplayUser(
        [
            Correction(5, 1, "user", (a,)),
            Correction(5, 2, "pseudo", (c,)),
            Correction(5, 1, "user", (b,)),
            Correction(9, 2, "user", (c,)),
        ]
    )
    assert user.answer(ask(5, 1), FRAME, prediction()) == (a, b)
    assert user.answer(ask(9, 2), FRAME, prediction()) == (c,)
    assert user.answer(ask(5, 2), FRAME, prediction()) is None
    with pytest.raises(ValueError, match="mask"):
        ReplayUser([Correction(5, 1, "mask")])
