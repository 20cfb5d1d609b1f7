"""How a server gets its start files from the service, against a real HTTP server that behaves as services do."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hubdock.drivers.archive import make_archive
from hubdock.guest import receive
from tests.unit.conftest import serve

BUILD = "ab" * 16
FILES: dict[str, bytes | Path] = {f"/hubdock/run/{name}": text for name, text in {"start.json": b"{}", "history.pack": b"PACK", "refs": b""}.items()}


class Service(ThreadingHTTPServer):
    """Answers with `answers`, one after the other; the last again and again. ``None`` breaks the connection."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Any] = [(200, make_archive(FILES))]
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/hubdock/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        service: Any = self.server
        with service.lock:
            parts = urlsplit(self.path)
            service.asked.append((parts.path, parse_qs(parts.query, keep_blank_values=True), self.headers["Authorization"]))
            answer = service.answers.pop(0) if len(service.answers) > 1 else service.answers[0]
        if answer is None:
            self.close_connection = True
            return
        status, body = answer
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{service.server_port}/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    running = serve(Service())
    yield running
    running.shutdown()
    running.server_close()


def environ(service: Service) -> dict[str, str]:
    return {"HUBDOCK_SERVICE_URL": service.url, "HUBDOCK_BUILD": BUILD, "JUPYTERHUB_API_TOKEN": "the-server-s", "JUPYTERHUB_SERVER_NAME": "a b&c", "http_proxy": "http://127.0.0.1:9"}


def read(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_files_come_by_the_server_s_own_token(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy would be given the token
    receive.receive(environ(service), str(tmp_path / "run"))
    assert read(tmp_path / "run") == {"start.json": b"{}", "history.pack": b"PACK", "refs": b""}
    assert service.asked == [(f"/services/hubdock/api/launches/{BUILD}/archive", {"server": ["a b&c"]}, "token the-server-s")]


def test_a_service_that_restarts_is_waited_for(service: Service, tmp_path: Path) -> None:
    service.answers = [None, (502, b"proxy"), (200, make_archive(FILES)[:700]), (200, make_archive(FILES))]
    receive.receive(environ(service), str(tmp_path / "run"))
    assert len(service.asked) == 4 and set(read(tmp_path / "run")) == {"start.json", "history.pack", "refs"}


@pytest.mark.parametrize("status", [302, 403, 404])
def test_a_refusal_is_told_at_once(service: Service, tmp_path: Path, status: int) -> None:
    """A redirect too: the token goes nowhere else."""
    service.answers = [(status, b"")]
    with pytest.raises(RuntimeError, match=rf"refuses to give the start files: {status} .* start it again"):
        receive.receive(environ(service), str(tmp_path / "run"))
    assert len(service.asked) == 1


def test_a_service_that_never_answers_ends_the_start(tmp_path: Path) -> None:
    given = {"HUBDOCK_SERVICE_URL": "http://127.0.0.1:9/services/hubdock/", "HUBDOCK_BUILD": BUILD}
    with pytest.raises(RuntimeError, match=r"can't be reached from this server.*network policies"):
        receive.receive(given, str(tmp_path / "run"), patience=0.3)


def test_only_plain_files_of_its_own_directory_are_written(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("hubdock/run/start.json", "hubdock/run/../../etc/passwd", "/etc/cron", "hubdock/run/deep/er", "hubdock/other"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
        link = tarfile.TarInfo("hubdock/run/refs")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(link)
    receive.unpack(buffer.getvalue(), str(tmp_path / "run"))
    assert read(tmp_path / "run") == {"start.json": b"{}"} and list(tmp_path.iterdir()) == [tmp_path / "run"]
