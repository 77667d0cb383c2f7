"""Product photos drawn by code: a silhouette with a motif on it, in front of a background, under changing light.

Users react to the style: the hue of the motif, and how dark the fabric is. Everything else (motif, colour of the
fabric, background, light, place, size, tilt, noise) changes more pixels, so an encoder has to learn what matters.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

MOTIFS = ("stripes", "bars", "dots", "checks", "zigzag", "rings")
HUES = 8  # Regions of the colour circle that motifs take their colour from.
COLOURS = ("orange", "lime", "green", "mint", "sky", "blue", "violet", "pink")  # The same regions, of the fabric.
TONES = {"dark": (0.15, 0.35), "middle": (0.45, 0.65), "light": (0.8, 0.98)}  # Lightness of the fabric.
STYLES = HUES * len(TONES)

SILHOUETTES: dict[str, list[tuple[float, float]]] = {
    "tee": [(-.4, -.4), (-.15, -.45), (.15, -.45), (.4, -.4), (.55, -.1), (.35, 0), (.3, -.15), (.3, .5), (-.3, .5),
            (-.3, -.15), (-.35, 0), (-.55, -.1)],
    "dress": [(-.18, -.55), (.18, -.55), (.22, -.1), (.48, .55), (-.48, .55), (-.22, -.1)],
    "trousers": [(-.3, -.55), (.3, -.55), (.4, .55), (.12, .55), (0, -.15), (-.12, .55), (-.4, .55)],
    "skirt": [(-.25, -.4), (.25, -.4), (.55, .45), (-.55, .45)],
    "bag": [(-.45, -.1), (-.2, -.1), (-.15, -.5), (.15, -.5), (.2, -.1), (.45, -.1), (.5, .5), (-.5, .5)],
    "shorts": [(-.4, -.35), (.4, -.35), (.5, .35), (.1, .35), (0, 0), (-.1, .35), (-.5, .35)],
    "scarf": [(-.15, -.55), (.15, -.55), (.2, .2), (.35, .5), (.05, .55), (0, .25), (-.05, .55), (-.35, .5), (-.2, .2)],
    "cap": [(-.45, .1), (-.4, -.25), (-.15, -.42), (.15, -.42), (.38, -.25), (.42, .02), (.6, .2), (.5, .28),
            (-.42, .25)],
}  # fmt: skip

DEPARTMENTS = {
    "tee": "tops", "dress": "tops", "trousers": "bottoms", "skirt": "bottoms", "shorts": "bottoms",
    "bag": "accessories", "scarf": "accessories", "cap": "accessories",
}  # fmt: skip


class Photo(NamedTuple):
    """What one photo shows. The style is `tone * HUES + hue`; the fabric's colour is not part of it."""

    silhouette: str
    colour: int
    hue: int
    tone: str


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """HSV in [0, 1] to [3] RGB in [0, 1]."""
    channel = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return value - value * saturation * np.clip(np.minimum(channel, 4 - channel), 0, 1)


def _motif(kind: str, x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
    """[S, S] bool: where the motif covers the fabric."""
    u, v = x / period, y / period
    if kind == "stripes":
        return v % 1 < 0.45
    if kind == "bars":
        return u % 1 < 0.45
    if kind == "dots":
        return (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.13
    if kind == "checks":
        return (np.floor(u * 1.3) + np.floor(v * 1.3)) % 2 < 1
    if kind == "zigzag":
        return (v + np.abs(u % 1 - 0.5)) % 1 < 0.45
    return np.hypot(u, v) % 1 < 0.45  # rings


def draw(photo: Photo, size: int, rng: np.random.Generator) -> Image.Image:
    """Draws a photo of size x size pixels. What `photo` does not specify is drawn from `rng`."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    tilt, scale = rng.normal(0, 0.12), rng.uniform(0.75, 1.0)
    shift = rng.uniform(-0.08, 0.08, 2)
    corners = np.array(SILHOUETTES[photo.silhouette]) * scale * 0.85
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    corners = (corners @ turn.T + shift + 0.5) * size * 4
    stencil = Image.new("L", (size * 4, size * 4))  # Drawn large and shrunk: smooth edges.
    ImageDraw.Draw(stencil).polygon([tuple(corner) for corner in corners], fill=255)
    mask = np.asarray(stencil.resize((size, size), Image.Resampling.BOX), float)[..., None] / 255

    background = _colour(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.5, 1.0))
    gradient = 1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.25, 0.25) * y
    fabric_hue = (photo.colour + rng.uniform(0.15, 0.85)) / HUES
    fabric = _colour(fabric_hue, rng.uniform(0.3, 0.6), rng.uniform(*TONES[photo.tone]))
    motif_hue = (photo.hue + rng.uniform(0.15, 0.85)) / HUES
    motif_colour = _colour(motif_hue, rng.uniform(0.65, 1.0), rng.uniform(0.5, 1.0))
    turned_x = np.cos(tilt) * x + np.sin(tilt) * y + rng.random()
    turned_y = -np.sin(tilt) * x + np.cos(tilt) * y + rng.random()
    covered = _motif(rng.choice(MOTIFS), turned_x, turned_y, rng.uniform(0.12, 0.22))[..., None]
    garment = np.where(covered, motif_colour, fabric)
    light = rng.uniform(0.75, 1.15)
    pixels = (mask * garment + (1 - mask) * background * gradient[..., None]) * light
    pixels = pixels + rng.normal(0, 0.03, pixels.shape)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
