"""The training loop learns, saves, and goes on where it stopped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import mse_loss

from models.scenes.denoiser import Average
from models.scenes.loop import Plan, Trainer

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(steps=120, batch=16, rate=0.05, warm_up=5, save_every=40)


class Doubling:
    """A course in which one number has to become two."""

    name = "doubling"

    def __init__(self) -> None:
        self.model: nn.Module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.steps: list[int] = []

    def loss(self, step: int) -> torch.Tensor:
        """The error in doubling 16 random numbers."""
        self.steps.append(step)
        given = torch.randn(16, 1)
        return mse_loss(self.model(given).float(), 2 * given)


def test_a_course_is_learned(tmp_path: Path) -> None:
    """After the plan's steps the model can do what it was taught."""
    course = Doubling()
    Trainer(course, PLAN, tmp_path, seed=0).run()
    assert abs(course.model.weight.item() - 2) < 0.2


def test_a_stopped_course_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Half a course and a new start end in the plan's number of steps, not more."""
    Trainer(Doubling(), dataclasses.replace(PLAN, steps=60), tmp_path, seed=0).run()
    course = Doubling()
    lessons = Trainer(course, PLAN, tmp_path, seed=0)
    assert lessons.step == 60
    lessons.run()
    assert (min(course.steps), max(course.steps)) == (60, 119)


def test_a_finished_course_is_not_taken_again(tmp_path: Path) -> None:
    """A second run only loads the averaged weights."""
    first, second = Doubling(), Doubling()
    Trainer(first, PLAN, tmp_path, seed=0).run()
    Trainer(second, PLAN, tmp_path, seed=0).run()
    assert not second.steps
    torch.testing.assert_close(second.model.weight, first.model.weight)


def test_the_log_has_a_line_for_every_hundred_steps(tmp_path: Path) -> None:
    """Loss against samples can be drawn from the log."""
    Trainer(Doubling(), PLAN, tmp_path, seed=0).run()
    assert '"samples": 1600' in (tmp_path / "doubling.jsonl").read_text()


def test_the_rate_rises_holds_and_falls() -> None:
    """Warm-up, the full rate for a while, and almost nothing at the end."""
    rates = [PLAN.rate_at(step) for step in (0, 10, 45, 119)]
    assert rates[0] < rates[1] == rates[2] == PLAN.rate
    assert rates[3] < 0.1 * PLAN.rate


def test_the_average_follows() -> None:
    """A constant weight becomes its own average."""
    layer = nn.Linear(1, 1)
    average = Average(list(layer.parameters()), decay=0.5)
    nn.init.constant_(layer.weight, 7.0)
    for step in range(40):
        average.update(step)
    assert average.weights[0].item() == 7.0
