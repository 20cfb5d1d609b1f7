"""Restarts: servers and builds outlive hub and service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.demo.server import Server
from tests.kit.gate import Gate
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub
from tests.kit.repos import Project


@pytest.fixture(scope="module")
def mortal(docker_engine: object, hub_settings: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("mortal"), hub_settings)
    try:
        yield hub
    finally:
        hub.stop()
        hub.clean()


@pytest.fixture
def own_hub(mortal: Hub) -> Hub:
    """A hub that may be killed, and runs."""
    return mortal if mortal.process and mortal.process.poll() is None else mortal.start()


def find_attempts(hub: Hub) -> set[Path]:
    """Return the attempts at environments."""
    return set((hub.state / "tasks" / "environment").glob("*/[0-9]*"))


def test_servers_survive_the_hub(own_hub: Hub, project: Project) -> None:
    """A clean restart and a kill -9: the same container, known again, and nothing built."""
    project.write_all({"README.md": "x"}).commit()
    server = own_hub.start_server("alice", "kept", {"repo": project.url, "ref": "main"})
    identity = server.container.id
    counter = SolveCounter()
    own_hub.stop()
    own_hub.start()
    assert own_hub.wait_ready("alice", "kept").container.id == identity
    own_hub.kill()
    own_hub.start()
    server = own_hub.wait_ready("alice", "kept")
    assert server.container.id == identity
    assert own_hub.read_server("alice", "kept")["state"]["hubdock"]["workspace"].startswith("/home/jovyan/project")
    assert server.ask("contents").status_code == 200
    assert counter.new("image", project.remote_name) == 0
    server.stop()
    assert not own_hub.engine.containers.list(all=True, filters={"id": identity})


def test_a_build_survives_the_service(own_hub: Hub, project: Project, server: Server) -> None:
    """kill -9 of the hub in the middle of a build: the worker goes on; the next service takes it up, and the next start joins it."""
    gate = Gate(server)
    gate.put_into(project)
    options = {"repo": project.url, "ref": "main"}
    counter, before = SolveCounter(), find_attempts(own_hub)
    build = own_hub.service("POST", "builds", options).json()["id"]
    seen = gate.wait_for_knock()
    own_hub.kill()
    gate.wait_for_knock(seen)
    own_hub.start()
    assert own_hub.service("GET", f"builds/{build}").json()["phase"] == "building", "the same build is known"
    gate.open()
    started = own_hub.start_server("alice", "after", options)
    assert started.run("python -c 'import gate'") == ""
    assert (counter.new("environment", project.remote_name), counter.new("image", project.remote_name)) == (1, 1)
    assert len(find_attempts(own_hub) - before) == 1, "one attempt: the worker was adopted"
    started.stop()


def test_a_dead_worker_is_told_and_mended(own_hub: Hub, project: Project, server: Server) -> None:
    """kill -9 of a worker: the build fails with a clear message, nothing stays behind, and the next start makes it."""
    gate = Gate(server)
    gate.put_into(project)
    options = {"repo": project.url, "ref": "main"}
    before = find_attempts(own_hub)
    build = own_hub.service("POST", "builds", options).json()["id"]
    (pid,) = own_hub.wait_for(lambda: [path / "pid" for path in find_attempts(own_hub) - before if (path / "pid").exists()], 30, "the worker runs")
    gate.wait_for_knock()
    os.kill(int(pid.read_text()), signal.SIGKILL)
    ended = own_hub.wait_for(lambda: (b := own_hub.service("GET", f"builds/{build}").json())["phase"] == "failed" and b, 10, "the build ends")
    assert "interrupted" in ended["error"]["message"]
    gate.open()
    started = own_hub.start_server("alice", "mended", options)
    assert started.run("python -c 'import gate'") == ""
    started.stop()
