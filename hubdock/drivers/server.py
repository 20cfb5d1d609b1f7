"""Containers that serve until somebody stops them: what ``hubdock run`` launches. A hub's servers are its spawner's; what both do alike is here too:
which container holds which GPU, and what an engine means that refuses to launch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError, DockerException, NotFound
from docker.types import DeviceRequest

from hubdock.core.errors import BackendError, HubDockError, LaunchError
from hubdock.core.lost import make_data_gone
from hubdock.core.text import make_tail
from hubdock.drivers.archive import put_files
from hubdock.drivers.docker import client, make_full, make_mount, make_unavailable, translated
from hubdock.drivers.job import make_image_gone

PORT = 8888
GPU_LABEL = "hubdock.gpus"  # a device is held by one container at a time, whoever started it
GPU_FILTER = {"label": GPU_LABEL}
_HOLDS = {"created", "running", "paused", "restarting"}


@dataclass(frozen=True)
class ServerRequest:
    """One server.

    ``name`` is the container's; ``files`` are put into it before it starts; ``cpu`` is in cores, ``memory`` and ``shm`` in bytes. ``gpu`` devices are
    given: those of ``devices``, or any that the nvidia runtime chooses. It is published on ``port`` of the loopback address, 0: on a free one.
    """

    name: str
    image: str
    mounts: Sequence[Mapping[str, Any]] = ()
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory: int | None = None
    shm: int | None = None
    gpu: int = 0
    devices: Sequence[str] = ()
    port: int = 0


@dataclass(frozen=True)
class Server:
    """A container that was started, and the port of this machine that it answers on."""

    identity: str
    name: str
    port: int


def start_server(request: ServerRequest) -> Server:
    """Start a server. Nothing is left of it if that fails.

    Raises LaunchError (the name or port is taken, a device can't be had), BackendError (the image or data is gone) and BuilderUnavailable.
    """
    connection = client()
    identity = _create(connection, request)
    try:
        with _named(request):
            put_files(connection, identity, request.files)
            connection.start(identity)
            ports = connection.inspect_container(identity)["NetworkSettings"]["Ports"].get(f"{PORT}/tcp")
    except BaseException:
        remove_server(identity)
        raise
    return Server(identity, request.name, int(ports[0]["HostPort"]) if ports else 0)


def _create(connection: Any, request: ServerRequest) -> str:
    """Create the container. One of this name that ended without being removed (its ``hubdock run`` was killed) makes place."""
    for last in (False, True):
        try:
            with _named(request):
                made = connection.create_container(
                    request.image, name=request.name, environment=dict(request.env), labels=_make_labels(request), ports=[PORT],
                    host_config=connection.create_host_config(**_make_limits(request)),
                )  # fmt: skip
                return str(made["Id"])
        except _NameTaken as error:
            if last or not _remove_ended(connection, request.name):
                raise LaunchError(
                    f"This branch is open already, in the container {request.name}. Stop that `hubdock run` first (or `docker rm -f {request.name}`)."
                ) from error
    raise AssertionError


def _make_labels(request: ServerRequest) -> dict[str, str]:
    return {**request.labels, **({GPU_LABEL: ",".join(request.devices)} if request.devices else {})}


def _make_limits(request: ServerRequest) -> dict[str, Any]:
    host: dict[str, Any] = {
        "mounts": [make_mount(mount) for mount in request.mounts], "port_bindings": {PORT: ("127.0.0.1", request.port or None)},
        "security_opt": ["no-new-privileges"],
    }  # fmt: skip
    if request.memory:
        host["mem_limit"] = request.memory
    if request.cpu:
        host |= {"cpu_period": 100_000, "cpu_quota": int(request.cpu * 100_000)}
    if request.shm:
        host["shm_size"] = request.shm
    if request.gpu:
        cdi = bool(request.devices) and all("=" in device for device in request.devices)  # vendor/class=name
        host["device_requests"] = [make_device_request(request.devices, request.gpu, cdi)]
    return host


def make_device_request(devices: Sequence[str], count: int, cdi: bool) -> DeviceRequest:
    """Return the request for these devices: by CDI, or from the nvidia runtime, which chooses ``count`` of its own where none are named."""
    if cdi:
        return DeviceRequest(driver="cdi", device_ids=list(devices))
    wanted = {"device_ids": list(devices)} if devices else {"count": count}
    return DeviceRequest(driver="nvidia", capabilities=[["gpu"]], **wanted)


def read_devices(containers: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the devices that these containers (`GPU_FILTER`, stopped ones too) hold: leases survive whatever happens to who gave them."""
    return {device for found in containers if found.get("State") in _HOLDS for device in found["Labels"][GPU_LABEL].split(",")}


def find_taken_devices() -> set[str]:
    """Return the devices that containers hold, by the engine's own word."""
    with translated():
        return read_devices(client().containers(all=True, filters=GPU_FILTER))


class _NameTaken(Exception):
    """Another container has the name."""


@contextmanager
def _named(request: ServerRequest) -> Iterator[None]:
    """Turn what the engine says against a launch into words."""
    try:
        yield
    except APIError as error:
        text = str(error.explanation or error)
        if error.status_code == 409 and "name" in text:
            raise _NameTaken(text) from error
        raise name_failure(error, bool(request.gpu)) or _name_own_failure(request, text) from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise make_unavailable(error) from error


def name_failure(error: APIError, gpu: bool) -> HubDockError | None:
    """Return what an engine means that refuses to launch, None if that is not known. ``gpu``: devices were asked for."""
    text = str(error.explanation or error)
    folded = text.lower()
    if "no such image" in folded:
        return make_image_gone(text)
    if "no space left" in folded:
        return make_full(text)
    if gpu and ("cdi" in folded or "device" in folded):
        return LaunchError(
            "The Docker Engine could not give the GPU. Check its name (HubDockSpawner.gpu_devices, or --gpu-device) and the NVIDIA container toolkit.", text
        )
    if "views/" in text and ("no such file" in folded or "does not exist" in folded or "subpath" in folded):
        return make_data_gone(text)
    return None


def _name_own_failure(request: ServerRequest, text: str) -> LaunchError:
    if "port is already allocated" in text.lower() or "address already in use" in text.lower():
        return LaunchError(f"Port {request.port} of this machine is taken. Choose another with --port, or leave it out for a free one.", text)
    return LaunchError(f"The Docker Engine could not start the container: {make_tail(text, 2)[:300]}", text)


def _remove_ended(connection: Any, name: str) -> bool:
    """Remove a container that does not run any more; return whether its name is free now."""
    with translated():
        try:
            if connection.inspect_container(name)["State"]["Status"] in {"running", "paused", "restarting"}:
                return False
            connection.remove_container(name, force=True, v=True)
        except NotFound:
            return True
    return True


def find_end(identity: str) -> str | None:
    """Return how a server ended (``exit code 1``), None while it runs: an engine that does not answer says nothing about its containers."""
    try:
        with translated():
            state = client().inspect_container(identity)["State"]
    except NotFound:
        return "its container was removed"
    except BackendError:
        return None
    if state["Running"]:
        return None
    return "killed for the memory it took" if state.get("OOMKilled") else f"exit code {state['ExitCode']}"


def read_last_words(identity: str, lines: int = 12) -> str:
    """Return the end of a server's output, empty if it can't be had."""
    with suppress(DockerException, requests.exceptions.RequestException, OSError, BackendError):
        return make_tail(client().logs(identity, tail=lines).decode("utf-8", "replace"), lines)
    return ""


def stop_server(identity: str, grace: int = 10) -> None:
    """Stop a server, killing it after ``grace`` seconds, and remove it. Its volumes stay. No error if it is gone."""
    with suppress(DockerException, requests.exceptions.RequestException):
        client().stop(identity, timeout=grace)
    remove_server(identity)


def remove_server(identity: str) -> None:
    """Remove a server's container, running or not. Named volumes stay. No error if it is gone."""
    with translated(), suppress(NotFound):
        client().remove_container(identity, force=True, v=True)
