"""Layout: a scene becomes a list of primitives on the 128 x 128 canvas.

Things have few sizes and stand on the latents' grid: their centres are multiples of `CELL` pixels.
So one shape of one size always makes the same pattern of latents. A small denoiser learns such
patterns exactly; outlines anywhere between the cells became blurred. For the same reason little is
random: a house or a face may stand a cell to the left or right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.scenes.scene import COLOURS, Group, Scene

if TYPE_CHECKING:
    import random

SIDE = 128
"""Width and height of a picture in pixels."""
CELL = 8
"""Pixels per latent, each way."""
RADII = {"small": 24, "": 32, "large": 48}
"""Half the side of a single thing in the middle in pixels, by its size word."""
RADIUS_PLACED = RADII["small"]
"""Half the side of things that are placed, one of several, or inside another."""
RADIUS_AROUND = 56
"""Half the side of a thing with another one inside."""
NEAR, FAR, MIDDLE = 32, 96, 64
PLACE_AT = {
    "left": (NEAR, MIDDLE), "right": (FAR, MIDDLE), "top": (MIDDLE, NEAR), "bottom": (MIDDLE, FAR),
    "centre": (MIDDLE, MIDDLE), "top left": (NEAR, NEAR), "top right": (FAR, NEAR),
    "bottom left": (NEAR, FAR), "bottom right": (FAR, FAR),
}  # fmt: skip
SPOTS = {
    2: ((NEAR, MIDDLE), (FAR, MIDDLE)),
    3: ((MIDDLE, NEAR), (NEAR, FAR), (FAR, FAR)),
    4: ((NEAR, NEAR), (FAR, NEAR), (NEAR, FAR), (FAR, FAR)),
}
"""Where several things stand: in a row, in a triangle, in a square."""
ENDS = {
    "left of": ("left", "right"), "right of": ("right", "left"),
    "above": ("top", "bottom"), "below": ("bottom", "top"), "": ("left", "right"),
}  # fmt: skip
"""Where the first and the second of two things stand; "and" puts them next to each other."""
BROWN, GRASS, SEA, SKY, DARK = (
    (120, 72, 30),
    (66, 176, 66),
    (40, 96, 206),
    (150, 214, 246),
    (26, 26, 26),
)
SUN = (254, 214, 40)


@dataclass(frozen=True, slots=True)
class Primitive:
    """A filled figure: its kind, centre, half width and half height in pixels, and colour."""

    kind: str
    x: float
    y: float
    half_width: float
    half_height: float
    rgb: tuple[int, int, int]


def place(scene: Scene, rng: random.Random) -> list[Primitive]:
    """Lay the scene out, back to front; what it leaves open is random."""
    if scene.motif:
        return _MOTIFS[scene.motif](scene, rng)
    if len(scene.groups) == 2:
        return _pair(scene)
    (group,) = scene.groups
    return _several(group) if group.count > 1 else [_single(group)]


def scatter(scene: Scene, rng: random.Random) -> list[Primitive]:
    """Lay groups out anywhere on the canvas and in any size, without contact."""
    things: list[Primitive] = []
    for group in (each for each in scene.groups for _ in range(each.count)):
        for _ in range(40):
            radius = rng.uniform(14, 40 if group.count == 1 else 28)
            spot = [rng.uniform(radius + 2, SIDE - radius - 2) for _ in range(2)]
            if all(_apart(spot, radius, other) for other in things):
                things.append(_thing(group, spot[0], spot[1], radius))
                break
    return things


def _apart(spot: list[float], radius: float, other: Primitive) -> bool:
    gap = max(abs(spot[0] - other.x), abs(spot[1] - other.y)) - radius - other.half_width
    return gap > 6


def _thing(group: Group, x: float, y: float, radius: float) -> Primitive:
    return Primitive(group.shape, x, y, radius, radius, COLOURS[group.colour])


def _single(group: Group) -> Primitive:
    if group.place:
        return _thing(group, *PLACE_AT[group.place], RADIUS_PLACED)
    return _thing(group, MIDDLE, MIDDLE, RADII[group.size])


def _about_middle(rng: random.Random) -> int:
    return MIDDLE + rng.choice((-CELL, 0, CELL))


def _several(group: Group) -> list[Primitive]:
    return [_thing(group, x, y, RADIUS_PLACED) for x, y in SPOTS[group.count]]


def _pair(scene: Scene) -> list[Primitive]:
    first, second = scene.groups
    if scene.relation == "inside":
        return [
            _thing(group, MIDDLE, MIDDLE, radius)
            for group, radius in ((second, RADIUS_AROUND), (first, RADIUS_PLACED))
        ]
    return [
        _thing(group, *PLACE_AT[place], RADIUS_PLACED)
        for group, place in zip(scene.groups, ENDS[scene.relation], strict=True)
    ]


def _sun(scene: Scene, x: float) -> list[Primitive]:
    return [Primitive("circle", x, 24, 14, 14, SUN)] if "sun" in scene.extras else []


def _tree_at(x: float, size: float) -> list[Primitive]:
    return [
        Primitive("box", x, 98 - size * 0.5, size * 0.22, size * 0.7, BROWN),
        Primitive("circle", x, 98 - size * 1.7, size, size, (30, 130, 50)),
    ]


def _house(scene: Scene, rng: random.Random) -> list[Primitive]:
    wall, roof = (COLOURS[colour] for colour in scene.motif_colours)
    x = 48 if "tree" in scene.extras else _about_middle(rng)
    parts = [
        Primitive("box", 64, 118, 80, 20, GRASS),
        *_sun(scene, 106),
        Primitive("box", x, 84, 28, 24, wall),
        Primitive("wedge", x, 44, 36, 17, roof),
        Primitive("box", x + 10, 93, 7, 15, DARK),
        Primitive("box", x - 12, 80, 7, 7, DARK),
    ]
    return parts + (_tree_at(104, 16) if "tree" in scene.extras else [])


def _tree(scene: Scene, rng: random.Random) -> list[Primitive]:
    x = rng.choice((48, 56, 64))
    return [Primitive("box", 64, 118, 80, 20, GRASS), *_sun(scene, 108), *_tree_at(x, 26)]


def _boat(scene: Scene, rng: random.Random) -> list[Primitive]:
    hull, sail = (COLOURS[colour] for colour in scene.motif_colours)
    x = rng.choice((56, 64))
    return [
        Primitive("box", 64, 118, 80, 30, SEA),
        *_sun(scene, 108),
        Primitive("box", x, 58, 2.5, 32, BROWN),
        Primitive("sail", x + 19, 52, 16, 24, sail),
        Primitive("hull", x, 90, 36, 11, hull),
    ]


def _face(scene: Scene, rng: random.Random) -> list[Primitive]:
    x, y = _about_middle(rng), MIDDLE
    mouth = "frown" if "sad" in scene.extras else "smile"
    return [
        Primitive("circle", x, y, 46, 46, COLOURS[scene.motif_colours[0]]),
        Primitive("circle", x - 16, y - 14, 7, 7, DARK),
        Primitive("circle", x + 16, y - 14, 7, 7, DARK),
        Primitive(mouth, x, y + 18, 24, 14, DARK),
    ]


_MOTIFS = {"house": _house, "tree": _tree, "boat": _boat, "face": _face}


def backdrop_rgb(scene: Scene) -> list[tuple[int, int, int]]:
    """The one or two colours behind the things."""
    if scene.motif and scene.motif != "face":
        return [SKY]
    return [COLOURS[colour] for colour in scene.backdrop.colours]
