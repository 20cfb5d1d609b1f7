"""From a pod's creation to a server that answers, or to the reason why it never will: against the pods and events that the hub would see."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("kubespawner", reason="the extra [kubernetes] is not installed")

from kubernetes_asyncio.client import ApiException
from kubespawner import KubeSpawner

from hubdock.core.errors import BackendError, GPUUnavailable, ImageGone, LaunchError
from hubdock.spawner import kubernetes
from hubdock.spawner.kubernetes import HubDockKubeSpawner, translated
from tests.unit.test_kubepod import make_spawner

NAME = "jupyter-mock-name---6241db84"


class Cluster:
    """What the hub knows of one pod, and an API server that takes and gives as told. ``delay`` is how long it takes to make a pod."""

    def __init__(self, spawner: HubDockKubeSpawner) -> None:
        self.pods: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.delay, self.refusal, self.log = 0.0, 0, ""
        self.key = f"{spawner.namespace}/{spawner.pod_name}"

    def show(self, phase: str = "Pending", node: str = "", **status: Any) -> None:
        spec = {"containers": [{"name": "notebook", "ports": [{"name": "notebook-port", "containerPort": 8888}]}], **({"nodeName": node} if node else {})}
        self.pods[self.key] = {"metadata": {"name": NAME, "uid": "u"}, "spec": spec, "status": {"phase": phase, **status}}

    def run(self, ip: str = "127.0.0.1") -> None:
        self.show("Running", "n1", podIP=ip, startTime="t", containerStatuses=[{"name": "notebook", "ready": True, "state": {"running": {}}}])

    async def create_namespaced_pod(self, namespace: str, pod: Any) -> None:
        await asyncio.sleep(self.delay)
        self.calls.append("create")
        if self.refusal:
            raise ApiException(status=self.refusal, reason="Forbidden")
        self.show()

    async def wait_for_pod(self) -> None:
        """Wait until a pod is there."""
        while not self.pods:
            await asyncio.sleep(0.01)

    async def delete_namespaced_pod(self, name: str, **kwargs: Any) -> None:
        self.calls.append("delete")
        if self.pods.pop(self.key, None) is None:
            raise ApiException(status=404)

    async def read_namespaced_pod_log(self, *args: Any, **kwargs: Any) -> str:
        return self.log


@pytest.fixture
async def spawner(monkeypatch: pytest.MonkeyPatch) -> HubDockKubeSpawner:
    made = make_spawner(monkeypatch)
    made.cluster = Cluster(made)
    monkeypatch.setattr(HubDockKubeSpawner, "pod_reflector", made.cluster)
    monkeypatch.setattr(HubDockKubeSpawner, "event_reflector", SimpleNamespace(events=made.cluster.events))
    monkeypatch.setattr(HubDockKubeSpawner, "events", property(lambda self: self.cluster.events))
    made.api = made.cluster

    async def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    for name in ("_start_watching_pods", "_start_watching_events", "_make_create_pvc_request"):
        monkeypatch.setattr(KubeSpawner, name, nothing if "pvc" not in name else (lambda *args: asyncio.sleep(0, True)))
    return made


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """A port that answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    running = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield running.sockets[0].getsockname()[1]
    running.close()


def said(spawner: HubDockKubeSpawner) -> list[str]:
    return [message["message"] for message in spawner.start_progress.messages]


