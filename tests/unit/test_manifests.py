"""Networks against the layouts of their published checkpoints, published constants, and the reader of golden manifests itself."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lazyvos.backbones.base import Entry, Query
from lazyvos.backbones.fusion import FusionNet
from lazyvos.backbones.layers import aggregate
from lazyvos.backbones.mivos import MiVOS, MiVOSConfig
from lazyvos.backbones.mivos_core import MiVOSCore
from lazyvos.backbones.qdmn import ASPP, QDMN
from lazyvos.backbones.stcn import STCN
from lazyvos.backbones.xmem import XMem
from lazyvos.memory import ReadMem
from lazyvos.memory.prototypes import Limits
from lazyvos.memory.readmem import ReadMemConfig
from lazyvos.refine.brs import BrsConfig
from lazyvos.refine.ritm import H18, H18S, RitmNet
from lazyvos.refine.zoom import ZoomConfig

GOLDEN = Path(__file__).parents[1] / "golden"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "xmem": XMem, "stcn": STCN, "mivos": MiVOS, "mivos_fusion": FusionNet, "qdmn": QDMN,
    "ritm": lambda: RitmNet(H18), "ritm_h18s": lambda: RitmNet(H18S),
}  # fmt: skip


def manifest(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_shapes_and_number_of_parameters(name: str) -> None:
    published = manifest(name)
    with torch.device("meta"):
        net = NETWORKS[name]()
    assert [(key, list(value.shape)) for key, value in net.state_dict().items()] == list(published["checkpoint"].items())
    assert sum(p.numel() for p in net.parameters()) == published["parameter_count"]
    counters = {key for key, value in net.state_dict().items() if not value.is_floating_point()}
    assert counters == {key for key in published["checkpoint"] if key.endswith("num_batches_tracked")}


def test_every_manifest_of_a_network_is_here() -> None:
    with_layout = {file.stem for file in GOLDEN.glob("*.json") if "checkpoint" in json.loads(file.read_text())}
    assert with_layout == set(NETWORKS)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_every_golden_file_has_its_module(file: Path) -> None:
    assert (GOLDEN / f"test_{file.stem}.py").is_file()


def test_what_the_shipped_set_shows() -> None:
    """Two objects at sizes that are no multiple of 16 for every tracker, and XMem's memory over 40 frames."""
    for name in ("xmem", "stcn", "mivos", "qdmn"):
        texts = [case["inputs"]["frames"] + str(case["inputs"]) for case in manifest(name)["cases"] if case["kind"] == "sequence"]
        assert any("objects=2" in text and "h=131,w=173" in text for text in texts), name
    (long,) = [case for case in manifest("xmem")["cases"] if "long_usage" in case["outputs"]]
    assert "t=40" in long["inputs"]["frames"]
    assert len(long["outputs"]) > 20


# Published constants that no golden number reaches: the golden clips are too small, or their numbers are given by the manifest.


def test_constants_of_the_click_network() -> None:
    assert asdict(ZoomConfig()) == {
        "target": 400, "skip_clicks": 1, "expansion": 1.4, "min_crop": 200, "recompute_iou": 0.5, "threshold": 0.5,
    }  # fmt: skip
    assert asdict(BrsConfig()) == {
        "max_clicks": 8, "skip_clicks": 1, "threshold": 0.5, "regulariser": 1e-3, "bias_weight": 10.0, "radius": 1,
        "same_mask": 0.99, "history": 20, "gradient": 1e-8, "evaluations": 20, "iterations": 40,
    }  # fmt: skip
    assert RitmNet(H18S).maps_transform[3].scale.item() == pytest.approx(0.05)


def test_constants_of_the_memories() -> None:
    limits = asdict(Limits())
    assert limits == {"max_mid_term_frames": 10, "min_mid_term_frames": 5, "prototypes": 128, "max_long_term": 10000}
    readmem = ReadMemConfig()
    assert (readmem.slots, readmem.every, readmem.lower_bound, readmem.flexible, readmem.adjacent) == (20, 10, 0.5, False, True)
    assert (readmem.similarity, readmem.transition, readmem.affinity, readmem.lsb) == ("cosine", "column argmax", "W", "annotated")


