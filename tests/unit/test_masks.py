"""Label maps, PNG files, COCO RLE, overlays and writers."""
from __future__ import annotations

from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from lazyvos.masks import (
    OVERLAY_COLORS,
    MaskWriter,
    VideoWriter,
    atomic_path,
    davis_palette,
    label_map,
    object_ids,
    one_hot,
    overlay,
    read_mask,
    rle_decode,
    rle_encode,
    write_mask,
)
from lazyvos.types import InputError


@pytest.fixture
def labels():
    found = np.zeros((20, 30), np.uint8)
    found[2:9, 3:12] = 1
    found[10:18, 5:25] = 2
    found[0, 0] = 255
    return found


def test_palette_of_davis():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
                (128, 128, 128), (64, 0, 0), (192, 0, 0)]
    assert [tuple(color) for color in davis_palette()[:10].tolist()] == expected
    assert davis_palette()[255].tolist() == [224, 224, 192]
    assert len({tuple(color) for color in davis_palette().tolist()}) == 256


def test_one_hot_round_trip(labels):
    assert object_ids(labels) == [1, 2]
    planes = one_hot(labels)
    assert planes.shape == (2, 20, 30)
    assert planes.dtype == bool
    np.testing.assert_array_equal(label_map(planes), np.where(labels == 255, 0, labels))
    assert not one_hot(labels, [7])[0].any()
    np.testing.assert_array_equal(np.unique(label_map(planes, [5, 9])), [0, 5, 9])
    overlapping = label_map(np.ones((2, 4, 4), bool))
    assert (overlapping == 2).all(), "the later plane wins"
    with pytest.raises(InputError, match="3 ids"):
        label_map(planes, [1, 2, 3])


def test_palette_png_round_trip(tmp_path, labels):
    write_mask(tmp_path / "sub" / "a.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "sub" / "a.png", (20, 30)), labels)
    with Image.open(tmp_path / "sub" / "a.png") as image:
        assert image.mode == "P"
        assert image.getpixel((5, 5)) == 1
        assert image.convert("RGB").getpixel((5, 5)) == (128, 0, 0)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.png"], "no temporary file stays"


def test_other_kinds_of_mask_image(tmp_path, labels):
    def saved(image, name="m.png"):
        image.save(tmp_path / name)
        return read_mask(tmp_path / name)

    binary = labels == 1
    np.testing.assert_array_equal(saved(Image.fromarray(labels)), labels)
    np.testing.assert_array_equal(saved(Image.fromarray(binary)), binary)
    np.testing.assert_array_equal(saved(Image.fromarray(binary.astype(np.uint8) * 255)), binary)
    np.testing.assert_array_equal(saved(Image.fromarray(np.stack([binary.astype(np.uint8) * 255] * 3, -1))), binary)
    np.testing.assert_array_equal(saved(Image.fromarray(davis_palette()[labels])), labels)
    np.testing.assert_array_equal(saved(Image.fromarray(labels.astype(np.uint16))), labels)
    assert set(np.unique(read_mask(tmp_path / "m.png"))) == {0, 1, 2, 255}
    Image.fromarray(binary.astype(np.uint8) * 255).save(tmp_path / "void.png")
    assert set(np.unique(read_mask(tmp_path / "void.png", white=255))) == {0, 255}


def test_bad_mask_images_are_named(tmp_path, labels):
    write_mask(tmp_path / "a.png", labels)
    with pytest.raises(InputError, match="30x20 but the frames are 64x48"):
        read_mask(tmp_path / "a.png", (48, 64))
    with pytest.raises(InputError, match="does not exist"):
        read_mask(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"c.png is not a mask image"):
        read_mask(tmp_path / "c.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"c.png is not a mask image"):
        read_mask(tmp_path / "c.png")
    Image.fromarray(np.full((4, 4, 3), 77, np.uint8)).save(tmp_path / "d.png")
    with pytest.raises(InputError, match=r"\(77, 77, 77\) at x=0, y=0"):
        read_mask(tmp_path / "d.png")
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "e.png")
    with pytest.raises(InputError, match="labels up to 300"):
        read_mask(tmp_path / "e.png")
    for wrong in (np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 256), np.full((2, 2), 0.5), np.full((2, 2), -1)):
        with pytest.raises(InputError):
            write_mask(tmp_path / "f.png", wrong)
    assert not (tmp_path / "f.png").exists()


def test_atomic_path_keeps_the_old_file(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")

    def half_way():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        half_way()
    assert target.read_text() == "old"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


@settings(max_examples=80, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)), st.booleans())
def test_rle_round_trip(mask, compress):
    code = rle_encode(mask, compress)
    assert code["size"] == list(mask.shape)
    assert isinstance(code["counts"], str if compress else list)
    np.testing.assert_array_equal(rle_decode(code), mask)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 40), st.data())
def test_rle_long_runs(height, width, data):
    flat = np.zeros(height * width, bool)
    cuts = sorted(data.draw(st.lists(st.integers(0, flat.size), max_size=6)))
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        flat[start:end] = True
    mask = flat.reshape(width, height).T
    np.testing.assert_array_equal(rle_decode(rle_encode(mask)), mask)


