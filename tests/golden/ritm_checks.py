"""How the cases of a RITM manifest are computed; test_ritm.py and test_ritm_h18s.py share it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from lazyvos.refine.brs import BrsConfig
from lazyvos.refine.ritm import RitmConfig, RitmNet
from lazyvos.refine.ritm_predictor import RitmPredictor
from lazyvos.refine.zoom import ZoomConfig, ZoomIn
from lazyvos.types import Click

Case = dict[str, Any]


def build(golden: Any) -> RitmNet:
    """The network that the manifest describes, filled from the recipe."""
    hyper = golden.manifest["hyper"]
    switches = ("with_aux_output", "use_leaky_relu", "use_disks", "with_prev_mask", "use_rgb_conv")
    assert [hyper[name] for name in switches] == [True, True, True, True, False], "another variant of the network"
    return golden.fill(RitmNet(RitmConfig(hyper["width"], hyper["ocr_width"], hyper["small"], hyper["norm_radius"])))


def compare(golden: Any, net: RitmNet, case: Case) -> None:
    """Compute a case, by its inputs, and compare every one of its outputs."""
    inputs = set(case["inputs"])
    if case["kind"] == "module" and {"image", "points"} <= inputs:
        got = forward(golden, net, case)
    elif case["kind"] == "module" and {"inverse_input", "clicks"} <= inputs:
        got = zoom(golden, case)
    elif case["kind"] == "sequence" and {"image", "clicks", "settings"} <= inputs:
        got = predictor(golden, net, case)
    else:
        pytest.fail(f"no test knows case {case['name']} of kind {case['kind']!r} with the inputs {sorted(inputs)}")
    golden.compare(case, got)


@torch.inference_mode()
def forward(golden: Any, net: RitmNet, case: Case) -> dict[str, Any]:
    """Whole network on a batch, and its parts."""
    inputs = case["inputs"]
    points = torch.tensor(inputs["points"], dtype=torch.float32)
    _, height, width = golden.numbers_in(inputs["image"], "image")
    seeds = [int(seed) for seed in re.findall(r"\bimage\((?:seed=)?(\d+)", inputs["image"])]
    assert len(seeds) == len(points), inputs["image"]
    rgb = torch.from_numpy(np.stack([golden.recipe.image(seed, height, width) for seed in seeds])).to(golden.device)
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


@torch.inference_mode()
def zoom(golden: Any, case: Case) -> dict[str, Any]:
    """Zoom-in there and back."""
    inputs = case["inputs"]
    seed, height, width = golden.numbers_in(inputs["image_and_mask"], "image")
    rgb = golden.recipe.image(seed, height, width)
    mask = golden.recipe.soft_mask(golden.numbers_in(inputs["image_and_mask"], "soft_mask")[0], height, width, 1)
    transform = ZoomIn(ZoomConfig())
    transform.previous = golden.tensor(inputs["previous_probabilities"])
    crop, moved = transform.transform(torch.from_numpy(np.concatenate([rgb, mask])[None]).to(golden.device), clicks(case))
    seed = golden.numbers_in(inputs["inverse_input"], "soft_mask")[0]
    prob = torch.from_numpy(golden.recipe.soft_mask(seed, *crop.shape[-2:], 1)[None]).to(golden.device)
    return {
        "roi": roi(transform), "crop": crop, "clicks": np.array([(c.y, c.x) for c in moved]), "inverse": transform.inverse(prob),
    }  # fmt: skip


def roi(transform: ZoomIn | None) -> np.ndarray:
    """Rows and columns of the crop, −1 where the zoom-in is off or not active."""
    return np.array((-1,) * 4 if transform is None or transform.active is None else transform.active)


def clicks(case: Case) -> list[Click]:
    """The case's clicks."""
    return [Click(c["col"], c["row"], positive=c["positive"]) for c in case["inputs"]["clicks"]]


def predictor(golden: Any, net: RitmNet, case: Case) -> dict[str, Any]:
    """Click after click; with f-BRS-B also the objective at the state that the description names."""
    seed, height, width = golden.numbers_in(case["inputs"]["image"], "image")
    frame = np.round(255 * golden.recipe.image(seed, height, width)).astype(np.uint8).transpose(1, 2, 0)
    text = case["inputs"]["settings"]
    threshold = re.search(r"prob_thresh (\d+(?:\.\d+)?)", text)
    limit = float(threshold.group(1)) if threshold else 0.5
    own = RitmPredictor(
        net,
        zoom=None if "no zoom" in text else ZoomConfig(threshold=limit),
        flip="no flip" not in text,
        brs=BrsConfig(threshold=limit) if "f-BRS" in text else None,
    )
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
        boxes.append(roi(own.zoom))
    found["zoom_roi_rmin_rmax_cmin_cmax"] = np.array(boxes)
    return found


def objective(golden: Any, case: Case, own: RitmPredictor, click: Click) -> dict[str, Any]:
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
