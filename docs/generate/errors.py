"""The page on errors: refused requests from the tree of `Refused`, and why a job fails."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import app.api.application  # each module that declares a refusal must be loaded
import app.intake.replay  # noqa: F401 - likewise
from app.errors import Refused
from docs.generate.markdown import notice

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """# Errors

Each error has a `code` that stays the same from version to version. Its text is for people and may
change. This page is generated from the code, and a test compares them.

## A request is refused

The farm stores nothing. The body is a problem (RFC 9457), `application/problem+json`, with `code`,
`detail` and, for wrong fields, `fields`: the name of each one and what is wrong with it. In the SDK
it is an exception. A queue message that cannot become a job goes to the rejects, with its reason; a
message over a limit waits.

| code | status | what it means | try again? |
|---|---|---|---|
"""
MIDDLE = """
## A job fails

The job's state is `failed`, and `error` has the code and a message. "Retried" says whether the farm
has tried again by itself before it gave up: after 1, 2, 4 ... seconds, and
`RENDERFARM_MAX_FAILURES` (3) attempts in all.

| code | what it means | retried |
|---|---|---|
"""
TAIL = """
A job whose deadline passed is `expired`, and a job that somebody cancelled is `cancelled`. Neither
has an error.
"""
UNTYPED = {
    "internal_error": (500, "a bug of the farm; the API's log has more"),
    "method_not_allowed": (405, "the path is right, the method is not"),
}
"""Refusals that no class declares: an exception that nothing expects, and the router's own."""
AGAIN = {
    "bad_signature": "with a new URL",
    "over_quota": "after `Retry-After`",
    "unavailable": "after `Retry-After`",
    "internal_error": "yes, with an idempotency key",
}
FAILURES = {
    "out_of_memory": ("the picture did not fit, not even alone in its forward pass: request a smaller one, or fewer", "yes"),
    "not_finite": ("the model's output holds a NaN or an infinity; often because of too much guidance, or of fp16", "no"),
    "render_failed": ("the pipeline raised an exception; the message is the pipeline's own", "no"),
    "bad_image": ("`image`, `mask` or `control_image` is not a picture or is too large, was never uploaded, or its URL is forbidden or answers with an error", "no"),
    "input_unavailable": ("the server of an input picture does not answer", "yes"),
    "content_rejected": ("the farm's moderation rejected the picture", "no"),
    "unusable_lora": ("the LoRA changes text encoders, which all jobs share", "no"),
    "unsupported_task": ("the model cannot start from pictures, or cannot inpaint", "no"),
    "unknown_scheduler": ("the model's family does not work with this scheduler, such as a Flux model with `dpmpp_2m`", "no"),
    "unknown_model": ("the worker does not have the model: its registry differs from the API's", "no"),
    "unknown_lora": ("the worker does not have the LoRA: its registry differs from the API's", "no"),
    "unknown_controlnet": ("the worker does not have the ControlNet: its registry differs from the API's", "no"),
    "bad_size": ("the model cannot draw this size; the message names the field", "no"),
    "bad_steps": ("the scheduler cannot do this number of steps", "no"),
    "out_of_range": ("the model or the scheduler refuses a value that the API could not check; the message names the field", "no"),
    "missing_field": ("the model needs a field that the request leaves out; the message names it", "no"),
    "duplicate_id": ("the attempt is on this device already", "no"),
    "worker_lost": ("`RENDERFARM_MAX_CRASHES` (3) workers, or their devices, were lost while they rendered this job; from the second on it ran exclusively", "at once"),
    "internal_error": ("a bug of the farm; the worker's log has more", "yes"),
}  # fmt: skip
"""Why a job fails, and whether the farm retries. A test compares the codes with what is raised."""


def page() -> str:
    """Return the whole page as Markdown."""
    failures = "".join(
        f"| `{code}` | {meaning} | {retried} |\n" for code, (meaning, retried) in FAILURES.items()
    )
    return (
        HEAD.replace("\n", "\n\n" + notice("errors"), 1)
        + "".join(_refusals())
        + MIDDLE
        + failures
        + TAIL
    )


def _refusals() -> Iterator[str]:
    found = dict(UNTYPED)
    for kind in _kinds(Refused):
        if "code" in vars(kind):
            found[kind.code] = (int(kind.status), _first_sentence(kind))
    for code, (status, meaning) in sorted(found.items(), key=lambda item: (item[1][0], item[0])):
        yield f"| `{code}` | {status} | {meaning} | {AGAIN.get(code, 'no')} |\n"


def _kinds(kind: type[Refused]) -> Iterator[type[Refused]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def _first_sentence(kind: type[Refused]) -> str:
    """Return what the class's docstring says first, as a cell of a table."""
    words = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    return words[0].lower() + words[1:].removesuffix(".")
