"""`docs/reference/registry.md`: every key of `models.toml`, from `app.catalog`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic.fields import FieldInfo

from app.catalog.entries import COMPILED, Defaults, Limits, Speed
from app.catalog.form import EntryForm
from app.catalog.load import RENAMED_SPEED
from app.catalog.revision import NO_EFFECT
from docs.generate import fields
from docs.generate.markdown import code, notice, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INTRODUCTION = """# The registry of models

`models.toml` (or the file of `RENDERFARM_MODELS`) has a table for each model: `[NAME]`, with the
tables `[NAME.defaults]`, `[NAME.limits]`, `[NAME.speed]`, `[NAME.loras]` and `[NAME.controlnets]`.
An entry needs a `path`; every other key may be left out. Folders are relative to the file.

The API, intake and workers read the file when they start, and `renderfarm doctor` checks it. They
serve the entries that `RENDERFARM_SERVE` names; if it is not set, all but those of the `null`
pipeline. If an entry that is served has a problem, the process does not start. It prints a line for
each problem with the file, the entry and the key:

```text
models/models.toml, [scenes]: speed.compile must be "blocks", "whole", true or false, not 'all'
models/models.toml, [scenes]: limits.max_step is not a known key; did you mean max_steps?
```

Numbers are finite. A whole number may stand for a number with a point; `true` may not stand for 1.
"""
DEFAULTS = {"schedulers": "all of them", "compile": "`false`", "attention": "diffusers' own"}
EXAMPLE = """## Example

```toml
[portraits]
path = "portraits"
description = "Portraits in oil. 1024x1024."
schedulers = ["euler", "dpmpp_2m"]

[portraits.defaults]
width = 1024
height = 1024
num_inference_steps = 28
scheduler = "euler"

[portraits.limits]
max_width = 1536
max_height = 1536
max_images = 4

[portraits.loras]
ink = "portraits-ink"

[portraits.speed]
dtype = "bfloat16"
compile = "blocks"
```
"""
SPEED = """`renderfarm doctor --tune NAME` measures which values are best on a device and writes them:
[Run models fast](../howto/tune-models.md). Where *revision* is yes, another value gives the model
another revision, because it may change a pixel.
"""


HEADER: tuple[str, ...] = ("key", "meaning", "type", "default", "example")
SECTIONS: dict[str, tuple[type[Any], str]] = {
    "defaults": (
        Defaults,
        "The values of fields that a request leaves out. They must be within the limits.\n",
    ),
    "limits": (Limits, "Requests outside of the limits are refused with `invalid_request`.\n"),
    "speed": (Speed, SPEED),
}
OLD_NAMES = """## Old names

Old names of keys are still read. Each is named once in the log (`setting_renamed`). An entry with
both names is refused.

"""


def page() -> str:
    """The page as the code gives it now."""
    keys = {name: field for name, field in EntryForm.model_fields.items() if name not in SECTIONS}
    parts = [
        notice("registry"),
        INTRODUCTION,
        EXAMPLE,
        f"## [NAME]\n\n{table(HEADER, _rows(keys))}",
    ]
    for name, (kind, about) in SECTIONS.items():
        rows, header = list(_rows(dict(_fields(kind)))), HEADER
        if kind is Speed:
            rows, header = [(*row, _revision(row[0])) for row in rows], (*HEADER, "revision")
        parts.append(f"## [NAME.{name}]\n\n{about}\n{table(header, rows)}")
    renamed = [(code(f"speed.{old}"), code(f"speed.{new}")) for old, new in RENAMED_SPEED.items()]
    parts.append(OLD_NAMES + table(("old", "new"), renamed))
    return "\n".join(parts)


def _fields(kind: type[Any]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a dataclass, each with its default."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name in kind.__dataclass_fields__:
            default = kind.__dataclass_fields__[name].default
            yield name, FieldInfo.from_annotated_attribute(hint, default)


def _rows(known: Mapping[str, FieldInfo]) -> Iterator[tuple[str, ...]]:
    """A row for each key."""
    for name, field in known.items():
        values = fields.values(field)
        if name == "compile":
            values = ", ".join([*(code(each) for each in COMPILED if each), "`true`, `false`"])
        default = DEFAULTS.get(name) or fields.default(field.default)
        example = field.examples[0] if field.examples else field.default
        yield (
            code(name),
            str(field.description),
            values,
            default,
            code(f"{name} = {_toml(example)}"),
        )


def _toml(value: Any) -> str:
    """A value in TOML, whose scalars and lists are those of JSON."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value)


def _revision(key: str) -> str:
    name = key.strip("`")
    return "its files" if name == "decoder" else "no" if name in NO_EFFECT else "yes"
