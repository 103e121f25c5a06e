"""Computer vision for the judge: finds backdrop and things by colour, components and outline.

It shares only the palette with the renderer. Pixels are compared with the palette. Pixels that are
not backdrop are split into connected components, and each is matched with outlines that are drawn
here by other means.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.scenes.scene import COLOURS, Backdrop

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]

PALETTE: Pixels = np.array(list(COLOURS.values()), np.float32)
NAMES = list(COLOURS)
SIDE = 128
DIFFERS = 55.0
"""How far a pixel must be from the backdrop's colour to belong to a thing, in RGB units."""
LEAST_CORE_PX = 30
"""Things with fewer inner pixels are noise or the blurred edge of another."""
TEMPLATE = 48
"""Side of the grid on which outlines are compared."""
LEAST_MATCH = 0.72
"""Overlap (intersection over union) below which an outline matches no shape."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing found: its look, its centre and its side in pixels."""

    colour: str
    shape: str
    """A known shape, or empty."""
    x: float
    y: float
    side: float


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything found in one picture."""

    backdrop: Backdrop
    things: tuple[Thing, ...]


def look(picture: NDArray[np.uint8]) -> Sight:
    """Describe one picture (128, 128, 3)."""
    pixels = picture.astype(np.float32)
    nearest = np.square(pixels[:, :, None] - PALETTE).sum(-1).argmin(-1)
    backdrop, behind = _backdrop(pixels, nearest)
    stands_out = np.sqrt(np.square(pixels - behind).sum(-1)) > DIFFERS
    things = [
        thing
        for colour in range(len(NAMES))
        for part in components(stands_out & (nearest == colour))
        if (thing := _thing(part, stands_out, NAMES[colour])) is not None
    ]
    return Sight(backdrop, tuple(things))


def _bands() -> dict[str, Mask]:
    y, x = np.mgrid[:SIDE, :SIDE]
    return {
        "horizontal stripes": (y // 16) % 2 == 1,
        "vertical stripes": (x // 16) % 2 == 1,
        "checks": ((x // 32) + (y // 32)) % 2 == 1,
    }


def _commonest(colours: NDArray[np.intp]) -> int:
    return int(np.bincount(colours.ravel(), minlength=len(NAMES)).argmax())


def _backdrop(pixels: Pixels, nearest: NDArray[np.intp]) -> tuple[Backdrop, Pixels]:
    """Return the backdrop that explains most pixels, a plain one unless a pattern explains more."""
    rim = np.concatenate(
        [nearest[:4].ravel(), nearest[-4:].ravel(), nearest[:, :4].ravel(), nearest[:, -4:].ravel()]
    )
    plain = _commonest(rim)
    found = Backdrop("plain", (NAMES[plain],))
    behind = np.broadcast_to(PALETTE[plain], pixels.shape)
    most = _explained(pixels, behind) + 0.03
    for kind, odd in _bands().items():
        first, second = _commonest(nearest[~odd]), _commonest(nearest[odd])
        guess = np.where(odd[..., None], PALETTE[second], PALETTE[first])
        if first != second and (share := _explained(pixels, guess)) > most:
            found, behind, most = Backdrop(kind, (NAMES[first], NAMES[second])), guess, share
    first, second = _commonest(nearest[:6]), _commonest(nearest[-6:])
    down = ((np.arange(SIDE) + 0.5) / SIDE)[:, None, None].astype(np.float32)
    guess = np.broadcast_to(PALETTE[first] * (1 - down) + PALETTE[second] * down, pixels.shape)
    if first != second and _explained(pixels, guess) > most:
        return Backdrop("gradient", (NAMES[first], NAMES[second])), guess
    return found, behind


def _explained(pixels: Pixels, behind: Pixels) -> float:
    return float((np.sqrt(np.square(pixels - behind).sum(-1)) < 40).mean())


def components(mask: Mask) -> list[Mask]:
    """Return the connected components (by sides and corners) of a mask."""
    parts: list[Mask] = []
    left = mask.copy()
    while left.any():
        seed = np.zeros_like(mask)
        seed[np.unravel_index(left.argmax(), left.shape)] = True
        part = _flood(seed, left)
        parts.append(part)
        left &= ~part
    return parts


def _flood(seed: Mask, within: Mask) -> Mask:
    """Return everything in `within` that is connected to the seed."""
    part, size = seed & within, -1
    while (grown := int(part.sum())) != size:
        size = grown
        for _ in range(8):
            part = grow(part) & within
    return part


def grow(mask: Mask) -> Mask:
    """Return the mask and its eight-neighbours."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _thing(part: Mask, stands_out: Mask, colour: str) -> Thing | None:
    if int((~grow(~part)).sum()) < LEAST_CORE_PX:
        return None
    outside = _flood(
        np.pad(np.zeros_like(part), 1, constant_values=True), np.pad(~part, 1, constant_values=True)
    )
    holes = ~outside[1:-1, 1:-1] & ~part
    solid = part | (holes & _filled(holes, stands_out))
    ys, xs = np.nonzero(part)
    top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    side = max(bottom - top, right - left)
    x, y = (left + right) / 2, (top + bottom) / 2
    return Thing(colour, _shape(solid[top:bottom, left:right]), float(x), float(y), float(side))


