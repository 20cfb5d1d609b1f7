"""An image that no builder made: it is the one that BuildKit makes of the same plan, and an engine pulls and runs it."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from config.demo.server import Server
from hubdock.core.errors import ImageGone
from hubdock.drivers.append import Appended
from hubdock.drivers.mirror import Mirror
from hubdock.engine.assembly import make_image_spec
from hubdock.engine.build import Build
from hubdock.engine.step_base import make_identity
from tests.contract.test_registry_images import Images
from tests.kit.builder import Builder
from tests.kit.registry import Registry as Running
from tests.kit.registry import build_small_base, find_program
from tests.kit.repos import Project, make_hostile


class Place:
    """A registry with an environment that the engine's BuildKit made and docker pushed."""

    def __init__(self, running: Running, builder: Builder) -> None:
        self.running, self.builder = running, builder
        self.images = Images({"registry": f"{running.host}/hub", "insecure_registries": [running.host]})
        self.registry = self.images.open_registry(running.host)
        self.made: list[str] = []

    def push(self, build: Build) -> str:
        assert build.assembly.environment
        image, key = self.builder.image("environment", build), build.assembly.environment.key
        name = f"{self.running.host}/hub/environment"
        image.tag(name, key)
        self.made.append(f"{name}:{key}")
        for line in self.builder.docker.images.push(name, key, stream=True, decode=True):
            assert "error" not in line, line
        digest = self.registry.find_digest("hub/environment", key)
        assert digest
        return digest

    def append(self, build: Build) -> Appended:
        a, settings = build.assembly, self.builder.settings
        mirror = Mirror(settings.state, a.remote, settings.max_repo_size)
        return self.images.append_image(make_image_spec(settings, a), mirror, mirror.read_tree(a.ref.commit))

    def pull(self, digest: str) -> Any:
        self.made.append(f"{self.running.host}/hub/image@{digest}")
        return self.builder.docker.images.pull(f"{self.running.host}/hub/image@{digest}")

    def close(self) -> None:
        for name in self.made:
            try:
                self.builder.docker.images.remove(name, force=True)
            except docker.errors.APIError:
                continue
        self.images.close()
        self.running.stop()


@pytest.fixture
def builder(docker_engine: docker.DockerClient, server: Server, tmp_path: Path) -> Iterator[Builder]:
    """One with a small base, which is pushed in a second."""
    label = secrets.token_hex(4)
    tag = f"hubdock-test-append-{label}:1"
    build_small_base(tag, label, label)
    made = Builder(tmp_path / "state-append", allowed_hosts=[server.url], smoke_test=False, base_image=tag)
    yield made
    made.clean()
    for image in docker_engine.images.list(all=True, filters={"label": f"hubdock.test={label}"}):
        try:
            docker_engine.images.remove(image.id, force=True)
        except docker.errors.APIError:
            continue


@pytest.fixture
def places(builder: Builder, tmp_path: Path) -> Iterator[list[Place]]:
    if find_program() is None:
        pytest.skip("docker-registry is not here; `make test` fetches it (.ci/registry)")
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(Place(Running(tmp_path / name).start(), builder))
    yield found
    for place in found:
        place.close()


def list_files(builder: Builder, image: Any, *roots: str) -> dict[str, tuple[object, ...]]:
    """Return mode, owner, time, target and content of all that lies below some directories of an image."""
    container, found = builder.docker.containers.create(image.id, ["true"]), {}
    try:
        for root in roots:
            content = io.BytesIO(b"".join(container.get_archive(root)[0]))
            with tarfile.open(fileobj=content, errors="surrogateescape") as tar:
                for member in tar.getmembers():
                    file = tar.extractfile(member) if member.isfile() else None
                    found[f"{root}:{member.name}"] = (member.type, member.mode, member.uid, member.gid, member.mtime, member.linkname, file.read() if file else b"")
    finally:
        container.remove(force=True)
    return found


