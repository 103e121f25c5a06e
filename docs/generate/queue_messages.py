"""The page on queue messages: every field of the form that intake reads, with its limits."""

from __future__ import annotations

import ast
import inspect
import itertools
from typing import TYPE_CHECKING, Any

import renderfarm.request
from app.intake.schema import queue_message
from docs.generate.markdown import notice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEAD = """# Queue messages

A message on a queue is the body of `POST /v1/jobs` and, optionally, the job's `id`: JSON in UTF-8,
at most 256 KiB. [The JSON Schema](queue-message.schema.json) (2020-12) is the same as this page.
The model's own limits come on top; `GET /v1/models` shows them. An unknown field is refused.

| field | type | limits | meaning |
|---|---|---|---|
"""
BOUNDS = (
    ("minimum", "≥ {}"), ("maximum", "≤ {}"), ("exclusiveMinimum", "> {}"),
    ("exclusiveMaximum", "< {}"), ("minLength", "length ≥ {}"), ("maxLength", "length ≤ {}"),
    ("minItems", "items ≥ {}"), ("maxItems", "items ≤ {}"), ("pattern", "pattern `{}`"),
)  # fmt: skip


def page() -> str:
    """Return the whole page as Markdown."""
    schema = queue_message()
    parts = [HEAD.replace("\n", "\n\n" + notice("queue_messages"), 1), *_rows(schema, _meanings())]
    for name, part in schema.get("$defs", {}).items():
        parts.append(f"\n## {name}\n\n| field | type | limits | meaning |\n|---|---|---|---|\n")
        parts.extend(_rows(part, {}))
    return "".join(parts)


def _meanings() -> dict[str, str]:
    """Return what the SDK's docstrings say of each field."""
    found = {"id": "the job's id, a UUID; the same id again is the same job"}
    for kind in ast.parse(inspect.getsource(renderfarm.request)).body:
        body = kind.body if isinstance(kind, ast.ClassDef) else []
        for field, after in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                words = after.value if isinstance(after, ast.Expr) else None
                if isinstance(words, ast.Constant):
                    found[field.target.id] = inspect.cleandoc(str(words.value))
    return found


def _rows(schema: Mapping[str, Any], meanings: Mapping[str, str]) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        kinds = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
        limits = "; ".join(filter(None, (_limits(each) for each in kinds)))
        label = f"`{name}`" + (" (required)" if name in required else "")
        words = meanings.get(name) or field.get("description", "")
        meaning = words.replace("\n", " ").replace("|", "\\|")
        yield f"| {label} | {' or '.join(map(_type, kinds))} | {limits} | {meaning} |\n"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type", "any"))


def _limits(schema: Mapping[str, Any]) -> str:
    found = [words.format(schema[key]) for key, words in BOUNDS if key in schema]
    return ", ".join(each.replace("|", "\\|") for each in found)
