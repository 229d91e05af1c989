"""Which uncertainty follows the true IoU? Estimators of a single network, an ensemble, dropout and an evidential network, side by side.

The question of thesis Figure 6.5, on long generated clips on which a tracker fails or on the sequences of a folder, and with a second
answer: does the score tell where a mask fails? Nothing is corrected. All estimators of a tracker look at the same predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from lazyvos.experiments.engine import run
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.recipe import Records
from lazyvos.hub import shipped
from lazyvos.metrics.correlation import correlate
from lazyvos.metrics.risk import failure_auroc, risk_coverage
from lazyvos.types import InputError

TRACKERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "X": ("tiny", "entropy", {}),
    "E": ("tiny+tiny-b+tiny-c", "epistemic", {}),
    "M": ("tiny-drop", "dropout", {"passes": 8}),
    "D": ("tiny-evidential", "evidential", {"part": "total"}),
}
"""Name -> network, estimator and options: a single network (X), an ensemble (E), dropout (M), an evidential network (D)."""

ENTROPIES: dict[str, dict[str, Any]] = {
    "S": {"name": "frame-entropy"}, "S_R": {"name": "entropy"}, "S_R/region": {"name": "entropy", "normalise": "region"},
    "S_R/undilated": {"name": "entropy", "dilate": 0.0},
}  # fmt: skip
"""What every tracker can say: entropy of the frame, masked, masked and divided by the size of the region, over the undilated mask."""

PARTS: dict[str, dict[str, Any]] = {
    "A": {"name": "aleatoric", "masked": False}, "A_R": {"name": "aleatoric"},
    "V": {"name": "epistemic", "masked": False}, "V_R": {"name": "epistemic"},
}  # fmt: skip
"""Aleatoric (A) and epistemic (V) parts, for trackers with members or passes."""

EVIDENCE: dict[str, dict[str, Any]] = {
    "A": {"part": "aleatoric", "masked": False}, "A_R": {"part": "aleatoric"}, "V": {"part": "epistemic", "masked": False},
    "V_R": {"part": "epistemic"}, "U": {"part": "vacuity", "masked": False}, "U_R": {"part": "vacuity"},
}  # fmt: skip
"""The same of an evidential network, and its vacuity (U). Each is a run of its own, whose encoder passes are shared."""

_OTHER = ("t", "j", "f", "present", "predicted", "area", "score")  # series that are no watched estimator


def available() -> tuple[str, ...]:
    """The trackers of :data:`TRACKERS` whose weights come with this copy of the package."""
    return tuple(name for name, (backbone, _, _) in TRACKERS.items() if set(backbone.split("+")) <= set(shipped()))


def arms(
    dataset: Any, dataset_options: Mapping[str, Any], *, sequences: Sequence[str] | None = None, trackers: Sequence[str] | None = None,
    memory: str = "longterm", memory_options: Mapping[str, Any] | None = None, size: int | None = 0, start: str = "mask",
    passes: int = 8, precision: str = "auto", seed: int = 0, device: str | None = None,
) -> list[Experiment]:  # fmt: skip
    """The experiments, named by tracker, those of :data:`EVIDENCE` as ``D-V_R``. ``trackers``: of :data:`TRACKERS`, by default all
    that are :func:`available`; ``passes`` of dropout. Raises :class:`InputError` for another name."""
    wanted = available() if trackers is None else trackers
    unknown = [name for name in wanted if name not in TRACKERS]
    if unknown:
        raise InputError(f"tracker {unknown[0]!r} is not part of this study; choose from {', '.join(TRACKERS)}")
    common: dict[str, Any] = {
        "dataset": dataset, "dataset_options": dict(dataset_options), "sequences": None if sequences is None else tuple(sequences),
        "memory": memory, "memory_options": dict(memory_options or {}), "refiner": None if start == "mask" else "tiny", "size": size,
        "start": start, "precision": precision, "seed": seed, "device": device,
    }  # fmt: skip
    found = []
    for name in wanted:
        backbone, uncertainty, options = TRACKERS[name]
        if name == "M":
            options = {**options, "passes": passes, "seed": seed}
        watch = ENTROPIES | (PARTS if name in ("E", "M") else {})
        found.append(Experiment(name=name, backbone=backbone, uncertainty=uncertainty, uncertainty_options=options, watch=watch, **common))
        for part, own in EVIDENCE.items() if name == "D" else ():
            found.append(Experiment(name=f"{name}-{part}", backbone=backbone, uncertainty=uncertainty, uncertainty_options=own, **common))
    return found


def estimators(name: str, records: Records) -> dict[str, list[Mapping[str, Any]]]:
    """The estimators of an experiment and, of each object, the series ``u`` (NaN for missing), ``j`` (IoU) and ``area`` (pixels of the mask).

    They are those that the experiment called ``name`` watched, named ``name-S_R`` and so on; of one that has a dash in its name,
    its own score.
    """
    series = [o["series"] for record in records for o in record["objects"]]
    keys = {"score": name} if "-" in name else {key: f"{name}-{key}" for s in series[:1] for key in s if key not in _OTHER}
    return {
        label: [{"u": np.array(s[key], np.float64), "j": np.array(s["j"], np.float64), "area": np.array(s["area"], np.float64)} for s in series]
        for key, label in keys.items()
    }


def condense(records: Mapping[str, Records], draws: int = 2000) -> pd.DataFrame:
    """One row per estimator, from the records of each experiment by its name.

    ``median``, ``q1``, ``q3`` over ``objects`` of the rank correlation with the true IoU (1 is best; protocol of Figure 6.5, see
    :mod:`lazyvos.metrics.correlation`), ``undefined`` objects left out; ``low`` and ``high`` bound the median: 95 % of ``draws`` bootstrap
    draws over objects. A masked score counts only where the object has a mask. ``AURC``, ``E-AURC`` (over the best order, 0 is best) and
    ``AUROC`` (of IoU < 0.5) are over ``units``, objects on frames but their first, all of them with a mask, the same for all estimators
    of a tracker; ``AUROC/object`` is the mean over the objects that both fail and do not, each for itself. ``failed`` is the share of units
    with IoU < 0.5, ``IoU`` their mean, ``vanished`` how many more had no mask. AURC depends on how well a tracker does: compare it within one.
    """
    rows = []
    for experiment, several in records.items():
        for label, objects in estimators(experiment, several).items():
            masked = "_R" in label
            box = correlate([(np.where(o["area"] > 0, o["u"], math.nan) if masked else o["u"], o["j"]) for o in objects], label)
            u, iou, area = (_joined([o[key][1:] for o in objects]) for key in ("u", "j", "area"))
            known = ~(np.isnan(u) | np.isnan(iou))
            seen = known & (area > 0)
            curve = risk_coverage(u[seen], iou[seen])
            low, high = _interval(box.coefficients, draws)
            rows.append({
                "estimator": label, "median": box.median, "q1": box.quartiles[0], "q3": box.quartiles[1], "low": low, "high": high,
                "objects": len(box.coefficients), "undefined": box.undefined, "AURC": curve.aurc, "E-AURC": curve.eaurc,
                "AUROC": failure_auroc(u[seen], iou[seen]), "AUROC/object": _within(objects), "units": int(seen.sum()), "vanished": int((known & ~seen).sum()),
                "failed": float((iou[seen] < 0.5).mean()) if seen.any() else math.nan, "IoU": float(iou[seen].mean()) if seen.any() else math.nan,
                "videos": len(several), "seconds": sum(record["seconds"] for record in several),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _within(objects: Sequence[Mapping[str, Any]]) -> float:
    """Mean AUROC of failure within an object, of those that both fail and do not."""
    each = []
    for o in objects:
        seen = (o["area"] > 0) & ~np.isnan(o["u"])
        seen[:1] = False
        each.append(failure_auroc(o["u"][seen], o["j"][seen]))
    known = [value for value in each if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _joined(series: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(series) if series else np.zeros(0)


def _interval(values: np.ndarray, draws: int) -> tuple[float, float]:
    if len(values) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    low, high = np.quantile(np.median(values[rng.integers(0, len(values), (draws, len(values)))], 1), (0.025, 0.975))
    return float(low), float(high)


def study(
    out: str | PathLike[str], *, seeds: Sequence[int] = (1, 2, 3), cases: Sequence[str] = ("crowd", "hard"), length: int = 600,
    size: int | None = 144, folder: str | None = None, split: str | None = None, sequences: Sequence[str] | None = None,
    workers: int = 1, progress: bool = True, **more: Any,
) -> pd.DataFrame:  # fmt: skip
    """Run the study (results in ``out`` are kept) and return :func:`condense`'s table.

    Without ``folder`` on clips of the generated suite ``long`` (``cases`` for each of ``seeds``, ``length`` frames of 144x256), else on the
    sequences of a folder in DAVIS layout (``split`` names a list of them, ``sequences`` some of them). ``size`` is the short side of the
    network's input (0: its own default); ``more`` goes to :func:`arms`.
    """
    if folder is None:
        given: dict[str, Any] = {"seeds": list(seeds), "length": length, "size": [144, 256]}
        wanted: Sequence[str] | None = [f"{case}-s{seed}" for case in cases for seed in seeds]
        experiments = arms("generated:long", given, sequences=wanted, size=size, **more)
    else:
        experiments = arms(folder, {} if split is None else {"split": split}, sequences=sequences, size=size, **more)
    executor = "local" if workers == 1 else "processes"
    return condense(run(experiments, executor, workers, out, progress).records())
