"""Client commands: submit, jobs, job, cancel, models. They talk to the farm only by the SDK."""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.output import moment, print_rows, to_json
from renderfarm import Farm, InvalidRequest, ProgressEvent, RenderfarmError, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from renderfarm import Job, Model
    from renderfarm.types import Job as Snapshot

RETRIES = 3  # a user sees an error within two seconds, and can repeat the command
MACHINE = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to save the picture; several become NAME-1.png, NAME-2.png and so on.",
)
TIMEOUT = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Longest wait in seconds.",
)
FIELDS: tuple[tuple[tuple[str, ...], Any, str], ...] = (
    (("--model",), str, "The model (see `renderfarm models`)."),
    (("--negative-prompt",), str, "What the picture must not show."),
    (("--width",), int, "Pixels."),
    (("--height",), int, "Pixels."),
    (("--steps", "--num-inference-steps", "num_inference_steps"), int, "Denoising steps."),
    (("--guidance-scale",), float, "How closely the picture follows the prompt."),
    (("--num-images",), int, "Number of pictures."),
    (("--seed",), int, "The same seed and request give the same picture."),
    (("--scheduler",), str, "The sampler."),
    (("--output-format",), str, "File format: png, jpeg, webp or avif."),
    (("--priority",), int, "Higher runs earlier."),
    (("--deadline", "deadline_s"), float, "Seconds after which the job expires."),
)


def with_farm(command: Callable[..., None]) -> Callable[..., None]:
    """Connect a command to the farm, and print errors of farm and network in one line.

    Tests put the connecting function into the context's `obj`. Exit codes: 1 failed, 2 a bad
    request.
    """

    @click.pass_obj
    @functools.wraps(command)
    def wrapped(connect: Callable[[], Farm] | None, /, **options: Any) -> None:
        try:
            with connect() if connect else Farm(max_retries=RETRIES) as farm:
                command(farm, **options)
        except (RenderfarmError, OSError, ValueError) as error:
            kind = click.UsageError if isinstance(error, InvalidRequest) else click.ClickException
            raise kind(str(error)) from error

    return wrapped


def with_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for every field of a request."""
    for names, kind, about in reversed(FIELDS):
        command = click.option(*names, type=kind, help=about)(command)
    return command


@click.command()
@click.argument("prompt")
@OUTPUT
@with_fields
@TIMEOUT
@click.option("--no-wait", is_flag=True, help="Print the job's id and return at once.")
@MACHINE
@with_farm
def submit(
    farm: Farm,
    prompt: str,
    *,
    output: Path | None,
    timeout_s: float,
    no_wait: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Submit PROMPT, wait, and save the pictures."""
    if no_wait and output:
        raise click.UsageError("--no-wait has nothing to save yet: remove -o")
    _check_folder(output)
    job = farm.submit(prompt, **fields)
    if no_wait:
        click.echo(to_json(job.snapshot) if as_json else job.id)
        return
    _wait_and_save(job, output, timeout_s, as_json=as_json)


