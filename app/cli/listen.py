"""`renderfarm listen`: receives webhooks on a developer's machine, verifies and prints them."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import click

from app.cli.operate import reach
from app.cli.options import TENANT
from app.config.settings import Settings
from app.tenants.tenants import find_by_name
from app.webhooks.endpoints import EndpointRequest, Endpoints, parse
from renderfarm.errors import WebhookError
from renderfarm.webhooks import verify

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_BYTES = 1_048_576


class Receiver(ThreadingHTTPServer):
    """Answers 204 to a verified webhook and 400 to others, and prints one line for each.

    `print_line` prints it. With `whole` the event's JSON follows. With `secret` None nothing is
    verified.
    """

    daemon_threads = True

    def __init__(
        self,
        port: int,
        secret: str | None,
        print_line: Callable[[str], None],
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.secret = secret
        self.print_line = print_line
        self.whole = whole

    @property
    def url(self) -> str:
        """The URL on which it listens."""
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Receive one delivery."""
        try:
            length = int(self.headers.get("content-length", 0))
            self._receive(self.rfile.read(max(0, min(length, LIMIT_BYTES))))
        except (WebhookError, ValueError) as error:
            self.server.print_line(f"REFUSED  {error}")
            self._answer(400)
        except (KeyError, TypeError, AttributeError):
            self.server.print_line("REFUSED  the body is not an event")
            self._answer(400)
        else:
            self._answer(204)

    def _receive(self, body: bytes) -> None:
        if self.server.secret is not None:
            verify(body, dict(self.headers), self.server.secret)
        event = json.loads(body)
        data = event["data"]
        verdict = "verified" if self.server.secret is not None else "NOT VERIFIED"
        status = data.get("status") or data.get("reason", "")
        self.server.print_line(f"{verdict}  {event['type']}  {data.get('id')}  {status}")
        if self.server.whole:
            self.server.print_line(json.dumps(event, indent=2, ensure_ascii=False))

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print no line of its own for a request."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: any free port.")
@TENANT
@click.option(
    "--event",
    "events",
    multiple=True,
    help="An event, such as job.started. Default: all final events.",
)
@click.option("--secret", help="Verify with this secret only; add no endpoint to the farm.")
@click.option("--json", "whole", is_flag=True, help="Print the whole event as JSON.")
def listen(
    *, port: int, tenant: str, events: tuple[str, ...], secret: str | None, whole: bool
) -> None:
    """Receive webhooks on this machine until Ctrl-C, verify and print them.

    The command adds an endpoint for itself to the farm, and removes it at the end. The farm must be
    on this machine and have RENDERFARM_WEBHOOK_ALLOW_PRIVATE=1. For a remote farm, forward its
    deliveries through a tunnel, and give that endpoint's --secret.
    """
    with Receiver(port, secret, click.echo, whole=whole) as server:
        if secret is not None:
            click.echo(f"listening on {server.url}", err=True)
            _serve(server)
            return
        engine = reach()
        tenant_id = find_by_name(engine, tenant).id
        fields = {"url": server.url, "events": list(events), "description": "renderfarm listen"}
        if not Settings.from_environment(os.environ, needs=()).webhook_allow_private:
            raise click.ClickException(
                "this farm posts to public addresses only: set RENDERFARM_WEBHOOK_ALLOW_PRIVATE=1 "
                "for it and here"
            )
        form = parse(json.dumps(fields).encode(), EndpointRequest, allow_private=True)
        row, server.secret = Endpoints(engine).add(tenant_id, form)
        click.echo(f"listening on {server.url} as endpoint {row['id']}", err=True)
        # Without this the endpoint would stay in the farm after SIGTERM.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _serve(server)
        finally:
            Endpoints(engine).remove(tenant_id, row["id"])


def _serve(server: Receiver) -> None:
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
