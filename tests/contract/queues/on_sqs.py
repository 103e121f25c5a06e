"""Amazon SQS in the conformance suite: the real boto3 with moto's server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import count
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import boto3
import pytest

from app.local import ports
from renderfarm.queues.base import REASON
from renderfarm.queues.sqs_entries import LIMIT_BYTES
from tests.contract.queues.harness import Dead, eventually

NUMBERS = count()
REGION = "eu-central-1"


class SqsHarness:
    """A killed moto loses its queues, so they are made again at each restart."""

    abilities = frozenset({"groups", "group_waits", "counts", "dedup", "outage", "missing"})
    short_lease_s = 2.0  # SQS has only whole seconds
    limit_bytes = LIMIT_BYTES

    def __init__(self) -> None:
        self._environment = pytest.MonkeyPatch()
        self._port = ports.free()
        url = f"http://{ports.LOOPBACK}:{self._port}"
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            self._environment.setenv(name, value)
        self._client = boto3.client("sqs", region_name=REGION)
        self._queues: dict[str, dict[str, Any]] = {}
        self._dead: dict[str, list[Dead]] = {}
        self._start()

    def _start(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", ports.LOOPBACK, "-p", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, bool)

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://{ports.LOOPBACK}:{self._port}/moto-api/data.json", timeout=5):
                return True
        except OSError:
            return False

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """Make a queue, and the dead-letter queue that its redrive policy names."""
        end = ".fifo" if ordered else ""
        name = f"q{next(NUMBERS)}{end}"
        self._queues[name] = {"max_deliveries": max_deliveries, "ordered": ordered}
        self._make(name, **self._queues[name])
        return f"sqs://{REGION}/{name}?lease_s={lease_s:g}"

    def _make(self, name: str, *, max_deliveries: int, ordered: bool) -> None:
        kind = {"FifoQueue": "true"} if ordered else {}
        dead = self._client.create_queue(QueueName=f"dead-{name}", Attributes=kind)["QueueUrl"]
        arn = self._client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": max_deliveries,
        }
        self._client.create_queue(
            QueueName=name, Attributes={**kind, "RedrivePolicy": json.dumps(policy)}
        )

    def dead(self, url: str) -> list[Dead]:
        """Receive the messages that came to the dead-letter queue since the last call."""
        found = self._dead.setdefault(url, [])
        name = f"dead-{urlsplit(url).path.strip('/')}"
        queue = self._client.get_queue_url(QueueName=name)["QueueUrl"]
        asked = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        while batch := self._client.receive_message(QueueUrl=queue, **asked).get("Messages"):
            for each in batch:
                attributes = {
                    key: value["StringValue"]
                    for key, value in each.get("MessageAttributes", {}).items()
                }
                found.append(Dead(each["Body"].encode(), attributes.pop(REASON, None), attributes))
        return found

    def missing(self) -> str:
        """Return the URL of a queue that was never made."""
        return f"sqs://{REGION}/missing"

    def kill(self) -> None:
        """Kill moto."""
        os.kill(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def restart(self) -> None:
        """Start moto, with empty queues of the same names."""
        self._start()
        for name, options in self._queues.items():
            self._make(name, **options)

    def stop(self) -> None:
        """Stop moto, and unset its address."""
        self.kill()
        self._client.close()
        self._environment.undo()
