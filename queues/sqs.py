"""`sqs://REGION/QUEUE`: Amazon SQS, standard and FIFO (`QUEUE` ends with `.fifo`), on boto3.

boto3's own variables hold credentials and endpoint (`AWS_*`, `AWS_ENDPOINT_URL`). The queue's
redrive policy sets how often a message is delivered, and its dead-letter queue.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from renderfarm.queues import sqs_entries as entries
from renderfarm.queues.base import REASON, Message, Outgoing, Queue, refuse
from renderfarm.queues.errors import BadAddress, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from renderfarm.queues.address import Address

MAX_WAIT_S = 20
MAX_DELAY_S = 43_200
MAX_REASON_CHARS = 1000
ANSWER_TIMEOUT_S = MAX_WAIT_S + 5
CONNECTION_ERRORS = (BotoConnectionError, HTTPClientError)


class SqsQueue(Queue):
    """One SQS queue. Each receive sets `lease_s`, whatever the queue's own timeout is."""

    def __init__(self, client: Any, name: str, *, lease_s: float) -> None:
        self.lease_s = lease_s
        self._client = client
        self._name = name

    def put(self, messages: Sequence[Outgoing]) -> None:
        """Send in batches; on a FIFO queue the id is the deduplication id."""
        faults = {each.id: entries.fault(each) for each in messages}
        refused = {job_id: reason for job_id, reason in faults.items() if reason}
        valid = [each for each in messages if each.id not in refused]
        refuse(refused | self._send(self._url, valid))

    def _send(self, url: str, messages: Sequence[Outgoing]) -> dict[str, str]:
        """Send the messages; return the reasons of the refused ones, by id."""
        refused = {}
        for batch in entries.batches(messages):
            prepared = [entries.entry(n, each, fifo=self._fifo) for n, each in enumerate(batch)]
            for failed in self._call("send_message_batch", url, prepared):
                refused[batch[int(failed["Id"])].id] = failed.get("Message") or failed["Code"]
        return refused

    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Long poll for the first message, then repeat while messages arrive."""
        deadline = time.monotonic() + wait_s
        taken: list[Message] = []
        while len(taken) < limit:
            remaining_s = 0.0 if taken else max(0.0, deadline - time.monotonic())
            batch = self._poll(min(entries.BATCH, limit - len(taken)), remaining_s)
            taken += batch
            if not batch and (taken or time.monotonic() >= deadline):
                break
        return taken

    def _poll(self, limit: int, wait_s: float) -> list[Message]:
        with _errors(self._name):
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=limit,
                WaitTimeSeconds=min(MAX_WAIT_S, math.ceil(wait_s)),
                VisibilityTimeout=math.ceil(self.lease_s),
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return [entries.message(raw) for raw in answer.get("Messages", [])]

    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Delete the messages."""
        return self._settle("delete_message_batch", messages)

    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Let the visibility timeout end after `delay_s`, at most twelve hours."""
        return self._set_visibility(messages, min(MAX_DELAY_S, math.ceil(delay_s)))

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Let the visibility timeout end after another `lease_s`."""
        return self._set_visibility(messages, math.ceil(self.lease_s))

    def _set_visibility(self, messages: Sequence[Message], seconds: int) -> list[Message]:
        return self._settle("change_message_visibility_batch", messages, VisibilityTimeout=seconds)

    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Send copies to the dead-letter queue, with the reason as an attribute, then delete.

        A crash between the two leaves a message in both queues, and never loses it.
        """
        extra = {REASON: reason[:MAX_REASON_CHARS]}
        copies = [Outgoing(each.body, each.id, extra | dict(each.attributes)) for each in messages]
        if copies:
            refuse(self._send(self._dead_letter_url, copies))
        return self.ack(messages)

    def _settle(self, verb: str, messages: Sequence[Message], **options: int) -> list[Message]:
        lost = []
        for start in range(0, len(messages), entries.BATCH):
            batch = messages[start : start + entries.BATCH]
            prepared = [
                {"Id": str(n), "ReceiptHandle": each.receipt, **options}
                for n, each in enumerate(batch)
            ]
            lost += [batch[int(each["Id"])] for each in self._call(verb, self._url, prepared)]
        return lost

    def _call(self, verb: str, url: str, prepared: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make one batch call; return the entries that failed because of their content."""
        with _errors(self._name):
            answer = getattr(self._client, verb)(QueueUrl=url, Entries=prepared)
        failed: list[dict[str, Any]] = answer.get("Failed", [])
        if server_faults := [each for each in failed if not each["SenderFault"]]:
            raise Unavailable(f"SQS failed for {self._name}: {server_faults[0]['Code']}")
        return failed

    @property
    def _fifo(self) -> bool:
        return self._name.endswith(".fifo")

    @cached_property
    def _url(self) -> str:
        with _errors(self._name):
            return str(self._client.get_queue_url(QueueName=self._name)["QueueUrl"])

    @cached_property
    def _dead_letter_url(self) -> str:
        with _errors(self._name):
            found = self._client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["RedrivePolicy"]
            )
            policy = found.get("Attributes", {}).get("RedrivePolicy")
            if policy is None:
                raise Refused(f"{self._name} has no dead-letter queue: give it a redrive policy")
            account, name = entries.name_of(policy)
            answer = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
        return str(answer["QueueUrl"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        code = error.response["Error"]["Code"]
        if status >= 500 or "Throttl" in code or code == "RequestThrottled":
            raise Unavailable(f"SQS is unavailable for {name}: {error}") from error
        raise Refused(f"SQS refused {name}: {error}") from error
    except CONNECTION_ERRORS as error:
        raise Unavailable(f"SQS cannot be reached: {error}") from error
    except BotoCoreError as error:
        raise Refused(f"the request to SQS failed: {error}") from error


def open_address(address: Address) -> SqsQueue:
    """Open the queue at `sqs://REGION/QUEUE?lease_s=30`."""
    address.allow("lease_s")
    if not address.path:
        raise BadAddress("sqs:// needs a region and a queue: sqs://REGION/QUEUE")
    config = Config(
        region_name=address.host,
        connect_timeout=3,
        read_timeout=ANSWER_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    # Its own session: boto3's default one is not safe for building clients in threads.
    client = boto3.session.Session().client("sqs", config=config)
    return SqsQueue(client, address.path, lease_s=address.lease_s)
