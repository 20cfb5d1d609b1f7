"""Collection where not a byte is free, on the engine's disk and on the state directory's: that is when it is wanted most."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubdock.core.naming import make_tag
from hubdock.engine.collect import Collector
from hubdock.engine.database import Database
from hubdock.engine.tasks import TaskStore
from tests.faults.conftest import make_slow
from tests.kit.builder import Builder
from tests.kit.engine import MIB, PrivateEngine, SmallDisk
from tests.kit.repos import Project


def test_both_disks_are_full(engine: PrivateEngine, project: Project, small_disk: Callable[[int], SmallDisk], settings: dict[str, Any], tmp_path: Path) -> None:
    disk = small_disk(64 * MIB)
    builder = Builder(disk.path / "state-collect", **settings)
    try:
        project.write_all({**make_slow(0, 60 * MIB), "large.bin": os.urandom(4 * MIB)}).commit()
        old = builder.must(repo=project.url, ref="main")
        with sqlite3.connect(builder.settings.state / "hubdock.sqlite") as connection:
            for table, column in (("uses", "used"), ("builds", "finished")):
                connection.execute(f"UPDATE {table} SET {column} = {column} - 7200")
        collector = Collector(builder.settings, Database(builder.settings.database_url), TaskStore(builder.settings.state))
        before = disk.free
        disk.fill(leave=0)
        engine.disk.fill(leave=0)
        full = engine.disk.free
        report = collector.collect("1M")
        gone = {removal.item.kind for removal in report.removals}
        assert {"image", "environment", "repository"} <= gone, report.as_dict()
        assert old.assembly.environment and not builder.docker.images.list(make_tag("environment", old.assembly.environment.key))
        assert engine.disk.free - full > 40 * MIB and disk.free > 3 * MIB and before
        engine.disk.clear()
        disk.clear()
        builder.must(repo=project.url, ref="main")
    finally:
        engine.disk.clear()
        disk.clear()
        builder.clean()
