"""Cut-outs, textures and backdrops made from the photographs that scikit-image carries in its wheel.

Only pictures in the public domain or under CC0 are used; `data/samples/README.md` names them. Nothing is fetched.
"""
from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

PHOTOS = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "horse", "hubble_deep_field",
          "immunohistochemistry", "retina", "rocket")
"""Names of the photographs used, as in `skimage.data`."""

TEXTURES = {  # photograph: rows and columns of a part that has one look
    "chelsea": (0, 85, 60, 340), "coffee": (230, 400, 440, 600), "immunohistochemistry": (0, 512, 0, 512),
    "astronaut": (260, 400, 60, 230), "retina": (350, 1050, 300, 1150), "rocket": (0, 427, 0, 640),
    "gravel": (0, 512, 0, 512), "brick": (0, 512, 0, 512), "grass": (0, 512, 0, 512),
    "hubble_deep_field": (100, 700, 100, 900),
}
"""Parts of photographs that can cover a shape."""

CUTOUTS = ("horse", "cat", "cup", "astronaut", "blob")
"""Kinds of things that `cutout` makes."""


@lru_cache(maxsize=16)
def photo(name: str) -> np.ndarray:
    """A photograph of scikit-image, `uint8 [H,W,3]` RGB, read-only; `horse` is a silhouette (0 is the horse)."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError("drawing clips needs scikit-image; install it with: pip install scikit-image") from error
    image = getattr(data, name)()
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])
    image.setflags(write=False)
    return image


def tiled(image: np.ndarray, height: int, width: int, origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Fill `height` x `width` with an image, mirrored at its borders so that no seam shows; starts at `origin`."""
    rows = _mirrored(np.arange(origin[0], origin[0] + height), image.shape[0])
    columns = _mirrored(np.arange(origin[1], origin[1] + width), image.shape[1])
    return image[rows[:, None], columns]


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    places = places % (2 * length)
    return np.where(places < length, places, 2 * length - 1 - places)


def tinted(image: np.ndarray, color: tuple[float, float, float], gamma: float = 1.0) -> np.ndarray:
    """Multiply an image by an RGB colour (1 leaves it) after `gamma` (under 1 brightens), `uint8`."""
    table = np.clip(255 * (np.arange(256) / 255)[:, None] ** gamma * np.array(color), 0, 255).astype(np.uint8)
    return np.stack([table[image[..., c], c] for c in range(3)], axis=-1)


def hue_turned(image: np.ndarray, degrees: float, light: float = 1.0) -> np.ndarray:
    """Turn the hue of an RGB (or premultiplied RGBA) image and scale its brightness."""
    hsv = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = ((hsv[..., 0].astype(int) + round(degrees / 2)) % 180).astype(np.uint8)
    hsv[..., 2] = np.clip(hsv[..., 2] * light, 0, 255).astype(np.uint8)
    turned = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if image.shape[2] == 3:
        return turned
    return np.concatenate([np.minimum(turned, image[..., 3:]), image[..., 3:]], axis=-1)


def sprite(shape: np.ndarray, picture: np.ndarray, height: int, shade: float = 0.0) -> np.ndarray:
    """Cut `picture` `uint8 [h,w,3]` out along `shape` `bool [h,w]` and scale it to `height` rows.

    `shade` (0 to 1) darkens the picture towards the outline, as if the thing were round. Returns `uint8 [h,w,4]`,
    premultiplied, with a soft edge of about one pixel and a clear margin of three.
    """
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    part = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    flat = np.pad(shape[part].astype(np.uint8), 1)
    light = np.ones(flat.shape, np.float32)
    if shade:
        depth = cv2.distanceTransform(flat, cv2.DIST_L2, 5)
        light[:] = 1 - shade + shade * 1.15 * np.sqrt(np.clip(depth / (0.15 * min(flat.shape)), 0, 1))
    color = np.pad(picture[part], ((1, 1), (1, 1), (0, 0)), mode="edge") * light[..., None]
    scale = height / flat.shape[0]
    size = (max(8, round(flat.shape[1] * scale)), height)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    alpha = cv2.GaussianBlur(cv2.resize(flat.astype(np.float32), size, interpolation=way), (0, 0), 0.6)[..., None]
    scaled = cv2.resize(np.clip(color, 0, 255).astype(np.float32), size, interpolation=way)
    out = np.concatenate([scaled * alpha, 255 * alpha], axis=-1)
    return np.pad(np.clip(out + 0.5, 0, 255).astype(np.uint8), ((3, 3), (3, 3), (0, 0)))