def test_rle_of_coco():
    """Strings that pycocotools 2.0 writes for these masks."""
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:17] = True
    checker = np.indices((5, 4)).sum(0) % 2 == 1
    rows, columns = np.mgrid[:64, :48]
    disc = (rows - 30) ** 2 + (columns - 20) ** 2 < 300
    for case, expected in COCO.items():
        image = {"box": mask, "checker": checker, "disc": disc, "full": np.ones((7, 9), bool),
                 "none": np.zeros((7, 9), bool)}[case]
        assert rle_encode(image)["counts"] == expected
        np.testing.assert_array_equal(rle_decode({"size": image.shape, "counts": expected.encode()}), image)


COCO = {
    "box": "c26>00000000000000000000000Q8",
    "checker": "11100000000000000000",
    "disc": "k67f16K4L4M2N2N2N2O0O2O0O2O000O2O000000000001N10001N101N101N2N2N2N3L4L5JXc0",
    "full": "0o1",
    "none": "o1",
}


def test_bad_rle():
    for wrong in ({}, {"size": [2, 2]}, {"size": [2, 2], "counts": [1, 2]}, {"size": [2, 2], "counts": "\x7f"},
                  {"size": [2, 2], "counts": [5, -1]}, {"size": 4, "counts": [4]}):
        with pytest.raises(InputError, match="RLE"):
            rle_decode(wrong)


def test_overlay(labels):
    frame = np.full((20, 30, 3), 100, np.uint8)
    drawn = overlay(frame, labels, alpha=0.5, contour=1)
    assert (frame == 100).all(), "the frame itself stays"
    np.testing.assert_array_equal(drawn[0, 0], [100, 100, 100], "void stays clear")
    np.testing.assert_array_equal(drawn[19, 29], [100, 100, 100])
    np.testing.assert_array_equal(drawn[2, 5], OVERLAY_COLORS[0], "contour")
    np.testing.assert_allclose(drawn[5, 7], (100 + OVERLAY_COLORS[0].astype(int)) / 2, atol=1)
    np.testing.assert_allclose(drawn[14, 15], (100 + OVERLAY_COLORS[1].astype(int)) / 2, atol=1)
    wide = overlay(frame, labels, alpha=0, contour=3)
    assert (wide != 100).any(-1).sum() > (overlay(frame, labels, alpha=0, contour=1) != 100).any(-1).sum()
    np.testing.assert_array_equal(overlay(frame), frame)
    with pytest.raises(ValueError, match="label map"):
        overlay(frame, labels[:10])


def test_overlay_entropy_and_clicks():
    frame = np.full((120, 160, 3), 100, np.uint8)
    entropy = np.zeros((120, 160), np.float32)
    entropy[40:50] = 1
    drawn = overlay(frame, entropy=entropy)
    np.testing.assert_array_equal(drawn[:40], 100)
    assert np.abs(drawn[45].astype(int) - 100).max() > 80
    plus = overlay(frame, clicks=[SimpleNamespace(x=50, y=60, positive=True)])
    minus = overlay(frame, clicks=[SimpleNamespace(x=50, y=60, positive=False)])
    shapes = [(image != 100).any(-1) for image in (plus, minus)]
    assert shapes[0].sum() > 50
    assert shapes[0].sum() != shapes[1].sum(), "told apart by shape, not only by colour"
    white = [(image == 255).all(-1) for image in (plus, minus)]
    assert white[0][57:59, 50].all(), "the upright of the plus"
    assert not white[1][57:59, 50].any()
    overlay(frame, clicks=[SimpleNamespace(x=0, y=0, positive=True), SimpleNamespace(x=159, y=119, positive=False)])


def test_mask_writer(tmp_path, labels):
    with MaskWriter(tmp_path / "out", workers=2, pending=3) as writer:
        shared = labels.copy()
        for t in range(20):
            shared[:] = t
            writer.write(t, shared)
        assert writer.write("last", labels) == tmp_path / "out" / "last.png"
    assert len(list((tmp_path / "out").iterdir())) == 21
    for t in range(20):
        assert (read_mask(tmp_path / "out" / f"{t:05d}.png") == t).all(), "later changes do not reach the file"
    writer = MaskWriter(tmp_path / "out")
    writer.write(99, np.full((4, 4), 0.5))
    with pytest.raises(InputError, match="whole numbers"):
        writer.close()
    with pytest.raises(InputError, match="is a file"):
        MaskWriter(tmp_path / "out" / "last.png")


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_video_writer(tmp_path, size):
    path = tmp_path / "new" / "a.mp4"
    with VideoWriter(path, 12.5) as writer:
        for t in range(10):
            writer.write(np.full((*size, 3), 20 * t, np.uint8))
            assert not path.exists()
    assert writer.frames == 10
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12.5)
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
    assert frames[0].shape == (48, 64, 3), "odd sides grow by one"
    np.testing.assert_allclose([frame.mean() for frame in frames], 20 * np.arange(10), atol=4)
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_video_writer_leaves_nothing_half_done(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    frame = np.zeros((48, 64, 3), np.uint8)

    def two_sizes():
        with VideoWriter(path) as writer:
            writer.write(frame)
            writer.write(frame[:, :32])

    with pytest.raises(InputError, match=r"frame 1 .* is 32x48"):
        two_sizes()
    with pytest.raises(InputError, match="float64"), VideoWriter(path) as writer:
        writer.write(frame / 255)
    VideoWriter(path).close()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(InputError, match=r"does not end in .mp4"):
        VideoWriter(tmp_path / "a.gif")
    with pytest.raises(InputError, match="fps is 0"):
        VideoWriter(path, 0)
