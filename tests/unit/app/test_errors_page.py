"""The page of errors lists every error code of the farm, and no other."""

from __future__ import annotations

import ast
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import app.api.application
import app.intake.replay  # noqa: F401 - defines a refusal
from app.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text()
REFUSED, FAILED = PAGE.split("## A job fails")
RAISED = {"BadRequest", "Failure", "RenderFailed"}


def codes(text: str) -> set[str]:
    """The codes in the first column of the tables."""
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def refusals(kind: type[Refused] = Refused) -> Iterator[type[Refused]]:
    """The class and all of its subclasses."""
    yield kind
    for one in kind.__subclasses__():
        yield from refusals(one)


def raised() -> set[str]:
    """The error codes of jobs, read from the source of the workers."""
    found: set[str] = set()
    for file in (ROOT / "workers").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_the_page_lists_every_refusal_with_its_status() -> None:
    """The page has the code and status of each subclass of `Refused` and of unexpected errors."""
    known = {(one.code, int(one.status)) for one in refusals() if "code" in vars(one)}
    known |= {("internal_error", 500), ("method_not_allowed", 405)}
    shown = set(re.findall(r"^\| `(\w+)` \| (\d+) \|", REFUSED, re.MULTILINE))
    assert {(code, int(status)) for code, status in shown} == known
    assert all(HTTPStatus(status) for _, status in known)


def test_the_page_lists_every_error_code_of_a_job() -> None:
    """The page has the codes that workers raise, the engine derives, and the reaper writes."""
    faults = ast.parse((ROOT / "workers" / "engine" / "faults.py").read_text())
    (code,) = (n for n in faults.body if isinstance(n, ast.FunctionDef) and n.name == "code")
    named = {
        node.value
        for statement in code.body[1:]
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant)
    }
    lost = set(re.findall(r"'code', '(\w+)'", (ROOT / "app/jobs/statements.py").read_text()))
    assert codes(FAILED) == raised() | named | lost
