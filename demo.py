"""The demo: start a farm here, render 16 prompts at once, show the pictures and the figures.

Run it with `make demo`. It starts `renderfarm up` on free ports, submits through the SDK like any
client, and stops the farm again. With `KEEP=1` the farm keeps running until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.database import create_engine
from app.dispatch import workers
from models.scenes.sheet import contact_sheet
from renderfarm import Farm
from renderfarm.errors import RenderfarmError
from renderfarm.types import ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from renderfarm.client import Job

ROOT = Path(__file__).resolve().parent
OUT = ROOT / "demo"
VAR = ROOT / "var"
START_S = 90.0

# (prompt, width, height, steps): mixed on purpose; the engine batches them step by step.
PROMPTS: list[tuple[str, int, int, int]] = [
    ("a red circle on a blue background", 128, 128, 20),
    ("two green squares on a yellow background", 128, 128, 20),
    ("a big yellow star on a black background", 128, 128, 30),
    ("three white circles on a purple background", 128, 128, 12),
    ("a blue triangle on the left on a white background", 128, 128, 20),
    ("an orange heart on the right on a green background", 128, 128, 24),
    ("a cyan square on a pink background", 128, 128, 20),
    ("a black cross on a yellow background", 128, 128, 16),
    ("four blue circles on a white background", 128, 128, 30),
    ("a green diamond at the top on an orange background", 128, 128, 20),
    ("a white ring on a red background", 128, 128, 12),
    ("a purple square at the bottom on a white background", 128, 128, 20),
    ("two orange hearts on a black background", 128, 128, 30),
    ("a yellow circle on a black and white checkered background", 128, 128, 24),
    ("a blue circle on a white background", 160, 128, 20),
    ("a red square on a yellow background", 128, 160, 20),
]


def main() -> int:
    """Run the demo. Return the exit code."""
    console = Console()
    OUT.mkdir(exist_ok=True)
    try:
        with farm_running(console) as access:
            show(console, access)
            if os.environ.get("KEEP") == "1":
                console.print("\nThe farm stays up. [bold]Ctrl-C[/] stops it.")
                signal.pause()
    except KeyboardInterrupt:
        console.print("stopped")
        return 0 if os.environ.get("KEEP") == "1" else 130
    except RenderfarmError as error:
        console.print(f"[red]{error}[/]")
        return 1
    console.print("The farm has stopped. Run it yourself with [bold]make up[/].")
    return 0


@contextlib.contextmanager
def farm_running(console: Console) -> Iterator[dict[str, Any]]:
    """Yield the `farm.json` of a new farm under `var/`, and stop the farm at the end."""
    log = (OUT / "farm.log").open("w")
    command = [str(Path(sys.executable).with_name("renderfarm")), "up", "--dir", str(VAR)]
    command += ["--port", os.environ.get("PORT", "0"), "--flower-port", "0", "--slots", "32"]
    before = _written_at()
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        with console.status("starting Postgres, Redis, API, dispatcher, worker and Flower"):
            access = _wait_until_up(process, before)
        console.print(f"The farm is up at {access['url']} (log: demo/farm.log)")
        yield access
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        log.close()


def _wait_until_up(process: subprocess.Popen[bytes], before: int | None) -> dict[str, Any]:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            last = (OUT / "farm.log").read_text().strip().splitlines()[-1:]
            raise RenderfarmError(f"the farm did not start: {' '.join(last)}")
        if _written_at() not in {None, before}:
            access: dict[str, Any] = json.loads((VAR / "farm.json").read_text())
            return access
        time.sleep(0.1)
    raise RenderfarmError("the farm did not start in time; see demo/farm.log")


def _written_at() -> int | None:
    """Return the time of `farm.json`, which tells a new file from one that a killed farm left."""
    try:
        return (VAR / "farm.json").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def show(console: Console, access: dict[str, Any]) -> None:
    """Submit, follow, save, and report."""
    with Farm(access["url"], access["api_key"]) as farm:
        began = time.monotonic()
        jobs = [
            farm.submit(p, width=w, height=h, num_inference_steps=s, seed=n)
            for n, (p, w, h, s) in enumerate(PROMPTS)
        ]
        follow(console, jobs)
        took_s = time.monotonic() - began
        pictures = [Image.open(save(n, job)) for n, job in enumerate(jobs)]
    captions = [prompt for prompt, *_ in PROMPTS]
    sheet = OUT / "contact-sheet.png"
    contact_sheet(pictures, captions, columns=4, cell_px=256, font_px=13).save(sheet)
    console.print(latencies(jobs))
    stats = batching(access["database_url"])
    console.print(
        f"{len(jobs)} pictures in {took_s:.1f} s; "
        f"{stats:.1f} rows per forward pass of the denoiser, over all forward passes of the worker."
    )
    console.print(f"Pictures: demo/*.png   Contact sheet: [bold]{sheet.relative_to(ROOT)}[/]")
    console.print(
        f"Console: {access['url']}/#{access['api_key']}\nAPI documentation: {access['url']}/docs\n"
        f"Flower: {access['flower_url']} "
        f"(user {access['flower_user']}, password {access['flower_password']})\n"
        "They run as long as the farm: [bold]KEEP=1 make demo[/] keeps it running. More: docs/"
    )


def follow(console: Console, jobs: list[Job]) -> None:
    """Show a progress bar for each job until all are final."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars, ThreadPoolExecutor(len(jobs)) as pool:

        def watch(job: Job, prompt: str, steps: int) -> None:
            bar = bars.add_task(prompt[:48].ljust(48), total=steps)
            for event in job.events(timeout_s=120):
                if isinstance(event, ProgressEvent):
                    bars.update(bar, completed=event.progress.step, total=event.progress.steps)
            bars.update(bar, completed=steps)

        watchers = [
            pool.submit(watch, job, prompt, steps)
            for job, (prompt, _, _, steps) in zip(jobs, PROMPTS, strict=True)
        ]
        for watcher in watchers:
            watcher.result()
    for job in jobs:
        job.wait(timeout=60)


def save(n: int, job: Job) -> Path:
    """Save the job's picture under its number and the beginning of its prompt."""
    prompt = PROMPTS[n][0]
    path = OUT / f"{n + 1:02}-{prompt[:40].strip().replace(' ', '-')}.png"
    return job.images[0].save(path)


def latencies(jobs: list[Job]) -> Table:
    """Return a table of how long each job waited and rendered, in seconds."""
    table = Table(box=None)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", max_width=30)
    for name in ("size", "steps", "queue s", "render s", "device s"):
        table.add_column(name, justify="right", no_wrap=True)
    for job, (prompt, width, height, steps) in zip(jobs, PROMPTS, strict=True):
        timings = job.snapshot.timings
        numbers = (timings.queued_s, timings.render_s, job.snapshot.gpu_seconds)
        cells = [f"{number:.2f}" if number is not None else "" for number in numbers]
        table.add_row(prompt, f"{width}x{height}", str(steps), *cells)
    return table


def batching(database_url: str) -> float:
    """Return the rows per forward pass of the denoiser, from the workers' statistics."""
    engine = create_engine(database_url, pool_size=1)
    rows = forwards = 0
    until = time.monotonic() + 10
    while not forwards and time.monotonic() < until:
        for worker in workers.living(engine):
            rows += worker["stats"].get("rows", {}).get("denoiser", 0)
            forwards += worker["stats"].get("forwards", {}).get("denoiser", 0)
        time.sleep(0 if forwards else 0.2)
    engine.dispose()
    return rows / max(1, forwards)


if __name__ == "__main__":
    sys.exit(main())
