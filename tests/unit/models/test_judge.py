"""The judge is right about pictures whose contents are known."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.scenes.evaluate import JUDGED, score, truth
from models.scenes.judge import verdict
from models.scenes.scene import COLOURS, SHAPES, Backdrop, Group, Scene, sample_scene
from models.scenes.sight import components, look

WHITE = Backdrop("plain", ("white",))


def seen(scene: Scene):
    """What the judge sees in the renderer's picture of a scene."""
    return look(truth([scene])[0])


def test_true_pictures_are_judged_right() -> None:
    """At least 98 in 100 of the renderer's own pictures pass every point."""
    rng = random.Random(11)
    scenes = [sample_scene(rng, JUDGED) for _ in range(100)]
    assert score(scenes, truth(scenes))["all"] >= 0.98


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_recognised(shape: str) -> None:
    """One thing of each shape is seen as that shape and no other."""
    assert [t.shape for t in seen(Scene(WHITE, (Group("blue", shape),))).things] == [shape]


@pytest.mark.parametrize("colour", sorted({*COLOURS} - {"white"}))
def test_each_colour_is_recognised(colour: str) -> None:
    """One thing of each colour is seen in that colour."""
    assert [t.colour for t in seen(Scene(WHITE, (Group(colour, "square"),))).things] == [colour]


@pytest.mark.parametrize(
    ("asked", "point"),
    [
        (Scene(Backdrop("plain", ("black",)), (Group("red", "star", 2),)), "background"),
        (Scene(WHITE, (Group("blue", "star", 2),)), "colour"),
        (Scene(WHITE, (Group("red", "heart", 2),)), "shape"),
        (Scene(WHITE, (Group("red", "star", 3),)), "count"),
    ],
)
def test_what_is_wrong_is_told_apart(asked: Scene, point: str) -> None:
    """A picture of two red stars fails the one point in which the prompt differs."""
    points = verdict(asked, seen(Scene(WHITE, (Group("red", "star", 2),))))
    assert {name for name, holds in points.items() if not holds} == {point, "all"}


def test_the_wrong_side_is_noticed() -> None:
    """A thing on the left is not on the right."""
    left = seen(Scene(WHITE, (Group("red", "ring", place="left"),)))
    assert verdict(Scene(WHITE, (Group("red", "ring", place="left"),)), left)["position"]
    assert not verdict(Scene(WHITE, (Group("red", "ring", place="right"),)), left)["position"]


def test_a_relation_the_wrong_way_round_is_noticed() -> None:
    """A above B is not B above A."""
    star, dot = Group("red", "star"), Group("blue", "circle")
    picture = seen(Scene(WHITE, (star, dot), "above"))
    assert verdict(Scene(WHITE, (star, dot), "above"), picture)["all"]
    assert not verdict(Scene(WHITE, (star, dot), "below"), picture)["relation"]


def test_an_empty_picture_passes_nothing_but_its_background() -> None:
    """A blank picture has a background and no things."""
    points = verdict(
        Scene(WHITE, (Group("red", "star"),)), look(np.full((128, 128, 3), 250, np.uint8))
    )
    assert [name for name, holds in points.items() if holds] == ["background"]


def test_noise_is_not_mistaken_for_a_scene() -> None:
    """Random pixels pass no prompt."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    assert not verdict(Scene(WHITE, (Group("red", "star"),)), look(noise))["all"]


def test_motifs_are_refused() -> None:
    """The judge says so rather than passing what it cannot judge."""
    with pytest.raises(ValueError, match="motif"):
        verdict(Scene(WHITE, motif="tree"), look(np.zeros((128, 128, 3), np.uint8)))


def test_components_touch_at_corners() -> None:
    """Pixels that meet at a corner are one part; pixels apart are two."""
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 4] = True
    assert sorted(int(part.sum()) for part in components(mask)) == [1, 2]