def blob(rng: np.random.Generator, roughness: float = 0.24, size: int = 256) -> np.ndarray:
    """A smooth random outline, `bool [size,size]`: a circle with five random harmonics."""
    turn = np.linspace(0, 2 * np.pi, 181)[:-1]
    order = np.arange(2, 7)
    wave = rng.normal(0, roughness / order ** 0.8) * np.cos(np.outer(turn, order) + rng.uniform(0, 2 * np.pi, 5))
    radius = np.clip(1 + wave.sum(1), 0.35, None)
    stretch = rng.uniform(0.7, 1.4)
    points = np.stack([radius * np.cos(turn) * stretch, radius * np.sin(turn)], axis=1)
    points = points / np.abs(points).max() * (size / 2 - 2) + size / 2
    return _polygon(points, (size, size))


def _polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(size, np.uint8)
    cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 1)
    return canvas > 0


_CAT = [(40, 60), (60, 12), (100, 2), (320, 2), (345, 60), (355, 110), (345, 160), (312, 200), (295, 250), (250, 285),
        (180, 270), (120, 240), (70, 190), (45, 140)]
_ASTRONAUT = [(156, 62), (188, 27), (230, 16), (270, 27), (295, 55), (301, 92), (286, 126), (265, 150), (290, 185),
              (304, 215), (308, 236), (332, 252), (346, 280), (354, 320), (360, 348), (400, 344), (450, 362),
              (485, 410), (500, 460), (500, 511), (24, 511), (22, 450), (26, 380), (32, 320), (50, 270), (75, 240),
              (110, 206), (114, 188), (132, 162), (168, 148), (180, 128), (160, 104)]


def cutout(kind: str, height: int, rng: np.random.Generator, texture: str | None = None) -> np.ndarray:
    """Make a thing of one of `CUTOUTS`, `height` rows tall: `uint8 [h,w,4]`, premultiplied RGBA.

    `texture` is one of `TEXTURES` for a horse or a blob (default: fur for horses, any for blobs).
    """
    if kind in ("horse", "blob"):
        shape = photo("horse")[..., 0] == 0 if kind == "horse" else blob(rng)
        name = texture or ("chelsea" if kind == "horse" else str(rng.choice(list(TEXTURES))))
        return sprite(shape, covering(name, shape.shape, rng), height, shade=0.5)
    if kind == "cat":
        points = np.array(_CAT, np.float32)
        shape = cv2.GaussianBlur(_polygon(points, (300, 451)).astype(np.float32), (0, 0), 12) > 0.5
        return sprite(shape, photo("chelsea"), height)
    if kind == "astronaut":
        return sprite(_polygon(np.array(_ASTRONAUT), (512, 512)), photo("astronaut"), height)
    if kind == "cup":
        canvas = np.zeros((400, 600), np.uint8)
        cv2.ellipse(canvas, (278, 223), (201, 165), 0, 0, 360, 1, -1)
        cv2.ellipse(canvas, (291, 112), (118, 95), 0, 0, 360, 1, -1)
        return sprite(canvas > 0, photo("coffee"), height)
    raise ValueError(f"{kind!r} is no cut-out; there are {', '.join(CUTOUTS)}")


