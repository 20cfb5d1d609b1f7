"""A small git and DVC server for the demo and the tests: real `git http-backend` under ``/git/``, and under ``/dvc/`` files that can be read, put
and deleted, which is what DVC's HTTP remote wants. Not for a team's work: use a git host and an object store there.

    python server.py ROOT [--host 127.0.0.1] [--port 9010] [--password FILE]

``ROOT/git/NAME.git`` are bare repositories, ``ROOT/dvc`` the remote. With ``--password`` (a file that holds ``user:password``) both want it.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import shutil
import subprocess
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

CHUNK = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the second of an answer's two writes waits 40 ms for an acknowledgement
    server: Server

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.server.count(self.command, path)
        if not self._may_enter():
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="hubdock demo"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif ".." in path.split("/"):
            self.send_error(HTTPStatus.BAD_REQUEST)
        elif path.startswith("/git/"):
            self._git(path.removeprefix("/git"), parts.query)
        elif path.startswith("/dvc/"):
            self._file(self.server.root / "dvc" / path.removeprefix("/dvc/"))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def _may_enter(self) -> bool:
        if not self.server.password:
            return True
        given = self.headers.get("Authorization", "")
        wanted = "Basic " + base64.b64encode(self.server.password.encode()).decode()
        return hmac.compare_digest(given.encode(), wanted.encode())

    def _body(self) -> IO[bytes]:
        return _Chunked(self.rfile) if "chunked" in self.headers.get("Transfer-Encoding", "") else _Sized(self.rfile, int(self.headers.get("Content-Length") or 0))  # type: ignore[return-value]

    def _git(self, path: str, query: str) -> None:
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.root / "git"), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_USER": "team",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        child = subprocess.Popen(["git", "http-backend"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        assert child.stdin and child.stdout
        feeder = threading.Thread(target=_pour, args=(self._body(), child.stdin), daemon=True)
        feeder.start()
        status, headers = 200, []
        while (line := child.stdout.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.send_response(status)
        for name, value in [*headers, ("Transfer-Encoding", "chunked")]:
            self.send_header(name, value)
        self.end_headers()
        while chunk := child.stdout.read1(CHUNK):  # type: ignore[attr-defined]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")
        feeder.join(5)
        child.wait()

    def _file(self, path: Path) -> None:
        if self.command in {"PUT", "POST"}:
            path.parent.mkdir(parents=True, exist_ok=True)
            work = path.with_name(f".{path.name}.{threading.get_ident()}")
            with work.open("wb") as file:
                shutil.copyfileobj(self._body(), file)
            work.rename(path)
            self._empty(HTTPStatus.CREATED)
        elif self.command == "DELETE" and path.is_file():
            path.unlink()
            self._empty(HTTPStatus.NO_CONTENT)
        elif path.is_file():
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            if self.command == "GET":
                with path.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile, CHUNK)
        else:
            self._empty(HTTPStatus.NOT_FOUND)

    def _empty(self, status: HTTPStatus) -> None:
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        if self.server.verbose:
            super().log_message(format, *args)


class _Sized:
    """A request's body of known length."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = CHUNK) -> bytes:
        chunk = self._file.read(min(size, self._left)) if self._left else b""
        self._left -= len(chunk)
        return chunk


class _Chunked:
    """A request's body in chunks (RFC 9112, 7.1)."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left, self._ended = file, 0, False

    def read(self, size: int = CHUNK) -> bytes:
        if not self._left and not self._ended:
            self._left = int(self._file.readline().split(b";")[0], 16)
            if self._left == 0:
                self._ended = True
                while self._file.readline().strip():
                    pass
        chunk = self._file.read(min(size, self._left)) if self._left else b""
        self._left -= len(chunk)
        if chunk and not self._left:
            self._file.readline()
        return chunk


def _pour(body: IO[bytes], pipe: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(body, pipe, CHUNK)
        pipe.close()
    except (BrokenPipeError, ConnectionError, ValueError):
        return


class Server(ThreadingHTTPServer):
    """The server. ``requests`` holds (method, path) of everything that was asked; ``port`` 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: Path, host: str = "127.0.0.1", port: int = 0, password: str = "", verbose: bool = False) -> None:
        super().__init__((host, port), Handler)
        self.root, self.password, self.verbose = root, password, verbose
        self.requests: list[tuple[str, str]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that hangs up is no error
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def count(self, method: str, path: str) -> None:
        self.requests.append((method, path))
        del self.requests[:-100_000]

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_address[1]}"

    def start(self) -> Server:
        """Serve in the background."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self


def make_repository(root: Path, name: str) -> Path:
    """Make an empty bare repository that can be cloned partially and pushed to, and return its path."""
    path = root / "git" / f"{name}.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    for option in ("http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", "-C", str(path), "config", option, "true"], check=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9010)
    parser.add_argument("--password", type=Path)
    options = parser.parse_args()
    password = options.password.read_text().strip() if options.password else ""
    server = Server(options.root, options.host, options.port, password, verbose=True)
    print(f"serving {options.root} on {server.url}", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
