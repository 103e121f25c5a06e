"""The runs by their numbers, at full length and in the short form that `make test` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos import (
    bad_day,
    cut_network,
    freeze_workers,
    hang_device,
    kill_everything,
    kill_leader,
    kill_postgres,
    lose_hints,
    lose_redis,
    overload_farm,
    poison_jobs,
    random_histories,
    shift_clocks,
    submit_one_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.report import Verdict

DECK = (
    "kill worker", "kill redis", "flushall", "kill postgres", "duplicate", "kill dispatcher",
    "freeze worker", "kill api", "reset", "half-open",
)  # fmt: skip
FULL: dict[str, Callable[[], Verdict]] = {
    "R0": kill_leader.run,
    "R1": kill_everything.run,
    "R2": freeze_workers.run,
    "R3": lose_redis.run,
    "R4": cut_network.run,
    "R5": lose_hints.run,
    "R7": kill_postgres.run,
    "R10": hang_device.run,
    "R11": poison_jobs.run,
    "R13": overload_farm.run,
    "R15": shift_clocks.run,
    "R16": random_histories.run,
    "R17": submit_one_key.run,
}
NIGHTLY: dict[str, Callable[[], Verdict]] = {"R18": bad_day.run}
SHORT: dict[str, Callable[[], Verdict]] = {
    "R1": lambda: kill_everything.run(1000, deck=DECK, every_s=2.0, rate=50.0),
    "R2": lambda: freeze_workers.run(8),
    "R5": lambda: lose_hints.run(3),
    "R10": lambda: hang_device.run(1),
    "R11": lambda: poison_jobs.run(1, 99),
    "R16": lambda: random_histories.run(8),
    "R17": lambda: submit_one_key.run(2),
}
