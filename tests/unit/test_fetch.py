"""Downloads against a server on this machine: resumed, checked, atomic, and one sentence where they fail."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lazyvos import fetch as module
from lazyvos.fetch import Fetch, fetch, pull
from lazyvos.registry import Release
from lazyvos.types import InputError

BODY = random.Random(3).randbytes(1_500_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
FAST = Fetch(timeout=5, retries=3, pause=0.01, progress=False, loopback=True)


class Server(ThreadingHTTPServer):
    """Serves ``body`` at any path. ``asked`` keeps the Range header of each request, ``sent`` the bytes given out."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.ranges = BODY, '"one"', True
        self.cuts: list[int] = []  # break the connection after so many bytes, one entry a request
        self.answers: list[int] = []  # status codes to answer first
        self.kind, self.location = "application/octet-stream", ""
        self.slow = 0.0
        self.asked: list[str | None] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, span = self.server, self.headers.get("Range")
        server.asked.append(span)
        if server.answers:
            self.send_response(server.answers.pop(0))
            self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        whole, start = len(server.body), 0
        if span and server.ranges and self.headers.get("If-Range") in (None, server.etag):
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= whole:
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(whole - start))
        self.send_header("Content-Type", server.kind)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        rest = server.body[start:]
        if server.slow:
            threading.Event().wait(server.slow)
        cut = server.cuts.pop(0) if server.cuts else len(rest)
        self.wfile.write(rest[:cut])
        server.sent += min(cut, len(rest))
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def left(folder: Path) -> set[str]:
    """Files in a folder, but for the lock."""
    return {p.name for p in folder.iterdir() if not p.name.endswith(".lock")}


def test_a_file_arrives_whole_with_a_bar_on_stderr(server: Server, tmp_path: Path, capsys):
    target = tmp_path / "deep" / "file.pth"
    assert fetch(server.url, target, size=len(BODY), sha256=DIGEST, how=Fetch(loopback=True)) == target
    assert target.read_bytes() == BODY
    assert left(target.parent) == {"file.pth"}
    shown = capsys.readouterr()
    assert "file.pth" in shown.err
    assert "1.50M/1.50M" in shown.err
    assert shown.out == ""


def test_a_broken_connection_is_resumed_where_it_stopped(server: Server, tmp_path: Path):
    server.cuts = [600_000, 300_000]
    target = fetch(server.url, tmp_path / "file.pth", sha256=DIGEST, how=FAST)
    assert target.read_bytes() == BODY
    assert server.asked == [None, "bytes=600000-", "bytes=900000-"]
    assert server.sent == len(BODY), "no byte was sent twice"


def test_a_later_call_goes_on_with_the_part_of_an_earlier_one(server: Server, tmp_path: Path):
    server.cuts = [400_000]
    with pytest.raises(InputError, match="400000 of 1500000 bytes"):
        fetch(server.url, tmp_path / "file.pth", how=Fetch(retries=0, progress=False, loopback=True))
    assert (tmp_path / "file.pth.part").stat().st_size == 400_000
    assert not (tmp_path / "file.pth").exists()
    fetch(server.url, tmp_path / "file.pth", sha256=DIGEST, how=FAST)
    assert server.asked == [None, "bytes=400000-"]
    assert left(tmp_path) == {"file.pth"}


def interrupted(server: Server, folder: Path) -> Path:
    server.cuts = [400_000]
    with pytest.raises(InputError):
        fetch(server.url, folder / "file.pth", how=Fetch(retries=0, progress=False, loopback=True))
    return folder / "file.pth"


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path):
    target = interrupted(server, tmp_path)
    server.ranges = False
    assert fetch(server.url, target, sha256=DIGEST, how=FAST).read_bytes() == BODY
    assert server.sent == 400_000 + len(BODY)


@pytest.mark.parametrize("etag", ['"two"', ""], ids=["another etag", "no etag"])
def test_a_file_that_changed_meanwhile_starts_again(server: Server, tmp_path: Path, etag: str):
    if not etag:
        server.etag = ""
    target = interrupted(server, tmp_path)
    server.body, server.etag = BODY[::-1] + (b"" if etag else b"more"), etag  # noticed by its tag, or by its size
    assert fetch(server.url, target, how=FAST).read_bytes() == server.body


def test_a_part_of_another_address_is_not_used(server: Server, tmp_path: Path):
    target = interrupted(server, tmp_path)
    server.body = BODY[::-1]
    assert fetch(server.url + "2", target, how=FAST).read_bytes() == BODY[::-1]
    assert server.asked == [None, None]


def test_a_part_that_was_complete_is_checked_without_asking_again(server: Server, tmp_path: Path, monkeypatch):
    def gone(self) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module._Part, "finish", gone)
        with pytest.raises(KeyboardInterrupt):
            fetch(server.url, tmp_path / "file.pth", how=FAST)
    assert fetch(server.url, tmp_path / "file.pth", sha256=DIGEST, how=FAST).read_bytes() == BODY
    assert server.asked == [None]


def test_a_wrong_digest_leaves_no_file_and_says_so(server: Server, tmp_path: Path):
    with pytest.raises(InputError, match=f"{DIGEST} instead of {'0' * 64}.*deleted"):
        fetch(server.url, tmp_path / "file.pth", sha256="0" * 64, how=FAST)
    assert left(tmp_path) == set()


