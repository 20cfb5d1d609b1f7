"""The Docker Engine through docker-py: images, volumes, and containers that run once. Launching servers is the spawner's.

"Not there" is an answer (None); an engine that does not answer is BuilderUnavailable and never means "not there".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.types import Mount
from docker.utils import kwargs_from_env

from hubdock.core.errors import BackendError, BuilderUnavailable, OutOfSpace, RegistryUnavailable
from hubdock.core.text import make_lines
from hubdock.drivers.archive import put_files
from hubdock.drivers.job import Job, JobResult, VolumeMount, make_image_gone
from hubdock.drivers.process import MARK

_local = threading.local()
TIMEOUT = 60
JOB_LABEL = "hubdock.job"  # its value is the `MARK` of the process that runs the container
LONGEST_LINE = 1 << 18  # our own programs answer with one line of JSON


def make_mount(mount: VolumeMount | Mapping[str, Any]) -> Mount:
    """Return docker-py's form of a mount."""
    values = mount.as_dict() if isinstance(mount, VolumeMount) else mount
    if values.get("source"):
        return Mount(target=values["target"], source=values["source"], type="bind", read_only=bool(values.get("read_only")))
    subpath = values.get("subpath") or None
    return Mount(target=values["target"], source=values["volume"], type="volume", read_only=bool(values.get("read_only")), subpath=subpath)


@contextmanager
def translated() -> Iterator[None]:
    """Turn docker-py's exceptions into hubdock's. `NotFound` passes: its meaning depends on what was asked."""
    try:
        yield
    except NotFound:
        raise
    except APIError as error:
        text = str(error.explanation or error)
        if "no space left" in text.lower():
            raise make_full(text) from error
        if error.is_server_error():
            raise BackendError("The Docker Engine reports an error. The hub's log has the details.", text) from error
        raise BackendError("The Docker Engine refused a request. The hub's log has the details.", text) from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise make_unavailable(error) from error


def make_full(detail: str) -> OutOfSpace:
    """Return the error for an engine without space."""
    return OutOfSpace.on("the Docker host", detail)


def make_unavailable(error: Exception) -> BuilderUnavailable:
    """Return the error for an engine that does not answer."""
    return BuilderUnavailable("The Docker Engine does not answer. Running servers are not affected; try again in a moment.", str(error))


def client() -> Any:
    """Return this thread's connection to the engine that ``DOCKER_HOST`` names (docker-py's sessions are not for sharing)."""
    host = os.environ.get("DOCKER_HOST", "")
    if getattr(_local, "host", None) != host:
        with translated():
            _local.client = docker.APIClient(version="1.45", timeout=TIMEOUT, **kwargs_from_env())
        _local.host = host
    return _local.client


def inspect_image(reference: str) -> dict[str, Any] | None:
    """Return an image's inspection, or None if the engine does not have it."""
    with translated():
        try:
            found: dict[str, Any] = client().inspect_image(reference)
        except NotFound:
            return None
        return found


def list_images(label: str = "", reference: str = "") -> list[dict[str, Any]]:
    """Return the images that carry a label, or whose name fits a pattern (``hubdock/base``)."""
    with translated():
        found: list[dict[str, Any]] = client().images(filters={name: value for name, value in (("label", label), ("reference", reference)) if value})
        return found


def describe_engine() -> dict[str, Any]:
    """Return what the engine says of itself, whatever its version: ``docker version`` and ``docker info`` in one."""
    with translated():
        connection = docker.APIClient(version="auto", timeout=TIMEOUT, **kwargs_from_env())
        found: dict[str, Any] = {**connection.info(), **connection.version(api_version=False)}
        return found


def tag_image(image: str, tag: str) -> None:
    """Give an image another name (``repository:tag``)."""
    repository, _, name = tag.rpartition(":")
    with translated():
        client().tag(image, repository, name, force=True)


def pull_image(reference: str, listen: Callable[[str], None]) -> None:
    """Pull an image. Raises RegistryUnavailable, which names the image."""
    with translated():
        try:
            last = ""
            for item in client().pull(reference, stream=True, decode=True):
                if "error" in item:
                    raise RegistryUnavailable(_cannot_pull(reference), str(item["error"]))
                if item.get("status") != last and item.get("id") is None:
                    last = item.get("status", "")
                    listen(last)
        except (NotFound, APIError) as error:
            raise RegistryUnavailable(_cannot_pull(reference), str(error)) from error


def _cannot_pull(reference: str) -> str:
    return (
        f"The base image {reference} is not here and could not be pulled. An administrator can set HubDock.base_image, or build one with "
        "config/base-image/make-base where no registry can be reached."
    )


def inspect_volume(name: str) -> dict[str, Any] | None:
    """Return a volume's inspection, or None."""
    with translated():
        try:
            found: dict[str, Any] = client().inspect_volume(name)
        except NotFound:
            return None
        return found


