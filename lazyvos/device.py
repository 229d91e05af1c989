"""Where and how a network computes: device, precision, compilation."""

from __future__ import annotations

import shutil

import torch
from torch import nn

from lazyvos.types import InputError


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
        if precision not in ("fp32", "bf16", "fp16"):
            raise InputError(f"precision {precision!r} is unknown; choose auto, fp32, bf16 or fp16")
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, name, bool)() for name in names) else "fp32"


def compile_network(net: nn.Module, device: str) -> nn.Module:
    """``net`` with its parts compiled by ``torch.compile``, in place; names of weights stay.

    Compilation happens on the first frames (minutes on a CPU) and again when frame size or number of objects changes.

    Raises :class:`InputError` where the machine cannot compile: on a CPU that needs a C++ compiler.
    """
    if device.startswith("cpu") and not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        raise InputError("compiling for the CPU needs a C++ compiler (g++ or clang++); install one or leave compile off")
    for part in net.children():
        part.compile()
    return net
