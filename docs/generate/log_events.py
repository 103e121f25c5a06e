"""The page on log events: every event that the farm's processes log, read off the code."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.repository import REPOSITORY
from docs.generate.markdown import notice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
HEAD = """# Log events

One line per event, on standard error: the level, the event's name, then its fields. Names and
fields are stable; texts in `cause` come from libraries. `exception` is an error with a traceback.

| event | level | logged by | fields | meaning |
|---|---|---|---|---|
"""
MEANINGS = {
    "acknowledge_failed": "a message could not be acknowledged; it comes again as a repeat",
    "attempt_cancelled": "the job left the engine before its end: cancelled, or taken back",
    "attempt_superseded": "the job was cancelled, or another attempt has it; this result is dropped",
    "capture_failed: the forward runs uncaptured: %s": "CUDA graphs: this size runs without a graph",
    "checkpoint_not_deleted": "a used checkpoint stays in the store; the janitor deletes it",
    "checkpoint_not_saved": "the next attempt starts from the beginning",
    "checkpoint_rejected": "a checkpoint of another request or revision; the job starts again",
    "checkpoint_unavailable": "a checkpoint could not be read; the job starts again",
    "courier_started": "the courier delivers webhooks",
    "courier_stopped": "the courier has ended after its deliveries in flight",
    "database_unavailable": "Postgres does not answer; the process tries again",
    "dead_letter_failed": "a rejected message could not be moved to the dead-letter queue",
    "defer_failed": "a rejected message could not be hidden in its queue",
    "deletion_failed": "the store did not delete objects; the next sweep tries again",
    "delivery_not_recorded": "the result of a delivery is not in the database; it is sent again",
    "delivery_tried": "one try of a webhook, with its outcome",
    "delivery_unsendable": "a webhook could not be composed; it counts as a failed try",
    "dependency_unavailable": "Postgres, Redis or the store does not answer; the process tries again",
    "device_lost": "the device has failed; the worker ends, and its jobs run exclusively next",
    "device_stuck": "the device has stood still for `RENDERFARM_WATCHDOG_S`; the worker ends",
    "dispatcher_started": "the dispatcher runs; it may lead or wait",
    "dispatcher_stopped": "the dispatcher has ended",
    "endpoint_disabled": "an endpoint answered 410, or failed for days; it receives nothing more",
    "hand_back_failed": "messages in flight could not be handed back; they come again later",
    "heartbeat_failed": "the worker could not record its heartbeat",
    "images_expired": "retention: images or jobs of tenants were deleted",
    "intake_started": "intake reads these sources",
    "intake_stopped": "intake has ended",
    "job_failed": "the job has failed; `code` and `cause` say why",
    "job_postponed": "the store was unavailable; the job waits, at no cost",
    "job_retried": "the attempt failed; another one follows",
    "job_succeeded": "the job's images are stored and recorded",
    "jobs_expired": "jobs ended because their deadline passed",
    "jobs_rescued": "jobs were taken back from lost workers",
    "leader_elected": "this dispatcher leads from now on",
    "lease_extension_failed": "leases of queue messages could not be extended",
    "leases_extended": "leases of queue messages were extended",
    "listener_reconnecting": "the connection for notifications broke; polling goes on",
    "message_rejected": "a queue message cannot become a job",
    "message_unreadable": "a message made the program fail; it is rejected, please report it",
    "messages_accepted": "a batch of messages is committed and acknowledged",
    "messages_handed_back": "intake stops: messages in flight go back to their queue",
    "notification_failed": "a notification was not sent; waiting processes poll",
    "orphans_deleted": "a sweep has deleted objects that no row names",
    "preview_failed": "a preview could not be made",
    "previews_unavailable": "the broker does not answer; there are no previews meanwhile",
    "renewal_failed": "leases of jobs could not be renewed; the next round tries again",
    "renewal_gap_detected": "the database or the reaper stood still; rescues wait for renewals",
    "setting_renamed": "a setting or registry key is given by its old name",
    "silent_leader_terminated": "the leader was silent; its connection and its lock are ended",
    "source_full": "the tenant's queue is full; intake receives nothing meanwhile",
    "source_reading": "intake receives messages of this source",
    "source_waiting": "the queue, the database or the tenant is missing; intake tries again",
    "store_unavailable": "the object store does not answer; the slot keeps its pictures",
    "unexpected_error": "a bug; the traceback follows, please report it",
    "unregister_failed": "a stopping worker could not remove itself from the registry",
    "worker_draining": "a stopping worker hands its jobs back",
    "worker_ready": "the worker has loaded its models and takes jobs",
    "worker_removed": "a worker was silent for long and left the registry",
    "worker_stopped": "the worker has ended",
}
"""What each event means. `page` refuses an event without one, and a meaning without an event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One place where an event is logged."""

    name: str
    level: str
    module: str
    fields: tuple[str, ...]


def page() -> str:
    """Return the whole page as Markdown.

    Raises `LookupError` where a meaning is missing or stale.
    """
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events():
        found[event.name].append(event)
    if wrong := found.keys() ^ MEANINGS.keys():
        raise LookupError(f"meanings and events differ: {', '.join(sorted(wrong))}")
    return HEAD.replace("\n", "\n\n" + notice("log_events"), 1) + "".join(
        _row(name, found[name]) for name in sorted(found)
    )


def _row(name: str, places: list[Event]) -> str:
    levels = ", ".join(sorted({each.level for each in places}))
    modules = ", ".join(f"`{module}`" for module in sorted({each.module for each in places}))
    fields = ", ".join(
        f"`{field}`" for field in sorted({field for each in places for field in each.fields})
    )
    return f"| `{name}` | {levels} | {modules} | {fields} | {MEANINGS[name]} |\n"


def events() -> Iterator[Event]:
    """Yield every event, by `log.info("name", field=...)` and its kin in `app` and `workers`.

    Where the name is a variable, its module says which names it can have, in `EVENTS`.
    """
    for folder in ("app", "workers"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            yield from _events_of(file)


def _events_of(file: Path) -> Iterator[Event]:
    module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        logger = node.func.value
        if not (isinstance(logger, ast.Name) and logger.id == "log" and node.func.attr in LEVELS):
            continue
        fields = tuple(each.arg for each in node.keywords if each.arg and each.arg != "exc_info")
        for name in _names(node.args[0], tree):
            yield Event(name, node.func.attr, module, fields)


def _names(argument: ast.expr, tree: ast.Module) -> Iterator[str]:
    """Yield the names that an event may have: a constant, or those of the module's `EVENTS`."""
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
        return
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EVENTS":
            known = ast.literal_eval(node.value)
            yield from known.values() if isinstance(known, dict) else known
