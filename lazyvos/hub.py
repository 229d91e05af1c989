"""Networks by name: which class, which configuration, which weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lazyvos.backbones.fusion import FusionNet
from lazyvos.backbones.mivos import MiVOS
from lazyvos.backbones.qdmn import QDMN
from lazyvos.backbones.stcn import STCN
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.masks.atomic import atomic_path
from lazyvos.refine.clicknet import ClickNet
from lazyvos.refine.ritm import H18, H18S, RitmNet
from lazyvos.types import InputError

_SHIPPED = {"tiny": "tiny.safetensors", "tiny-click": "tiny-click.safetensors"}


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tiny": lambda: XMem(XMemConfig.tiny()),
    "tiny-click": ClickNet,
    "xmem": XMem,
    "stcn": STCN,
    "mivos": MiVOS,
    "mivos-fusion": FusionNet,
    "qdmn": QDMN,
    "ritm-h18s": lambda: RitmNet(H18S),
    "ritm-h18": lambda: RitmNet(H18),
}


def _build(name: str) -> nn.Module:
    if name not in NETWORKS:
        raise InputError(f"network {name!r} is unknown; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]()


def _weights_file(name: str) -> Path:
    file = Path(str(resources.files("lazyvos.weights"))) / _SHIPPED[name]
    if not file.exists():
        raise InputError(f"weights of {name!r} are missing at {file}; install the package again")
    return file


def _fill(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if wanted != found:
        missing = [k for k in wanted if k not in found]
        unexpected = [k for k in found if k not in wanted]
        shapes = [f"{k} {found[k]} instead of {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
        parts = [f"missing {missing[:3]}" if missing else "", f"unexpected {unexpected[:3]}" if unexpected else "",
                 f"shape of {shapes[:3]}" if shapes else ""]  # fmt: skip
        raise InputError(f"{where} does not fit this network: {'; '.join(p for p in parts if p)}; check the name")
    net.load_state_dict({key: value.to(net.state_dict()[key].dtype) for key, value in state.items()})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` or ``.pth``/``.pt`` file; code in it never runs.

    Raises :class:`InputError` for a missing file or one that holds no state dict.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"weights {file} do not exist; give a .safetensors, .pth or .pt file")
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"weights {file} cannot be read ({error.__class__.__name__}: {error}); download it again") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"weights {file} hold no plain state dict of tensors")
    return state


def load(
    name: str = "tiny", weights: str | Path | None = None, *, device: str | torch.device = "cpu", seed: int | None = None
) -> nn.Module:
    """Build a network by name and fill it.

    Parameters
    ----------
    name: ``"tiny"`` (tracker) or ``"tiny-click"`` (refiner), both shipped; or a published network of
        :data:`NETWORKS`, whose weights are read from a file in the authors' layout.
    weights: a weight file of the same layout instead of the shipped one.
    device: where the network goes.
    seed: build with random weights drawn from this seed instead of reading any.

    Returns
    -------
    The network in evaluation mode, channels last.

    Raises :class:`InputError` for an unknown name, or weights that do not fit.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = _build(name)
    else:
        net = _build(name)
        if weights is None and name not in _SHIPPED:
            raise InputError(f"{name!r} ships without weights; give weights=FILE, or seed=0 for random ones")
        file = Path(weights) if weights is not None else _weights_file(name)
        _fill(net, read_weights(file), str(file))
    return net.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def save(net: nn.Module, path: str | Path, facts: dict[str, object] | None = None) -> None:
    """Write the weights of ``net`` in half precision as safetensors, with ``facts`` in the header; atomic."""
    state = {k: v.detach().half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    with atomic_path(path) as partial:
        save_file(state, partial, {"facts": json.dumps(facts or {})})
