"""Where things go: a scene becomes a list of primitives on the 128 x 128 canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.scenes.scene import COLOURS, Group, Scene

if TYPE_CHECKING:
    import random

SIDE = 128
"""Width and height of a picture in pixels."""
RADII = {"small": (14.0, 17.0), "": (22.0, 28.0), "large": (34.0, 42.0)}
"""Half the side of a single thing in pixels, by its size word."""
RADII_BY_COUNT = {2: (19.0, 24.0), 3: (16.0, 19.0), 4: (16.0, 20.0)}
PLACE_AT = {
    "left": (32, 64), "right": (96, 64), "top": (64, 32), "bottom": (64, 96), "centre": (64, 64),
    "top left": (32, 32), "top right": (96, 32), "bottom left": (32, 96), "bottom right": (96, 96),
}  # fmt: skip
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
    if group.count > 1:
        radius = rng.uniform(*RADII_BY_COUNT[group.count])
        return [_thing(group, x, y, radius) for x, y in _spots(group.count, radius, rng)]
    return [_single(group, rng)]


def _thing(group: Group, x: float, y: float, radius: float) -> Primitive:
    return Primitive(group.shape, x, y, radius, radius, COLOURS[group.colour])


def _single(group: Group, rng: random.Random) -> Primitive:
    radius = rng.uniform(*RADII[group.size])
    if group.place:
        x, y = PLACE_AT[group.place]
        return _thing(group, x + rng.uniform(-4, 4), y + rng.uniform(-4, 4), min(radius, 25.0))
    margin = radius + 5
    return _thing(
        group, rng.uniform(margin, SIDE - margin), rng.uniform(margin, SIDE - margin), radius
    )


def _spots(count: int, radius: float, rng: random.Random) -> list[tuple[float, float]]:
    """Centres of two to four things, at least 8 pixels apart."""
    gap = 2 * radius + rng.uniform(8, 14)
    if count == 2:
        half = gap / 2 + rng.uniform(0, 5)
        spots = [(-half, 0.0), (half, 0.0)] if rng.random() < 0.6 else [(0.0, -half), (0.0, half)]
    elif count == 3 and rng.random() < 0.4:
        step = 2 * radius + 6
        spots = [(-step, 0.0), (0.0, 0.0), (step, 0.0)]
    elif count == 3:
        half = gap / 2
        spots = [(0.0, -half), (-half, half), (half, half)]
    else:
        half = gap / 2
        spots = [(-half, -half), (half, -half), (-half, half), (half, half)]
    return _shift(spots, radius, rng)


def _shift(
    spots: list[tuple[float, float]], radius: float, rng: random.Random
) -> list[tuple[float, float]]:
    """Move the whole arrangement by up to 10 pixels, keeping it on the canvas."""
    reach_x = SIDE / 2 - radius - 2 - max(abs(x) for x, _ in spots)
    reach_y = SIDE / 2 - radius - 2 - max(abs(y) for _, y in spots)
    dx = rng.uniform(-1, 1) * max(0.0, min(10.0, reach_x))
    dy = rng.uniform(-1, 1) * max(0.0, min(10.0, reach_y))
    return [(SIDE / 2 + dx + x, SIDE / 2 + dy + y) for x, y in spots]


def _pair(scene: Scene, rng: random.Random) -> list[Primitive]:
    first, second = scene.groups
    if scene.relation == "inside":
        x, y = 64 + rng.uniform(-8, 8), 64 + rng.uniform(-8, 8)
        outer = rng.uniform(44, 50)
        inner = rng.uniform(13.5, 16) if second.shape == "ring" else rng.uniform(15, 18)
        return [_thing(second, x, y, outer), _thing(first, x, y, inner)]
    relation = scene.relation or rng.choice(("left of", "right of", "above", "below"))
    radius = rng.uniform(19, 24)
    half = radius + rng.uniform(5, 9)
    dx, dy = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}[relation]
    ends = _shift([(dx * half, dy * half), (-dx * half, -dy * half)], radius, rng)
    return [_thing(g, x, y, radius) for g, (x, y) in zip(scene.groups, ends, strict=True)]


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
