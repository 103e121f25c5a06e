"""The base of the control plane's errors."""

from __future__ import annotations

import pytest

from app.errors import FieldError, InvalidRequest, first_line, summary


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one"), "one"),
        (ValueError("\n one \ntwo"), "one "),
        (ValueError(""), ""),
        (ValueError("  "), ""),
        (None, ""),
    ],
)
def test_a_log_event_gets_the_first_line_of_an_error(error: Exception | None, line: str) -> None:
    """The first line that is not blank is the cause; an error without a message gives none."""
    assert first_line(error) == line
    assert error is None or summary(error) == f"ValueError: {line}"


def test_an_error_in_a_list_names_its_place() -> None:
    """The place in the list comes before the message and before each field."""
    error = InvalidRequest("seed is wrong", (FieldError("seed", "is wrong"),)).within("jobs.3")
    assert (error.detail, error.fields) == (
        "jobs.3: seed is wrong", (FieldError("jobs.3.seed", "is wrong"),),
    )  # fmt: skip
