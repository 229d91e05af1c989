"""Fixtures for golden tests: expected numbers from independent reference code, in pairs of .json and .npz.

Set LAZYVOS_GOLDEN to a folder to run the same tests on another set of golden files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder with the golden files: $LAZYVOS_GOLDEN, or this one."""
    folder = Path(os.environ.get("LAZYVOS_GOLDEN") or Path(__file__).parent)
    if not folder.is_dir():
        raise FileNotFoundError(f"LAZYVOS_GOLDEN is {folder}, which is no folder.")
    return folder


@pytest.fixture(scope="session")
def load(golden_dir: Path) -> Iterator[Callable[[str], tuple[dict[str, Any], Any]]]:
    """Function: name -> (manifest dict of NAME.json, open arrays of NAME.npz)."""
    opened: dict[str, tuple[dict[str, Any], Any]] = {}

    def read(name: str) -> tuple[dict[str, Any], Any]:
        if name not in opened:
            manifest = json.loads((golden_dir / f"{name}.json").read_text())
            opened[name] = manifest, np.load(golden_dir / f"{name}.npz")
        return opened[name]

    yield read
    for _, arrays in opened.values():
        arrays.close()
