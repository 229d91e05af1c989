"""The clip generator and the bundled clip: repeatable, exact, bounded, and as hard as it says."""
from __future__ import annotations

import numpy as np
import pytest

from lazyvos.datasets import Clip, Difficulty, PackedMasks, SyntheticClip, bundled_clip, open_bundled
from lazyvos.datasets.bundled import FPS, LENGTH, SIZE
from lazyvos.datasets.scene import Layer, Pose, Scene
from lazyvos.types import InputError
from lazyvos.video import Source, open_source

pytest.importorskip("skimage")
SMALL = (96, 160)


def test_frame_depends_on_seed_and_number_alone():
    one = SyntheticClip(3, 200, SMALL, objects=2, difficulty="hard")
    other = SyntheticClip(3, None, SMALL, objects=2, difficulty="hard")
    for t in (150, 3, 77, 3):  # any order
        np.testing.assert_array_equal(one.frame(t), other.frame(t))
        np.testing.assert_array_equal(one.mask(t), other.mask(t))
    changed = SyntheticClip(4, 200, SMALL, objects=2, difficulty="hard")
    assert (changed.frame(3) != one.frame(3)).mean() > 0.5


def test_it_is_a_source():
    clip = SyntheticClip(1, 6, SMALL)
    assert isinstance(clip, Source)
    assert open_source(clip) is clip
    frames = list(clip)
    assert (len(clip), len(frames), clip.size, clip.fps) == (6, 6, SMALL, 25.0)
    assert all(frame.dtype == np.uint8 and frame.shape == (*SMALL, 3) for frame in frames)
    for t, (frame, mask) in enumerate(clip.pairs()):
        np.testing.assert_array_equal(frame, frames[t])
        assert mask.dtype == np.uint8
        assert mask.shape == SMALL
    with pytest.raises(IndexError):
        clip.frame(6)
    with pytest.raises(IndexError):
        clip.mask(-1)
    endless = open_source(SyntheticClip(1, None, SMALL), max_frames=4)
    assert len(list(endless)) == 4
    assert SyntheticClip(1, None, SMALL).frame(10**7).shape == (*SMALL, 3)


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_all_objects_start_visible_and_states_agree_with_masks(seed, objects):
    clip = SyntheticClip(seed, None, SMALL, objects=objects, difficulty="hard")
    assert clip.objects == list(range(1, objects + 1))
    assert all(state.visible >= 0.5 for state in clip.states(0))
    for t in range(0, 300, 23):
        mask = clip.mask(t)
        assert set(np.unique(mask)) <= {0, *clip.objects}
        for state in clip.states(t):
            rows, columns = np.nonzero(mask == state.object)
            assert state.absent == (len(rows) == 0)
            assert 0 <= state.visible <= 1
            if not state.absent:
                assert state.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_difficulty_is_graded():
    def measured(level):
        hidden = gone = 0
        for seed in range(3):
            clip = SyntheticClip(seed, None, SMALL, difficulty=level)
            for t in range(0, 600, 6):
                state, = clip.states(t)
                gone += state.absent and not state.occluded
                hidden += state.occluded
        return hidden, gone

    assert measured("easy") == (0, 0)
    medium, hard = measured("medium"), measured("hard")
    assert 0 < sum(medium) < sum(hard) < 250
    assert min(hard) > 0, "both hidden and out of the frame"
    assert Difficulty.at(0.0).occlusion < Difficulty.at(0.5).occlusion < Difficulty.at(1.0).occlusion
    easy, tough = (SyntheticClip(0, None, SMALL, difficulty=level) for level in (0.0, 1.0))
    change = [np.mean([np.abs(clip.frame(t + 5).astype(int) - clip.frame(t)).mean() for t in range(0, 60, 20)])
              for clip in (easy, tough)]
    assert change[1] > 1.5 * change[0]


