"""The tracker: predict, correct, commit, once per frame."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyvos.backbones.base import Backbone, Entry, Query
from lazyvos.backbones.layers import aggregate, evidence_logit
from lazyvos.doubt import doubtful_point
from lazyvos.geometry import Geometry
from lazyvos.interact import hooks
from lazyvos.interact.base import Answer, Policy, User
from lazyvos.interact.policies import Never
from lazyvos.memory.base import Memory, Want
from lazyvos.memory.subset import only
from lazyvos.refine.base import Refiner
from lazyvos.types import Action, Click, Correction, Decision, InputError, Prediction, Request, Step
from lazyvos.uncertainty.base import Scene, Uncertainty
from lazyvos.uncertainty.entropy import Entropy
from lazyvos.uncertainty.quality import relative
from lazyvos.uncertainty.serve import call, check_needs, draw

_NOTHING: frozenset[str] = frozenset()


@dataclass(eq=False)
class _Pending:
    """The frame at hand: encoded and predicted, not yet committed."""

    frame: np.ndarray
    image: Tensor
    query: Query
    original: Prediction
    prob: Tensor  # [1 + O, h, w] at network size
    moved: Tensor | None  # recurrent state after an ordinary frame
    current: Prediction
    stack: Tensor | None = None  # corrected masks [O, H, W]
    corrections: dict[int, Correction] = field(default_factory=dict)
    rejected: tuple[int, ...] = ()  # objects whose pseudo-correction was not trusted
    encoded: tuple[Entry, Tensor | None] | None = None  # its entry and state without a deep update, where they are known already


class Tracker:
    """Keeps objects segmented frame by frame.

    The three verbs are :meth:`predict` (encode, read, decode, score; nothing is written), :meth:`correct` (refine the
    current frame, as often as wanted) and :meth:`commit` (offer the frame to the memory, advance the state).
    :meth:`step` is the three in a row, :meth:`track` a step per frame for as long as the source lasts. Nothing
    grows with the number of frames.

    Parameters
    ----------
    backbone: the segmentation network.
    memory: which frames are kept and how they are read.
    uncertainty: map and score per object; default the normalised entropy. One that needs more than probabilities
        (:class:`lazyvos.uncertainty.Uncertainty`) must fit backbone and memory.
    policy: when to correct itself and when to ask; default never. What it may say beyond the protocol: see
        :mod:`lazyvos.interact.hooks`.
    refiner: turns clicks into masks; needed for clicks and pseudo-corrections.
    size: short side in pixels at which the network runs; ``None`` keeps the frame's own size.
    device, precision: ``"cpu"``/``"cuda"``; ``"fp32"`` or ``"bf16"``/``"fp16"`` autocast for encoders and decoder (similarities stay in
    fp32); by default what the backbone was loaded with, else fp32.
    idu_deep_update: also update the recurrent state deeply on frames stored only because a person corrected them.
    """

    def __init__(
        self,
        backbone: Backbone,
        memory: Memory,
        *,
        uncertainty: Uncertainty | None = None,
        policy: Policy | None = None,
        refiner: Refiner | None = None,
        size: int | None = 480,
        device: str | torch.device = "cpu",
        precision: str | None = None,
        idu_deep_update: bool = False,
    ) -> None:
        precision = precision or getattr(backbone, "precision", "fp32")
        if precision not in ("fp32", "bf16", "fp16"):
            raise InputError(f"precision {precision!r} is unknown; choose fp32, bf16 or fp16")
        if size is not None and size < backbone.stride:
            raise InputError(f"size {size} is below the backbone's stride {backbone.stride}; 240 or 480 are usual")
        self.backbone, self.memory = backbone, memory
        self.uncertainty = uncertainty or Entropy()
        self.policy: Policy = policy or Never()
        self.refiner = refiner
        self.size, self.device, self.idu_deep_update = size, torch.device(device), idu_deep_update
        self._asked()
        if getattr(self.policy, "udu_scope", "frame") == "object" and getattr(memory, "whole_frames", False):
            raise InputError(
                f"udu_scope is 'object', but {type(memory).__name__} stores whole frames only; use another memory or udu_scope='frame'"
            )
        self.precision = precision
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.t = -1
        self.objects: tuple[int, ...] = ()
        self._clock = -1
        self._state: Tensor | None = None
        self._scores: dict[int, float] = {}
        self._quality: dict[int, float] = {}  # of each object's first frame, where the network says it
        self._geometry: Geometry | None = None
        self._pending: _Pending | None = None

    # predict

    @torch.inference_mode()
    def predict(self, frame: np.ndarray) -> Prediction:
        """Segment the next frame (``uint8 [H, W, 3]`` RGB). Nothing is written to the memory.

        Before the first object is given the prediction is all background.

        Raises :class:`InputError` for a wrong frame and ``RuntimeError`` when the last frame was not committed.
        """
        if self._pending is not None:
            raise RuntimeError(f"frame {self.t} is not committed; call commit() before the next predict()")
        geometry = self._fit(frame)
        self.t += 1
        self._clock += 1
        image = geometry.image(frame, self.device)
        with self._autocast():
            query = self.backbone.encode(image, self._state)
        moved, encoded = self._state, None
        needs: frozenset[str] = getattr(self.uncertainty, "needs", _NOTHING) if self.objects else _NOTHING
        given: dict[str, Any] = {}
        if self.objects:
            readout = self.memory.read(query, self.objects, self.backbone.top_k)
            with self._autocast():
                if "evidence" in needs:
                    evidence, moved = self._asked().decode_evidence(query, readout.value, self._state)
                    given["evidence"] = geometry.probabilities(evidence.flatten(0, 1)).unflatten(0, (-1, 2))
                    logits = evidence_logit(evidence, 1)
                else:
                    logits, moved = self.backbone.decode(query, readout.value, self._state)
            prob = aggregate(torch.sigmoid(logits.float()), 0)[1]
        else:
            prob = torch.ones(1, *image.shape[-2:], device=self.device)
        if needs & {"members", "parts"}:
            self._asked()
            scene = Scene(self.t, query, self.objects, self._state, self.backbone, self.memory, self._autocast)
            sampler: Any = self.uncertainty
            prob, given["parts"], given["members"] = draw(sampler, scene, geometry.probabilities, "members" in needs)
        if "quality" in needs:
            given["quality"], encoded = self._judged(image, query, prob)
        full = given["parts"].mean if "parts" in given else geometry.probabilities(prob)
        original = self._scored(full, self.objects, given)
        self._pending = _Pending(frame, image, query, original, prob, moved, original, encoded=encoded)
        return original

    def _asked(self) -> Any:
        """The network, of which the estimator needs something special. Raises :class:`InputError` where it cannot give it."""
        check_needs(self.uncertainty, self.backbone, self.memory)
        return self.backbone

    def _judged(self, image: Tensor, query: Query, prob: Tensor) -> tuple[dict[int, float], tuple[Entry, Tensor | None]]:
        """Quality of each predicted mask relative to the object's first one, and what the value encoder gave with it."""
        with self._autocast():
            encoded = self._asked().memorise(self.t, query, image, prob[1:], self.objects, self._state, False)
        found: list[float] = encoded[0].quality.tolist()
        return {o: relative(q, self._quality[o]) for o, q in zip(self.objects, found, strict=True)}, encoded

    def _fit(self, frame: np.ndarray) -> Geometry:
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            shape = getattr(frame, "shape", None)
            raise InputError(f"frame {self.t + 1} must be uint8 [H, W, 3] RGB, not {getattr(frame, 'dtype', type(frame))} {shape}")
        if self._geometry is None:
            self._geometry = Geometry.of((frame.shape[0], frame.shape[1]), self.size, self.backbone.stride)
        if self._geometry.frame != frame.shape[:2]:
            raise InputError(
                f"frame {self.t + 1} is {frame.shape[1]}x{frame.shape[0]}, earlier frames were "
                f"{self._geometry.frame[1]}x{self._geometry.frame[0]}; start a new tracker for another size"
            )
        return self._geometry

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None)

    def _scored(self, prob: Tensor, objects: tuple[int, ...], given: Mapping[str, Any] = MappingProxyType({})) -> Prediction:
        labels = _label_map(prob, objects)
        doubt = call(self.uncertainty, prob, labels, objects, given)
        deltas = {o: s - self._scores[o] if o in self._scores else None for o, s in doubt.scores.items()}
        return Prediction(self.t, labels, prob, objects, doubt.map, doubt.scores, deltas, parts=doubt.parts)

    # correct

    @torch.inference_mode()
    def correct(
        self, clicks: Sequence[Click] | None = None, mask: np.ndarray | None = None, *, kind: str = "user",
        objects: Iterable[int] = (),
    ) -> Prediction:  # fmt: skip
        """Refine the current frame and return its new prediction.

        The clicks (or the mask) given for an object replace what was given for it before on this frame; other
        objects keep their state. Unknown object ids become new objects.

        Parameters
        ----------
        clicks: all clicks of the objects concerned, in pixels of the frame.
        mask: ``uint8 [H, W]`` of object ids; every id that occurs is taken as given.
        objects: tracked objects that ``mask`` speaks of even where they do not occur: they are not on this frame.
        kind: of the correction, as it is noted.

        Raises :class:`InputError` for clicks outside the frame, a mask of another size, or clicks without a refiner.
        """
        pending = self._current()
        size = pending.original.size
        given: dict[int, tuple[Tensor, Correction]] = {}
        if mask is not None:
            for identity, plane in _planes(mask, size, objects).items():
                given[identity] = plane.to(self.device), Correction(self.t, identity, "mask")
        if clicks:
            for click in clicks:
                click.check_inside(size)
            if self.refiner is None:
                raise InputError("clicks need a refiner; build the tracker with one, or give a mask")
            for identity in dict.fromkeys(click.object for click in clicks):
                own = tuple(click for click in clicks if click.object == identity)
                given[identity] = self._refined(pending, identity, own), Correction(self.t, identity, kind, own)
        if not given:
            raise InputError("correct() needs clicks or a mask with at least one object")
        if hooks.pseudo_result(self.policy) == "yields" and kind != "pseudo":
            pending.corrections = {o: c for o, c in pending.corrections.items() if c.kind != "pseudo"}
        self._apply(pending, given)
        return pending.current

    def _refined(self, pending: _Pending, identity: int, clicks: Sequence[Click], **prompt: bool) -> Tensor:
        """Binary mask ``float32 [H, W]`` of the refiner for one object."""
        assert self.refiner is not None
        earlier = None
        if identity in pending.original.objects:
            earlier = pending.original.probabilities[1 + pending.original.objects.index(identity)]
        return (self.refiner.refine(pending.frame, clicks, earlier, **prompt) > 0.5).float().to(self.device)

    @torch.inference_mode()
    def pseudo_correct(self, objects: Iterable[int]) -> Prediction:
        """Correct objects without a person: a pseudo-click where the mask is deep and certain (thesis, eq. 6.4).

        Clicks, prompt and what becomes of the masks are the policy's (:mod:`lazyvos.interact.hooks`). A mask that it does
        not trust is left out, see :attr:`rejected`.

        Raises :class:`InputError` where there is no refiner, or it cannot take the policy's prompt.
        """
        pending, policy = self._current(), self.policy
        found = {o: clicks for o in objects if (clicks := hooks.pseudo_clicks(policy, pending.original, o))}
        if not found:
            return pending.current
        if self.refiner is None:
            raise InputError("pseudo-corrections need a refiner; build the tracker with one, or a policy without them")
        prompt = hooks.pseudo_options(policy).arguments(self.refiner)
        dropped = hooks.pseudo_result(policy) == "dropped"
        given: dict[int, tuple[Tensor, Correction]] = {}
        rejected = [o for o in pending.rejected if o not in found]
        for identity, clicks in found.items():
            correction = Correction(self.t, identity, "pseudo", clicks)
            if dropped:
                pending.corrections[identity] = correction
                continue
            plane = self._refined(pending, identity, clicks, **prompt)
            if hooks.trusts(policy, pending.original, identity, (plane > 0.5).cpu().numpy()):
                given[identity] = plane, correction
            else:
                rejected.append(identity)
        pending.rejected = tuple(rejected)
        if given:
            self._apply(pending, given)
        elif dropped:
            pending.current = replace(pending.current, refined=tuple(o for o in pending.current.objects if o in pending.corrections))
        return pending.current

    @property
    def rejected(self) -> tuple[int, ...]:
        """Objects of the frame at hand whose pseudo-correction the policy did not trust; their masks are as predicted."""
        return () if self._pending is None else self._pending.rejected

    @property
    def shown(self) -> Prediction:
        """The result of the frame at hand: with its corrections, or as the policy's ``output`` says without them.

        A frame on which objects were given for the first time is always shown with them.
        """
        pending = self._current()
        plain = hooks.output(self.policy) == "original" and pending.current.objects == pending.original.objects
        return pending.original if plain else pending.current

    @torch.inference_mode()
    def revert(self) -> Prediction:
        """Take back every correction of the current frame."""
        pending = self._current()
        pending.stack, pending.corrections, pending.rejected, pending.current = None, {}, (), pending.original
        return pending.current

    def _current(self) -> _Pending:
        if self._pending is None:
            raise RuntimeError("there is no frame at hand; call predict() first")
        return self._pending

    def _apply(self, pending: _Pending, given: Mapping[int, tuple[Tensor, Correction]]) -> None:
        """Objects keep their own binary mask, corrected ones get the new one; soft aggregation joins them."""
        objects = pending.current.objects + tuple(o for o in given if o not in pending.current.objects)
        height, width = pending.original.size
        stack = torch.zeros(len(objects), height, width, device=self.device)
        labels = torch.from_numpy(pending.original.labels).to(self.device)
        for channel, identity in enumerate(objects):
            if identity in given:
                stack[channel] = given[identity][0]
            elif identity in pending.corrections and pending.stack is not None:
                stack[channel] = pending.stack[pending.current.objects.index(identity)]
            else:
                stack[channel] = (labels == identity).float()
        pending.stack = stack
        pending.corrections |= {identity: correction for identity, (_, correction) in given.items()}
        prob = aggregate(stack, 0)[1]
        pending.current = replace(
            pending.original, labels=_label_map(prob, objects), probabilities=prob, objects=objects,
            refined=tuple(o for o in objects if o in pending.corrections),
        )  # fmt: skip

    # commit

    @torch.inference_mode()
    def commit(self) -> Decision:
        """Write the frame: offer it to the memory (or refuse it), advance the recurrent state."""
        pending = self._current()
        objects = pending.current.objects
        new = tuple(o for o in objects if o not in self.objects)
        kinds = {c.kind for c in pending.corrections.values()}
        admitted = self.policy.admits(pending.original) if self.objects else True
        if "pseudo" in kinds or (pending.rejected and not hooks.store_rejected(self.policy)):
            admitted = self.policy.pseudo_idu
        person = bool(kinds & {"user", "mask"})
        if person:
            admitted = self.policy.user_idu or bool(new)
        stored = objects if new else self._stored(pending)
        before, moved = self._extended(self._state, len(new), pending), self._extended(pending.moved, len(new), pending)
        if not objects:
            decision = Decision(self.t, False, "no object")
        elif not (admitted and stored):
            self._clock -= 1
            decision, self._state = Decision(self.t, False, "uncertain"), moved
        else:
            decision, self._state = self._store(pending, objects, stored, before, moved, bool(new), person)
        self.objects = objects
        if self.t > 0:
            self._scores = dict(pending.original.scores)
        self._pending = None
        return decision

    def _stored(self, pending: _Pending) -> tuple[int, ...]:
        """Objects whose masks may be stored: those that the policy admits, and those that were corrected."""
        admitted = hooks.admitted(self.policy, pending.original)
        return tuple(o for o in pending.current.objects if o in admitted or o in pending.corrections)

    def _extended(self, state: Tensor | None, new: int, pending: _Pending) -> Tensor | None:
        if not new:
            return state
        fresh = self.backbone.initial_state(new, pending.query.grid)
        return fresh if state is None or fresh is None else torch.cat([state, fresh])

    def _store(
        self, pending: _Pending, objects: tuple[int, ...], stored: tuple[int, ...], before: Tensor | None,
        moved: Tensor | None, new: bool, person: bool,
    ) -> tuple[Decision, Tensor | None]:
        want = self.memory.wants(self._clock)
        if want is Want.NO and not new and not person:
            return Decision(self.t, False, "interval"), moved
        prob = pending.prob
        if pending.stack is not None:
            assert self._geometry is not None
            prob = aggregate(self._geometry.masks(pending.stack), 0)[1]
        corrected = pending.stack is not None and getattr(self.backbone, "state_is_mask", False)
        deep = new or corrected or want is Want.REGULAR or (person and self.idu_deep_update)
        if pending.encoded is not None and pending.stack is None and not deep:
            entry, deepened = pending.encoded
        else:
            with self._autocast():
                entry, deepened = self.backbone.memorise(
                    self.t, pending.query, pending.image, prob[1:], objects, before, deep
                )
        entry = replace(entry, masks=prob[1:])
        if new and entry.quality is not None:
            for identity, quality in zip(objects, entry.quality.tolist(), strict=True):
                self._quality.setdefault(identity, quality)
        if len(stored) < len(objects):
            entry = only(entry, stored)
            if deep and deepened is not None and moved is not None:
                refused = [i for i, o in enumerate(objects) if o not in stored]
                deepened = deepened.clone()
                deepened[refused] = moved[refused].to(deepened.dtype)
        if new:
            decision = self.memory.pin(entry, self._clock)
        else:
            decision = self.memory.offer(entry, self._clock, force=person)
        return decision, deepened if deep else moved

    # the loop

    def wishes(self) -> dict[int, Action]:
        """What the policy wants for each object of the current, uncorrected prediction."""
        pending = self._current()
        return self.policy.decide(pending.original) if pending.original.objects else {}

    def _requests(self, asked: Iterable[int]) -> tuple[Request, ...]:
        original = self._current().original
        return tuple(
            Request(self.t, o, original.scores[o], original.deltas[o], doubtful_point(original, o)) for o in asked
        )

    def step(self, frame: np.ndarray, user: User | None = None) -> Step:
        """Predict, let the policy correct or ask, commit."""
        began = time.perf_counter()
        original = self.predict(frame)
        pending = self._current()
        requests: tuple[Request, ...] = ()
        if original.objects:
            wishes = self.wishes()
            pseudo = [o for o, action in wishes.items() if action is Action.PSEUDO]
            if pseudo and self.refiner is not None:
                self.pseudo_correct(pseudo)
            if user is not None:
                requests = self._requests(o for o, action in wishes.items() if action is Action.ASK)
                for late, answer in hooks.arrivals(user, self.t):
                    self._take(late.object, answer)
            for request in requests:
                assert user is not None
                self._take(request.object, user.answer(request, frame, pending.current))
        corrections, shown = tuple(pending.corrections.values()), self.shown
        extra = {"rejected": pending.rejected} if pending.rejected else {}
        decision = self.commit()
        return Step(self.t, shown, original, requests, corrections, decision, time.perf_counter() - began, extra)

    def _take(self, identity: int, answer: Answer) -> None:
        """A user's answer about one object; nothing where that is not tracked (any more)."""
        if answer is None or identity not in self.objects:
            return
        if isinstance(answer, np.ndarray):
            self.correct(mask=np.where(answer, identity, 0).astype(np.uint8), objects=[identity])
        elif known := [click for click in answer if click.object in self.objects]:
            self.correct(known)

    def track(
        self,
        source: Iterable[np.ndarray],
        user: User | None = None,
        *,
        clicks: Sequence[Click] | None = None,
        mask: np.ndarray | None = None,
    ) -> Iterator[Step]:
        """One :class:`Step` per frame, for ever if the source never ends.

        ``clicks`` or ``mask`` start the objects on the first frame; a tracker that already has objects goes on.
        """
        for frame in source:
            if clicks is not None or mask is not None:
                began = time.perf_counter()
                original = self.predict(frame)
                current = self.correct(clicks, mask)
                corrections = tuple(self._current().corrections.values())
                decision = self.commit()
                clicks = mask = None
                yield Step(self.t, current, original, (), corrections, decision, time.perf_counter() - began)
            else:
                yield self.step(frame, user)

    def drop(self, object_id: int) -> None:
        """Stop tracking one object; allowed between frames.

        Raises :class:`InputError` when there is no such object.
        """
        if object_id not in self.objects:
            raise InputError(f"object {object_id} is not tracked; tracked are {list(self.objects)}")
        if self._pending is not None:
            raise RuntimeError("drop() is allowed between frames; call commit() first")
        keep = [i for i, o in enumerate(self.objects) if o != object_id]
        if self._state is not None:
            self._state = self._state[keep]
        self.objects = tuple(self.objects[i] for i in keep)
        self._scores.pop(object_id, None)
        self._quality.pop(object_id, None)
        self.memory.drop(object_id)

    # snapshots

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after the last committed frame; tensors and plain values only.

        A frame at hand is not part of it: predict it again after :meth:`load_state`.
        """
        ahead = 0 if self._pending is None else 1
        return {
            "t": self.t - ahead, "clock": self._clock - ahead, "objects": list(self.objects), "scores": dict(self._scores),
            "frame": None if self._geometry is None else list(self._geometry.frame),
            "size": self.size, "recurrent": self._state, "memory": self.memory.state(), "quality": dict(self._quality),
            "policy": hooks.state(self.policy),
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a :meth:`state`; the tracker must be built with the same parts and the same ``size``."""
        if state["size"] != self.size:
            raise InputError(f"the snapshot ran at size {state['size']}, this tracker at {self.size}; build it with the same")
        self.t, self._clock, self.objects = state["t"], state["clock"], tuple(state["objects"])
        self._scores, self._quality, self._pending = dict(state["scores"]), dict(state.get("quality", {})), None
        recurrent = state["recurrent"]
        self._state = None if recurrent is None else recurrent.to(self.device)
        frame = state["frame"]
        self._geometry = None if frame is None else Geometry.of((frame[0], frame[1]), self.size, self.backbone.stride)
        self.memory.load_state(state["memory"])
        hooks.load_state(self.policy, state.get("policy", {}))


def _label_map(prob: Tensor, objects: tuple[int, ...]) -> np.ndarray:
    if len(objects) == 1:
        return (prob[1] > prob[0]).to(torch.uint8).mul_(objects[0]).cpu().numpy()
    channels = prob.max(0).indices  # argmax(0), which takes five times as long on a CPU
    table = torch.tensor((0, *objects), dtype=torch.uint8, device=prob.device)
    return table[channels].cpu().numpy()


def _planes(mask: np.ndarray, size: tuple[int, int], absent: Iterable[int] = ()) -> dict[int, Tensor]:
    """One binary plane ``float32 [H, W]`` per object id of a label map, and of ``absent``; 255 is void."""
    if mask.shape != size:
        raise InputError(f"mask has shape {mask.shape}, the frame {size}; both must be [H, W]")
    ids = sorted({int(i) for i in np.unique(mask) if 0 < i < 255} | set(absent))
    if not ids:
        raise InputError("mask holds no object; ids 1..254 mark objects, 0 is background")
    return {identity: torch.from_numpy((mask == identity).astype(np.float32)) for identity in ids}
