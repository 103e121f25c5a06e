"""Options that several commands have in common."""

from __future__ import annotations

import click

from app.tenants.tenants import DEFAULT_TENANT
from app.webhooks.endpoints import MAX_GRACE_S

TENANT = click.option(
    "--tenant", default=DEFAULT_TENANT, show_default=True, help="Name of the tenant."
)
GRACE = click.option(
    "--grace", "grace_s", type=click.FloatRange(0, MAX_GRACE_S), default=86_400,
    show_default=True, help="Seconds for which the old secret also signs.",
)  # fmt: skip
