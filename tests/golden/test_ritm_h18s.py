"""RITM with the small HRNet-18 (CiVOS) against the golden numbers (ritm_h18s.json, ritm_h18s.npz)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lazyvos.refine.ritm import RitmNet

NAME = "ritm_h18s"


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ritm_checks", Path(__file__).with_name("ritm_checks.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden(network: Callable[[str], Any]) -> Any:
    return network(NAME)


@pytest.fixture(scope="module")
def net(checks: ModuleType, golden: Any) -> RitmNet:
    return checks.build(golden)


def test_network_and_its_parts(checks: ModuleType, golden: Any, net: RitmNet) -> None:
    checks.expect_all(golden, net, "forward")


def test_zoom_in_and_back(checks: ModuleType, golden: Any, net: RitmNet) -> None:
    checks.expect_all(golden, net, "zoom")


def test_clicks_one_at_a_time(checks: ModuleType, golden: Any, net: RitmNet) -> None:
    checks.expect_all(golden, net, "predictor")
