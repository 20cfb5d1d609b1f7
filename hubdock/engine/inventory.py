"""What takes space, as items for `hubdock.core.collection`: only what this state directory knows, for other hubs may share the engine."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hubdock.core.collection import Identity, Item
from hubdock.core.errors import BackendError, OutOfSpace
from hubdock.core.naming import make_data_volume, make_tag
from hubdock.drivers.stock import CacheRecord
from hubdock.engine.backend import open_backend
from hubdock.engine.config import HubDock
from hubdock.engine.database import BaseRow, Database, WorkspaceRow
from hubdock.engine.holds import Holds, Keeper, list_attempts, make_log_key
from hubdock.engine.store import list_views
from hubdock.engine.tasks import TaskStore
from hubdock.engine.usage import GRACE, Usage, Use

IMAGES = ("image", "environment", "base")  # with a Python to look into the store with; data may be an image too
LEFT = "left-behind"
_OURS = re.compile(r"/tmp/hubdock/|with id \"/hubdock-")  # noqa: S108 (in BuildKit's descriptions of hubdock's steps and cache mounts)


@dataclass
class Inventory:
    """What there is. ``images`` are the engine's ids by item, for their removal; ``missing`` says what could not be looked at."""

    items: list[Item] = field(default_factory=list)
    holds: Holds = field(default_factory=Holds)
    images: dict[Identity, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def is_stored(self, item: Item) -> bool:
        """True for data in the store; other data is an image."""
        return item.kind == "data" and item.identity not in self.images


class Stocktaker:
    """Takes stock of one state directory, its volumes and its images. It blocks for seconds."""

    def __init__(self, settings: HubDock, database: Database, tasks: TaskStore, usage: Usage) -> None:
        self.settings, self.database, self.tasks, self.usage = settings, database, tasks, usage
        self.backend = open_backend(settings.backend_values)
        self.keeper = Keeper(settings, database, tasks)
        self.uses: dict[Identity, Use] = {}

    def take(self) -> Inventory:
        """Return what there is, and why what must stay does. Raises BackendError: without the engine's word nothing is removed."""
        self.uses, heads = self.usage.read_all(), self.usage.list_heads()
        names = {head.image: f"{repo.partition('://')[2]} {branch}" for (repo, branch), head in heads.items() if head.image}
        images, volumes = self._list_images(), self.backend.list_volumes(f"{self.settings.volume_prefix}-")
        found = Inventory()
        found.items += self._list_data(found, images, volumes)
        found.holds = self.keeper.find_holds(self.backend.list_containers(), volumes, heads)
        with suppress(BackendError):  # on a full disk nothing can be written, and space is made all the same
            self.usage.record(self._find_used(found.holds))
        found.items += [*self._make_images(found, images, names), *self._list_workspaces(volumes), *self._list_git(), *self._list_logs(found.items)]
        if self.settings.collect_build_cache:
            try:
                found.items += list_cache_items(self.backend.list_cache(), time.time())
            except (BackendError, OutOfSpace) as error:  # BuildKit writes even to say what it has
                found.missing.append(f"BuildKit's cache: {error.message}")
        found.items = [self._apply(item, found.holds) for item in found.items]
        return found

    def _apply(self, item: Item, holds: Holds) -> Item:
        reason = item.held or holds.items.get(item.identity, "")
        if item.kind == "workspace" and item.key in holds.volumes:
            reason = holds.volumes[item.key]
        return Item(**{**vars(item), "held": reason}) if reason else item

    def _find_used(self, holds: Holds) -> list[Identity]:
        """Return what servers use, with what it stands on: its last use is when its server was last seen. Other hubs' keys are theirs."""
        found = [identity for identity in holds.used if identity in self.uses]
        for identity in found:
            found += [need for need in self.uses.get(identity, Use(0.0)).needs if need not in found]
        return found

    # --- images ---

    def _list_images(self) -> dict[Identity, dict[str, Any]]:
        """Return the images of this state directory's keys; by ``LEFT:id`` those whose name another has by now."""
        with self.database.reading() as session:
            known = {("base", row.prepared.rpartition(":")[2]) for row in session.scalars(select(BaseRow))}
        known |= set(self.uses) | {(path.parent.name, path.name) for path in self.tasks.root.glob("*/*")}
        found: dict[Identity, dict[str, Any]] = {}
        for entry in self.backend.list_images():
            labels, tags = entry.get("Labels") or {}, entry.get("RepoTags") or []
            kind = labels.get("hubdock.kind", "base")
            keys = [tag.rpartition(":")[2] for tag in tags if tag.startswith(f"hubdock/{kind}:")]
            for key in keys:
                if (kind, key) in known:
                    found[kind, key] = entry
            if not [tag for tag in tags if tag != "<none>:<none>"] and (kind, labels.get(f"hubdock.{kind}", "")) in known:
                found[kind, f"{LEFT}:{entry['Id']}"] = entry
        return found

    def _make_images(self, found: Inventory, images: dict[Identity, dict[str, Any]], names: dict[str, str]) -> Iterator[Item]:
        for (kind, key), entry in images.items():
            found.images[kind, key] = entry["Id"]
            below = self._find_needs(kind, entry)
            under = [int(images[need]["Size"]) for need in below if need in images]
            size = int(entry["Size"]) - (sum(under) if under else self._measure_source(kind, entry))
            made = (kind, (entry.get("Labels") or {}).get(f"hubdock.{kind}", "")) in found.holds.running
            held = found.holds.images.get(entry["Id"], "being made" if made else "")
            due = "another image has its name by now" if key.startswith(LEFT) else ""
            yield Item(kind, key, max(0, size), self._find_used_time(kind, key), names.get(key, ""), held, due, below)

    def _find_needs(self, kind: str, entry: dict[str, Any]) -> tuple[Identity, ...]:
        """Return what an image was built on, by its own labels."""
        if kind == "data":
            return ()
        try:
            inputs = json.loads((entry.get("Labels") or {}).get(f"hubdock.{kind}.inputs") or "{}")
        except ValueError:
            return ()
        if kind == "image":
            return tuple((need, str(inputs[need])) for need in ("environment", "data") if inputs.get(need))
        prepared = inputs.get("base", {}).get("prepared") if kind == "environment" else None
        return (("base", str(prepared)),) if prepared else ()

    def _measure_source(self, kind: str, entry: dict[str, Any]) -> int:
        """Return the bytes that a base has of the image it was prepared from."""
        if kind != "base":
            return 0
        with self.database.reading() as session:
            rows = list(session.scalars(select(BaseRow)))
        tags = entry.get("RepoTags") or []
        return max((self.backend.measure_source(row.reference) for row in rows if row.prepared in tags), default=0)

    def _find_used_time(self, kind: str, key: str) -> float:
        """Return the last use that was recorded, else the end of its last task."""
        use = self.uses.get((kind, key))
        if use is not None:
            return use.used
        latest = self.tasks.latest(kind, key)
        try:
            return (latest.path if latest else self.tasks.root).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    # --- data and workspaces ---

    def _list_data(self, found: Inventory, images: dict[Identity, dict[str, Any]], volumes: dict[str, float]) -> list[Item]:
        volume = make_data_volume(self.settings.volume_prefix)
        python = next((make_tag(kind, key) for kind in reversed(IMAGES) for known, key in images if known == kind and not key.startswith(LEFT)), "")
        if volume not in volumes:
            return []
        if not python:
            found.missing.append("the data store: no image of hubdock is here to look into it with")
            return []
        try:
            views, left = list_views(self.backend, python, volume)
        except (BackendError, OutOfSpace) as error:
            found.missing.append(f"the data store: {error.message}")
            return []
        items = []
        for view in views:
            if ("data", view.key) in images:  # its image goes first: both have one name
                continue
            known = ("data", view.key) in self.uses or self.tasks.latest("data", view.key) is not None
            used = self.uses.get(("data", view.key), Use(view.made)).used
            items.append(Item("data", view.key, view.size, used, held="" if known else "not known to this hub"))
        return items + ([Item("data", LEFT, left, 0.0, due="no data key holds it any more")] if left else [])

    def _list_workspaces(self, volumes: dict[str, float]) -> Iterator[Item]:
        """Yield the workspaces in the trash. Those outside it are their users', and no item."""
        now, retention = time.time(), self.settings.workspace_retention
        with self.database.reading() as session:
            rows = list(session.scalars(select(WorkspaceRow).where(WorkspaceRow.trashed.is_not(None))))
        for row in rows:
            if row.volume in volumes and row.trashed is not None:
                over = now - row.trashed > retention
                held, due = ("", "its time in the trash is over") if over else ("in the trash, where its user may restore it", "")
                yield Item("workspace", row.volume, row.size or 0, row.trashed, f"{row.user}: {row.repo.partition('://')[2]} {row.branch}", held, due, counts=False)

    # --- files ---

    def _list_git(self) -> Iterator[Item]:
        root = self.settings.state / "git"
        for directory in sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")):
            copies = [path for path in directory.iterdir() if path.is_dir() and path.name != "packs"]
            if copies:
                used = self.uses.get(("repository", directory.name), Use(max(path.stat().st_mtime for path in copies))).used
                yield Item("repository", directory.name, sum(map(measure, copies)), used)
            for pack in directory.glob("packs/*"):
                mark = pack / "refs"
                half = pack.name.startswith(".") or not mark.exists()
                used = (pack if half else mark).stat().st_mtime
                yield Item("history", f"{directory.name}/{pack.name}", measure(pack), used, due="half-made, and given up" if half else "")
        for left in root.glob(".gone-*"):
            yield Item("repository", left.name, measure(left), 0.0, due="half-removed")

    def _list_logs(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the directories of tasks that ended. The proof that data is here is its newest task's, and stays with it."""
        max_age, now = self.settings.log_max_age, time.time()
        views = {item.key for item in items if item.kind == "data"}
        newest = {(attempt.kind, attempt.key): attempt.path for attempt in list_attempts(self.tasks)}
        for attempt in list_attempts(self.tasks):
            used = attempt.path.stat().st_mtime
            proof = attempt.kind == "data" and attempt.key in views and newest["data", attempt.key] == attempt.path
            due = f"older than {max_age / 86400:g} days" if max_age and now - used > max_age else ""
            yield Item("log", make_log_key(attempt), measure(attempt.path), used, held="says that its data is here" if proof else "", due=due, counts=False)


def list_cache_items(records: Iterable[CacheRecord], now: float) -> list[Item]:
    """Return the records of BuildKit's cache that hubdock's builds made, and all that stand on them. What an image holds too is the image's."""
    known = {record.identity: record for record in records}
    ours = {record.identity for record in known.values() if _OURS.search(record.description)}
    while more := {record.identity for record in known.values() if record.identity not in ours and ours & set(record.parents)}:
        ours |= more
    items = []
    for identity in sorted(ours):
        record = known[identity]
        held = "used by a build" if record.in_use else "part of an image" if record.shared else ""
        size = 0 if record.shared else record.size
        used = min(record.used, now - GRACE)  # no start launches it: BuildKit itself keeps what a build works with
        items.append(Item("cache", identity, size, used, record.description[:120], held, needs=tuple(("cache", parent) for parent in record.parents)))
    return items


def measure(path: Path) -> int:
    """Return the bytes that a directory takes on the disk. What goes away meanwhile is passed over."""
    total = 0
    for where, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(f"{where}/{name}").st_blocks * 512
            except FileNotFoundError:
                continue
    return total
