"""A Docker Engine that may be killed and filled up, a hub on it that may be killed too, and builds that take as long as a test wants."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from config.demo.server import Server
from tests.kit.engine import MIB, NotHere, PrivateEngine, SmallDisk, private_engine
from tests.kit.hub import Hub, find_base, find_proxy
from tests.kit.repos import Project, make_own_backend

BACKEND = """
import os, sys, time, zipfile

def build_wheel(directory, settings=None, metadata=None):
    time.sleep({seconds})
    name, info = "slow-1-py3-none-any.whl", "slow-1.dist-info"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("slow.py", b"#" * {size})
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: slow\\nVersion: 1\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return name
"""


def make_slow(seconds: float, size: int = 0) -> dict[str, str | bytes]:
    """Return the files of a project whose environment is new and takes so many seconds to build, and so many bytes, without an index."""
    files: dict[str, str | bytes] = {"requirements.txt": f"# {uuid.uuid4().hex}\n./slow\n", "slow/pyproject.toml": make_own_backend("slow")}
    return files | {"slow/backend.py": BACKEND.format(seconds=seconds, size=size)}


@pytest.fixture(scope="package")
def engine() -> Iterator[PrivateEngine]:
    """The engine, with a small base image. ``DOCKER_HOST`` names it meanwhile."""
    base = find_base()
    try:
        docker.from_env().images.get(base)
        holder = private_engine(4096 * MIB)
        found = holder.__enter__()
    except (docker.errors.DockerException, NotHere) as error:
        pytest.skip(f"no engine that tests may kill: {error}")
    try:
        found.import_base(base, base)
        os.environ["DOCKER_HOST"] = found.host
        yield found
    except NotHere as error:
        pytest.skip(f"no engine that tests may kill: {error}")
    finally:
        holder.__exit__(None, None, None)


@pytest.fixture(scope="package")
def remote(engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The git and DVC server, at an address that this machine and the engine's containers reach."""
    running = Server(tmp_path_factory.mktemp("faults-remote"), engine.address).start()
    yield running
    running.shutdown()


@pytest.fixture
def project(remote: Server, tmp_path: Path) -> Project:
    return Project(remote, tmp_path, "project")


@pytest.fixture(scope="package")
def settings(remote: Server) -> dict[str, Any]:
    return {"allowed_hosts": [remote.url], "cancel_grace": 1.0, "smoke_test": False, "max_parallel_builds": 20}


@pytest.fixture(scope="module")
def hub(engine: PrivateEngine, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that may be killed. What a test starts, it stops."""
    if find_proxy() is None:
        pytest.skip("configurable-http-proxy is not installed; `make test` installs it")
    running = Hub(tmp_path_factory.mktemp("hub"), {"HubDock": settings, "Spawner": {"poll_interval": 1}})
    try:
        yield running.start()
    finally:
        running.stop()
        engine.disk.clear()
        running.clean()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Makes file systems of so many bytes."""
    made: list[SmallDisk] = []

    def make(size: int) -> SmallDisk:
        try:
            made.append(SmallDisk(tmp_path / f"small{len(made)}", size))
        except NotHere as error:
            pytest.skip(str(error))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Prints a number of this test, at once and in the summary."""

    def say(text: str) -> None:
        record_property("number", text)
        print(text)

    return say
