"""Why a server does not start, in plain words and within seconds: on a real scheduler, a real kubelet and real admission."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.kit.kube import KubeHub, find_kubelet, kubectl, new_namespace
from tests.kit.repos import Project

SOON = 5.0  # seconds from the beginning of the launch


def start_and_hear(hub: KubeHub, project: Project, user: str, words: str, within: float = SOON, **options: Any) -> str:
    """Start a server that can't start, and return the message of its pending page with these words."""
    hub.begin(user, "waits", {"repo": project.url, "ref": "main", **options})
    hub.wait_for_message(user, "waits", "Starting the server", 60)
    return hub.wait_for_message(user, "waits", words, within)[0]


def give_up(hub: KubeHub, user: str) -> None:
    hub.api("DELETE", f"users/{user}/servers/waits", {"remove": False})
    hub.wait_for(lambda: not hub.read_server(user, "waits").get("pending"), 20, "the start is over")
    hub.wait_until_gone("waits")


def start_and_fail(hub: KubeHub, project: Project, user: str, words: str, within: float = SOON, **options: Any) -> str:
    """Start a server that is refused, and return the message of its failure."""
    hub.begin(user, "fails", {"repo": project.url, "ref": "main", **options})
    message, _ = hub.wait_for_message(user, "fails", words, within + 30)
    hub.wait_for(lambda: not hub.read_server(user, "fails").get("pending"), 20, "the start is over")
    hub.wait_until_gone("fails")
    return message


@pytest.fixture(scope="module", autouse=True)
def ready_image(shared: KubeHub, plain: Project) -> None:
    """The image is there, and on the node: what is told is about the launch."""
    shared.start_server("dave", "first", {"repo": plain.url, "ref": "main"}, timeout=600)
    shared.stop_server("dave", "first")


@pytest.fixture
def node() -> str:
    return json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]


# --- waiting ---


def test_the_cluster_has_no_gpu(hub: KubeHub, plain: Project) -> None:
    message = start_and_hear(hub, plain, "alice", "GPU", gpu=1)
    assert "1 GPU was asked for, and no node has one free." in message
    give_up(hub, "alice")


def test_too_much_cpu_and_memory(hub: KubeHub, plain: Project) -> None:
    hub.override(cpu_guarantee=900.0, mem_guarantee=60 * 1024**4)
    message = start_and_hear(hub, plain, "alice", "There is no room for", cpu=1000, memory="63T")
    assert "900" in message and "60T of memory on the only node now" in message and "CPU" in message
    give_up(hub, "alice")


def test_a_node_that_is_closed(hub: KubeHub, plain: Project, node: str) -> None:
    kubectl("cordon", node)
    try:
        message = start_and_hear(hub, plain, "alice", "No node can take the server")
        assert "1 node is closed for maintenance (cordoned)" in message
    finally:
        kubectl("uncordon", node)
    hub.wait_ready("alice", "waits", 60)
    hub.stop_server("alice", "waits")


def test_labels_that_no_node_has(hub: KubeHub, plain: Project) -> None:
    hub.override(node_selector={"pool": "none"})
    assert "1 node is not meant for servers (labels)" in start_and_hear(hub, plain, "alice", "No node can take")
    give_up(hub, "alice")


def test_storage_that_nobody_makes(hub: KubeHub, plain: Project) -> None:
    hub.override(storage_class="no-such-class")
    assert "the storage class is missing or full" in start_and_hear(hub, plain, "erin", "storage for the workspace")
    give_up(hub, "erin")


def test_data_that_is_not_there(hub: KubeHub, plain: Project) -> None:
    hub.override(volumes=[{"name": "gone", "persistentVolumeClaim": {"claimName": "no-such-claim"}}])
    start_and_hear(hub, plain, "alice", "The volume no-such-claim does not exist")
    give_up(hub, "alice")


def test_nobody_waits_for_ever(hub: KubeHub, plain: Project) -> None:
    hub.override(pending_timeout=3.0)
    message = start_and_fail(hub, plain, "alice", "Spawn failed", gpu=1)
    assert "no node has one free" in message


def test_a_kubelet_that_is_silent(hub: KubeHub, plain: Project, node: str) -> None:
    """Nothing is ever reported of such a pod: it is told from the silence, within a minute. A start that is given up meanwhile leaves nothing."""
    pid = find_kubelet()
    if pid is None:
        pytest.skip("the kubelet does not run on this machine")
    os.kill(pid, signal.SIGSTOP)
    try:
        message = start_and_hear(hub, plain, "alice", "has said nothing since", within=60)
        assert f"The node {node} was chosen 2" in message and "it may be down" in message
        give_up(hub, "alice")
    finally:
        os.kill(pid, signal.SIGCONT)


# --- failing ---


def test_an_image_that_is_gone(hub: KubeHub, plain: Project) -> None:
    hub.override(launch={"image": f"{os.environ['HUBDOCK_TEST_REGISTRY']}/k-spawner/gone@sha256:{'0' * 64}"})
    message = start_and_fail(hub, plain, "alice", "Spawn failed")
    assert "The image is not in the registry any more" in message


def test_a_registry_that_is_down(hub: KubeHub, plain: Project) -> None:
    hub.override(launch={"image": f"10.89.0.1:1/k-spawner/gone@sha256:{'0' * 64}"})
    start_and_hear(hub, plain, "alice", "The registry does not answer the node", within=15)
    give_up(hub, "alice")


def test_a_pod_that_the_namespace_does_not_let_in(hub: KubeHub, plain: Project) -> None:
    hub.override(container_security_context={"privileged": True, "allowPrivilegeEscalation": True})
    message = start_and_fail(hub, plain, "alice", "Spawn failed")
    assert "pod security standard (restricted:latest) refuses the server" in message
    assert "JUPYTERHUB_API_TOKEN" not in hub.log, "a refused pod is not written into the log"


def test_a_namespace_that_is_gone(hub: KubeHub, plain: Project) -> None:
    with new_namespace() as gone:
        pass
    hub.override(namespace=gone)
    message = start_and_fail(hub, plain, "bob", "Spawn failed")
    assert "Tell an administrator" in message


def test_a_server_that_ends_says_its_last_words(hub: KubeHub, plain: Project) -> None:
    hub.override(cmd=["python", "-c", "import sys; sys.exit('it is all over')"])
    message = start_and_fail(hub, plain, "alice", "Spawn failed")
    assert "exit code 1" in message and "it is all over" in message
