"""A real Docker Engine, one hub for most tests, one git and DVC server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server
from tests.kit.builder import Builder, copy_base
from tests.kit.faces import Faces
from tests.kit.hub import Hub
from tests.kit.repos import Project


@pytest.fixture(scope="session")
def server(docker_remote: Server) -> Server:
    return docker_remote


@pytest.fixture(scope="session")
def hub(docker_hub: Hub) -> Hub:
    return docker_hub


@pytest.fixture(scope="session")
def seed(docker_engine: docker.DockerClient, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that knows the base, for builders that need not look into it again."""
    directory = tmp_path_factory.mktemp("seed")
    project = Project(server, directory, "seed")
    project.write_all({"README.md": "seed"}).commit()
    first = Builder(directory / "state-seed", allowed_hosts=[server.url], smoke_test=False)
    first.must(repo=project.url, ref="main")
    first.clean()
    copy_base(first.settings.database_url, f"sqlite:///{directory / 'known.sqlite'}", first.settings.base_image)
    return directory / "known.sqlite"


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    """A new, empty repository."""
    return Project(server, tmp_path, "project")


@pytest.fixture(scope="session")
def leased(docker_engine: docker.DockerClient, gpus: list[str]) -> list[str]:
    """The stand-ins, where the engine reads CDI specs (``"features": {"cdi": true}`` in its daemon.json; from Engine 28 on by itself)."""
    if not docker_engine.info().get("CDISpecDirs"):
        pytest.skip("this machine's Docker Engine has devices by CDI switched off")
    return gpus


@pytest.fixture(scope="session")
def faces(hub: Hub, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faces]:
    """A user at every face of the shared hub, with a running server that must go on whatever is typed."""
    project = Project(server, tmp_path_factory.mktemp("faces"), "faces")
    project.write_all({"README.md": "it goes on"}).commit()
    made = Faces(hub, project.url)
    yield made
    made.close()
