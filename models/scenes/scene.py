"""Scenes: the vocabulary, and scenes sampled from it.

A `Scene` is the ground truth: `captions` puts it into words, `layout` and `draw` into a picture,
and `judge` looks for it in a picture.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 38, 38),
    "orange": (252, 138, 14),
    "yellow": (252, 222, 40),
    "green": (34, 158, 58),
    "cyan": (64, 214, 226),
    "blue": (34, 66, 214),
    "purple": (132, 42, 182),
    "pink": (252, 140, 190),
    "white": (250, 250, 250),
    "black": (18, 18, 18),
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "heart", "ring", "cross")
PLACES = (
    "left", "right", "top", "bottom", "centre",
    "top left", "top right", "bottom left", "bottom right",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below", "inside")
HOLLOW = ("circle", "square", "diamond")
"""Shapes with room for another inside."""
NEUTRAL = ("white", "black")
"""Stripes and checks have one of these and another colour."""
BACKDROPS = ("plain", "horizontal stripes", "vertical stripes", "checks", "gradient")
MOTIFS = ("house", "tree", "boat", "face")


@dataclass(frozen=True, slots=True)
class Group:
    """Some equal things: `count` of one colour and shape."""

    colour: str
    shape: str
    count: int = 1
    size: str = ""
    """`small`, `large`, or empty for medium."""
    place: str = ""
    """One of `PLACES`, or empty for anywhere."""


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The backdrop: one colour, or a pattern of two.

    Two different things have a backdrop of one colour.
    """

    kind: str
    colours: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """The contents of one picture: groups of things, or a motif with its two colours."""

    backdrop: Backdrop
    groups: tuple[Group, ...] = ()
    relation: str = ""
    """How the first group relates to the second; empty with two groups means only "and"."""
    motif: str = ""
    motif_colours: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    """For a motif: `sun`, `tree`, `sad`."""


def held_out(group: Group) -> bool:
    """Whether this colour, shape and count are held out from training (about one in eight)."""
    name = f"{group.colour} {group.shape} {group.count}"
    return zlib.crc32(name.encode()) % 8 == 3


