"""The JSON Schema of a queue message is what intake reads."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.config.repository import REPOSITORY
from app.errors import Refused
from app.intake.schema import EXAMPLES
from app.jobs.request import QueueMessage, parse

PAGE = REPOSITORY / "docs" / "reference" / "queue-message.schema.json"
VALIDATOR = Draft202012Validator(
    json.loads(PAGE.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER
)


def test_the_page_is_made_of_the_code() -> None:
    """The page is what the program prints: after a change, run it again."""
    command = [sys.executable, "-m", "app.intake.schema"]
    made = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert PAGE.read_text() == made.stdout


def test_the_page_is_a_schema() -> None:
    """It holds to the dialect that it names."""
    Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("message", EXAMPLES)
def test_its_examples_are_good(message: dict[str, Any]) -> None:
    """Each example fits the schema, and intake reads it."""
    VALIDATOR.validate(message)
    parse(json.dumps(message).encode(), QueueMessage)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"id": None},
        {"id": "0199c1de-0000-7000-8000-000000000001"},
        {"id": "7"},
        {"id": 7},
        {"prompt": ""},
        {"prompt": " "},
        {"prompt": None},
        {"promt": "x"},
        {"width": 64},
        {"width": 0},
        {"width": "64"},
        {"width": True},
        {"width": 64.5},
        {"guidance_scale": 5},
        {"guidance_scale": 100.1},
        {"strength": 0},
        {"strength": 1},
        {"seed": 2**63},
        {"num_images": None},
        {"output_format": "gif"},
        {"priority": -101},
        {"deadline_s": 0.5},
        {"metadata": []},
        {"metadata": {"a": {"b": [1]}}},
        {"webhook": {"url": "https://x.example"}},
        {"webhook": {"events": []}},
        {"webhook": {"url": "https://x.example", "events": ["job.lost"]}},
    ],
)
def test_schema_and_intake_agree(changes: dict[str, Any]) -> None:
    """What fits the schema is read by intake, and what does not is refused by it."""
    message = {"prompt": "x", **changes}
    try:
        parse(json.dumps(message).encode(), QueueMessage)
        read = True
    except Refused:
        read = False
    assert VALIDATOR.is_valid(message) == read
