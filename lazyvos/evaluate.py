"""Semi-supervised evaluation of a DAVIS-layout folder: from the first mask, or from one click per object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from lazyvos.build import make_tracker
from lazyvos.datasets.davis import DavisFolder
from lazyvos.datasets.davis import Sequence as Clip
from lazyvos.interact import SimulatedUser, object_centre
from lazyvos.masks import MaskWriter
from lazyvos.metrics import ObjectScore, Score, robustness_of, series_statistics
from lazyvos.outputs import make_folder, write_json
from lazyvos.scoring import Scoreboard
from lazyvos.tracker import Tracker
from lazyvos.types import Click, InputError

RESULTS = "results"
VERSION = 1  # of what a sequence's result means; raise it when old results must not be used again


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated. ``start``: ``"mask"`` (the true first mask) or ``"click"`` (one click per object, at its centre).

    ``user="simulated"`` answers requests from the truth (only with a policy that asks). The other fields are those of
    :func:`lazyvos.build.make_tracker`.
    """

    start: Literal["mask", "click"] = "mask"
    backbone: str = "tiny"
    weights: str | None = None
    memory: str = "fifo"
    policy: str = "never"
    refiner: str = "tiny"
    refiner_weights: str | None = None
    size: int | None = 0
    device: str | None = None
    precision: str = "auto"
    compile: bool = False
    user: Literal["none", "simulated"] = "none"
    uncertainty: str = "entropy"

    def __post_init__(self) -> None:
        if self.start not in ("mask", "click"):
            raise InputError(f"start {self.start!r} is unknown; choose mask or click")
        if self.user not in ("none", "simulated"):
            raise InputError(f"user {self.user!r} is unknown; choose none or simulated")

    def tracker(self) -> Tracker:
        """A fresh tracker."""
        return make_tracker(
            self.backbone, weights=self.weights, memory=self.memory, policy=self.policy, size=self.size,
            refiner=None if self.start == "mask" and self.policy == "never" else self.refiner,
            refiner_weights=self.refiner_weights, device=self.device, precision=self.precision, compile=self.compile,
            uncertainty=self.uncertainty,
        )  # fmt: skip


