"""Registry: opening the queue of a URL."""

from __future__ import annotations

import subprocess
import sys

import pytest

from renderfarm.queues import BadAddress, MissingExtra, open_queue
from renderfarm.queues.registry import EXTRAS, MODULES


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://topic", "memory://"),
        ("no url", "starts with"),
        ("redis://127.0.0.1/0", "needs .stream="),
        ("sqs://eu-central-1", "sqs://REGION/QUEUE"),
        ("sqs://eu-central-1/q?max_deliveries=3", "no option 'max_deliveries'"),
        ("pubsub://project", "pubsub://PROJECT/TOPIC"),
        ("servicebus://namespace", "servicebus://NAMESPACE/QUEUE"),
        ("memory://", "followed by a name"),
        ("memory://a?leases=3", "no option 'leases'"),
        ("memory://a?lease_s=long", "lease_s must be a number"),
        ("memory://a?lease_s=nan", "lease_s must be at least"),
        ("memory://a?max_deliveries=0", "max_deliveries must be at least 1"),
    ],
)
def test_a_bad_url_says_what_is_wrong(url: str, says: str) -> None:
    """An invalid or mistyped URL is refused, and the error names the valid form."""
    with pytest.raises(BadAddress, match=says):
        open_queue(url)


def test_importing_brings_no_sdk() -> None:
    """`renderfarm.queues` and its memory queue need only the standard library."""
    program = (
        "import sys; from renderfarm.queues import open_queue; open_queue('memory://a').send({'prompt': 'x'});"
        "print(*{m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names)"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    foreign = {"boto3", "botocore", "google", "grpc", "azure", "redis", "app", "httpx"}
    assert foreign.isdisjoint(found.stdout.split())
    assert "renderfarm" in found.stdout.split()


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_sdk_names_its_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a service's SDK the error names the extra of the wheel that installs it."""
    scheme = next(scheme for scheme, name in MODULES.items() if name == module)
    for name in [
        name for name in sys.modules if name == module or name.startswith("renderfarm.queues.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    for sdk in ("redis", "boto3", "grpc", "azure.servicebus"):
        monkeypatch.setitem(sys.modules, sdk, None)
    with pytest.raises(MissingExtra, match=rf"renderfarm\[{EXTRAS[module]}\]"):
        open_queue(f"{scheme}://host/name")
