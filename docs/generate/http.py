"""The page on HTTP, and `openapi.json`: every route with its parameters and answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from app.api.application import create_app
from app.config.settings import Settings
from docs.generate.markdown import notice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENVIRONMENT = {
    "RENDERFARM_DATABASE_URL": "postgresql://farm@localhost/farm",
    "RENDERFARM_BROKER_URL": "redis://localhost/0",
    "RENDERFARM_SERVE": "null",
}
"""Just enough to build the API. Building it connects to nothing."""
HEAD = """# HTTP

The farm's API, as its own [OpenAPI document](openapi.json) describes it. A running farm shows the
document at `/openapi.json` and as pages at `/docs`.

- Calls under `/v1` need a key: `Authorization: Bearer rf_...`.
- Bodies are JSON in UTF-8. An error is `application/problem+json` with a stable `code`: see
  [Errors](errors.md).
- `Idempotency-Key` makes it safe to send `POST /v1/jobs` again.
- `GET /v1/jobs/{id}?wait=30` holds the answer until the job has ended, 30 s at most.
"""


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the API."""
    return create_app(Settings.from_environment(ENVIRONMENT)).openapi()


def document() -> str:
    """Return the content of `openapi.json`."""
    return json.dumps(openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def page() -> str:
    """Return the whole page as Markdown."""
    groups: dict[str, list[str]] = {}
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            (tag, *_) = operation.get("tags") or ["other"]
            groups.setdefault(tag, []).append("".join(_operation(method.upper(), path, operation)))
    return HEAD.replace("\n", "\n\n" + notice("http"), 1) + "".join(
        f"\n## {tag}\n" + "".join(parts) for tag, parts in groups.items()
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### {method} {path}\n\n"
    yield f"{(operation.get('description') or operation['summary']).strip()}\n"
    if parameters := operation.get("parameters"):
        yield "\n| parameter | in | type | default |\n|---|---|---|---|\n"
        for each in parameters:
            schema = each.get("schema", {})
            name = f"`{each['name']}`" + (" (required)" if each.get("required") else "")
            yield f"| {name} | {each['in']} | {_type(schema)} | {_default(schema)} |\n"
    statuses = ", ".join(f"`{status}`" for status in operation["responses"])
    yield f"\nAnswers: {statuses}.\n"


def _type(schema: Mapping[str, Any]) -> str:
    """Return a JSON Schema's type in a few words."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    words = str(schema.get("format") or schema.get("type", "any"))
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", "length ≤"))
        if key in schema
    ]
    return " ".join([words, *bounds])


def _default(schema: Mapping[str, Any]) -> str:
    return f"`{schema['default']}`" if schema.get("default") not in (None, "") else ""