def result_key(config: EvalConfig, tracker: Tracker) -> str:
    """Hash of everything that decides the result of a sequence: the configuration, the device's kind, the weights."""
    facts = {**asdict(config), "weights": None, "device": tracker.device.type, "size": tracker.size, "precision": tracker.precision, "version": VERSION}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for net in (tracker.backbone, getattr(tracker.refiner, "net", None)):
        for name, value in net.state_dict().items() if isinstance(net, nn.Module) else ():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def evaluate_folder(
    root: str | PathLike[str],
    split: str | PathLike[str] | None,
    out: str | PathLike[str],
    config: EvalConfig | None = None,
    *,
    force: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Track every sequence of a split and score it by the DAVIS-2017 semi-supervised protocol.

    Objects are those of a sequence's first mask; frames before it stay empty. Masks go to ``out/SEQUENCE/*.png`` (palette PNG,
    named like the frames), the result of each sequence to ``out/results/SEQUENCE.json`` and the whole to
    ``out/results.json``. A sequence whose result is there, made by the same configuration, weights and frames, is not
    repeated unless ``force``.

    Returns a plain dict: ``J``, ``F``, ``JF`` (means over objects, 0..1), their recall and decay, ``R`` (R@τ over all frames),
    ``fps`` (frames per second of tracking alone, without reading, writing and scoring), ``frames``, ``objects``,
    ``config`` and ``sequences``: per sequence the same, with every object's J, F, JF.

    Raises :class:`InputError` before any work for a folder, split, mask or option that cannot work.
    """
    config = config or EvalConfig()
    folder = DavisFolder(root, split)
    target = Path(out)
    for name in folder.names:
        if name == RESULTS:
            raise InputError(f"a sequence is called {RESULTS!r}, which is where results go; rename it")
    tracker: Tracker | None = config.tracker()  # fails before work where it cannot be built
    assert tracker is not None
    key = result_key(config, tracker)
    make_folder(target)
    records: list[dict[str, Any]] = []
    bar = tqdm(total=sum(len(clip) for clip in folder), unit="frame", disable=not progress, mininterval=0.5, dynamic_ncols=True)
    with bar:
        for clip in folder:
            bar.set_description(clip.name)
            record = None if force else _finished(target, clip, key)
            if record is None:
                record = _evaluate(clip, tracker or config.tracker(), config, target, key, bar)
                tracker = None
            else:
                bar.update(len(clip))
            records.append(record)
    summary = _summary(records, config, key, folder)
    write_json(target / f"{RESULTS}.json", summary)
    return summary


def first_clicks(mask: np.ndarray, objects: Sequence[int]) -> list[Click]:
    """One positive click per object: the pixel deepest inside its mask ``uint8 [H, W]``."""
    found = [(o, object_centre(mask == o)) for o in objects]
    return [Click(at[0], at[1], o) for o, at in found if at is not None]


def _evaluate(clip: Clip, tracker: Tracker, config: EvalConfig, out: Path, key: str, bar: Any) -> dict[str, Any]:
    mask = clip.mask(clip.start)
    assert mask is not None
    board = Scoreboard(clip.name, clip.objects)
    seconds, frames, later, requests, user, pseudo = 0.0, 0, set[int](), 0, 0, 0
    answers = SimulatedUser(lambda t: clip.mask(t + clip.start)) if config.user == "simulated" else None
    start: dict[str, Any] = {"mask": mask} if config.start == "mask" else {"clicks": first_clicks(mask, clip.objects)}
    with MaskWriter(out / clip.name) as masks, clip.frames:
        for t in range(clip.start):
            masks.write(clip.images[t].stem, np.zeros(clip.size, np.uint8))
            bar.update()
        for step in tracker.track(_frames(clip), answers, **start):
            t = step.t + clip.start
            labels = step.prediction.labels
            masks.write(clip.images[t].stem, labels)
            truth = clip.mask(t)
            if truth is not None:
                board.update(labels, truth)
                later |= {int(i) for i in np.unique(truth)} - {0, 255, *clip.objects}
            seconds, frames = seconds + step.seconds, frames + 1
            requests += len(step.requests)
            pseudo += sum(c.kind == "pseudo" for c in step.corrections)
            user += sum(c.kind != "pseudo" for c in step.corrections) if step.t else 0
            bar.update()
    score = board.result()
    record = {"sequence": clip.name, "key": key, "clip": _fingerprint(clip), **_numbers(score)}
    record |= {
        "frames": frames, "seconds": seconds, "fps": frames / seconds if seconds else None, "later_objects": sorted(later),
        "requests": requests, "user_corrections": user, "pseudo_corrections": pseudo,
        "series": [
            {"id": o.id, "j": o.j.tolist(), "f": o.f.tolist(), "present": o.present.astype(int).tolist()}
            for o in score.objects
        ],
    }  # fmt: skip
    write_json(out / RESULTS / f"{clip.name}.json", record)
    return record


def _frames(clip: Clip) -> Iterator[np.ndarray]:
    return islice(iter(clip.frames), clip.start, None)


def _numbers(score: Score) -> dict[str, Any]:
    robust = robustness_of(score)
    return {**score.as_dict(), "R": {f"{tau:g}": None if np.isnan(v) else v for tau, v in robust.items()}}


def _finished(out: Path, clip: Clip, key: str) -> dict[str, Any] | None:
    """The stored result of a sequence, if it was made in the same way from the same frames and its masks are all there."""
    try:
        record = json.loads((out / RESULTS / f"{clip.name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("key") != key or record.get("clip") != _fingerprint(clip):
        return None
    return record if all((out / clip.name / f"{image.stem}.png").is_file() for image in clip.images) else None


def _fingerprint(clip: Clip) -> str:
    """Names, sizes and times of the files of a sequence."""
    digest = hashlib.sha256()
    for file in (*clip.images, *clip.annotations.values()):
        facts = file.stat()
        digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _object(sequence: str, series: dict[str, Any]) -> ObjectScore:
    """The score of an object again, from its stored series; the first and the last frame are not scored (DAVIS)."""
    j, f = np.array(series["j"]), np.array(series["f"])
    inner = slice(1, max(len(j) - 1, 1))
    present = np.array(series["present"], bool)
    return ObjectScore(sequence, series["id"], len(j[inner]), series_statistics(j[inner]), series_statistics(f[inner]), 0, j, f, present)


def _summary(records: list[dict[str, Any]], config: EvalConfig, key: str, folder: DavisFolder) -> dict[str, Any]:
    objects = tuple(_object(record["sequence"], series) for record in records for series in record["series"])
    numbers = _numbers(Score(objects))
    numbers.pop("objects")
    seconds, frames = sum(r["seconds"] for r in records), sum(r["frames"] for r in records)
    shown = ("J", "F", "JF", "J_recall", "F_recall", "J_decay", "F_decay", "R", "fps", "frames", "objects", "later_objects",
             "requests", "user_corrections", "pseudo_corrections")  # fmt: skip
    return {
        **numbers, "fps": frames / seconds if seconds else None, "frames": frames, "objects": len(objects),
        "pseudo_corrections": sum(r["pseudo_corrections"] for r in records), "root": str(folder.root), "split": folder.split, "config": asdict(config), "key": key, "torch": torch.__version__,
        "requests": sum(r["requests"] for r in records), "user_corrections": sum(r["user_corrections"] for r in records),
        "sequences": {r["sequence"]: {k: r[k] for k in shown} for r in records},
    }  # fmt: skip
