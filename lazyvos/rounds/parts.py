"""The parts of :class:`lazyvos.rounds.Rounds` from their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from lazyvos import hub
from lazyvos.backbones.base import Backbone
from lazyvos.build import BACKBONES, MEMORIES, SIZES, make_memory, make_refiner
from lazyvos.memory import Unbounded
from lazyvos.memory.base import Memory
from lazyvos.refine.base import Refiner
from lazyvos.rounds.difference import FUSIONS, Fusion
from lazyvos.types import InputError

HISTORIES = ("code", "latest", "restart")
Progress = bool | Callable[[int, int], None]


def choice(what: str, value: str, among: tuple[str, ...]) -> None:
    """Raises :class:`InputError` unless ``value`` is one of ``among``."""
    if value not in among:
        raise InputError(f"{what} {value!r} is unknown; choose one of {', '.join(among)}")


def backbone_of(
    what: str | Backbone, weights: str | Path | None, device: str, size: int | None
) -> tuple[Backbone, int | None]:
    """The network, and the short side it runs at (``size`` 0: its own default)."""
    if isinstance(what, str) and what not in BACKBONES:
        raise InputError(f"backbone {what!r} is unknown; choose one of {', '.join(BACKBONES)}")
    own = SIZES.get(what, 480) if isinstance(what, str) else 480
    side = own if size == 0 else size
    net: Any = hub.load(what, weights, device=device) if isinstance(what, str) else what
    if side is not None and side < net.stride:
        raise InputError(f"size {side} is below the backbone's stride {net.stride}; 240 or 480 are usual")
    return net, side


def refiner_of(what: str | Refiner | None, weights: str | Path | None, device: str, precision: str) -> Refiner | None:
    """The refiner; RITM by name sees all clicks of a round at once, as in CiVOS."""
    if not isinstance(what, str):
        return what
    options = {"together": True} if what.startswith("ritm") else {}
    return make_refiner(what, weights=weights, device=device, precision=precision, **options)


def memory_maker(what: str | Callable[[], Memory], options: Mapping[str, Any] | None) -> Callable[[], Memory]:
    """A function that makes a fresh memory for every pass; tried once, so that a wrong option shows at once."""
    settings = dict(options or {})
    if what == "code":
        make: Callable[[], Memory] = lambda: Unbounded(**{"every": 5, "flexible": True, "adjacent": True, **settings})  # noqa: E731
    elif isinstance(what, str):
        if what not in MEMORIES:
            raise InputError(f"memory {what!r} is unknown; choose one of {', '.join(('code', *MEMORIES))}")
        make = lambda: make_memory(what, **settings)  # noqa: E731
    elif callable(what):
        make = what
    else:
        raise InputError(f"memory is a {type(what).__name__}, but every pass needs a fresh one; give its name, or a function that makes one")
    make()
    return make


def fusion_of(what: str | nn.Module, weights: str | Path | None, device: str) -> Fusion:
    """How rounds are merged.

    ``"learned"`` takes ``weights`` (of ``mivos-fusion`` or ``tiny-fusion``), else the shipped ``tiny-fusion``; ``"auto"`` does the same,
    and without any is ``"linear"``. Raises :class:`InputError` for an unknown name, and for ``"learned"`` without weights.
    """
    if isinstance(what, nn.Module):
        return Fusion("learned", what.eval().to(device))  # type: ignore[arg-type]
    if what not in FUSIONS:
        raise InputError(f"fusion {what!r} is unknown; choose one of {', '.join(FUSIONS)}, or give a network")
    if what in ("linear", "none"):
        return Fusion(what)
    name = "tiny-fusion" if "tiny-fusion" in hub.shipped() else None
    if weights is not None:
        name = hub.network_of(hub.read_weights(hub.find_weights(weights)))
        if name not in ("mivos-fusion", "tiny-fusion"):
            raise InputError(f"weights {weights} are of {name or 'no known network'}, not of a fusion network; give those of mivos-fusion")
    if name is None:
        if what == "auto":
            return Fusion("linear")
        raise InputError("fusion 'learned' needs weights; give fusion_weights=FILE of mivos-fusion or tiny-fusion, or fusion='linear'")
    return Fusion("learned", hub.load(name, weights, device=device))  # type: ignore[arg-type]


@contextmanager
def reporting(progress: Progress, total: int, title: str) -> Iterator[Callable[[], None]]:
    """A function to call after every frame: moves a bar on stderr, or calls ``progress(done, total)``; also once at the start."""
    if callable(progress):
        done = 0
        progress(0, total)

        def tell() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        yield tell
        return
    with tqdm(total=total, desc=title, unit="frame", disable=not progress, dynamic_ncols=True, leave=False) as bar:
        yield lambda: bar.update() and None


def named(part: Any) -> Any:
    """A name as it is; of anything else, what it is."""
    return part if part is None or isinstance(part, str) else {"object": getattr(part, "__qualname__", type(part).__name__)}


def path_text(where: str | Path | None) -> str | None:
    """For JSON."""
    return None if where is None else str(where)