def test_a_wrong_size_is_refused_before_the_download(server: Server, tmp_path: Path):
    with pytest.raises(InputError, match="1500000 bytes where 7 are registered"):
        fetch(server.url, tmp_path / "file.pth", size=7, how=FAST)
    assert left(tmp_path) == set()


def test_passing_errors_are_tried_again_with_growing_pauses(server: Server, tmp_path: Path, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.answers = [503, 429, 500]
    fetch(server.url, tmp_path / "file.pth", how=Fetch(pause=1, progress=False, loopback=True))
    assert pauses == [1, 2, 4]
    server.answers = [503] * 4
    with pytest.raises(InputError, match="503"):
        fetch(server.url, tmp_path / "other.pth", how=Fetch(pause=1, progress=False, loopback=True))
    assert pauses == [1, 2, 4] * 2


def test_a_missing_file_is_not_tried_again(server: Server, tmp_path: Path):
    server.answers = [404]
    with pytest.raises(InputError, match=rf"404.*{tmp_path / 'file.pth'}"):
        fetch(server.url, tmp_path / "file.pth", how=FAST)
    assert len(server.asked) == 1


def test_a_web_page_is_no_weight_file(server: Server, tmp_path: Path):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(InputError, match=r"web page.*browser.*file\.pth"):
        fetch(server.url, tmp_path / "file.pth", how=FAST)
    assert not (tmp_path / "file.pth").exists()


def test_a_silent_server_times_out(server: Server, tmp_path: Path):
    server.slow = 1.0
    with pytest.raises(InputError, match="timed out"):
        fetch(server.url, tmp_path / "file.pth", how=Fetch(timeout=0.1, retries=0, progress=False, loopback=True))


def test_offline_gives_one_sentence_with_the_address_and_the_place(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.pth"
    with pytest.raises(InputError) as refused:
        fetch(url, tmp_path / "file.pth", how=FAST)
    assert url in str(refused.value)
    assert str(tmp_path / "file.pth") in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "refused" in str(refused.value)


@pytest.mark.parametrize("url", ["http://example.org/a.pth", "ftp://example.org/a.pth", "file:///etc/hosts", "http://127.0.0.1:9/a"])
def test_only_https_is_taken(url: str, tmp_path: Path):
    with pytest.raises(InputError, match="not https"):
        fetch(url, tmp_path / "a.pth", how=Fetch(progress=False, loopback=not url.startswith("http://127")))
    assert left(tmp_path) == set()


def test_a_redirect_away_from_https_is_refused(server: Server, tmp_path: Path):
    server.answers, server.location = [302], "http://example.org/a.pth"
    with pytest.raises(InputError, match=r"example\.org.*not https"):
        fetch(server.url, tmp_path / "file.pth", how=FAST)


def test_a_redirect_is_followed(server: Server, tmp_path: Path):
    server.answers, server.location = [302], server.url + "2"
    assert fetch(server.url, tmp_path / "file.pth", sha256=DIGEST, how=FAST).read_bytes() == BODY


def test_too_little_room_is_said_before_anything_is_written(server: Server, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"1\.5 MB more.*1 kB are free"):
        fetch(server.url, tmp_path / "file.pth", how=FAST)
    assert sum(p.stat().st_size for p in tmp_path.glob("file.pth*") if p.suffix == ".part") == 0
    assert not (tmp_path / "file.pth").exists()


def test_processes_that_want_the_same_file_download_it_once(server: Server, tmp_path: Path):
    server.slow = 1.5
    code = (
        "import sys; from pathlib import Path; from lazyvos.fetch import Fetch, fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], how=Fetch(progress=False, loopback=True))"
    )
    words = [sys.executable, "-c", code, server.url, str(tmp_path / "file.pth"), DIGEST]
    running = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [p.communicate(timeout=60)[1] for p in running]
    assert [p.returncode for p in running] == [0, 0], told
    assert len(server.asked) == 1
    assert (tmp_path / "file.pth").read_bytes() == BODY
    assert left(tmp_path) == {"file.pth"}


def item(url: str | None, **more) -> Release:
    return Release(name="net", network="xmem", file="file.pth", licence="MIT", paper="-", layout="-", url=url, **more)


def test_pull_uses_the_cache_and_checks_what_is_there(server: Server, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LAZYVOS_HOME", str(tmp_path))
    known = item(server.url, bytes=len(BODY), sha256=DIGEST)
    path = pull(known, FAST)
    assert path == tmp_path / "weights" / "file.pth"
    assert pull(known, FAST) == path
    assert len(server.asked) == 1
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(InputError, match=r"sha256 is .*delete it"):
        pull(known, FAST)
    assert path.exists(), "a file that a person put there is not deleted"


def test_a_file_without_an_address_is_to_be_put_there_by_hand(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LAZYVOS_HOME", str(tmp_path))
    with pytest.raises(InputError, match=rf"https://page.*{tmp_path / 'weights' / 'file.pth'}"):
        pull(item(None, page="https://page"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "file.pth").write_bytes(b"x")
    assert pull(item(None)).read_bytes() == b"x"
