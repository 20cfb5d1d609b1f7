"""What must stay: what containers use, what workers and waiting builds work from, what workspaces are linked to, what the admin pinned."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hubdock.core.collection import Identity, matches_pin
from hubdock.core.errors import HubDockError
from hubdock.core.repo import parse_repo_url
from hubdock.drivers.mirror import find_directory
from hubdock.drivers.stock import Container
from hubdock.engine.config import HubDock
from hubdock.engine.database import BaseRow, BuildRow, Database, WorkspaceRow
from hubdock.engine.tasks import Attempt, TaskStore
from hubdock.engine.usage import GRACE, HeadRow, UseRow

LONGEST_WAIT = 24 * 3600.0  # an unfinished build that is older was left by a process that nobody started again


@dataclass
class Holds:
    """Why things must stay: by kind and key, by the engine's image id, by volume. ``running`` are the tasks under way, ``used`` the keys that servers use."""

    items: dict[Identity, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    running: set[Identity] = field(default_factory=set)
    used: set[Identity] = field(default_factory=set)

    def hold(self, identity: Identity, reason: str) -> None:
        """Keep something; the first reason is told."""
        self.items.setdefault(identity, reason)

    def hold_whole(self, session: Session, identity: Identity, reason: str) -> None:
        """Keep something that may not be made yet, and all that it stands on, its data too."""
        self.hold(identity, reason)
        row = session.get(UseRow, identity)
        for kind, key in json.loads(row.needs) if row is not None else ():
            if (kind, key) not in self.items:
                self.hold_whole(session, (kind, key), reason)


class Keeper:
    """Finds out what must stay, over one state directory."""

    def __init__(self, settings: HubDock, database: Database, tasks: TaskStore) -> None:
        self.settings, self.database, self.tasks = settings, database, tasks

    def find_holds(self, containers: list[Container], volumes: dict[str, float], heads: dict[tuple[str, str], HeadRow]) -> Holds:
        """Return what must stay. Workers are looked for last: what they began to use meanwhile is in it."""
        holds = Holds()
        self._hold_containers(holds, containers)
        self._hold_bases(holds)
        self._hold_workspaces(holds, volumes, heads)
        self._hold_pins(holds, heads)
        holds.items |= {name: reason for name, reason in self.find_busy(holds.running).items.items() if name not in holds.items}
        return holds

    def find_busy(self, running: set[Identity] | None = None) -> Holds:
        """Return what builds wait for and workers work from, at this moment. The running tasks are added to ``running``."""
        holds = Holds(running=set() if running is None else running)
        self._hold_builds(holds)
        self._hold_tasks(holds)
        return holds

    def _hold_containers(self, holds: Holds, containers: list[Container]) -> None:
        for container in containers:
            reason = f"used by the container {container.name}"
            holds.images.setdefault(container.image_id, reason)
            holds.volumes |= dict.fromkeys(container.volumes, reason)
            key = container.labels.get("hubdock.image")
            if key:
                holds.hold(("image", key), reason)
                holds.used.add(("image", key))

    def _hold_bases(self, holds: Holds) -> None:
        settings = self.settings
        references = {settings.base_image, settings.gpu_base_image or settings.base_image, *settings.base_images.values()}
        with self.database.reading() as session:
            for row in session.scalars(select(BaseRow)):
                if row.reference in references:
                    holds.hold(("base", row.prepared.rpartition(":")[2]), f"the base {row.reference} of the settings")

    def _hold_workspaces(self, holds: Holds, volumes: dict[str, float], heads: dict[tuple[str, str], HeadRow]) -> None:
        """A workspace keeps its data, for it is links into the store, in the trash too; and for as long as it is used the image of its branch."""
        now, max_age = time.time(), self.settings.unused_max_age
        with self.database.reading() as session:
            rows = list(session.scalars(select(WorkspaceRow)))
            for row in rows:
                if row.volume not in volumes and now - row.used > GRACE:
                    continue
                for key in json.loads(row.data):
                    holds.hold(("data", key), f"linked to by the workspace {row.volume}")
                head = heads.get((row.repo, row.branch))
                if head is not None and head.image and row.trashed is None and not (max_age and now - row.used > max_age):
                    holds.hold_whole(session, ("image", head.image), f"the branch of the workspace {row.volume}")

    def _hold_pins(self, holds: Holds, heads: dict[tuple[str, str], HeadRow]) -> None:
        with self.database.reading() as session:
            for (repo, branch), head in heads.items():
                if head.image and matches_pin(repo.partition("://")[2], branch, self.settings.pins):
                    holds.hold_whole(session, ("image", head.image), "pinned")

    def _hold_builds(self, holds: Holds) -> None:
        """Builds that wait, in whatever process, and those that ended a moment ago: their servers are being launched."""
        now = time.time()
        unfinished = BuildRow.finished.is_(None) & (BuildRow.created > now - LONGEST_WAIT)
        with self.database.reading() as session:
            rows = list(session.scalars(select(BuildRow).where(unfinished | (BuildRow.finished > now - GRACE))))
            for row in rows:
                reason, mirror = f"wanted by the build {row.id[:8]}", self._find_mirror(row.repo)
                holds.hold_whole(session, ("image", row.image), reason)
                holds.hold(("repository", mirror), reason)
                holds.hold(("history", f"{mirror}/{row.commit}"), reason)

    def _hold_tasks(self, holds: Holds) -> None:
        for attempt in list_attempts(self.tasks):
            if (attempt.path / "result.json").exists() or not attempt.running():
                continue
            reason = f"a build is under way ({attempt.kind} {attempt.key[:12]})"
            holds.running.add((attempt.kind, attempt.key))
            holds.hold((attempt.kind, attempt.key), reason)
            holds.hold(("log", make_log_key(attempt)), reason)
            for identity in self._find_ingredients(attempt):
                holds.hold(identity, reason)

    def _find_ingredients(self, attempt: Attempt) -> list[Identity]:
        """Return what a worker works from."""
        try:
            spec: dict[str, Any] = attempt.spec()
        except (OSError, ValueError):  # it is being written
            return []
        tags = [str(spec[name]) for name in ("environment", "base", "image", "data") if isinstance(spec.get(name), str)]
        found = [(kind.removeprefix("hubdock/"), key) for kind, _, key in (tag.rpartition(":") for tag in tags) if kind.startswith("hubdock/")]
        remote = spec.get("remote")
        return found + ([("repository", self._find_mirror(remote["url"]))] if isinstance(remote, dict) else [])

    def _find_mirror(self, url: str) -> str:
        """Return the name of the directory of a repository's copies, empty if its address can't be read."""
        try:
            return find_directory(self.settings.state, parse_repo_url(url)).name
        except HubDockError:
            return ""


def list_attempts(tasks: TaskStore) -> list[Attempt]:
    """Return every attempt at every task, the oldest of each key first."""
    found = [path for path in tasks.root.glob("*/*/*") if path.name.isdigit()]
    return [Attempt(path.parent.parent.name, path.parent.name, path) for path in sorted(found, key=lambda path: (path.parent, int(path.name)))]


def make_log_key(attempt: Attempt) -> str:
    """Return the key of an attempt's directory among the items."""
    return f"{attempt.kind}/{attempt.key}/{attempt.path.name}"
