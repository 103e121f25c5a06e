"""R0: leader failover. The leading dispatcher is killed or frozen; another leads within 5 s."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from app.dispatch.dispatcher import LEADERS_LOCK
from tests.chaos.faults import Faults
from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Verdict
from tests.chaos.rig import Rig
from tests.waiting import until

if TYPE_CHECKING:
    from tests.chaos.rig import Actor

TAKEOVER_S = 5.0
_LOCK_HOLDER = """
SELECT a.pid, client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = :lock
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def run(times: int = 10) -> Verdict:
    """Kill and freeze the leader in turn, and submit jobs after each fault."""
    verdict = Verdict("R0", f"the leader killed and frozen in turn, {times} times")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        faults = Faults(rig, 0)
        takeovers_s: list[float] = []
        ids: list[str] = []
        for n in range(times):
            before, leader = until(lambda: _leader(rig))
            (faults.freeze if n % 2 else faults.kill)(leader)
            began = time.monotonic()
            until(partial(_other_leads, rig, before))
            takeovers_s.append(time.monotonic() - began)
            load = Load(rig, [f"job {n}.{m}" for m in range(20)])
            load.run()
            ids += load.accepted.values()
            finish(rig, ids, 60)
            faults.settle()
        verdict.faults = faults.fired
        verdict.most("longest takeover, seconds", max(takeovers_s), TAKEOVER_S)
        judge(verdict, rig, ids)
    return verdict.end()


def _other_leads(rig: Rig, before: int) -> bool:
    leader = _leader(rig)
    return leader is not None and leader[0] != before


def _leader(rig: Rig) -> tuple[int, Actor] | None:
    """The pid of the leader's connection in Postgres, which holds the lock, and the leader."""
    for row in rig.database.rows(_LOCK_HOLDER, lock=LEADERS_LOCK):
        for name, actor in rig.actors.items():
            if name.startswith("dispatcher") and (pid := actor.pid) is not None:
                ports = {c.laddr.port for c in psutil.Process(pid).net_connections()}
                if row["client_port"] in ports:
                    return row["pid"], actor
    return None
