"""A hub whose servers are pods, shared by the tests of this suite. Skipped, with the reason, where there is no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.demo.server import Server
from tests.kit.kube import KubeHub
from tests.kit.kubebuild import KubeBuilder, Namespace, find_registry
from tests.kit.repos import Project


@pytest.fixture(scope="session")
def server(kube_remote: Server) -> Server:
    return kube_remote


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    return Project(server, tmp_path, "project")


@pytest.fixture(scope="session")
def plain(kube_plain: Project) -> Project:
    return kube_plain


@pytest.fixture(scope="session")
def shared(kube_hub: KubeHub) -> KubeHub:
    return kube_hub


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


@pytest.fixture(scope="session")
def namespace(kube_builds: Namespace) -> Namespace:
    return kube_builds


@pytest.fixture
def builder(namespace: Namespace, server: Server, tmp_path: Path) -> KubeBuilder:
    """An engine that builds there."""
    return namespace.make_builder(tmp_path / "state-kube", allowed_hosts=[server.url])
