"""Golden numbers: where they lie, and how those of the networks are read.

``LAZYVOS_GOLDEN`` names another folder of the same format; without it the copies beside this file are used. Nothing here or
in the test modules knows names, seeds, sizes, lengths or numbers of objects: they come from the manifests.

A module with ``NAME = "<net>"`` gets the fixtures ``golden`` and ``case``; a test that takes ``case`` runs once for each case of
the manifest.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lazyvos.backbones.layers import aggregate

HERE = Path(__file__).parent
DEVICE = os.environ.get("LAZYVOS_GOLDEN_DEVICE", "cpu")
"""Where the networks compute; ``tests/gpu`` sets it."""


@pytest.fixture(scope="session", autouse=True)
def _device() -> Any:
    torch.set_default_device(DEVICE if DEVICE != "cpu" else None)
    yield
    torch.set_default_device(None)


def _folder() -> Path:
    return Path(os.environ.get("LAZYVOS_GOLDEN") or HERE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case; a manifest that cannot be read gives one test, which then fails and says so."""
    name = getattr(metafunc.module, "NAME", None)
    if name is None or "case" not in metafunc.fixturenames:
        return
    try:
        cases = [case["name"] for case in json.loads((_folder() / f"{name}.json").read_text())["cases"]]
    except (OSError, ValueError, LookupError, TypeError):
        cases = []
    metafunc.parametrize("case", range(max(1, len(cases))), ids=cases or ["unreadable"], indirect=True)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of golden files."""
    folder = _folder()
    if not folder.is_dir():
        pytest.fail(f"LAZYVOS_GOLDEN names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def load(golden_dir: Path) -> Callable[..., tuple[dict[str, Any], Any]]:
    """``load(name)`` gives the parsed ``<name>.json`` and the open ``<name>.npz`` (``None`` with ``arrays=False``).

    A missing file is a failure, not a skip: a set that is meant to prove something must be whole.
    """

    def read(name: str, arrays: bool = True) -> tuple[dict[str, Any], Any]:
        text, numbers = golden_dir / f"{name}.json", golden_dir / f"{name}.npz"
        for file in (text, numbers) if arrays else (text,):
            if not file.is_file():
                pytest.fail(f"golden file {file} is missing")
        return json.loads(text.read_text()), np.load(numbers) if arrays else None

    return read


class Golden:
    """One network's manifest: its cases, their inputs and the comparison of outputs."""

    def __init__(self, name: str, manifest: dict[str, Any], numbers: Any, recipe: ModuleType) -> None:
        self.name, self.manifest, self.numbers, self.recipe = name, manifest, numbers, recipe
        self.device = DEVICE
        names = ("tensor", "image", "video", "mask", "soft_mask", "normalise")
        self._scope: dict[str, Any] = {n: getattr(recipe, n) for n in names}
        self._scope["sigmoid"] = lambda x: (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)

    @property
    def cases(self) -> list[dict[str, Any]]:
        """Every case of the manifest."""
        return self.manifest["cases"]

    def other(self, text: str, *inputs: str) -> dict[str, Any]:
        """The case that ``text`` speaks of, among those with these inputs.

        Its name is a word of the text; where no name is, there must be only one such case.
        """
        able = [c for c in self.cases if c["kind"] == "module" and set(inputs) <= set(c["inputs"])]
        named = [c for c in able if re.search(rf"(?<![\w-]){re.escape(c['name'])}(?![\w-])", text)]
        found = named or able
        assert len(found) == 1, f"{self.name}: {text!r} may mean {[c['name'] for c in found]}"
        return found[0]

    def frame(self, text: str) -> torch.Tensor:
        """``frame <i> of <case>``: one image ``[1, 3, H, W]``."""
        found = re.search(r"\bframe (\d+)", text)
        assert found, f"{self.name}: {text!r} names no frame"
        at, frames = int(found.group(1)), self.tensor(self.other(text, "frames")["inputs"]["frames"])
        assert at < len(frames), f"{self.name}: {text!r} is beyond the last frame"
        return frames[at : at + 1]

    def value(self, text: str) -> np.ndarray:
        """The expression that ``text`` begins with, evaluated; words of prose behind it are left out."""
        for end in range(len(text), 0, -1):
            if text[end - 1] not in ")]0123456789":
                continue
            try:
                tree = ast.parse(text[:end].strip(), mode="eval")
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
        return torch.from_numpy(np.array(self.value(text))).to(DEVICE)

    def numbers_in(self, text: str, function: str) -> list[int]:
        """The whole numbers among the arguments of the first call of ``function`` in ``text``."""
        found = re.search(rf"\b{function}\(([^)]*)\)", text)
        assert found, f"{text!r} holds no call of {function}"
        return [int(n) for n in re.findall(r"(?<![\w.])\d+(?![\w.]*\.\d)", found.group(1))]

    def check(self, net: nn.Module) -> None:
        """Assert what the manifest says of ``net`` as a whole, and that every stored array belongs to an output.

        State-dict keys (their order too), shapes, and the number of parameters.
        """
        layout = self.manifest["checkpoint"]
        own = {key: list(value.shape) for key, value in net.state_dict().items()}
        assert list(own) == list(layout), f"{self.name}: keys differ in {sorted(set(own) ^ set(layout))[:5]} (or in their order)"
        wrong = [key for key in layout if own[key] != layout[key]]
        assert not wrong, f"{self.name}: shapes differ, first {wrong[0]}: {own[wrong[0]]}, expected {layout[wrong[0]]}"
        assert sum(p.numel() for p in net.parameters()) == self.manifest["parameter_count"]
        recorded = [entry["key"] for case in self.cases for entry in case["outputs"].values()]
        assert sorted(recorded) == sorted(self.numbers.files), f"{self.name}: arrays without an output, or the reverse"

    def fill(self, net: nn.Module) -> nn.Module:
        """``net`` with the weights of the recipe, set to evaluation; keys and shapes must be those of the manifest."""
        layout = self.manifest["checkpoint"]
        own = {key: list(value.shape) for key, value in net.state_dict().items()}
        assert own == layout, f"{self.name}: layout differs in {sorted(set(own) ^ set(layout))[:5]}"
        state = self.recipe.state_dict(layout, self.manifest.get("salt") or "")
        net.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        return net.eval().to(DEVICE)

    def difference(self, case: dict[str, Any], name: str, actual: Any) -> str | None:
        """What is wrong with ``actual`` (array or tensor) as output ``name`` of ``case``; ``None`` within its tolerance."""
        entry = case["outputs"][name]
        tolerance = entry.get("tolerance") or case.get("tolerance") or self.manifest["tolerance"]
        array = actual.detach().cpu().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
        stored = self.numbers[entry["key"]]
        size = -(-int(np.prod(entry["shape"])) // entry["stride"])
        assert stored.shape == (size,), f"{self.name}: {entry['key']} holds {stored.shape} numbers, its manifest says {size}"
        good, text = self.recipe.check(array, stored, entry, tolerance)
        return None if good else f"{self.name} {case['name']}/{name}: {text}"

    def compare(self, case: dict[str, Any], got: Mapping[str, Any]) -> None:
        """Assert that every output of ``case`` is among ``got`` and within its tolerance; all that is wrong is listed."""
        assert case["outputs"], f"{self.name} {case['name']}: the case records nothing"
        unknown = sorted(set(case["outputs"]) - set(got))
        assert not unknown, f"{self.name} {case['name']}: no test computes {unknown}"
        wrong = [self.difference(case, name, got[name]) for name in case["outputs"]]
        assert not any(wrong), "\n".join(text for text in wrong if text)

    def given_masks(self, frames: Callable[[dict[str, Any]], Mapping[int, torch.Tensor]]) -> None:
        """Assert that frames with given masks show the clamp of the aggregation.

        ``frames(case)``: object masks ``[n, H, W]`` of frames whose probability follows from them alone. That is 1 or about
        1e-14, which only a comparison of ratios tells from another clamp.
        """
        seen = 0
        for case in (c for c in self.cases if c["kind"] == "sequence"):
            for t, mask in frames(case).items():
                entry = case["outputs"].get(f"prob_{t:02d}")
                if entry is not None:
                    own = self.recipe.subsample(aggregate(mask, 0)[1].numpy(), entry["stride"])
                    np.testing.assert_allclose(own, self.numbers[entry["key"]], rtol=1e-3, atol=0, err_msg=case["name"])
                    seen += 1
        assert seen, f"{self.name}: no sequence records a frame with a given mask"


@pytest.fixture(scope="session")
def network(golden_dir: Path, load: Callable[..., tuple[dict[str, Any], Any]]) -> Callable[[str], Golden]:
    """``network(name)``: the golden numbers of a network, with the recipe of the same folder."""
    file = golden_dir / "recipe.py"
    spec = importlib.util.spec_from_file_location("golden_recipe", file if file.is_file() else HERE / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return lambda name: Golden(name, *load(name), recipe)


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest, network: Callable[[str], Golden]) -> Golden:
    """The golden numbers of the module's network."""
    return network(request.module.NAME)


@pytest.fixture
def case(request: pytest.FixtureRequest, golden: Golden) -> dict[str, Any]:
    """One case of the manifest, see :func:`pytest_generate_tests`."""
    assert golden.cases, f"{golden.name}: the manifest has no case"
    return golden.cases[request.param]
