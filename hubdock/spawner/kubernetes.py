"""HubDockKubeSpawner: KubeSpawner with hubdock's images, on a Kubernetes cluster."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from jupyterhub.utils import maybe_future
from kubernetes_asyncio.client import ApiException
from kubespawner import KubeSpawner
from traitlets import Float, Unicode

from hubdock.core.errors import BackendError, HubDockError, LaunchError
from hubdock.core.kubeevents import Stage, explain, explain_end, find_stage
from hubdock.core.kubepod import Places, Stock, find_claim, make_claim_settings, make_home_part, make_settings, make_value
from hubdock.core.kuberefusal import explain_refusal
from hubdock.core.text import make_tail
from hubdock.drivers.space import name_end
from hubdock.spawner.kubedefaults import DefaultKubeSpawner
from hubdock.spawner.mixin import HubDockMixin
from hubdock.spawner.ready import wait_until_up

PAUSE, LOOK = 0.03, 0.25  # seconds between two looks at what the hub knows of a pod, and between two thoughts about why it waits
UNSEEN = 5.0  # seconds for which a pod may be missing from what the hub knows
GROWTH = 3  # how much more patience there is with what takes its time: a node that is added, a large image
LEAVE = 0.8  # seconds that a cancelled start may take: after one the hub answers with an error
STOP = 60.0  # seconds in which a node ends a pod
_removing: set[asyncio.Task[None]] = set()


class HubDockKubeSpawner(HubDockMixin, DefaultKubeSpawner):
    """From a repository and a branch to JupyterLab, in a pod."""

    service_url_for_servers = Unicode(
        "", help="""Address of hubdock's service, as servers reach it: ``http://hubdock.jupyterhub:9000/services/hubdock/``. Default: `service_url`."""
    ).tag(config=True)
    home_claim = Unicode(
        "",
        help="""PersistentVolumeClaim (ReadWriteMany, in the servers' namespace) with a home for each user that all of their servers share. Default: none; the volume of a
        server's workspace then holds a home of its own.""",
    ).tag(config=True)
    gpu_resource = Unicode("nvidia.com/gpu", help="""Extended resource that a GPU is, for example ``amd.com/gpu``. Default: nvidia.com/gpu.""").tag(config=True)
    pending_timeout = Float(
        600.0, min=1, help="""Seconds that a server may wait for a node with room and for its storage; three times as long while the cluster adds a node or a node loads
        the image. Its user is told why it waits all the while. Default: 600."""
    ).tag(config=True)

    disk = "the node, or of the workspace's volume,"
    pvc_name: Any
    after_pod_created_hook: Any
    _creating: asyncio.Task[bool] | None = None
    _address = ""  # where the server that is being started was met

    # --- start ---

    async def launch_server(self) -> Any:
        """Launch by digest, and return the address once the server answers. Nothing is left of a pod that did not get so far."""
        self._creating, self._pvc_exists = None, False  # a claim may have been deleted since the hub last saw it
        self.pvc_name = find_claim(self.launch, self.pvc_name)
        stock = self.after_pod_created_hook

        async def watch(spawner: HubDockKubeSpawner, pod: Any) -> None:
            if stock is not None:
                await maybe_future(stock(spawner, pod))
            await self._wait_for_pod()

        self.after_pod_created_hook = watch  # it is called while the stock spawner would begin to wait, and cleans up behind it
        try:
            with translated():
                return await KubeSpawner.start(self)
        except asyncio.CancelledError:
            await self._leave()
            raise
        finally:
            self.after_pod_created_hook = stock
            self._address = ""

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Create the pod, as the stock spawner does; but a cancelled start knows whether there is one, and no log shows its token."""

        async def create() -> bool:
            try:
                await asyncio.wait_for(self.api.create_namespaced_pod(self.namespace, pod), request_timeout)
            except TimeoutError:
                return False
            except ApiException as error:
                if error.status != 409:
                    raise
                self.log.info("%s: replacing the pod that is there still", self._log_name)
                await self.stop(True)
                return False
            return True

        self._creating = asyncio.create_task(create())
        return await asyncio.shield(self._creating)

    async def _leave(self) -> None:
        """Remove the pod of a cancelled start: the hub stops only what it has seen, and it may not have seen it yet."""
        if self._creating is None:
            return
        task = asyncio.create_task(self._remove_created(self._creating, self.pod_name))
        _removing.add(task)
        task.add_done_callback(_removing.discard)
        await asyncio.wait([task], timeout=LEAVE)

    async def _remove_created(self, creating: asyncio.Task[bool], name: str) -> None:
        await asyncio.wait([creating])
        if not creating.cancelled():
            creating.exception()  # whatever it is, nobody waits for it any more
        with contextlib.suppress(HubDockError), translated():
            await self._make_delete_pod_request(name, None, 0, self.k8s_api_request_timeout)

    # --- from a pod to a server that answers ---

    async def _wait_for_pod(self) -> None:
        """Return when the server answers. Meanwhile its user is told why it does not. Raises the error that says why it never will."""
        meeting = asyncio.create_task(self._meet())
        try:
            await self._wait_until_running(meeting)
            if not self._address and not self.internal_ssl:
                address = urlsplit(self._get_pod_url(self._pod))
                await self.wait_until_up(address.hostname or "", address.port or self.port)
        finally:
            meeting.cancel()

    async def _meet(self) -> None:
        """Meet the server where it asks for its start files from, if it answers there as itself: a node looks once a second which of its pods run, and then says so."""
        if self.internal_ssl or self.services_enabled or self.pod_connect_ip or self.get_pod_url:
            return
        with contextlib.suppress(HubDockError):
            address = await self.client_of_service.wait_for_address(self.build_id, self.user.name, self.name)
            await wait_until_up(address, self.port, f"{self.server.base_url}api", self.http_timeout, self.has_ended, worst=200)
            self._address = address

    async def _wait_until_running(self, meeting: asyncio.Task[None]) -> None:
        """Return as soon as the server was met, or its node says that it runs."""
        began = looked = changed = time.monotonic()
        stage, told = Stage.NEW, ""
        while not self._address and not self._runs():
            now = time.monotonic()
            if now - looked >= LOOK:
                looked, pod = now, self._pod
                if not pod:
                    if now - changed > UNSEEN:
                        raise LaunchError("The server's pod was deleted while it was starting. Start it again.")
                elif find_stage(pod) is Stage.ENDED:
                    raise await self._make_end(pod)
                elif find_stage(pod) is not stage:
                    stage, changed = find_stage(pod), now
                told = self._tell_why(pod, told, now - changed, now - began)
            if meeting.done():  # without an address: it can't be met, and its node has the word
                await asyncio.sleep(PAUSE)
            else:
                await asyncio.wait([meeting], timeout=PAUSE)

    def _tell_why(self, pod: Mapping[str, Any], told: str, waited: float, total: float) -> str:
        """Say why a pod waits if that is new, and return what was said last. Raises the reason when it lasts too long, or will last for ever."""
        waiting = explain(pod, self.events, waited, self.gpu_resource)
        if waiting is None:
            return told
        if waiting.final or total > self.pending_timeout * (GROWTH if waiting.grows else 1):
            raise waiting.error
        if waiting.message != told:
            self.start_progress.say(waiting.message)
        return waiting.message

    @property
    def _pod(self) -> dict[str, Any]:
        """What the hub knows of the pod, empty if there is none."""
        found: dict[str, Any] = self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}") or {}
        return found

    def _runs(self) -> bool:
        """True once the pod is reported running, with its address."""
        pod = self._pod
        status = pod.get("status") or {}
        return bool(status.get("podIP") and status.get("containerStatuses") and self.is_pod_running(pod))

    async def has_ended(self) -> bool:
        """Tell whether the server that is being started has ended."""
        return not self._pod or find_stage(self._pod) is Stage.ENDED

    async def _make_end(self, pod: Mapping[str, Any]) -> HubDockError:
        error = explain_end(pod)
        return name_end(error.message, await self.read_last_words(), self.disk) if type(error) is LaunchError else error

    async def read_last_words(self) -> str:
        """Return the last lines of the server's log."""
        try:
            text = await asyncio.wait_for(
                self.api.read_namespaced_pod_log(self.pod_name, self.namespace, container="notebook", tail_lines=12), self.k8s_api_request_timeout
            )
        except (ApiException, aiohttp.ClientError, OSError, ValueError):
            return ""
        tail = make_tail(str(text), 8)
        return f"Its last words: {tail}" if tail else ""

    def is_pod_running(self, pod: Any) -> bool:
        """Take a pod that was met for running, also before its node has said so."""
        return bool(super().is_pod_running(pod) or (self._address and pod and "deletionTimestamp" not in pod["metadata"]))

    def _get_pod_url(self, pod: Any) -> str:
        """Return the server's address: where it was met, else what its node says."""
        if self._address:
            pod = {**pod, "status": {**pod["status"], "podIP": self._address}}
        return str(super()._get_pod_url(pod))

    # --- what the stock spawner is given ---

    def get_env(self) -> dict[str, Any]:
        """Say where the start files are, and let Kubernetes leave everything as it is that no admin wrote: ``$(NAME)`` means another variable there."""
        env: dict[str, Any] = super().get_env()
        if self.launch:
            env |= {"HUBDOCK_SERVICE_URL": self.service_url_for_servers or self.service_url, "HUBDOCK_BUILD": self.build_id}
        return {name: make_value(value) if isinstance(value, str) and name not in self.environment else value for name, value in env.items()}

    async def get_pod_manifest(self) -> Any:
        """Return the pod of this launch, with what the admin configured."""
        stock = Stock(
            self.cpu_limit, self.mem_limit, self.cpu_guarantee, self.mem_guarantee, self.extra_labels, self.extra_annotations, self.extra_resource_limits,
            self.extra_resource_guarantees, self._sorted_dict_values(self.volumes), self._sorted_dict_values(self.volume_mounts), self.extra_pod_config,
        )  # fmt: skip
        places = Places(self.pvc_name, self.home_claim, make_home_part(self.user.name))
        with self._given(make_settings(self.launch, stock, places, self.gpu_resource)):
            return await super().get_pod_manifest()

    def get_pvc_manifest(self) -> Any:
        """Return the claim of this launch's workspace, marked as what it is."""
        with self._given(make_claim_settings(self.launch, self.storage_extra_labels, self.storage_extra_annotations)):
            return super().get_pvc_manifest()

    @contextlib.contextmanager
    def _given(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Let attributes have these values for a moment: what the admin configured must be found again by the next start."""
        before = {name: getattr(self, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(self, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    # --- the end ---

    async def poll(self) -> Any:
        """Tell whether the server runs. What is left of a pod that a node put out is removed once the hub knows."""
        status = await super().poll()
        if status is not None and self._pod and not self.pending:
            with contextlib.suppress(HubDockError), translated():
                await self._make_delete_pod_request(self.pod_name, None, 0, self.k8s_api_request_timeout)
        return status

    async def stop(self, now: bool = False) -> None:
        """Stop the server. A node that does not answer can't keep it: its pod is then removed without the node."""
        try:
            async with asyncio.timeout(STOP):
                await super().stop(now)
        except TimeoutError:
            self.log.warning("%s: the node does not end the pod; it is removed by force", self._log_name)
            await super().stop(True)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what an API server answers, or that it does not, into a HubDockError."""
    try:
        yield
    except ApiException as error:
        raise explain_refusal(error.status or 0, str(error.body or error.reason or "")) from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise BackendError("The cluster's API server does not answer. Try again in a moment.", f"{type(error).__name__}: {error}") from error
