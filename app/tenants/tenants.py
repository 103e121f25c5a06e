"""Tenants and their keys. A key is shown once, when it is made; the records hold its SHA-256 only.

A key has 256 random bits, so a plain hash is enough: there is nothing to guess from a dictionary.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, RowMapping, text

from app.database import autocommit
from app.errors import BadName, NotFound
from app.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

PREFIX = "rf_"
DEFAULT_TENANT = "default"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose jobs they are, and what is allowed them. None: no limit."""

    id: UUID
    name: str
    max_queued: int
    max_requests_per_s: float | None = None
    max_gpu_seconds_per_day: float | None = None
    cache: bool = True
    url_expiry_s: int | None = None


_COLUMNS = """tenants.id, tenants.name, max_queued, max_requests_per_s, max_gpu_seconds_per_day,
              cache, url_expiry_s"""


def new_key() -> str:
    """A fresh API key."""
    return PREFIX + secrets.token_urlsafe(32)


def new_secret() -> str:
    """A fresh secret that signs webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def hash_of(key: str) -> bytes:
    """What the records keep of a key: 32 bytes."""
    return hashlib.sha256(key.encode()).digest()


def find_by_key(engine: Engine, key: str) -> Tenant | None:
    """The tenant that a key speaks for; none for an unknown or revoked one."""
    query = text(f"""SELECT {_COLUMNS} FROM keys JOIN tenants
                     ON tenants.id = tenant_id WHERE hash = :hash AND revoked_at IS NULL""")  # noqa: S608
    with autocommit(engine).connect() as connection:
        row = connection.execute(query, {"hash": hash_of(key)}).first()
    return Tenant(*row) if row else None


def find_by_name(engine: Engine, name: str) -> Tenant:
    """The tenant of that name; raises `NotFound`."""
    query = text(f"SELECT {_COLUMNS} FROM tenants WHERE name = :name")  # noqa: S608
    with engine.connect() as connection:
        row = connection.execute(query, {"name": name}).first()
    if row is None:
        raise NotFound(f"there is no tenant {name!r}")
    return Tenant(*row)


class _NoLimit:
    """Stands for: no limit, and kept for ever."""


NO_LIMIT = _NoLimit()
SETTABLE = frozenset({
    "max_queued", "max_running", "max_requests_per_s", "max_gpu_seconds_per_day", "cache",
    "keep_jobs_s", "keep_images_s", "url_expiry_s", "embed_prompt",
})  # fmt: skip


def change(engine: Engine, name: str, changes: Mapping[str, Any]) -> None:
    """Set some of `SETTABLE` for a tenant; `NO_LIMIT` empties one. Raises `NotFound`."""
    assert changes.keys() <= SETTABLE  # noqa: S101 - columns, which no value can be bound to
    columns = ", ".join(f"{column} = :{column}" for column in changes)
    values = {column: None if v is NO_LIMIT else v for column, v in changes.items()}
    statement = text(f"UPDATE tenants SET {columns} WHERE name = :name")  # noqa: S608
    with engine.begin() as connection:
        if not connection.execute(statement, values | {"name": name}).rowcount:
            raise NotFound(f"there is no tenant {name!r}")


def list_tenants(engine: Engine) -> list[RowMapping]:
    """Every tenant with what is allowed it, by name."""
    query = text("""SELECT name, max_queued, max_running, max_requests_per_s,
                           max_gpu_seconds_per_day, cache, keep_jobs_s / 86400 AS keep_jobs_days,
                           keep_images_s / 86400 AS keep_images_days,
                           url_expiry_s, embed_prompt
                    FROM tenants ORDER BY name""")
    with engine.connect() as connection:
        return list(connection.execute(query).mappings())


def ensure_tenant(engine: Engine, name: str) -> Tenant:
    """The tenant of that name, made if it is not there. Raises `BadName`."""
    if not NAME.fullmatch(name):
        raise BadName(
            f"{name!r} is no name for a tenant: use lower-case letters, digits, - and _, at most 63"
        )
    statement = text("""INSERT INTO tenants (id, name, webhook_secret) VALUES (:id, :name, :secret)
                        ON CONFLICT (name) DO NOTHING""")
    with engine.begin() as connection:
        connection.execute(statement, {"id": new_id(), "name": name, "secret": new_secret()})
    return find_by_name(engine, name)


def add_key(engine: Engine, tenant: Tenant, key: str, name: str) -> None:
    """Let `key` speak for the tenant. Adding the same key again changes nothing."""
    statement = text("""INSERT INTO keys (id, tenant_id, name, hash)
                        VALUES (:id, :tenant_id, :name, :hash) ON CONFLICT (hash) DO NOTHING""")
    values = {"id": new_id(), "tenant_id": tenant.id, "name": name, "hash": hash_of(key)}
    with engine.begin() as connection:
        connection.execute(statement, values)


def revoke_key(engine: Engine, key_id: UUID) -> bool:
    """Make a key useless from now on; false if there is none, or it was revoked before."""
    statement = text("""UPDATE keys SET revoked_at = now()
                        WHERE id = :id AND revoked_at IS NULL RETURNING id""")
    with engine.begin() as connection:
        return connection.execute(statement, {"id": key_id}).first() is not None


def list_keys(engine: Engine) -> list[RowMapping]:
    """Every key with its tenant's name, oldest first. Never the key itself."""
    query = text("""SELECT keys.id, tenants.name AS tenant, keys.name, keys.created_at, revoked_at
                    FROM keys JOIN tenants ON tenants.id = tenant_id ORDER BY keys.created_at""")
    with engine.connect() as connection:
        return list(connection.execute(query).mappings())


def ensure_default(engine: Engine, api_key: str) -> None:
    """Make the first tenant and let `api_key` speak for it. Safe to run at each start."""
    add_key(engine, ensure_tenant(engine, DEFAULT_TENANT), api_key, "first")


def embeds_prompt(engine: Engine, tenant_id: UUID) -> bool:
    """Whether the files of its images may say what was asked for."""
    query = text("SELECT embed_prompt FROM tenants WHERE id = :id")
    with autocommit(engine).connect() as connection:
        return bool(connection.execute(query, {"id": tenant_id}).scalar_one())


def webhook_secret(engine: Engine, tenant: Tenant) -> str:
    """The secret that signs the webhooks of the tenant's jobs now."""
    query = text("SELECT webhook_secret FROM tenants WHERE id = :id")
    with engine.connect() as connection:
        return str(connection.execute(query, {"id": tenant.id}).scalar_one())


def rotate_secret(engine: Engine, tenant: Tenant, grace_s: float) -> str:
    """A new secret. For `grace_s` deliveries carry a signature by the old one, too."""
    statement = text("""UPDATE tenants SET old_webhook_secret = webhook_secret,
        old_secret_until = now() + make_interval(secs => :grace_s), webhook_secret = :secret
        WHERE id = :id""")
    secret = new_secret()
    with engine.begin() as connection:
        connection.execute(statement, {"id": tenant.id, "secret": secret, "grace_s": grace_s})
    return secret
