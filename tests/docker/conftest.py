"""A real Docker Engine, one hub for most tests, one git and DVC server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server
from tests.kit.faces import Faces
from tests.kit.hub import Hub, find_base, find_gateway, run_hub
from tests.kit.repos import Project

CDI = Path(f"/etc/cdi/hubdock-test-{os.getpid()}.json")
GPU = f"hubdock-test-{os.getpid()}.test/gpu"  # two runs of the tests beside each other have their own


@pytest.fixture(scope="session")
def docker_engine() -> docker.DockerClient:
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker Engine answers: {error}")
    try:
        client.images.get(find_base())
    except docker.errors.ImageNotFound:
        pytest.skip(f"the base image {find_base()} is not here; `make base` makes it")
    return client


@pytest.fixture(scope="session")
def server(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The git and DVC server, at an address that both this machine and containers reach."""
    running = Server(tmp_path_factory.mktemp("remote"), find_gateway()).start()
    yield running
    running.shutdown()


@pytest.fixture(scope="session")
def locked(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A second one, which wants a password. The shared hub has it for carol and for the group ``vision``."""
    running = Server(tmp_path_factory.mktemp("locked"), find_gateway(), password="team:only-for-tests").start()
    yield running
    running.shutdown()


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    """A new, empty repository."""
    return Project(server, tmp_path, "project")


@pytest.fixture(scope="session")
def gpus() -> Iterator[list[str]]:
    """Two devices by CDI (https://github.com/cncf-tags/container-device-interface): stand-ins for GPUs, with the engine's real device request."""
    devices = [{"name": str(n), "containerEdits": {"env": [f"HUBDOCK_TEST_GPU_{n}=yes"], "deviceNodes": [{"path": f"/dev/hubdock-gpu{n}", "hostPath": "/dev/null"}]}} for n in range(2)]
    CDI.parent.mkdir(parents=True, exist_ok=True)
    CDI.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": GPU, "devices": devices}))
    yield [f"{GPU}=0", f"{GPU}=1"]
    CDI.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def leased(docker_engine: docker.DockerClient, gpus: list[str]) -> list[str]:
    """The stand-ins, where the engine reads CDI specs (``"features": {"cdi": true}`` in its daemon.json; from Engine 28 on by itself)."""
    if not docker_engine.info().get("CDISpecDirs"):
        pytest.skip("this machine's Docker Engine has devices by CDI switched off")
    return gpus


@pytest.fixture(scope="session")
def hub_settings(server: Server, locked: Server, gpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    password = tmp_path_factory.mktemp("passwords") / "locked"
    password.touch(mode=0o600)
    password.write_text("only-for-tests")
    return {
        "HubDock": {
            "allowed_hosts": [server.url, locked.url], "cpu_limit": 2.0, "mem_limit": "2G", "shm_limit": "256M", "gpu_limit": 2, "cancel_grace": 1.0, "max_repo_size": 16 * 1024**2,
            "base_images": {"other": find_base()},
            "git_credentials": [{"origin": locked.url, "username": "team", "password_file": str(password), "users": ["carol"], "groups": ["vision"]}],
        },
        "HubDockSpawner": {"gpu_devices": gpus},
    }  # fmt: skip


@pytest.fixture(scope="session")
def hub(docker_engine: docker.DockerClient, hub_settings: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub that most tests share."""
    with run_hub(tmp_path_factory.mktemp("hub"), hub_settings) as running:
        yield running
    shutil.rmtree(running.state, ignore_errors=True)


@pytest.fixture(scope="session")
def faces(hub: Hub, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faces]:
    """A user at every face of the shared hub, with a running server that must go on whatever is typed."""
    project = Project(server, tmp_path_factory.mktemp("faces"), "faces")
    project.write_all({"README.md": "it goes on"}).commit()
    made = Faces(hub, project.url)
    yield made
    made.close()
