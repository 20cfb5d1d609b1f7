"""What every place has to do alike: hubs on Docker and on Kubernetes; registries as they are, behind a password, behind a token service, and behind a proxy that
spoils what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.demo.server import Server
from hubdock.drivers.oci import Registry
from hubdock.drivers.oci_auth import Logins
from tests.kit.hub import Hub
from tests.kit.kube import KubeHub
from tests.kit.moody import Moody
from tests.kit.registry import Registry as Running
from tests.kit.registry import find_program, write_htpasswd
from tests.kit.repos import Project
from tests.kit.tokens import TokenServer

Connect = Callable[..., Registry]


# --- hubs ---


@pytest.fixture(scope="session", params=["docker", "kubernetes"])
def hub(request: pytest.FixtureRequest) -> Hub:
    """A hub of each kind, which its own suite uses too."""
    found: Hub = request.getfixturevalue({"docker": "docker_hub", "kubernetes": "kube_hub"}[request.param])
    return found


@pytest.fixture
def remote(hub: Hub, request: pytest.FixtureRequest) -> Server:
    """The git and DVC server that the hub's servers reach."""
    found: Server = request.getfixturevalue("kube_remote" if isinstance(hub, KubeHub) else "docker_remote")
    return found


@pytest.fixture
def project(remote: Server, tmp_path: Path) -> Project:
    """A new, empty repository."""
    return Project(remote, tmp_path, "project")


# --- registries ---


def start(directory: Path, **settings: object) -> Running:
    if find_program() is None:
        pytest.skip("docker-registry is not here; `make test` fetches it (.ci/registry)")
    directory.mkdir(exist_ok=True)
    return Running(directory, **settings).start()  # type: ignore[arg-type]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = start(tmp_path / "open")
    yield found
    found.stop()


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Running]:
    """One that wants ``team`` and ``only-for-tests``."""
    found = start(tmp_path / "closed", auth=write_htpasswd(tmp_path))
    yield found
    found.stop()


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    server = TokenServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def guarded(tokens: TokenServer, tmp_path: Path) -> Iterator[Running]:
    """One that wants tokens."""
    found = start(tmp_path / "guarded", auth=tokens.setting)
    yield found
    found.stop()


@pytest.fixture
def moody(running: Running) -> Iterator[Moody]:
    found = Moody(running.host)
    yield found
    found.stop()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make clients of registries by plain HTTP, closed in the end."""
    made: list[Registry] = []

    def make(host: str, logins: Logins | None = None, **settings: int) -> Registry:
        made.append(Registry(host, logins, insecure=[host], **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def registry(running: Running, connect: Connect) -> Registry:
    """A client of the open one."""
    return connect(running.host)


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("only-for-tests\n")
    path.chmod(0o600)
    return str(path)


def make_logins(host: str, password_file: str) -> Logins:
    return Logins([{"origin": f"http://{host}", "username": "team", "password_file": password_file}])
