"""Ports: free ones, and the processes that use the others."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from app.local import ports
from app.local.errors import PortTakenError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_free_port_can_be_had() -> None:
    """A server can listen on a free port, which is outside the range of outgoing connections."""
    port = ports.free()
    assert port < ports._first_ephemeral()
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, port))


def test_zero_stands_for_any() -> None:
    """Port 0 gives any free port; another port is returned if it is free."""
    chosen = ports.claim(0, option="--port")
    assert ports.is_free(chosen)
    assert ports.claim(chosen, option="--port") == chosen


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_taken_port_names_its_holder(taken: int) -> None:
    """The error names the port, the process that uses it, and what to do."""
    with pytest.raises(PortTakenError) as error:
        ports.claim(taken, option="--port")
    assert f"port {taken} is taken by " in str(error.value)
    assert f"(pid {os.getpid()})" in str(error.value)
    assert "--port" in str(error.value)


def test_free_port_has_no_holder() -> None:
    """For a port without a listener no process is named."""
    assert ports.holder(ports.free()) == ""
