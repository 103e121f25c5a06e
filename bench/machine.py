"""The conditions of a measurement: the machine, the commit and the versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.config.repository import REPOSITORY

PACKAGES = (
    "celery", "diffusers", "fastapi", "httpx", "kombu", "psycopg", "redis", "sqlalchemy", "torch",
    "transformers", "uvicorn",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Return the processor, its available cores, the memory, and the load."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": _cores(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "torch_threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the important packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def commit() -> str:
    """Return the checked-out commit, with `+` if files differ from it; empty outside git."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and _git("status", "--porcelain", "--untracked-files=no") else "")


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the git on the PATH
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip()


def _field(file: str, name: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
