"""Bases over time: their registry moves the tag or is away, the prepared image is pruned, what is to be added to them changes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from config.demo.server import Server
from hubdock.core.errors import BuildError, RegistryUnavailable
from hubdock.core.plan import State
from hubdock.drivers import registry as driver
from hubdock.engine.engine import Engine
from tests.kit.builder import Builder
from tests.kit.registry import Registry, build_small_base, find_program
from tests.kit.repos import Project


class Bases:
    """Small bases on the engine, and under one tag in a registry."""

    def __init__(self, client: docker.DockerClient, directory: Path) -> None:
        self.client, self.label = client, secrets.token_hex(4)
        self.registry = Registry(directory).start()
        self.reference = f"{self.registry.host}/team/base-{self.label}:1"

    def build(self, tag: str, mark: str, **probed: object) -> None:
        build_small_base(tag, f"{self.label}-{mark}", self.label, **probed)

    def publish(self, mark: str, **probed: object) -> None:
        """Put a new base into the registry under the tag, from elsewhere: this engine's own images stay as they are."""
        before = self.find_id(self.reference)
        self.build(self.reference, mark, **probed)
        published = self.find_id(self.reference)
        subprocess.run(["docker", "push", "--quiet", self.reference], check=True, capture_output=True)
        self.client.images.remove(published, force=True)
        if before:
            self.client.images.get(before).tag(self.reference)

    def find_id(self, reference: str) -> str:
        try:
            return str(self.client.images.get(reference).id)
        except docker.errors.ImageNotFound:
            return ""

    def close(self) -> None:
        self.registry.stop()
        for image in self.client.images.list(all=True, filters={"label": f"hubdock.test={self.label}"}):
            try:
                self.client.images.remove(image.id, force=True)
            except docker.errors.APIError:
                continue


@pytest.fixture
def bases(docker_engine: docker.DockerClient, tmp_path: Path) -> Iterator[Bases]:
    if find_program() is None:
        pytest.skip("docker-registry is not here; `make test` fetches it (.ci/registry)")
    bases = Bases(docker_engine, tmp_path)
    yield bases
    bases.close()


@pytest.fixture
def plain(project: Project) -> Project:
    project.write_all({"README.md": "plain"}).commit()
    return project


def make_builder(directory: Path, server: Server, **settings: Any) -> Builder:
    return Builder(directory / "state", allowed_hosts=[server.url], smoke_test=False, **settings)


def refresh(builder: Builder, reference: str) -> bool:
    async def work() -> bool:
        engine = Engine(builder.settings)
        try:
            return await engine.bases.refresh(reference)
        finally:
            await engine.close()

    return asyncio.run(work())


def find_state(builder: Builder, project: Project) -> tuple[State, str]:
    """Return how the base is in a plan, and the key of its prepared image."""
    part = builder.plan(repo=project.url, ref="main").plan.part("base")
    return part.state, part.key


def test_a_tag_that_moved_is_noticed_beside_the_starts(bases: Bases, server: Server, plain: Project, tmp_path: Path) -> None:
    """Nothing is asked before the interval is over, nor by a start; a registry that says the same brings nothing; a newer image is found, prepared and used."""
    bases.publish("one")
    builder = make_builder(tmp_path, server, base_image=bases.reference, base_refresh=3600.0)
    builder.must(repo=plain.url, ref="main")
    first, image = find_state(builder, plain), bases.find_id(bases.reference)
    bases.publish("two")
    asked = bases.registry.asked
    assert not refresh(builder, bases.reference) and bases.registry.asked == asked, "not due"
    builder.settings.base_refresh = 0.1
    time.sleep(0.2)
    assert find_state(builder, plain) == first and builder.must(repo=plain.url, ref="main").assembly.plan.ready
    assert bases.registry.asked == asked, "a start asks no registry"
    assert refresh(builder, bases.reference)
    state, key = find_state(builder, plain)
    assert (state, bases.find_id(bases.reference)) == (State.READY, bases.find_id(f"hubdock/base:{key}")) and key != first[1] and bases.find_id(bases.reference) != image
    environment = builder.image("environment", builder.must(repo=plain.url, ref="main"))
    assert f"MARK={bases.label}-two" in environment.attrs["Config"]["Env"]
    asked = bases.registry.asked
    time.sleep(0.2)
    assert not refresh(builder, bases.reference) and bases.registry.asked > asked, "it says the same"
    assert find_state(builder, plain) == (state, key)


def test_a_rebuild_takes_the_newest_base(bases: Bases, server: Server, plain: Project, tmp_path: Path) -> None:
    """At once, and for everybody from then on; a plan alone changes nothing, and without the registry the known base goes on."""
    bases.publish("one")
    builder = make_builder(tmp_path, server, base_image=bases.reference, base_refresh=0.0)
    options = {"repo": plain.url, "ref": "main"}
    builder.must(**options)
    first = find_state(builder, plain)
    assert builder.plan(rebuild=True, **options).plan.ready, "there is none newer"
    bases.publish("two")
    told = builder.plan(rebuild=True, **options).plan.part("base")
    assert (told.state, told.reasons) == (State.BUILD, (f"{bases.reference} is another image by now",))
    assert find_state(builder, plain) == first
    environment = builder.image("environment", builder.must(rebuild=True, **options))
    assert f"MARK={bases.label}-two" in environment.attrs["Config"]["Env"]
    state, key = find_state(builder, plain)
    assert state is State.READY and key != first[1] and builder.plan(**options).plan.ready
    bases.registry.stop()
    without = builder.plan(rebuild=True, **options).plan
    assert without.ready and any("used as it is known" in notice for notice in without.notices)


