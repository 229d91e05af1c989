"""The released weight files of the published networks: where from, how big, which digest, whose licence.

The facts are data (``data/registry.toml``); what is not known there is ``None`` here, never a guess.
"""

from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from lazyvos.types import InputError

UNKNOWN_DIGEST = "unknown: verified by layout only"


@dataclass(frozen=True)
class Release:
    """One released weight file.

    Attributes
    ----------
    name: what ``lazyvos weights pull`` and ``lazyvos.load(..., weights=)`` take.
    network: key of ``lazyvos.hub.NETWORKS``, or ``"sam-hq:MODEL"``.
    file: its name in the cache.
    licence, paper, layout, note: for people to read; ``licence`` may be ``"unknown"``.
    url: direct https address, or ``None``: to be downloaded by hand from ``page``.
    page: web page that offers the file, or ``None``.
    bytes: exact size, or ``None`` where it is not known; ``about`` is a rounded size in words.
    sha256: digest in hexadecimal, or ``None`` where it is not known.
    """

    name: str
    network: str
    file: str
    licence: str
    paper: str
    layout: str
    url: str | None = None
    page: str | None = None
    bytes: int | None = None
    about: str | None = None
    sha256: str | None = None
    note: str = ""

    @property
    def path(self) -> Path:
        """Where the file lies in the cache, whether it is there or not."""
        return weights_folder() / self.file

    @property
    def size(self) -> str:
        """The size in words."""
        if self.bytes:
            return in_words(self.bytes)
        return f"about {self.about}" if self.about else "unknown"

    @property
    def digest(self) -> str:
        """The digest, or a plain sentence that it is not known."""
        return self.sha256 or UNKNOWN_DIGEST


def in_words(size: int) -> str:
    """A number of bytes as ``"43 MB"``."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def weights_folder() -> Path:
    """Folder of downloaded weights: ``LAZYVOS_HOME/weights``, or the user's cache folder without that variable.

    The cache folder is ``XDG_CACHE_HOME/lazyvos``, on Windows ``LOCALAPPDATA/lazyvos``, else ``~/.cache/lazyvos``.
    """
    home = os.environ.get("LAZYVOS_HOME")
    if home:
        return Path(home).expanduser().absolute() / "weights"
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None)
    return (Path(base) if base else Path.home() / ".cache").absolute() / "lazyvos" / "weights"


def _text() -> str:
    beside = Path(__file__).resolve().parents[1] / "data" / "registry.toml"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    try:
        return resources.files("lazyvos_data").joinpath("registry.toml").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise InputError("the package lacks registry.toml, its list of weight files; install lazyvos again") from error


def parse(text: str) -> dict[str, Release]:
    """Releases of a registry in TOML, by name. Raises ``TypeError`` for fields that are missing or not known."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: Release(name=name, **table) for name, table in tables.items()}


@cache
def releases() -> dict[str, Release]:
    """Every released weight file that lazyvos knows of, by name."""
    return parse(_text())


def release(name: str) -> Release:
    """The release of this name; raises :class:`InputError` for an unknown one."""
    if name not in releases():
        raise InputError(f"weights {name!r} are not in the registry; choose one of {', '.join(releases())}")
    return releases()[name]


def releases_of(network: str) -> list[str]:
    """Names of the releases that fill ``network``."""
    return [r.name for r in releases().values() if r.network == network]
