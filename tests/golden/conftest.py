"""Golden numbers: where they lie, and how those of the networks are read.

``LAZYVOS_GOLDEN`` names another folder of the same format; without it the copies beside this file are used.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of golden files."""
    folder = Path(os.environ.get("LAZYVOS_GOLDEN") or HERE)
    if not folder.is_dir():
        pytest.fail(f"LAZYVOS_GOLDEN names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def load(golden_dir: Path) -> Callable[[str], tuple[dict[str, Any], Any]]:
    """``load(name)`` gives the parsed ``<name>.json`` and the open ``<name>.npz`` (or ``None`` where there is none)."""

    def read(name: str) -> tuple[dict[str, Any], Any]:
        text = golden_dir / f"{name}.json"
        if not text.is_file():
            pytest.fail(f"golden file {text} is missing")
        arrays = golden_dir / f"{name}.npz"
        return json.loads(text.read_text()), np.load(arrays) if arrays.is_file() else None

    return read


class Golden:
    """One network's manifest: its cases, their inputs and the comparison of outputs."""

    def __init__(self, name: str, manifest: dict[str, Any], numbers: Any, recipe: ModuleType) -> None:
        self.name, self.manifest, self.numbers, self.recipe = name, manifest, numbers, recipe
        names = ("tensor", "image", "video", "mask", "soft_mask", "normalise")
        self._scope: dict[str, Any] = {n: getattr(recipe, n) for n in names}
        self._scope["sigmoid"] = lambda x: (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)

    @property
    def cases(self) -> list[dict[str, Any]]:
        """Every case of the manifest."""
        return self.manifest["cases"]

    def case(self, name: str) -> dict[str, Any]:
        """The case called ``name``."""
        return next(c for c in self.cases if c["name"] == name)

    def with_outputs(self, *outputs: str, kind: str | None = None) -> list[dict[str, Any]]:
        """Cases that record all the given outputs: how a test finds its cases whatever they are called."""
        return [c for c in self.cases if set(outputs) <= set(c["outputs"]) and kind in (None, c["kind"])]

    def value(self, text: str, start: int = 0) -> np.ndarray:
        """The expression that ``text`` begins with, evaluated; words of prose behind it are left out."""
        for end in range(len(text), start, -1):
            if text[end - 1] not in ")]0123456789":
                continue
            try:
                tree = ast.parse(text[start:end].strip(), mode="eval")
            except SyntaxError:
                continue
            if isinstance(tree.body, ast.Tuple):
                continue
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            if used <= set(self._scope):
                return eval(compile(tree, text, "eval"), {"__builtins__": {}}, self._scope)
        raise ValueError(f"no expression at the start of {text!r}")

    def tensor(self, text: str) -> torch.Tensor:
        """:meth:`value` as a torch tensor (a copy)."""
        return torch.from_numpy(np.array(self.value(text)))

    def numbers_in(self, text: str, function: str) -> list[int]:
        """The whole numbers among the arguments of the first call of ``function`` in ``text``."""
        found = re.search(rf"\b{function}\(([^)]*)\)", text)
        assert found, f"{text!r} holds no call of {function}"
        return [int(n) for n in re.findall(r"(?<![\w.])\d+(?![\w.]*\.\d)", found.group(1))]

    def fill(self, net: nn.Module) -> nn.Module:
        """Check the layout of ``net``, fill it from the recipe, set it to evaluation."""
        layout = self.manifest["checkpoint"]
        own = {key: list(value.shape) for key, value in net.state_dict().items()}
        assert own == layout, f"{self.name}: layout differs in {sorted(set(own) ^ set(layout))[:5]}"
        state = self.recipe.state_dict(layout, self.manifest.get("salt") or "")
        net.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        return net.eval()

    def expect(self, case: dict[str, Any], name: str, actual: Any) -> None:
        """Assert that output ``name`` of ``case`` equals ``actual`` (array or tensor) within its tolerance."""
        entry = case["outputs"][name]
        tolerance = entry.get("tolerance") or case.get("tolerance") or self.manifest["tolerance"]
        array = actual.detach().cpu().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
        good, text = self.recipe.check(array, self.numbers[entry["key"]], entry, tolerance)
        assert good, f"{self.name} {case['name']}/{name}: {text}"


@pytest.fixture(scope="session")
def network(golden_dir: Path, load: Callable[[str], tuple[dict[str, Any], Any]]) -> Callable[[str], Golden]:
    """``network(name)``: the golden numbers of a network, with the recipe of the same folder."""
    file = golden_dir / "recipe.py"
    spec = importlib.util.spec_from_file_location("golden_recipe", file if file.is_file() else HERE / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return lambda name: Golden(name, *load(name), recipe)
