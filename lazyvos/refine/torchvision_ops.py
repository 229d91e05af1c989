"""Import torchvision beside a torch whose build it was not compiled for.

torchvision's wheels carry compiled operators made for one build of torch. Beside another one (typically a CPU torch with the CUDA
wheel of torchvision) these cannot load. torchvision means to go on without them, but stops half-way: it describes shapes for the
operators ``nms`` and ``qnms``, and torch refuses a description of an operator that has no schema::

    RuntimeError: operator torchvision::nms does not exist

Declaring the two schemas is all that is missing. Everything in plain Python then works (resizing, boxes, models); the two operators
have still no implementation, so ``torchvision.ops.nms`` goes on raising torchvision's own error about its compiled part.

Schemas are declared only after an import has failed in just this way, never beforehand: where the compiled operators do load, they
bring their schemas with them, and torch refuses to have one declared twice.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")
_FAILURE = "operator torchvision::nms does not exist"

_declared: list[torch.library.Library] = []  # a schema goes away with the library object that declared it


def import_torchvision() -> ModuleType:
    """The module ``torchvision``, importable from then on by anybody else in the process too.

    Raises ``ModuleNotFoundError`` where it is not installed; any other failure of the import passes through.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _FAILURE not in str(error):
            raise
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]  # what the failed import left behind
    _declare()
    return importlib.import_module("torchvision")


def _declare() -> None:
    """Declare the schemas that torch does not know yet."""
    missing = [name for name in OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(name + SIGNATURE)
        _declared.append(library)
