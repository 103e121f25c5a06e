"""Become another program that ends with its parent: `die_with_parent.py SIGNAL PARENT PROGRAM...`.

The kernel sends SIGNAL (a number) to this process when PARENT (a pid) ends in any way, also by
`kill -9`, which no handler sees (PR_SET_PDEATHSIG). Linux keeps this setting over exec, so PROGRAM
runs in this very process. "Parent" is the thread that started this one: start programs from the
main thread. On systems without prctl the program runs without this guard.

This file runs on its own, before anything of the farm is imported.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
EXIT_PARENT_ENDED = 1


def main(argv: list[str]) -> None:
    """Set the parent-death signal, then become the program."""
    number, parent, *program = argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):  # the parent ended before the signal was set
        sys.exit(EXIT_PARENT_ENDED)
    os.execvp(program[0], program)  # noqa: S606 - a list from our own supervisor, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
