"""Endpoints: where a tenant receives the webhooks of all its jobs, and which events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, Engine, text

from app.errors import FieldError, InvalidRequest, NotFound
from app.ids import new_id
from app.jobs.request import EventName  # noqa: TC001 - pydantic reads it off the annotation
from app.outbound.client import ForbiddenUrl, check_url
from app.tenants.webhook_secrets import new_secret
from app.webhooks.deliveries import LEASE_S
from app.webhooks.health import DISABLED, give_up

if TYPE_CHECKING:
    from uuid import UUID

    from app.jobs.records import Row

MAX_ENDPOINTS = 50
MAX_GRACE_S = 7 * 86_400
# A tenant's endpoints are added one after another, so that each insert sees the right count.
_ONE_BY_ONE = text("SELECT 1 FROM tenants WHERE id = :tenant_id FOR NO KEY UPDATE")
_COUNT = text("SELECT count(*) FROM endpoints WHERE tenant_id = :tenant_id AND state <> 'deleted'")
_ADD = text("""
INSERT INTO endpoints (id, tenant_id, url, description, events, secret)
VALUES (:id, :tenant_id, :url, :description, :events, :secret) RETURNING *
""")
_THEIRS = "WHERE id = :id AND tenant_id = :tenant_id AND state <> 'deleted'"
# Deliveries in flight are not touched: they are due again within the courier's lease.
_HASTEN = text("""
UPDATE outbox SET next_try_at = now()
WHERE id IN (SELECT id FROM outbox WHERE endpoint_id = :id AND state = 'pending'
               AND next_try_at > now() + make_interval(secs => :lease_s) FOR UPDATE SKIP LOCKED)
""")


class EndpointRequest(BaseModel):
    """The body of `POST /v1/endpoints`; an empty `events` means all final ones."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    events: list[EventName | Annotated[str, Field(pattern=f"^{DISABLED}$")]] = Field(
        default_factory=list, max_length=20
    )
    description: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""


class EndpointChange(EndpointRequest):
    """The body of `PATCH /v1/endpoints/{id}`: fields that are left out stay unchanged."""

    url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None  # type: ignore[assignment]
    enabled: bool | None = None


Form = TypeVar("Form", bound=EndpointRequest)


def parse(body: bytes, form: type[Form], *, allow_private: bool) -> Form:
    """Parse a body. Raises `InvalidRequest` naming each bad field."""
    try:
        request = form.model_validate_json(body)
    except ValidationError as error:
        fields = tuple(
            FieldError(".".join(map(str, each["loc"])) or "body", str(each["msg"]))
            for each in error.errors(include_url=False, include_input=False)
        )
        summary = "; ".join(f"{each.field}: {each.message}" for each in fields)
        raise InvalidRequest(summary, fields) from None
    if request.url is not None:
        try:
            check_url(request.url, allow_private=allow_private)
        except ForbiddenUrl as error:
            raise InvalidRequest(f"url {error}", (FieldError("url", str(error)),)) from error
    return request


