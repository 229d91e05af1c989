"""torchvision beside a torch that its compiled operators do not fit; and SAM-HQ without its optional packages."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from lazyvos.refine import torchvision_ops
from lazyvos.refine.sam_hq import SamHqRefiner
from lazyvos.refine.sam_hq_net import sam_hq_package
from lazyvos.types import InputError

REAL = """
import importlib, sys, torch
from lazyvos.refine.torchvision_ops import import_torchvision, _declared
try:
    importlib.import_module("torchvision")
    broken = False
except RuntimeError:
    broken = True
    assert "torchvision" not in sys.modules
found = import_torchvision()
import torchvision
assert torchvision is found is import_torchvision()
assert len(_declared) == broken, (broken, _declared)
assert hasattr(torch.ops.torchvision, "nms") and hasattr(torch.ops.torchvision, "qnms") or not broken
from torchvision.transforms.functional import resize
picture = torch.arange(64.0).reshape(1, 8, 8)
assert torch.allclose(resize(picture, [4, 4], antialias=False).mean(), picture.mean())
boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1]]), torch.tensor([0.5, 0.9])
try:
    assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [1] and not broken
except RuntimeError as error:
    assert broken and "custom C++ ops" in str(error), error
print("broken" if broken else "whole")
"""


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_works_and_only_what_is_missing_is_declared():
    """A fresh interpreter: the import of torchvision can be tried but once. The operators without kernel say so."""
    run = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() in ("broken", "whole")


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    made: list[object] = []
    monkeypatch.setattr(torchvision_ops, "_declare", lambda: made.append(1))
    return made


def importer(monkeypatch: pytest.MonkeyPatch, *outcomes: ModuleType | Exception) -> list[str]:
    """Successive imports give or raise ``outcomes``; returns the names asked for."""
    asked, left = [], list(outcomes)

    def fake(name: str) -> ModuleType:
        asked.append(name)
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(importlib, "import_module", fake)
    return asked


def test_a_torchvision_that_fits_is_left_alone(monkeypatch: pytest.MonkeyPatch, declared: list[object]):
    whole = ModuleType("torchvision")
    importer(monkeypatch, whole)
    assert torchvision_ops.import_torchvision() is whole
    assert declared == []


def test_the_schemas_are_declared_between_two_imports(monkeypatch: pytest.MonkeyPatch, declared: list[object]):
    whole = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision.left_behind", ModuleType("torchvision.left_behind"))
    asked = importer(monkeypatch, RuntimeError("operator torchvision::nms does not exist"), whole)
    before = {name: module for name, module in sys.modules.items() if name.startswith("torchvision.")}
    try:
        assert torchvision_ops.import_torchvision() is whole
        assert "torchvision.left_behind" not in sys.modules
    finally:
        sys.modules.update(before)
    assert asked == ["torchvision", "torchvision"]
    assert declared == [1]


@pytest.mark.parametrize("error", [RuntimeError("different CUDA major versions"), ModuleNotFoundError("no torchvision")])
def test_other_failures_pass_through(monkeypatch: pytest.MonkeyPatch, declared: list[object], error: Exception):
    importer(monkeypatch, error)
    with pytest.raises(type(error), match=str(error)):
        torchvision_ops.import_torchvision()
    assert declared == []


@pytest.mark.parametrize("name", ["segment_anything_hq", "timm.models.layers", "torchvision"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str):
    def missing(_: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=rf'needs {name}, which is not installed; run pip install "lazyvos\[sam\]"'):
        SamHqRefiner("vit_tiny", seed=0)


def test_a_module_missing_elsewhere_passes_through(monkeypatch: pytest.MonkeyPatch):
    def missing(_: str) -> Any:
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="other"):
        sam_hq_package()
