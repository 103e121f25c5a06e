"""`docs/reference/settings.md`: every environment variable, from `app.config.table`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from app.config.environment import variable
from app.config.renamed import VARIABLES as RENAMED
from app.config.settings import Settings
from app.config.table import ROLES
from app.errors import SettingsError
from docs.generate import fields
from docs.generate.markdown import code, notice, table

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

INTRODUCTION = """# Settings

A farm reads its settings from environment variables. A process reads them once, when it starts. It
checks all that are set, also those that it does not use. If any is wrong, it does not start. It
prints a line for each wrong variable, such as `RENDERFARM_SLOTS must be at least 1, not 0`, and
exits with status 1. Messages repeat no URL and no secret. An empty variable counts as not set.

`RENDERFARM_DATABASE_URL` and `RENDERFARM_BROKER_URL` have no default. If an embedded farm
(`renderfarm up`) runs under `RENDERFARM_DIR`, both come from it, and `RENDERFARM_PUBLIC_URL` too.
Otherwise a process that uses one of them does not start without it: `RENDERFARM_BROKER_URL is not
set, and no embedded farm runs in ...`.

The column *read by* has the roles `api`, `intake`, `dispatcher` (with the reaper and the janitor),
`courier`, `worker` and `flower`. `commands` are those of `renderfarm` that use the database, such
as `audit`.
"""
SECTIONS = {
    "The farm": ("directory", "database_url", "broker_url"),
    "The API": ("host", "port", "public_url", "secret", "url_expiry_s"),
    "Models": ("models_file", "serve"),
    "Storage": (
        "storage_url", "storage_class", "storage_tags", "storage_verify", "cdn", "sweep_s",
        "keep_uploads_s",
    ),
    "Images": ("moderation", "c2pa_cert", "c2pa_key"),
    "Workers": (
        "slots", "max_rows", "device_memory_mb", "watchdog_s", "usd_per_gpu_hour", "prices",
    ),
    "Leases and retries": ("lease_s", "renew_s", "hint_again_s", "max_failures", "max_crashes"),
    "Intake and webhooks": ("sources", "webhook_allow_private"),
    "Flower": ("flower_port", "flower_user", "flower_password"),
}  # fmt: skip
DEFAULTS = {
    "directory": "`var` in the current folder",
    "models_file": "`models/models.toml` of the checkout",
    "storage_url": "the folder `objects` in `RENDERFARM_DIR`",
    "renew_s": "`5`, or a third of `RENDERFARM_LEASE_S` if that is less",
    "database_url": "none",
    "broker_url": "none",
    "webhook_allow_private": "`0`",
}
WRONG = {
    "database_url": "mysql://db", "broker_url": "amqp://broker", "storage_url": "ftp://host",
    "public_url": "farm.example", "secret": "short", "storage_tags": "tenant",
    "storage_verify": "often", "cdn": "{}", "c2pa_key": "/key.pem", "prices": "[]",
    "webhook_allow_private": "yes", "sources": "{}", "renew_s": "0",
}  # fmt: skip
"""A wrong value of each setting that is no number; numbers are tried with one below their limit."""
LATER = {
    "directory": "no embedded farm is found",
    "models_file": "the process does not start: the registry cannot be read",
    "serve": "the process does not start: the registry has no such model",
    "moderation": "the worker does not start: the callable cannot be imported",
    "c2pa_cert": "the worker does not start: the files cannot sign",
    "storage_class": "the store refuses to keep images",
    "host": "the process does not start: it cannot listen there",
    "flower_user": "any text is accepted",
    "flower_password": "any text is accepted",
}
"""What happens for settings that are only checked in use."""
OTHERS = [
    (
        "RENDERFARM_LOG_TIMES",
        "`0` leaves the time out of log lines, for a supervisor that adds its own.",
        "`1`",
        "all roles",
        "every value but `0` counts as `1`",
    ),
    (
        "RENDERFARM_URL",
        "The farm's URL; else the SDK uses the farm that runs under `RENDERFARM_DIR`.",
        "not set",
        "the SDK, and commands such as `renderfarm submit`",
        "`FarmNotFound`, which names what to set",
    ),
    (
        "RENDERFARM_API_KEY",
        "The key to that farm, as `renderfarm keys create` printed it.",
        "not set",
        "the SDK, and commands such as `renderfarm submit`",
        "`FarmNotFound` without a key, `Unauthorized` with a wrong one",
    ),
]
FOREIGN = [
    ("`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` and other `AWS_*`",
     "credentials of S3 (`s3://`) and SQS (`sqs://`)"),
    ("`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`",
     "the address of another service with the same protocol"),
    ("`GOOGLE_SERVICE_ACCOUNT`", "a key file for Google Cloud Storage (`gs://`)"),
    ("`GOOGLE_APPLICATION_CREDENTIALS`", "a key file for Pub/Sub (`pubsub://`)"),
    ("`STORAGE_EMULATOR_HOST`, `PUBSUB_EMULATOR_HOST`", "emulators of Google's services"),
    ("`AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`",
     "credentials of Azure Blob Storage (`az://`)"),
    ("`AZURE_STORAGE_ENDPOINT`, `AZURE_STORAGE_USE_EMULATOR`",
     "another address or an emulator of Azure Blob Storage"),
    ("`AZURE_SERVICEBUS_CONNECTION_STRING`",
     "namespace and credentials of Azure Service Bus (`servicebus://`)"),
    ("`OMP_NUM_THREADS`", "torch's threads in a worker on a CPU"),
    ("`OMP_WAIT_POLICY`, `GOMP_SPINCOUNT`",
     "how those threads wait; a worker sets `PASSIVE` and `1000` unless they are set"),
    ("`HF_HUB_OFFLINE`", "`1` keeps the Hugging Face libraries of a worker off the network"),
    ("`NO_COLOR`", "`renderfarm up` prints no colours"),
]  # fmt: skip


def page() -> str:
    """The page as the code gives it now. Raises `ValueError` if a setting is in no section."""
    listed = [name for names in SECTIONS.values() for name in names]
    if sorted(listed) != sorted(Settings.model_fields):
        raise ValueError(f"not just once in a section: {set(listed) ^ set(Settings.model_fields)}")
    parts = [notice("settings"), INTRODUCTION]
    header = ("variable", "meaning", "values", "unit", "default", "read by", "if it is wrong")
    for section, names in SECTIONS.items():
        rows = [_row(name, Settings.model_fields[name]) for name in names]
        parts.append(f"## {section}\n\n{table(header, rows)}")
    others = [(code(name), *cells) for name, *cells in OTHERS]
    parts.append(
        "## Logs and the SDK\n\n"
        + table(("variable", "meaning", "default", "read by", "if it is wrong"), others)
    )
    parts.append("## Variables of other programs\n\n" + table(("variable", "meaning"), FOREIGN))
    if RENAMED:
        rows = [(code(old), code(new)) for old, new in RENAMED.items()]
        parts.append("## Old names that are still read\n\n" + table(("old", "new"), rows))
    return "\n".join(parts)


def _row(name: str, field: FieldInfo) -> tuple[str, ...]:
    more = cast("dict[str, Any]", field.json_schema_extra)
    every = len(more["roles"]) == len(ROLES)
    return (
        code(field.validation_alias),
        str(field.description),
        more["takes"] or fields.values(field),
        more["unit"],
        DEFAULTS.get(name) or fields.default(field.default),
        "all" if every else ", ".join(more["roles"]),
        _if_wrong(name, field),
    )


def _if_wrong(name: str, field: FieldInfo) -> str:
    """The message for a wrong value without its variable, found by setting one."""
    below = [
        plain - 1 for each in field.metadata if (plain := getattr(each, "ge", None)) is not None
    ]
    wrong = WRONG.get(name, str(int(below[0])) if below else "")
    if not wrong:
        return LATER[name]
    try:
        Settings.from_environment({str(field.validation_alias): wrong}, needs=())
    except SettingsError as error:
        return code("..." + str(error).removeprefix(str(field.validation_alias)))
    raise ValueError(f"{variable(name)} takes {wrong!r}")
