"""Free ports of this machine for the servers that tests start."""

from __future__ import annotations

import secrets
import socket

LOWEST, COUNT = 20_000, 10_000  # below those that Linux gives to connections (32768 and up) and Kubernetes to services (30000 and up)
_given: set[int] = set()


def find_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens at, another one each time: none that a connection or the test beside may take first."""
    while True:
        port = LOWEST + secrets.randbelow(COUNT)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
