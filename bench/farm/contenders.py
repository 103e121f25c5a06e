"""The two contenders, each used like its own client would use it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import httpx
import psycopg

from bench.errors import BenchError
from bench.farm.plan import GUIDANCE, SCHEDULER
from renderfarm import Farm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.farm.plan import Ask, Plan
    from renderfarm.request import JobRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stamps:
    """The database's record of one job that succeeded."""

    created_at: datetime
    started_at: datetime
    finished_at: datetime
    render_s: float
    store_s: float


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one job's time, in seconds. All but `submit_s` add up to `total_s`.

    `accept_s` from the call to the stored row, `queued_s` until a worker holds the job, `render_s`
    and `store_s` as the worker measured them, `other_s` the rest of the worker's time, `answer_s`
    from the finished row until the client knows. `submit_s` is the whole submitting call.
    """

    total_s: float
    submit_s: float
    accept_s: float
    queued_s: float
    render_s: float
    store_s: float
    other_s: float
    answer_s: float

    @classmethod
    def of(cls, began: datetime, submitted: datetime, known: datetime, row: Stamps) -> Parts:
        """Split the time from `began` to `known`. All stamps come from one machine's clock."""
        ran_s = (row.finished_at - row.started_at).total_seconds()
        return cls(
            total_s=(known - began).total_seconds(),
            submit_s=(submitted - began).total_seconds(),
            accept_s=(row.created_at - began).total_seconds(),
            queued_s=(row.started_at - row.created_at).total_seconds(),
            render_s=row.render_s,
            store_s=row.store_s,
            other_s=ran_s - row.render_s - row.store_s,
            answer_s=(known - row.finished_at).total_seconds(),
        )

    def figures(self) -> dict[str, float]:
        """Return the parts by name."""
        return asdict(self)


class Side(Protocol):
    """One way to get pictures made."""

    name: str
    database_url: str
    pids: tuple[int, ...]
    """The processes that it consists of, or that started them, without its client."""

    def submit(self, ask: Ask) -> str:
        """Submit one job. Return its id."""

    def submit_all(self, asks: Sequence[Ask]) -> list[str]:
        """Submit many jobs in as few calls as its API allows. Return their ids."""

    def render(self, ask: Ask) -> Parts:
        """Submit one job, wait for it like its client does, and return the parts of its time."""

    def picture(self, job_id: str) -> bytes:
        """Return the file of a job that succeeded."""

    def close(self) -> None:
        """Close the connections."""


class FarmSide:
    """Renderfarm, through its SDK."""

    name = "farm"

    def __init__(self, access: Mapping[str, Any], plan: Plan) -> None:
        self.database_url = str(access["database_url"])
        self.pids = tuple(access["processes"].values())
        self._patience_s = plan.patience_s
        self._farm = Farm(access["url"], access["api_key"])

    def submit(self, ask: Ask) -> str:
        """`POST /v1/jobs`."""
        return self._farm.submit(**_request(ask)).id

    def submit_all(self, asks: Sequence[Ask]) -> list[str]:
        """`POST /v1/jobs:batch`."""
        return [job.id for job in self._farm.submit_many([_request(ask) for ask in asks])]

    def render(self, ask: Ask) -> Parts:
        """`farm.submit(...).wait()`."""
        began = _now()
        job = self._farm.submit(**_request(ask))
        submitted = _now()
        snapshot = job.wait(self._patience_s).snapshot
        known = _now()
        stamps = Stamps(
            _there(snapshot.created_at),
            _there(snapshot.started_at),
            _there(snapshot.finished_at),
            _there(snapshot.timings.render_s),
            _there(snapshot.timings.store_s),
        )
        return Parts.of(began, submitted, known, stamps)

    def picture(self, job_id: str) -> bytes:
        """Fetch through the presigned URL."""
        return self._farm.job(job_id).images[0].bytes()

    def close(self) -> None:
        """Close the connections."""
        self._farm.close()


class HandmadeSide:
    """The hand-made app, through the few lines that its users would write."""

    name = "handmade"

    def __init__(
        self, url: str, key: str, database_url: str, pids: tuple[int, ...], plan: Plan
    ) -> None:
        self.database_url = database_url
        self.pids = pids
        self._plan = plan
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"})

    def submit(self, ask: Ask) -> str:
        """`POST /jobs`."""
        answer = self._http.post("/jobs", json={**asdict(ask), "guidance": GUIDANCE})
        return str(answer.raise_for_status().json()["id"])

    def submit_all(self, asks: Sequence[Ask]) -> list[str]:
        """Submit with one call per job: it has no batch call."""
        return [self.submit(ask) for ask in asks]

    def render(self, ask: Ask) -> Parts:
        """Submit, then poll until it is done."""
        began = _now()
        job_id = self.submit(ask)
        submitted = _now()
        row = self._wait(job_id)
        known = _now()
        stamps = Stamps(
            datetime.fromisoformat(row["created_at"]),
            datetime.fromisoformat(row["started_at"]),
            datetime.fromisoformat(row["finished_at"]),
            row["render_s"],
            row["store_s"],
        )
        return Parts.of(began, submitted, known, stamps)

    def picture(self, job_id: str) -> bytes:
        """`GET /images/{id}.png`."""
        return self._http.get(f"/images/{job_id}.png").raise_for_status().content

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _wait(self, job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + self._plan.patience_s
        while time.monotonic() < deadline:
            row: dict[str, Any] = self._http.get(f"/jobs/{job_id}").raise_for_status().json()
            if row["status"] == "succeeded":
                return row
            if row["status"] == "failed":
                raise BenchError(f"the hand-made app failed: {row['error']}")
            time.sleep(self._plan.handmade_poll_s)
        raise BenchError(f"the hand-made app did not end a job in {self._plan.patience_s} s")


def ended(side: Side, since: datetime) -> list[datetime]:
    """Return when the jobs since then ended, from the side's own database, oldest first.

    Both keep the same columns, so both are read in the same way. Raises BenchError if any did not
    succeed.
    """
    query = "SELECT finished_at, status FROM jobs WHERE finished_at >= %s ORDER BY finished_at"
    with psycopg.connect(side.database_url) as connection:
        rows = connection.execute(query, [since]).fetchall()
    if any(status != "succeeded" for _, status in rows):
        raise BenchError(f"{side.name}: a job did not succeed")
    return [at for at, _ in rows]


def await_ended(side: Side, since: datetime, count: int, plan: Plan) -> list[datetime]:
    """Return `ended`, once there are this many. Raises BenchError when the time is over."""
    deadline = time.monotonic() + plan.patience_s
    while len(found := ended(side, since)) < count:
        if time.monotonic() > deadline:
            raise BenchError(f"{side.name}: {len(found)} of {count} jobs ended in time")
        time.sleep(0.05)
    return found


def _request(ask: Ask) -> JobRequest:
    return {
        "model": ask.model,
        "prompt": ask.prompt,
        "width": ask.size,
        "height": ask.size,
        "num_inference_steps": ask.steps,
        "guidance_scale": GUIDANCE,
        "scheduler": SCHEDULER,
        "seed": ask.seed,
        "cache": False,
    }


def _now() -> datetime:
    return datetime.now(UTC)


def _there(value: T | None) -> T:
    if value is None:
        raise BenchError("a job that succeeded lacks a time")
    return value
