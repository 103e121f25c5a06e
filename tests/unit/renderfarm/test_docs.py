"""The SDK's pages: their code runs."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

import renderfarm
from renderfarm import AsyncFarm, Farm
from renderfarm.testing import FakeFarm

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


SDK = blocks("reference/sdk.md")
WEBHOOKS = blocks("howto/receive-webhooks.md")
PICTURES = blocks("howto/start-from-pictures.md")
EXTRAS = blocks("howto/use-loras-and-controlnets.md")


@pytest.mark.parametrize("code", [*SDK, *PICTURES, *EXTRAS, WEBHOOKS[0], WEBHOOKS[-1]])
def test_examples_run(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each example runs to its end unchanged, with a fake farm if it needs one."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat.png", "edges.png"):
        Path(name).write_bytes(b"pixels")
    fake = FakeFarm()
    if "FakeFarm" not in code:
        monkeypatch.setattr(renderfarm, "Farm", functools.partial(Farm, transport=fake))
        monkeypatch.setattr(renderfarm, "AsyncFarm", functools.partial(AsyncFarm, transport=fake))
    exec(compile(code, "example", "exec", dont_inherit=True), {"__name__": "example"})  # noqa: S102 - our own pages
