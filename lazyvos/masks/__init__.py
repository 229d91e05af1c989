"""Masks: label maps and one-hot stacks, palette PNG, COCO RLE, overlays, and writers for masks and video.

A label map is `uint8 [H,W]`: 0 is background, 1 to 254 are objects, 255 is "void" (not to be scored).
"""
from __future__ import annotations

from lazyvos.masks.atomic import atomic_path
from lazyvos.masks.labels import VOID, davis_palette, label_map, object_ids, one_hot, read_mask, write_mask
from lazyvos.masks.overlay import OVERLAY_COLORS, overlay
from lazyvos.masks.rle import rle_decode, rle_encode
from lazyvos.masks.writers import MaskWriter, VideoWriter

__all__ = [
    "OVERLAY_COLORS",
    "VOID",
    "MaskWriter",
    "VideoWriter",
    "atomic_path",
    "davis_palette",
    "label_map",
    "object_ids",
    "one_hot",
    "overlay",
    "read_mask",
    "rle_decode",
    "rle_encode",
    "write_mask",
]
