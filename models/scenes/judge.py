"""The judge: whether a picture shows the requested scene, point by point."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.scenes.scene import Group, Scene
    from models.scenes.sight import Sight, Thing

NEAR, FAR = 54.0, 74.0
"""Pixels left of or below, or above, which something counts as on that side."""
SMALL_PX, LARGE_PX = 53.0, 76.0
"""A small thing has a side under the first value, a large one over the second."""
_PLACED: dict[str, Callable[[Thing], bool]] = {
    "left": lambda thing: thing.x < NEAR,
    "right": lambda thing: thing.x > FAR,
    "top": lambda thing: thing.y < NEAR,
    "bottom": lambda thing: thing.y > FAR,
    "centre": lambda thing: abs(thing.x - 64) < 16 and abs(thing.y - 64) < 16,
}


def verdict(scene: Scene, sight: Sight) -> dict[str, bool]:
    """Return each point of the scene, and whether it holds; `all` is their conjunction.

    Raises `ValueError` for a motif, which does not consist of groups.
    """
    if not scene.groups:
        raise ValueError("motifs are not judged")
    points = {
        "background": _same_backdrop(scene, sight),
        "colour": _colours(scene, sight),
        "shape": _shapes(scene, sight),
        "count": len(sight.things) == sum(group.count for group in scene.groups),
    }
    if scene.groups[0].size:
        points["size"] = all(_sized(scene.groups[0].size, thing) for thing in sight.things)
    if place := scene.groups[0].place:
        points["position"] = bool(sight.things) and all(
            _PLACED[word](thing) for word in place.split() for thing in sight.things
        )
    if scene.relation:
        points["relation"] = _related(scene, sight)
    return points | {"all": all(points.values())}


def _same_backdrop(scene: Scene, sight: Sight) -> bool:
    asked, seen = scene.backdrop, sight.backdrop
    if asked.kind != seen.kind:
        return False
    if asked.kind in ("plain", "gradient"):
        return asked.colours == seen.colours
    return set(asked.colours) == set(seen.colours)


def _colours(scene: Scene, sight: Sight) -> bool:
    asked = {group.colour for group in scene.groups}
    return {thing.colour for thing in sight.things} == asked


def _shapes(scene: Scene, sight: Sight) -> bool:
    """Whether all things have the requested shape.

    Of two groups each thing matches its own colour.
    """
    by_colour = {group.colour: group.shape for group in scene.groups}
    if len(scene.groups) == 1:
        shapes = {thing.shape for thing in sight.things}
        return shapes == {scene.groups[0].shape}
    found = {(thing.colour, thing.shape) for thing in sight.things if thing.colour in by_colour}
    return found == set(by_colour.items())


def _sized(size: str, thing: Thing) -> bool:
    return thing.side < SMALL_PX if size == "small" else thing.side > LARGE_PX


def _related(scene: Scene, sight: Sight) -> bool:
    first, second = (_only(group, sight) for group in scene.groups)
    if first is None or second is None:
        return False
    dx, dy = second.x - first.x, second.y - first.y
    return {
        "left of": dx > abs(dy),
        "right of": -dx > abs(dy),
        "above": dy > abs(dx),
        "below": -dy > abs(dx),
        "inside": max(abs(dx), abs(dy)) < 14 and first.side < 0.7 * second.side,
    }[scene.relation]


def _only(group: Group, sight: Sight) -> Thing | None:
    """Return the one thing of the group's colour, if there is exactly one."""
    found = [thing for thing in sight.things if thing.colour == group.colour]
    return found[0] if len(found) == 1 else None
