"""Collection where not a byte is free, on the engine's disk and on the state directory's: that is when it is wanted most."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.collection import Identity, Item
from hubdock.core.errors import OutOfSpace
from hubdock.core.naming import make_tag
from hubdock.engine.collect import Collector
from hubdock.engine.database import Database
from hubdock.engine.tasks import TaskStore
from tests.faults.conftest import make_slow
from tests.kit.builder import Builder
from tests.kit.engine import MIB, PrivateEngine, SmallDisk
from tests.kit.repos import Project


def age(builder: Builder) -> None:
    """Make all of it two hours old."""
    with sqlite3.connect(builder.settings.state / "hubdock.sqlite") as connection:
        for table, column in (("uses", "used"), ("builds", "finished")):
            connection.execute(f"UPDATE {table} SET {column} = {column} - 7200")


def test_both_disks_are_full(engine: PrivateEngine, project: Project, small_disk: Callable[[int], SmallDisk], settings: dict[str, Any], tmp_path: Path) -> None:
    disk = small_disk(64 * MIB)
    builder = Builder(disk.path / "state-collect", **settings)
    try:
        project.write_all({**make_slow(0, 60 * MIB), "large.bin": os.urandom(4 * MIB)}).commit()
        old = builder.must(repo=project.url, ref="main")
        age(builder)
        collector = Collector(builder.settings, Database(builder.settings.database_url), TaskStore(builder.settings.state))
        before = disk.free
        disk.fill(leave=0)
        engine.disk.fill(leave=0)
        full = engine.disk.free
        report = collector.collect("1M")
        gone = {removal.item.kind for removal in report.removals}
        assert {"image", "environment", "repository"} <= gone, report.as_dict()
        assert old.assembly.environment and not builder.docker.images.list(make_tag("environment", old.assembly.environment.key))
        assert engine.disk.free - full > 40 * MIB and disk.free > 3 * MIB and before, f"{engine.disk.free - full} bytes: {report.as_dict()}"
        engine.disk.clear()
        disk.clear()
        builder.must(repo=project.url, ref="main")
    finally:
        engine.disk.clear()
        disk.clear()
        builder.clean()


def test_what_is_refused_at_first_frees_its_layers_all_the_same(engine: PrivateEngine, project: Project, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk refuses to remove images until something else is gone: then BuildKit's cache, which held the same layers, is looked at again."""
    builder = Builder(tmp_path / "state-refused", **settings)
    try:
        project.write_all(make_slow(0, 60 * MIB)).commit()
        builder.must(repo=project.url, ref="main")
        age(builder)
        collector = Collector(builder.settings, Database(builder.settings.database_url), TaskStore(builder.settings.state))
        refused: set[str] = set()
        remove = collector.remover.remove

        def refuse_once(item: Item, images: dict[Identity, str]) -> int | None:
            if item.kind in {"image", "environment"} and item.key not in refused:
                refused.add(item.key)
                raise OutOfSpace.on("the Docker Engine", "refused by the test")
            return remove(item, images)

        monkeypatch.setattr(collector.remover, "remove", refuse_once)
        before = engine.disk.free
        report = collector.collect("1M")
        gone = {removal.item.kind for removal in report.removals}
        assert len(refused) == 2 and {"image", "environment", "cache"} <= gone, report.as_dict()
        assert engine.disk.free - before > 40 * MIB, report.as_dict()
    finally:
        builder.clean()
