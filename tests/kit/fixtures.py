"""Fixtures that several suites share: one hub on Docker and one on a cluster, with a git and DVC server that each one's servers reach. `tests/conftest.py` has them all.
Each skips, with the reason, where what it needs is not here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server
from tests.kit.hub import USERS, Hub, find_base, find_gateway, run_hub
from tests.kit.kube import HOST, KubeHub, new_namespace, require_cluster, run_kube_hub
from tests.kit.kubebuild import Namespace, ensure_base, find_registry
from tests.kit.repos import Project
from tests.kit.road import Road

CDI = Path(f"/etc/cdi/hubdock-test-{os.getpid()}.json")
CROWD = [f"user{number}" for number in range(20)]
GPU = f"hubdock-test-{os.getpid()}.test/gpu"  # two runs of the tests beside each other have their own


# --- Docker ---


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
def docker_remote(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
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


@pytest.fixture(scope="session")
def gpus() -> Iterator[list[str]]:
    """Two devices by CDI (https://github.com/cncf-tags/container-device-interface): stand-ins for GPUs, with the engine's real device request."""
    devices = [{"name": str(n), "containerEdits": {"env": [f"HUBDOCK_TEST_GPU_{n}=yes"], "deviceNodes": [{"path": f"/dev/hubdock-gpu{n}", "hostPath": "/dev/null"}]}} for n in range(2)]
    CDI.parent.mkdir(parents=True, exist_ok=True)
    CDI.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": GPU, "devices": devices}))
    yield [f"{GPU}=0", f"{GPU}=1"]
    CDI.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def hub_settings(docker_remote: Server, locked: Server, gpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    password = tmp_path_factory.mktemp("passwords") / "locked"
    password.touch(mode=0o600)
    password.write_text("only-for-tests")
    return {
        "HubDock": {
            "allowed_hosts": [docker_remote.url, locked.url], "cpu_limit": 2.0, "mem_limit": "2G", "shm_limit": "256M", "gpu_limit": 2, "cancel_grace": 1.0,
            "max_repo_size": 16 * 1024**2, "base_images": {"other": find_base()},
            "git_credentials": [{"origin": locked.url, "username": "team", "password_file": str(password), "users": ["carol"], "groups": ["vision"]}],
        },
        "HubDockSpawner": {"gpu_devices": gpus},
    }  # fmt: skip


@pytest.fixture(scope="session")
def docker_hub(docker_engine: docker.DockerClient, hub_settings: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub that most tests share. It tries no environment, which takes seconds: test_environment.py does, and the hubs of other modules, of the browser and of the demo."""
    settings = {**hub_settings, "HubDock": {**hub_settings["HubDock"], "smoke_test": False}}
    with run_hub(tmp_path_factory.mktemp("hub"), settings) as running:
        yield running
    shutil.rmtree(running.state, ignore_errors=True)


# --- Kubernetes ---


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cluster, and a base image that is loaded into it in seconds."""
    require_cluster()
    ensure_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def kube_remote(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A git and DVC server that pods reach."""
    running = Server(tmp_path_factory.mktemp("remote"), HOST).start()
    yield running
    running.shutdown()


@pytest.fixture(scope="session")
def kube_plain(kube_remote: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A branch whose image is there."""
    project = Project(kube_remote, tmp_path_factory.mktemp("plain"), "plain")
    project.write_all({"README.md": "# plain\n"}).commit()
    return project


@pytest.fixture(scope="session")
def kube_builds(cluster: None, kube_remote: Server, kube_plain: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """The namespace of all builds. The base has been looked into, and the image of `kube_plain` is there."""
    with new_namespace("privileged") as name:
        found = Namespace(find_registry(), name)
        first = found.make_builder(tmp_path_factory.mktemp("seed") / "state", allowed_hosts=[kube_remote.url])
        first.must(repo=kube_plain.url, ref="main")
        found.seed = first.settings.state / "hubdock.sqlite"
        yield found


@pytest.fixture(scope="session")
def kube_road() -> Iterator[Road]:
    """The road that the service of `kube_hub` takes to the registry and the git server."""
    found = Road()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def kube_hub(kube_builds: Namespace, kube_remote: Server, kube_road: Road, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeHub]:
    """A hub on this machine whose servers are pods. Beside its usual users it knows a crowd."""
    settings = {
        "HubDock": {
            "allowed_hosts": [kube_remote.url], "gpu_limit": 4, "cpu_limit": 2000.0, "mem_limit": "64T", "shm_limit": "1G", "cancel_grace": 1.0,
            "default_resources": {"memory": "2G", "cpu": 2},
        },
        "HubDockMixin": {"http_timeout": 20},  # for so long a new hub waits for a server that the last one was starting
        "KubeSpawner": {"cpu_guarantee": 0.05, "mem_guarantee": "64M", "poll_interval": 5},
    }  # fmt: skip
    with run_kube_hub(tmp_path_factory.mktemp("hub"), settings, kube_builds, kube_road.environment, users=[*USERS, *CROWD]) as running:
        yield running
