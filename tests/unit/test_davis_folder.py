"""DAVIS-layout folders: both layouts, splits, lazily read masks, and what is missing named before work."""
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lazyvos.datasets import DavisFolder
from lazyvos.masks import write_mask
from lazyvos.types import InputError

H, W = 12, 16


def build(root, names=("bear", "camel"), frames=4, nested="", annotated=range(4)):
    for n, name in enumerate(names):
        images, masks = (root / top / nested / name for top in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t in range(frames):
            Image.fromarray(np.full((H, W, 3), 10 * t + n, np.uint8)).save(images / f"{t:05d}.jpg", quality=95)
            if t in annotated:
                labels = np.zeros((H, W), np.uint8)
                labels[t:t + 4, 2:6] = 1
                labels[t:t + 3, 8:12] = 3
                labels[-1] = 255
                write_mask(masks / f"{t:05d}.png", labels)
    return root


def split(root, name, text):
    path = root / "ImageSets" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("nested", ["", "480p"])
def test_sequences(tmp_path, nested):
    folder = DavisFolder(build(tmp_path, nested=nested))
    assert folder.names == ["bear", "camel"]
    assert len(folder) == 2
    bear = folder["bear"]
    assert (bear.name, len(bear), bear.size, bear.start, bear.objects) == ("bear", 4, (H, W), 0, [1, 3])
    assert [round(frame.mean()) for frame in bear.frames] == [0, 10, 20, 30]
    mask = bear.mask(2)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1, 3, 255}
    assert mask[2, 2] == 1
    assert folder[1].name == "camel"
    with pytest.raises(InputError, match="no sequence 'dog'; it has bear, camel"):
        folder["dog"]
    with pytest.raises(IndexError, match="0 to 3"):
        bear.mask(4)


def test_splits(tmp_path):
    build(tmp_path, names=("a", "b", "c"))
    split(tmp_path, "val.txt", "c\n\na\n")
    split(tmp_path, "2017/train.txt", "b\n")
    split(tmp_path, "2016/old.txt", "/JPEGImages/480p/b/00000.jpg /Annotations/480p/b/00000.png\n"
                                    "/JPEGImages/480p/b/00001.jpg /Annotations/480p/b/00001.png\n"
                                    "/JPEGImages/480p/a/00000.jpg /Annotations/480p/a/00000.png\n")
    assert DavisFolder(tmp_path, "val").names == ["c", "a"]
    assert DavisFolder(tmp_path, "val.txt").names == ["c", "a"]
    assert DavisFolder(tmp_path, "train").names == DavisFolder(tmp_path, "2017/train").names == ["b"]
    assert DavisFolder(tmp_path, "old").names == ["b", "a"]
    elsewhere = tmp_path / "mine.txt"
    elsewhere.write_text("b\n")
    assert DavisFolder(tmp_path, elsewhere).names == ["b"]
    with pytest.raises(InputError, match="no split test; it has 2016/old, 2017/train, val"):
        DavisFolder(tmp_path, "test")
    split(tmp_path, "wrong.txt", "a\nzebra\n")
    with pytest.raises(InputError, match="sequence zebra has no frames"):
        DavisFolder(tmp_path, "wrong")
    split(tmp_path, "empty.txt", "\n")
    with pytest.raises(InputError, match=r"empty.txt is empty"):
        DavisFolder(tmp_path, "empty")


def test_masks_of_some_frames_only(tmp_path):
    bear = DavisFolder(build(tmp_path, annotated=(1, 3)))["bear"]
    assert sorted(bear.annotations) == [1, 3]
    assert bear.start == 1
    assert bear.mask(0) is None
    assert bear.mask(3) is not None


def test_first_mask_without_object(tmp_path):
    build(tmp_path, names=["bear"])
    write_mask(tmp_path / "Annotations" / "bear" / "00000.png", np.zeros((H, W), np.uint8))
    bear = DavisFolder(tmp_path)["bear"]
    assert (bear.start, bear.objects) == (1, [1, 3])
    for t in range(4):
        write_mask(tmp_path / "Annotations" / "bear" / f"{t:05d}.png", np.full((H, W), 255 * (t % 2), np.uint8))
    with pytest.raises(InputError, match="no mask of sequence bear holds an object"):
        DavisFolder(tmp_path)


def test_black_and_white_masks(tmp_path):
    build(tmp_path, names=["bear", "camel"])
    for name, values in (("bear", (255, 255, 255, 255)), ("camel", (7, 255, 255, 255))):
        for t, value in enumerate(values):
            labels = np.zeros((H, W), np.uint8)
            labels[2:5, 2:5] = value
            Image.fromarray(labels).save(tmp_path / "Annotations" / name / f"{t:05d}.png")
    folder = DavisFolder(tmp_path)
    assert folder["bear"].objects == [1], "white is the object, as in DAVIS 2016"
    assert set(np.unique(folder["bear"].mask(1))) == {0, 1}
    assert folder["camel"].objects == [7]
    assert set(np.unique(folder["camel"].mask(1))) == {0, 255}, "white is void beside labels"


def test_wrong_sizes_are_named_before_work(tmp_path):
    build(tmp_path)
    wrong = tmp_path / "Annotations" / "camel" / "00002.png"
    write_mask(wrong, np.ones((H, W + 4), np.uint8))
    with pytest.raises(InputError, match=r"camel/00002.png is 20x12 but the frames are 16x12"):
        DavisFolder(tmp_path)
    with pytest.raises(InputError, match="20x12"):
        DavisFolder(tmp_path, check=False)["camel"].mask(2)
    write_mask(wrong, np.ones((H, W), np.uint8))
    Image.fromarray(np.zeros((H, W + 2, 3), np.uint8)).save(tmp_path / "JPEGImages" / "bear" / "00003.jpg")
    with pytest.raises(InputError, match=r"bear/00003.jpg is 18x12"):
        DavisFolder(tmp_path)


def test_missing_parts(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        DavisFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="JPEGImages does not exist"):
        DavisFolder(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(InputError, match="holds no sequences"):
        DavisFolder(tmp_path)
    (tmp_path / "JPEGImages" / "bear").mkdir()
    with pytest.raises(InputError, match="Annotations does not exist"):
        DavisFolder(tmp_path)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(InputError, match="sequence bear has no frames"):
        DavisFolder(tmp_path)
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / "JPEGImages" / "bear" / "00000.jpg")
    with pytest.raises(InputError, match="sequence bear has no masks"):
        DavisFolder(tmp_path)
    (tmp_path / "Annotations" / "bear").mkdir()
    write_mask(tmp_path / "Annotations" / "bear" / "00009.png", np.ones((H, W), np.uint8))
    with pytest.raises(InputError, match=r"00009.png belongs to no frame"):
        DavisFolder(tmp_path)


def test_several_resolutions(tmp_path):
    build(tmp_path, nested="480p")
    build(tmp_path, nested="1080p", frames=2, annotated=range(2))
    assert len(DavisFolder(tmp_path)["bear"]) == 4, "480p by default"
    assert len(DavisFolder(tmp_path, resolution="1080p")["bear"]) == 2
    with pytest.raises(InputError, match="240p does not exist; there are 480p, 1080p"):
        DavisFolder(tmp_path, resolution="240p")
