"""The golden numbers of every network, computed on the GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


@pytest.mark.parametrize("name", ["xmem", "stcn", "mivos", "mivos_fusion", "qdmn", "ritm", "ritm_h18s"])
def test_golden(name: str) -> None:
    """In a process of its own, without TF32, which would round the products to ten bits."""
    settings = {**os.environ, "LAZYVOS_GOLDEN_DEVICE": "cuda", "NVIDIA_TF32_OVERRIDE": "0"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(GOLDEN / f"test_{name}.py")]
    run = subprocess.run(words, env=settings, capture_output=True, text=True, cwd=GOLDEN.parents[1])
    assert run.returncode == 0, run.stdout[-4000:]
