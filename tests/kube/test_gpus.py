"""GPUs as an extended resource of a node (https://kubernetes.io/docs/tasks/configure-pod-container/extended-resource/): asked for, limited, full, and free again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.kit.hub import Server
from tests.kit.kube import KubeHub, kubectl
from tests.kit.repos import Project
from tests.kube.test_pending import give_up, start_and_fail, start_and_hear

RESOURCE = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def two_gpus(cluster: None) -> Iterator[None]:
    """The node has two, without a device behind them."""
    node = json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    patch = ["patch", "node", node, "--subresource=status", "--type=merge", "-p"]
    kubectl(*patch, json.dumps({"status": {"capacity": {RESOURCE: "2"}}}))
    yield
    kubectl(*patch, json.dumps({"status": {"capacity": {RESOURCE: None}, "allocatable": {RESOURCE: None}}}))


@pytest.fixture(scope="module")
def taken(two_gpus: None, shared: KubeHub, plain: Project) -> Iterator[list[Server]]:
    """Two users have them."""
    options = {"repo": plain.url, "ref": "main", "gpu": 1}
    servers = shared.start_all(*((user, "gpu", options) for user in ("alice", "bob")))
    yield servers
    shared.stop_all(*servers)


def test_a_server_reserves_what_it_may_use(taken: list[Server]) -> None:
    for server in taken:
        resources = server.manifest["spec"]["containers"][0]["resources"]  # type: ignore[attr-defined]
        assert resources["limits"][RESOURCE] == resources["requests"][RESOURCE] == "1"


def test_nobody_asks_for_more_than_the_hub_gives(hub: KubeHub, plain: Project) -> None:
    """Told at once: nothing is built, and no pod is made."""
    message = start_and_fail(hub, plain, "carol", "Spawn failed", gpu=5)
    assert "5 GPUs were asked for; at most 4 can be asked for" in message


def test_a_quota_that_is_full(hub: KubeHub, taken: list[Server], plain: Project) -> None:
    """The team's own limit, however many the nodes have."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": {f"requests.{RESOURCE}": "2"}}}
    kubectl("apply", "-n", hub.namespace, "-f", "-", stdin=json.dumps(quota))
    try:
        counted = ["get", "resourcequota", "-n", hub.namespace, "team", "-o", "jsonpath={.status.used}"]
        hub.wait_for(lambda: '"2"' in kubectl(*counted), 20, "the quota counts")
        message = start_and_fail(hub, plain, "carol", "Spawn failed", gpu=1)
    finally:
        kubectl("delete", "resourcequota", "-n", hub.namespace, "team")
    assert "The team's quota is full (2 GPU in all, 2 GPU in use, 1 GPU asked for)" in message and "requests.nvidia.com" not in message
    assert "without a GPU" in message


def test_three_users_and_two_gpus(hub: KubeHub, taken: list[Server], plain: Project) -> None:
    """The third is told at once, and served as soon as one of the others stops."""
    assert "2 GPUs were asked for" in start_and_hear(hub, plain, "dave", "GPU", gpu=2)
    give_up(hub, "dave")
    message = start_and_hear(hub, plain, "carol", "GPU", gpu=1)
    assert "The server starts when another one with a GPU stops; or stop it, and start it without." in message
    taken[1].stop()
    hub.wait_ready("carol", "waits", 60)
    hub.stop_server("carol", "waits")
