"""A whole farm on one machine: its parts, its start in order, and its `farm.json`."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from app.database import create_engine, migrate
from app.local import ports
from app.local.postgres import Postgres
from app.local.redis import Redis
from app.local.roles import Roles
from app.local.secret import load_or_create, private_json
from app.local.supervisor import Supervisor
from app.tenants.keys import ensure_default

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.local.output import Output

FLOWER_USER = "farm"
FLOWER_PORT = 5555


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `renderfarm up`. A port of 0 means any free port."""

    directory: Path
    port: int = 8000
    workers: int = 1
    models: str = ""
    slots: int = 16
    flower_port: int | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the farm: what `farm.json` holds in addition to the processes."""

    url: str
    api_key: str
    flower_url: str
    flower_user: str
    flower_password: str
    database_url: str
    broker_url: str


class LocalFarm:
    """One embedded farm. The constructor chooses ports and secrets; `run` starts the processes."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._file = options.directory / "farm.json"
        self._announced = False
        self._postgres = Postgres(options.directory / "postgres")
        self._redis = Redis(options.directory / "redis")
        self._port = ports.claim(options.port, option="--port")
        self._flower_port = _flower_port(options.flower_port)
        secret = functools.partial(load_or_create, options.directory / "secrets.json")
        self._signing_secret = secret("secret")
        self.access = Access(
            url=f"http://{ports.LOOPBACK}:{self._port}",
            api_key=secret("api_key", prefix="rf_"),
            flower_url=f"http://{ports.LOOPBACK}:{self._flower_port}",
            flower_user=FLOWER_USER,
            flower_password=secret("flower_password"),
            database_url=self._postgres.url,
            broker_url=self._redis.url,
        )

    def environment(self) -> dict[str, str]:
        """Return the settings of the roles as environment variables."""
        serve = {"RENDERFARM_SERVE": self.options.models} if self.options.models else {}
        return {
            "RENDERFARM_DIR": str(self.options.directory),
            "RENDERFARM_LOG_TIMES": "0",
            "RENDERFARM_DATABASE_URL": self.access.database_url,
            "RENDERFARM_BROKER_URL": self.access.broker_url,
            "RENDERFARM_PUBLIC_URL": self.access.url,
            "RENDERFARM_HOST": ports.LOOPBACK,
            "RENDERFARM_PORT": str(self._port),
            "RENDERFARM_SECRET": self._signing_secret,
            "RENDERFARM_SLOTS": str(self.options.slots),
            "RENDERFARM_FLOWER_PORT": str(self._flower_port),
            "RENDERFARM_FLOWER_USER": self.access.flower_user,
            "RENDERFARM_FLOWER_PASSWORD": self.access.flower_password,
            **serve,
        }

    async def run(self, output: Output, announce: Callable[[Access], None]) -> None:
        """Start everything in order, run until a signal, stop everything in reverse."""
        self._file.unlink(missing_ok=True)  # a killed farm leaves its file
        supervisor = Supervisor(output, changed=lambda: self._publish(supervisor))
        try:
            await supervisor.run(lambda: self._start(supervisor, announce))
        finally:
            self._file.unlink(missing_ok=True)

    async def _start(self, supervisor: Supervisor, announce: Callable[[Access], None]) -> None:
        await supervisor.start(self._postgres.program())
        await supervisor.start(self._redis.program())
        await asyncio.to_thread(_prepare_database, self.access)
        roles = Roles(
            environment=self.environment(),
            api_port=self._port,
            flower_port=self._flower_port,
            workers=self.options.workers,
        )
        await supervisor.start(*roles.programs())
        self._announced = True
        self._publish(supervisor)
        announce(self.access)

    def _publish(self, supervisor: Supervisor) -> None:
        """Write `farm.json` once all processes are ready, and again when one was replaced."""
        if self._announced:
            private_json(self._file, {**asdict(self.access), "processes": supervisor.pids})


def _flower_port(wanted: int | None) -> int:
    """Return the requested port; without a request, the usual one unless it is in use."""
    if wanted is None:
        return FLOWER_PORT if ports.is_free(FLOWER_PORT) else ports.free()
    return ports.claim(wanted, option="--flower-port")


def _prepare_database(access: Access) -> None:
    """Migrate the database, and create the first tenant with its key."""
    migrate(access.database_url)
    engine = create_engine(access.database_url, pool_size=1)
    ensure_default(engine, access.api_key)
    engine.dispose()
