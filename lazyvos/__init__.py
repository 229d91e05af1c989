"""lazyvos keeps an object segmented through video of any length and asks for one click only when it is about to lose it.

The names below are the ones that notebooks use; each lives in the module named beside it and is imported when first touched,
so that ``import lazyvos`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Action": "types", "Click": "types", "Decision": "types", "InputError": "types", "Prediction": "types",
    "Request": "types", "Step": "types",
    "Tracker": "tracker", "make_tracker": "build", "load": "hub", "Rounds": "rounds", "Session": "session",
    "open_source": "video", "open_bundled": "datasets", "DavisFolder": "datasets", "SyntheticClip": "datasets",
    "FifoMemory": "memory", "ReadMem": "memory", "Unbounded": "memory",
    "Entropy": "uncertainty", "Lazy": "interact", "Never": "interact", "Nobody": "interact", "SimulatedUser": "interact",
    "TinyRefiner": "refine", "run_clip": "run", "evaluate_folder": "evaluate",
}  # fmt: skip

__all__ = sorted(_WHERE)

if TYPE_CHECKING:
    from lazyvos.build import make_tracker as make_tracker
    from lazyvos.datasets import DavisFolder as DavisFolder
    from lazyvos.datasets import SyntheticClip as SyntheticClip
    from lazyvos.datasets import open_bundled as open_bundled
    from lazyvos.evaluate import evaluate_folder as evaluate_folder
    from lazyvos.hub import load as load
    from lazyvos.interact import Lazy as Lazy
    from lazyvos.interact import Never as Never
    from lazyvos.interact import Nobody as Nobody
    from lazyvos.interact import SimulatedUser as SimulatedUser
    from lazyvos.memory import FifoMemory as FifoMemory
    from lazyvos.memory import ReadMem as ReadMem
    from lazyvos.memory import Unbounded as Unbounded
    from lazyvos.refine import TinyRefiner as TinyRefiner
    from lazyvos.rounds import Rounds as Rounds
    from lazyvos.run import run_clip as run_clip
    from lazyvos.session import Session as Session
    from lazyvos.tracker import Tracker as Tracker
    from lazyvos.types import Action as Action
    from lazyvos.types import Click as Click
    from lazyvos.types import Decision as Decision
    from lazyvos.types import InputError as InputError
    from lazyvos.types import Prediction as Prediction
    from lazyvos.types import Request as Request
    from lazyvos.types import Step as Step
    from lazyvos.uncertainty import Entropy as Entropy
    from lazyvos.video import open_source as open_source


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"lazyvos.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'lazyvos' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
