"""Captions say what the scene holds, in many ways."""

from __future__ import annotations

import random

import pytest

from models.scenes.captions import caption
from models.scenes.scene import Backdrop, Group, Scene, sample_scene

BLUE = Backdrop("plain", ("blue",))
TWO_STARS = Scene(BLUE, (Group("green", "star", 2),))


def ways(scene: Scene) -> set[str]:
    """What 400 tries say of a scene."""
    rng = random.Random(2)
    return {caption(scene, rng) for _ in range(400)}


def test_the_usual_way_is_among_them() -> None:
    """A reader's first guess at a prompt is one of the captions."""
    assert "two green stars on a blue background" in ways(TWO_STARS)


def test_word_order_varies() -> None:
    """The backdrop may come first or last."""
    said = ways(TWO_STARS)
    assert any(words.startswith("on a blue") for words in said)
    assert any(words.startswith("blue background") for words in said)


@pytest.mark.parametrize("word", ["green", "blue"])
def test_colours_are_always_named(word: str) -> None:
    """No way of saying it leaves a colour out."""
    assert all(word in words for words in ways(TWO_STARS))


def test_a_default_backdrop_may_go_unsaid() -> None:
    """A white backdrop need not be mentioned; any other must be."""
    white = Scene(Backdrop("plain", ("white",)), (Group("red", "circle"),))
    assert "a red circle" in ways(white)
    assert "a red circle" not in ways(Scene(BLUE, (Group("red", "circle"),)))


def test_articles_fit_the_word() -> None:
    """It is "an orange", never "a orange", and the other way round."""
    rng = random.Random(3)
    said = [f" {caption(sample_scene(rng), rng)}" for _ in range(3000)]
    assert not [words for words in said if " a orange" in words or " an red" in words]


def test_equal_seeds_say_the_same() -> None:
    """A caption is a function of the scene and the generator's seed."""
    assert caption(TWO_STARS, random.Random(5)) == caption(TWO_STARS, random.Random(5))
