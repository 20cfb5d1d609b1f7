"""The same inputs are the same keys and the same code layer, wherever and whenever; a changed file is never served stale."""

from __future__ import annotations

import io
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server
from hubdock.drivers.mirror import Mirror
from hubdock.engine.assembly import Assembly, make_image_spec
from hubdock.engine.step_image import write_context
from tests.kit.builder import Builder
from tests.kit.repos import HOSTILE, Project, make_hostile, make_requirements


@pytest.fixture
def builders(docker_engine: docker.DockerClient, server: Server, tmp_path: Path) -> Iterator[list[Builder]]:
    made = [Builder(tmp_path / f"state-{name}", allowed_hosts=[server.url], smoke_test=False) for name in ("one", "two")]
    yield made
    for each in made:
        each.clean()


def make_context(builder: Builder, a: Assembly) -> bytes:
    """Return what BuildKit was sent for the image."""
    mirror = Mirror(builder.settings.state, a.remote, builder.settings.max_repo_size)
    target = io.BytesIO()
    write_context(target, make_image_spec(builder.settings, a), mirror, mirror.read_tree(a.ref.commit))
    return target.getvalue()


def solve_without_cache(builder: Builder, context: bytes) -> list[str]:
    """Return the layers of the same context, solved anew."""
    tag = f"hubdock-test:{uuid.uuid4().hex}"
    argv = ["docker", "buildx", "build", "--builder", "default", "--no-cache", "--provenance=false", "--quiet", "--tag", tag, "-"]
    subprocess.run(argv, input=context, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
    try:
        return list(builder.docker.images.get(tag).attrs["RootFS"]["Layers"])
    finally:
        builder.docker.images.remove(tag, force=True)


def test_two_empty_state_directories(builders: list[Builder], project: Project) -> None:
    make_hostile(project, make_requirements("tabulate==0.9.0"))
    found = []
    for builder in builders:
        build = builder.must(repo=project.url, ref="main")
        a = build.assembly
        assert a.environment and a.code and a.image
        layers = builder.image("image", build).attrs["RootFS"]["Layers"]
        context = make_context(builder, a)
        again = solve_without_cache(builder, context)
        found.append(((a.environment.key, a.code.key, a.image.key), layers[-2:], again[-2:], context))
        builder.forget(build)
    assert found[0] == found[1]
    assert found[0][1] == found[0][2], "a solve without any cache makes the same layers"


def test_every_kind_of_file_arrives(builders: list[Builder], project: Project) -> None:
    """Executable bits, links of all kinds, strange names, and a Dockerfile and .dockerignore that are only files."""
    make_hostile(project, make_requirements("tabulate==0.9.0"))
    builder = builders[0]
    image = builder.image("image", builder.must(repo=project.url, ref="main"))
    script = (
        "import os,sys;r='/hubdock/code';"
        "[print(repr(os.path.relpath(os.path.join(d,n),r)),oct(os.lstat(os.path.join(d,n)).st_mode&0o777),os.lstat(os.path.join(d,n)).st_uid,"
        "os.readlink(os.path.join(d,n)) if os.path.islink(os.path.join(d,n)) else '') for d,s,f in os.walk(r) for n in sorted(f+s)]"
    )
    text = builder.docker.containers.run(image.id, ["/opt/conda/bin/python", "-c", script], entrypoint=[], remove=True).decode()
    listed = {line.rsplit("' ", 1)[0][1:]: line.rsplit("' ", 1)[1].split() for line in text.splitlines() if line.startswith("'")}
    for name in HOSTILE:
        mode = "0o755" if name == "run.sh" else "0o644"
        assert listed[repr(name)[1:-1]][:2] == [mode, "1000"], name
    assert listed["raw-\\udcff.txt"][0] == "0o644"
    assert {name: listed[name][2] for name in ("link", "broken", "absolute", "dirlink", "up")} == {
        "link": "plain.txt", "broken": "nowhere", "absolute": "/etc/hostname", "dirlink": "sub", "up": "../outside",
    }  # fmt: skip


def test_same_size_same_time_is_not_served_stale(builders: list[Builder], project: Project) -> None:
    builder = builders[0]
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "value.txt": "AAAA"}).commit("one")
    os.utime(project.path / "value.txt", (0, 0))
    builder.must(repo=project.url, ref="main")
    project.write_all({"value.txt": "BBBB"})
    os.utime(project.path / "value.txt", (0, 0))
    project.git("rm", "--quiet", "--cached", "value.txt")  # git itself goes by size and time
    project.commit("two")
    image = builder.image("image", builder.must(repo=project.url, ref="main"))
    text = builder.docker.containers.run(image.id, ["cat", "/hubdock/code/value.txt"], entrypoint=[], remove=True)
    assert text == b"BBBB"
