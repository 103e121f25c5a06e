"""API keys (authentication): a key is shown once, when it is created; the database has its SHA-256.

A key has 256 random bits. A plain hash is enough, because no dictionary can contain such a key.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from sqlalchemy import Engine, RowMapping, text

from app.database import autocommit
from app.ids import new_id
from app.tenants.tenants import COLUMNS, DEFAULT_TENANT, Tenant, ensure_tenant

if TYPE_CHECKING:
    from uuid import UUID

PREFIX = "rf_"


def new_key() -> str:
    """A new API key."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> bytes:
    """The SHA-256 of a key, 32 bytes. The database stores it in place of the key."""
    return hashlib.sha256(key.encode()).digest()


def find_by_key(engine: Engine, key: str) -> Tenant | None:
    """The tenant that the key belongs to; none if the key is unknown or revoked."""
    query = text(f"""SELECT {COLUMNS} FROM keys JOIN tenants
                     ON tenants.id = tenant_id WHERE hash = :hash AND revoked_at IS NULL""")  # noqa: S608
    with autocommit(engine).connect() as connection:
        row = connection.execute(query, {"hash": hash_of(key)}).first()
    return Tenant(*row) if row else None


def add_key(engine: Engine, tenant: Tenant, key: str, name: str) -> None:
    """Give the tenant a key. Adding the same key again changes nothing."""
    statement = text("""INSERT INTO keys (id, tenant_id, name, hash)
                        VALUES (:id, :tenant_id, :name, :hash) ON CONFLICT (hash) DO NOTHING""")
    values = {"id": new_id(), "tenant_id": tenant.id, "name": name, "hash": hash_of(key)}
    with engine.begin() as connection:
        connection.execute(statement, values)


def revoke_key(engine: Engine, key_id: UUID) -> bool:
    """Revoke a key from now on; false if there is no such key, or it was revoked before."""
    statement = text("""UPDATE keys SET revoked_at = now()
                        WHERE id = :id AND revoked_at IS NULL RETURNING id""")
    with engine.begin() as connection:
        return connection.execute(statement, {"id": key_id}).first() is not None


def list_keys(engine: Engine) -> list[RowMapping]:
    """Every key's id and name with its tenant's name, oldest first. Never the key itself."""
    query = text("""SELECT keys.id, tenants.name AS tenant, keys.name, keys.created_at, revoked_at
                    FROM keys JOIN tenants ON tenants.id = tenant_id ORDER BY keys.created_at""")
    with engine.connect() as connection:
        return list(connection.execute(query).mappings())


def ensure_default(engine: Engine, api_key: str) -> None:
    """Create the default tenant and give it `api_key`. Safe to run at each start."""
    add_key(engine, ensure_tenant(engine, DEFAULT_TENANT), api_key, "first")