def test_mask_is_exact():
    """A known square on a black ground, moved, turned by a quarter and partly covered."""
    square = np.full((20, 10, 4), 255, np.uint8)
    cover = np.full((40, 4, 4), (0, 0, 0, 255), np.uint8)
    scene = Scene((60, 80), np.zeros((60, 80, 3), np.uint8), lambda t: Pose(39.5, 29.5), (
        Layer(square, lambda t: Pose(20.5 + t, 30.5, angle=np.pi / 2), 1),
        Layer(cover, lambda t: Pose(40.5, 30.5) if t >= 15 else None),
    ))
    clip = Clip("square", scene, 100)
    white = clip.frame(0)[..., 0] > 127
    np.testing.assert_array_equal(clip.mask(0) == 1, white)
    assert abs(white.sum() - 200) <= 30, "20 by 10 pixels with soft edges"
    assert np.ptp(np.nonzero(white)[1]) > np.ptp(np.nonzero(white)[0]), "lies on its side"
    np.testing.assert_array_equal(clip.mask(20) == 1, clip.frame(20)[..., 0] > 127)
    state, = clip.states(20)
    assert state.occluded
    assert 0.7 < state.visible < 0.9
    state, = clip.states(60)
    assert 0.2 < state.visible < 0.8, "half outside"
    assert not state.occluded
    state, = clip.states(99)
    assert state.absent
    assert state.visible == 0


def test_memory_does_not_grow():
    clip = SyntheticClip(5, None, SMALL, difficulty="hard")
    import tracemalloc

    for t in range(50):
        clip.frame(t)
    tracemalloc.start()
    try:
        for t in range(50, 400):
            clip.frame(t)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 1 << 20, "one frame of this size is 46 kB; 350 would be 16 MB"


@pytest.mark.parametrize(("wrong", "reason"), [
    ({"seed": -1}, "seed"), ({"length": 0}, "length"), ({"size": (40, 400)}, "size"), ({"objects": 0}, "objects"),
    ({"difficulty": "brutal"}, "brutal"), ({"difficulty": 1.5}, "1.5"), ({"act": 3}, "act"), ({"kinds": ("dog",)}, "dog"),
])
def test_bad_arguments(wrong, reason):
    with pytest.raises(InputError, match=reason):
        SyntheticClip(**wrong)


def test_bad_difficulty():
    with pytest.raises(InputError, match="noise is -1"):
        Difficulty(noise=-1)
    with pytest.raises(InputError, match="add up"):
        Difficulty(occlusion=0.7, absence=0.7)


def test_bundled_clip_tells_its_story():
    clip = bundled_clip()
    assert (len(clip), clip.size, clip.fps, clip.objects) == (LENGTH, SIZE, FPS, [1])
    start, = clip.states(0)
    assert start.visible > 0.99
    pillar, = clip.states(45)
    assert 0.4 < pillar.visible < 0.9
    wall, = clip.states(92)
    assert wall.absent
    assert wall.occluded
    gone, = clip.states(147)
    assert gone.absent
    assert not gone.occluded
    back, = clip.states(175)
    assert back.visible > 0.9
    assert (clip.mask(175) > 0).sum() > 1.5 * (clip.mask(0) > 0).sum(), "nearer"


def test_bundled_files_hold_what_the_generator_draws():
    source, masks = open_bundled()
    clip = bundled_clip()
    assert (len(source), source.size, source.fps) == (LENGTH, SIZE, FPS)
    assert len(masks) == LENGTH
    for t in (0, 45, 92, 118, 147, 199):
        near = (masks[t] != clip.mask(t)).mean()
        assert near < 0.001, "rounding may differ between OpenCV versions, the mask may not"
        assert np.abs(source.frame(t).astype(int) - clip.frame(t)).mean() < 6, "only coding losses"
        assert masks.visible[t] == pytest.approx(clip.states(t)[0].visible, abs=0.01)
    assert len(masks[10:13]) == 3
    assert masks[-1].shape == SIZE


def test_packed_masks_round_trip(tmp_path):
    clip = SyntheticClip(2, 12, (70, 100))
    packed = PackedMasks.of(clip)
    packed.save(tmp_path / "m.npz")
    loaded = PackedMasks.load(tmp_path / "m.npz")
    for t in range(12):
        np.testing.assert_array_equal(loaded[t], clip.mask(t))
    np.testing.assert_array_equal(loaded.visible, packed.visible)


def test_bundled_files_are_small():
    from lazyvos.datasets.bundled import MASKS, VIDEO, sample

    assert sample(VIDEO).stat().st_size < 1_500_000
    assert sample(MASKS).stat().st_size < 300_000
    with pytest.raises(InputError, match="lacks its sample"):
        sample("none.mp4")
