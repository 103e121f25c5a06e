"""The farm's own processes as programs: each is `renderfarm ROLE`."""

from __future__ import annotations

import http.client
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.repository import REPOSITORY
from app.config.sources import VARIABLE
from app.local import ports
from app.local.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMMAND = (sys.executable, str(REPOSITORY / "bin" / "renderfarm"))
ANSWER_TIMEOUT_S = 2.0
WORKER_START_TIMEOUT_S = 1800.0  # imports torch, loads the models, compiles, measures
WORKER_STOP_TIMEOUT_S = 30.0  # hands its jobs back between two steps
HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class Roles:
    """What the roles of one farm have in common, and the ports of the servers."""

    environment: Mapping[str, str]
    api_port: int
    flower_port: int
    workers: int

    def programs(self) -> list[Program]:
        """Return every role, in the order of the log and of `farm.json`."""
        return [
            self._role("api", ready=answers(self.api_port, "/readyz")),
            *([self._role("intake", ready_text="started")] if os.environ.get(VARIABLE) else []),
            self._role("dispatcher", ready_text="started"),
            self._role("courier", ready_text="started"),
            *(self._worker(number + 1) for number in range(self.workers)),
            self._role("flower", ready=answers(self.flower_port, "/healthcheck")),
        ]

    def _worker(self, number: int) -> Program:
        """Return worker `number`. After a restart it may use the earlier registry row."""
        return self._role(
            "worker",
            name=f"worker-{number}",
            ready_text="worker_ready models=",
            start_timeout_s=WORKER_START_TIMEOUT_S,
            stop_timeout_s=WORKER_STOP_TIMEOUT_S,
        )

    def _role(
        self,
        role: str,
        *,
        name: str = "",
        ready_text: str = "",
        ready: Callable[[], bool] | None = None,
        start_timeout_s: float = 60.0,
        stop_timeout_s: float = 10.0,
    ) -> Program:
        path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        base = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        return Program(
            name=name or role,
            argv=(*COMMAND, role),
            environment={**base, **self.environment},
            ready_text=ready_text,
            ready=ready,
            start_timeout_s=start_timeout_s,
            stop_timeout_s=stop_timeout_s,
        )


def answers(port: int, path: str) -> Callable[[], bool]:
    """Return a check whether the server on that port answers 200; no proxy is used."""

    def check() -> bool:
        connection = http.client.HTTPConnection(ports.LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == HTTP_OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check
