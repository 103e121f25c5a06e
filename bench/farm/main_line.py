"""The main job, end to end, next to the hand-made app: start both, measure, write the results."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.catalog.load import load_catalog
from app.config.repository import REPOSITORY
from app.errors import CatalogError
from bench import machine
from bench.farm import burst, latency, plot, report, throughput
from bench.farm import random_model as standin
from bench.farm.rig import stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.farm.plan import Plan
    from bench.farm.rig import Rig

MEASURES = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "burst": burst.measure,
}
NAME = "main_line"


def run(plan: Plan, parts: Sequence[str], results: Path, say: Callable[[str], None]) -> Path:
    """Measure the parts and write `results/main_line.{json,md,png}`. Return the Markdown's path."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="renderfarm-bench-") as name:
        folder = Path(name)
        model, about = _model(folder / "model", say)
        header = _header(plan, about)
        say("starting the farm and the hand-made app")
        with stage(folder, model, plan) as ready:
            _warm_up(ready, plan, say)
            found = {part: MEASURES[part](ready, plan, say) for part in parts}
    took_s = round(time.monotonic() - started, 1)
    return write({**header, "took_s": took_s, "parts": found}, results)


def write(result: dict[str, Any], results: Path) -> Path:
    """Write the JSON, and from it alone the table and the plot."""
    results.mkdir(parents=True, exist_ok=True)
    file = results / f"{NAME}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return draw(file)


def draw(file: Path) -> Path:
    """Write the table and the plot again from the JSON."""
    result = json.loads(file.read_text(encoding="utf-8"))
    table = file.with_suffix(".md")
    table.write_text(report.markdown(result), encoding="utf-8")
    plot.save(result, file.with_suffix(".png"))
    return table


def _model(stand_in: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Return the folder of `scenes`, or of a random model if its weights are missing."""
    try:
        catalog = load_catalog(REPOSITORY / "models" / "models.toml", frozenset({"scenes"}))
    except CatalogError:
        say("models/scenes has no weights: using random ones of that size")
        return standin.write(stand_in), {"name": "scenes", "stand_in": True, "revision": ""}
    found = catalog.models["scenes"]
    assert found.path is not None
    return found.path, {"name": "scenes", "stand_in": False, "revision": found.revision}


def _header(plan: Plan, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "benchmark": NAME,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "versions": machine.versions(),
        "model": model,
        "settings": asdict(plan),
    }


def _warm_up(ready: Rig, plan: Plan, say: Callable[[str], None]) -> None:
    """Run each kind of job a few times unmeasured: connections, caches, first forwards.

    Then run a whole burst, because the engine learns by measuring how many rows pay off.
    """
    say("warming up")
    for ask in plan.null_asks(plan.warm_up_jobs) + plan.scene_asks(plan.warm_up_jobs):
        for side in ready.contenders:
            side.render(ask)
    burst.warm_up(ready.farm, plan)
