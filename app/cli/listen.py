"""`renderfarm listen`: webhooks on a developer's own machine, verified and printed."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import click

from app.cli.operate import reach
from app.config.settings import Settings
from app.tenants.tenants import DEFAULT_TENANT, find_by_name
from app.webhooks.endpoints import EndpointRequest, Endpoints, parse
from renderfarm.errors import WebhookError
from renderfarm.webhooks import verify

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_BYTES = 1_048_576


class Receiver(ThreadingHTTPServer):
    """Answers 204 to what verifies and 400 to the rest, and says each in one line.

    `say` gets the line; with `whole` the event's JSON follows. `secret` None: nothing is verified.
    """

    daemon_threads = True

    def __init__(
        self, port: int, secret: str | None, say: Callable[[str], None], *, whole: bool = False
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.secret = secret
        self.say = say
        self.whole = whole

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Take one delivery."""
        try:
            length = int(self.headers.get("content-length", 0))
            self._tell(self.rfile.read(max(0, min(length, LIMIT_BYTES))))
        except (WebhookError, ValueError) as error:
            self.server.say(f"REFUSED  {error}")
            self._answer(400)
        except (KeyError, TypeError, AttributeError):
            self.server.say("REFUSED  the body is not an event")
            self._answer(400)
        else:
            self._answer(204)

    def _tell(self, body: bytes) -> None:
        if self.server.secret is not None:
            verify(body, dict(self.headers), self.server.secret)
        event = json.loads(body)
        data = event["data"]
        how = "verified" if self.server.secret is not None else "NOT VERIFIED"
        status = data.get("status") or data.get("reason", "")
        self.server.say(f"{how}  {event['type']}  {data.get('id')}  {status}")
        if self.server.whole:
            self.server.say(json.dumps(event, indent=2, ensure_ascii=False))

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Only `say` speaks."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose webhooks.")
@click.option("--event", "events", multiple=True, help="Such as job.started; else all final ones.")
@click.option("--secret", help="Only verify by this secret; register nothing at the farm.")
@click.option("--json", "whole", is_flag=True, help="Print each event whole.")
def listen(
    *, port: int, tenant: str, events: tuple[str, ...], secret: str | None, whole: bool
) -> None:
    """Receive webhooks on this machine until Ctrl-C, verify and print them.

    It adds an endpoint for itself to the farm, and removes it at the end. The farm must be on this
    machine and have RENDERFARM_WEBHOOK_ALLOW_PRIVATE=1; for one elsewhere, bring its deliveries
    here with a tunnel of your own, and give that endpoint's --secret.
    """
    with Receiver(port, secret, click.echo, whole=whole) as server:
        if secret is not None:
            click.echo(f"listening on {server.url}", err=True)
            _serve(server)
            return
        engine = reach()
        whose = find_by_name(engine, tenant).id
        fields = {"url": server.url, "events": list(events), "description": "renderfarm listen"}
        if not Settings.from_environment(os.environ, needs=()).webhook_allow_private:
            raise click.ClickException(
                "this farm posts to public addresses only: set RENDERFARM_WEBHOOK_ALLOW_PRIVATE=1 "
                "for it and here"
            )
        asked = parse(json.dumps(fields).encode(), EndpointRequest, allow_private=True)
        row, server.secret = Endpoints(engine).add(whose, asked)
        click.echo(f"listening on {server.url} as endpoint {row['id']}", err=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the endpoint would stay
        try:
            _serve(server)
        finally:
            Endpoints(engine).remove(whose, row["id"])


def _serve(server: Receiver) -> None:
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