def default_backdrop(*colours: str) -> Backdrop:
    """Return the backdrop of a prompt that names none: the first of these that hides nothing."""
    free = [colour for colour in ("white", "black", "yellow") if colour not in colours]
    return Backdrop("plain", (free[0],))


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each kind of scene is drawn, as weights, and its limits.

    A stage of the curriculum.
    """

    counted: float = 0.46
    placed: float = 0.22
    related: float = 0.24
    motif: float = 0.08
    patterned: float = 0.15
    max_count: int = 4
    alone: float | None = None
    """Share of counted things with a count of one; None: all counts equal."""
    sized: bool = True
    """Whether single things may be small or large."""
    inside: float | None = None
    """Share of related things with one inside the other; None: all relations equal."""
    gradient: float | None = None
    """Share of patterns that are gradients; None: all patterns equal."""
    shapes: tuple[str, ...] = SHAPES
    """The shapes that are drawn, each as often as it is listed."""


SINGLE = Mix(counted=0.75, placed=0.25, related=0.0, motif=0.0, patterned=0.0, max_count=1)
FULL = Mix()
LESSONS = Mix(
    counted=0.29,
    placed=0.17,
    related=0.46,
    patterned=0.35,
    alone=0.5,
    inside=0.35,
    shapes=(*SHAPES, "star", "star", "heart"),
)
"""The mix for the denoiser: more of the difficult scenes than customers ask for."""
VIEWED = Mix(patterned=0.6, gradient=0.5)
"""The mix for the autoencoder: plain backdrops are easy, gradients are not."""


def sample_scene(rng: random.Random, mix: Mix = FULL, *, unseen: bool = False) -> Scene:
    """Draw a scene; `unseen` requires a held-out group, otherwise none is held out."""
    while True:
        scene = _sample(rng, mix)
        held = [held_out(group) for group in scene.groups]
        if any(held) if unseen else not any(held):
            return scene


def _sample(rng: random.Random, mix: Mix) -> Scene:
    (kind,) = rng.choices(
        ("counted", "placed", "related", "motif"),
        (mix.counted, mix.placed, mix.related, mix.motif),
    )
    if kind == "motif":
        return _motif(rng)
    if kind == "related":
        return _related(rng, mix)
    colour, shape = rng.choice(list(COLOURS)), rng.choice(mix.shapes)
    if kind == "placed":
        size = rng.choices(("", "small"), (3, 1))[0]
        group = Group(colour, shape, size=size, place=rng.choice(PLACES))
    elif (count := _count(rng, mix)) == 1:
        size = rng.choices(("", "small", "large"), (4, 3, 3))[0]
        group = Group(colour, shape, size=size if mix.sized else "")
    else:
        group = Group(colour, shape, count)
    return Scene(_backdrop(rng, mix, (colour,)), (group,))


def _count(rng: random.Random, mix: Mix) -> int:
    if mix.alone is None:
        return rng.randint(1, mix.max_count)
    return 1 if rng.random() < mix.alone else rng.randint(2, mix.max_count)


def _related(rng: random.Random, mix: Mix) -> Scene:
    first_colour, second_colour = rng.sample(list(COLOURS), 2)
    first_shape, second_shape = rng.choice(mix.shapes), rng.choice(mix.shapes)
    relation = _relation(rng, mix)
    if relation == "inside":
        solid = [shape for shape in mix.shapes if shape != "ring"]
        first_shape, second_shape = rng.choice(solid), rng.choice(HOLLOW)
    backdrop = _backdrop(rng, replace(mix, patterned=0.0), (first_colour, second_colour))
    groups = (Group(first_colour, first_shape), Group(second_colour, second_shape))
    return Scene(backdrop, groups, relation)


def _relation(rng: random.Random, mix: Mix) -> str:
    if mix.inside is None:
        return rng.choice((*RELATIONS, ""))
    related = [relation for relation in RELATIONS if relation != "inside"]
    return "inside" if rng.random() < mix.inside else rng.choice((*related, ""))


def _backdrop(rng: random.Random, mix: Mix, taken: tuple[str, ...]) -> Backdrop:
    if rng.random() < 0.12:
        return default_backdrop(*taken)
    free = [colour for colour in COLOURS if colour not in taken]
    if rng.random() >= mix.patterned:
        return Backdrop("plain", (rng.choice(free),))
    kind = _pattern(rng, mix)
    if kind == "gradient":
        pair = rng.sample(free, 2)
        hidden = any(_between(colour, *pair) for colour in taken)
        return _backdrop(rng, mix, taken) if hidden else Backdrop(kind, tuple(pair))
    neutral = rng.choice([colour for colour in NEUTRAL if colour not in taken])
    other = rng.choice([colour for colour in free if colour != neutral])
    return Backdrop(kind, tuple(sorted((neutral, other))))


def _pattern(rng: random.Random, mix: Mix) -> str:
    if mix.gradient is None:
        return rng.choice(BACKDROPS[1:])
    return "gradient" if rng.random() < mix.gradient else rng.choice(BACKDROPS[1:-1])


def _between(colour: str, first: str, second: str) -> bool:
    """Whether a gradient from first to second comes so close to the colour that it hides it."""
    steps = [step / 10 for step in range(11)]
    triples = zip(COLOURS[colour], COLOURS[first], COLOURS[second], strict=True)
    parts = [[a + (b - a) * at - c for at in steps] for c, a, b in triples]
    return min(math.hypot(*offsets) for offsets in zip(*parts, strict=True)) < 80


def _motif(rng: random.Random) -> Scene:
    motif = rng.choice(MOTIFS)
    bright = [colour for colour in COLOURS if colour not in ("cyan", "green", "black")]
    if motif == "face":
        skin, behind = rng.sample([c for c in COLOURS if c != "black"], 2)
        extras: tuple[str, ...] = ("sad",) if rng.random() < 0.5 else ()
        return Scene(Backdrop("plain", (behind,)), (), "", motif, (skin,), extras)
    extras = tuple(
        e for e in ("sun", "tree") if rng.random() < 0.5 and (e == "sun" or motif == "house")
    )
    colours = tuple(rng.sample(bright, 0 if motif == "tree" else 2))
    return Scene(Backdrop("plain", ("cyan",)), (), "", motif, colours, extras)
