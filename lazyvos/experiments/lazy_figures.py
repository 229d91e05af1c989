"""The data of the figures of chapter 6 (thesis, sections 6.4 and 6.6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lazyvos.device import pick_device
from lazyvos.experiments import lockstep
from lazyvos.experiments.data import open_dataset
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.lazy_arms import DATASETS, SMOKE, Arm, memory, network, places
from lazyvos.experiments.readmem_arms import Place
from lazyvos.experiments.recipe import Figure, Point, Records, Setting
from lazyvos.hub import shipped
from lazyvos.interact.clicks import distance_field
from lazyvos.interact.pseudo import pseudo_point
from lazyvos.metrics.correlation import correlate
from lazyvos.uncertainty.entropy import dilate_mask

ENSEMBLES = {"paper": ("xmem", "xmem-s012", "xmem-s2"), "smoke": ("tiny", "tiny-b", "tiny-c")}
"""Members of the ensemble: released trainings of XMem (of the thesis's own three only the second was released), and small ones that were
trained apart."""

PASSES = {"paper": 20, "smoke": 8}
DROPOUT = {"paper": ("xmem", "xmem-s012"), "smoke": ("tiny-drop", None)}
"""Network and weights for dropout; no XMem that was trained with it was released."""

MEASURES = {"Q": ("QAM", "S", "S_R"), "X": ("S", "S_R"), "E": ("S", "S_R", "V", "V_R"), "M": ("S", "S_R", "V", "V_R")}
"""What is compared for QDMN, XMem, the ensemble and dropout, in the order of the thesis's figure."""

_WATCH: dict[str, dict[str, Any]] = {
    "S": {"name": "frame-entropy"}, "S_R": {"name": "entropy"}, "V": {"name": "epistemic", "masked": False}, "V_R": {"name": "epistemic"},
}  # fmt: skip


def _series(setting: Setting, found: Mapping[str, str], sequence: Mapping[str, str]) -> list[Point]:
    """Plain XMem from the true masks of one sequence."""
    points = []
    for place in places(setting, found, "D17"):
        experiment = Arm(start="mask").experiment(setting, place, sequences=(sequence[setting.scale],))
        assert experiment is not None
        points.append(Point(experiment, {"data": place.heading}))
    return points


def judo(setting: Setting, found: Mapping[str, str]) -> list[Point]:
    """Figures 6.3 and 6.4: XMem on one sequence."""
    return _series(setting, found, {"paper": "judo", "smoke": "crowd-s2"})


def followed(points: Sequence[Point], records: Mapping[str, Records]) -> pd.DataFrame:
    """Figure 6.3, right: a row for each object and frame but its first: ``data``, ``sequence``, ``object``, ``frame``, ``IoU``, ``S_R``, ``ΔS_R`` (NaN
    where there is none), ``hardware``, ``seconds`` (of tracking the sequence)."""
    rows = []
    for point in points:
        for record in records.get(point.experiment.name, ()):
            facts = {"hardware": record["machine"]["gpu"] or record["machine"]["cpu"], "seconds": record["seconds"]}
            for o in record["objects"]:
                before = math.nan
                for t, j, score in zip(o["series"]["t"], o["series"]["j"], o["series"]["score"], strict=True):
                    if score is None:
                        continue
                    rows.append({**point.labels, "sequence": record["sequence"], "object": o["id"], "frame": t, "IoU": j, "S_R": score, "ΔS_R": score - before, **facts})
                    before = score
    return pd.DataFrame(rows)


def heat_maps(points: Sequence[Point], records: Mapping[str, Records]) -> pd.DataFrame:
    """Figure 6.4: how a pseudo-click is found where the masked entropy of an object rises most while it has a mask.

    A row for each pixel of a window around the mask: ``data``, ``sequence``, ``object``, ``frame``, ``x``, ``y``, ``mask``, ``distance`` (0..1),
    ``confidence`` (1 − S), their ``product``, ``click`` (1 at the chosen pixel), ``hardware``. The sequence is tracked again up to that frame.
    """
    frames = []
    for point in points:
        for record in records.get(point.experiment.name, ()):
            rises = [rise for o in record["objects"] for rise in _rises(o)]
            if rises:
                _, t, o = max(rises)
                labels = {**point.labels, "sequence": record["sequence"], "object": o, "frame": t}
                frames.append(_window(point.experiment, record["sequence"], t, o).assign(hardware=record["machine"]["gpu"] or record["machine"]["cpu"]))
                frames[-1] = pd.concat([pd.DataFrame(labels, index=frames[-1].index), frames[-1]], axis=1)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _rises(o: Mapping[str, Any]) -> list[tuple[float, int, int]]:
    """Changes of the score of an object with a mask, each with frame and object."""
    s = o["series"]
    steps = zip(s["t"][1:], s["score"], s["score"][1:], s["area"][1:], strict=False)
    return [(now - before, t, o["id"]) for t, before, now, area in steps if area and before is not None and now is not None]


def _window(experiment: Experiment, sequence: str, t: int, o: int, margin: int = 8) -> pd.DataFrame:
    device = pick_device(experiment.device)
    prediction = lockstep.predicted(experiment, open_dataset(experiment)[sequence], device, t)
    mask = prediction.labels == o
    depth = distance_field(mask) * mask
    confidence = 1.0 - np.where(dilate_mask(mask), prediction.entropy, 0.0)
    ys, xs = np.nonzero(mask)
    rows = np.arange(max(ys.min() - margin, 0), min(ys.max() + margin + 1, mask.shape[0]))
    columns = np.arange(max(xs.min() - margin, 0), min(xs.max() + margin + 1, mask.shape[1]))
    y, x = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    distance, sure = depth[y, x] / depth.max(), confidence[y, x]
    click = np.zeros(mask.shape, int)
    point = pseudo_point(mask, prediction.entropy)
    assert point is not None
    click[int(point[1]), int(point[0])] = 1
    return pd.DataFrame({"x": x, "y": y, "mask": mask[y, x].astype(int), "distance": distance, "confidence": sure,
                         "product": distance * sure, "click": click[y, x]})  # fmt: skip


def estimators(setting: Setting, found: Mapping[str, str]) -> list[Point]:
    """Figure 6.5: QDMN (Q), XMem (X), an ensemble (E) and dropout (M) from the true masks, nothing corrected; every estimator
    looks at the same predictions of its tracker. Trackers without weights at smoke scale are left out."""
    return [
        Point(experiment, {"data": place.heading, "tracker": tracker})
        for place in places(setting, found, "D17", "LVOS") for tracker in MEASURES
        if (experiment := _estimated(setting, place, tracker)) is not None
    ]  # fmt: skip


def _estimated(setting: Setting, place: Place, tracker: str) -> Experiment | None:
    weights: str | None
    if tracker in ("Q", "X"):
        known = network(setting, "QDMN" if tracker == "Q" else "XMem")
        if known is None:
            return None
        backbone, weights = known
    elif tracker == "E":
        members = ENSEMBLES[setting.scale]
        given = any(name in setting.weights for name in members)
        backbone = "+".join(members if setting.scale == "smoke" else ["xmem"] * len(members))
        weights = "+".join(setting.weights.get(name, name) for name in members) if given or setting.scale == "paper" else None
    else:
        backbone, release = DROPOUT[setting.scale]
        weights = setting.weights.get(release or backbone, release)  # type: ignore[arg-type]
    if setting.scale == "smoke" and weights is None and not set(backbone.split("+")) <= set(shipped()):
        return None
    own, options = memory("QDMN" if tracker == "Q" else "XMem")
    uncertainty, settings = {
        "Q": ("quality", {}), "X": ("entropy", {}), "E": ("epistemic", {}), "M": ("dropout", {"passes": PASSES[setting.scale], "seed": setting.seed}),
    }[tracker]  # fmt: skip
    return Experiment(
        name=f"figure 6.5, {tracker}: {backbone}, {uncertainty}, {place.heading}", backbone=backbone, weights=weights, memory=own,
        memory_options=options, refiner=None, uncertainty=uncertainty, uncertainty_options=settings,
        watch={name: _WATCH[name] for name in MEASURES[tracker] if name in _WATCH}, seed=setting.seed, scale=setting.scale, device=setting.device,
        precision=setting.precision, **place.options,
    )  # fmt: skip


def boxes(points: Sequence[Point], records: Mapping[str, Records]) -> pd.DataFrame:
    """Figure 6.5: a row for each box, of the rank correlations over the objects between an estimator and the true IoU (1 is best).

    Columns: ``data``, ``estimator`` (as in the thesis), those of :meth:`lazyvos.metrics.correlation.Correlations.row`, ``n videos``, ``hardware``,
    ``seconds`` (of tracking). A masked score counts only where the object has a mask.
    """
    rows = []
    for point in points:
        several = records.get(point.experiment.name, ())
        objects = [o["series"] for record in several for o in record["objects"]]
        if not objects:
            continue
        facts = {"n videos": len(several), "hardware": several[0]["machine"]["gpu"] or several[0]["machine"]["cpu"],
                 "seconds": sum(record["seconds"] for record in several)}  # fmt: skip
        tracker = str(point.labels["tracker"])
        for name in MEASURES[tracker]:
            box = correlate([(_values(s, name), s["j"]) for s in objects])
            estimator = name if name == "QAM" else f"{tracker}-{name}"
            rows.append({"data": point.labels["data"], "estimator": estimator, **box.row(), **facts})
    return pd.DataFrame(rows)


def _values(series: Mapping[str, Any], name: str) -> np.ndarray:
    """An estimator's series with NaN for missing; QAM is the tracker's own score, 1 − q."""
    found = np.array(series["score" if name == "QAM" else name], np.float64)  # None becomes NaN
    if name.endswith("_R"):
        found[np.array(series["area"], np.float64) == 0] = math.nan
    return found


def _of(*headings: str) -> dict[str, str]:
    return {heading: DATASETS[heading] for heading in headings}


FIGURES: tuple[Figure, ...] = (
    Figure("6.3", "Masked entropy of each object and its IoU over time", _of("D17"), judo, followed, SMOKE),
    Figure("6.4", "How a pseudo-click is found", _of("D17"), judo, heat_maps, SMOKE),
    Figure("6.5", "Rank correlation of estimators with the IoU", _of("D17", "LVOS"), estimators, boxes,
           f"{SMOKE} Dropout: {PASSES['smoke']} passes for {PASSES['paper']}. No small network stands for QDMN (Q)."),
)  # fmt: skip
