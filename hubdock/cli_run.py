"""``hubdock run``: a built image as a server of this machine, with the same workspace, data and start files as a hub's."""

from __future__ import annotations

import http.client
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hubdock.cli_plan import find_user
from hubdock.core.errors import DataGone, LaunchError
from hubdock.core.lost import find_lost_key
from hubdock.core.resources import choose_devices
from hubdock.drivers.server import Server, ServerRequest, find_end, find_taken_devices, read_last_words, start_server, stop_server
from hubdock.drivers.space import name_end
from hubdock.engine.assembly import Assembly
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.launch import Launch, find_start_files, make_launch
from hubdock.engine.store import forget_view
from hubdock.engine.tasks import TaskStore
from hubdock.interrupt import Interrupted, listening

SERVER = "run"
DEADLINE = 180.0
_POLL, _LIFE = 0.03, 0.5


@dataclass(frozen=True)
class Running:
    """A server that answers. ``volume`` is where the work is kept."""

    server: Server
    url: str
    token: str
    volume: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of ``hubdock run --json``."""
        return {"url": self.url, "port": self.server.port, "token": self.token, "container": self.server.name, "volume": self.volume}


def serve(settings: HubDock, assembly: Assembly, port: int, devices: tuple[str, ...], announce: Callable[[Running], None]) -> None:
    """Start the server of an assembly that was built, announce it once it answers, and return after the user had it stopped and it is removed.

    ``devices`` are the GPUs to choose from, empty: any. No container is left, however this ends; volumes stay. Raises LaunchError with the server's last
    words if it ends by itself, BackendError (DataGone, ImageGone: start again), GPUUnavailable, and Interrupted if it was stopped before it answered.
    """
    stop = threading.Event()
    with listening(stop.set):
        launch = make_launch(settings, assembly, Database(settings.database_url), TaskStore(settings.state), find_user(), SERVER)
        volume = next(mount["volume"] for mount in launch.mounts if mount["target"] == launch.workspace)
        token = secrets.token_urlsafe(24)
        with _noticing_lost_data(settings, launch):
            server = start_server(_make_request(settings, assembly, launch, volume, token, port, devices))
        try:
            with _noticing_lost_data(settings, launch):
                _wait_until_up(server, stop)
            announce(Running(server, f"http://127.0.0.1:{server.port}/lab?token={token}", token, volume))
            while not stop.wait(_LIFE):
                _check_alive(server, "by itself")
        finally:
            stop_server(server.identity)


@contextmanager
def _noticing_lost_data(settings: HubDock, launch: Launch) -> Iterator[None]:
    """Have data that the launch did not find in the store fetched anew, by whoever starts next."""
    try:
        yield
    except DataGone as error:
        forget_view(TaskStore(settings.state), find_lost_key(error, launch.as_dict()))
        raise


def _make_request(
    settings: HubDock, assembly: Assembly, launch: Launch, volume: str, token: str, port: int, devices: tuple[str, ...]
) -> ServerRequest:
    """Return the container of a launch. It is named like its workspace: two on one workspace would be in each other's way."""
    wanted = launch.resources
    limits = {"MEM_LIMIT": str(wanted["memory"] or ""), "CPU_LIMIT": str(wanted["cpu"] or "")}
    return ServerRequest(
        name=volume.replace(f"{settings.volume_prefix}-work-", f"{settings.volume_prefix}-run-", 1), image=launch.image, mounts=launch.mounts,
        files=find_start_files(settings.state, assembly, launch), labels=launch.labels,
        env={**launch.env, **{name: value for name, value in limits.items() if value}, "JUPYTER_TOKEN": token},
        cpu=wanted["cpu"], memory=wanted["memory"], shm=wanted["shm"], gpu=wanted["gpu"], port=port,
        devices=choose_devices(devices, find_taken_devices(), wanted["gpu"]) if devices else (),
    )  # fmt: skip


def _wait_until_up(server: Server, stop: threading.Event) -> None:
    """Return as soon as Jupyter answers. Raises LaunchError if the server ends first or does not answer in time, and Interrupted."""
    deadline, looked = time.monotonic() + DEADLINE, time.monotonic()
    while time.monotonic() < deadline:
        if _answers(server.port):
            return
        if time.monotonic() - looked > _LIFE:
            looked = time.monotonic()
            _check_alive(server, "while it was starting")
        if stop.wait(_POLL):
            raise Interrupted
    raise LaunchError(f"Jupyter did not answer within {DEADLINE:g} seconds.{_quote(server)}")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):  # the engine's proxy accepts before the server listens
        return False
    finally:
        connection.close()


def _check_alive(server: Server, when: str) -> None:
    """Raise LaunchError with the server's last words if it has ended."""
    end = find_end(server.identity)
    if end is not None:
        raise name_end(f"The server ended {when} ({end}).", _quote(server).strip())


def _quote(server: Server) -> str:
    words = read_last_words(server.identity)
    return f" Its last words:\n{words}" if words else ""
