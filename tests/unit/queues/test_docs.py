"""The examples in the pages about queues are correct."""

from __future__ import annotations

import json
import re
from pathlib import Path
from uuid import UUID

import pytest

from renderfarm.queues import open_queue

DOCS = Path(__file__).resolve().parents[3] / "docs"
REFERENCE = DOCS / "reference" / "queues.md"
PAGES = [REFERENCE, *sorted(DOCS.glob("howto/submit-from-*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_examples_of_the_reference_run() -> None:
    """The reference's examples send four messages and settle them all."""
    names: dict[str, object] = {}
    for block in blocks(REFERENCE, "python"):
        exec(compile(block, str(REFERENCE), "exec"), names)  # noqa: S102
    assert UUID(str(names["job_id"]))
    with open_queue("memory://renders") as queue:
        assert queue.receive() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_urls_open(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open_queue` accepts each URL that a page shows in code."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code = "".join(blocks(page, "python") + blocks(page, "sh"))
    urls = re.findall(r'"((?:sqs|pubsub|servicebus|redis|memory)://[^"]+)"', code)
    assert urls
    for url in urls:
        open_queue(url).close()


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_the_messages_are_good(page: Path) -> None:
    """The JSON in a page's command line is a message with a UUID and a prompt."""
    (body,) = re.findall(r"'(\{\"id\".*?\})'", "".join(blocks(page, "sh")))
    message = json.loads(body)
    assert UUID(message["id"]).version == 7
    assert set(message) == {"id", "prompt"}
