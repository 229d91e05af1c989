"""Every layout that is read: tiny folders of each, later objects, ranges, sparse truth, and what is missing named."""
from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from lazyvos.datasets import (
    DavisFolder,
    InteractiveDavis,
    LongVideo,
    Lvos,
    Mose,
    PlaylistFolder,
    Vots,
    YouTubeVOS,
    catalog,
    data_folder,
    open_dataset,
    read_regions,
    vot_decode,
    vot_encode,
    write_regions,
)
from lazyvos.datasets.base import PROTOCOLS
from lazyvos.masks import write_mask
from lazyvos.types import InputError

H, W = 12, 16


def frame(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((H, W, 3), value, np.uint8)).save(path, quality=95)


def mask(path, ids=(1,), void=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((H, W), np.uint8)
    for n, label in enumerate(ids):
        labels[2:8, 4 * n:4 * n + 3] = label
    if void:
        labels[-1] = 255
    write_mask(path, labels)


def davis(root, name="bear", frames=4, ids=(1, 2), level="480p"):
    for t in range(frames):
        frame(root / "JPEGImages" / level / name / f"{t:05d}.jpg", 10 * t)
        mask(root / "Annotations" / level / name / f"{t:05d}.png", ids, void=True)


def lists(root, **splits):
    for name, sequences in splits.items():
        file = root / "ImageSets" / name.replace("_", "/", 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".txt").write_text("\n".join(sequences))


def keeps_protocol(dataset, protocol):
    """What `Dataset` and `Sequence` promise, for every sequence."""
    assert dataset.protocol == protocol
    assert protocol in PROTOCOLS
    assert len(dataset) == len(dataset.names) == len(list(dataset))
    for sequence in dataset:
        assert dataset[sequence.name] is sequence
        assert len(sequence.frame_names) == len(sequence) == len(sequence.frames)
        assert sequence.size == sequence.frames.size == (H, W)
        assert sequence.annotated == sorted(set(sequence.annotated))
        assert sequence.objects == [key for key, t in sequence.entries.items() if t == sequence.start]
        assert sequence.start == min(sequence.entries.values())
        assert set(sequence.spans) == set(sequence.entries)
        assert all(0 <= first < end <= len(sequence) for first, end in sequence.spans.values())
        for key, t in sequence.entries.items():
            assert (sequence.mask(t) == key).any()
        assert all((sequence.mask(t) is not None) == (t in sequence.annotated) for t in range(len(sequence)))
        with pytest.raises(IndexError):
            sequence.mask(len(sequence))
    with pytest.raises(InputError, match="no sequence 'zebra'"):
        dataset["zebra"]


def test_davis_names(tmp_path, monkeypatch):
    root = tmp_path / "all" / "DAVIS"
    davis(root, "bear")
    davis(root, "camel", ids=(3,))
    davis(root, "bear", 2, level="Full-Resolution")
    lists(root, **{"2017_val": ["bear"], "2017_train": ["camel"], "2016_val": ["camel", "bear"]})
    monkeypatch.setenv("LAZYVOS_DATA", str(tmp_path / "all"))
    val = open_dataset("davis17-val")
    keeps_protocol(val, "davis")
    assert (val.name, val.names, val.root) == ("davis17-val", ["bear"], root)
    assert val[0].objects == [1, 2]
    assert set(np.unique(val[0].mask(0))) == {0, 1, 2, 255}
    assert val[0].spans == {1: (0, 4), 2: (0, 4)}
    assert open_dataset("davis17-val", split="train").names == ["camel"]
    single = open_dataset("davis16-val")
    keeps_protocol(single, "davis")
    assert single.names == ["camel", "bear"]
    assert single["bear"].objects == [1], "one object, as in DAVIS 2016"
    assert set(np.unique(single["camel"].mask(0))) == {0, 1, 255}
    assert len(open_dataset("davis17-val-full")[0]) == 2
    assert open_dataset(root, split="2017/train").names == ["camel"]
    assert open_dataset(str(root)).names == ["bear", "camel"]
    with pytest.raises(InputError, match=r"test-dev is not in"):
        open_dataset("davis17-test-dev")


def test_reading_is_lazy(tmp_path):
    davis(tmp_path)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"no picture")
    folder = open_dataset(tmp_path)
    assert len(folder[0]) == 4, "nobody looked at the masks"
    with pytest.raises(InputError, match="not a mask image"):
        folder[0].mask(0)


