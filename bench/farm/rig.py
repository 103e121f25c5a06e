"""The rig: both contenders on one machine, with their own servers, and a clean-up at the end."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.config.repository import REPOSITORY
from app.local import ports
from app.local.child import Child
from app.local.postgres import Postgres
from app.local.program import Program
from app.local.redis import Redis
from app.local.roles import answers
from bench.farm.contenders import FarmSide, HandmadeSide
from bench.handmade.api import KEY
from bench.handmade.records import READY, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.farm.plan import Plan

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0
MODELS = """
[scenes]
path = "{path}"

[null]
pipeline = "null"
"""


@dataclass(frozen=True, slots=True)
class Rig:
    """Both contenders, ready for jobs."""

    farm: FarmSide
    handmade: HandmadeSide

    @property
    def contenders(self) -> tuple[FarmSide, HandmadeSide]:
        """The contenders in their order."""
        return self.farm, self.handmade


@contextlib.contextmanager
def stage(folder: Path, model: Path, plan: Plan) -> Iterator[Rig]:
    """Start the farm and the hand-made app in `folder`; stop both when the block ends."""
    with contextlib.ExitStack() as stack:
        access = _farm(stack, folder / "farm", model, plan)
        handmade = _handmade(stack, folder / "handmade", model, plan)
        farm = FarmSide(access, plan)
        stack.callback(farm.close)
        stack.callback(handmade.close)
        yield Rig(farm, handmade)


def _farm(stack: contextlib.ExitStack, folder: Path, model: Path, plan: Plan) -> dict[str, Any]:
    catalog = folder.with_name("models.toml")
    catalog.write_text(MODELS.format(path=model))
    return farm_up(stack, folder, catalog, ("scenes", "null"), slots=plan.farm_slots)


def farm_up(
    stack: contextlib.ExitStack,
    folder: Path,
    catalog: Path,
    models: Sequence[str],
    *,
    slots: int,
) -> dict[str, Any]:
    """Run `renderfarm up` like any user, with Flower and courier; yield its `farm.json`."""
    folder.mkdir()
    options = {
        "dir": folder,
        "port": 0,
        "flower-port": 0,
        "models": ",".join(models),
        "slots": slots,
    }
    file = folder / "farm.json"
    _run(stack, folder.with_name("farm.log"), Program(
        name="farm",
        argv=(
            sys.executable,
            str(REPOSITORY / "bin" / "renderfarm"),
            "up",
            *(f"--{name}={value}" for name, value in options.items()),
        ),
        environment={"RENDERFARM_MODELS": str(catalog), "PYTHONPATH": str(REPOSITORY)},
        ready=file.exists,
        start_timeout_s=START_TIMEOUT_S,
        stop_timeout_s=STOP_TIMEOUT_S,
    ))  # fmt: skip
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def _handmade(stack: contextlib.ExitStack, folder: Path, model: Path, plan: Plan) -> HandmadeSide:
    """Start its own Postgres and Redis, its API, and a worker for each queue.

    The device's worker has one thread, because its device has room for one job. The null worker has
    as many threads as the farm has slots, to be as fast as it can be.
    """
    files = folder / "files"
    files.mkdir(parents=True)
    postgres = stack.enter_context(Postgres(folder / "postgres"))
    redis = stack.enter_context(Redis(folder / "redis"))
    environment = Place(postgres.url, redis.url, files, model).environment()
    port = ports.free()
    environment |= {"HANDMADE_PORT": str(port), "PYTHONPATH": str(REPOSITORY)}
    url = f"http://{ports.LOOPBACK}:{port}"
    python = (sys.executable, "-m")
    pids = [postgres.pid, redis.pid]
    pids += [_run(stack, folder / "api.log", Program(
        name="handmade-api",
        argv=(*python, "bench.handmade.api"),
        environment=environment,
        ready=answers(port, "/healthz"),
    ))]  # fmt: skip
    for queue, threads in (("scenes", 1), ("null", plan.farm_slots)):
        log = folder / f"{queue}.log"
        pids += [_run(stack, log, Program(
            name=f"handmade-{queue}",
            argv=(*python, "bench.handmade.worker", queue, str(threads)),
            environment=environment,
            ready=functools.partial(_says_ready, log),
            start_timeout_s=START_TIMEOUT_S,
        ))]  # fmt: skip
    known = tuple(pid for pid in pids if pid is not None)
    return HandmadeSide(url, KEY, postgres.url, known, plan)


def _run(stack: contextlib.ExitStack, log: Path, program: Program) -> int | None:
    """Start it, and let the stack stop it. Return its pid."""
    child = Child(program, log)
    stack.callback(child.stop)
    child.start()
    return child.pid


def _says_ready(log: Path) -> bool:
    return READY in log.read_text(errors="replace")


def environment_without_farm() -> None:
    """Clear the settings of another farm: they must not reach the one in the rig."""
    for name in [name for name in os.environ if name.startswith("RENDERFARM_")]:
        del os.environ[name]
