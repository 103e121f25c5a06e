"""The turbo bench takes turns, leaves out the first picture, and says whether the aim is met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.turbo import measure, page

if TYPE_CHECKING:
    from collections.abc import Callable


def test_arms_take_turns_and_the_first_picture_does_not_count() -> None:
    """The order alternates; each strategy gets the same prompts and seeds."""
    drawn: list[tuple[str, str, int]] = []

    def strategy(name: str) -> Callable[[str, int], bytes]:
        return lambda prompt, seed: drawn.append((name, prompt, seed)) or b""  # type: ignore[func-returns-value]

    took = measure({"a": strategy("a"), "b": strategy("b")}, 3)
    assert [name for name, _, _ in drawn] == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert [what[1:] for what in drawn if what[0] == "a"] == [w[1:] for w in drawn if w[0] == "b"]
    assert {name: len(each) for name, each in took.items()} == {"a": 3, "b": 3}


def result(turbo_s: float) -> dict[str, Any]:
    """A result in which the farm's turbo pictures take so long."""
    strategies = {"farm, scenes": [1.0, 3.0], "farm, scenes-turbo": [turbo_s] * 2}
    strategies |= {"bare, scenes": [1.0, 2.0], "bare, scenes-turbo": [0.1, 0.1]}
    about = {"cpu": "a processor", "cores": 2, "load_average": [0.5]}
    return {"machine": about, "commit": "0123abc", "strategies": strategies}


def test_ratios_are_taken_picture_by_picture() -> None:
    """The median of 1/1 and 3/2, not the ratio of the medians."""
    assert "| farm, scenes | 2000 ms | 3000 ms | 1.25 |" in page(result(0.15))


def test_the_page_says_whether_the_aim_is_met() -> None:
    """200 ms from the call to the bytes."""
    assert "is met" in page(result(0.15))
    assert "is missed" in page(result(0.25))
