"""Fixture: one farm for the tests that only use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.farms import Up, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A farm with the models `scenes` and `null`, for the whole test run."""
    directory = tmp_path_factory.mktemp("farm")
    with running(directory, "--models=scenes,null", "--slots=32") as started:
        yield started