def mount_view(volume: str, subpath: str, target: str, proof: str, place: str) -> list[VolumeMount]:
    """Return the mounts of a directory that is a part of a volume, read-only.

    ``proof`` is a file in it, which is shown at ``place`` too: a container starts only while it is there.

    Never the directory as a part of the volume: for that the engine mounts it, writable, below its own directory for temporary files while a container starts.
    An engine that is killed in that moment leaves the mount, and the next one empties that directory, and through the mount what is in the volume
    (moby, `prepareTempDir` and `safepath.Join`). Of a single file only the place it is mounted on can go. So the directory comes from where the engine keeps
    the volume, and the file as a part of the volume, which also tells the engine that the volume is in use. Volumes that the engine must mount first (a driver of
    their own, or options) can only be had as a part.
    """
    found = inspect_volume(volume) or {}
    if found.get("Driver") != "local" or found.get("Options") or not found.get("Mountpoint"):
        return [VolumeMount(volume, target, subpath, read_only=True)]
    return [
        VolumeMount(volume, target, subpath, read_only=True, source=f"{found['Mountpoint']}/{subpath}"),
        VolumeMount(volume, place, f"{subpath}/{proof}", read_only=True),
    ]


def ensure_volume(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Make a volume unless it is there, and return its inspection."""
    with translated():
        made: dict[str, Any] = client().create_volume(name, labels=dict(labels))
        return made


def run_job(job: Job, listen: Callable[[str], None] = lambda line: None, stop: threading.Event | None = None) -> JobResult:
    """Run a container to its end, telling each line that it prints, and remove it.

    It has no new privileges, no capabilities and a bounded number of processes. When ``stop`` is set or the time is over it is killed.
    """
    connection = client()
    with translated():
        host = connection.create_host_config(
            mounts=[make_mount(mount) for mount in job.mounts], network_mode=job.network, mem_limit=job.memory, pids_limit=512,
            cap_drop=["ALL"], security_opt=["no-new-privileges"], tmpfs={"/tmp": "exec,mode=1777"}, init=True,  # noqa: S108
        )  # fmt: skip
        try:
            made = connection.create_container(
                job.image, list(job.command), entrypoint=list(job.entrypoint) if job.entrypoint is not None else None, environment=dict(job.env),
                user=job.user or None, host_config=host, labels={JOB_LABEL: os.environ.get(MARK, ""), **job.labels},
            )  # fmt: skip
        except NotFound as error:
            raise make_image_gone(str(error)) from error
        identity = made["Id"]
        try:
            if job.files:
                user = 0 if job.user.startswith("0") else 1000
                put_files(connection, identity, job.files, (user, 0 if user == 0 else 100))
            connection.start(identity)
            return _follow(connection, identity, job, listen, stop or threading.Event())
        finally:
            with suppress(DockerException, requests.exceptions.RequestException):
                connection.remove_container(identity, force=True, v=True)


def remove_jobs(mark: str) -> int:
    """Remove the containers that a process of this `MARK` ran and can't remove any more; return how many."""
    with translated():
        found = client().containers(all=True, filters={"label": f"{JOB_LABEL}={mark}"})
        for container in found:
            with suppress(NotFound):
                client().remove_container(container["Id"], force=True, v=True)
        return len(found)


def _follow(connection: Any, identity: str, job: Job, listen: Callable[[str], None], stop: threading.Event) -> JobResult:
    tail: list[str] = []

    def read() -> None:
        rest = ""
        for chunk in connection.logs(identity, stream=True, follow=True):
            *lines, rest = (rest + chunk.decode("utf-8", "replace"))[-LONGEST_LINE:].split("\n")
            for line in make_lines("\n".join(lines), LONGEST_LINE) if lines else []:
                tail.append(line)
                del tail[:-60]
                listen(line)
        if rest.strip():
            tail.extend(make_lines(rest))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    ended = threading.Event()
    watcher = threading.Thread(target=_kill_when, args=(identity, job.timeout, stop, ended), daemon=True)
    watcher.start()
    try:
        code = int(connection.wait(identity, timeout=job.timeout + TIMEOUT)["StatusCode"])
    finally:
        ended.set()
    reader.join(5)
    state = connection.inspect_container(identity)["State"]
    return JobResult(code, bool(state.get("OOMKilled")), tuple(tail))


def _kill_when(identity: str, timeout: float, stop: threading.Event, ended: threading.Event) -> None:
    """Kill a container once ``stop`` is set or the time is over; return when it has ended."""
    waited = 0.0
    while not ended.wait(0.1):
        waited += 0.1
        if stop.is_set() or waited > timeout:
            with suppress(DockerException, requests.exceptions.RequestException):
                client().kill(identity)
            return


def remove_tag(tag: str) -> None:
    """Take a name from an image, and remove the image if that was its last and nothing uses it. No error if it is gone."""
    with translated(), suppress(NotFound):
        client().remove_image(tag, noprune=False)


def find_gateway(network: str) -> str:
    """Return the address at which containers of a network reach this host, empty if the engine or the network can't say."""
    try:
        with translated():
            found = client().inspect_network(network)
    except (NotFound, BackendError):
        return ""
    configs = (found.get("IPAM") or {}).get("Config") or []
    return next((str(config["Gateway"]) for config in configs if config.get("Gateway") and ":" not in config["Gateway"]), "")
