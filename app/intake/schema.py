"""The JSON Schema of a queue message: `python -m app.intake.schema` prints it.

It covers everything that can be checked in a message alone. Limits that depend on the farm, such as
its models and their sizes, are at `GET /v1/models`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from app.jobs.request import QueueMessage

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXAMPLES: list[dict[str, Any]] = [
    {"prompt": "a red circle on a blue background"},
    {
        "id": "0199c1de-0000-7000-8000-000000000001",
        "model": "scenes",
        "prompt": "two green stars on a yellow background",
        "num_images": 2,
        "seed": 7,
        "output_format": "webp",
        "metadata": {"order": 5},
        "webhook": {"url": "https://shop.example/renderfarm", "events": ["job.succeeded"]},
    },
]


def queue_message() -> dict[str, Any]:
    """Return the schema, made from the same form with which intake reads messages."""
    form = QueueMessage.model_json_schema()
    form["description"] = (
        "A job on a queue: the body of POST /v1/jobs and, optionally, the job's id. "
        "JSON in UTF-8, at most 256 KiB."
    )
    return {"$schema": DIALECT, **form, "examples": EXAMPLES}


def document() -> str:
    """Return the schema as the text of a JSON file."""
    return json.dumps(queue_message(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
