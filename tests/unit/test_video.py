"""Sources on real files, written by PyAV: pixels, prefetch, memory, and one clear sentence for what is broken."""
from __future__ import annotations

import functools
import http.server
import struct
import subprocess
import sys
import threading
import time

import av
import cv2
import numpy as np
import pytest

from lazyvos.prefetch import Prefetch
from lazyvos.types import InputError
from lazyvos.video import open_source

H, W = 48, 64


def picture(t):
    """A frame whose number can be read back after lossy coding: two flat halves with known levels."""
    frame = np.zeros((H, W, 3), np.uint8)
    frame[:, : W // 2] = 40 + 4 * (t % 40)
    frame[:, W // 2:] = 40 + 40 * (t // 40 % 5)
    frame[:8, :8] = (220, 20, 20)
    return frame


def number(frame):
    """The frame number that `picture` drew."""
    return round((frame[12:, 4:28].mean() - 40) / 4) + 40 * round((frame[12:, 36:].mean() - 40) / 40)


def write(path, codec="libx264", frames=60, noise=False, **container):
    rng = np.random.default_rng(0)
    options = {"libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}, "libsvtav1": {"preset": "12"}}.get(codec, {})
    with av.open(str(path), "w", options=container) as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        if codec == "mpeg4":
            stream.bit_rate = 3_000_000
        for t in range(frames):
            image = rng.integers(0, 255, (H, W, 3)).astype(np.uint8) if noise else picture(t)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    return write(tmp_path_factory.mktemp("video") / "a.mp4", frames=100)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"),
                                             ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")])
def test_files_forward_and_random(tmp_path, name, codec):
    with open_source(write(tmp_path / name, codec)) as source:
        assert (len(source), source.size, source.fps) == (60, (H, W), 25.0)
        for _ in range(2):  # more than once
            frames = list(source)
            assert [number(frame) for frame in frames] == list(range(60))
            assert all(frame.dtype == np.uint8 and frame.shape == (H, W, 3) for frame in frames)
        for t in (59, 0, 31, 32, 7):
            np.testing.assert_array_equal(source.frame(t), frames[t])
        red = frames[0][2:6, 2:6].mean((0, 1))
        assert red[0] > 150
        assert red[2] < 90, "RGB, not BGR"
        with pytest.raises(IndexError, match="0 to 59"):
            source.frame(60)


def test_edit_list(mp4, tmp_path):
    """Phones trim a video by marking frames as not shown: they are not counted, and frame 0 is the first one shown."""
    path = tmp_path / "trimmed.mp4"
    with av.open(str(mp4)) as whole, av.open(str(path), "w") as out:
        stream = whole.streams.video[0]
        copied = out.add_stream_from_template(stream)
        step = round(1 / 25 / stream.time_base)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                packet.pts -= 30 * step
                packet.dts -= 30 * step
                out.mux(packet)
    source = open_source(path)
    assert len(source) == 70
    assert [number(frame) for frame in source] == list(range(30, 100))
    for t in (0, 69, 11):
        assert number(source.frame(t)) == 30 + t


def test_narrow_video(tmp_path):
    path = tmp_path / "narrow.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 48, 3), 99, np.uint8), "rgb24")))
        out.mux(stream.encode())
    frame = next(iter(open_source(path)))
    assert frame.shape == (64, 48, 3)
    assert abs(frame.mean() - 99) < 3


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this PyAV cannot write AV1")
def test_av1(tmp_path):
    # SVT-AV1 gives the process that encodes a real-time priority where it may (as root), and with it all that the process starts
    # later: a browser then leaves no time to the kernel it waits for. So it encodes in a process of its own.
    code = "import importlib.util as u, sys; s = u.spec_from_file_location('v', sys.argv[1]); m = u.module_from_spec(s); s.loader.exec_module(m)"
    path = tmp_path / "a.mp4"
    subprocess.run([sys.executable, "-c", f"{code}; m.write(sys.argv[2], 'libsvtav1', frames=20)", __file__, str(path)], check=True)
    source = open_source(path)
    assert [number(frame) for frame in source] == list(range(20))
    assert number(source.frame(13)) == 13


def test_rotation_is_applied(mp4, tmp_path):
    data = bytearray(mp4.read_bytes())
    place = data.find(b"tkhd") + 44  # version and flags, times, ids, ... come before the matrix (version 0)
    one = 1 << 16
    data[place:place + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, H * one, 0, 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    source = open_source(path)
    assert source.size == (W, H)
    np.testing.assert_array_equal(source.frame(3), np.rot90(open_source(mp4).frame(3), -1))
    np.testing.assert_array_equal(next(iter(source)), np.rot90(next(iter(open_source(mp4))), -1))


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def broken_files(tmp_path):
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    (tmp_path / "text.txt").write_text("no video\n" * 50)
    (tmp_path / "folder").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 8000
        out.mux(stream.encode(sound))
        out.mux(stream.encode())
    yield tmp_path / "none.mp4", "none.mp4 does not exist"
    yield tmp_path / "zero.mp4", "empty"
    yield tmp_path / "text.mp4", "not a video"
    yield tmp_path / "text.txt", "not a video"
    yield tmp_path / "folder", "no JPEG or PNG"
    yield tmp_path / "sound.mp4", "no pictures"
    yield cut(write(tmp_path / "index_last.mp4", noise=True)), "index is missing"
    yield cut(write(tmp_path / "index_first.mp4", noise=True, movflags="faststart")), r"holds \d\d of the 60"
    yield cut(write(tmp_path / "a.mkv", noise=True)), r"cut off: it holds \d"
    yield cut(write(tmp_path / "a.webm", "libvpx-vp9", noise=True)), r"cut off: it holds \d"
    yield cut(write(tmp_path / "a.avi", "mpeg4", noise=True)), r"cut off: it holds \d"


def test_broken_files_are_named_before_work(tmp_path):
    for path, reason in broken_files(tmp_path):
        with pytest.raises(InputError, match=reason) as caught:
            open_source(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_damage_inside_names_the_frame(tmp_path):
    path = write(tmp_path / "a.mp4", frames=60, noise=True, movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + len(data) // 8] = bytes(len(data) // 8)
    path.write_bytes(data)
    reader, seen = iter(open_source(path)), []
    with pytest.raises(InputError, match=r"at frame \d+ of 60") as caught:
        seen.extend(reader)
    assert f"frame {len(seen)} " in str(caught.value)
    assert 10 < len(seen) < 50


@pytest.mark.parametrize("what", [None, True, 3.5, object()])
def test_other_things_are_refused(what):
    with pytest.raises(InputError, match="gives no frames"):
        open_source(what)


def test_options_are_checked(mp4):
    with pytest.raises(InputError, match="prefetch is -1"):
        open_source(mp4, prefetch=-1)
    with pytest.raises(InputError, match="max_frames is 0"):
        open_source(mp4, max_frames=0)
    short = open_source(mp4, max_frames=5)
    assert (len(short), len(list(short))) == (5, 5)
    with pytest.raises(IndexError):
        short.frame(5)
    assert len(open_source(short, max_frames=3)) == 3
    assert len(short) == 5


def test_no_camera_and_no_stream():
    with pytest.raises(InputError, match="camera 97 cannot be opened"):
        open_source(97)
    with pytest.raises(InputError, match=r"rtsp://127.0.0.1:9/x cannot be opened"):
        open_source("rtsp://user:secret@127.0.0.1:9/x")


def test_http_stream(mp4):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=mp4.parent)
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with open_source(f"http://127.0.0.1:{server.server_port}/a.mp4", max_frames=30) as source:
            assert source.length is None
            assert not source.live, "a file behind an address waits for its reader"
            for _ in range(2):
                assert [number(frame) for frame in source] == list(range(30))
            with pytest.raises(InputError, match="only be read forward"):
                source.frame(0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_folder_in_natural_order(tmp_path):
    for t in range(12):
        cv2.imwrite(str(tmp_path / f"f{t}.{'png' if t % 2 else 'JPG'}"), picture(t)[..., ::-1])
    (tmp_path / ".f3.png").write_bytes(b"hidden")
    (tmp_path / "notes.txt").write_text("x")
    source = open_source(tmp_path)
    assert (len(source), source.size, source.fps) == (12, (H, W), None)
    assert [number(frame) for frame in source] == list(range(12))
    np.testing.assert_array_equal(source.frame(11), picture(11))
    cv2.imwrite(str(tmp_path / "f12.png"), np.zeros((H, W + 2, 3), np.uint8))
    with pytest.raises(InputError, match=r"f12.png is 66x48 but .* 64x48"):
        open_source(tmp_path)
    (tmp_path / "f12.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"f12.png is not an image"):
        open_source(tmp_path)


def test_arrays():
    frames = np.stack([picture(t) for t in range(5)])
    source = open_source(frames)
    assert (len(source), source.size) == (5, (H, W))
    np.testing.assert_array_equal(np.stack(list(source)), frames)
    np.testing.assert_array_equal(source.frame(4), frames[4])
    for wrong, reason in [(frames.astype(np.float32) / 255, "float32"), (frames[..., 0], "shape"),
                          (frames[:0], "shape"), (frames.transpose(0, 3, 1, 2), "shape")]:
        with pytest.raises(InputError, match=reason):
            open_source(wrong)


def test_iterables():
    frames = [picture(t) for t in range(5)]
    source = open_source(frames)
    assert len(source) == 5
    assert len(list(source)) == len(list(source)) == 5
    once = open_source(frame for frame in frames)
    assert once.length is None
    with pytest.raises(TypeError):
        len(once)
    assert [number(frame) for frame in once] == list(range(5))
    with pytest.raises(InputError, match="already used"):
        list(once)
    with pytest.raises(InputError, match="empty"):
        open_source([])
    with pytest.raises(InputError, match="frame 1 of iterable is 32x48"):
        list(open_source([frames[0], frames[0][:, :32]]))
    with pytest.raises(InputError, match="frame 0 of iterable is float"):
        open_source([frames[0] / 255])


def test_prefetch_is_bounded():
    made = 0

    def frames():
        nonlocal made
        for t in range(1000):
            made += 1
            yield picture(t % 100)

    with open_source(frames(), prefetch=4) as source:
        reader = iter(source)
        for taken in range(1, 20):
            next(reader)
            time.sleep(0.005)
            assert made <= taken + 4
    assert made < 40


def test_prefetch_thread_ends_when_the_consumer_stops(mp4):
    def running():
        return sum(thread.name == "lazyvos-prefetch" for thread in threading.enumerate())

    def settled(wanted):
        end = time.monotonic() + 5
        while running() != wanted and time.monotonic() < end:
            time.sleep(0.01)
        return running() == wanted

    assert settled(0)
    for _ in open_source(mp4, prefetch=2):
        assert running() == 1
        break
    assert settled(0), "thrown away"
    source = open_source(mp4, prefetch=2)
    reader = iter(source)
    next(reader)
    source.close()
    assert settled(0), "closed"
    assert list(reader) == []
    assert len(list(source)) == 100, "a closed source can be read again"


def test_prefetch_raises_in_the_consumer_after_the_items_before():
    def items():
        yield 1
        yield 2
        raise OSError("gone")

    reader = Prefetch(items(), 8)
    assert [next(reader), next(reader)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(reader)
    assert list(reader) == []


def test_live_drops_old_frames():
    taken = threading.Event()

    def items():
        yield 0
        taken.wait(5)
        yield from range(1, 100)

    reader = Prefetch(items(), 3, live=True)
    assert next(reader) == 0
    taken.set()
    end = time.monotonic() + 5
    while reader.dropped < 96 and time.monotonic() < end:
        time.sleep(0.005)
    assert list(reader) == [97, 98, 99]
    assert reader.dropped == 96


def resident():
    """Memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_long_file_costs_no_memory(tmp_path):
    path = write(tmp_path / "long.mp4", frames=2500)
    for seen, _ in enumerate(open_source(path), 1):
        if seen % 5 == 0:
            time.sleep(0.001)  # a decoder must not run away from a slow reader
        if seen == 500:
            before = resident()
    assert seen == 2500
    assert resident() - before < 6 << 20, "2000 frames of this size are 18 MB"