def test_later_objects_and_other_annotations(tmp_path):
    davis(tmp_path, ids=(1,), level="")
    mask(tmp_path / "Annotations" / "bear" / "00002.png", (1, 4))
    for t in (1, 3):
        mask(tmp_path / "Annotations_tracks" / "bear" / f"{t:05d}.png", (9,))
    bear = DavisFolder(tmp_path)["bear"]
    assert (bear.objects, bear.entries) == ([1], {1: 0, 4: 2})
    other = DavisFolder(tmp_path, annotations="Annotations_tracks")["bear"]
    assert (other.start, other.objects, other.annotated) == (1, [9], [1, 3])


def test_interactive_davis(tmp_path):
    davis(tmp_path)
    lists(tmp_path, **{"2017_val": ["bear"]})
    with pytest.raises(InputError, match="Scribbles does not exist"):
        InteractiveDavis(tmp_path)
    strokes = [[], [], [{"path": [[0.1, 0.2], [0.5, 0.6], [0.7, 0.8]], "object_id": 2, "start_time": 0}], []]
    for n in (1, 2):
        file = tmp_path / "Scribbles" / "bear" / f"00{n}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"sequence": "bear", "scribbles": strokes, "annotated_frame": 2}))
    dataset = open_dataset("davis17-interactive-val", tmp_path)
    keeps_protocol(dataset, "interactive")
    assert dataset.samples == [("bear", 1), ("bear", 2)]
    drawn = dataset.scribbles("bear", 2)
    assert (drawn.frame, len(drawn.strokes), drawn.strokes[0].object) == (2, 1, 2)
    np.testing.assert_array_equal(drawn.strokes[0].points, [[0.1, 0.2], [0.5, 0.6], [0.7, 0.8]])
    with pytest.raises(InputError, match=r"003.json does not exist"):
        dataset.scribbles("bear", 3)
    file.write_text(json.dumps({"scribbles": [[{"path": 1}]]}))
    with pytest.raises(InputError, match=r"002.json is no file of scribbles"):
        dataset.scribbles("bear", 2)
    file.write_text(json.dumps({"scribbles": strokes, "annotated_frame": 9}))
    with pytest.raises(InputError, match="frame 9"):
        dataset.scribbles("bear", 2)
    file.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        dataset.scribbles("bear", 2)


def youtube(root, videos=("b1", "a2")):
    meta = {}
    for video in videos:
        for t in range(0, 20, 5):
            frame(root / "valid" / "JPEGImages" / video / f"{t:05d}.jpg", t)
        for t in range(20):
            frame(root / "valid_all_frames" / "JPEGImages" / video / f"{t:05d}.jpg", t)
        mask(root / "valid" / "Annotations" / video / "00000.png", (1, 3))
        mask(root / "valid" / "Annotations" / video / "00010.png", (2,))  # the newcomer alone
        names = [f"{t:05d}" for t in range(0, 20, 5)]
        meta[video] = {"objects": {"1": {"category": "penguin", "frames": names}, "3": {"category": "sheep", "frames": names[:2]},
                                   "2": {"category": "person", "frames": names[2:]}}}
    (root / "valid" / "meta.json").write_text(json.dumps({"videos": meta}))


