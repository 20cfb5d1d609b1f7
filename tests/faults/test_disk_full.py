"""Disks that are full: each place says so and what to do, nothing half-made is used later, and once there is space the next start works."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.errors import HubDockError, OutOfSpace
from hubdock.core.events import Phase
from hubdock.core.naming import make_data_volume, make_tag
from tests.faults.conftest import make_slow
from tests.kit.builder import Builder
from tests.kit.cli import CLI
from tests.kit.engine import MIB, PrivateEngine, SmallDisk
from tests.kit.hub import Hub
from tests.kit.orphans import find_files, find_in_engine, find_processes
from tests.kit.repos import Project


@pytest.fixture
def builder(engine: PrivateEngine, settings: dict[str, Any], tmp_path: Path) -> Any:
    made = Builder(tmp_path / "state-full", **settings)
    yield made
    engine.disk.clear()
    made.clean()


def check_full(error: HubDockError | None, builder: Builder) -> None:
    """Hold an error to what it must say, and see that nothing is left of what failed."""
    assert isinstance(error, OutOfSpace), f"{error!r} {error and error.detail}"
    assert "is full" in error.message and "hubdock gc" in error.message and error.status == 507
    left = [*find_processes(builder.settings.state), *find_files(builder.settings.state), *find_in_engine(builder.docker, set())]
    assert not left


def has_image(builder: Builder, key: str, kind: str = "image") -> bool:
    return bool(builder.docker.images.list(make_tag(kind, key)))


def test_clone(builder: Builder, project: Project, small_disk: Callable[[int], SmallDisk], settings: dict[str, Any], engine: PrivateEngine) -> None:
    """The state directory's disk: in the middle of the code, and without room for anything at all."""
    disk = small_disk(64 * MIB)
    builder = Builder(disk.path / "state-small", **settings)
    project.write_all({"README.md": "x"}).commit(branch="plain")
    builder.must(repo=project.url, ref="plain")
    content = os.urandom(12 * MIB)
    project.write_all({"large.bin": content}).commit(branch="large")
    disk.fill(leave=8 * MIB)
    failed = builder.build(repo=project.url, ref="large")
    check_full(failed.error, builder)
    assert failed.assembly.image and not has_image(builder, failed.assembly.image.key)
    project.write_all({"README.md": "newer"}).commit(branch="newer")
    disk.fill(leave=0)
    with pytest.raises(OutOfSpace, match=r"disk of the hub is full.*hubdock gc"):
        builder.plan(repo=project.url, ref="newer")
    disk.clear()
    build = builder.must(repo=project.url, ref="newer")
    assert builder.docker.containers.run(builder.image("image", build).id, ["stat", "-c", "%s", "/hubdock/code/large.bin"], entrypoint=[], remove=True) == b"%d\n" % len(content)
    builder.clean()


def test_build(builder: Builder, project: Project, engine: PrivateEngine) -> None:
    """A package that is larger than what is left: no environment of that name, then a whole one."""
    project.write_all(make_slow(0, 120 * MIB)).commit()
    builder.plan(repo=project.url, ref="main")
    warm(builder, project)
    engine.disk.fill(leave=60 * MIB)
    failed = builder.build(repo=project.url, ref="main")
    check_full(failed.error, builder)
    assert failed.assembly.environment and not has_image(builder, failed.assembly.environment.key, "environment")
    engine.disk.clear()
    build = builder.must(repo=project.url, ref="main")
    script = "import slow, os; print(os.path.getsize(slow.__file__))"
    assert builder.docker.containers.run(builder.image("image", build).id, ["/opt/conda/bin/python", "-c", script], entrypoint=[], remove=True) == b"%d\n" % (120 * MIB)


def warm(builder: Builder, project: Project) -> None:
    """Have the base looked into, and the installer's cache filled."""
    project.git("checkout", "--quiet", "-b", "warm")
    project.write_all(make_slow(0)).commit()
    builder.must(repo=project.url, ref="warm")
    project.git("checkout", "--quiet", "main")


