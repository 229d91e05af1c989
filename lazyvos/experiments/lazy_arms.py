"""What chapter 6 compares: trackers that watch their uncertainty, with and without a user, at the published scale and at smoke scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.readmem_arms import NETWORKS, Place
from lazyvos.experiments.recipe import Setting

DATASETS = {"LVOS": "lvos-val", "D17": "davis17-val"}
REFINER = "sam-hq-vit-b"
"""Of the paper's scale, network and release; the thesis says SAM-HQ."""

SMOKE_NETWORKS = {"XMem": "tiny"}
"""What stands for them at smoke scale. Nothing does for QDMN: no small network predicts its own quality."""

LENGTH = 80
CROWD: dict[str, Any] = {
    "dataset": "generated:long", "dataset_options": {"seeds": [2, 3], "length": LENGTH, "size": [144, 240]}, "sequences": ("crowd-s2", "crowd-s3"),
}  # fmt: skip
SMOKE_REFINER: dict[str, Any] = {"sizes": [240], "mirror": False}
RATES = {"paper": 325 / 43000, "smoke": 0.01}
"""Of random requests, for each frame and object: the thesis's budget, and on the smoke clips a rate at which chance (seed 0) asks as often as
Lazy-XMem does, 7 times."""

SMOKE = (
    f"Smoke scale: tiny at a short side of 96; two generated clips of three objects that cross, hide and leave, {LENGTH} frames each, on which it "
    "loses objects; r as published."
)
ASKING = (
    f" The refiner looks at a short side of {SMOKE_REFINER['sizes'][0]}; thresholds as published; random requests at a rate of {RATES['smoke']:g} a "
    "frame and object."
)


def places(setting: Setting, found: Mapping[str, str], *headings: str) -> list[Place]:
    """The data sets of a table or figure: those that were found, or at smoke scale the generated one that stands for all."""
    if setting.scale == "smoke":
        return [Place(headings[0], "generated crowd", {**CROWD, "size": 96})]
    return [Place(h, h, {"dataset": DATASETS[h], "dataset_options": {"root": found[h]}, "size": 480}) for h in headings if h in found]


def network(setting: Setting, method: str) -> tuple[str, str | None] | None:
    """Network and weights that a method of the thesis runs with; ``None`` where nothing stands for it at smoke scale."""
    if setting.scale == "paper":
        name, release = NETWORKS[method]
        return name, setting.weights.get(release, release)
    small = SMOKE_NETWORKS.get(method)
    return (small, setting.weights.get(small)) if small else None


def memory(method: str) -> tuple[str, dict[str, Any]]:
    """XMem's own memory, or QDMN's own bank as released, in their published settings."""
    return ("qdmn", {"published": True}) if method == "QDMN" else ("longterm", {"every": 5})


@dataclass(frozen=True)
class Arm:
    """A row of chapter 6.

    Attributes
    ----------
    method: ``"XMem"`` or ``"QDMN"``, whose predicted quality stands in the place of the entropy. Its thresholds are not published; those of the
        entropy are taken.
    start: ``"click"``: one click per object at its centre, refined (imperfect); ``"mask"``: the true mask (perfect).
    udu: frames with an uncertain object are not stored. pseudo: pseudo-corrections; pseudo_idu: these are stored.
    user: a simulated user is asked; user_idu: what she corrects is stored.
    trigger: what a request follows: the change of the score, the score (``"level"``), or chance.
    truth: the user gives the true mask in the place of a click.
    """

    method: str = "XMem"
    start: Literal["click", "mask"] = "click"
    udu: bool = False
    pseudo: bool = False
    pseudo_idu: bool = False
    user: bool = False
    user_idu: bool = False
    trigger: Literal["delta", "level", "random"] = "delta"
    truth: bool = False

    @property
    def parts(self) -> str:
        """Which parts are on, as in the thesis's Table 6.3; empty for the plain tracker."""
        names = {"udu": "UDU", "pseudo": "P", "pseudo_idu": "P-IDU", "user": "U", "user_idu": "U-IDU"}
        return " + ".join(text for name, text in names.items() if getattr(self, name))

    def text(self, setting: Setting) -> str:
        """What runs, in a line."""
        found = network(setting, self.method)
        kind = "quality bank" if self.method == "QDMN" else "long-term memory"
        said = [self.method if setting.scale == "paper" or found is None else found[0], kind, "r=5", f"{self.start} start", *([self.parts] if self.parts else [])]
        if self.user:
            what = "u" if self.method == "QDMN" else "S"
            said.append({"delta": f"asks by Δ{what}", "level": f"asks by {what}", "random": f"asks at random, {RATES[setting.scale]:.3g}"}[self.trigger])
        return ", ".join([*said, *(["true masks"] if self.truth else [])])

    def experiment(self, setting: Setting, place: Place, **more: Any) -> Experiment | None:
        """The experiment on a data set; equal arms give equal ones, whatever table asks. ``None`` as in :func:`network`."""
        found = network(setting, self.method)
        if found is None:
            return None
        paper = setting.scale == "paper"
        own, options = memory(self.method)
        policy, policy_options = self._policy(setting)
        return Experiment(
            name=f"{self.text(setting)}, {place.heading}", backbone=found[0], weights=found[1], memory=own, memory_options=options,
            policy=policy, policy_options=policy_options, start=self.start,
            user="simulated" if self.user else "none", user_options={"correct_with": "ground_truth"} if self.truth else {},
            uncertainty="quality" if self.method == "QDMN" and self.parts else "entropy",
            refiner=REFINER if paper else "tiny", refiner_options={} if paper else SMOKE_REFINER,
            refiner_weights=setting.weights.get(REFINER, REFINER) if paper else setting.weights.get("tiny-click"),
            seed=setting.seed, scale=setting.scale, device=setting.device, precision=setting.precision, **{**place.options, **more},
        )  # fmt: skip

    def _policy(self, setting: Setting) -> tuple[str, dict[str, Any]]:
        if not self.parts:
            return "never", {}
        asks = self.user and self.trigger != "random"
        options: dict[str, Any] = {"ask": asks, "udu": self.udu, "pseudo": self.pseudo, "pseudo_idu": self.pseudo_idu, "user_idu": self.user_idu}
        if self.trigger == "level":
            options["trigger"] = "level"
        if self.trigger == "random":
            return "random", {"rate": RATES[setting.scale], "seed": setting.seed, "rest": options}
        return "lazy", options