@click.command()
@click.option("--status", type=click.Choice([each.value for each in Status]))
@click.option("--model")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@MACHINE
@with_farm
def jobs(farm: Farm, *, status: str | None, model: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    found = [each.snapshot for each in farm.list(status=status, model=model, limit=limit)]
    if as_json:
        click.echo(to_json(found))
        return
    print_rows(
        ("id", "status", "model", "size", "steps", "created", "prompt"), map(_job_row, found)
    )


@click.command()
@click.argument("job_id", metavar="ID")
@OUTPUT
@TIMEOUT
@MACHINE
@with_farm
def job(farm: Farm, job_id: str, *, output: Path | None, timeout_s: float, as_json: bool) -> None:
    """Show one job. With -o, wait for it and save its pictures."""
    found = farm.job(job_id)
    if output:
        _check_folder(output)
        _wait_and_save(found, output, timeout_s, as_json=as_json)
    elif as_json:
        click.echo(to_json(found.snapshot))
    else:
        print_rows(("", ""), _job_lines(found.snapshot), header=False)


@click.command()
@click.argument("job_id", metavar="ID")
@with_farm
def cancel(farm: Farm, job_id: str) -> None:
    """Cancel a job."""
    click.echo(f"{farm.cancel(job_id).id} cancelled")


@click.command()
@MACHINE
@with_farm
def models(farm: Farm, *, as_json: bool) -> None:
    """List the models that the farm serves."""
    served = farm.models()
    if as_json:
        click.echo(to_json(served))
        return
    columns = ("model", "width", "height", "multiple of", "steps", "images", "schedulers", "about")
    print_rows(columns, map(_model_row, served))


def _wait_and_save(job: Job, output: Path | None, timeout_s: float, *, as_json: bool) -> None:
    try:
        _watch(job, timeout_s)
        paths = _save(job, output) if output else []
    except KeyboardInterrupt:
        click.echo(
            f"\njob {job.id} continues in the farm\n"
            f"  see it:     renderfarm job {job.id}\n"
            f"  get it:     renderfarm job {job.id} -o FILE\n"
            f"  cancel it:  renderfarm cancel {job.id}",
            err=True,
        )
        raise click.exceptions.Exit(130) from None
    if as_json:
        click.echo(to_json(job.snapshot))
    else:
        click.echo("\n".join(map(str, paths) if paths else (each.url for each in job.images)))


def _watch(job: Job, timeout_s: float) -> None:
    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        job.wait(timeout_s)
        return
    columns = (TextColumn("{task.description:9}"), BarColumn(), TextColumn("{task.fields[steps]}"))
    with Progress(*columns, TimeElapsedColumn(), console=terminal, transient=True) as bar:
        line = bar.add_task(job.status, total=None, steps="")
        for event in job.events(timeout_s):
            if isinstance(event, ProgressEvent):
                step, steps = event.progress.step, event.progress.steps
                bar.update(line, completed=step, total=steps, steps=f"{step}/{steps}")
            else:
                bar.update(line, description=event.job.status)
    job.wait(0)


def _check_folder(output: Path | None) -> None:
    if output and not output.parent.is_dir():
        raise click.UsageError(f"cannot save {output}: there is no folder {output.parent}")


def _save(job: Job, output: Path) -> list[Path]:
    if len(job.images) == 1:
        return [job.images[0].save(output)]
    numbered = enumerate(job.images, start=1)
    return [image.save(output.with_stem(f"{output.stem}-{n}")) for n, image in numbered]


def _job_row(job: Snapshot) -> tuple[object, ...]:
    request = job.request
    size = f"{request.get('width')}x{request.get('height')}"
    last = (request.get("num_inference_steps"), moment(job.created_at), request.get("prompt"))
    return job.id, job.status, request.get("model"), size, *last


def _job_lines(job: Snapshot) -> Iterable[tuple[object, object]]:
    yield "id", job.id
    yield "status", job.status
    if job.progress:
        yield "progress", f"{job.progress.step}/{job.progress.steps}"
    if job.error:
        yield "error", f"{job.error.message} ({job.error.code})"
    yield "attempt", job.attempt
    for name in ("created_at", "started_at", "finished_at"):
        yield name, moment(getattr(job, name))
    for name, seconds in asdict(job.timings).items():
        if seconds is not None:
            yield name, f"{seconds:.3f}"
    yield from ((name, value) for name, value in job.request.items() if value is not None)
    for image in job.images:
        yield "image", image.url


def _model_row(model: Model) -> tuple[object, ...]:
    limits = model.limits
    width, height = (
        f"{limits.min_width}-{limits.max_width}",
        f"{limits.min_height}-{limits.max_height}",
    )
    most = (limits.multiple_of, f"1-{limits.max_steps}", f"1-{limits.max_images}")
    return model.name, width, height, *most, " ".join(model.schedulers), model.description
