"""What a round leaves of every frame: soft masks, label map and scores, packed, and never changed once made."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.geometry import Geometry
from lazyvos.types import InputError
from lazyvos.uncertainty.base import Uncertainty

PRECISIONS = ("uint8", "float16", "float32")
"""How soft masks are kept. ``uint8`` is rounded to 1/255 and packs to a few kilobytes; the others pack to about a third."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One frame: probabilities of ``objects`` at ``size = (h, w)``, its label map at the frame's size, a score per object.

    ``soft`` and ``labels`` are zlib streams; ``precision`` is one of :data:`PRECISIONS`. ``size`` is the padded size of the network, or the
    frame's own where the mask was given there.
    """

    objects: tuple[int, ...]
    size: tuple[int, int]
    precision: str
    soft: bytes
    labels: bytes
    scores: tuple[float, ...]

    def planes(self) -> Tensor:
        """``float32 [O, h, w]`` in [0, 1]."""
        raw = np.frombuffer(bytearray(zlib.decompress(self.soft)), self.precision).reshape(len(self.objects), *self.size)
        planes = torch.from_numpy(raw).float()
        return planes.div_(255) if self.precision == "uint8" else planes

    def label_map(self, frame: tuple[int, int]) -> np.ndarray:
        """``uint8 [H, W]`` of object ids for a frame of size ``(H, W)``."""
        return np.frombuffer(bytearray(zlib.decompress(self.labels)), np.uint8).reshape(frame)

    @property
    def nbytes(self) -> int:
        """Bytes that the frame takes in memory."""
        return len(self.soft) + len(self.labels)


def with_background(planes: Tensor) -> Tensor:
    """Object probabilities ``[O, H, W]`` to ``[1 + O, H, W]``, background first; they sum to 1."""
    full = torch.cat([(1 - planes.sum(0, keepdim=True)).clamp_(min=0), planes])
    return full.div_(full.sum(0, keepdim=True))


def most_probable(full: Tensor, objects: tuple[int, ...]) -> Tensor:
    """Label map ``uint8 [H, W]`` of ``full [1 + O, H, W]``; of equals the first. Twenty times faster on a CPU than ``argmax``."""
    best = full[0].clone()
    labels = torch.zeros_like(best, dtype=torch.uint8)
    for identity, plane in zip(objects, full[1:], strict=True):
        labels.masked_fill_(plane > best, identity)
        torch.maximum(best, plane, out=best)
    return labels


class Packer:
    """Makes cells.

    Parameters
    ----------
    geometry: between frame and network. precision: of :data:`PRECISIONS`. uncertainty: scores the objects.
    """

    def __init__(self, geometry: Geometry, precision: str, uncertainty: Uncertainty) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"store {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
        needs: frozenset[str] = getattr(uncertainty, "needs", frozenset())
        if needs:
            raise InputError(f"{type(uncertainty).__name__} needs {' and '.join(sorted(needs))}, but rounds score fused probabilities; use Entropy")
        self.geometry, self.precision, self.uncertainty = geometry, precision, uncertainty

    def pack(self, planes: Tensor, objects: tuple[int, ...], *, at_frame: bool = False) -> Cell:
        """A cell of ``planes [O, h, w]`` at the network's padded size, or with ``at_frame`` at the frame's."""
        shown = planes if at_frame else self.geometry.probabilities(planes)
        full = with_background(shown)
        labels = most_probable(full, objects).cpu().numpy()
        scores = self.uncertainty(full, labels, objects).scores
        if self.precision == "uint8":
            raw = (planes * 255).round_().to(torch.uint8)
        else:
            raw = planes.half() if self.precision == "float16" else planes.float()
        soft = zlib.compress(raw.cpu().contiguous().numpy().data, 1)
        size = (int(planes.shape[1]), int(planes.shape[2]))
        return Cell(objects, size, self.precision, soft, zlib.compress(labels.data, 1), tuple(float(scores[o]) for o in objects))


@dataclass(eq=False)
class Annotation:
    """A mask that was given: on which frame, of which objects; ``entry`` is what the memory reads, made when first needed."""

    frame: int
    objects: tuple[int, ...]
    cell: Cell
    entry: Entry | None = None


@dataclass(frozen=True, eq=False)
class State:
    """All frames after a round. States share what did not change, so that keeping them costs only the differences.

    Attributes
    ----------
    geometry: between frame and network.
    cells: one for each frame, ``None`` where no round came by.
    objects: ids in the order they were introduced.
    annotations: every mask given so far, in order; a frame may occur more than once.
    """

    geometry: Geometry
    cells: tuple[Cell | None, ...]
    objects: tuple[int, ...] = ()
    annotations: tuple[Annotation, ...] = field(default=())

    @property
    def annotated(self) -> tuple[int, ...]:
        """Frames with a given mask, ascending."""
        return tuple(sorted({a.frame for a in self.annotations}))

    def annotated_for(self, object_id: int) -> set[int]:
        """Frames on which a mask of this object was given."""
        return {a.frame for a in self.annotations if object_id in a.objects}

    def planes(self, t: int, objects: tuple[int, ...]) -> Tensor:
        """Probabilities ``float32 [O, H, W]`` of ``objects`` at the frame's size; 0 for those that are not there."""
        if not objects or self.cells[t] is None:
            return torch.zeros(len(objects), *self.geometry.frame)
        found = self._chosen(t, objects)
        return found if self._at_frame(t) else self.geometry.probabilities(found)

    def at_network(self, t: int, objects: tuple[int, ...]) -> Tensor:
        """Like :meth:`planes`, at the network's padded size."""
        if not objects or self.cells[t] is None:
            return torch.zeros(len(objects), *network_size(self.geometry))
        found = self._chosen(t, objects)
        return self.geometry.masks(found) if self._at_frame(t) else found

    def labels(self, t: int) -> np.ndarray:
        """Label map ``uint8 [H, W]``: the most probable object, 0 for background."""
        cell = self.cells[t]
        return np.zeros(self.geometry.frame, np.uint8) if cell is None else cell.label_map(self.geometry.frame)

    def probabilities(self, t: int) -> Tensor:
        """``float32 [1 + O, H, W]``, background first, one channel for each of :attr:`objects`; sums to 1."""
        return with_background(self.planes(t, self.objects))

    def scores(self, t: int) -> dict[int, float]:
        """Uncertainty of each object on frame ``t``."""
        cell = self.cells[t]
        return {} if cell is None else dict(zip(cell.objects, cell.scores, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of all cells."""
        return sum(cell.nbytes for cell in self.cells if cell is not None)

    def _at_frame(self, t: int) -> bool:
        cell = self.cells[t]
        return cell is not None and cell.size == self.geometry.frame

    def _chosen(self, t: int, objects: tuple[int, ...]) -> Tensor:
        cell = self.cells[t]
        assert cell is not None
        if cell.objects == objects:
            return cell.planes()
        out, held = torch.zeros(len(objects), *cell.size), cell.planes()
        for channel, identity in enumerate(objects):
            if identity in cell.objects:
                out[channel] = held[cell.objects.index(identity)]
        return out


def network_size(geometry: Geometry) -> tuple[int, int]:
    """``(h, w)`` of the network's input, padding included."""
    left, right, top, bottom = geometry.pad
    return geometry.inner[0] + top + bottom, geometry.inner[1] + left + right


def cell_facts(cell: Cell) -> dict[str, Any]:
    """All of a cell but its streams, for JSON."""
    return {"objects": list(cell.objects), "size": list(cell.size), "precision": cell.precision, "scores": list(cell.scores),
            "soft": len(cell.soft), "labels": len(cell.labels)}  # fmt: skip
