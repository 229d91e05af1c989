"""A tracker with sensible parts, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos.backbones.base import Backbone
from lazyvos.device import compile_network, pick_device, pick_precision
from lazyvos.ensemble import EnsembleTracker, Networks
from lazyvos.hub import load
from lazyvos.interact import (
    Agreement,
    Always,
    Budgeted,
    Careless,
    Late,
    Lazy,
    LazyQdmn,
    Never,
    Nobody,
    Outside,
    Persistent,
    PseudoOptions,
    RandomBudget,
    Shaky,
    SimulatedUser,
)
from lazyvos.interact.base import Policy, User
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
from lazyvos.uncertainty.base import Uncertainty
from lazyvos.uncertainty.named import ESTIMATORS, make_uncertainty

__all__ = [
    "BACKBONES", "ESTIMATORS", "MEMORIES", "POLICIES", "REFINERS", "SIZES", "USERS", "default_size", "load_backbone", "make_ensemble",
    "make_memory", "make_policy", "make_refiner", "make_tracker", "make_uncertainty", "make_user",
]  # fmt: skip

MEMORIES = ("fifo", "readmem", "longterm", "qdmn", "unbounded", "rmem", "dam4sam", "sam2long")
POLICIES = ("lazy", "never", "always", "random", "lazy-qdmn", "outside", "agreement", "budget", "persistent", "lazy+")
USERS = ("centre", "centroid", "dispersed", "shaky", "late", "careless", "mask", "nobody")
REFINERS = ("tiny", "ritm", "ritm-h18", "ritm-h18s", "sam-hq", "sam-hq-vit-tiny", "sam-hq-vit-b", "sam-hq-vit-l", "sam-hq-vit-h")
BACKBONES = ("tiny", "tiny-stm", "xmem", "stcn", "mivos", "qdmn", "tiny-evidential", "tiny-b", "tiny-c", "tiny-drop")
SIZES = {name: 320 for name in BACKBONES if name.startswith("tiny")}


def default_size(backbone: str) -> int:
    """Short side at which a network runs unless it is told otherwise; of ``a+b`` that of the first."""
    return SIZES.get(backbone.split("+")[0], 480)


def load_backbone(name: str, weights: str | Path | None = None, device: str = "cpu") -> Any:
    """A network by name of :data:`BACKBONES`, or several for an ensemble, as in ``tiny+tiny-b+tiny-c``.

    ``weights``: as in :func:`lazyvos.hub.load`; several are joined by ``+`` too. Raises :class:`InputError` for an unknown name or
    another number of weights, before any network is built.
    """
    names = _names(name)
    if len(names) == 1:
        return load(name, weights, device=device)
    files = [None] * len(names) if weights is None else str(weights).split("+")
    if len(files) != len(names):
        raise InputError(f"backbone {name!r} names {len(names)} networks but weights {str(weights)!r} are {len(files)}; give as many, joined by +")
    return Networks([load(one, file, device=device) for one, file in zip(names, files, strict=True)])


def _names(backbone: str) -> list[str]:
    names = backbone.split("+")
    for one in names:
        if one not in BACKBONES:
            raise InputError(f"backbone {one!r} is unknown; choose one of {', '.join(BACKBONES)}, or several joined by +")
    return names


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
    """A policy by name; ``options`` go to the class.

    ``lazy`` (thesis, chapter 6), ``never``, ``always``, ``random`` (Rand-Lazy-XMem), ``lazy-qdmn``; around another policy
    ``outside`` (look-alikes and lost objects), ``agreement`` (distrusts pseudo-corrections), ``budget`` (at most k requests a
    minute), ``persistent`` (slow and sudden losses). ``lazy+`` is agreement around outside around persistent; its options
    ``agreement``, ``outside`` and ``persistent`` are dicts for these, ``base`` is for the innermost.

    ``base`` (and ``rest`` of ``random``) may be a policy, a name, or a dict of options for :class:`lazyvos.interact.Lazy` with the
    name of another one under ``"name"``; ``pseudo_options`` may be a dict.

    Raises :class:`InputError` for an unknown name; TypeError or ValueError for options that the class refuses.
    """
    if isinstance(options.get("pseudo_options"), Mapping):
        options["pseudo_options"] = PseudoOptions(**options["pseudo_options"])
    if "base" in options:
        options["base"] = _inner(options["base"], {})
    if name == "random":
        return RandomBudget(**{**options, "rest": _inner(options.get("rest", {}), {"ask": False})})  # type: ignore[arg-type]
    if name == "lazy+":
        inner = Persistent(**{**options.pop("persistent", {}), **({"base": options.pop("base")} if "base" in options else {})})
        outside, agreement = options.pop("outside", {}), options.pop("agreement", {})
        if options:
            raise TypeError(f"lazy+ has no option {next(iter(options))!r}; choose base, persistent, outside or agreement")
        return Agreement(**{**agreement, "base": Outside(**{**outside, "base": inner})})
    plain: dict[str, Callable[..., Policy]] = {
        "lazy": Lazy, "never": Never, "always": Always, "lazy-qdmn": LazyQdmn, "outside": Outside, "agreement": Agreement,
        "budget": Budgeted, "persistent": Persistent,
    }  # fmt: skip
    if name in plain:
        return plain[name](**options)
    raise InputError(f"policy {name!r} is unknown; choose one of {', '.join(POLICIES)}")


def _inner(given: Any, defaults: Mapping[str, Any]) -> Policy:
    """A policy inside another: as it is, by name, or from options."""
    if isinstance(given, str):
        return make_policy(given)
    if not isinstance(given, Mapping):
        return given
    options = dict(given)
    name = options.pop("name", "lazy")
    return make_policy(name, **({**defaults, **options} if name == "lazy" else options))


def make_user(name: str, truth: Callable[[int], np.ndarray | None], **options: Any) -> User:
    """A simulated user by name, who knows ``truth`` (frame number to label map, see :class:`lazyvos.interact.SimulatedUser`).

    ``centre`` (the deepest pixel of the true object), ``centroid``, ``dispersed`` (as people click), ``mask`` (the true mask itself),
    ``nobody``; and with faults ``shaky`` (option ``radius``, pixels), ``late`` (``frames``, ``mode``), ``careless`` (``ignore``, a probability).
    ``seed`` goes to every part that draws, the other options to the simulated user, who clicks on the centre unless
    ``location`` says otherwise. Faults combine: ``make_user("late", truth, frames=5, radius=8.0)`` is late and shaky.

    Raises :class:`InputError` for an unknown name; TypeError or ValueError for options that the class refuses.
    """
    if name not in USERS:
        raise InputError(f"user {name!r} is unknown; choose one of {', '.join(USERS)}")
    if name == "nobody":
        return Nobody()
    seed = {"seed": options["seed"]} if "seed" in options else {}
    shaky = {k: options.pop(k) for k in ("radius",) if k in options}
    careless = {k: options.pop(k) for k in ("ignore",) if k in options}
    late = {k: options.pop(k) for k in ("frames", "mode") if k in options}
    if name in ("centroid", "dispersed"):
        options["location"] = name
    if name == "mask":
        options["correct_with"] = "ground_truth"
    user: User = SimulatedUser(truth, **options)
    if shaky or name == "shaky":
        user = Shaky(user, **shaky, **seed)
    if careless or name == "careless":
        user = Careless(user, **careless, **seed)
    if late or name == "late":
        user = Late(user, **late)
    return user


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
    backbone: str | Backbone | Networks = "tiny",
    *,
    weights: str | Path | None = None,
    memory: str | Memory | Sequence[Memory] = "fifo",
    memory_options: Mapping[str, Any] | None = None,
    policy: str | Policy = "lazy",
    policy_options: Mapping[str, Any] | None = None,
    refiner: str | Refiner | None = "tiny",
    refiner_weights: str | Path | None = None,
    uncertainty: str | Uncertainty | None = None,
    uncertainty_options: Mapping[str, Any] | None = None,
    size: int | None = 0,
    device: str | None = None,
    precision: str = "auto",
    compile: bool = False,
) -> Tracker:
    """Build a :class:`lazyvos.tracker.Tracker` from names.

    Parameters
    ----------
    backbone, weights: as in :func:`load_backbone`; a network that is built already is taken as it is. Several networks give an
        :class:`lazyvos.ensemble.EnsembleTracker`.
    memory: a name of :data:`MEMORIES` or an object of the memory protocol; for an ensemble a name or one object for each network.
    policy: a name of :data:`POLICIES` or an object of the policy protocol.
    refiner: a name of :data:`REFINERS`, ``None``, or an object of the refiner protocol; ``refiner_weights`` as ``weights``.
    uncertainty: a name of :data:`ESTIMATORS` or an estimator; default the one that the policy is made for (``policy.estimator``), else ``"entropy"``.
    memory_options, policy_options, uncertainty_options: arguments of the class behind a name.
    size: short side of the network input; 0 is the backbone's own default, ``None`` the frame's size.
    device: the default is CUDA where there is one.
    precision: see :class:`lazyvos.tracker.Tracker`; ``"auto"`` as in :func:`lazyvos.device.pick_precision`.
    compile: compile the backbone (:func:`lazyvos.device.compile_network`).

    Raises :class:`InputError` for an unknown name, before any network is built.
    """
    where = pick_device(device)
    count = len(_names(backbone)) if isinstance(backbone, str) else len(getattr(backbone, "networks", (backbone,)))
    if isinstance(policy, str):
        policy = make_policy(policy, **(policy_options or {}))
    if uncertainty is None:
        uncertainty = getattr(policy, "estimator", None)
    if isinstance(memory, str):
        memories: list[Any] = [make_memory(memory, **(memory_options or {})) for _ in range(count)]
    else:
        memories = list(memory) if isinstance(memory, (list, tuple)) else [memory]
    if isinstance(uncertainty, str):
        uncertainty = make_uncertainty(uncertainty, **(uncertainty_options or {}))
    if isinstance(refiner, str):
        refiner = make_refiner(refiner, weights=refiner_weights, device=where, precision=precision)
    own = default_size(backbone) if isinstance(backbone, str) else 480
    net: Any = load_backbone(backbone, weights, where) if isinstance(backbone, str) else backbone
    several = hasattr(net, "networks")
    if compile:
        for one in net.networks if several else (net,):
            compile_network(one, where)
    if precision == "auto":
        precision = getattr(net.networks[0] if several else net, "precision", "auto")
    options: dict[str, Any] = {
        "uncertainty": uncertainty, "policy": policy, "refiner": refiner, "size": own if size == 0 else size, "device": where,
        "precision": pick_precision(precision, where),
    }  # fmt: skip
    if several:
        return EnsembleTracker(net, memories, **options)
    if len(memories) != 1:
        raise InputError(f"{len(memories)} memories came with one network; give one")
    return Tracker(net, memories[0], **options)


def make_ensemble(
    backbones: Sequence[str | Backbone] = ("tiny", "tiny-b", "tiny-c"), *, shared_mask: bool = False, device: str | None = None,
    **options: Any,
) -> EnsembleTracker:  # fmt: skip
    """Build an :class:`lazyvos.ensemble.EnsembleTracker` from names or networks.

    ``shared_mask``: every member stores the mean instead of its own prediction. ``options`` are those of :func:`make_tracker`, but
    ``weights``: give networks where names are not enough. Raises :class:`InputError` for an unknown name.
    """
    where = pick_device(device)
    named = "+".join(one for one in backbones if isinstance(one, str))
    if named:
        _names(named)
    if options.get("size", 0) == 0:
        options["size"] = default_size(named) if named else 480
    nets = Networks([load(one, device=where) if isinstance(one, str) else one for one in backbones])
    tracker = make_tracker(nets, device=device, **options)
    assert isinstance(tracker, EnsembleTracker)
    tracker.shared_mask = shared_mask
    return tracker
