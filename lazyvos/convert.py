"""Checkpoints as authors write them, to state dicts that our networks take; nothing in a file is ever executed.

What differs between layouts: a state dict may be wrapped in a training checkpoint, its keys prefixed by
``DataParallel``, and a network pre-trained on single objects has a mask encoder without the channel for the other
objects' masks (XMem, STCN and QDMN: stage 0).
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.refine.ritm import RitmNet
from lazyvos.types import InputError

Layout = dict[str, tuple[int, ...]]
WRAPPERS = ("average", "state_dict", "model_state_dict", "network", "model", "net", "weights")
PREFIXES = ("module.", "_orig_mod.")
MASK_INPUTS = ("value_encoder.conv1.weight", "mask_rgb_encoder.conv1.weight")


@dataclass
class Adapted:
    """A state dict in our layout, and what was done to it.

    ``state``: tensors by key. ``done``: the changes, in words. ``differences``: how it still differs from the
    network, in words; empty when it fits.
    """

    state: dict[str, Tensor]
    done: list[str] = field(default_factory=list)
    differences: str = ""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` or ``.pth``/``.pt`` file; taken out of a training checkpoint, prefixes removed.

    Raises :class:`InputError` for a missing file, one that is damaged, one that holds no state dict, and one that
    could only be opened by running code from it.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"weights {file} do not exist; give a .safetensors, .pth or .pt file")
    try:
        loaded = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if wanted := _foreign(str(error)):
            raise InputError(
                f"weights {file} cannot be read safely: opening them would run code for {wanted}; `lazyvos weights convert` "
                "cannot do it safely either: save the plain state dict (torch.save(model.state_dict(), FILE)) where you trust it"
            ) from error
        raise InputError(f"weights {file} cannot be read (no file of torch.save); download it again") from error
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        raise InputError(f"weights {file} cannot be read ({type(error).__name__}: {text}); download it again") from error
    state = unwrap(loaded)
    if state is None:
        raise InputError(f"weights {file} hold no state dict of tensors, neither plain nor under {', '.join(WRAPPERS)}")
    return state


def _foreign(message: str) -> str | None:
    """The Python object that a refused pickle asks for."""
    found = re.search(r"GLOBAL (\S+)|(?:type|class|function|module) (?:named )?['\"`]?([\w.]+\.\w+)", message)
    return (found[1] or found[2]) if found else None


def unwrap(loaded: Any) -> dict[str, Tensor] | None:
    """The state dict in what a file holds: plain, or below one of :data:`WRAPPERS`; ``None`` where there is none."""
    if not isinstance(loaded, Mapping) or not loaded:
        return None
    if all(isinstance(value, Tensor) and isinstance(key, str) for key, value in loaded.items()):
        return _unprefixed(dict(loaded))
    inner = (unwrap(loaded[key]) for key in WRAPPERS if key in loaded)
    return next((state for state in inner if state is not None), None)


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        while all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def layout(state: Mapping[str, Tensor]) -> Layout:
    """Key to shape."""
    return {key: tuple(value.shape) for key, value in state.items()}


def adapt(state: Mapping[str, Tensor], net: nn.Module) -> Adapted:
    """Bring ``state`` to the layout of ``net``, as far as it is known how.

    A mask encoder for single objects gets a zero channel for the other objects (XMem, section 4; the same in STCN and
    QDMN); the step counters of batch normalisation, which inference never reads, are added where they are missing;
    keys that RITM's network does not have are left out, as its authors load their files non-strictly.
    """
    wanted = layout(net.state_dict())
    answer = Adapted(dict(state))
    for key in MASK_INPUTS:
        held = answer.state.get(key)
        if held is None or key not in wanted or held.ndim != 4:
            continue
        if held.shape[1] == 4 and wanted[key] == (held.shape[0], 5, *held.shape[2:]):
            answer.state[key] = torch.cat([held, torch.zeros_like(held[:, :1])], 1)
            answer.done.append(f"{key}: a zero channel for other objects appended")
    counters = [k for k in wanted if k.endswith("num_batches_tracked") and k not in answer.state]
    if counters:
        answer.state.update({key: torch.zeros((), dtype=torch.long) for key in counters})
        answer.done.append(f"{len(counters)} counters of batch normalisation added")
    if isinstance(net, RitmNet):
        spare = [key for key in answer.state if key not in wanted]
        for key in spare:
            del answer.state[key]
        if spare:
            answer.done.append(f"{len(spare)} keys left out that the network does not have: {', '.join(spare[:3])}")
    answer.differences = differences(layout(answer.state), wanted)
    return answer


def differences(found: Layout, wanted: Layout) -> str:
    """The first differences between two layouts in words; empty when they agree."""
    missing = [k for k in wanted if k not in found]
    unexpected = [k for k in found if k not in wanted]
    shapes = [f"{k} {found[k]} instead of {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
    parts = (f"missing {missing[:3]}" if missing else "", f"unexpected {unexpected[:3]}" if unexpected else "",
             f"shape of {shapes[:3]}" if shapes else "")  # fmt: skip
    return "; ".join(p for p in parts if p)


def xmem_config(state: Mapping[str, Tensor]) -> XMemConfig | None:
    """Sizes of an XMem read from its checkpoint, as the authors do; ``None`` for a state dict of something else.

    C_k, C_v and C_h are the rows of three convolutions; without a hidden update there is no sensory memory.
    """
    key, value = state.get("key_proj.key_proj.weight"), state.get("value_encoder.fuser.block2.conv2.weight")
    hidden = state.get("decoder.hidden_update.transform.weight")
    if key is None or value is None or "key_proj.d_proj.weight" not in state:
        return None
    if any(part is not None and part.ndim != 4 for part in (key, value, hidden)):
        return None
    return XMemConfig(key_dim=key.shape[0], value_dim=value.shape[0], hidden_dim=0 if hidden is None else hidden.shape[0] // 3)


def blank(build: Callable[[], nn.Module], state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """The network of ``build`` without storage (meta device), an XMem in the sizes of ``state``."""
    with torch.device("meta"):
        return sized(build, state) if state is not None else build()


def sized(build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> nn.Module:
    """The network of ``build``; the published XMem in the sizes that its checkpoint ``state`` has."""
    config = xmem_config(state) if build is XMem else None
    return build() if config is None else XMem(config)


def identify(state: Mapping[str, Tensor], networks: Mapping[str, Callable[[], nn.Module]]) -> str | None:
    """Name of the network of ``networks`` that ``state`` fits; ``None`` when it fits none."""
    for name, build in networks.items():
        net = blank(build, state) if build is XMem else _blank(build)
        if not adapt(state, net).differences:
            return name
    return None


@cache
def _blank(build: Callable[[], nn.Module]) -> nn.Module:
    return blank(build)
