"""HubDockSpawner: DockerSpawner with hubdock's images, on one Docker host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import requests
from docker.errors import APIError, DockerException
from dockerspawner import DockerSpawner
from traitlets import Enum, List, Unicode, default

from hubdock.core.errors import HubDockError, LaunchError
from hubdock.core.resources import choose_devices, parse_bytes
from hubdock.core.text import make_tail
from hubdock.drivers.docker import make_mount, make_unavailable
from hubdock.drivers.server import GPU_FILTER, GPU_LABEL, make_device_request, name_failure, read_devices
from hubdock.spawner.mixin import HubDockMixin


class HubDockSpawner(HubDockMixin, DockerSpawner):  # type: ignore[misc]
    """From a repository and a branch to JupyterLab, in a Docker container."""

    gpu_devices = List(
        Unicode(),
        help="""The GPUs that servers may get, each by one server at a time: CDI names (``nvidia.com/gpu=0``), or ids for the nvidia runtime (``0``). Default:
        none.""",
    ).tag(config=True)
    gpu_driver = Enum(
        ["cdi", "nvidia"], "cdi", help="""How `gpu_devices` are asked for: ``cdi`` (Docker 25 and newer) or ``nvidia``. Default: cdi."""
    ).tag(config=True)

    _gpu_lock: ClassVar[asyncio.Lock] = asyncio.Lock()

    @default("pull_policy")
    def _never_pull(self) -> str:
        return "never"  # an image is launched by its id; only the service pulls

    @default("remove")
    def _remove(self) -> bool:
        return True  # a kept container would be started again with its old image

    @default("use_internal_ip")
    def _internal(self) -> bool:
        return True

    @default("notebook_dir")
    def _root(self) -> str:
        return ""

    async def launch_server(self) -> Any:
        """Launch by image id, and return (ip, port) once the server answers."""
        self.image = self.launch["image"]
        try:
            ip, port = await DockerSpawner.start(self)
        except APIError as error:
            unknown = LaunchError("The Docker Engine could not start the container. The hub's log has the details.", str(error.explanation or error))
            raise name_failure(error, bool((self.launch.get("resources") or {}).get("gpu"))) or unknown from error
        except (DockerException, OSError) as error:
            raise make_unavailable(error) from error
        if not self.internal_ssl:
            try:
                await self.wait_until_up(ip, port)
            except HubDockError:
                if await super().poll() is not None:  # the hub stops only what runs
                    await self.remove_object()
                raise
        return ip, port

    # --- what the stock spawner is given ---

    @property
    def mount_binds(self) -> list[Any]:
        """The admin's mounts, and the workspace's, home's and data's. Their names are not templates."""
        return [*super().mount_binds, *(make_mount(mount) for mount in self.launch.get("mounts", ()))]

    def get_env(self) -> dict[str, str]:
        """Tell the server its own limits."""
        env = super().get_env()
        resources = self.launch.get("resources") or {}
        if resources.get("memory"):
            env["MEM_LIMIT"] = str(resources["memory"])
        if resources.get("cpu"):
            env["CPU_LIMIT"] = str(resources["cpu"])
        return env

    async def create_object(self) -> Any:
        """Create the container with this server's labels, limits and devices, beside what the admin configured."""
        stock: tuple[Any, Any] = (getattr(self, "extra_host_config"), getattr(self, "extra_create_kwargs"))  # noqa: B009 (traits without types)
        async with self._gpu_lock:
            labels, host = dict(self.launch["labels"]), self._make_host_config()
            wanted = (self.launch.get("resources") or {}).get("gpu") or 0
            if wanted:
                devices = choose_devices(self.gpu_devices, await self._find_taken(), wanted)
                labels[GPU_LABEL] = ",".join(devices)
                host["device_requests"] = [make_device_request(devices, wanted, self.gpu_driver == "cdi")]
            try:
                given = await _value(self, stock[0])
                self.extra_host_config = {**given, **host, "security_opt": make_security_opt(given.get("security_opt"))}
                kwargs = await _value(self, stock[1])
                self.extra_create_kwargs = {**kwargs, "labels": {**kwargs.get("labels", {}), **{name: _literal(value) for name, value in labels.items()}}}
                return await super().create_object()
            finally:
                self.extra_host_config, self.extra_create_kwargs = stock

    def _make_host_config(self) -> dict[str, Any]:
        """Return the limits: the smaller of what the server asked for and what the admin set for the stock spawner."""
        resources = self.launch.get("resources") or {}
        host: dict[str, Any] = {"auto_remove": False}  # an ended container is read before it is removed
        sizes = [size for size in (resources.get("memory"), parse_bytes(str(self.mem_limit)) if self.mem_limit else None) if size]
        if sizes:
            host["mem_limit"] = min(sizes)
        cores = [cpu for cpu in (resources.get("cpu"), self.cpu_limit) if cpu]
        if cores:
            host |= {"cpu_period": 100_000, "cpu_quota": int(min(cores) * 100_000)}
        if resources.get("shm"):
            host["shm_size"] = resources["shm"]
        return host

    async def _find_taken(self) -> set[str]:
        """Return the devices that containers hold, by the engine's own word."""
        return read_devices(await self.docker("containers", all=True, filters=GPU_FILTER))

    async def start_object(self) -> None:
        """Put the start document and the history into the container, then start it."""
        archive = await self.client_of_service.read_archive(self.build_id, self.user.name, self.name)
        await asyncio.to_thread(self.client.put_archive, self.container_id, "/", archive)
        await super().start_object()

    # --- the end ---

    async def remove_object(self) -> None:
        """Remove the container, stopped first if it runs: the one of a start during which the engine went away may, and the next start needs its name."""
        with suppress(APIError):
            await self.stop_object()
        await super().remove_object()

    async def poll(self) -> Any:
        """Tell whether the server runs; a container that ended by itself is removed once the hub knows.

        An engine that does not answer may be restarted under its containers (``live-restore``): they are not reported dead.
        """
        try:
            status = await super().poll()
        except (DockerException, requests.exceptions.RequestException, OSError) as error:
            if isinstance(error, APIError):
                raise
            self.log.warning("%s: the Docker Engine does not answer, which says nothing about the server: %s", self._log_name, error)
            return None if self.object_id else 0
        if status is not None and self.object_id and not self.pending:
            with suppress(APIError):
                await self.remove_object()
        return status

    async def read_last_words(self) -> str:
        """Return the last lines of the container's log."""
        try:
            text = await self.docker("logs", self.container_id, tail=12)
        except (DockerException, OSError):
            return ""
        tail = make_tail(text.decode("utf-8", "replace"), 8)
        return f"Its last words: {tail}" if tail else ""


def make_security_opt(given: Sequence[str] | None) -> list[str]:
    """Return a server's security options: the admin's, and no new privileges (no setuid program of an image makes its user root) unless those say
    how it is to be: ``no-new-privileges:false`` for a team that wants sudo."""
    options = list(given or ())
    return options if any(option.startswith("no-new-privileges") for option in options) else [*options, "no-new-privileges"]


async def _value(spawner: Any, setting: Any) -> dict[str, Any]:
    """Return a setting that may be a callable, or a coroutine."""
    value = setting(spawner) if callable(setting) else setting
    if asyncio.iscoroutine(value):
        value = await value
    return dict(value or {})


def _literal(text: str) -> str:
    """Return text that DockerSpawner's templates leave as it is."""
    return text.replace("{", "{{").replace("}", "}}")
