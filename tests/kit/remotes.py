"""Remotes that misbehave on demand, and a package index: the real git and DVC server, in a mood."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from config.demo.server import Handler, Server

METADATA = "http://169.254.169.254/latest/meta-data/"


class MoodyHandler(Handler):
    """One request, answered in the mood of its path."""

    server: MoodyServer

    def handle_any(self) -> None:
        mood = next((mood for prefix, mood in self.server.moods.items() if self.path.startswith(prefix)), "")
        if not mood:
            super().handle_any()
            return
        self.server.count(self.command, self.path)
        if mood == "silent":
            self.server.over.wait(300)
            self.close_connection = True
        elif mood == "reset":
            self.close_connection = True
        elif mood.startswith("http"):
            self.send_response(302)
            self.send_header("Location", mood)
            self._empty_body()
        else:
            self.send_response(int(mood))
            self._empty_body()

    def _empty_body(self) -> None:
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any


class MoodyServer(Server):
    """``moods`` are by the start of a path: ``silent`` never answers, ``reset`` hangs up, an address is redirected to, a number is the status."""

    def __init__(self, root: Path, host: str, password: str = "") -> None:
        super().__init__(root, host, password=password)
        self.RequestHandlerClass = MoodyHandler
        self.moods: dict[str, str] = {}
        self.over = threading.Event()

    def please(self) -> None:
        """Be good again, and let those go who wait."""
        self.moods.clear()
        self.over.set()
        self.over = threading.Event()


def make_wheel(name: str, version: str = "1.0") -> bytes:
    """Return a wheel of one module, which says its version."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n", f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hubdock-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return buffer.getvalue()


class IndexHandler(BaseHTTPRequestHandler):
    """The simple repository API (PEP 503), for the packages of the server."""

    protocol_version = "HTTP/1.1"
    server: Index

    def do_GET(self) -> None:
        index = self.server
        given = self.headers.get("Authorization", "")
        index.requests.append((self.path, given))
        wanted = "Basic " + base64.b64encode(index.password.encode()).decode()
        parts = self.path.strip("/").split("/")
        if index.status:
            self._answer(index.status, b"")
        elif index.password and given != wanted:
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
        elif parts[0] == "simple" and len(parts) == 2 and parts[1] in index.wheels:
            name = parts[1]
            digest = hashlib.sha256(index.wheels[name]).hexdigest()
            link = f'<a href="/files/{name}-1.0-py3-none-any.whl#sha256={digest}">{name}-1.0-py3-none-any.whl</a>'
            self._answer(200, f"<!DOCTYPE html><html><body>{link}</body></html>".encode(), {"Content-Type": "text/html"})
        elif parts[0] == "files" and parts[-1].partition("-")[0] in index.wheels:
            self._answer(200, index.wheels[parts[-1].partition("-")[0]], {"Content-Type": "application/octet-stream"})
        else:
            self._answer(404, b"")

    def do_HEAD(self) -> None:
        self._answer(405, b"")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


class Index(ThreadingHTTPServer):
    """A package index. ``password`` is ``user:password``; a ``status`` is the answer to everything; ``requests`` are (path, authorization)."""

    daemon_threads = True

    def __init__(self, host: str, wheels: dict[str, bytes], password: str = "") -> None:
        super().__init__((host, 0), IndexHandler)
        self.wheels, self.password, self.status = wheels, password, 0
        self.requests: list[tuple[str, str]] = []

    @property
    def origin(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_address[1]}"

    def start(self) -> Index:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self
