"""Captions: scenes in words, with many phrasings chosen by a seeded generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.scenes.scene import Backdrop, Group, Scene, default_backdrop

if TYPE_CHECKING:
    import random

SAID: dict[str, tuple[str, ...]] = {
    "purple": ("purple", "purple", "violet"),
    "cyan": ("cyan", "cyan", "turquoise"),
    "circle": ("circle", "circle", "disc", "dot"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "diamond": ("diamond", "diamond", "rhombus"),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "ring", "hoop"),
    "cross": ("cross", "cross", "plus"),
    "small": ("small", "small", "tiny", "little"),
    "large": ("large", "big", "big", "huge"),
    "left": ("on the left", "on the left side", "at the left", "to the left"),
    "right": ("on the right", "on the right side", "at the right", "to the right"),
    "top": ("at the top", "at the top", "on top"),
    "bottom": ("at the bottom", "on the bottom"),
    "centre": ("in the centre", "in the center", "in the middle"),
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "under", "beneath"),
    "inside": ("inside", "inside", "in", "within"),
    "": ("and", "and", "and", "next to", "beside", "with"),
}
COUNTS: dict[int, tuple[str, ...]] = {
    2: ("two", "two", "2", "a pair of"),
    3: ("three", "three", "3"),
    4: ("four", "four", "4"),
}
PLURALS = {"cross": "crosses", "plus": "pluses", "box": "boxes", "rhombus": "rhombuses"}
PATTERNS: dict[str, tuple[str, ...]] = {
    "horizontal stripes": (
        "horizontal {a} and {b} stripes",
        "a horizontally striped {a} and {b} background",
    ),
    "vertical stripes": (
        "vertical {a} and {b} stripes",
        "a vertically striped {a} and {b} background",
    ),
    "checks": (
        "{a} and {b} checks",
        "a checked {a} and {b} background",
        "{an} and {b} checkerboard",
        "a checkered {a} and {b} background",
    ),
    "gradient": (
        "a gradient from {a} to {b}",
        "{an} to {b} gradient",
        "{an} to {b} gradient background",
    ),
}
EXTRAS = {"sun": ("the sun", "a sun"), "tree": ("a tree",)}


def caption(scene: Scene, rng: random.Random) -> str:
    """Return one phrasing of the scene, in lower case."""
    subject = _motif(scene, rng) if scene.motif else _things(scene, rng)
    return _with_backdrop(scene, subject, rng)


def _say(word: str, rng: random.Random) -> str:
    return rng.choice(SAID.get(word, (word,)))


def _article(phrase: str, rng: random.Random) -> str:
    choice = rng.random()
    if choice < 0.12:
        return phrase
    if choice < 0.2:
        return f"one {phrase}"
    if choice < 0.24:
        return f"the {phrase}"
    return _a(phrase)


def _a(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _group(group: Group, rng: random.Random) -> str:
    colour, shape = _say(group.colour, rng), _say(group.shape, rng)
    if group.count > 1:
        return f"{rng.choice(COUNTS[group.count])} {colour} {PLURALS.get(shape, shape + 's')}"
    size = _say(group.size, rng) if group.size else ""
    if rng.random() < 0.06:
        return _article(f"{size} {shape} that is {colour}".strip(), rng)
    return _article(f"{size} {colour} {shape}".strip(), rng)


def _place(place: str, rng: random.Random) -> str:
    if " " in place:
        end = rng.choice(("", " corner"))
        return f"{rng.choice(('in', 'at'))} the {place}{end}"
    return _say(place, rng)


def _things(scene: Scene, rng: random.Random) -> str:
    first = _group(scene.groups[0], rng)
    if len(scene.groups) == 2:
        return f"{first} {_say(scene.relation, rng)} {_group(scene.groups[1], rng)}"
    if not (place := scene.groups[0].place):
        return first
    where = _place(place, rng)
    return f"{where}, {first}" if rng.random() < 0.15 else f"{first} {where}"


def _behind(backdrop: Backdrop, rng: random.Random) -> str:
    if backdrop.kind == "plain":
        ground = rng.choice(("background", "background", "backdrop"))
        return _a(f"{_say(backdrop.colours[0], rng)} {ground}")
    first, second = (_say(colour, rng) for colour in backdrop.colours)
    if backdrop.kind != "gradient" and rng.random() < 0.5:
        first, second = second, first
    return rng.choice(PATTERNS[backdrop.kind]).format(a=first, b=second, an=_a(first))


def _with_backdrop(scene: Scene, subject: str, rng: random.Random) -> str:
    if scene.motif and scene.motif != "face":
        return subject
    colours = [group.colour for group in scene.groups] or list(scene.motif_colours)
    if scene.backdrop == default_backdrop(*colours) and rng.random() < 0.6:
        return subject
    behind = _behind(scene.backdrop, rng)
    bare = behind.removeprefix("an ").removeprefix("a ")
    short = _say(scene.backdrop.colours[0], rng) if scene.backdrop.kind == "plain" else behind
    (said,) = rng.choices(
        (
            f"{subject} {rng.choice(('on', 'on', 'on', 'against'))} {behind}",
            f"{subject} on {short}",
            f"{subject}, {bare}",
            f"on {behind}, {subject}",
            f"{bare} with {subject}",
        ),
        (66, 8, 6, 12, 8),
    )
    return said


def _motif(scene: Scene, rng: random.Random) -> str:
    if scene.motif == "face":
        mood = "sad" if "sad" in scene.extras else rng.choice(("happy", "smiling"))
        return _article(f"{mood} {_say(scene.motif_colours[0], rng)} face", rng)
    parts = [_subject(scene, rng), *(rng.choice(EXTRAS[extra]) for extra in scene.extras)]
    return " and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]} and {parts[2]}"


def _subject(scene: Scene, rng: random.Random) -> str:
    if scene.motif == "tree":
        return _article("tree", rng)
    first, second = (_say(colour, rng) for colour in scene.motif_colours)
    if scene.motif == "house":
        return f"{_article(f'{first} house', rng)} with {_a(second)} roof"
    where = rng.choice(("", " on the sea", " on the sea"))
    return f"{_article(f'{first} boat', rng)} with {_a(second)} sail{where}"
