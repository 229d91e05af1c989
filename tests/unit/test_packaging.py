"""Packaging: every folder of code is in the wheel, and the library stays free of notebooks."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lazyvos

ROOT = Path(__file__).parents[2]


def test_every_package_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "lazyvos").rglob("__init__.py")}
    assert found <= listed, f"missing in pyproject.toml: {sorted(found - listed)}"


@pytest.mark.parametrize("name", lazyvos.__all__)
def test_every_public_name_exists_and_says_what_it_is(name: str):
    assert len(getattr(lazyvos, name).__doc__ or "") > 20


def test_library_imports_no_notebook_and_no_widget():
    code = (
        "import sys, importlib, lazyvos\n"
        "for name in lazyvos.__all__: getattr(lazyvos, name)\n"
        "import lazyvos.cli\n"
        "print([m for m in ('IPython', 'ipywidgets', 'anywidget', 'lazyvos_widgets') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        lazyvos.nonsense  # noqa: B018
