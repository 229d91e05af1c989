"""QDMN against numbers of the authors' network and inference (qdmn.json, qdmn.npz)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from lazyvos.backbones.qdmn import QDMN
from lazyvos.backbones.qdmn_core import QDMNCore
from lazyvos.memory.qdmn import QdmnBank


@pytest.fixture(scope="module", autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def golden(network: Callable[[str], Any]) -> Any:
    return network("qdmn")


@pytest.fixture(scope="module")
def net(golden: Any) -> QDMN:
    return golden.fill(QDMN())


def _previous(golden: Any, case: dict) -> tuple[int, torch.Tensor]:
    """The frame that a case's previous mask gates, and the mask ``[1, 1, H, W]``."""
    text = case["inputs"]["previous_mask"]
    found = re.search(r"frame (\d+)", text)
    assert found
    return int(found.group(1)), golden.tensor(text)


def _frame(golden: Any, text: str) -> tuple[dict, int, torch.Tensor]:
    """``"frame 1 of CASE"``: the case, the number, the image ``[1, 3, H, W]``."""
    found = re.search(r"frame (\d+) of (\w+)", text)
    assert found
    case, number = golden.case(found.group(2)), int(found.group(1))
    return case, number, golden.tensor(case["inputs"]["frames"])[number : number + 1]


def _masks(golden: Any, text: str) -> torch.Tensor:
    """Masks of a case, grouped: ``[1, n, H, W]``."""
    return golden.tensor(text).transpose(0, 1)


def test_parameter_count(golden: Any, net: QDMN) -> None:
    assert sum(p.numel() for p in net.parameters()) == golden.manifest["parameter_count"]


def test_query(golden: Any, net: QDMN) -> None:
    cases = golden.with_outputs("gate", "key", "value")
    assert cases
    for case in cases:
        frames = golden.tensor(case["inputs"]["frames"])
        at, previous = _previous(golden, case)
        features = net.rgb_encoder(frames)
        for name, feature in zip(("f16", "f8", "f4"), features, strict=True):
            golden.expect(case, name, feature)
        golden.expect(case, "gate", net.gate(features[0][at : at + 1], previous))
        key, gated = net.encode_query(frames[at : at + 1], previous)
        golden.expect(case, "f16_gated", gated.f16)
        golden.expect(case, "key", key)
        golden.expect(case, "value", gated.value)


def test_memory_key_value_and_quality(golden: Any, net: QDMN) -> None:
    cases = golden.with_outputs("key", "value", "score")
    assert cases
    for case in cases:
        _, _, image = _frame(golden, case["inputs"]["frame"])
        for suffix, given in (("", "masks"), ("_single", "single")):
            key, value, score = net.encode_memory(image, _masks(golden, case["inputs"][given]))
            outputs = {"key": key[0].unsqueeze(2), "value": value[0].unsqueeze(2), "score": score.T}
            for name, actual in outputs.items():
                if name + suffix in case["outputs"]:
                    golden.expect(case, name + suffix, actual)


def test_blocks(golden: Any, net: QDMN) -> None:
    cases = [case for case in golden.cases if set(case["inputs"]) == {"x"}]
    seen = set()
    for case in cases:
        (name,) = case["outputs"]
        seen.add(name)
        module = {"y": net.aspp, "score": net.score}[name]
        golden.expect(case, name, module(golden.tensor(case["inputs"]["x"])))
    assert seen == {"y", "score"}


def test_segment(golden: Any, net: QDMN) -> None:
    cases = golden.with_outputs("prob")
    assert cases
    for case in cases:
        source, at, image = _frame(golden, case["inputs"]["query"])
        gated, previous = _previous(golden, source)
        assert gated == at
        memory = golden.case(case["inputs"]["memory"])
        stored = _frame(golden, memory["inputs"]["frame"])[2][0]
        masks = _masks(golden, memory["inputs"]["masks"])[0]
        bank, objects = QdmnBank(), tuple(range(1, 1 + len(masks)))
        bank.pin(net.entry(0, stored, masks, objects), 0)
        query = net.encode(image[0], previous[0])
        logits, _ = net.decode(query, bank.read(query, objects, golden.manifest["hyper"]["top_k"]).value, None)
        golden.expect(case, "prob", torch.sigmoid(logits).unsqueeze(1))


def test_sequences(golden: Any, net: QDMN) -> None:
    cases = [case for case in golden.cases if case["kind"] == "sequence"]
    assert cases
    problems = []
    for case in cases:
        given = case["inputs"]
        frames, mask = golden.tensor(given["frames"]), golden.tensor(given["mask"])
        assert "frame 0" in given["mask"]
        core = QDMNCore(
            net, frames, len(mask), every=given["mem_freq"], threshold=given["memory_thr"], minimum=given["score_threshold"],
            top_k=given["top_k"],
        )  # fmt: skip
        outputs = {"masks": core.interact(mask)}
        outputs["scores"] = torch.stack(core.scores)
        outputs["memory_frames_seen"] = torch.tensor([len(frames) for frames in core.read])
        for t, prob in enumerate(core.unpadded(core.prob).unbind(1)):
            outputs[f"prob_{t:02d}"] = prob
        assert set(case["outputs"]) <= set(outputs), case["name"]
        for name in case["outputs"]:
            try:
                golden.expect(case, name, outputs[name])
            except AssertionError as error:
                problems.append(str(error).splitlines()[0])
    assert not problems, "\n".join(problems)
