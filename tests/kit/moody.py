"""What stands before a registry and spoils what it says: a proxy that breaks what a test tells it to break, and remembers what was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

Answer = tuple[int, dict[str, str], bytes]
Mood = Callable[[str, str], Answer | str | None]
"""Called with method and path: an answer of its own, another path to ask for, or None to pass it on as it is."""


class Moody:
    """A proxy at an address of its own. ``asked`` are (method, path, Authorization) of all requests."""

    def __init__(self, upstream: str = "") -> None:
        self.upstream = upstream
        self.mood: Mood = lambda method, path: None
        self.asked: list[tuple[str, str, str]] = []
        self._client = httpx.Client(verify=False, timeout=60)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    def count(self, method: str, part: str = "") -> int:
        """How many requests of a method there were, with this in their path."""
        return sum(1 for asked, path, _ in self.asked if asked == method and part in path)

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        moody = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                moody.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = moody.mood(self.command, self.path)
                if not isinstance(found, tuple):
                    answer = moody._client.request(self.command, f"http://{moody.upstream}{found or self.path}", headers=dict(self.headers), content=body)
                    kept = {name: value for name, value in answer.headers.items() if name.lower() not in {"content-length", "connection", "transfer-encoding"}}
                    if self.command == "HEAD" and "content-length" in answer.headers:
                        kept["content-length"] = answer.headers["content-length"]
                    found = (answer.status_code, kept, answer.content)
                status, headers, content = found
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "content-length" not in headers:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def be_silent(seconds: float) -> Mood:
    """Return the mood of saying nothing for so long."""

    def mood(method: str, path: str) -> Answer:
        time.sleep(seconds)
        return (500, {}, b"")

    return mood
