"""Segmenting a clip in rounds of clicks (CiVOS, Vujasinović et al., ICIP 2022; thesis, chapter 4)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from lazyvos.backbones.base import Backbone
from lazyvos.device import pick_device, pick_precision
from lazyvos.geometry import Geometry
from lazyvos.memory.base import Memory
from lazyvos.refine.base import Refiner
from lazyvos.rounds import parts as build
from lazyvos.rounds.clip import MB, Encoder, Frames
from lazyvos.rounds.engine import Engine
from lazyvos.rounds.interaction import COMBINATIONS
from lazyvos.rounds.parts import Progress, choice
from lazyvos.rounds.request import checked
from lazyvos.rounds.result import RoundResult
from lazyvos.rounds.state import Packer, State
from lazyvos.rounds.store import Folder
from lazyvos.types import Click, InputError
from lazyvos.uncertainty.base import Uncertainty
from lazyvos.uncertainty.entropy import Entropy


class Rounds:
    """A clip that a person segments in rounds: look at all of it, click on one frame, see all of it again.

    In a round (:meth:`interact`) the clicks become masks of all objects on their frame; these are propagated in both directions up
    to the nearest frames that were annotated before; in a direction that ends at such a frame the result is merged with that of the earlier rounds.

    A frame takes 6 to 24 kB of memory for each object (DAVIS clips, network at 320x576, ``store="uint8"``: rounded to 1/255 and packed), and
    the same again for every round that computes it anew, for :meth:`undo`. The features of frames take up to ``cache_mb``, 1.4 MB
    a frame with ``tiny`` at that size; frames beyond that are encoded in every round.

    Parameters
    ----------
    video: what :func:`lazyvos.video.open_source` opens and has an end, or a sequence of a dataset.
    backbone, weights: a name of :data:`lazyvos.build.BACKBONES`, or a network.
    refiner, refiner_weights: a name of :data:`lazyvos.build.REFINERS`, a refiner, or ``None`` (then only masks can be given). RITM also predicts objects
        without clicks, from their previous mask; with the others such objects keep it.
    fusion, fusion_weights: ``"learned"``, ``"linear"``, ``"none"`` (see :class:`lazyvos.rounds.Fusion`), a network, or ``"auto"``: learned where
        there are weights, else linear.
    memory, memory_options: ``"code"`` keeps every fifth frame of a pass and the previous one (MiVOS); or a name of
        :data:`lazyvos.build.MEMORIES`, or a function that makes a memory. Every pass starts a fresh one.
    history: the given masks that a pass starts with: ``"code"`` all of them in order (released code), ``"latest"`` the newest of each frame,
        ``"restart"`` only that of the round (thesis, section 4.4.3).
    combine: background beside several objects on the annotated frame, ``"max"`` or ``"product"`` (:func:`lazyvos.rounds.combine`).
    size: short side in pixels at which the network runs; 0 is the backbone's own default, ``None`` the frame's size.
    device, precision: as in :func:`lazyvos.build.make_tracker`.
    out: folder that keeps every round (label maps as PNG, soft masks); :meth:`open` goes on from there.
    store: precision of the soft masks kept, ``"uint8"``, ``"float16"`` or ``"float32"``.
    cache_mb: MB of features kept from round to round. frames_mb: MB of decoded frames kept in memory (files only).
    uncertainty: scores of frames for :meth:`suggest`; default the normalised entropy.
    progress: a bar on stderr, or ``progress(done, total)`` after every frame. What it raises ends the round, which then leaves no trace.

    Attributes
    ----------
    results: all rounds so far. frames: the clip, by number. refiner: what turns clicks into masks.

    Raises :class:`InputError` for unknown names, a clip without end, and a folder that holds rounds already.
    """

    def __init__(
        self,
        video: Any,
        backbone: str | Backbone = "tiny",
        refiner: str | Refiner | None = "tiny",
        fusion: str | nn.Module = "auto",
        *,
        memory: str | Callable[[], Memory] = "code",
        memory_options: Mapping[str, Any] | None = None,
        history: str = "code",
        combine: str = "max",
        size: int | None = 0,
        device: str | None = None,
        precision: str = "auto",
        weights: str | Path | None = None,
        refiner_weights: str | Path | None = None,
        fusion_weights: str | Path | None = None,
        out: str | os.PathLike[str] | None = None,
        store: str = "uint8",
        cache_mb: int = 512,
        frames_mb: int = 1024,
        uncertainty: Uncertainty | None = None,
        progress: Progress = True,
    ) -> None:
        choice("history", history, build.HISTORIES)
        choice("combine", combine, COMBINATIONS)
        where = pick_device(device)
        make_memory = build.memory_maker(memory, memory_options)
        self._folder = None if out is None else Folder(Path(out))
        if self._folder is not None and self._folder.used:
            raise InputError(f"{out} holds rounds already; go on with Rounds.open({str(out)!r}, video), or give another folder")
        self.frames = Frames(video, frames_mb * MB)
        net, side = build.backbone_of(backbone, weights, where, size)
        geometry = Geometry.of(self.frames.size, side, net.stride)
        packer = Packer(geometry, store, uncertainty or Entropy())
        merge = build.fusion_of(fusion, fusion_weights, where)
        self.refiner = build.refiner_of(refiner, refiner_weights, where, precision)
        wanted = getattr(net, "precision", "auto") if precision == "auto" else precision
        encoder = Encoder(net, self.frames, geometry, torch.device(where), pick_precision(wanted, where), cache_mb * MB)
        self._engine = Engine(encoder, self.refiner, make_memory, merge, packer, history, combine)
        self.progress = progress
        self.results: list[RoundResult] = []
        self._undone: list[RoundResult] = []
        self._empty = State(geometry, (None,) * len(self.frames))
        self._lock = threading.RLock()
        self._watchers: list[Callable[[Rounds, str], None]] = []
        self._settings = {
            "backbone": build.named(backbone), "weights": build.path_text(weights), "refiner": build.named(refiner), "refiner_weights": build.path_text(refiner_weights),
            "fusion": build.named(fusion), "fusion_weights": build.path_text(fusion_weights), "memory": build.named(memory),
            "memory_options": dict(memory_options or {}), "history": history, "combine": combine, "size": side, "store": store,
            "precision": precision, "frames": len(self.frames), "frame_size": list(self.frames.size),
        }  # fmt: skip

    @classmethod
    def open(cls, out: str | os.PathLike[str], video: Any, **parts: Any) -> Rounds:
        """Go on with the rounds in the folder ``out``, as if they had not been left.

        ``parts`` are arguments of :class:`Rounds`. Those left out are as they were; what was no name (a network, a refiner) has to be given again.

        Raises :class:`InputError` where there are no rounds, they belong to another clip, or a file is missing or damaged.
        """
        folder = Folder(Path(out))
        content = folder.read_index()
        saved = dict(content["settings"])
        frames, frame_size = saved.pop("frames"), tuple(saved.pop("frame_size"))
        for name, value in saved.items():
            if isinstance(value, dict) and "object" in value and name not in parts:
                raise InputError(f"these rounds were made with a {name} of one's own ({value['object']}); give {name}=… again")
        for name in ("size", "store"):
            if parts.get(name, saved[name]) != saved[name]:
                raise InputError(f"these rounds were made with {name}={saved[name]!r}, not {parts[name]!r}; leave it out")
        rounds = cls(video, **{**saved, **parts})
        if (len(rounds.frames), rounds.frames.size) != (frames, frame_size):
            raise InputError(
                f"the rounds in {out} are of {frames} frames of {frame_size[1]}x{frame_size[0]}, {rounds.frames.name} has "
                f"{len(rounds.frames)} of {rounds.frames.size[1]}x{rounds.frames.size[0]}; give the same clip"
            )
        rounds.results = folder.replay(content, rounds._empty)
        rounds._folder, rounds._settings = folder, content["settings"]
        return rounds

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def state(self) -> State:
        """All frames after the last round."""
        return self.results[-1].after if self.results else self._empty

    @property
    def round(self) -> int:
        """Number of rounds so far."""
        return len(self.results)

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids in the order they were introduced."""
        return self.state.objects

    @property
    def annotated(self) -> tuple[int, ...]:
        """Frames with clicks or a given mask, ascending."""
        return self.state.annotated

    @overload
    def labels(self, t: int) -> np.ndarray: ...
    @overload
    def labels(self, t: None = None) -> Iterator[np.ndarray]: ...
    def labels(self, t: int | None = None) -> np.ndarray | Iterator[np.ndarray]:
        """Label map ``uint8 [H, W]`` of frame ``t``, or an iterator over those of all frames."""
        state = self.state
        if t is not None:
            self.frames.check(t)
            return state.labels(t)
        return (state.labels(k) for k in range(len(self)))

    def probabilities(self, t: int) -> Tensor:
        """``float32 [1 + O, H, W]`` of frame ``t``, background first, then :attr:`objects`; sums to 1."""
        self.frames.check(t)
        return self.state.probabilities(t)

    def uncertainty(self, object_id: int | None = None) -> np.ndarray:
        """Score of every frame, ``float64 [T]``: the masked entropy of its fused probabilities, of one object or the mean over
        all. 0 where there is no round yet, and for an object without a pixel.

        Raises :class:`InputError` for an object that is not known.
        """
        state = self.state
        if object_id is not None and object_id not in state.objects:
            raise InputError(f"object {object_id} is not known; known are {list(state.objects)}")
        wanted, scores = state.objects if object_id is None else (object_id,), [state.scores(t) for t in range(len(self))]
        return np.array([sum(s.get(o, 0.0) for o in wanted) / max(1, len(wanted)) for s in scores])

    def suggest(self) -> int | None:
        """The most uncertain frame that is not annotated, the first of equals; ``None`` before the first round and when all are annotated."""
        rest = [t for t in range(len(self)) if t not in set(self.annotated)]
        if not self.results or not rest:
            return None
        scores = self.uncertainty()
        return max(rest, key=lambda t: scores[t])

    # A round

    def interact(
        self, frame: int, clicks: Iterable[Click] = (), *, mask: np.ndarray | None = None, objects: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> RoundResult:  # fmt: skip
        """One round on ``frame``.

        Without any click or mask the masks stay as they are, and the round counts. An interrupted round leaves everything as it was.

        Parameters
        ----------
        clicks: all clicks of this round, of all objects, in pixels of the frame. Unknown ids are new objects. Clicks of earlier rounds are
            not used again: what they did is in the previous mask, which goes to the refiner with the new ones.
        mask: ``uint8 [H, W]`` of object ids, taken as it is; 255 counts as background.
        objects: ids that ``mask`` speaks of; default those that occur in it. One that does not occur is then absent from the frame.
        progress: instead of that of the constructor.

        Raises :class:`InputError` for a frame that does not exist, a click outside it, clicks without a refiner, an object with
        clicks and a mask, a new object without a positive click, a mask of another size, and a first round with nothing in it.
        """
        with self._lock:
            self.frames.check(frame)
            ask = checked(int(frame), tuple(clicks), mask, objects, self.state, self.refiner)
            result = self._engine.run(ask, self.state, self.round + 1, self.progress if progress is None else progress)
            if self._folder is not None:
                began = time.perf_counter()
                self._folder.write(result)
                result = replace(result, seconds={**result.seconds, "write": time.perf_counter() - began})
                self._folder.index(self._settings, [*self.results, result])
            self.results = [*self.results, result]
            self._undone = []
        self._tell("round")
        return result

    @property
    def can_undo(self) -> bool:
        """Is there a round to take back?"""
        return bool(self.results)

    @property
    def can_redo(self) -> bool:
        """Is there a round that was taken back?"""
        return bool(self._undone)

    def undo(self) -> RoundResult:
        """Take the last round back, on disk too, and return it; every frame is to the bit what it was before.

        Raises :class:`InputError` without a round.
        """
        with self._lock:
            if not self.results:
                raise InputError("there is no round to undo")
            *rest, last = self.results
            if self._folder is not None:
                self._folder.index(self._settings, rest)
            self.results, self._undone = rest, [*self._undone, last]
        self._tell("undo")
        return last

    def redo(self) -> RoundResult:
        """Bring back the round that :meth:`undo` took last. Raises :class:`InputError` without one."""
        with self._lock:
            if not self._undone:
                raise InputError("there is no round to redo")
            result = self._undone[-1]
            if self._folder is not None:
                self._folder.write(result)
                self._folder.index(self._settings, [*self.results, result])
            self.results, self._undone = [*self.results, result], self._undone[:-1]
        self._tell("redo")
        return result

    def watch(self, call: Callable[[Rounds, str], None]) -> Callable[[], None]:
        """Call ``call(rounds, what)`` after every ``"round"``, ``"undo"`` and ``"redo"``. Returns a function that ends it."""
        self._watchers.append(call)
        return lambda: self._watchers.remove(call) if call in self._watchers else None

    def _tell(self, what: str) -> None:
        for call in list(self._watchers):
            call(self, what)