def test_the_known_base_outlives_its_registry(bases: Bases, server: Server, plain: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bases.publish("one")
    builder = make_builder(tmp_path, server, base_image=bases.reference, base_refresh=0.1)
    builder.must(repo=plain.url, ref="main")
    known = find_state(builder, plain)
    bases.registry.stop()
    time.sleep(0.2)
    with pytest.raises(RegistryUnavailable, match="does not say what"):
        refresh(builder, bases.reference)

    async def run_for(seconds: float) -> None:
        engine = Engine(builder.settings)
        task = asyncio.create_task(engine.bases.run())
        await asyncio.sleep(seconds)
        assert not task.done()
        task.cancel()
        await engine.close()

    with caplog.at_level(logging.WARNING, "hubdock"):
        asyncio.run(run_for(1.5))
    assert f"the base image {bases.reference} is used as it is known" in caplog.text
    plain.write_all({".hubdock.yml": "env: {A: '1'}\n"}).commit()
    assert find_state(builder, plain) == known
    assert builder.must(repo=plain.url, ref="main").assembly.environment, "a new environment needs no registry"


def test_a_bad_image_under_the_tag_changes_nothing(bases: Bases, server: Server, plain: Project, tmp_path: Path) -> None:
    bases.publish("one")
    builder = make_builder(tmp_path, server, base_image=bases.reference, base_refresh=0.1)
    builder.must(repo=plain.url, ref="main")
    known, image = find_state(builder, plain), bases.find_id(bases.reference)
    bases.publish("bad", uid=0)
    time.sleep(0.2)
    with pytest.raises(BuildError, match="It runs as 0:100; hubdock needs jovyan"):
        refresh(builder, bases.reference)
    assert (find_state(builder, plain), bases.find_id(bases.reference)) == (known, image)
    builder.settings.base_refresh = 3600.0
    asked = bases.registry.asked
    assert not refresh(builder, bases.reference) and bases.registry.asked == asked, "it is asked for again after the interval"


def test_an_image_that_only_exists_here_is_never_asked_for(bases: Bases, server: Server, plain: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = f"hubdock-test-{bases.label}:1"
    bases.build(local, "local")
    bases.build(bases.reference, "unpublished")
    monkeypatch.setattr(driver, "ask_digest", lambda reference: pytest.fail(f"{reference} was asked for"))
    for reference in (local, bases.reference):
        builder = make_builder(tmp_path / reference.partition(":")[0], server, base_image=reference, base_refresh=0.1)
        builder.must(repo=plain.url, ref="main")
        time.sleep(0.2)
        assert not refresh(builder, reference)
    assert bases.registry.asked == 0


def test_bases_that_were_pruned_are_made_again(bases: Bases, server: Server, plain: Project, tmp_path: Path) -> None:
    """`docker image prune --all` takes the base and what was made of it. What is ready starts all the same, and the next environment is built."""
    bases.publish("one")
    builder = make_builder(tmp_path, server, base_image=bases.reference)
    prepared = builder.must(repo=plain.url, ref="main").assembly.prepared
    for tag in (prepared, bases.reference):
        bases.client.images.remove(tag, force=True)
    assert builder.must(repo=plain.url, ref="main").attempts == {}, "a ready image needs no base"
    plain.write_all({".hubdock.yml": "env: {A: '1'}\n"}).commit()
    part = builder.plan(repo=plain.url, ref="main").plan.part("base")
    assert (part.state, part.reasons) == (State.BUILD, ("not here any more",))
    build = builder.must(repo=plain.url, ref="main")
    assert set(build.attempts) == {"base", "environment", "image"} and build.assembly.prepared == prepared
    assert bases.find_id(prepared) == bases.find_id(bases.reference) != ""


def test_certificates_that_change_reach_the_next_start(bases: Bases, server: Server, plain: Project, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    builder = make_builder(tmp_path, server, base_image=bases.reference)
    bases.build(bases.reference, "certificates")
    keys = set()
    for text in ("", "authority one", "authority two"):
        path.write_text(text)
        builder.settings.extra_ca_certificates = str(path) if text else ""
        build = builder.must(repo=plain.url, ref="main")
        assert build.assembly.environment
        keys.add(build.assembly.environment.key)
        if text:
            trusted = bases.client.containers.run(build.assembly.prepared, ["/bin/sh", "-c", "cat /etc/ssl/certs/ca-certificates.crt"], entrypoint=[], remove=True)
            assert trusted.decode().strip() == text
        assert builder.must(repo=plain.url, ref="main").attempts == {}
    assert len(keys) == 3
