"""What pydantic knows of a field, as words for a table: its values, limits and default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le

from app.config.types import Schemes
from docs.generate.markdown import code

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "`true` or `false`"}


def plain(number: float) -> str:
    """A number without an exponent, and without a point if it is whole."""
    return str(int(number)) if number == int(number) else str(number)


def limits(field: FieldInfo) -> str:
    """The bounds of a number, such as "from 1 to 1024"; empty without any."""
    least = [each.ge for each in field.metadata if isinstance(each, Ge)]
    most = [each.le for each in field.metadata if isinstance(each, Le)]
    bounds = [plain(each[0]) for each in (least, most) if each]  # type: ignore[arg-type]
    if least and most:
        return f"from {' to '.join(bounds)}"
    return f"from {bounds[0]}" if bounds else ""


def values(field: FieldInfo) -> str:
    """The values that a field takes: choices, schemes of URLs, or a type."""
    kind = field.annotation
    if choices := _choices(kind):
        return ", ".join(code(each) for each in choices)
    for each in field.metadata:
        if isinstance(each, Schemes):
            return ", ".join(code(f"{name}://") for name in each.names)
    if kind == Path or kind == Path | None:
        return "a path"
    if get_origin(kind) is tuple:
        return f"a list of {', '.join(code(each) for each in _choices(get_args(kind)[0]))}"
    if get_origin(kind) is dict:
        return "names and folders"
    return f"{KINDS[kind]} {limits(field)}".rstrip() if kind in KINDS else ""


def default(value: Any) -> str:
    """A default as users write it."""
    if value is None or value in ("", (), {}):
        return "not set"
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(plain(value) if isinstance(value, int | float) else value)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()
