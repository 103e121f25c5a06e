"""The public package: its imports, names and errors."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import renderfarm
from renderfarm import errors
from renderfarm.types import Job


def test_words_cost_no_http() -> None:
    """Importing types and webhooks loads neither httpx nor another third-party package."""
    code = (
        "import sys, renderfarm, renderfarm.types, renderfarm.webhooks\n"
        "outside = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "assert 'httpx' not in outside, outside\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    """Each name of `__all__` can be imported; an unknown name raises AttributeError."""
    assert all(getattr(renderfarm, name) for name in renderfarm.__all__)
    with pytest.raises(AttributeError, match="Fram"):
        renderfarm.Fram  # noqa: B018


def test_errors_are_one_tree() -> None:
    """Every error of the package can be caught by its base."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    raised = [each for each in kinds if issubclass(each, Exception)]
    assert len(raised) > 15
    assert all(issubclass(each, errors.RenderfarmError) for each in raised)


def test_errors_travel_between_processes() -> None:
    """Errors keep their fields through pickling, which task queues need."""
    job = Job.from_json({"id": "1", "status": "failed", "error": {"code": "c", "message": "m"}})
    refused = errors.InvalidRequest(422, "c", "d", (errors.FieldError("width", "odd"),))
    for error in (refused, errors.JobFailed(job), errors.WaitTimeout(job, 3.0)):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert (str(again), vars(again)) == (str(error), vars(error))
