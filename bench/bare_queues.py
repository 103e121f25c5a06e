"""The other side of `bench.intake`: the most that each service's SDK can do.

    python -m bench.bare_queues COUNT URL...

Prints `begin`, receives and acknowledges COUNT messages of these queues with one thread per queue,
and prints `done`. It uses the largest batches that the service allows.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 100
SQS_BATCH = 10


def redis(url: str, count: int) -> None:
    """XREADGROUP, then XACK and XDEL in one pipeline."""
    from redis import Redis  # noqa: PLC0415 - each service imports its own

    (stream,) = parse_qs(urlsplit(url).query)["stream"]
    client: Any = Redis.from_url(url.partition("?")[0])
    client.xgroup_create(stream, "bare", "0")
    while count:
        ((_, entries),) = client.xreadgroup("bare", "one", {stream: ">"}, BATCH, block=1000)
        names = [name for name, _ in entries]
        pipeline = client.pipeline()
        pipeline.xack(stream, "bare", *names)
        pipeline.xdel(stream, *names)
        pipeline.execute()
        count -= len(entries)


def sqs(url: str, count: int) -> None:
    """ReceiveMessage and DeleteMessageBatch, ten at a time."""
    import boto3  # noqa: PLC0415

    client = boto3.session.Session().client("sqs", region_name=urlsplit(url).netloc)
    queue = client.get_queue_url(QueueName=urlsplit(url).path.strip("/"))["QueueUrl"]
    while count:
        answer = client.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=SQS_BATCH, WaitTimeSeconds=1
        )
        entries = [
            {"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]}
            for n, each in enumerate(answer.get("Messages", []))
        ]
        if entries:
            client.delete_message_batch(QueueUrl=queue, Entries=entries)
        count -= len(entries)


def pubsub(url: str, count: int) -> None:
    """The SDK's own `subscribe`, a streaming pull; its callback acknowledges."""
    from google.cloud import pubsub_v1  # noqa: PLC0415

    (name,) = parse_qs(urlsplit(url).query)["subscription"]
    seen, done = set(), threading.Event()

    def take(message: pubsub_v1.subscriber.message.Message) -> None:
        message.ack()
        seen.add(message.message_id)
        if len(seen) >= count:
            done.set()

    client = pubsub_v1.SubscriberClient()
    client.subscribe(client.subscription_path(urlsplit(url).netloc, name), take)
    done.wait()


def servicebus(url: str, count: int) -> None:
    """`receive_messages`, then `complete_message` for each: the SDK has no batch for that."""
    from azure.servicebus import ServiceBusClient  # noqa: PLC0415

    secret = os.environ["AZURE_SERVICEBUS_CONNECTION_STRING"]
    client = ServiceBusClient.from_connection_string(secret)
    with client, client.get_queue_receiver(urlsplit(url).path.strip("/")) as receiver:
        while count:
            messages = receiver.receive_messages(BATCH, max_wait_time=1)
            for message in messages:
                receiver.complete_message(message)
            count -= len(messages)


LOOPS: dict[str, Callable[[str, int], None]] = {
    "redis": redis,
    "sqs": sqs,
    "pubsub": pubsub,
    "servicebus": servicebus,
}


SDKS = {
    "redis": "redis",
    "sqs": "boto3",
    "pubsub": "google.cloud.pubsub_v1",
    "servicebus": "azure.servicebus",
}


def main(argv: list[str]) -> None:
    """Receive and acknowledge all messages."""
    count, urls = int(argv[0]) // len(argv[1:]), argv[1:]
    loop = LOOPS[urlsplit(urls[0]).scheme]
    import_module(SDKS[loop.__name__])  # as on the other side, before the clock starts
    threads = [threading.Thread(target=loop, args=(url, count)) for url in urls]
    print("begin", flush=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
