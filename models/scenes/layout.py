"""Where things go: a scene becomes a list of primitives on the 128 x 128 canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.scenes.scene import COLOURS, Group, Scene

if TYPE_CHECKING:
    import random

SIDE = 128
"""Width and height of a picture in pixels."""
RADII = {"small": (18.0, 20.0), "": (29.0, 33.0), "large": (44.0, 48.0)}
"""Half the side of a single thing in pixels, by its size word."""
RADIUS_PLACED, RADIUS_COUNTED, RADIUS_PAIRED = (24.0, 27.0), (22.0, 24.0), (23.0, 26.0)
NEAR, FAR, MIDDLE = 34, 94, 64
PLACE_AT = {
    "left": (NEAR, MIDDLE), "right": (FAR, MIDDLE), "top": (MIDDLE, NEAR), "bottom": (MIDDLE, FAR),
    "centre": (MIDDLE, MIDDLE), "top left": (NEAR, NEAR), "top right": (FAR, NEAR),
    "bottom left": (NEAR, FAR), "bottom right": (FAR, FAR),
}  # fmt: skip
SPOTS = {
    2: ((NEAR, MIDDLE), (FAR, MIDDLE)),
    3: ((MIDDLE, 36), (NEAR, 92), (FAR, 92)),
    4: ((NEAR, NEAR), (FAR, NEAR), (NEAR, FAR), (FAR, FAR)),
}
"""Where several things stand: side by side, as a triangle, as a square."""
ENDS = {
    "left of": ("left", "right"), "right of": ("right", "left"),
    "above": ("top", "bottom"), "below": ("bottom", "top"), "": ("left", "right"),
}  # fmt: skip
"""Where the first and the second of two things stand; "and" puts them side by side."""
SHIFT = 4.0
"""Pixels by which a whole arrangement is moved at random, each way."""
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
    """Lay the scene out, back to front, leaving free what it leaves open."""
    if scene.motif:
        return _MOTIFS[scene.motif](scene, rng)
    if len(scene.groups) == 2:
        return _pair(scene, rng)
    (group,) = scene.groups
    return _several(group, rng) if group.count > 1 else [_single(group, rng)]


def scatter(scene: Scene, rng: random.Random) -> list[Primitive]:
    """Lay groups out anywhere on the canvas and in any size, without touching one another."""
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


def _single(group: Group, rng: random.Random) -> Primitive:
    if group.place:
        x, y = _shifted(PLACE_AT[group.place], rng)
        return _thing(group, x, y, rng.uniform(*(RADII["small"] if group.size else RADIUS_PLACED)))
    x, y = _shifted((MIDDLE, MIDDLE), rng)
    return _thing(group, x, y, rng.uniform(*RADII[group.size]))


def _shifted(spot: tuple[float, float], rng: random.Random) -> tuple[float, float]:
    x, y = spot
    return x + rng.uniform(-SHIFT, SHIFT), y + rng.uniform(-SHIFT, SHIFT)


def _several(group: Group, rng: random.Random) -> list[Primitive]:
    radius = rng.uniform(*RADIUS_COUNTED)
    dx, dy = _shifted((0, 0), rng)
    return [_thing(group, x + dx, y + dy, radius) for x, y in SPOTS[group.count]]


def _pair(scene: Scene, rng: random.Random) -> list[Primitive]:
    first, second = scene.groups
    if scene.relation == "inside":
        x, y = _shifted((MIDDLE, MIDDLE), rng)
        outer = _thing(second, x, y, rng.uniform(46, 50))
        return [outer, _thing(first, x, y, rng.uniform(*RADII["small"]))]
    spots = [PLACE_AT[place] for place in ENDS[scene.relation]]
    radius = rng.uniform(*RADIUS_PAIRED)
    dx, dy = _shifted((0, 0), rng)
    return [
        _thing(group, x + dx, y + dy, radius)
        for group, (x, y) in zip(scene.groups, spots, strict=True)
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
    x = 46 + rng.uniform(-4, 4) if "tree" in scene.extras else 64 + rng.uniform(-8, 8)
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
    x = 60 + rng.uniform(-14, 6)
    return [Primitive("box", 64, 118, 80, 20, GRASS), *_sun(scene, 108), *_tree_at(x, 26)]


def _boat(scene: Scene, rng: random.Random) -> list[Primitive]:
    hull, sail = (COLOURS[colour] for colour in scene.motif_colours)
    x = 60 + rng.uniform(-10, 8)
    return [
        Primitive("box", 64, 118, 80, 30, SEA),
        *_sun(scene, 108),
        Primitive("box", x, 58, 2.5, 32, BROWN),
        Primitive("sail", x + 19, 52, 16, 24, sail),
        Primitive("hull", x, 90, 36, 11, hull),
    ]


def _face(scene: Scene, rng: random.Random) -> list[Primitive]:
    x, y = 64 + rng.uniform(-6, 6), 64 + rng.uniform(-6, 6)
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
