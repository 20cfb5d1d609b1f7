"""What a container may not do, and GPUs as the engine's device requests."""

from __future__ import annotations

import pytest

from tests.kit.hub import Hub
from tests.kit.repos import Project


@pytest.fixture
def plain(project: Project) -> Project:
    project.write_all({"README.md": "plain"}).commit()
    return project


def test_no_new_privileges(hub: Hub, plain: Project) -> None:
    """A setuid program that an image brings makes nobody root."""
    server = hub.start_server("alice", "privileges", {"repo": plain.url, "ref": "main"})
    assert server.container.attrs["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert server.run("grep NoNewPrivs /proc/1/status").split() == ["NoNewPrivs:", "1"]
    server.container.exec_run(["sh", "-c", "cp /usr/bin/id /usr/local/bin/rooted && chmod 4755 /usr/local/bin/rooted"], user="0:0")
    assert server.run("rooted -u") == "1000"
    server.stop()


def test_gpus_are_leased(hub: Hub, plain: Project, leased: list[str]) -> None:
    """Two devices, three who ask: each gets one of its own, the third is told within seconds; a stopped server gives its back."""
    options = {"repo": plain.url, "ref": "main", "gpu": 1}
    first, second = hub.start_server("alice", "gpu", options), hub.start_server("bob", "gpu", options)
    requests = [server.container.attrs["HostConfig"]["DeviceRequests"] for server in (first, second)]
    assert [(r[0]["Driver"], r[0]["DeviceIDs"]) for r in requests] == [("cdi", [device]) for device in leased]
    assert first.run("tr '\\0' '\\n' </proc/1/environ | grep HUBDOCK_TEST; ls /dev | grep hubdock") == "HUBDOCK_TEST_GPU_0=yes\nhubdock-gpu0"
    assert second.run("ls /dev | grep hubdock") == "hubdock-gpu1"
    third = hub.api("POST", "users/carol/servers/gpu", options)
    assert third.status_code == 503 and "0 of 2 are free" in third.json()["message"]
    first.stop()
    third_server = hub.start_server("carol", "gpu", options)
    assert third_server.run("ls /dev | grep hubdock") == "hubdock-gpu0"
    for server in (second, third_server):
        server.stop()
    both = hub.start_server("dave", "gpu", {**options, "gpu": 2})
    assert both.run("ls /dev | grep -c hubdock") == "2"
    both.stop()
