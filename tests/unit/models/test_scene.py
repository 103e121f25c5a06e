"""Scenes are sampled from the whole vocabulary and keep what is held out apart."""

from __future__ import annotations

import random
from collections import Counter

from models.scenes.scene import (
    BACKDROPS,
    COLOURS,
    FULL,
    LESSONS,
    MOTIFS,
    NEUTRAL,
    PLACES,
    RELATIONS,
    SHAPES,
    SINGLE,
    VIEWED,
    Group,
    Mix,
    Scene,
    held_out,
    sample_scene,
)


def scenes(count: int, mix: Mix = FULL, *, unseen: bool = False) -> list[Scene]:
    """Scenes from one seed."""
    rng = random.Random(1)
    return [sample_scene(rng, mix, unseen=unseen) for _ in range(count)]


def test_training_never_sees_a_held_out_group() -> None:
    """No scene for training holds a held-out colour, shape and count."""
    assert not any(held_out(group) for scene in scenes(2000) for group in scene.groups)


def test_unseen_scenes_hold_a_held_out_group() -> None:
    """Every scene asked for as unseen holds one."""
    assert all(any(map(held_out, scene.groups)) for scene in scenes(200, unseen=True))


def test_every_colour_and_shape_is_learned_with_every_count() -> None:
    """What is held out leaves each colour, and each shape, with each count to learn from."""
    for count in (1, 2, 3, 4):
        seen = [(c, s) for c in COLOURS for s in SHAPES if not held_out(Group(c, s, count))]
        assert {colour for colour, _ in seen} == set(COLOURS)
        assert {shape for _, shape in seen} == set(SHAPES)


def test_the_whole_vocabulary_is_drawn() -> None:
    """Every word of the vocabulary turns up."""
    many = scenes(4000)
    groups = [group for scene in many for group in scene.groups]
    assert {scene.backdrop.kind for scene in many} == set(BACKDROPS)
    assert {scene.relation for scene in many} == {"", *RELATIONS}
    assert {scene.motif for scene in many} == {"", *MOTIFS}
    assert {group.place for group in groups} == {"", *PLACES}
    assert {group.count for group in groups} == {1, 2, 3, 4}


def test_nothing_is_hidden_by_its_backdrop() -> None:
    """A thing's colour is never one of the backdrop's."""
    assert not any(
        group.colour in scene.backdrop.colours for scene in scenes(2000) for group in scene.groups
    )


def test_the_first_stage_is_single_things() -> None:
    """The curriculum's first stage shows one thing on a plain backdrop."""
    found = Counter(
        (len(scene.groups), scene.groups[0].count, scene.backdrop.kind)
        for scene in scenes(300, mix=SINGLE)
    )
    assert found == {(1, 1, "plain"): 300}


def test_stripes_and_checks_are_of_a_neutral_colour_and_another() -> None:
    """White or black is one of the two, and no thing has it."""
    patterned = [
        scene for scene in scenes(2000) if scene.backdrop.kind not in ("plain", "gradient")
    ]
    assert len(patterned) > 100
    assert all(set(NEUTRAL) & set(scene.backdrop.colours) for scene in patterned)
    assert all(len(set(scene.backdrop.colours)) == 2 for scene in patterned)


def test_lessons_are_of_single_things_more_often() -> None:
    """Half of what is counted in the lessons is one thing, of what is asked for a quarter."""

    def share(mix: Mix) -> float:
        groups = [s.groups[0] for s in scenes(2000, mix) if len(s.groups) == 1]
        counted = [group for group in groups if not group.place]
        return sum(group.count == 1 for group in counted) / len(counted)

    assert 0.45 < share(LESSONS) < 0.55
    assert 0.2 < share(FULL) < 0.3


def test_lessons_have_one_thing_inside_another_more_often() -> None:
    """A third of the lessons' pairs, of what is asked for a sixth."""

    def share(mix: Mix) -> float:
        pairs = [scene for scene in scenes(2000, mix) if len(scene.groups) == 2]
        return sum(scene.relation == "inside" for scene in pairs) / len(pairs)

    assert 0.3 < share(LESSONS) < 0.4
    assert 0.12 < share(FULL) < 0.22


def test_the_autoencoder_is_taught_gradients() -> None:
    """A sixth of its pictures have one, and every other pattern is still there."""
    kinds = Counter(scene.backdrop.kind for scene in scenes(2000, VIEWED) if not scene.motif)
    assert set(kinds) == set(BACKDROPS)
    assert 0.13 < kinds["gradient"] / kinds.total() < 0.21


def test_lessons_show_some_shapes_more_often() -> None:
    """A star, hard to draw small, comes three times as often as a square."""
    shapes = Counter(
        scene.groups[0].shape for scene in scenes(4000, LESSONS) if len(scene.groups) == 1
    )
    assert 2.3 < shapes["star"] / shapes["square"] < 4
    assert set(shapes) == set(SHAPES)
