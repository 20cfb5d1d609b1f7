"""Images removed behind hubdock's back: each start notices, and makes them anew by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.asker import LOCAL
from hubdock.core.events import Phase
from hubdock.core.naming import make_tag
from hubdock.core.options import parse_options
from hubdock.engine.assembly import Assembly
from hubdock.engine.build import Build
from hubdock.engine.engine import Engine
from tests.faults.conftest import make_slow
from tests.kit.builder import Builder
from tests.kit.engine import PrivateEngine
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub
from tests.kit.repos import Project

BEHIND = """
import os, subprocess
def remove_behind(spawner):
    mark = "remove-now"
    if os.path.exists(mark):
        os.unlink(mark)
        subprocess.run(["docker", "image", "rm", "--force", spawner.launch["image"]], check=True)
    return {}
c.DockerSpawner.extra_create_kwargs = remove_behind
"""


@pytest.fixture
def builder(engine: PrivateEngine, settings: dict[str, Any], tmp_path: Path) -> Any:
    made = Builder(tmp_path / "state-gone", **settings)
    yield made
    made.clean()


def build_after(builder: Builder, options: dict[str, str], between: Callable[[Assembly], None]) -> Build:
    """Plan, let something happen, build what was planned, and return the ended build."""

    async def work() -> Build:
        engine = Engine(builder.settings)
        try:
            assembly = await engine.plan(parse_options(options), LOCAL)
            between(assembly)
            build = await engine.ensure(assembly, "tester")
            await build.done.wait()
            return build
        finally:
            await engine.close()

    return asyncio.run(work())


@pytest.mark.parametrize("gone", ["environment", "base", "image"])
def test_between_plan_and_build(builder: Builder, project: Project, gone: str) -> None:
    """The plan says that something is ready, which is gone when it is built on. The build notices, plans again and makes it."""
    options = {"repo": project.url, "ref": "main"}
    project.write_all(make_slow(0)).commit()
    first = builder.must(**options)
    if gone == "base":
        project.write_all(make_slow(0))
    if gone != "image":
        project.write_all({"README.md": "newer"}).commit()

    def remove(assembly: Assembly) -> None:
        assert assembly.environment and assembly.image
        assert assembly.plan.part(gone).state.value == "ready"
        tags = {"environment": make_tag("environment", assembly.environment.key), "image": make_tag("image", assembly.image.key), "base": assembly.prepared}
        if gone == "base":
            builder.forget(first)
        builder.docker.images.remove(tags[gone], force=True)

    build = build_after(builder, options, remove)
    assert build.phase is Phase.READY, f"{build.error} {build.error and build.error.detail}"
    if gone == "image":  # nothing was to be built: the launch notices
        build = builder.must(**options)
    assert builder.image("image", build)


@pytest.fixture
def removing_hub(engine: PrivateEngine, settings: dict[str, Any], tmp_path: Path) -> Any:
    """A hub that removes an image just before its container is made, once for each file ``remove-now``."""
    hub = Hub(tmp_path / "hub", {"HubDock": settings}, more=BEHIND)
    try:
        yield hub.start()
    finally:
        hub.stop()
        hub.clean()


def test_before_the_container_is_made(removing_hub: Hub, project: Project, tell: Callable[[str], None]) -> None:
    """At the plan, between plan and launch, and in a start that builds: every start is ready by itself."""
    hub, options = removing_hub, {"repo": project.url, "ref": "main"}
    project.write_all(make_slow(0)).commit()
    hub.start_server("alice", "first", options).stop()
    (image,) = [tag for found in hub.engine.images.list("hubdock/image") for tag in found.tags if (hub.state / "tasks" / "image" / tag.rpartition(":")[2]).exists()]
    hub.engine.images.remove(image, force=True)
    assert not hub.service("POST", "plan", options).json()["ready"], "the plan sees it"
    counter = SolveCounter()
    hub.start_server("alice", "planned", options).stop()
    (hub.directory / "remove-now").touch()
    server = hub.start_server("alice", "launched", options)
    assert not (hub.directory / "remove-now").exists() and server.run("python -c 'import slow'") == ""
    tell(f"images made {counter.new('image')}, environments made {counter.new('environment')}, steps done again {len(counter.steps())}")
    assert (counter.new("image"), counter.new("environment"), counter.steps()) == (2, 0, [])
    server.stop()
