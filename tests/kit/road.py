"""The road from a hub to its servers, which a test may close: a forward proxy, as teams have one (``http_proxy``)."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

_CHUNK = 1 << 16


class Road:
    """A proxy at an address of its own. Each connection leads to one server, named by its first request."""

    def __init__(self) -> None:
        self._closed: set[str] = set()
        self._open: dict[socket.socket, str] = {}
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What a process is given that is to take this road."""
        return {"http_proxy": self.url, "no_proxy": "127.0.0.1,localhost"}

    def close(self, host: str) -> None:
        """End every connection to a server (``host:port``), and let no new one through: as if it was down."""
        self._closed.add(host)
        for connection in [connection for connection, target in list(self._open.items()) if target == host]:
            _end(connection)

    def open(self, host: str) -> None:
        """The server is back."""
        self._closed.discard(host)

    def stop(self) -> None:
        self._listening.close()
        for connection in list(self._open):
            _end(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._lead, args=(connection,), daemon=True).start()

    def _lead(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(connection):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (chunk := connection.recv(_CHUNK)):
                    return
                head += chunk
            method, address = head.split(b" ", 2)[:2]
            host = address.decode() if method == b"CONNECT" else urlsplit(address.decode()).netloc
            if host in self._closed:
                return
            name, _, port = host.partition(":")
            with socket.create_connection((name, int(port or 80)), 10) as server:
                server.settimeout(None)
                for one in (connection, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if method == b"CONNECT":
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    server.sendall(head)
                self._join(connection, server, host)

    def _join(self, connection: socket.socket, server: socket.socket, host: str) -> None:
        self._open[connection] = host
        back = threading.Thread(target=_pour, args=(server, connection), daemon=True)
        back.start()
        try:
            _pour(connection, server)
            back.join()
        finally:
            del self._open[connection]


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    for end in (source, target):  # neither side is of use without the other
        _end(end)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