def test_it_is_the_image_that_buildkit_makes(builder: Builder, places: list[Place], project: Project) -> None:
    """Every file, mode, owner, time and link, and every setting; on two registries the same layers."""
    make_hostile(project)
    project.write_all({".hubdock.yml": "copy: [{from: sub, to: /opt/sub}, {from: plain.txt, to: ~/.config/plain.txt}]\nenv: {MARK: 'a \"b\" $c'}\n"}).commit()
    build = builder.must(repo=project.url, ref="main")
    wanted, found = builder.image("image", build), []
    for place in places:
        place.push(build)
        found.append(place.pull(place.append(build).digest))
    assert found[0].attrs["RootFS"] == found[1].attrs["RootFS"]
    # BuildKit marks a CMD with "ArgsEscaped", which means something on Windows only
    config, other = ({name: value for name, value in image.attrs["Config"].items() if value and name != "ArgsEscaped"} for image in (wanted, found[0]))
    assert other == config
    assert found[0].attrs["RootFS"]["Layers"][:-2] == builder.image("environment", build).attrs["RootFS"]["Layers"]
    workspace = build.assembly.workspace
    roots = ["/hubdock", "/opt/sub", os.path.dirname(workspace)]
    files = list_files(builder, wanted, *roots)
    assert list_files(builder, found[0], *roots) == files and len(files) > 40
    said = builder.docker.containers.run(found[0].id, ["/hubdock/code/run.sh"], entrypoint=[], remove=True)
    assert said == b"ran\n"


@pytest.mark.parametrize("bare", [False, True])
def test_a_registry_tells_the_same_of_a_base_as_the_engine(builder: Builder, places: list[Place], bare: bool) -> None:
    """Or the same branch would have other keys on Kubernetes than on Docker."""
    place, name = places[0], f"{places[0].running.host}/hub/base"
    if bare:
        subprocess.run(["docker", "buildx", "build", "--builder", "default", "--quiet", "--tag", f"{name}:1", "-"], input=f"FROM scratch\nCOPY --from={builder.settings.base_image} /bin/sh /x\n".encode(), check=True)
    else:
        builder.docker.images.get(builder.settings.base_image).tag(name, "1")
    place.made.append(f"{name}:1")
    for line in builder.docker.images.push(name, "1", stream=True, decode=True):
        assert "error" not in line, line
    told = place.images.inspect_image(f"{name}:1")
    assert told and make_identity(told) == make_identity(builder.docker.images.get(f"{name}:1").attrs)


def test_an_edit_sends_one_small_layer(builder: Builder, places: list[Place], project: Project) -> None:
    project.write_all({"README.md": "one", "value.txt": "AAAA"}).commit()
    first = builder.must(repo=project.url, ref="main")
    place = places[0]
    place.push(first)
    before = place.append(first)
    assert place.append(first) == Appended(before.digest, 0, 0)
    project.write_all({"README.md": "two", "value.txt": "BBBB"}).commit()
    second = builder.must(repo=project.url, ref="main")
    after = place.append(second)
    assert after.blobs == 2 and after.uploaded < 16384, "the layer of the code and the configuration: the guest programs are there"
    text = builder.docker.containers.run(place.pull(after.digest).id, ["cat", "/hubdock/code/README.md", "/hubdock/code/value.txt"], entrypoint=[], remove=True)
    assert text == b"twoBBBB"


def test_an_environment_with_a_lost_layer_is_not_taken_for_whole_again(builder: Builder, places: list[Place], project: Project) -> None:
    project.write_all({"README.md": "one"}).commit()
    build, place = builder.must(repo=project.url, ref="main"), places[0]
    digest = place.push(build)
    manifest = place.registry.read_manifest("hub/environment", digest)
    assert manifest
    for path in [*place.running.files.rglob(manifest.layers[-1].digest.removeprefix("sha256:"))]:
        shutil.rmtree(path)
    with pytest.raises(ImageGone):
        place.append(build)
    assert place.registry.find_digest("hub/environment", digest) is None
    with pytest.raises(ImageGone, match="Start again"):
        place.append(build)
    place.push(build)
    made = place.append(build)
    assert build.assembly.image and place.images.find_image("image", build.assembly.image.key, build.assembly.image.canonical) == f"{place.running.host}/hub/image@{made.digest}"
