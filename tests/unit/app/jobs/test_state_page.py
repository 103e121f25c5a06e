"""The page on the state machine shows exactly the moves of the code."""

from __future__ import annotations

import re

from app.config.repository import REPOSITORY
from app.jobs.states import MOVES
from renderfarm.types import FINAL

PAGE = (REPOSITORY / "docs" / "state-machine.md").read_text()
ARROW = re.compile(r"^ *(\S+) --> (\S+)(?:: (\w+) \((\w+)\))?$", re.MULTILINE)


def test_the_diagram_has_the_moves_and_no_others() -> None:
    """Each arrow is a move with its event and actor; exactly the final states lead to the end."""
    arrows = [match.groups() for match in ARROW.finditer(PAGE)]
    ends = {before for before, after, *_ in arrows if after == "[*]"}
    moves = [
        (None if before == "[*]" else before, after, event, actor)
        for before, after, event, actor in arrows
        if after != "[*]"
    ]
    assert ends == FINAL
    assert sorted(moves, key=str) == sorted(
        ((m.before, m.after, m.event, m.actor) for m in MOVES), key=str
    )


def test_the_tables_name_every_event_and_actor() -> None:
    """The tables have a row for each event and for each actor."""
    for move in MOVES:
        assert re.search(rf"^\| `{move.event}`", PAGE, re.MULTILINE), move.event
        assert re.search(rf"^\| {move.actor} \|", PAGE, re.MULTILINE), move.actor
