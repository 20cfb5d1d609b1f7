"""The engine without a hub: plans and builds in a state directory of its own, on the real Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import docker

from hubdock.core.asker import LOCAL
from hubdock.core.events import Phase
from hubdock.core.naming import make_tag
from hubdock.core.options import parse_options
from hubdock.engine.assembly import Assembly
from hubdock.engine.build import Build
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.engine import Engine
from tests.kit.hub import find_base

DATABASE = "hubdock.sqlite"


def sow(seed: Path, state: Path) -> None:
    """Let a state directory begin with what another database knows."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(seed)) as known, contextlib.closing(sqlite3.connect(state / DATABASE)) as new:
        known.backup(new)


def copy_base(source: str, target: str, reference: str) -> None:
    """Let a database know a base that another has looked into; both by their addresses."""
    known, new = Database(source), Database(target)
    row = known.read_base(reference)
    assert row is not None
    new.write_base(row.reference, row.key, row.prepared, row.text)
    for database in (known, new):
        database.engine.dispose()


class Builder:
    """One engine over one state directory. ``seed``: a database that knows the base already, to begin with."""

    def __init__(self, state: Path, seed: Path | None = None, **settings: Any) -> None:
        if seed is not None:
            sow(seed, state)
        values = {"base_image": find_base(), "gpu_base_image": "", "volume_prefix": f"hdtest{state.name[-8:]}", **settings}
        self.settings = HubDock(state_dir=str(state), **values)
        self.docker = docker.from_env()

    def plan(self, rebuild: bool = False, **options: Any) -> Assembly:
        async def work() -> Assembly:
            engine = Engine(self.settings)
            try:
                return await engine.plan(parse_options(options), LOCAL, rebuild=rebuild)
            finally:
                await engine.close()

        return asyncio.run(work())

    def build(self, rebuild: bool = False, **options: Any) -> Build:
        """Plan and build, and return the ended build, failed or not."""
        return self.build_all(options, rebuild=rebuild)[0]

    def build_all(self, *asked: dict[str, Any], rebuild: bool = False) -> list[Build]:
        """Plan and build several at the same time, and return the ended builds."""

        async def build(engine: Engine, options: dict[str, Any]) -> Build:
            build = await engine.ensure(await engine.plan(parse_options(options), LOCAL, rebuild=rebuild), "tester")
            await build.done.wait()
            if build.runner:
                await build.runner
            return build

        async def work() -> list[Build]:
            engine = Engine(self.settings)
            try:
                return await asyncio.gather(*(build(engine, options) for options in asked))
            finally:
                await engine.close()

        return asyncio.run(work())

    def must(self, **options: Any) -> Build:
        """Build, and fail with the build's own message."""
        build = self.build(**options)
        assert build.phase is Phase.READY, f"{build.error} {build.error.detail if build.error else ''}"
        return build

    def image(self, kind: str, build: Build) -> Any:
        """Return the engine's image of a build: "environment" or "image"."""
        inputs = build.assembly.environment if kind == "environment" else build.assembly.image
        assert inputs is not None
        return self.docker.images.get(make_tag(kind, inputs.key))

    def forget(self, build: Build) -> None:
        """Remove a build's image and environment."""
        for kind in ("image", "environment"):
            self.docker.images.remove(self.image(kind, build).tags[0], force=True)

    def clean(self) -> None:
        for kind in ("image", "environment"):
            for path in (self.settings.state / "tasks" / kind).glob("*"):
                try:
                    self.docker.images.remove(make_tag(kind, path.name), force=True)
                except docker.errors.APIError:
                    continue
        for volume in self.docker.volumes.list(filters={"name": self.settings.volume_prefix}):
            volume.remove(force=True)
