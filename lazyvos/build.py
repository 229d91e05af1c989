"""A tracker with sensible parts, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lazyvos.hub import load
from lazyvos.interact.base import Policy
from lazyvos.interact.policies import Lazy, Never
from lazyvos.memory import FifoMemory, LongTermMemory, QdmnBank, ReadMem, Unbounded
from lazyvos.memory.base import Memory
from lazyvos.refine.base import Refiner
from lazyvos.refine.tiny import TinyRefiner
from lazyvos.tracker import Tracker
from lazyvos.types import InputError

MEMORIES = ("fifo", "readmem", "longterm", "qdmn", "unbounded")
POLICIES = ("lazy", "never")
SIZES = {"tiny": 320}


def pick_device(device: str | None = None) -> str:
    """``device`` itself, or CUDA where there is one, else the CPU."""
    if device is None or device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise InputError(f"device {device!r} is unknown; choose cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r} is not available on this machine; use cpu")
    return device


def pick_precision(precision: str, device: str) -> str:
    """``precision`` itself; ``"auto"`` is bf16 where ``device`` computes it natively, else fp32.

    Native are CUDA devices that say so, and CPUs with AVX512-BF16 or AMX. Similarities stay in fp32 either way.
    """
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, name, bool)() for name in names) else "fp32"


def make_memory(name: str, **options: Any) -> Memory:
    """A memory strategy by name: ``fifo`` (bounded), ``readmem`` (bounded, diverse), ``longterm`` (XMem's), ``qdmn``
    (quality bank) or ``unbounded``.

    The first two get ten slots, a frame every five, as XMem's working memory has; ``options`` go to the class.
    """
    if name == "fifo":
        return FifoMemory(**{"slots": 10, "every": 5, **options})
    if name == "readmem":
        return ReadMem(**{"slots": 10, "every": 5, **options})
    if name == "longterm":
        return LongTermMemory(**options)
    if name == "qdmn":
        return QdmnBank(**options)
    if name == "unbounded":
        return Unbounded(**options)
    raise InputError(f"memory {name!r} is unknown; choose one of {', '.join(MEMORIES)}")


def make_tracker(
    backbone: str = "tiny",
    *,
    weights: str | Path | None = None,
    memory: str | Memory = "fifo",
    policy: str | Policy = "lazy",
    refiner: str | Refiner | None = "tiny",
    size: int | None = 0,
    device: str | None = None,
    precision: str = "auto",
) -> Tracker:
    """Build a :class:`lazyvos.tracker.Tracker` from names.

    Parameters
    ----------
    backbone, weights: as in :func:`lazyvos.hub.load`.
    memory: a name of :data:`MEMORIES` or an object of the memory protocol.
    policy: ``"lazy"`` (thesis, chapter 6), ``"never"``, or a policy.
    refiner: ``"tiny"``, ``None``, or an object of the refiner protocol.
    size: short side of the network input; 0 is the backbone's own default, ``None`` the frame's size.
    device: the default is CUDA where there is one.
    precision: see :class:`lazyvos.tracker.Tracker`; ``"auto"`` as in :func:`pick_precision`.
    """
    where = pick_device(device)
    if isinstance(policy, str) and policy not in POLICIES:
        raise InputError(f"policy {policy!r} is unknown; choose one of {', '.join(POLICIES)}")
    if isinstance(refiner, str):
        if refiner != "tiny":
            raise InputError(f"refiner {refiner!r} is unknown; choose tiny")
        refiner = TinyRefiner(load("tiny-click", device=where))  # type: ignore[arg-type]
    return Tracker(
        load(backbone, weights, device=where),  # type: ignore[arg-type]
        make_memory(memory) if isinstance(memory, str) else memory,
        policy=policy if not isinstance(policy, str) else Lazy() if policy == "lazy" else Never(),
        refiner=refiner,
        size=SIZES.get(backbone, 480) if size == 0 else size,
        device=where,
        precision=pick_precision(precision, where),
    )