async def test_readiness_is_noticed_within_a_tenth_of_a_second(spawner: HubDockKubeSpawner, server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of some: the machine has other work."""
    monkeypatch.setattr(KubeSpawner, "_get_pod_port", lambda self, pod: server)
    lags = []
    for _ in range(4):
        task = asyncio.create_task(spawner.launch_server())
        await asyncio.sleep(0.6)
        spawner.cluster.run()
        ran = time.monotonic()
        assert await task == f"http://127.0.0.1:{server}"
        lags.append(time.monotonic() - ran)
    assert min(lags) < 0.1


def meet_at(spawner: HubDockKubeSpawner, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Have the service know from where the server asks for its start files."""

    async def wait_for_address(build: str, user: str, server: str) -> str:
        assert (build, user) == (spawner.build_id, spawner.user.name)
        await asyncio.sleep(0.1)
        return address

    monkeypatch.setattr(HubDockKubeSpawner, "client_of_service", SimpleNamespace(wait_for_address=wait_for_address))


async def test_a_server_is_met_before_its_node_says_that_it_runs(spawner: HubDockKubeSpawner, server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KubeSpawner, "_get_pod_port", lambda self, pod: server)
    meet_at(spawner, monkeypatch, "127.0.0.1")
    spawner.port = server
    assert await asyncio.wait_for(spawner.launch_server(), 5) == f"http://127.0.0.1:{server}"
    spawner.cluster.run("127.0.0.2")
    assert spawner._get_pod_url(spawner._pod) == f"http://127.0.0.2:{server}", "afterwards the node is believed"


async def test_who_answers_as_somebody_else_is_not_met(spawner: HubDockKubeSpawner, server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server at that address knows no such path."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(refuse, "127.0.0.3", 0)
    spawner.port = other.sockets[0].getsockname()[1]
    monkeypatch.setattr(KubeSpawner, "_get_pod_port", lambda self, pod: server)
    meet_at(spawner, monkeypatch, "127.0.0.3")
    task = asyncio.create_task(spawner.launch_server())
    await asyncio.sleep(0.5)
    assert not task.done()
    spawner.cluster.run()
    assert await asyncio.wait_for(task, 5) == f"http://127.0.0.1:{server}"
    other.close()


async def test_an_admin_s_own_hook_is_called_and_stays_theirs(spawner: HubDockKubeSpawner, server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KubeSpawner, "_get_pod_port", lambda self, pod: server)
    called: list[str] = []
    spawner.after_pod_created_hook = hook = lambda spawner, pod: called.append(pod["metadata"]["uid"])
    task = asyncio.create_task(spawner.launch_server())
    await spawner.cluster.wait_for_pod()
    spawner.cluster.run()
    await task
    assert called == ["u"] and spawner.after_pod_created_hook is hook


async def test_a_user_is_told_once_for_each_reason(spawner: HubDockKubeSpawner, server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KubeSpawner, "_get_pod_port", lambda self, pod: server)
    task = asyncio.create_task(spawner.launch_server())
    await spawner.cluster.wait_for_pod()
    text = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none."
    spawner.cluster.show(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}])
    await asyncio.sleep(0.7)
    spawner.cluster.show(node="n1", startTime="t", containerStatuses=[{"name": "notebook", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}])
    spawner.cluster.events.append({"reason": "Pulling", "message": "Pulling image", "type": "Normal", "lastTimestamp": "t"})
    await asyncio.sleep(0.7)
    spawner.cluster.run()
    await task
    first, second = said(spawner)
    assert "no node has one free" in first and "The node n1 loads the image" in second


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ({"node": "n", "startTime": "t", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "x: not found"}}}]}, ImageGone),
        ({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}, LaunchError),
    ],
)
async def test_what_will_never_be_ends_at_once_and_leaves_nothing(spawner: HubDockKubeSpawner, status: dict[str, Any], kind: type[Exception]) -> None:
    task = asyncio.create_task(spawner.launch_server())
    await spawner.cluster.wait_for_pod()
    spawner.cluster.log = "one\ntwo\n"
    spawner.cluster.show(**status)
    with pytest.raises(kind) as caught:
        await asyncio.wait_for(task, 3)
    assert not spawner.cluster.pods and (kind is not LaunchError or "(exit code 3). Its last words: one\ntwo" in str(caught.value))


async def test_patience_ends(spawner: HubDockKubeSpawner) -> None:
    spawner.pending_timeout = 1.0
    task = asyncio.create_task(spawner.launch_server())
    await spawner.cluster.wait_for_pod()
    text = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none."
    spawner.cluster.show(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}])
    with pytest.raises(GPUUnavailable):
        await asyncio.wait_for(task, 4)
    assert not spawner.cluster.pods


async def test_a_pod_that_vanishes(spawner: HubDockKubeSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "UNSEEN", 0.5)
    task = asyncio.create_task(spawner.launch_server())
    await asyncio.sleep(0.3)
    spawner.cluster.pods.clear()
    with pytest.raises(LaunchError, match="was deleted while it was starting"):
        await asyncio.wait_for(task, 4)


@pytest.mark.parametrize("delay", [0.0, 0.3])
async def test_a_cancelled_start_leaves_no_pod(spawner: HubDockKubeSpawner, delay: float) -> None:
    """Neither one that the hub has seen, nor one that is being made in this moment."""
    spawner.cluster.delay = delay
    task = asyncio.create_task(spawner.launch_server())
    await asyncio.sleep(0.1)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1 and spawner.cluster.calls == ["create", "delete"] and not spawner.cluster.pods


async def test_a_refused_pod_is_not_written_into_the_log(spawner: HubDockKubeSpawner, caplog: pytest.LogCaptureFixture) -> None:
    spawner.cluster.refusal = 403
    with pytest.raises(Exception, match="lacks a permission"):
        await spawner.launch_server()
    assert "JUPYTERHUB_API_TOKEN" not in caplog.text


async def test_an_api_server_that_does_not_answer() -> None:
    for error in (TimeoutError("x"), ConnectionRefusedError("x"), ApiException(status=503, reason="Service Unavailable")):
        with pytest.raises(BackendError, match="API server does not answer"), translated():
            raise error


async def test_what_was_launched_is_known_after_a_restart_of_the_hub(spawner: HubDockKubeSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    spawner.pvc_name, spawner._pvc_exists = "hubdock-work-x", True
    state = json.loads(json.dumps(spawner.get_state()))
    assert "token" not in json.dumps(state)
    again = make_spawner(monkeypatch)
    again.launch = {}
    again.load_state(state)
    assert (again.launch["image"], again.launch["workspace"], again.build_id, again.pvc_name) == (spawner.launch["image"], "/home/jovyan/digits", "f" * 32, "hubdock-work-x")
