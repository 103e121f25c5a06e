"""Reading RENDERFARM_SOURCES."""

from __future__ import annotations

import json
import re

import pytest

from app.config.repository import REPOSITORY
from app.config.sources import Source, read_sources
from app.errors import SettingsError

URL = "redis://user:hunter2@host:6379/0?stream=jobs&lease_s=30"


def test_sources_are_read_in_order() -> None:
    """Sources keep their order and have defaults; an empty setting has no source."""
    entries = [
        {"url": URL, "tenant": "ann"},
        {"url": "sqs://eu-central-1/q", "tenant": "ben", "model": "scenes", "priority": -5},
    ]
    assert read_sources(json.dumps(entries)) == (
        Source(URL, "ann"),
        Source("sqs://eu-central-1/q", "ben", "scenes", -5),
    )
    assert read_sources("") == ()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "redis://host:6379/0?stream=jobs"),
        ("sqs://eu-central-1/q.fifo?lease_s=5", "sqs://eu-central-1/q.fifo"),
        ("pubsub://p/t?subscription=s&ahead=9", "pubsub://p/t?subscription=s"),
        ("memory://q", "memory://q"),
    ],
)
def test_a_source_is_named_without_secrets(url: str, name: str) -> None:
    """A source's name identifies the queue, without its password and its tuning options."""
    assert Source(url, "ann").name == name
    assert "hunter2" not in repr(Source(url, "ann"))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "7",
        "[7]",
        "[{}]",
        '[{"url": "sqs://r/q"}]',
        '[{"url": "sqs://r/q", "tenant": ""}]',
        '[{"url": "sqs://r/q", "tenant": 7}]',
        '[{"url": "kafka://r/q", "tenant": "a"}]',
        '[{"url": "redis://[", "tenant": "a"}]',
        '[{"url": "sqs://r/q", "tenant": "a", "model": 7}]',
        '[{"url": "sqs://r/q", "tenant": "a", "priority": "high"}]',
        '[{"url": "sqs://r/q", "tenant": "a", "priority": true}]',
        '[{"url": "sqs://r/q", "tenant": "a", "priority": 101}]',
        '[{"url": "sqs://r/q", "tenant": "a", "name": "x"}]',
        '[{"url": "sqs://r/q", "tenant": "a"}, {"url": "sqs://r/q?lease_s=5", "tenant": "b"}]',
    ],
)
def test_a_bad_source_names_the_variable(text: str) -> None:
    """Every wrong entry is an error that names the variable."""
    with pytest.raises(SettingsError, match="RENDERFARM_SOURCES"):
        read_sources(text)


def test_an_error_shows_no_password() -> None:
    """An error names an entry by its position, not by its URL."""
    with pytest.raises(SettingsError) as caught:
        read_sources(json.dumps([{"url": URL.replace("redis", "amqp"), "tenant": "a"}]))
    assert "hunter2" not in str(caught.value)


def test_the_pages_example_is_read() -> None:
    """The example on the page about intake is a valid setting."""
    page = (REPOSITORY / "docs" / "howto" / "run-intake.md").read_text()
    (shown,) = re.findall(r"RENDERFARM_SOURCES='(.*?)'", page, re.DOTALL)
    assert [source.tenant for source in read_sources(shown)] == ["shop", "news"]
