"""Workspaces: the volumes that hold people's work. Each stays until its user deletes it; a deleted one is in the trash first, and can be restored.

A volume can't be renamed, so the trash is a mark on its row: the next start of the same hypothesis gets a volume of another name.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hubdock.core.errors import HubDockError, WorkspaceInUse, WorkspaceNotFound
from hubdock.core.naming import make_workspace_volume
from hubdock.core.repo import RepoURL, parse_repo_url
from hubdock.drivers import git
from hubdock.drivers.git import Remote
from hubdock.engine.backend import open_backend
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database, WorkspaceRow
from hubdock.engine.usage import HeadRow, Usage

STARTING = 60.0  # seconds in which a launch has made its container


@dataclass(frozen=True)
class Workspace:
    """One workspace. Times are seconds since the epoch; ``size`` is bytes as last measured, None before.

    ``trashed`` is when it was deleted, ``expires`` when it will be removed for good. ``running`` means that a container is on it. ``on_remote`` is False for
    a branch that the remote does not have (never pushed, or deleted there), None if that is not known. ``known`` is False for a volume of which hubdock has
    no record. ``there`` is False where the volume is gone.
    """

    volume: str
    user: str = ""
    server: str = ""
    repo: str = ""
    branch: str = ""
    created: float = 0.0
    used: float = 0.0
    size: int | None = None
    trashed: float | None = None
    expires: float | None = None
    running: bool = False
    on_remote: bool | None = None
    known: bool = True
    there: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


class Workspaces:
    """All workspaces of one state directory. Its methods block, and may be called from any thread."""

    def __init__(self, settings: HubDock, database: Database, usage: Usage) -> None:
        self.settings, self.database, self.usage = settings, database, usage
        self.backend = open_backend(settings.backend_values)

    def find_volume(self, user: str, server: str, repo: RepoURL, branch: str) -> str:
        """Return the volume of a hypothesis: the one it has, or the name of a new one where the last is in the trash."""
        first = make_workspace_volume(self.settings.volume_prefix, user, server, repo, branch)
        with self.database.reading() as session:
            for number in itertools.count(1):
                name = first if number == 1 else f"{first}-{number}"
                row = session.get(WorkspaceRow, name)
                if row is None or row.trashed is None:
                    return name
        raise AssertionError

    def list(self, user: str | None = None) -> list[Workspace]:
        """Return a user's workspaces, or all (None), those used last first; all also tells of volumes without a record. Raises BackendError."""
        query = select(WorkspaceRow) if user is None else select(WorkspaceRow).where(WorkspaceRow.user == user)
        heads = self.usage.list_heads()
        with self.database.reading() as session:
            rows = list(session.scalars(query.order_by(WorkspaceRow.used.desc())))
        volumes = self.backend.list_volumes(f"{self.settings.volume_prefix}-work-")
        busy = self.backend.list_mounted()
        found = [self._describe(row, row.volume in volumes, row.volume in busy, heads.get((row.repo, row.branch))) for row in rows]
        if user is None:
            known = {row.volume for row in rows}
            found += [Workspace(name, created=made, running=name in busy, known=False) for name, made in sorted(volumes.items()) if name not in known]
        return found

    def _describe(self, row: WorkspaceRow, there: bool, running: bool, head: HeadRow | None) -> Workspace:
        expires = row.trashed + self.settings.workspace_retention if row.trashed is not None else None
        on_remote = None if head is None else head.missing is None
        return Workspace(
            row.volume, row.user, row.server, row.repo, row.branch, row.created, row.used, row.size, row.trashed, expires, running, on_remote, True, there
        )

    def delete(self, volume: str, user: str | None = None) -> Workspace:
        """Put a workspace into the trash. ``user``: only if it is theirs.

        Raises WorkspaceNotFound, WorkspaceInUse and BackendError. Deleting twice is no error, and does not begin the time anew.
        """
        self._refuse_used(volume)

        def work(session: Session) -> None:
            row = self._get(session, volume, user)
            if row.trashed is None and time.time() - row.used < STARTING:
                self._refuse_used(volume, "A server was started on this workspace a moment ago. Stop it first, or try again in a minute.")
            row.trashed = row.trashed or time.time()

        return self._change(volume, work)

    def restore(self, volume: str, user: str | None = None) -> Workspace:
        """Take a workspace out of the trash.

        Raises WorkspaceNotFound, and WorkspaceInUse if the hypothesis has another workspace by now.
        """

        def work(session: Session) -> None:
            row = self._get(session, volume, user)
            same = (WorkspaceRow.user == row.user) & (WorkspaceRow.server == row.server) & (WorkspaceRow.repo == row.repo) & (WorkspaceRow.branch == row.branch)
            others = session.scalars(select(WorkspaceRow).where(same, WorkspaceRow.trashed.is_(None), WorkspaceRow.volume != volume)).all()
            if row.trashed is not None and others:
                raise WorkspaceInUse(f"{row.branch} has a newer workspace, {others[0].volume}. Delete that first; it can be restored in its turn.")
            if volume not in self.backend.list_volumes(volume):
                raise WorkspaceNotFound("The volume of this workspace is gone. Nothing of it can be restored.")
            row.trashed = None

        return self._change(volume, work)

    def _get(self, session: Session, volume: str, user: str | None) -> WorkspaceRow:
        row = session.get(WorkspaceRow, volume)
        if row is None or (user is not None and row.user != user):
            raise WorkspaceNotFound("There is no such workspace, or it is somebody else's.")
        return row

    def _change(self, volume: str, work: Callable[[Session], None]) -> Workspace:
        self.database.write(work)
        with self.database.reading() as session:
            row = self._get(session, volume, None)
        return self._describe(row, True, False, None)

    def _refuse_used(self, volume: str, starting: str = "") -> None:
        """Raise WorkspaceInUse if a container is on a volume, or one may be in a moment (``starting``)."""
        if volume in self.backend.list_mounted():
            raise WorkspaceInUse("A server runs on this workspace. Stop the server first.")
        if starting:
            raise WorkspaceInUse(starting)

    def destroy(self, volume: str) -> bool:
        """Remove a workspace for good whose time in the trash is over; return whether it is gone. It stays if a container is on it, or it was restored."""
        with self.database.reading() as session:
            row = session.get(WorkspaceRow, volume)
        over = row is not None and row.trashed is not None and time.time() - row.trashed > self.settings.workspace_retention
        if not over or not self.backend.remove_volume(volume):
            return False

        def work(session: Session) -> None:
            row = session.get(WorkspaceRow, volume)
            if row is not None:
                session.delete(row)

        self.database.write(work)
        return True

    def measure(self) -> None:
        """Measure every workspace, by the engine's own word. It takes the engine seconds or minutes. Raises BackendError."""
        sizes = self.backend.measure_volumes()

        def work(session: Session) -> None:
            for row in session.scalars(select(WorkspaceRow)):
                row.size = sizes.get(row.volume, row.size)

        self.database.write(work)

    def look_for_branches(self, make_remote: Callable[[RepoURL], Remote]) -> None:
        """Ask each repository of a workspace once which branches it has, and remember which are missing. What does not answer is passed over."""
        with self.database.reading() as session:
            rows = list(session.scalars(select(WorkspaceRow).where(WorkspaceRow.trashed.is_(None))))
        for repo in sorted({row.repo for row in rows}):
            try:
                refs = git.list_branches(make_remote(parse_repo_url(make_address(repo))))
            except HubDockError:
                continue
            known = {*refs.branches, *(f"tag:{name}" for name in refs.tags)}
            self.usage.mark_branches(repo, {row.branch: row.branch not in known for row in rows if row.repo == repo})


def make_address(repo: str) -> str:
    """Return an address for the identity of a repository. ssh wants a user, which is no part of that: ``git``, as everywhere."""
    return repo.replace("ssh://", "ssh://git@", 1) if repo.startswith("ssh://") else repo
