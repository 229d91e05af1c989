"""Weight files over https: resumed where they stopped, checked before they count, never half in place."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from tqdm import tqdm

from lazyvos.registry import Release, in_words
from lazyvos.types import InputError

CHUNK = 1 << 18
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class _Broken(Exception):
    """The connection failed in a way that may pass."""


@dataclass(frozen=True)
class Fetch:
    """How to download.

    ``timeout`` seconds without an answer end an attempt; ``retries`` more follow, after ``pause``, 2·``pause``,
    4·``pause`` … seconds. ``progress`` draws a bar on stderr. ``loopback`` allows ``http://`` to this machine (for tests).
    """

    timeout: float = 30.0
    retries: int = 3
    pause: float = 1.0
    progress: bool = True
    loopback: bool = False


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pull(release: Release, how: Fetch | None = None) -> Path:
    """Path of a released weight file in the cache; downloads it when it is not there.

    A file that is there, downloaded or put there by hand, is checked against the size and digest of the registry,
    as far as these are known. Raises :class:`InputError` for one that differs, for a file that has to be
    downloaded by hand, and where the network fails; each sentence says where the file has to lie.
    """
    path = release.path
    if not path.is_file():
        if release.url is None:
            where = f"open {release.page} in a browser" if release.page else "ask its authors for it"
            raise InputError(f"weights {release.name!r} have no direct address: {where} and put the file at {path}")
        return fetch(release.url, path, size=release.bytes, sha256=release.sha256, how=how)
    wrong = mismatch(path, release.bytes, release.sha256)
    if wrong:
        raise InputError(f"{path} is not the released file of {release.name!r}: {wrong}; delete it and pull again")
    return path


def mismatch(path: Path, size: int | None, sha256: str | None) -> str | None:
    """What is wrong with a file, in words; ``None`` when its size and digest are as given (``None`` = not known)."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"it has {found} bytes instead of {size}"
    if sha256 is not None and (digest := sha256_of(path)) != sha256:
        return f"its sha256 is {digest} instead of {sha256}"
    return None


def fetch(url: str, target: Path, *, size: int | None = None, sha256: str | None = None, how: Fetch | None = None) -> Path:
    """Download ``url`` to ``target``; atomic, resumable, safe against other processes doing the same.

    Parts are kept in ``target + ".part"`` and continued by a later call, unless the file at the server has changed.
    ``size`` (bytes) and ``sha256`` are checked before the file takes its place; a wrong file is deleted.
    Raises :class:`InputError` for an address that is not https, too little room on the disk, a wrong size or digest,
    and when the server cannot be reached.
    """
    how = how or Fetch()
    _allowed(url, how.loopback)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {target.parent} cannot be made ({error.strerror}); set LAZYVOS_HOME to one that can") from error
    with _alone(target):
        if target.is_file() and mismatch(target, size, sha256) is None:
            return target  # another process was faster
        part = _Part(target, url)
        for attempt in range(how.retries + 1):
            try:
                _continue(url, part, size, how)
                break
            except _Broken as error:
                if attempt == how.retries:
                    raise InputError(
                        f"cannot download {url} ({error}); go on later with the same command, or put the file at {target}"
                    ) from error
                time.sleep(how.pause * 2**attempt)
        wrong = mismatch(part.path, size, sha256)
        if wrong:
            part.drop()
            raise InputError(
                f"what came from {url} is not the registered file: {wrong}; it was deleted; "
                f"pull again, or put the right file at {target}"
            )
        part.finish()
    return target


