"""A hub whose servers are pods, shared by the tests of this suite. Skipped, with the reason, where there is no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.demo.server import Server
from tests.kit.kube import HOST, KubeHub, new_namespace, require_cluster, run_kube_hub
from tests.kit.kubebuild import KubeBuilder, Namespace, ensure_base, find_registry
from tests.kit.repos import Project


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cluster, and a base image that is loaded into it in seconds."""
    require_cluster()
    ensure_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def server(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A git and DVC server that pods reach."""
    running = Server(tmp_path_factory.mktemp("remote"), HOST).start()
    yield running
    running.shutdown()


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    return Project(server, tmp_path, "project")


@pytest.fixture(scope="session")
def plain(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A branch whose image is there after its first start."""
    project = Project(server, tmp_path_factory.mktemp("plain"), "plain")
    project.write_all({"README.md": "# plain\n"}).commit()
    return project


@pytest.fixture(scope="session")
def shared(cluster: None, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeHub]:
    settings = {
        "HubDock": {
            "allowed_hosts": [server.url], "gpu_limit": 4, "cpu_limit": 2000.0, "mem_limit": "64T", "shm_limit": "1G", "cancel_grace": 1.0,
            "default_resources": {"memory": "512M", "cpu": 2},
        },
        "HubDockMixin": {"http_timeout": 45},
        "KubeSpawner": {"cpu_guarantee": 0.05, "mem_guarantee": "64M"},
    }  # fmt: skip
    with run_kube_hub(tmp_path_factory.mktemp("hub"), settings) as running:
        yield running


@pytest.fixture
def hub(shared: KubeHub) -> Iterator[KubeHub]:
    """The shared hub without any test's overrides."""
    shared.override()
    yield shared
    shared.override()


@pytest.fixture(scope="session")
def registry(cluster: None) -> str:
    """The cluster's registry."""
    return find_registry()


@pytest.fixture(scope="module")
def namespace(registry: str) -> Iterator[Namespace]:
    """A namespace for the builds of one file of tests."""
    with new_namespace("privileged") as name:
        yield Namespace(registry, name)


@pytest.fixture
def builder(namespace: Namespace, server: Server, tmp_path: Path) -> Iterator[KubeBuilder]:
    """An engine that builds in it."""
    made = namespace.make_builder(tmp_path / "state-kube", allowed_hosts=[server.url])
    yield made
    made.clean()