def test_collection_frees_space(builder: Builder, project: Project, engine: PrivateEngine, tmp_path: Path, tell: Callable[[str], None]) -> None:
    """What the error says to do is what helps: `hubdock gc` removes what nobody used for long, and the same data fits."""
    project.init_dvc().add_data("data", {"old.bin": os.urandom(60 * MIB)}).commit(branch="old")
    builder.must(repo=project.url, ref="old")
    with sqlite3.connect(builder.settings.state / "hubdock.sqlite") as connection:
        for table, column in (("uses", "used"), ("builds", "finished")):
            connection.execute(f"UPDATE {table} SET {column} = {column} - 7200")
    (project.path / "data" / "old.bin").unlink()
    project.add_data("data", {"new.bin": os.urandom(60 * MIB)}).commit(branch="new")
    engine.disk.fill(leave=40 * MIB)
    check_full(builder.build(repo=project.url, ref="new").error, builder)
    config = tmp_path / "config.json"
    names = ("state_dir", "base_image", "gpu_base_image", "volume_prefix")
    config.write_text(json.dumps({"HubDock": {name: getattr(builder.settings, name) for name in names}}))
    freed = CLI(config, builder.docker, builder.settings.volume_prefix)("gc", "--budget", "1M", "--json")
    assert freed.returncode == 0, freed.stdout + freed.stderr
    builder.must(repo=project.url, ref="new")
    tell(f"a full disk: `hubdock gc` freed {json.loads(freed.stdout)['freed']['data'] // MIB} MiB of data, and the fetch that had failed went well")


def test_export(builder: Builder, project: Project, engine: PrivateEngine) -> None:
    """All steps are in BuildKit's cache, and only the image itself has to be written: there is none, then the right one."""
    project.write_all({"README.md": "x"}).commit()
    first = builder.must(repo=project.url, ref="main")
    identity = builder.image("image", first).id
    builder.docker.images.remove(builder.image("image", first).tags[0], force=True)
    engine.disk.fill(leave=0)
    failed = builder.build(repo=project.url, ref="main")
    check_full(failed.error, builder)
    assert failed.assembly.image and not has_image(builder, failed.assembly.image.key)
    engine.disk.clear()
    assert builder.image("image", builder.must(repo=project.url, ref="main")).id == identity


def test_data(builder: Builder, project: Project, engine: PrivateEngine) -> None:
    """The store: what came is no data of that key, and the next fetch takes only the rest."""
    project.write_all({"README.md": "x"}).commit()
    builder.must(repo=project.url, ref="main")
    project.init_dvc().add_data("data", {f"{number}.bin": os.urandom(10 * MIB) for number in range(6)}).commit()
    engine.disk.fill(leave=35 * MIB)
    failed = builder.build(repo=project.url, ref="main")
    check_full(failed.error, builder)
    assert failed.assembly.dataset
    key = failed.assembly.dataset.inputs.key
    volume = make_data_volume(builder.settings.volume_prefix)
    listing = ["find", "/store", "-maxdepth", "2", "-name", f"{key}*"]
    engine.disk.clear()
    assert builder.docker.containers.run(make_any(builder, failed), listing, entrypoint=[], volumes={volume: {"bind": "/store"}}, remove=True, user="0") == b""
    assert builder.plan(repo=project.url, ref="main").plan.part("data").state.value == "build"
    build = builder.must(repo=project.url, ref="main")
    result = build.attempts["data"].result()
    assert result and 0 < result.data["fetched"] <= 60 * MIB
    assert builder.plan(repo=project.url, ref="main").plan.ready


def make_any(builder: Builder, build: Any) -> str:
    """Return an image that runs on this engine."""
    return str(builder.docker.images.get(build.assembly.prepared).id)


def test_workspace(hub: Hub, project: Project, engine: PrivateEngine) -> None:
    """The server's own volume: the start says so, and the next one begins the workspace anew, whole."""
    project.write_all({f"part{number}.bin": os.urandom(5 * MIB) for number in range(8)}).commit()
    options = {"repo": project.url, "ref": "main"}
    build = hub.service("POST", "builds", options).json()["id"]
    hub.wait_for(lambda: hub.service("GET", f"builds/{build}").json()["phase"] == Phase.READY, 60, "the image is made")
    engine.disk.fill(leave=20 * MIB)
    refused = hub.api("POST", "users/alice/servers/full", options)
    assert refused.status_code == 507 and "disk of the Docker host is full" in refused.json()["message"] and "hubdock gc" in refused.json()["message"], refused.text
    assert not find_in_engine(hub.engine, set())
    engine.disk.clear()
    server = hub.start_server("alice", "full", options)
    assert server.run("git status --porcelain && ls part*.bin | wc -l && git fsck --connectivity-only 2>&1 | grep -v dangling | wc -l").split()[0] == "8"
    server.stop()
