"""The renderer puts laid-out figures where they belong, in the colours asked for."""

from __future__ import annotations

import random

import pytest
import torch

from models.scenes.draw import FIGURES, draw
from models.scenes.layout import SIDE, Primitive, place, scatter
from models.scenes.scene import COLOURS, Backdrop, Group, Scene, sample_scene
from models.scenes.variants import SCATTERED

WHITE = Scene(Backdrop("plain", ("white",)))
RED = COLOURS["red"]


def one(kind: str, x: float = 64, y: float = 64, half: float = 30) -> torch.Tensor:
    """A red figure on white, (128, 128) with 1 where it is."""
    picture = draw([WHITE], [[Primitive(kind, x, y, half, half, RED)]])[0]
    return (picture[1] < 0.5).float()


@pytest.mark.parametrize("kind", FIGURES)
def test_figures_stay_within_their_box(kind: str) -> None:
    """No figure is drawn outside its half sides, and every one covers some of them."""
    ys, xs = one(kind).nonzero(as_tuple=True)
    assert len(ys) > 200
    assert min(ys.min(), xs.min()) >= 64 - 33
    assert max(ys.max(), xs.max()) <= 64 + 33


def test_a_circle_has_its_area() -> None:
    """A disc of radius 30 covers pi r squared pixels within one percent."""
    assert float(one("circle").sum()) == pytest.approx(3.1416 * 900, rel=0.01)


def test_triangles_point_up() -> None:
    """A triangle is wider below than above."""
    rows = one("triangle").sum(1)
    assert rows[85] > rows[45] > 0


def test_edges_are_smooth() -> None:
    """Between inside and outside lie pixels of neither colour."""
    picture = draw([WHITE], [[Primitive("circle", 64, 64, 30, 30, RED)]])[0, 1]
    assert ((picture > 0.3) & (picture < 0.8)).sum() > 50


def test_a_batch_equals_its_pictures_alone() -> None:
    """Pictures do not depend on what they are drawn beside."""
    rng = random.Random(4)
    scenes = [sample_scene(rng) for _ in range(12)]
    layouts = [place(scene, rng) for scene in scenes]
    alone = torch.cat(
        [draw([scene], [layout]) for scene, layout in zip(scenes, layouts, strict=True)]
    )
    torch.testing.assert_close(draw(scenes, layouts), alone)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_things_are_apart_and_on_the_canvas(count: int) -> None:
    """However often it is laid out, things neither touch nor leave the picture."""
    rng = random.Random(5)
    for _ in range(200):
        things = place(Scene(WHITE.backdrop, (Group("red", "square", count),)), rng)
        assert len(things) == count
        for thing in things:
            assert thing.half_width < thing.x < SIDE - thing.half_width
            assert thing.half_height < thing.y < SIDE - thing.half_height
        gaps = [
            max(abs(a.x - b.x), abs(a.y - b.y)) - a.half_width - b.half_width
            for i, a in enumerate(things)
            for b in things[:i]
        ]
        assert min(gaps) > 4


def test_a_gradient_runs_from_its_first_colour_to_its_second() -> None:
    """The top is the first colour, the bottom the second."""
    scene = Scene(Backdrop("gradient", ("red", "blue")), (Group("white", "circle"),))
    picture = draw([scene], [place(scene, random.Random(0))])[0] * 255
    for row, colour in ((0, "red"), (-1, "blue")):
        torch.testing.assert_close(
            picture[:, row, 0], torch.tensor(COLOURS[colour]).float(), atol=2, rtol=0
        )


def test_an_outline_is_not_filled() -> None:
    """With a stroke the rim of a figure has its colour and its middle that of the backdrop."""
    disc = Primitive("circle", 64, 64, 30, 30, RED)
    picture = draw([WHITE], [[disc]], stroke_px=8)[0, 1]
    assert picture[64, 64] > 0.9
    assert picture[64, 64 + 26] < 0.5
    assert picture[64, 64 + 36] > 0.9


def test_scattered_things_are_apart_and_on_the_canvas() -> None:
    """Scattered things do not touch or leave the picture, and nearly all find room."""
    rng = random.Random(6)
    asked = placed = 0
    for scene in (sample_scene(rng, SCATTERED) for _ in range(200)):
        things = scatter(scene, rng)
        asked += sum(group.count for group in scene.groups)
        placed += len(things)
        for index, thing in enumerate(things):
            half = thing.half_width
            assert half < min(thing.x, thing.y)
            assert max(thing.x, thing.y) < SIDE - half
            for other in things[:index]:
                apart = max(abs(thing.x - other.x), abs(thing.y - other.y))
                assert apart > half + other.half_width
    assert placed > 0.95 * asked