def covering(name: str, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A texture of `TEXTURES` that fills `size`; grey photographs get a random tint."""
    top, bottom, left, right = TEXTURES[name]
    part = photo(name)[top:bottom, left:right]
    if part.shape[0] > 400:
        part = cv2.resize(part, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    if name in ("brick", "gravel", "grass"):
        hue = rng.uniform(0, 1)
        part = tinted(part, tuple(0.8 + 0.35 * np.cos(2 * np.pi * (hue + np.arange(3) / 3))), 0.9)
    origin = (0, 0) if name == "chelsea" else (int(rng.integers(part.shape[0])), int(rng.integers(part.shape[1])))
    return tiled(part, int(size[0]), int(size[1]), origin)


def ground(width: int, depth: int, name: str, color: tuple[float, float, float]) -> np.ndarray:
    """A plain that runs to the horizon, covered with a tinted photograph: `uint8 [depth,width,3]`."""
    fine = 3  # drawn larger and averaged, or the far grass would flicker
    down = (np.arange(depth * fine, dtype=np.float32) + 0.5) / (depth * fine)
    far = 1 / (0.12 + 0.88 * down)  # how many texture pixels one frame pixel takes
    x = (np.arange(width * fine, dtype=np.float32) - width * fine / 2)[None] * (0.6 / fine * far)[:, None] + 5390
    y = np.repeat((np.cumsum(far)[::-1] * (1.4 / fine))[:, None], width * fine, axis=1)
    picture = tinted(photo(name), color).astype(np.float32)
    texture = (0.6 * picture + 0.4 * picture.mean((0, 1))).astype(np.uint8)
    drawn = cv2.remap(tiled(texture, 1026, 1026), x % 1024, y.astype(np.float32) % 1024, cv2.INTER_LINEAR)
    return cv2.resize(drawn, (width, depth), interpolation=cv2.INTER_AREA)


def landscape(width: int, height: int, horizon: int, color: tuple[float, float, float] = (0.72, 0.82, 0.45),
              sky: float = 0.55, name: str = "grass") -> np.ndarray:
    """An evening sky with pylons (gamma `sky`) over a plain: `uint8 [height,width,3]`."""
    far = tinted(photo("rocket")[:405], (1.0, 0.97, 0.95), sky)
    whole = cv2.resize(far, (width, round(width * far.shape[0] / far.shape[1])), interpolation=cv2.INTER_CUBIC)
    if whole.shape[0] < horizon:
        whole = cv2.resize(far, (width, horizon))
    plain = ground(width, height - horizon, name, color)
    haze = np.linspace(0.55, 0, height - horizon)[:, None, None] ** 1.5
    mist = whole[-20:].mean((0, 1))
    return np.concatenate([whole[whole.shape[0] - horizon:], (plain * (1 - haze) + mist * haze).astype(np.uint8)])


def backdrop(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A random place, `uint8 [height,width,3]`: a plain under the sky, or a photograph that fills the view."""
    kind = str(rng.choice(["plain", "plain", "plain", "rocket", "coffee", "wood", "brick", "gravel",
                           "immunohistochemistry"]))
    color = (rng.uniform(0.55, 1.0), rng.uniform(0.55, 0.95), rng.uniform(0.4, 0.8))
    if kind == "plain":
        return landscape(width, height, round(height * rng.uniform(0.3, 0.5)), color, rng.uniform(0.45, 0.8),
                         str(rng.choice(["grass", "gravel"])))
    image = photo("coffee")[230:400, 440:600] if kind == "wood" else photo(kind)
    if kind in ("brick", "gravel", "rocket"):
        image = tinted(image, color if kind != "rocket" else (1.0, 1.0, 1.0), rng.uniform(0.6, 0.9))
    scale = max(height / image.shape[0], 0.5 * width / image.shape[1])
    size = (round(scale * image.shape[1]) + 1, round(scale * image.shape[0]) + 1)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return tiled(image, height, width, (0, int(rng.integers(2 * image.shape[1]))))
