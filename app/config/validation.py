"""Validation errors of pydantic as sentences that name the setting and its problem.

Pydantic reports every error of an input at once. A message repeats a wrong value only where the
caller allows it, because URLs carry passwords.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

Location: TypeAlias = tuple[int | str, ...]
"""The keys and the positions that lead to a wrong value."""
SHOWN_CHARS = 80
"""A message repeats at most this much of a wrong value."""
_SENTENCES = {
    "missing": "is missing",
    "value_error": "{error}",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}
_TABLE = "must be a table of names and values"
_SENTENCES_WITH_VALUE = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "path_type": "must be a text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dataclass_type": _TABLE,
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
}
_LIMITS = {"greater_than_equal", "less_than_equal"}
_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_FOLLOWS = {"default_factory_not_called"}
"""Errors that are only the consequence of another one, which is reported too."""


def problems(
    error: ValidationError,
    known: Callable[[Location], Collection[str]],
    *,
    shown: Callable[[Location], bool] = lambda _: True,
    tags: Collection[str] = (),
) -> Iterator[tuple[Location, str]]:
    """Yield the location of each error and the end of a sentence, such as "must be true or false".

    `known` gives the keys that the table at a location may have, for "did you mean". `shown` says
    whether the message may repeat the value at a location. `tags` are the names of a union's
    members, which pydantic adds to locations although users do not write them.
    """
    for detail in error.errors(include_url=False):
        location, kind = detail["loc"], detail["type"]
        place = tuple(key for key in location if key not in tags)
        if kind in _UNKNOWN:
            yield place, _unknown(str(location[-1]), known(location[:-1]))
        elif kind not in _FOLLOWS:
            yield place, _sentence(detail, shown=shown(location))


def dotted(location: Location) -> str:
    """Write the location as users do: `speed.compile`, `schedulers[0]`."""
    keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)
    return "".join(keys).removeprefix(".")


def _unknown(key: str, keys: Collection[str]) -> str:
    near = difflib.get_close_matches(key, keys, n=1)
    if near:
        return f"is not a known key; did you mean {near[0]}?"
    return f"is not a known key; known are {', '.join(sorted(keys))}"


def _sentence(detail: ErrorDetails, *, shown: bool) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(**context)
    if kind not in _SENTENCES_WITH_VALUE:
        return detail["msg"].replace("Input should be", "must be")
    sentence = _SENTENCES_WITH_VALUE[kind].format(**context)
    value = str(detail["input"]) if kind in _LIMITS else repr(detail["input"])
    return f"{sentence}, not {value[:SHOWN_CHARS]}" if shown else sentence
