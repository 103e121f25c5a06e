"""The user of the Postgres processes, because Postgres refuses to run as root.

- Not root: the current user.
- Root: in its own user namespace. The server sees uid 1000, but its files stay root's. So no
  system user is needed, and the data may be in a home with mode 0700.
- Root where user namespaces are forbidden (most containers): as `nobody`, which must be able to
  enter the data directory. Server programs that it cannot read are copied next to the data.

Existing data stay with the user for whom they were created.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from enum import StrEnum
from typing import TYPE_CHECKING

from app.local.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
PARENT_DEATH_SIGNAL = ("--pdeathsig", "INT")  # again, because a change of user clears it
NOBODY_UID = 65534


class Identity(StrEnum):
    """The user of the server process."""

    CURRENT_USER = "current user"
    NAMESPACE = "namespace"
    NOBODY = "nobody"

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command line prefix that runs a program as this user."""
        return {
            Identity.CURRENT_USER: (),
            Identity.NAMESPACE: NAMESPACE,
            Identity.NOBODY: (*NOBODY, *PARENT_DEATH_SIGNAL),
        }[self]


def choose(uid: int, *, namespaces: bool, reachable: bool) -> Identity:
    """Decide, by whether the kernel allows `namespaces` and whether nobody has access."""
    if uid != 0:
        return Identity.CURRENT_USER
    if namespaces:
        return Identity.NAMESPACE
    if reachable:
        return Identity.NOBODY
    raise LocalError(
        "Postgres cannot run as root, and user namespaces and the user `nobody` cannot access "
        "the farm's directory here: start as an ordinary user, or choose another --dir"
    )


def detect(directory: Path) -> Identity:
    """Choose for this process and a server whose data is in `directory` (which exists)."""
    owner, uid = directory.stat().st_uid, os.geteuid()
    if uid == 0 and owner == NOBODY_UID:
        return Identity.NOBODY
    if owner != uid:
        raise LocalError(f"{directory} belongs to user {owner}, not to {uid}: start as its owner")
    if uid != 0:
        return Identity.CURRENT_USER
    namespaces = _works((*NAMESPACE, "test", "-r", str(directory)))
    reachable = not namespaces and _works((*NOBODY, "test", "-x", str(directory)))
    return choose(0, namespaces=namespaces, reachable=reachable)


def readable_copy(programs: Path, copies: Path) -> Path:
    """Return the folder `programs`, or a copy of it in `copies` if nobody cannot run it."""
    if _works((*NOBODY, "test", "-x", str(programs / "bin" / "postgres"))):
        return programs
    copy = copies / programs.name
    if not copy.exists():
        partial = copies / f"{programs.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(programs, partial, symlinks=True)
        partial.rename(copy)
    return copy


def _works(argv: tuple[str, ...]) -> bool:
    """Whether a command can be run and succeeds."""
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
