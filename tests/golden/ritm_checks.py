"""How the cases of a RITM manifest are computed; test_ritm.py and test_ritm_h18s.py share it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from lazyvos.refine.brs import BrsConfig
from lazyvos.refine.ritm import RitmConfig, RitmNet
from lazyvos.refine.ritm_predictor import RitmPredictor
from lazyvos.refine.zoom import ZoomConfig, ZoomIn
from lazyvos.types import Click


def build(golden: Any) -> RitmNet:
    """The network that the manifest describes, filled from the recipe."""
    hyper = golden.manifest["hyper"]
    net = RitmNet(RitmConfig(hyper["width"], hyper["ocr_width"], hyper["small"], hyper["norm_radius"]))
    assert sum(p.numel() for p in net.parameters()) == golden.manifest["parameter_count"]
    return golden.fill(net)


def kind(case: dict[str, Any]) -> str:
    """Which of the functions below computes the case."""
    if "points" in case["inputs"]:
        return "forward"
    return "zoom" if "inverse_input" in case["inputs"] else "predictor"


def expect_all(golden: Any, net: RitmNet, which: str) -> None:
    """Compute every case of one kind and compare every one of its outputs."""
    cases = [c for c in golden.cases if kind(c) == which]
    assert cases
    for case in cases:
        actual = {"forward": forward, "zoom": zoom, "predictor": predictor}[which](golden, net, case)
        for name in case["outputs"]:
            golden.expect(case, name, actual[name])


@torch.inference_mode()
def forward(golden: Any, net: RitmNet, case: dict[str, Any]) -> dict[str, Any]:
    """Whole network on a batch, and its parts."""
    inputs = case["inputs"]
    points = torch.tensor(inputs["points"], dtype=torch.float32)
    _, height, width = golden.numbers_in(inputs["image"], "image")
    seeds = [int(seed) for seed in re.findall(r"\bimage\((\d+)", inputs["image"])]
    assert len(seeds) == len(points)
    rgb = torch.from_numpy(np.stack([golden.recipe.image(seed, height, width) for seed in seeds]))
    mask = torch.zeros(len(seeds), 1, height, width)
    mask[0] = golden.tensor(inputs["previous_mask"])
    image = torch.cat([rgb, mask], 1)
    maps = net.click_maps(points, (height, width))
    features = net.features(image, points)
    quarter, auxiliary = net.heads(features)
    whole = net(image, points)
    return {
        "coord_features": maps.to(torch.uint8), "click_branch": net.click_branch(mask, maps), "hrnet_features": features,
        "logit_quarter": quarter, "aux_quarter": auxiliary, **whole._asdict(),
    }  # fmt: skip


def zoom(golden: Any, net: RitmNet, case: dict[str, Any]) -> dict[str, Any]:
    """Zoom-in there and back."""
    inputs = case["inputs"]
    seed, height, width = golden.numbers_in(inputs["image_and_mask"], "image")
    rgb = golden.recipe.image(seed, height, width)
    mask = golden.recipe.soft_mask(
        golden.numbers_in(inputs["image_and_mask"], "soft_mask")[0], height, width, 1
    )
    transform = ZoomIn(ZoomConfig())
    transform.previous = golden.tensor(inputs["previous_probabilities"])
    crop, moved = transform.transform(torch.from_numpy(np.concatenate([rgb, mask])[None]), clicks(case))
    seed = golden.numbers_in(inputs["inverse_input"], "soft_mask")[0]
    prob = torch.from_numpy(golden.recipe.soft_mask(seed, *crop.shape[-2:], 1)[None])
    return {
        "roi": np.array(transform.active), "crop": crop, "clicks": np.array([(c.y, c.x) for c in moved]),
        "inverse": transform.inverse(prob),
    }  # fmt: skip


def clicks(case: dict[str, Any]) -> list[Click]:
    """The case's clicks."""
    return [Click(c["col"], c["row"], positive=c["positive"]) for c in case["inputs"]["clicks"]]


def settings(case: dict[str, Any]) -> dict[str, bool]:
    """What the predictor of a case does beside running the network."""
    text = case["inputs"].get("settings", "")
    return {"zoom": "no zoom" not in text, "flip": "no flip" not in text, "brs": "f-BRS" in text}


def predictor(golden: Any, net: RitmNet, case: dict[str, Any]) -> dict[str, Any]:
    """Click after click; with f-BRS-B also the objective at the state that the description names."""
    seed, height, width = golden.numbers_in(case["inputs"]["image"], "image")
    frame = np.round(255 * golden.recipe.image(seed, height, width)).astype(np.uint8).transpose(1, 2, 0)
    does = settings(case)
    threshold = re.search(r"prob_thresh ([\d.]+)", case["inputs"]["settings"])
    brs = BrsConfig(threshold=float(threshold.group(1)) if threshold else 0.5) if does["brs"] else None
    own = RitmPredictor(net, zoom=ZoomConfig() if does["zoom"] else None, flip=does["flip"], brs=brs)
    own.start(frame)
    state = re.search(r"state of click (\d+)", case["description"])
    found: dict[str, Any] = {}
    boxes = []
    for i, click in enumerate(clicks(case)):
        if state is not None and i == int(state.group(1)) - 1:
            found |= objective(golden, case, own, click)
        prob = own.add(click)
        found[f"prob_click_{i}"] = prob
        found[f"mask_click_{i}"] = (prob > 0.5).to(torch.uint8)
        boxes.append((-1,) * 4 if own.zoom is None or own.zoom.active is None else own.zoom.active)
    found["zoom_roi_rmin_rmax_cmin_cmax"] = np.array(boxes)
    return found


def objective(golden: Any, case: dict[str, Any], own: RitmPredictor, click: Click) -> dict[str, Any]:
    """Value and gradient of f-BRS-B's objective at zero and at the random point of the description."""
    seed, length = golden.numbers_in(case["description"], "tensor")
    spread = re.search(r"std=([\d.]*\d)", case["description"])
    assert spread is not None
    problem = own.problem(click)
    assert problem.variables == length
    found: dict[str, Any] = {}
    for i, x in enumerate((np.zeros(length), golden.recipe.tensor(seed, (length,), float(spread.group(1))))):
        value, gradient, _ = problem.evaluate(x)
        found |= {f"objective_x{i}_value": np.array([value]), f"objective_x{i}_gradient": gradient}
    return found
