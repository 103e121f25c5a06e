"""The course in which the denoiser learns to lead itself back."""

from __future__ import annotations

import pytest
import torch

from app.config.repository import REPOSITORY
from models.scenes.finish import FinishCourse, States
from models.scenes.parts import Parts
from models.scenes.scene import Backdrop, Scene

SHIPPED = REPOSITORY / "models" / "scenes"


def scene(colour: str) -> Scene:
    """A scene to be told by its colour."""
    return Scene(Backdrop("plain", (colour,)))


@pytest.fixture
def course() -> FinishCourse:
    """The shipped model's course, with four states at a time."""
    parts = Parts.shipped(SHIPPED, torch.device("cpu"))
    given = (parts.unet, parts.vae, parts.tokenizer, parts.encoder)
    return FinishCourse(*given, batch=4, seed=0, compiled=False)


def test_it_is_asked_in_the_states_of_its_own_sampling(course: FinishCourse) -> None:
    """Each drawn batch stores one state per step, from pure noise down to little."""
    course._draw()
    steps = course.own.steps.view(-1, 4)
    assert len(steps) in (10, 20)
    assert (steps[0] == 999).all()
    assert (steps.diff(dim=0) < 0).all()
    pictures = course.own.pictures.view(len(steps), 4, 4, 16, 16)
    assert torch.equal(pictures[0], pictures[-1])
    assert not any(scene.motif for scene in course.own.scenes)


def test_who_answers_with_the_picture_makes_no_mistake(
    course: FinishCourse, monkeypatch: pytest.MonkeyPatch
):
    """In its own states the right answer is the velocity towards the requested picture."""
    course._draw()
    asked = course.own.take(2)
    monkeypatch.setattr(course.own, "take", lambda _: asked)
    _, states, steps, pictures = asked
    signal, noise = (
        table[steps].view(-1, 1, 1, 1) for table in (course.lesson.signal, course.lesson.noise)
    )
    perfect = (signal * states - pictures) / noise

    def answer(rows: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
        return (torch.cat([torch.zeros_like(rows[:2]), perfect + off]),)

    monkeypatch.setattr(course, "unet", answer)
    monkeypatch.setattr(
        course.lesson, "ask", lambda z: (z, torch.zeros(len(z)).long(), torch.zeros_like(z))
    )
    off = 0.0
    assert course.loss(1) < 1e-9
    off = 0.1
    assert course.loss(1) > 1e-5


def test_the_oldest_states_leave() -> None:
    """No more are kept than asked for, and what is taken belongs together."""
    states = States(3)
    for number, colour in enumerate(("red", "blue", "green")):
        rows = torch.full((2, 4, 16, 16), float(number))
        states.add([scene(colour)] * 2, rows, torch.tensor(number), rows + 10)
    assert [each.backdrop.colours[0] for each in states.scenes] == ["blue", "green", "green"]
    scenes, rows, steps, pictures = states.take(20)
    numbers = [{"blue": 1, "green": 2}[each.backdrop.colours[0]] for each in scenes]
    assert steps.tolist() == numbers
    assert rows[:, 0, 0, 0].tolist() == numbers
    assert (pictures == rows + 10).all()
