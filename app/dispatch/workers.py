"""The registry of workers: which ones are alive (heartbeat), and which models they serve."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, RowMapping, text

from app.database import autocommit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALIVE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker process: `slots` concurrent jobs on one device."""

    id: str
    host: str
    pid: int
    device: str
    models: tuple[str, ...]
    slots: int


def register(engine: Engine, worker: Worker) -> None:
    """Record the worker as alive; also after a restart under the same id."""
    statement = text("""
        INSERT INTO workers (id, host, pid, device, models, slots)
        VALUES (:id, :host, :pid, :device, :models, :slots)
        ON CONFLICT (id) DO UPDATE SET host = excluded.host, pid = excluded.pid,
            device = excluded.device, models = excluded.models, slots = excluded.slots,
            started_at = now(), seen_at = now()""")
    values = {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "device": worker.device,
        "models": list(worker.models),
        "slots": worker.slots,
    }
    with engine.begin() as connection:
        connection.execute(statement, values)


def beat(engine: Engine, worker_id: str, stats: Mapping[str, Any]) -> bool:
    """Record a heartbeat with statistics. Return False if the worker is not in the registry."""
    statement = text(
        "UPDATE workers SET seen_at = now(), stats = CAST(:stats AS jsonb) WHERE id = :id"
    )
    with engine.begin() as connection:
        values = {"id": worker_id, "stats": json.dumps(dict(stats))}
        return connection.execute(statement, values).rowcount > 0


def leave(engine: Engine, worker_id: str) -> None:
    """Remove the worker at a clean stop."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM workers WHERE id = :id"), {"id": worker_id})


def living(engine: Engine) -> list[RowMapping]:
    """Return the workers that were seen in the last seconds."""
    query = text("""SELECT * FROM workers WHERE seen_at > now() - make_interval(secs => :alive_s)
                    ORDER BY id""")
    with autocommit(engine).connect() as connection:
        return list(connection.execute(query, {"alive_s": ALIVE_S}).mappings())


def alive(engine: Engine) -> int:
    """Return how many workers were seen in the last seconds."""
    return len(living(engine))


def forget(engine: Engine, after_s: float = 3600.0) -> Sequence[str]:
    """Remove workers that were not seen for this long. Return their ids."""
    statement = text("""DELETE FROM workers
        WHERE seen_at < now() - make_interval(secs => :after_s) RETURNING id""")
    with engine.begin() as connection:
        return list(connection.execute(statement, {"after_s": after_s}).scalars())
