"""Roles: the processes of a farm on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.local.roles import Roles

if TYPE_CHECKING:
    import pytest


def names() -> list[str]:
    """Return the processes of a farm with two workers."""
    programs = Roles(environment={}, api_port=1, flower_port=2, workers=2).programs()
    return [program.name for program in programs]


def test_intake_runs_where_there_are_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` starts an intake only if there are queues to read."""
    monkeypatch.delenv("RENDERFARM_SOURCES", raising=False)
    without = names()
    assert without == ["api", "dispatcher", "courier", "worker-1", "worker-2", "flower"]
    monkeypatch.setenv("RENDERFARM_SOURCES", '[{"url": "sqs://r/q", "tenant": "default"}]')
    assert [name for name in names() if name not in without] == ["intake"]