def test_the_clamp_of_the_aggregation() -> None:
    """Odds never exceed those of 1 − 1e-7 (in single precision 1 − 2⁻²³)."""
    logits, prob = aggregate(torch.tensor([0.0, 1.0, 0.5]).view(1, 1, 3), 0)
    low, high = np.log(1e-7 / (1 - 1e-7)), np.log((1 - 2.0**-23) / 2.0**-23)
    np.testing.assert_allclose(logits[1, 0].numpy(), [low, high, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(logits[0, 0].numpy(), [high, low, 0], rtol=1e-4, atol=1e-6)
    assert prob.dtype == torch.float32


# Published rules that the golden clips do not reach.


def test_dilations_of_the_pyramid() -> None:
    """The golden maps are too small for the larger ones: QDMN's branches see exactly 6, 12 and 18 positions away."""
    pyramid = ASPP(4, 4)
    impulse = torch.zeros(1, 4, 41, 41)
    impulse[:, :, 20, 20] = 1
    for reach, branch in ((0, pyramid.aspp1), (6, pyramid.aspp2), (12, pyramid.aspp3), (18, pyramid.aspp4)):
        rows, columns = torch.nonzero(branch.atrous_conv(impulse)[0].abs().sum(0), as_tuple=True)
        assert set(rows.tolist()) == set(columns.tolist()) == {20 - reach, 20, 20 + reach}


def test_background_before_the_first_round() -> None:
    core = MiVOSCore(MiVOS(MiVOSConfig.small()).eval(), torch.zeros(3, 3, 33, 47), 2)
    assert torch.equal(core.clip.prob[0], torch.full((3, 48, 48), 1e-7))
    assert not core.clip.prob[1:].any()


def test_a_pass_ends_at_the_nearest_interacted_frame() -> None:
    """Interactions on frames 0, 2, 6 and 8, then on 4: frames 3 and 5 are fused, with 2 and 6 as the other ends."""

    class Listening(FusionNet):
        def forward(self, image: Any, old: Any, new: Any, attention: Any, distance: Any) -> torch.Tensor:
            heard.append(distance)
            return torch.logit(new.clamp(1e-6, 1 - 1e-6))

    heard: list[tuple[float, float]] = []
    torch.manual_seed(1)
    frames = torch.randn(9, 3, 32, 32)
    core = MiVOSCore(MiVOS(MiVOSConfig.small()).eval(), frames, 1, mem_freq=2, fusion=Listening())
    mask = torch.zeros(2, 32, 32)
    mask[1, 8:24, 8:24] = 1
    mask[0] = 1 - mask[1]
    for t in (0, 8, 2, 6):
        core.interact(mask, t)
    heard.clear()
    before = core.clip.prob.clone()
    core.interact(mask, 4)
    assert heard == [(0.5, 0.5), (0.5, 0.5)]
    for t in (0, 1, 2, 6, 7, 8):
        assert torch.equal(core.clip.prob[:, t], before[:, t]), t


def readmem_after(keys: torch.Tensor, **settings: Any) -> list[str]:
    """READMem's reasons for the frames after the first; ``keys [T, C_k]``, one position each."""
    memory = ReadMem(every=1, transition=None, **settings)
    reasons = []
    for t, key in enumerate(keys[:, None, :, None]):
        entry = Entry(t, key.unsqueeze(3), key, key.unsqueeze(3), (1,))
        if t:
            memory.read(Query(key[0].unsqueeze(2), key[0], None), (1,), None)
            reasons.append(memory.offer(entry, t).reason)
        else:
            memory.pin(entry, 0)
    return reasons


def test_readmem_at_equality() -> None:
    """A similarity of exactly the bound is refused; a frame that leaves the determinant as it is comes in."""
    assert readmem_after(torch.ones(2, 4), lower_bound=1.0) == ["lower bound"]
    assert readmem_after(torch.ones(2, 4), lower_bound=0.99999) == ["filled"]
    assert readmem_after(torch.eye(4), lower_bound=-1.0, slots=2) == ["filled", "replaced", "replaced"]


# The reader of manifests.


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_reader", GOLDEN / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_recipe", GOLDEN / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(reader: ModuleType, recipe: ModuleType, **outputs: Any) -> Any:
    """A manifest of three cases, one of which records ``outputs`` (arrays)."""
    entries = {
        name: {"key": f"b/{name}", "shape": list(a.shape), "stride": 1, "dtype": str(a.dtype)} for name, a in outputs.items()
    }
    cases = [
        {"name": "encode", "kind": "module", "inputs": {"frames": "video(seed=1,t=2,h=32,w=48)"}, "outputs": {}},
        {"name": "encode_more", "kind": "module", "inputs": {"frames": "video(2,3,48,32)"}, "outputs": {}},
        {"name": "b", "kind": "module", "inputs": {"frame": "frame 0 of encode"}, "outputs": entries},
    ]
    tolerance = {"atol": 1e-3, "rtol": 0.0, "mask_fraction": 0.1}
    numbers = {entry["key"]: recipe.subsample(outputs[name], 1) for name, entry in entries.items()}
    return reader.Golden("small", {"cases": cases, "tolerance": tolerance}, numbers, recipe)


def test_expressions_are_read_and_prose_is_not(reader: ModuleType, recipe: ModuleType) -> None:
    golden = small(reader, recipe)
    mask = recipe.mask(7, 33, 21, 3)
    for text in (
        "mask(7,33,21,3)",
        "mask(seed=7,h=33,w=21,objects=3) on frame 12",
        "mask(seed=7,h=33,w=21,objects=3), background = 1 - sum in front, given on frame 0",
        "mask(7,33,21,3) with channels [0] set to zero",
    ):
        np.testing.assert_array_equal(golden.value(text), mask)
    np.testing.assert_array_equal(golden.value("mask(7,33,21,3)[:1][None] and hidden[:, :1]"), mask[None, :1])
    np.testing.assert_array_equal(golden.value("1+tensor(5,(1,1,4),0.8)**2"), 1 + recipe.tensor(5, (1, 1, 4), 0.8) ** 2)
    np.testing.assert_array_equal(golden.value("normalise(image(3,32,48))[None]"), recipe.normalise(recipe.image(3, 32, 48))[None])
    assert golden.numbers_in("stack of image(501,96,128) and image(502,..)", "image") == [501, 96, 128]
    assert golden.numbers_in("x=tensor(seed=512,(540,),std=0.05)", "tensor") == [512, 540]
    for text in ("as in encode", "hidden[:, :1]", "__import__('os')"):
        with pytest.raises(ValueError, match="no expression"):
            golden.value(text)


def test_cases_are_found_by_name_or_by_being_alone(reader: ModuleType, recipe: ModuleType) -> None:
    golden = small(reader, recipe)
    assert golden.other("frame 1 of the encode case", "frames")["name"] == "encode"
    assert golden.other("frame 1 of encode_more with its own f16", "frames")["name"] == "encode_more"
    assert golden.other("value of another name", "frame")["name"] == "b"
    with pytest.raises(AssertionError, match=r"may mean \['encode', 'encode_more'\]"):
        golden.other("frame 1 of the encoder case", "frames")
    np.testing.assert_array_equal(golden.frame("frame 2 of encode_more"), recipe.video(2, 3, 48, 32)[2:])
    with pytest.raises(AssertionError, match="beyond the last frame"):
        golden.frame("frame 2 of encode")


def test_every_output_counts(reader: ModuleType, recipe: ModuleType) -> None:
    value, labels, count = np.linspace(0, 1, 20, dtype=np.float32), np.arange(20, dtype=np.uint8), np.arange(4, dtype=np.int32)
    golden = small(reader, recipe, value=value, labels=labels, count=count)
    case = golden.cases[2]
    golden.compare(case, {"value": torch.from_numpy(value + 9e-4), "labels": labels, "count": count, "unrecorded": value})
    wrong_labels, wrong_count = labels.copy(), count.copy()
    wrong_labels[:3], wrong_count[0] = 99, 9
    for name, wrong in (("value", value + 2e-3), ("labels", wrong_labels), ("count", wrong_count), ("value", value[1:])):
        with pytest.raises(AssertionError, match=f"b/{name}:"):
            golden.compare(case, {"value": value, "labels": labels, "count": count} | {name: wrong})
    with pytest.raises(AssertionError, match=r"no test computes \['labels'\]"):
        golden.compare(case, {"value": value, "count": count})
    with pytest.raises(AssertionError, match="records nothing"):
        golden.compare(golden.cases[0], {"value": value})
    golden.numbers["b/value"] = golden.numbers["b/value"][:1]
    with pytest.raises(AssertionError, match="holds"):
        golden.compare(case, {"value": value, "labels": labels, "count": count})


def test_layout_and_stray_arrays_are_noticed(reader: ModuleType, recipe: ModuleType) -> None:
    net, numbers = nn.Conv2d(3, 2, 1), SimpleNamespace(files=["a/y"])
    layout = {"weight": [2, 3, 1, 1], "bias": [2]}
    case = {"name": "a", "kind": "module", "inputs": {}, "outputs": {"y": {"key": "a/y"}}}

    def golden(**changes: Any) -> Any:
        return reader.Golden("small", {"checkpoint": layout, "parameter_count": 8, "cases": [case]} | changes, numbers, recipe)

    golden().check(net)
    golden().fill(net)
    assert torch.equal(net.weight, torch.from_numpy(recipe.weight("weight", (2, 3, 1, 1))))
    for changes in (
        {"checkpoint": dict(reversed(layout.items()))},
        {"checkpoint": layout | {"bias": [3]}},
        {"checkpoint": layout | {"more": [1]}},
        {"parameter_count": 7},
        {"cases": []},
    ):
        with pytest.raises(AssertionError):
            golden(**changes).check(net)
