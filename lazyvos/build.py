"""A tracker with sensible parts, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lazyvos.backbones.base import Backbone
from lazyvos.device import compile_network, pick_device, pick_precision
from lazyvos.hub import load
from lazyvos.interact.base import Policy
from lazyvos.interact.policies import Lazy, Never
from lazyvos.memory import (
    Dam4SamMemory,
    FifoMemory,
    LongTermMemory,
    QdmnBank,
    ReadMem,
    RMem,
    Sam2LongMemory,
    Unbounded,
)
from lazyvos.memory.base import Memory
from lazyvos.refine.base import Refiner
from lazyvos.tracker import Tracker
from lazyvos.types import InputError

MEMORIES = ("fifo", "readmem", "longterm", "qdmn", "unbounded", "rmem", "dam4sam", "sam2long")
POLICIES = ("lazy", "never")
REFINERS = ("tiny", "ritm", "ritm-h18", "ritm-h18s", "sam-hq", "sam-hq-vit-tiny", "sam-hq-vit-b", "sam-hq-vit-l", "sam-hq-vit-h")
BACKBONES = ("tiny", "tiny-stm", "xmem", "stcn", "mivos", "qdmn")
SIZES = {"tiny": 320, "tiny-stm": 320}


def make_memory(name: str, **options: Any) -> Memory:
    """A memory strategy by name: ``fifo`` (bounded), ``readmem`` (bounded, diverse), ``longterm`` (XMem's), ``qdmn``
    (quality bank), ``unbounded``, ``rmem`` (bandit), ``dam4sam`` (recent frames and anchors), ``sam2long`` (sure frames).

    ``fifo``, ``readmem`` and ``rmem`` get ten slots, a frame every five, as XMem's working memory has; ``options`` go to the class.
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
    if name == "rmem":
        return RMem(**{"slots": 10, "every": 5, **options})
    if name == "dam4sam":
        return Dam4SamMemory(**options)
    if name == "sam2long":
        return Sam2LongMemory(**options)
    raise InputError(f"memory {name!r} is unknown; choose one of {', '.join(MEMORIES)}")


def make_policy(name: str, **options: Any) -> Policy:
    """A policy by name: ``lazy`` (thesis, chapter 6) or ``never``; ``options`` go to the class."""
    if name == "lazy":
        return Lazy(**options)
    if name == "never":
        return Never(**options)
    raise InputError(f"policy {name!r} is unknown; choose one of {', '.join(POLICIES)}")


def make_refiner(
    name: str, *, weights: str | Path | None = None, device: str | None = None, precision: str = "auto", **options: Any
) -> Refiner:
    """A refiner by name of :data:`REFINERS`; ``options`` go to the class.

    ``tiny`` ships with weights. ``ritm`` (= ``ritm-h18``) and ``sam-hq`` (= ``sam-hq-vit-b``) read theirs from ``weights``, a
    file or a registry name; without, they are random. SAM-HQ needs ``pip install "lazyvos[sam]"``.
    """
    where = pick_device(device)
    if name == "tiny":
        from lazyvos.refine.tiny import TinyRefiner

        return TinyRefiner(load("tiny-click", weights, device=where), **options)  # type: ignore[arg-type]
    if name in ("ritm", "ritm-h18", "ritm-h18s"):
        from lazyvos.refine.ritm_predictor import RitmRefiner

        return RitmRefiner(load("ritm-h18" if name == "ritm" else name, weights, device=where), **options)  # type: ignore[arg-type]
    if name in REFINERS:
        from lazyvos.refine.sam_hq import SamHqRefiner

        model = name.removeprefix("sam-hq").removeprefix("-").replace("-", "_") or "vit_b"
        return SamHqRefiner(model, weights=weights, device=where, precision=pick_precision(precision, where), **options)
    raise InputError(f"refiner {name!r} is unknown; choose one of {', '.join(REFINERS)}")


def make_tracker(
    backbone: str | Backbone = "tiny",
    *,
    weights: str | Path | None = None,
    memory: str | Memory = "fifo",
    memory_options: Mapping[str, Any] | None = None,
    policy: str | Policy = "lazy",
    policy_options: Mapping[str, Any] | None = None,
    refiner: str | Refiner | None = "tiny",
    refiner_weights: str | Path | None = None,
    size: int | None = 0,
    device: str | None = None,
    precision: str = "auto",
    compile: bool = False,
) -> Tracker:
    """Build a :class:`lazyvos.tracker.Tracker` from names.

    Parameters
    ----------
    backbone, weights: as in :func:`lazyvos.hub.load`; a network that is built already is taken as it is.
    memory: a name of :data:`MEMORIES` or an object of the memory protocol.
    policy: ``"lazy"`` (thesis, chapter 6), ``"never"``, or a policy.
    refiner: a name of :data:`REFINERS`, ``None``, or an object of the refiner protocol; ``refiner_weights`` as ``weights``.
    memory_options, policy_options: arguments of the class behind a name.
    size: short side of the network input; 0 is the backbone's own default, ``None`` the frame's size.
    device: the default is CUDA where there is one.
    precision: see :class:`lazyvos.tracker.Tracker`; ``"auto"`` as in :func:`lazyvos.device.pick_precision`.
    compile: compile the backbone (:func:`lazyvos.device.compile_network`).

    Raises :class:`InputError` for an unknown name, before any network is built.
    """
    where = pick_device(device)
    if isinstance(backbone, str) and backbone not in BACKBONES:
        raise InputError(f"backbone {backbone!r} is unknown; choose one of {', '.join(BACKBONES)}")
    if isinstance(policy, str):
        policy = make_policy(policy, **(policy_options or {}))
    if isinstance(memory, str):
        memory = make_memory(memory, **(memory_options or {}))
    if isinstance(refiner, str):
        refiner = make_refiner(refiner, weights=refiner_weights, device=where, precision=precision)
    own = SIZES.get(backbone, 480) if isinstance(backbone, str) else 480
    net: Any = load(backbone, weights, device=where) if isinstance(backbone, str) else backbone
    if compile:
        compile_network(net, where)
    if precision == "auto":
        precision = getattr(net, "precision", "auto")
    return Tracker(
        net, memory, policy=policy, refiner=refiner, size=own if size == 0 else size, device=where,
        precision=pick_precision(precision, where),
    )  # fmt: skip
