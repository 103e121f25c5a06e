"""Tenants (multi-tenancy): the customers of a farm, and the limits and options of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, RowMapping, text

from app.database import autocommit
from app.errors import BadName, NotFound
from app.ids import new_id
from app.tenants.webhook_secrets import new_secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

DEFAULT_TENANT = "default"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Tenant:
    """The owner of jobs, with its limits. None means no limit."""

    id: UUID
    name: str
    max_queued: int
    max_requests_per_s: float | None = None
    max_gpu_seconds_per_day: float | None = None
    cache: bool = True
    url_expiry_s: int | None = None


COLUMNS = """tenants.id, tenants.name, max_queued, max_requests_per_s, max_gpu_seconds_per_day,
             cache, url_expiry_s"""
"""The columns of the table `tenants` that make a `Tenant`, in the order of its fields."""


def find_by_name(engine: Engine, name: str) -> Tenant:
    """The tenant of that name; raises `NotFound`."""
    query = text(f"SELECT {COLUMNS} FROM tenants WHERE name = :name")  # noqa: S608
    with engine.connect() as connection:
        row = connection.execute(query, {"name": name}).first()
    if row is None:
        raise NotFound(f"there is no tenant {name!r}")
    return Tenant(*row)


class _NoLimit:
    """The type of `NO_LIMIT`."""


NO_LIMIT = _NoLimit()
"""In a change of a limit or of a time to keep: remove the limit, keep without end."""
SETTABLE = frozenset({
    "max_queued", "max_running", "max_requests_per_s", "max_gpu_seconds_per_day", "cache",
    "keep_jobs_s", "keep_images_s", "url_expiry_s", "embed_prompt",
})  # fmt: skip


def change(engine: Engine, name: str, changes: Mapping[str, Any]) -> None:
    """Set some of `SETTABLE` for a tenant; `NO_LIMIT` empties a column. Raises `NotFound`."""
    assert changes.keys() <= SETTABLE  # noqa: S101 - names of columns cannot be bound as values
    columns = ", ".join(f"{column} = :{column}" for column in changes)
    values = {column: None if v is NO_LIMIT else v for column, v in changes.items()}
    statement = text(f"UPDATE tenants SET {columns} WHERE name = :name")  # noqa: S608
    with engine.begin() as connection:
        if not connection.execute(statement, values | {"name": name}).rowcount:
            raise NotFound(f"there is no tenant {name!r}")


def list_tenants(engine: Engine) -> list[RowMapping]:
    """Every tenant with its limits and options, by name."""
    query = text("""SELECT name, max_queued, max_running, max_requests_per_s,
                           max_gpu_seconds_per_day, cache, keep_jobs_s / 86400 AS keep_jobs_days,
                           keep_images_s / 86400 AS keep_images_days,
                           url_expiry_s, embed_prompt
                    FROM tenants ORDER BY name""")
    with engine.connect() as connection:
        return list(connection.execute(query).mappings())


def ensure_tenant(engine: Engine, name: str) -> Tenant:
    """The tenant of that name, created if it does not exist. Raises `BadName`."""
    if not NAME.fullmatch(name):
        raise BadName(
            f"{name!r} is not a valid tenant name: use at most 63 lower-case letters, digits, "
            "- and _, and begin with a letter or a digit"
        )
    statement = text("""INSERT INTO tenants (id, name, webhook_secret) VALUES (:id, :name, :secret)
                        ON CONFLICT (name) DO NOTHING""")
    with engine.begin() as connection:
        connection.execute(statement, {"id": new_id(), "name": name, "secret": new_secret()})
    return find_by_name(engine, name)


def embeds_prompt(engine: Engine, tenant_id: UUID) -> bool:
    """Whether the tenant's image files may contain the prompt and the other request fields."""
    query = text("SELECT embed_prompt FROM tenants WHERE id = :id")
    with autocommit(engine).connect() as connection:
        return bool(connection.execute(query, {"id": tenant_id}).scalar_one())
