"""The page of errors names each code that the farm can answer with, and no other."""

from __future__ import annotations

import ast
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import app.api.application
import app.intake.replay  # noqa: F401 - likewise
from app.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text()
REFUSED, FAILED = PAGE.split("## A job fails")
RAISED = {"BadRequest", "Failure", "RenderFailed"}


def codes(text: str) -> set[str]:
    """Read the codes in the first column."""
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def refusals(kind: type[Refused] = Refused) -> Iterator[type[Refused]]:
    """Give the class and all those that are made of it."""
    yield kind
    for one in kind.__subclasses__():
        yield from refusals(one)


def raised() -> set[str]:
    """Read off the workers' code with what codes a job can fail."""
    found = set()
    for file in (ROOT / "workers").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED and node.args:
                first = node.args[0]
                found |= {first.value} if isinstance(first, ast.Constant) else set()
    return found


def test_every_refusal_is_there_with_its_status():
    """Whatever is derived from `Refused`, by code and status, and what is answered to a bug."""
    known = {(one.code, int(one.status)) for one in refusals() if "code" in vars(one)}
    known |= {("internal_error", 500), ("method_not_allowed", 405)}
    shown = set(re.findall(r"^\| `(\w+)` \| (\d+) \|", REFUSED, re.MULTILINE))
    assert {(code, int(status)) for code, status in shown} == known
    assert all(HTTPStatus(status) for _, status in known)


def test_every_way_to_fail_is_there():
    """What workers raise, what the engine makes of any exception, and what the reaper writes."""
    faults = ast.parse((ROOT / "workers" / "engine" / "faults.py").read_text())
    (code,) = (node for node in faults.body if getattr(node, "name", "") == "code")
    named = {
        node.value
        for statement in code.body[1:]
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant)
    }
    lost = set(re.findall(r"'code', '(\w+)'", (ROOT / "app/jobs/statements.py").read_text()))
    assert codes(FAILED) == raised() | named | lost
