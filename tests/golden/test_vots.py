"""VOTS measures against numbers of the official toolkit."""

from __future__ import annotations

import numpy as np
import pytest

from lazyvos.metrics import VotsScore, overlap, vots_masks
from lazyvos.metrics.vots import MEASURES


@pytest.fixture(scope="module")
def golden(load):
    data, arrays = load("vots")
    assert data["sequences"], "the golden file has no sequence"
    return data, arrays, data["tolerance"]


def masks(z, key):
    """The packed masks ``bool [objects, frames, H, W]`` of a key."""
    shape = z[f"{key}_shape"]
    return np.unpackbits(z[key], axis=-1, count=int(shape[-1])).astype(bool).reshape(shape)


def score(data, z, init):
    objects = []
    for s in data["sequences"]:
        pairs = zip(masks(z, f"{s['name']}_pred"), masks(z, f"{s['name']}_gt"), strict=True)
        objects += [vots_masks(p, g, sequence=s["name"], id=k, first_frame_as_init=init) for k, (p, g) in enumerate(pairs, 1)]
    return VotsScore(tuple(objects))


@pytest.fixture(scope="module")
def given(golden):
    return score(golden[0], golden[1], init=False)


@pytest.fixture(scope="module")
def marked(golden):
    return score(golden[0], golden[1], init=True)


def close(actual, expected, tolerance, label):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=label)


def test_overlaps(golden, given):
    data, z, tol = golden
    for s in data["sequences"]:
        found = given.sequences[s["name"]].objects
        assert len(found) == len(s["overlaps"])
        for o, want in zip(found, s["overlaps"], strict=True):
            close(o.overlaps, want, tol, f"{s['name']} object {o.id}")
        p, g = masks(z, f"{s['name']}_pred"), masks(z, f"{s['name']}_gt")
        close(overlap(p[0, 1], g[0, 1]), s["overlaps"][0][1], tol, s["name"])


def test_sequences(golden, given):
    data, _, tol = golden
    for s in data["sequences"]:
        found = given.sequences[s["name"]]
        assert [list(o.counts) for o in found.objects] == s["counts_T_F_M_H_N"], s["name"]
        close(found.ACC, s["sequence_accuracy"], tol, s["name"])
        close([found.NRE, found.DRE, found.ADQ], s["nre_dre_adq"], tol, s["name"])
        at, curve = found.quality_curve(len(s["quality_curve_threshold"]))
        close(at, s["quality_curve_threshold"], tol, s["name"])
        close(curve, s["quality_curve"], tol, s["name"])


def check_dataset(found, want, tol):
    for m in MEASURES:
        close(getattr(found, m), want[m], tol, m)
    close([s.Q for s in found.sequences.values()], want["Q_per_sequence"], tol, "Q of each sequence")
    at, curve = found.quality_curve()
    area = float(np.sum((curve[1:] + curve[:-1]) / 2 * np.diff(at)))
    close(area, want["Q_trapezoid_of_curve"], tol, "area under the curve")


def test_dataset(golden, given):
    check_dataset(given, golden[0]["dataset"], golden[2])


def test_first_frame_marked_as_initialisation(golden, marked):
    want = golden[0]["first_frame_marked_as_initialisation"]
    check_dataset(marked, want["dataset"], golden[2])
    for found, counts, accuracy in zip(marked.sequences.values(), want["counts"], want["sequence_accuracy"], strict=True):
        assert [list(o.counts) for o in found.objects] == counts
        close(found.ACC, accuracy, golden[2], "ACC")


def test_folders_of_masks(golden, tmp_path):
    """The same numbers from files: truth as VOT regions, predictions as regions, run-length codes and PNG for each object."""
    import json

    from lazyvos.datasets.vots import write_regions
    from lazyvos.masks import rle_encode, write_mask
    from lazyvos.score import score_folder

    data, z, tol = golden
    codes = []
    for s in data["sequences"]:
        name = s["name"]
        pred, gt = masks(z, f"{name}_pred"), masks(z, f"{name}_gt")
        for t in range(gt.shape[1]):
            write_mask(tmp_path / "gt" / name / "color" / f"{t + 1:08d}.png", np.zeros(gt.shape[2:], np.uint8))
        (tmp_path / "gt" / name / "sequence").write_text("channels.color=color/%08d.png\nfps=30\n")
        for k in range(len(gt)):
            write_regions(tmp_path / "gt" / name / f"groundtruth_{k + 1}.txt", gt[k])
            write_regions(tmp_path / "text" / name / f"{name}_{k + 1}_001.txt", pred[k])
            for t, mask in enumerate(pred[k]):
                write_mask(tmp_path / "png" / name / f"{k + 1}" / f"{t + 1:08d}.png", mask)
                codes.append({"sequence": name, "frame": t + 1, "object": k + 1, "segmentation": rle_encode(mask)})
    (tmp_path / "gt" / "list.txt").write_text("\n".join(s["name"] for s in data["sequences"]))
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    for pred_folder in ("text", "png", "codes.json"):
        for init in (False, True):
            want = data["first_frame_marked_as_initialisation"]["dataset"] if init else data["dataset"]
            table = score_folder(tmp_path / "gt", tmp_path / pred_folder, first_frame_as_init=init)
            assert table.protocol == "vots"
            for m in MEASURES:
                close(table.summary[m], want[m], tol, f"{pred_folder} {m}")
