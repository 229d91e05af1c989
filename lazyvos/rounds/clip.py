"""The clip under the network: frames by number, and their encodings, kept from round to round as far as memory allows."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone, Entry, Query
from lazyvos.geometry import Geometry
from lazyvos.rounds.state import Annotation
from lazyvos.types import InputError
from lazyvos.video import ArraySource, FolderSource, Source, open_source

MB = 2**20


class Frames:
    """Frames ``uint8 [H, W, 3]`` RGB of a clip, by number and in any order.

    Arrays and folders of images are read in place. Everything else can only be read forward at speed, so it is decoded once: into
    memory up to ``limit`` bytes, beyond it into a temporary file that goes with this object.

    Raises :class:`InputError` for a source without a known end (a camera, a generator).
    """

    def __init__(self, video: Any, limit: int = 1024 * MB) -> None:
        inner = getattr(video, "frames", None)
        source = inner if isinstance(inner, Source) else open_source(video)
        if source.length is None:
            raise InputError(f"the length of {source.name} is not known, but rounds go back and forth in a whole clip; "
                             "give a file, a folder, an array or a list of frames")  # fmt: skip
        self.name, self.size, self.fps = source.name, source.size, source.fps
        self._source = source if isinstance(source, ArraySource | FolderSource) else None
        self._kept: Any = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._length = source.length
        if self._source is None:
            self._decode(source, limit)

    def _decode(self, source: Source, limit: int) -> None:
        count, (height, width) = self._length, self.size
        if count * height * width * 3 > limit:
            self._folder = tempfile.TemporaryDirectory(prefix="lazyvos-rounds-", ignore_cleanup_errors=True)
            path = Path(self._folder.name) / "frames.u8"
            self._kept = np.memmap(path, np.uint8, "w+", shape=(count, height, width, 3))
        else:
            self._kept = np.empty((count, height, width, 3), np.uint8)
        done = 0
        with source:
            for done, frame in enumerate(source, 1):
                self._kept[done - 1] = frame
        if not done:
            raise InputError(f"{self.name} holds no frames; give a clip with at least one")
        self._length = done  # a file may promise a frame or two more than it holds

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, t: int) -> np.ndarray:
        return self._source.frame(t) if self._source is not None else np.asarray(self._kept[t])

    def check(self, t: int) -> None:
        """Raises :class:`InputError` if there is no frame ``t``."""
        if not isinstance(t, int | np.integer) or isinstance(t, bool) or not 0 <= t < len(self):
            raise InputError(f"frame {t} does not exist; {self.name} has frames 0 to {len(self) - 1}")


class Encoder:
    """A backbone on a clip.

    Encodings of frames do not depend on the round (but for networks whose state is a mask, QDMN), so they are kept up to
    ``cache`` bytes on the network's device; frames beyond that are encoded again in every round.
    """

    def __init__(
        self, net: Backbone, frames: Frames, geometry: Geometry, device: torch.device, precision: str, cache: int
    ) -> None:
        self.net, self.frames, self.geometry, self.device = net, frames, geometry, device
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._limit = 0 if getattr(net, "state_is_mask", False) else cache
        self._queries: dict[int, Query] = {}
        self.cached = 0

    def autocast(self) -> torch.autocast:
        """What encoders and decoders run in."""
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None)

    def image(self, t: int) -> Tensor:
        """Frame ``t`` as the network takes it, ``float32 [3, h, w]``."""
        return self.geometry.image(self.frames[t], self.device)

    def query(self, t: int, image: Tensor | None = None, state: Tensor | None = None) -> Query:
        """Frame ``t`` encoded; ``image`` where it is at hand."""
        found = self._queries.get(t)
        if found is not None:
            return found
        with self.autocast():
            found = self.net.encode(self.image(t) if image is None else image, state)
        size = _bytes((found.key, found.address, found.shrinkage, found.features))
        if self.cached + size <= self._limit:
            self._queries[t] = found
            self.cached += size
        return found

    def start(self, annotation: Annotation, t: int = 0) -> tuple[Entry, Tensor | None]:
        """The memory entry of a given mask, and the recurrent state after it, started afresh."""
        image = self.image(annotation.frame)
        query = self.query(annotation.frame, image)
        masks = self._masks(annotation)
        state = self.net.initial_state(len(annotation.objects), query.grid)
        with self.autocast():
            entry, state = self.net.memorise(t, query, image, masks, annotation.objects, state, True)
        return replace(entry, masks=masks), state

    def entry(self, annotation: Annotation) -> Entry:
        """The memory entry of a given mask, made once."""
        if annotation.entry is None:
            annotation.entry = self.start(annotation)[0]
        return annotation.entry

    def _masks(self, annotation: Annotation) -> Tensor:
        planes = annotation.cell.planes()
        if annotation.cell.size == self.geometry.frame:
            planes = self.geometry.masks(planes)
        return planes.to(self.device)


def _bytes(thing: Any) -> int:
    """Bytes of all tensors in a nest of tuples; other things count as none."""
    if isinstance(thing, Tensor):
        return thing.element_size() * thing.nelement()
    return sum(map(_bytes, thing)) if isinstance(thing, tuple) else 0