@pytest.mark.parametrize(("name", "step"), [("ytvos19-valid", 1), ("ytvos18-valid-all", 5)])
def test_youtube_vos(tmp_path, name, step):
    youtube(tmp_path)
    dataset = open_dataset(name, tmp_path)
    keeps_protocol(dataset, "vos")
    assert dataset.names == ["a2", "b1"]
    assert dataset.fps == 6.0 * step
    video = dataset["b1"]
    assert (len(video), video.start, video.objects) == (4 * step, 0, [1, 3])
    assert video.entries == {1: 0, 2: 2 * step, 3: 0}
    assert video.annotated == [0, 2 * step]
    assert video.spans == {1: (0, 3 * step + 1), 2: (2 * step, 3 * step + 1), 3: (0, step + 1)}
    assert video.listed[2] == [2 * step, 3 * step]
    assert video.categories[1] == "penguin"
    assert [video.frame_names[t] for t in video.listed[1]] == ["00000", "00005", "00010", "00015"]
    assert open_dataset(name, tmp_path / "valid").names == dataset.names, "the split's folder itself"


def test_youtube_vos_names_what_is_missing(tmp_path):
    youtube(tmp_path)
    frame(tmp_path / "lonely" / "JPEGImages" / "b1" / "00000.jpg")
    with pytest.raises(InputError, match=r"meta.json does not exist"):
        YouTubeVOS(tmp_path / "lonely")
    dataset = YouTubeVOS(tmp_path)
    (tmp_path / "valid" / "JPEGImages" / "b1" / "00015.jpg").unlink()
    with pytest.raises(InputError, match="lists frame 00015 of b1, object 1"):
        _ = YouTubeVOS(tmp_path)["b1"].entries
    assert dataset["a2"].entries
    file = tmp_path / "valid" / "meta.json"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({"videos": {**meta["videos"], "c3": {"objects": {}}}}))
    with pytest.raises(InputError, match=r"lacks 1 of the videos .*c3"):
        YouTubeVOS(tmp_path)
    file.write_text(json.dumps({"videos": {"b1": []}}))
    with pytest.raises(InputError, match="not of the form"):
        YouTubeVOS(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "meta.json").write_text('{"videos": {}}')
    with pytest.raises(InputError, match="train_all_frames"):
        YouTubeVOS(tmp_path, "train", all_frames=True)


def test_long_video(tmp_path):
    for t in range(12):
        frame(tmp_path / "JPEGImages" / "rat" / f"{t}.jpg", t)
    for t in (0, 5, 10):
        mask(tmp_path / "Annotations" / "rat" / f"{t}.png")
    dataset = open_dataset("lv1", tmp_path)
    assert isinstance(dataset, LongVideo)
    keeps_protocol(dataset, "davis")
    rat = dataset["rat"]
    assert (len(rat), rat.annotated, rat.frame_names[2]) == (12, [0, 5, 10], "2")
    assert rat.mask(1) is None


def lvos(root, split="val"):
    for n, video in enumerate(("v1", "v2")):
        for t in range(8):
            frame(root / split / "JPEGImages" / video / f"{5 * t + 1:08d}.jpg", t)
            mask(root / split / "Annotations" / video / f"{5 * t + 1:08d}.png", (1, 2) if n and t >= 3 else (1,))
    ranges = {"1": {"frame_range": {"start": "00000001", "end": "00000036", "frame_nums": 7}},
              "2": {"frame_range": {"start": "16", "end": "41", "frame_nums": 5}}}
    meta = {"videos": {"v2": {"objects": ranges}, "v1": {"objects": {"1": ranges["1"]}}}}
    (root / split / f"{split}_meta.json").write_text(json.dumps(meta))
    return meta


