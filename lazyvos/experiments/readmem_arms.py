"""What chapter 5 compares: networks with memories on data sets, at the published scale and at smoke scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.recipe import Setting
from lazyvos.experiments.watched import WatchedFifo

NETWORKS = {"XMem†": ("xmem", "xmem"), "XMem": ("xmem", "xmem-s012"), "MiVOS": ("mivos", "mivos"), "STCN": ("stcn", "stcn-s03"),
            "QDMN": ("qdmn", "qdmn")}  # fmt: skip
"""Name in the thesis -> network and release of weights. XMem† and STCN are without BL30K."""

SMOKE_NETWORKS = {"XMem": "tiny", "MiVOS": "tiny-stm"}
"""What stands for them at smoke scale, once for each kind of network; the others have no smoke number."""

SMOKE_INTERVALS = {1: 1, 5: 2, 10: 4, 20: 8, 50: 20}
SMOKE_SLOTS = {5: 2, 10: 3, 20: 6, 30: 9, 40: 12}
"""Published s_r and N -> those of clips of 80 frames."""

LENGTH = 80
DATASETS = {"LV1": "lv1", "D17": "davis17-val", "VOTS2023": "vots2023"}
LONG = {"dataset": "generated:long", "dataset_options": {"seeds": [0], "length": LENGTH, "size": [96, 160]}, "sequences": ("medium-s0", "hard-s0")}
SHORT = {"dataset": "generated:smoke", "dataset_options": {"seeds": [0], "length": 24, "size": [96, 160]}}
SMOKE = f"Smoke scale: small networks at a short side of 96; generated clips, long ones of {LENGTH} frames and short ones of 24; N = 6 for 20, s_r = 4 for 10."


@dataclass(frozen=True)
class Place:
    """A data set: the paper's heading, the heading of our numbers, and its part of an experiment."""

    paper: str
    heading: str
    options: Mapping[str, Any]


def places(setting: Setting, found: Mapping[str, str], *headings: str) -> list[Place]:
    """The data sets of a table: those that were found, or at smoke scale the generated ones that stand for them."""
    if setting.scale == "smoke":
        return [Place(h, "generated short" if h == "D17" else "generated long", {**(SHORT if h == "D17" else LONG), "size": 96}) for h in headings]
    known = [h for h in headings if h in found]
    return [Place(h, h, {"dataset": DATASETS[h], "dataset_options": {"root": found[h]}, "size": 480}) for h in known]


@dataclass(frozen=True)
class Arm:
    """A network with a memory, in the numbers of the thesis.

    Attributes
    ----------
    method: of :data:`NETWORKS`.
    memory: ``"fifo"``: the baseline of MiVOS and STCN, first in first out with the adjacent frame, as released, where the annotated
        frame goes, too. ``"qdmn"``: the baseline of QDMN, its own bank as released (its rows have the flexible interval, which says
        nothing of a memory that refuses no frame). ``"readmem"``; ``"longterm"``: XMem's own memory, a frame every ``s_r``.
        ``"watched"``: as ``"fifo"``, with |Γ|.
    s_r, n: sampling interval and slots.
    flexible: the flexible interval, starred in the thesis.
    options: what READMem is set to where it differs from the published setting.
    """

    method: str
    memory: str
    s_r: int = 10
    n: int = 20
    flexible: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def every(self, setting: Setting) -> int:
        """The sampling interval at the scale of a setting."""
        return self.s_r if setting.scale == "paper" else SMOKE_INTERVALS[self.s_r]

    def slots(self, setting: Setting) -> int:
        """The number of slots at the scale of a setting."""
        return self.n if setting.scale == "paper" else SMOKE_SLOTS[self.n]

    def network(self, setting: Setting) -> tuple[str, str | None] | None:
        """Network and weights; ``None`` where nothing stands for it at smoke scale."""
        if setting.scale == "paper":
            name, release = NETWORKS[self.method]
            return name, setting.weights.get(release, release)
        small = SMOKE_NETWORKS.get(self.method)
        return (small, setting.weights.get(small)) if small else None

    def name(self, setting: Setting) -> str:
        """What lines of a figure call it: the network that runs, and READMem."""
        found = self.network(setting)
        network = self.method if setting.scale == "paper" or found is None else found[0]
        return f"READMem-{network}" if self.memory == "readmem" else network

    def text(self, setting: Setting) -> str:
        """What runs, in a line."""
        found = self.network(setting)
        kind = {"fifo": "FIFO", "watched": "watched FIFO", "qdmn": "quality bank", "readmem": "READMem", "longterm": "long-term memory"}[self.memory]
        parts = [self.method if setting.scale == "paper" or found is None else found[0], kind]
        parts += [] if self.memory == "longterm" else [f"N={self.slots(setting)}"]
        parts += [f"s_r={self.every(setting)}", *(["flexible"] if self._flexible(setting) else [])]
        return ", ".join([*parts, *(f"{key} {value}" for key, value in self.options.items())])

    def experiment(self, setting: Setting, place: Place, **more: Any) -> Experiment | None:
        """The experiment on a data set; equal arms give equal ones, whatever table asks. ``None`` as in :meth:`network`."""
        found = self.network(setting)
        if found is None:
            return None
        memory, options = self._memory(setting)
        return Experiment(
            name=f"{self.text(setting)}, {place.heading}", backbone=found[0], weights=found[1], memory=memory, memory_options=options,
            refiner=None, seed=setting.seed, scale=setting.scale, device=setting.device, precision=setting.precision, **{**place.options, **more},
        )  # fmt: skip

    def _flexible(self, setting: Setting) -> bool:
        return self.flexible and self.memory == "readmem" and self.every(setting) > 1

    def _memory(self, setting: Setting) -> tuple[Any, dict[str, Any]]:
        every, slots = self.every(setting), self.slots(setting)
        if self.memory == "longterm":
            return "longterm", {"every": every}
        if self.memory == "qdmn":
            return "qdmn", {"threshold": slots, "every": every, "published": True}
        if self.memory == "fifo":
            return "fifo", {"slots": slots, "every": every, "flexible": True, "adjacent": True, "pin_annotated": False}
        if self.memory == "watched":
            return WatchedFifo, {"slots": slots, "every": every, "adjacent": True}
        return "readmem", {
            "slots": slots, "every": every, "flexible": self._flexible(setting), "adjacent": True, "lower_bound": 0.5,
            "transition": "column argmax", "affinity": "W", "initialisation": "every_t", **self.options,
        }  # fmt: skip
