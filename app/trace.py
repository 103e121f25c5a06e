"""W3C Trace Context: the header that ties a job, and its webhooks, to what asked for it.

See https://www.w3.org/TR/trace-context/#traceparent-header. The farm carries it and adds no span.
"""

from __future__ import annotations

import re

NAME = "traceparent"
"""What it is called as an HTTP header and as an attribute of a queue message."""

_FORM = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)


def read(text: str | None) -> str | None:
    """The traceparent, or none for what is not one: the specification says to go on without it."""
    return text if text is not None and _FORM.fullmatch(text) else None
