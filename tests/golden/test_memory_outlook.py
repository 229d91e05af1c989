"""SAM2Long's and DAM4SAM's decisions against records of released code (memory_outlook.json, memory_outlook.npz)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lazyvos.memory.chosen import View
from lazyvos.memory.dam4sam import (
    AnchorRule,
    Dam4SamConfig,
    DamTrack,
    distractor_overlap,
    select_drm,
    select_ram,
)
from lazyvos.memory.sam2long import LongTrack, PathTree, select_branches, usable_frames

PARTS = {
    "sam2long": {"pathways", "iou_threshold", "uncertainty", "steps", "memory"},
    "dam4sam": {"ram", "anchors", "drm_size", "total", "ram_stride"},
}
FIELDS = {
    "steps": {"t", "parent_scores", "ious", "occlusion_logits", "kept"},
    "memory": {"case", "t", "iou", "occlusion", "valid", "read"},
    "ram": {"case", "t", "visible", "anchors_so_far", "drm", "ram"},
    "anchors": {"t", "predicted_ious", "area", "anchor"},
}


@pytest.fixture(scope="module")
def outlook(load: Any) -> tuple[dict[str, Any], Any]:
    manifest, arrays = load("memory_outlook")
    for part, known in PARTS.items():
        assert set(manifest[part]) == known, f"{part}: no test reads {sorted(set(manifest[part]) ^ known)}"
        for name in known & set(FIELDS):
            assert manifest[part][name], f"{part}: {name} is empty"
            for record in manifest[part][name]:
                assert set(record) == FIELDS[name], (part, name, sorted(set(record) ^ FIELDS[name]))
    return manifest, arrays


def _filled(records: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Records whose series, given once a case, are filled in."""
    known: dict[Any, dict[str, Any]] = {}
    for record in records:
        if record[names[0]] is not None:
            known[record["case"]] = {name: record[name] for name in names}
    return [{**record, **known[record["case"]]} for record in records]


def test_pathways_are_those_of_the_released_code(outlook: Any) -> None:
    part = outlook[0]["sam2long"]
    kinds = set()
    for step in part["steps"]:
        got = select_branches(step["parent_scores"], step["ious"], step["occlusion_logits"], part["pathways"], part["uncertainty"])
        assert [(b.pathway, b.candidate) for b in got] == [(k["pathway"], k["candidate"]) for k in step["kept"]], step["t"]
        np.testing.assert_allclose([b.score for b in got], [k["score"] for k in step["kept"]], atol=1e-7, rtol=1e-7)
        kinds.add(max(map(abs, step["occlusion_logits"])) > part["uncertainty"])
    assert kinds == {True, False}, "both rules must be met"


def test_a_tree_walks_the_same_pathways(outlook: Any) -> None:
    """As long as the record hands on its own scores the tree keeps them itself."""
    part = outlook[0]["sam2long"]
    tree = PathTree(part["pathways"], certain=part["uncertainty"], threshold=part["iou_threshold"])
    tree.step([[0.1, 0.9, 0.5]], [3.0])
    walked = 0
    for step in part["steps"]:
        if not np.allclose(tree.scores, step["parent_scores"], atol=1e-7):
            break
        got = tree.step(step["ious"], step["occlusion_logits"])
        assert [(b.pathway, b.candidate) for b in got] == [(k["pathway"], k["candidate"]) for k in step["kept"]], step["t"]
        walked += 1
    assert walked > 0
    back = tree.trace()
    assert [node.t for node in back] == list(range(1, walked + 2))
    assert back[0].candidate == 1
    chosen, at = [], tree.best
    for step in part["steps"][:walked][::-1]:
        chosen.append(step["kept"][at]["candidate"])
        at = step["kept"][at]["pathway"]
    assert [node.candidate for node in back[1:]] == chosen[::-1]


def test_frames_that_a_pathway_reads(outlook: Any) -> None:
    part = outlook[0]["sam2long"]
    for record in _filled(part["memory"], "iou", "occlusion"):
        t, threshold = record["t"], part["iou_threshold"]
        usable = usable_frames(record["iou"], record["occlusion"], t, threshold)
        assert usable == record["valid"], (record["case"], t)
        assert [0, *usable[-6:]] == record["read"]
        track, tree = LongTrack(0, threshold), PathTree(1, threshold=threshold)
        for f in range(1, t):
            track.note(f, record["iou"][f], record["occlusion"][f])
            tree.step([[record["iou"][f]]], [record["occlusion"][f]])
        assert track.reads() == record["read"], (record["case"], t)
        assert tree.reads(0) == record["read"], (record["case"], t)


def test_recent_frames_and_anchors_that_are_read(outlook: Any) -> None:
    part = outlook[0]["dam4sam"]
    for record in _filled(part["ram"], "visible"):
        t, anchors, where = record["t"], record["anchors_so_far"], (record["case"], record["t"])
        drm = select_drm(anchors, t, part["drm_size"])
        assert drm == record["drm"], where
        visible = [f for f, seen in enumerate(record["visible"]) if seen]
        ram = select_ram(visible, anchors, t, part["total"] - len(drm), part["ram_stride"])
        assert ram == record["ram"], where


def test_anchors_are_those_of_the_released_code(outlook: Any) -> None:
    manifest, arrays = outlook
    part = manifest["dam4sam"]

    def mask(name: str) -> np.ndarray:
        return np.unpackbits(arrays[name], axis=1).astype(bool)  # padded with zeros to whole bytes

    rule, used, found = AnchorRule(Dam4SamConfig(total=part["total"], drm=part["drm_size"], stride=part["ram_stride"])), set(), []
    for record in part["anchors"]:
        t = record["t"]
        names = [f"m{t}", *(f"a{t}_{i}" for i in range(len(record["predicted_ious"]) - 1))]
        used |= set(names)
        chosen, *others = map(mask, names)
        assert int(chosen.sum()) == record["area"], t
        overlap = distractor_overlap(chosen, others)
        assert rule.offer(t, record["predicted_ious"][0], chosen, others) == record["anchor"], (t, overlap)
        found.append(record["anchor"])
    assert used == set(arrays.files)
    assert set(found) == {True, False}


def test_the_bounded_track_reads_what_the_whole_history_would_give(outlook: Any) -> None:
    """The memory keeps few frames; what it reads is what the rules choose among all frames."""
    part = outlook[0]["dam4sam"]
    config = Dam4SamConfig(total=part["total"], drm=part["drm_size"], stride=part["ram_stride"])
    for record in _filled(part["ram"], "visible"):
        anchors = [a for a in record["anchors_so_far"] if a > 0]
        anchors = [a for a in anchors if record["visible"][a]]  # as ever outside the record: an anchor shows the object
        track = DamTrack(config, 0, 0)
        for f in range(1, record["t"]):
            _play(track, f, bool(record["visible"][f]), f in anchors)
        drm = select_drm([0, *anchors], record["t"], config.drm)
        visible = [f for f in range(record["t"]) if record["visible"][f]]
        ram = select_ram(visible, anchors, record["t"], config.total - len(drm), config.stride)
        assert track.reads() == sorted({*drm, *ram}), (record["case"], record["t"])
        assert set(track.reads()) <= track.needs()
        assert len(track.needs()) <= config.total + config.drm + 1


def _play(track: DamTrack, t: int, visible: bool, anchor: bool) -> None:
    mask = torch.full((2, 2), 0.9 if visible else 0.1)
    track.offer(View(t, mask, None, None, certain=anchor))
