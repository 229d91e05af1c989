"""Networks by name: which class, which configuration, which weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lazyvos.backbones.fusion import FusionNet
from lazyvos.backbones.fusion_light import LightFusion
from lazyvos.backbones.mivos import MiVOS
from lazyvos.backbones.qdmn import QDMN
from lazyvos.backbones.stcn import STCN
from lazyvos.backbones.xmem import XMem, XMemConfig
from lazyvos.convert import adapt, identify, read_checkpoint, sized
from lazyvos.device import compile_network, pick_precision
from lazyvos.fetch import pull
from lazyvos.masks.atomic import atomic_path
from lazyvos.refine.clicknet import ClickNet
from lazyvos.refine.ritm import H18, H18S, RitmNet
from lazyvos.registry import releases, releases_of
from lazyvos.types import InputError

_SHIPPED = {
    name: f"{name}.safetensors" for name in ("tiny", "tiny-b", "tiny-c", "tiny-drop", "tiny-stm", "tiny-evidential", "tiny-click")
}
_BASES = {"tiny-evidential": "tiny"}
"""Networks whose file holds only what differs from another shipped one."""
MEMBERS = {"tiny-b": "tiny", "tiny-c": "tiny", "tiny-drop": "tiny"}
"""Other weights of a network of :data:`NETWORKS`: two trained on with other pictures (for an ensemble), one trained with dropout."""

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tiny": lambda: XMem(XMemConfig.tiny()),
    "tiny-stm": lambda: XMem(XMemConfig.tiny_stm()),
    "tiny-evidential": lambda: XMem(XMemConfig.tiny_evidential()),
    "tiny-click": ClickNet,
    "tiny-fusion": LightFusion,
    "xmem": XMem,
    "stcn": STCN,
    "mivos": MiVOS,
    "mivos-fusion": FusionNet,
    "qdmn": QDMN,
    "ritm-h18s": lambda: RitmNet(H18S),
    "ritm-h18": lambda: RitmNet(H18),
}


def shipped() -> tuple[str, ...]:
    """Names of the networks (and :data:`MEMBERS`) whose weights come with this copy of the package."""
    folder = resources.files("lazyvos.weights")
    return tuple(name for name, file in _SHIPPED.items() if (folder / file).is_file())


def network_of(state: Mapping[str, Tensor]) -> str | None:
    """Which network of :data:`NETWORKS` a state dict fits, by its keys and shapes; ``None`` for none of them."""
    return identify(state, NETWORKS)


def network_named(name: str) -> str:
    """The network of :data:`NETWORKS` that ``name`` stands for. Raises :class:`InputError` for an unknown name."""
    name = MEMBERS.get(name, name)
    if name not in NETWORKS:
        raise InputError(f"network {name!r} is unknown; choose one of {', '.join([*NETWORKS, *MEMBERS])}")
    return name


def _build(name: str) -> nn.Module:
    return NETWORKS[network_named(name)]()


def _weights_file(name: str) -> Path:
    file = Path(str(resources.files("lazyvos.weights"))) / _SHIPPED[name]
    if not file.exists():
        raise InputError(f"weights of {name!r} are missing at {file}; install the package again, or give weights=FILE")
    return file


def _fill(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    own = net.state_dict()
    adapted = adapt(state, net)
    if adapted.differences:
        other = network_of(state)
        mend = f"it looks like {other!r}: use load({other!r}, …)" if other else "check the name"
        raise InputError(f"{where} does not fit this network: {adapted.differences}; {mend}")
    net.load_state_dict({key: value.to(own[key].dtype) for key, value in adapted.state.items()})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` or ``.pth``/``.pt`` file; see :func:`lazyvos.convert.read_checkpoint`.

    A shipped file that holds only what differs from another shipped network is completed from that.
    """
    folder = Path(str(resources.files("lazyvos.weights")))
    base = next((other for name, other in _BASES.items() if Path(path) == folder / _SHIPPED[name]), None)
    return read_checkpoint(path) if base is None else read_checkpoint(_weights_file(base)) | read_checkpoint(path)


def find_weights(weights: str | Path, network: str | None = None) -> Path:
    """Path of the weights that a user names: a registry name (downloaded if need be), a shipped network's, or a file.

    Raises :class:`InputError` for a release of another network than ``network``, and where there is nothing.
    """
    if isinstance(weights, str) and weights in releases():
        release = releases()[weights]
        if network is not None and release.network != network:
            own = releases_of(network)
            mend = f"choose {' or '.join(own)}" if own else "there is none in the registry"
            raise InputError(f"weights {weights!r} are of network {release.network!r}, not {network!r}; {mend}, or give a file")
        return pull(release)
    if isinstance(weights, str) and weights in _SHIPPED:
        return _weights_file(weights)
    if not Path(weights).is_file():
        raise InputError(f"weights {weights} do not exist; give a .safetensors, .pth or .pt file, or one of {', '.join(releases())}")
    return Path(weights)


def load(
    name: str = "tiny", weights: str | Path | None = None, *, device: str | torch.device = "cpu", seed: int | None = None,
    precision: str | None = None, compile: bool = False,
) -> nn.Module:  # fmt: skip
    """Build a network by name and fill it.

    Parameters
    ----------
    name: a network of :data:`NETWORKS`, or of :data:`MEMBERS`. Those of :func:`shipped` come with weights; the
        published ones get random weights (seed 0, with a warning) unless ``weights`` are given.
    weights: a name of the registry (``lazyvos weights list``), downloaded once; or a file in the authors' layout or
        ours (``.pth``, ``.safetensors``), plain or within a training checkpoint. Code in a file never runs.
        An XMem takes its sizes from the file (the model without sensory memory included).
    device: where the network goes.
    seed: build with random weights drawn from this seed instead of reading any; not together with ``weights``.
    precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``: what a tracker around this network computes in unless it is told
        otherwise (autocast; the weights stay in fp32).
    compile: compile it (:func:`lazyvos.device.compile_network`).

    Returns
    -------
    The network in evaluation mode, channels last.

    Raises :class:`InputError` for an unknown name, weights that do not fit, and a download that fails.
    """
    if seed is not None and weights is not None:
        raise InputError(f"load({name!r}) got both weights={str(weights)!r} and seed={seed}; give one of them")
    if seed is None and weights is None and name in NETWORKS and name not in _SHIPPED:
        named = "".join(f", weights={own!r}" for own in releases_of(name))
        warnings.warn(f"{name!r} ships without weights, these are random ones (seed 0); give weights=FILE{named}, or seed=0",
                      UserWarning, stacklevel=2)  # fmt: skip
        seed = 0
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = _build(name)
    else:
        network = network_named(name)
        file = find_weights(weights, network) if weights is not None else _weights_file(name)
        state = read_weights(file)
        net = sized(NETWORKS[network], state)
        _fill(net, state, str(file))
    net = net.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision is not None:
        net.precision = pick_precision(precision, str(device))  # type: ignore[assignment]
    return compile_network(net, str(device)) if compile else net


def save(net: nn.Module, path: str | Path, facts: dict[str, object] | None = None, *, half: bool = True) -> None:
    """Write the weights of ``net`` as safetensors with ``facts`` in the header; atomic. ``half=False`` keeps their precision."""
    state = {k: (v.detach().half() if half and v.is_floating_point() else v.detach()).contiguous() for k, v in net.state_dict().items()}
    with atomic_path(path) as partial:
        save_file(state, partial, {"facts": json.dumps(facts or {})})