def test_lvos(tmp_path):
    meta = lvos(tmp_path)
    dataset = open_dataset("lvos-val", tmp_path)
    keeps_protocol(dataset, "lvos")
    assert (dataset.fps, dataset.unseen, dataset["v1"].seen) == (6.0, None, None)
    two = dataset["v2"]
    assert two.numbers[:3] == [1, 6, 11]
    assert two.spans == {1: (0, 7), 2: (3, 8)}, "the end of a range is not in it"
    assert (two.entries, two.objects) == ({1: 0, 2: 3}, [1])
    assert two.frame_names[-1] == "00000036"
    (tmp_path / "unseen_videos.txt").write_text("v2\n")
    assert [sequence.seen for sequence in Lvos(tmp_path)] == [True, False]
    (tmp_path / "unseen_videos.txt").unlink()
    (tmp_path / "val" / "seen_videos.txt").write_text("v2\n")
    assert Lvos(tmp_path).unseen == {"v1"}
    meta["videos"]["v1"]["objects"]["1"] = {"frame_range": {"start": 100, "end": 120}}
    (tmp_path / "val" / "val_meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="range 100 to 120 of v1, object 1, holds no frame"):
        _ = Lvos(tmp_path)["v1"].spans
    meta["videos"]["v1"]["objects"]["1"] = {"first": 1}
    (tmp_path / "val" / "val_meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="no frame_range"):
        _ = Lvos(tmp_path)["v1"].start
    with pytest.raises(InputError, match=r"test_meta.json does not exist"):
        Lvos(tmp_path, "test")


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_vot_regions_round_trip(drawn):
    text = vot_encode(drawn)
    assert (text == "0") == (not drawn.any())
    np.testing.assert_array_equal(vot_decode(text, drawn.shape), drawn)


def test_vot_regions_by_hand():
    drawn = np.zeros((4, 6), bool)
    drawn[1, 2:4] = drawn[2, 3:5] = True
    assert vot_encode(drawn) == "m2,1,3,2,0,2,2,2", "box at (2, 1) of 3x2: two ones, two zeros, two ones"
    np.testing.assert_array_equal(vot_decode("m 2,1,3,2,0,2,2,2", (4, 6)), drawn)
    np.testing.assert_array_equal(vot_decode("m-1,0,2,1,0,2", (2, 2)), [[True, False], [False, False]])
    assert not vot_decode("m7,7,2,2,0,4", (4, 6)).any(), "outside of the frame"
    for code in ("0", "1", "2"):
        assert not vot_decode(code, (4, 6)).any()
    for wrong, reason in (("12.5,3,4,4", "no mask"), ("m1,2", "left, top"), ("m0,0,2,2,9", "add up to 9"), ("mx,1,2,3,4", "left, top")):
        with pytest.raises(InputError, match=reason):
            vot_decode(wrong, (4, 6))


def vots(root, truth=3):
    for n, name in enumerate(("cat", "ants")):
        for t in range(3):
            frame(root / name / "color" / f"{t + 1:08d}.jpg", t)
        (root / name / "sequence").write_text(f"channels.color=color/%08d.jpg\nfps=30\nname={name}\n")
        for key in range(n + 1):
            drawn = np.zeros((truth, H, W), bool)
            drawn[0 if key == 0 else 1:, 2:5, 5 * key:5 * key + 3] = True
            if truth == 1:
                drawn[0, 2:5, 5 * key:5 * key + 3] = True
            write_regions(root / name / (f"groundtruth_o{key + 9}.txt" if n else "groundtruth.txt"), drawn)
    (root / "list.txt").write_text("cat\nants\n")


def test_vots(tmp_path):
    vots(tmp_path)
    dataset = open_dataset("vots2023", tmp_path)
    keeps_protocol(dataset, "vots")
    assert (dataset.names, dataset.fps) == (["cat", "ants"], 30.0)
    ants = dataset["ants"]
    assert ants.object_names == {1: "o9", 2: "o10"}, "10 after 9"
    assert (ants.entries, ants.objects, ants.annotated) == ({1: 0, 2: 1}, [1], [0, 1, 2])
    assert ants.frame_names == ["00000001", "00000002", "00000003"]
    masks = ants.masks(2)
    np.testing.assert_array_equal(ants.mask(2), np.where(masks[2], 2, np.where(masks[1], 1, 0)))
    assert read_regions(tmp_path / "ants" / "groundtruth_o10.txt")[0] == "0"
    assert Vots(tmp_path)["cat"].object_names == {1: "1"}


def test_vots_truth_of_the_first_frame_only(tmp_path):
    vots(tmp_path / "sequences", truth=1)
    dataset = Vots(tmp_path)
    keeps_protocol(dataset, "vots")
    assert dataset["ants"].annotated == [0]
    assert dataset["ants"].spans == {1: (0, 3), 2: (0, 3)}
    (tmp_path / "sequences" / "ants" / "groundtruth_o9.txt").write_text("1,2,3,4\n")
    with pytest.raises(InputError, match=r"line 1 of .*groundtruth_o9.txt.*no mask"):
        Vots(tmp_path)["ants"].mask(0)
    (tmp_path / "sequences" / "list.txt").write_text("cat\nbee\n")
    with pytest.raises(InputError, match=r"lacks 1 of the sequences in list.txt: bee"):
        Vots(tmp_path)
    for file in (tmp_path / "sequences" / "cat").glob("groundtruth*"):
        file.unlink()
    (tmp_path / "sequences" / "list.txt").write_text("cat\n")
    with pytest.raises(InputError, match="cat has no truth"):
        Vots(tmp_path)


def test_mose(tmp_path):
    for t in range(3):
        frame(tmp_path / "MOSE" / "valid" / "JPEGImages" / "m" / f"{t:05d}.jpg")
    mask(tmp_path / "MOSE" / "valid" / "Annotations" / "m" / "00000.png", (1, 2))
    dataset = open_dataset("mose-val", tmp_path)
    assert isinstance(dataset, Mose)
    keeps_protocol(dataset, "vos")
    assert (dataset["m"].annotated, dataset["m"].objects) == ([0], [1, 2])


def test_playlist(tmp_path):
    davis(tmp_path / "small", "dog", level="")
    davis(tmp_path / "small", "cat", level="", ids=(5,))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "long.txt").write_text(
        "small/dog/00000\nsmall/dog/00001\nsmall/cat/00002\n\nsmall/dog/00001\nsmall/dog/00003\n")
    dataset = PlaylistFolder(tmp_path / "lists")
    keeps_protocol(dataset, "davis")
    long = dataset["long"]
    assert (len(long), long.objects, long.frame_names[-1]) == (5, [1, 2], "00004")
    assert not long.mask(2).any(), "the target is absent from another sequence"
    np.testing.assert_array_equal(long.mask(1), long.mask(3))
    assert [round(image.mean()) for image in long.frames] == [0, 10, 20, 10, 30]
    assert round(long.frames.frame(3).mean()) == 10
    for line, reason in (("small/dog", "line 1"), ("small/dog/00009", "00009"), ("small/cow/00000", "cow"), ("", "empty")):
        (tmp_path / "lists" / "long.txt").write_text(line)
        with pytest.raises(InputError, match=reason):
            PlaylistFolder(tmp_path / "lists")


def test_names_and_places(tmp_path, monkeypatch):
    assert {"davis17-val", "ytvos19-valid", "lv1", "lvos-val", "vots2023", "mose-val"} <= set(catalog())
    assert (catalog()["davis17-val"].sequences, catalog()["davis17-val"].objects, catalog()["davis17-val"].frames) == (30, 61, 1999)
    assert catalog()["davis17-train"].sequences is None, "numbers are not taken over"
    assert catalog()["davis17-train"].paper == catalog()["davis17-val"].paper
    monkeypatch.delenv("LAZYVOS_DATA", raising=False)
    monkeypatch.setenv("LAZYVOS_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "datasets"
    with pytest.raises(InputError, match=r"LVOS v1, validation is not in .*datasets.*lazyvos data where lvos-val"):
        open_dataset("lvos-val")
    lvos(tmp_path / "datasets" / "LVOS")
    assert open_dataset("lvos-val").names == ["v1", "v2"]
    with pytest.raises(InputError, match="neither a folder nor a dataset"):
        open_dataset("davis18")
    with pytest.raises(InputError, match="no suite 'huge'"):
        open_dataset("generated:huge")
    assert open_dataset("generated:smoke").name == "generated:smoke"