class _Part:
    """A partial download and what is known of it: ``FILE.part`` and ``FILE.part.json``."""

    def __init__(self, target: Path, url: str) -> None:
        self.target, self.url = target, url
        self.path = target.with_name(target.name + ".part")
        self._facts = target.with_name(target.name + ".part.json")
        try:
            known: dict[str, Any] = json.loads(self._facts.read_text())
        except (OSError, ValueError):
            known = {}
        if known.get("url") != url:
            self.drop()
            known = {}
        self.total: int | None = known.get("total")
        self.etag: str | None = known.get("etag")

    @property
    def done(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._facts.unlink(missing_ok=True)
        self.total = self.etag = None

    def begin(self, total: int | None, etag: str | None) -> None:
        """Start again from nothing."""
        self.path.write_bytes(b"")
        self.total, self.etag = total, etag
        self._facts.write_text(json.dumps({"url": self.url, "total": total, "etag": etag}))

    def finish(self) -> None:
        os.replace(self.path, self.target)
        self._facts.unlink(missing_ok=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold a lock on ``target`` against other processes; says so when it has to wait. It ends with its process."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is downloading {target.name}; waiting for it", file=sys.stderr)
        lock.acquire()
    except OSError as error:
        raise InputError(f"folder {target.parent} cannot be written ({error.strerror}); set LAZYVOS_HOME to one that can") from error
    try:
        yield
    finally:
        lock.release()


def _allowed(url: str, loopback: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise InputError(f"address {url} is not https, so anybody on the way could change the file; give an https address")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not to an address that would itself be refused."""

    def __init__(self, loopback: bool) -> None:
        self._loopback = loopback

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _allowed(newurl, self._loopback)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, part: _Part, how: Fetch) -> http.client.HTTPResponse:
    headers = {"User-Agent": "lazyvos", "Accept-Encoding": "identity"}
    if part.done:
        headers["Range"] = f"bytes={part.done}-"
        if part.etag:
            headers["If-Range"] = part.etag
    handlers: list[urllib.request.BaseHandler] = [_Redirects(how.loopback)]
    if urlsplit(url).scheme == "http":
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        answer = urllib.request.build_opener(*handlers).open(urllib.request.Request(url, headers=headers), timeout=how.timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.drop()
            raise _Broken("the server no longer has the part that was left") from error
        if error.code in _PASSING:
            raise _Broken(f"the server answers {error.code} {error.reason}") from error
        raise InputError(f"{url} answers {error.code} {error.reason}; download the file by hand and put it at {part.target}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(getattr(error, "reason", None) or error) or type(error).__name__) from error
    assert isinstance(answer, http.client.HTTPResponse)
    return answer


def _continue(url: str, part: _Part, size: int | None, how: Fetch) -> None:
    """One attempt: from where the part ends to the end of the file."""
    if part.total is not None and part.done == part.total:
        return
    with _open(url, part, how) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise InputError(f"{url} gives a web page instead of the file; download it in a browser and put it at {part.target}")
        total = _announced(answer, part)
        if size is not None and total is not None and total != size:
            part.drop()
            raise InputError(f"{url} offers {total} bytes where {size} are registered, so it is not that file; put the right one at {part.target}")
        _room(part, (total or size or 0) - part.done)
        bar = tqdm(total=total or size, initial=part.done, unit="B", unit_scale=True, unit_divisor=1000, desc=part.target.name,
                   file=sys.stderr, disable=not how.progress, mininterval=0.5)  # fmt: skip
        with bar, open(part.path, "ab") as out:
            while chunk := _read(answer):
                out.write(chunk)
                bar.update(len(chunk))
            out.flush()
            os.fsync(out.fileno())
    if total is not None and part.done < total:
        raise _Broken(f"the connection ended after {part.done} of {total} bytes")


def _announced(answer: http.client.HTTPResponse, part: _Part) -> int | None:
    """Size of the whole file as the server says it; the part is emptied unless the answer continues it."""
    length = answer.headers.get("Content-Length")
    if answer.status == 206:
        span, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        start = span.partition("-")[0]
        if start == str(part.done) and whole.isdecimal() and part.total in (None, int(whole)):
            return int(whole)
        part.drop()
        raise _Broken("the file at the server has changed")
    total = int(length) if length and length.isdecimal() else None
    etag = answer.headers.get("ETag")
    part.begin(total, None if etag is None or etag.startswith("W/") else etag)
    return total


def _room(part: _Part, wanted: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if wanted > free:
        raise InputError(
            f"{part.target.name} needs {in_words(wanted)} more, and only {in_words(free)} are free in {part.path.parent}; "
            "make room, or set LAZYVOS_HOME to another disk"
        )


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error
