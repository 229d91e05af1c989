"""What an experiment is, and the fingerprint that says whether a stored result is its own."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any, Literal

import lazyvos
from lazyvos.build import USERS
from lazyvos.types import InputError

Options = Mapping[str, Any]
Part = str | Callable[..., Any]
"""A part by name, or a class (or function) that makes it from its options."""

_LABELS = ("name", "device", "sequences", "scale")
_ASIDE = (
    "training/*", "weights/*", "cli.py", "commands.py", "*_cli.py", "terminal.py", "report.py", "plot.py", "bench*.py", "lab.py",
    "curves.py", "start.py", "run.py", "session.py", "journal.py", "snapshot.py", "evaluate.py", "outputs.py",
    "experiments/engine.py", "experiments/executors.py", "experiments/store.py", "experiments/frame.py",
    "experiments/significance.py", "experiments/tables.py", "experiments/figures.py", "experiments/layout.py", "experiments/recipe.py",
    "experiments/readmem*.py", "experiments/lazy*.py", "experiments/civos*.py", "experiments/interactive_report.py", "experiments/study_*.py",
    "gram_*.py", "plot_gram.py", "plain_readmem.py",
)  # fmt: skip
"""Files that cannot change the result of a sequence; every other file of the package counts as its code."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A tracker, a data set, a user and a seed: all that decides a result.

    Parts are given as for :func:`lazyvos.build.make_tracker`: by name with options for the class behind it, or as a class of
    one's own, which is called with the options.

    Attributes
    ----------
    name: what tables call it; not part of the fingerprint.
    dataset, dataset_options: a name or folder for :func:`lazyvos.datasets.open_dataset` (options ``root``, ``split``),
        ``"generated:SUITE"`` (options of :class:`lazyvos.datasets.GeneratedBenchmark`), or a function that returns a data set.
    sequences: only these sequences; ``None`` all.
    backbone, weights: as in :func:`lazyvos.hub.load`. Several joined by ``+`` are an ensemble (:class:`lazyvos.ensemble.EnsembleTracker`), whose
        members have a memory each.
    memory, policy, refiner, uncertainty: the parts and their options. ``refiner`` is not built where nothing clicks.
    watch: further estimators by a name of one's own, as options of :func:`lazyvos.build.make_uncertainty` with its ``"name"``. What
        they say of the same predictions is recorded beside the tracker's own score and changes nothing else.
    size: short side of the network input; 0 is the backbone's own default, ``None`` the frame's size.
    precision, device: as in :func:`lazyvos.build.make_tracker`. Of the device, its kind (cpu, cuda) counts.
    start: from the true ``"mask"`` or from one ``"click"`` per object at its centre.
    later: objects that appear later ``"enter"`` with their first annotation, or are left out (``"ignore"``).
    user: ``"none"``, ``"simulated"`` (:class:`lazyvos.interact.SimulatedUser` with ``user_options``), or a name of
        :func:`lazyvos.build.make_user` with its options.
    seed: of torch's generators at the start of each sequence.
    alone: never side by side with others, so that its speed and CUDA memory are its own; a result that was made in company
        does not count as finished.
    scale: ``"smoke"`` or ``"paper"``; a smoke number never stands under a paper's heading.

    Raises :class:`InputError` for a word that is none of these.
    """

    name: str
    dataset: Part
    dataset_options: Options = field(default_factory=dict)
    sequences: tuple[str, ...] | None = None
    backbone: str = "tiny"
    weights: str | None = None
    memory: Part = "fifo"
    memory_options: Options = field(default_factory=dict)
    policy: Part = "never"
    policy_options: Options = field(default_factory=dict)
    refiner: Part | None = "tiny"
    refiner_weights: str | None = None
    refiner_options: Options = field(default_factory=dict)
    uncertainty: Part = "entropy"
    uncertainty_options: Options = field(default_factory=dict)
    watch: Mapping[str, Options] = field(default_factory=dict)
    size: int | None = 0
    precision: str = "auto"
    device: str | None = None
    start: Literal["mask", "click"] = "mask"
    later: Literal["enter", "ignore"] = "enter"
    user: str = "none"
    user_options: Options = field(default_factory=dict)
    seed: int = 0
    alone: bool = False
    scale: Literal["smoke", "paper"] = "smoke"

    def __post_init__(self) -> None:
        choices = {"start": ("mask", "click"), "later": ("enter", "ignore"), "user": ("none", "simulated", *USERS), "scale": ("smoke", "paper")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} {getattr(self, name)!r} of experiment {self.name!r} is unknown; choose {' or '.join(allowed)}")
        for part in fields(self):
            if part.name.endswith("_options"):
                object.__setattr__(self, part.name, dict(getattr(self, part.name)))

    def __hash__(self) -> int:
        return hash(json.dumps([self.name, self.config()], sort_keys=True))

    @property
    def clicks(self) -> bool:
        """Whether anything may click: the start, a policy that corrects itself, or a user who is asked and answers with clicks."""
        if self.start == "click" or self.policy not in ("never", "lazy"):
            return True
        shows = "mask" in (self.user, self.user_options.get("name")) or self.user_options.get("correct_with") == "ground_truth"
        asked = self.user not in ("none", "nobody") and not shows and bool(self.policy_options.get("ask", True))
        return self.policy == "lazy" and (bool(self.policy_options.get("pseudo", True)) or asked)

    def config(self) -> dict[str, Any]:
        """Everything that decides the result but weights, code and machine, as plain values for JSON.

        A class stands as its name and the hash of its source. Raises :class:`InputError` for an option that has no
        plain form.
        """
        found = {}
        for part in fields(self):
            if part.name not in _LABELS and not part.name.endswith("weights"):
                found[part.name] = _plain(getattr(self, part.name), f"{part.name} of experiment {self.name!r}")
        if not self.clicks:
            found |= {"refiner": None, "refiner_options": {}}
        return found


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__qualname__, **_plain(asdict(value), where)}
    if inspect.isclass(value) or inspect.isfunction(value):
        held = inspect.getclosurevars(value).nonlocals if inspect.isfunction(value) else {}
        found = {"class": f"{value.__module__}.{value.__qualname__}", "source": source_digest(value)}
        return {**found, **({"held": _plain(held, where)} if held else {})}
    raise InputError(f"{where} holds {value!r}; give plain values, or a class or function, so that it can be repeated")


def source_digest(thing: Any) -> str:
    """Hash of the source of a class (with its bases) or function, so that a result is not taken for that of another version.

    What is imported counts with the whole of its module; what stands in a notebook or script by itself. Parts of lazyvos are
    left to :func:`code_version`. Where there is no source, the bytecode is used.
    """
    digest, modules = hashlib.sha256(), set()
    for one in inspect.getmro(thing) if isinstance(thing, type) else (thing,):
        if one.__module__.split(".")[0] in ("lazyvos", "builtins", "typing", "abc", "torch"):
            continue
        module = sys.modules.get(one.__module__)
        whole = module is not None and one.__module__ != "__main__" and getattr(module, "__file__", None)
        try:
            if not whole:
                digest.update(inspect.getsource(one).encode())
            elif one.__module__ not in modules:
                digest.update(inspect.getsource(module).encode())  # type: ignore[arg-type]
                modules.add(one.__module__)
        except (OSError, TypeError):
            for name, member in sorted(vars(one).items()) if isinstance(one, type) else [("", one)]:
                _digest_member(digest, name, getattr(member, "__func__", getattr(member, "fget", member)))
    return digest.hexdigest()[:16]


def _digest_member(digest: Any, name: str, member: Any) -> None:
    """A function by its source, or bytecode and defaults; a plain value by itself."""
    if inspect.isfunction(member):
        digest.update(name.encode())
        try:
            digest.update(inspect.getsource(member).encode())
        except (OSError, TypeError):
            _digest_code(digest, member.__code__)
            digest.update(repr((member.__defaults__, member.__kwdefaults__)).encode())
    elif isinstance(member, (bool, int, float, str, tuple)) and not name.startswith("__"):
        digest.update(f"{name}={member!r}".encode())


def _digest_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code + repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _digest_code(digest, constant)
        else:
            digest.update(repr(constant).encode())


@lru_cache(maxsize=1)
def code_version() -> str:
    """Hash of the files of the package that can change a result."""
    root = Path(lazyvos.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        inner = file.relative_to(root)
        if not any(inner.match(pattern) for pattern in _ASIDE):
            digest.update(inner.as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
