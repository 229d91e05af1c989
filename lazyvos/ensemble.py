"""A deep ensemble behind the face of one tracker (thesis, section 6.8.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lazyvos.backbones.base import Backbone
from lazyvos.interact import hooks
from lazyvos.interact.base import Policy
from lazyvos.memory.base import Memory
from lazyvos.refine.base import Refiner
from lazyvos.tracker import Tracker, _Pending
from lazyvos.types import Action, Correction, Decision, InputError, Prediction
from lazyvos.uncertainty.base import Doubt, Sampler, Uncertainty
from lazyvos.uncertainty.ensemble import Splitter
from lazyvos.uncertainty.serve import check_needs

_FROM_MEMBERS = frozenset({"members", "parts"})


class Networks(nn.Module):
    """Several networks in the place of one. ``networks`` in order; ``stride`` and ``top_k`` as a backbone has them.

    Raises :class:`InputError` for none, and for strides that differ.
    """

    def __init__(self, networks: Sequence[Any]) -> None:
        super().__init__()
        if not networks:
            raise InputError("an ensemble needs at least one network; give a list of names or networks")
        strides = {net.stride for net in networks}
        if len(strides) > 1:
            raise InputError(f"the networks of an ensemble have strides {sorted(strides)}; all must have the same")
        self.networks: tuple[Backbone, ...] = tuple(networks)
        self.held = nn.ModuleList([net for net in networks if isinstance(net, nn.Module)])
        self.stride: int = networks[0].stride
        self.top_k: int | None = networks[0].top_k


class EnsembleTracker(Tracker):
    """Several networks track the same objects, each with a memory and a recurrent state of its own.

    The prediction is the mean of the members' probabilities, the segmentation its arg max. Each member stores its *own* prediction
    (how the common result is fed back is not published); with ``shared_mask`` all store the common one. A correction reaches all
    members as a mask. Policy, user and refiner work on the common prediction, whose ``parts`` are always filled. With one member
    everything is equal to the plain tracker.

    Parameters
    ----------
    backbones: the networks, or a :class:`Networks`.
    memories: one for each network, none twice. ``memory`` is the first; so is the decision that :meth:`commit` returns, all are in
        ``decisions``.
    shared_mask: see above.
    uncertainty: default the entropy of the mean (total); :class:`lazyvos.uncertainty.Split` gives the parts. Estimators that look into
        one network (quality, evidential, dropout) are refused.
    policy, refiner, size, device, precision, idu_deep_update: see :class:`lazyvos.tracker.Tracker`.

    Raises :class:`InputError` for parts that do not belong together.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone] | Networks,
        memories: Sequence[Memory],
        *,
        shared_mask: bool = False,
        uncertainty: Uncertainty | None = None,
        policy: Policy | None = None,
        refiner: Refiner | None = None,
        size: int | None = 480,
        device: str | torch.device = "cpu",
        precision: str | None = None,
        idu_deep_update: bool = False,
    ) -> None:
        together: Any = backbones if hasattr(backbones, "networks") else Networks(backbones)  # type: ignore[arg-type]
        if len(memories) != len(together.networks) or len({id(memory) for memory in memories}) != len(memories):
            raise InputError(
                f"{len(together.networks)} networks came with {len(memories)} memories, {len({id(m) for m in memories})} of them different; "
                "give each network a memory of its own"
            )
        super().__init__(
            together, memories[0], uncertainty=uncertainty, policy=policy, refiner=refiner, size=size, device=device,
            precision=precision or getattr(together.networks[0], "precision", None), idu_deep_update=idu_deep_update,
        )  # fmt: skip
        self.shared_mask = shared_mask
        self.decisions: tuple[Decision, ...] = ()
        self.members = tuple(
            Tracker(net, memory, uncertainty=_Nothing(), size=size, device=device, precision=precision, idu_deep_update=idu_deep_update)
            for net, memory in zip(together.networks, memories, strict=True)
        )

    def _asked(self) -> Any:
        if isinstance(self.uncertainty, Sampler):
            name = type(self.uncertainty).__name__
            raise InputError(f"{name} draws passes of its own, an ensemble has its members; use Split (epistemic, total, aleatoric)")
        check_needs(self.uncertainty, self.backbone, self.memory, _FROM_MEMBERS)
        return self.backbone

    @torch.inference_mode()
    def predict(self, frame: np.ndarray) -> Prediction:
        """See :meth:`lazyvos.tracker.Tracker.predict`; the mean over the members."""
        if self._pending is not None:
            raise RuntimeError(f"frame {self.t} is not committed; call commit() before the next predict()")
        self._fit(frame)
        self._asked()
        self.t += 1
        self._clock += 1
        found = [member.predict(frame) for member in self.members]
        at_hand = [member._current() for member in self.members]
        split = Splitter()
        for prediction in found:
            split.add(prediction.probabilities)
        parts = split.result()
        given: dict[str, Any] = {"parts": parts}
        if "members" in getattr(self.uncertainty, "needs", ()):
            given["members"] = torch.stack([prediction.probabilities for prediction in found])
        original = self._scored(parts.mean, self.objects, given)
        if self.objects and original.parts is None:
            original = replace(original, parts=parts)
        prob = torch.stack([pending.prob for pending in at_hand]).mean(0)
        self._pending = _Pending(frame, at_hand[0].image, at_hand[0].query, original, prob, None, original)
        return original

    @torch.inference_mode()
    def commit(self) -> Decision:
        """See :meth:`lazyvos.tracker.Tracker.commit`; every member stores or refuses the frame, as the policy says of the mean."""
        pending = self._current()
        follow = _Follow(self.policy, pending.original)
        for member in self.members:
            member.policy = follow
            self._hand_over(pending, member)
        self.decisions = tuple(member.commit() for member in self.members)
        self._clock, self.objects = self.members[0]._clock, self.members[0].objects
        if self.t > 0:
            self._scores = dict(pending.original.scores)
        self._pending = None
        return self.decisions[0]

    def _hand_over(self, pending: _Pending, member: Tracker) -> None:
        """The common result, or the corrected masks, to the frame that a member has at hand."""
        own = member._current()
        own.rejected = pending.rejected
        if self.shared_mask and self.objects:
            own.prob, own.current = pending.prob, pending.current
            own.stack, own.corrections = pending.stack, dict(pending.corrections)
            return
        maskless = hooks.pseudo_result(self.policy) == "dropped"
        given: dict[int, tuple[Tensor, Correction]] = {}
        for channel, o in enumerate(pending.current.objects):
            correction = pending.corrections.get(o)
            if correction is None:
                continue
            if pending.stack is None or (maskless and correction.kind == "pseudo"):
                own.corrections[o] = correction
            else:
                given[o] = pending.stack[channel], correction
        if given:
            member._apply(own, given)

    def drop(self, object_id: int) -> None:
        """See :meth:`lazyvos.tracker.Tracker.drop`."""
        for member in self.members:
            member.drop(object_id)
        self.objects = self.members[0].objects
        self._scores.pop(object_id, None)

    def state(self) -> dict[str, Any]:
        """See :meth:`lazyvos.tracker.Tracker.state`."""
        return {**super().state(), "memory": {"kind": "ensemble"}, "members": [member.state() for member in self.members]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See :meth:`lazyvos.tracker.Tracker.load_state`; the ensemble must have as many members."""
        saved = state.get("members")
        if saved is None or len(saved) != len(self.members):
            have = "no ensemble" if saved is None else f"{len(saved)} members"
            raise InputError(f"the snapshot is of {have}, this tracker has {len(self.members)} members; build it with the same")
        super().load_state({**state, "memory": saved[0]["memory"]})
        for member, one in zip(self.members, saved, strict=True):
            member.load_state(one)


class _Nothing:
    """No map and no scores: what the members of an ensemble need."""

    def __call__(self, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...]) -> Doubt:
        return Doubt(np.broadcast_to(np.float32(0), labels.shape), {})


class _Follow:
    """The policy of a member: what the ensemble's says of the common prediction, asked once."""

    def __init__(self, policy: Policy, original: Prediction) -> None:
        self._policy, self._original = policy, original
        self._said: dict[str, Any] = {}

    def _ask(self, name: str) -> Any:
        if name not in self._said:
            self._said[name] = getattr(self._policy, name)(self._original)
        return self._said[name]

    @property
    def pseudo_idu(self) -> bool:
        return self._policy.pseudo_idu

    @property
    def user_idu(self) -> bool:
        return self._policy.user_idu

    def decide(self, prediction: Prediction) -> dict[int, Action]:
        return self._policy.decide(self._original)

    def admits(self, prediction: Prediction) -> bool:
        return bool(self._ask("admits"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        own = getattr(self._policy, name)  # what a policy may have beyond the protocol
        return (lambda prediction: self._ask(name)) if name == "admitted" else own