class Endpoints:
    """The endpoints of all tenants. Safe from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, tenant_id: UUID, request: EndpointRequest) -> tuple[Row, str]:
        """Return a new endpoint and its secret.

        Raises `InvalidRequest` if the tenant has too many.
        """
        values = {"id": new_id(), "tenant_id": tenant_id, "secret": new_secret()}
        values |= request.model_dump(include={"url", "description", "events"})
        with self._engine.begin() as connection:
            connection.execute(_ONE_BY_ONE, values)
            if connection.execute(_COUNT, values).scalar_one() >= MAX_ENDPOINTS:
                raise InvalidRequest(f"a tenant may have {MAX_ENDPOINTS} endpoints")
            row = connection.execute(_ADD, values).mappings().one()
        return dict(row), str(values["secret"])

    def of(self, tenant_id: UUID) -> list[Row]:
        """Return a tenant's endpoints, oldest first."""
        query = """SELECT * FROM endpoints
                    WHERE tenant_id = :tenant_id AND state <> 'deleted' ORDER BY id"""
        with self._engine.connect() as connection:
            rows = connection.execute(text(query), {"tenant_id": tenant_id}).mappings()
            return [dict(row) for row in rows]

    def find(self, tenant_id: UUID, endpoint_id: UUID) -> Row:
        """Return one endpoint. Raises `NotFound`, also for another tenant's."""
        return self._found("SELECT * FROM endpoints", tenant_id, endpoint_id)

    def secret(self, tenant_id: UUID, endpoint_id: UUID) -> str:
        """Return its current secret. Raises `NotFound`."""
        found = self._found("SELECT secret FROM endpoints", tenant_id, endpoint_id)
        return str(found["secret"])

    def change(self, tenant_id: UUID, endpoint_id: UUID, change: EndpointChange) -> Row:
        """Change the given fields.

        Disabling gives up pending deliveries; enabling clears old failures.

        So does a new URL, to which pending deliveries are sent at once.
        """
        values = change.model_dump(include={"url", "description", "events"}, exclude_unset=True)
        sets = [f"{name} = :{name}" for name, value in values.items() if value is not None]
        if change.enabled is not None:
            sets += [
                "state = CASE WHEN :enabled THEN 'enabled' ELSE 'disabled' END",
                "disabled_reason = CASE WHEN NOT :enabled THEN 'you disabled it' END",
                "failing_since = NULL",
            ]
            values["enabled"] = change.enabled
        elif change.url is not None:
            sets.append("failing_since = CASE WHEN url = :url THEN failing_since END")
        if not sets:
            return self.find(tenant_id, endpoint_id)
        with self._engine.begin() as connection:
            row = _update(connection, ", ".join(sets), tenant_id, endpoint_id, **values)
            if change.enabled is False:
                give_up(connection, endpoint_id, "disabled by you")
            elif change.url is not None:
                connection.execute(_HASTEN, {"id": endpoint_id, "lease_s": LEASE_S})
        return row

    def rotate(self, tenant_id: UUID, endpoint_id: UUID, grace_s: float) -> tuple[Row, str]:
        """Make a new secret. For `grace_s` seconds both secrets sign deliveries."""
        secret = new_secret()
        sets = """old_secret = secret, old_secret_until = now() + make_interval(secs => :grace_s),
                  secret = :secret"""
        values = {"secret": secret, "grace_s": grace_s}
        with self._engine.begin() as connection:
            return _update(connection, sets, tenant_id, endpoint_id, **values), secret

    def remove(self, tenant_id: UUID, endpoint_id: UUID) -> None:
        """Remove the endpoint. Raises `NotFound`. The log of its deliveries stays."""
        with self._engine.begin() as connection:
            _update(connection, "state = 'deleted'", tenant_id, endpoint_id)
            give_up(connection, endpoint_id, "removed")

    def _found(self, select: str, tenant_id: UUID, endpoint_id: UUID) -> Row:
        with self._engine.connect() as connection:
            return _one(connection, f"{select} {_THEIRS}", tenant_id, endpoint_id)


def _update(
    connection: Connection, sets: str, tenant_id: UUID, endpoint_id: UUID, **values: Any
) -> Row:
    sql = f"UPDATE endpoints SET {sets} {_THEIRS} RETURNING *"  # noqa: S608 - `sets` is ours, values are bound
    return _one(connection, sql, tenant_id, endpoint_id, **values)


def _one(
    connection: Connection, sql: str, tenant_id: UUID, endpoint_id: UUID, **values: Any
) -> Row:
    values |= {"id": endpoint_id, "tenant_id": tenant_id}
    row = connection.execute(text(sql), values).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no endpoint {endpoint_id}")
    return dict(row)


def as_json(row: Row) -> dict[str, Any]:
    """Return an endpoint in the API's form, without its secret."""
    times = {
        name: row[name].isoformat() if row[name] else None
        for name in ("failing_since", "created_at")
    }
    names = ("url", "description", "events", "state", "disabled_reason")
    return {"id": str(row["id"]), **{name: row[name] for name in names}, **times}