def _filled(holes: Mask, stands_out: Mask) -> Mask:
    """Return holes that another thing covers, not those through which the backdrop shows."""
    filled = np.zeros_like(holes)
    for hole in components(holes):
        core = ~grow(~hole)
        if (stands_out[core].mean() if core.any() else 1.0) > 0.9:
            filled |= hole
    return filled


def _shape(mask: Mask) -> str:
    height, width = mask.shape
    if not 0.6 < width / height < 1.7:
        return ""
    scaled = np.asarray(Image.fromarray(mask).resize((TEMPLATE, TEMPLATE)))
    match = {
        name: float((scaled & outline).sum() / (scaled | outline).sum())
        for name, outline in outlines().items()
    }
    best = max(match, key=match.__getitem__)
    return best if match[best] >= LEAST_MATCH else ""


@functools.cache
def outlines() -> dict[str, Mask]:
    """Return each shape, filling its bounding box."""
    whole = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    third, rest = 0.34, 0.66
    cross = [
        (third, 0), (rest, 0), (rest, third), (1, third), (1, rest), (rest, rest),
        (rest, 1), (third, 1), (third, rest), (0, rest), (0, third), (third, third),
    ]  # fmt: skip
    points = [
        (r * math.sin(k * math.pi / 5), -r * math.cos(k * math.pi / 5))
        for k, r in enumerate((1.0, 0.44) * 5)
    ]
    curve = [
        (16 * math.sin(t) ** 3,
         -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
        for t in np.linspace(0, 2 * math.pi, 60)
    ]  # fmt: skip
    disc = [(math.sin(t), math.cos(t)) for t in np.linspace(0, 2 * math.pi, 60)]
    hole = [(x * 0.48, y * 0.48) for x, y in disc]
    return {
        "circle": _polygon(disc),
        "square": _polygon(whole),
        "triangle": _polygon([(0, 1), (0.5, 0), (1, 1)]),
        "diamond": _polygon([(0, 0.5), (0.5, 0), (1, 0.5), (0.5, 1)]),
        "star": _polygon(points),
        "heart": _polygon(curve),
        "ring": _polygon(disc) & ~_polygon([*hole], like=disc),
        "cross": _polygon(cross),
    }


def _polygon(
    points: list[tuple[float, float]], like: list[tuple[float, float]] | None = None
) -> Mask:
    """Return the polygon on the template grid, scaled so that `like` fills it."""
    xs, ys = zip(*(like or points), strict=True)
    left, top, width, height = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    fine = 4 * TEMPLATE
    canvas = Image.new("L", (fine, fine))
    ImageDraw.Draw(canvas).polygon(
        [((x - left) / width * (fine - 1), (y - top) / height * (fine - 1)) for x, y in points],
        fill=255,
    )
    return np.asarray(canvas.resize((TEMPLATE, TEMPLATE), Image.Resampling.BOX)) > 127
