"""Pictures of a session as bytes: what travels to the page, and what stays in a notebook without a kernel."""

from __future__ import annotations

import html
import io
from base64 import b64encode
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lazyvos.masks import overlay
from lazyvos.session import Session

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shrunk(plane: np.ndarray, longest: int, *, labels: bool = False) -> np.ndarray:
    """``plane [H, W(, 3)]`` with its longer side at most ``longest``; label maps keep their values."""
    height, width = plane.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return plane
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST if labels else cv2.INTER_AREA)


def jpeg(frame: np.ndarray, quality: int) -> bytes:
    """``uint8 [H, W, 3]`` RGB as JPEG."""
    return _encoded(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def png(plane: np.ndarray) -> bytes:
    """``uint8 [H, W]`` as grey PNG; the values arrive as they are."""
    return _encoded(".png", plane, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def heat(entropy: np.ndarray) -> np.ndarray:
    """An entropy map ``float [H, W]`` in [0, 1] as ``uint8 [H, W]``."""
    return (np.clip(np.nan_to_num(entropy), 0, 1) * 255).round().astype(np.uint8)


def _encoded(suffix: str, image: np.ndarray, settings: list[int]) -> bytes:
    good, data = cv2.imencode(suffix, image, settings)
    if not good:
        raise ValueError(f"an image of shape {image.shape} and {image.dtype} cannot be written as {suffix}")
    return bytes(data)


def caption(session: Session) -> str:
    """One line that says where a session stands."""
    of = "" if session.length is None else f" of {session.length}"
    scores = ", ".join(f"object {name} {session.prediction.scores[name]:.2f}" for name in session.objects
                       if name in session.prediction.scores)
    parts = [f"frame {session.t + 1}{of}", f"uncertainty: {scores}" if scores else "",
             f"clicks on this frame: {len(session.clicks)}" if session.clicks else "",
             *(f"asked about object {request.object}" for request in session.requests),
             "the clip has ended" if session.ended else ""]
    return " · ".join(part for part in parts if part)


def still(session: Session, *, opacity: float, entropy: bool, entropy_opacity: float = 1.0, width: int = 560) -> bytes:
    """The current frame with masks, clicks and its caption as a PNG of 256 colours."""
    seen, frame = session.prediction, session.frame
    if entropy:
        frame = cv2.addWeighted(frame, 1 - entropy_opacity, overlay(frame, entropy=seen.entropy), entropy_opacity, 0)
    drawn = overlay(frame, seen.labels, alpha=opacity * (0.35 if entropy else 1.0), clicks=session.clicks)
    drawn = shrunk(drawn, width)
    strip = 24
    sheet = Image.new("RGB", (drawn.shape[1], drawn.shape[0] + strip), "white")
    sheet.paste(Image.fromarray(drawn), (0, 0))
    font = ImageFont.load_default(13)
    ImageDraw.Draw(sheet).text((6, drawn.shape[0] + 4), caption(session), fill="black", font=font)
    memory = io.BytesIO()
    sheet.quantize(256).save(memory, format="PNG", optimize=True)
    return memory.getvalue()


def figure_png(figure: Figure, dpi: int = 80) -> bytes:
    """A matplotlib figure as a PNG, ``dpi`` points to the inch."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=dpi)
    return memory.getvalue()


def page(picture: bytes, words: str) -> str:
    """A figure as HTML that needs nothing else."""
    words = html.escape(words)
    return (f'<figure style="margin:0"><img alt="{words}" style="max-width:100%" '
            f'src="data:image/png;base64,{b64encode(picture).decode()}"><figcaption>{words}</figcaption></figure>')
