"""Become another program that ends when its parent does: `python die_with_parent.py SIGNAL PARENT PROGRAM...`.

The kernel sends SIGNAL (a number) to this process when PARENT (a pid) ends, however it ends: also
under `kill -9`, which no handler sees. Linux keeps that wish over exec, so PROGRAM runs in this
very process. "Parent" is the thread that started us: start programs from the main thread. On
systems without prctl the program runs untethered.

This file runs on its own, before anything of ours is imported.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PARENT_IS_GONE = 1


def main(argv: list[str]) -> None:
    """Tie this process to its parent, then become the program."""
    number, parent, *program = argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before the tie was made
        sys.exit(PARENT_IS_GONE)
    os.execvp(program[0], program)  # noqa: S606 - a list from our own supervisor, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
