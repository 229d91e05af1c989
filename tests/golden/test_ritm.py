"""RITM with HRNet-18 against the golden numbers: every output of every case."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lazyvos.refine.ritm import H18, RitmNet

NAME = "ritm"


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ritm_checks", Path(__file__).with_name("ritm_checks.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def net(checks: ModuleType, golden: Any) -> RitmNet:
    return checks.build(golden)


def test_layout_and_published_settings(golden: Any, net: RitmNet) -> None:
    golden.check(net)
    assert net.config == H18


def test_case(checks: ModuleType, golden: Any, net: RitmNet, case: dict[str, Any]) -> None:
    checks.compare(golden, net, case)
