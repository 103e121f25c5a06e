"""W3C Trace Context (distributed tracing): connects a job and its webhooks to the request's trace.

See https://www.w3.org/TR/trace-context/#traceparent-header. The farm passes the header on and adds
no span.
"""

from __future__ import annotations

import re

NAME = "traceparent"
"""The name of the HTTP header, and of the attribute of a queue message."""

_FORMAT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)


def read(text: str | None) -> str | None:
    """The traceparent, or none if it is invalid (the specification says to ignore it)."""
    return text if text is not None and _FORMAT.fullmatch(text) else None
