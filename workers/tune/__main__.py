"""`python -m workers.tune MODEL`: measure, print a table, write the best to `models.toml`."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from app.catalog.load import load_catalog
from app.config.settings import models_file
from app.errors import FarmError
from workers.device.build import device_of, quieten
from workers.device.threads import wait_briefly
from workers.tune.record import recorded, write
from workers.tune.search import Row, search, winner


@click.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Measure and print; write nothing.")
@click.option("--skip", multiple=True, help="A setting not to try, such as compile.")
@click.option(
    "--steps", type=click.IntRange(1), help="Steps of each picture. Default: the model's."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--tolerance",
    type=float,
    default=2.0,
    show_default=True,
    help="Largest mean pixel error, of 255.",
)
def main(
    *,
    name: str,
    dry_run: bool,
    skip: tuple[str, ...],
    steps: int | None,
    rounds: int,
    tolerance: float,
) -> None:
    """Tune one model of the registry on this device."""
    wait_briefly(os.environ)  # as in a worker, and before torch is imported
    import torch  # noqa: PLC0415

    from workers.tune.measure import Bench, plain, switches  # noqa: PLC0415

    file = models_file(os.environ)
    try:
        catalog = load_catalog(file, frozenset({name}), revised=False)
    except FarmError as error:
        sys.exit(f"doctor: {error}")
    model = catalog.models[name]
    if model.path is None:
        sys.exit(f"doctor: {name} is a null model and cannot be tuned")
    quieten()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tried = {key: values for key, values in switches(model, device).items() if key not in skip}
    steps = steps or model.defaults.num_inference_steps
    bench = Bench(model, file.parent, device=device, steps=steps, rounds=rounds)
    rows = []
    for row in search(plain(model.speed), tried, bench.measure, tolerance):
        rows.append(row)
        click.echo(f"{row.switch}: {row.measured.error or f'{row.measured.picture_s:.3f} s'}")
    if rows[0].verdict != "kept":
        sys.exit(f"doctor: {name} cannot render: {rows[0].measured.error}")
    Console().print(_table(f"{name} on {device_of(catalog)}", rows))
    best = winner(rows)
    remark = f"measured on {device_of(catalog)}, {datetime.now(UTC):%Y-%m-%d}"
    text = recorded(file.read_text(), name, best.speed, remark)
    if dry_run:
        click.echo(f"{file} is not changed (dry run). The new text would be:\n\n{text}")
        return
    write(file, text)
    click.echo(f"{file} is written; workers that start from now on use it")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table("setting", "s/picture", "speed-up", "max error", "mean error", "", title=title)
    first_s = rows[0].measured.picture_s
    for row in rows:
        result = row.measured
        figures = (
            [result.error, "", "", ""]
            if result.error
            else [
                f"{result.picture_s:.3f}",
                f"{first_s / result.picture_s:.2f}",
                str(result.max_off),
                f"{result.mean_off:.2f}",
            ]
        )
        table.add_row(row.switch, *figures, row.verdict)
    return table


if __name__ == "__main__":
    main()
