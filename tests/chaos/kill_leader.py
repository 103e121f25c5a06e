"""R0: the dispatcher that leads is killed, and frozen; another must lead within five seconds."""

from __future__ import annotations

import tempfile
import time
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
_HOLDER = """
SELECT a.pid, client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = :lock
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def run(times: int = 10) -> Verdict:
    """Kill and freeze by turns, with jobs coming in."""
    verdict = Verdict("R0", f"the leader killed and frozen by turns, {times} times")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        faults, took, ids = Faults(rig, 0), [], []
        for n in range(times):
            before, leader = until(lambda: _leader(rig))
            (faults.freeze if n % 2 else faults.kill)(leader)
            began = time.monotonic()
            until(lambda before=before: (_leader(rig) or (before,))[0] != before)
            took.append(time.monotonic() - began)
            load = Load(rig, [f"job {n}.{m}" for m in range(20)])
            load.run()
            ids += load.accepted.values()
            finish(rig, ids, 60)
            faults.settle()
        verdict.faults = faults.fired
        verdict.most("longest until another led, seconds", max(took), TAKEOVER_S)
        judge(verdict, rig, ids)
    return verdict.end()


def _leader(rig: Rig) -> tuple[int, Actor] | None:
    """The server's process that holds the lock for the leader, and the leader."""
    for row in rig.database.rows(_HOLDER, lock=LEADERS_LOCK):
        for name, actor in rig.actors.items():
            if name.startswith("dispatcher") and (pid := actor.pid) is not None:
                ports = {c.laddr.port for c in psutil.Process(pid).net_connections()}
                if row["client_port"] in ports:
                    return row["pid"], actor
    return None
