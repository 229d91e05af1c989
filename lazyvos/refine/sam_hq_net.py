"""SAM-HQ (Ke et al., "Segment Anything in High Quality", 2023) from the package segment-anything-hq: build, encode, decode.

The package is optional: ``pip install "lazyvos[sam]"``.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazyvos.refine.torchvision_ops import import_torchvision
from lazyvos.types import InputError

MODELS = ("vit_tiny", "vit_b", "vit_l", "vit_h")
_NEEDED = ("segment_anything_hq", "timm", "torchvision")


def sam_hq_package() -> Any:
    """The module ``segment_anything_hq``.

    It uses two old module names of timm and registers its TinyViT there under names that timm has too. What timm says of
    either is silenced, and nothing else. (The second has an effect: ``timm.create_model("tiny_vit_...")`` gives SAM-HQ's
    class in this process.)

    Raises :class:`InputError` where it, timm or torchvision is missing.
    """
    try:
        import_torchvision()
        with warnings.catch_warnings():
            old, twice = r"Importing from timm\.models\.(layers|registry) is", r"Overwriting tiny_vit_\w+ in registry with segment_any"
            warnings.filterwarnings("ignore", old, FutureWarning)
            warnings.filterwarnings("ignore", twice, UserWarning)
            return importlib.import_module("segment_anything_hq")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise InputError(f'SAM-HQ needs {error.name}, which is not installed; run pip install "lazyvos[sam]"') from error


def build_sam_hq(model: str = "vit_tiny", weights: str | Path | None = None, *, seed: int | None = None) -> nn.Module:
    """A network of :data:`MODELS` in evaluation mode, on the CPU.

    Parameters
    ----------
    model: size of the image encoder; 10.6, 94.8, 313.7 or 642.7 million parameters in all.
    weights: a file in the layout of SAM-HQ's checkpoints (``.pth``, ``.safetensors``), or a name of the registry such as
        ``"sam-hq-vit-tiny"``, downloaded once; code in a file never runs.
    seed: random weights from this seed. With neither, they are random from seed 0 and a warning says so.

    Raises :class:`InputError` for an unknown model, weights that do not fit, or a missing package.
    """
    from lazyvos.hub import _fill, find_weights, read_weights  # the hub imports this folder

    if model not in MODELS:
        raise InputError(f"SAM-HQ model {model!r} is unknown; choose one of {', '.join(MODELS)}")
    if weights is not None and seed is not None:
        raise InputError(f"weights {weights} and seed {seed} exclude one another; give one of them")
    make = sam_hq_package().sam_model_registry[model]
    state = None if weights is None else read_weights(find_weights(weights, f"sam-hq:{model}"))
    if state is None and seed is None:
        warnings.warn(f"SAM-HQ {model} has random weights, its masks mean nothing; give weights=FILE", stacklevel=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        net: nn.Module = make()
    if state is not None:
        _fill(net, state, str(weights))
    return net.eval()  # only now: here TinyViT computes its tables of attention biases from the weights


@dataclass(frozen=True, eq=False)
class Embedding:
    """A frame as SAM-HQ keeps it: ``image float32 [1, C, g, g]`` and ``details float32 [1, C / 8, 4g, 4g]`` (HQ-features).

    24 MB for two frames, whatever the model (C = 256, g = 64).
    """

    image: Tensor
    details: Tensor


@dataclass(frozen=True, eq=False)
class Prompt:
    """What SAM-HQ is asked, in pixels of its square input.

    ``points float32 [N, 2]`` (x, y) with ``labels [N]`` (1 object, 0 not), ``box float32 [4]`` (left, top, right, bottom),
    ``mask float32 [4g, 4g]`` logits; each may be ``None``.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    box: Tensor | None = None
    mask: Tensor | None = None


class Answer(NamedTuple):
    """``logits float32 [4g, 4g]`` over the square input and the IoU that SAM-HQ itself expects of them."""

    logits: Tensor
    iou: float


class SamHqNet:
    """Encoder and decoder of a SAM-HQ network, apart, so that a frame is encoded once.

    Parameters
    ----------
    net: the package's network (``Sam`` with a ``MaskDecoderHQ``), in evaluation mode.
    dtype: autocast of encoder and decoder; ``None`` for fp32. Prompts are embedded in fp32 always.
    """

    def __init__(self, net: Any, dtype: torch.dtype | None = None) -> None:
        self.net, self.dtype = net, dtype
        self.device: torch.device = net.pixel_mean.device
        self.side: int = net.image_encoder.img_size
        self.mask_side: int = net.prompt_encoder.mask_input_size[0]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def encode(self, frame: np.ndarray) -> Embedding:
        """``uint8 [H, W, 3]`` RGB, made square without keeping its aspect ratio, to an embedding."""
        pixels = torch.from_numpy(np.require(frame, requirements=["C", "W"])).to(self.device)
        image = pixels.permute(2, 0, 1).unsqueeze(0).float()
        image = F.interpolate(image, (self.side, self.side), mode="bilinear", align_corners=False, antialias=True)
        decoder = self.net.mask_decoder
        with self._autocast():
            features, early = self.net.image_encoder(self.net.preprocess(image))
            details = decoder.embedding_encoder(features) + decoder.compress_vit_feat(early[0].permute(0, 3, 1, 2))
        return Embedding(features.float(), details.float())

    def decode(self, frame: Embedding, prompt: Prompt, *, several: bool = True, hq_token_only: bool = True) -> Answer:
        """The mask for a prompt.

        SAM's decoder has one token for a single mask and three for three masks; ``several`` takes the one of the three with
        the highest predicted IoU. The HQ token always has a single mask, with every encoder: with ``hq_token_only`` it is the
        answer, and ``several`` decides the predicted IoU alone; else its logits are added to those of the mask taken.
        """
        encoder = self.net.prompt_encoder
        points = None if prompt.points is None or prompt.labels is None else (prompt.points[None], prompt.labels[None])
        sparse, dense = encoder(
            points=points,
            boxes=None if prompt.box is None else prompt.box[None],
            masks=None if prompt.mask is None else prompt.mask[None, None],
        )
        with self._autocast():
            masks, ious = self.net.mask_decoder.predict_masks(
                image_embeddings=frame.image, image_pe=encoder.get_dense_pe(), sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense, hq_features=frame.details,
            )  # fmt: skip
        masks, ious = masks[0].float(), ious[0].float()
        taken = 1 + int(ious[1:].argmax()) if several else 0
        logits = masks[-1] if hq_token_only else masks[taken] + masks[-1]
        return Answer(logits, float(ious[taken]))
