"""The database's rows of the past, and which of them go."""

from __future__ import annotations

import time
from collections.abc import Collection

from sqlalchemy import Delete, and_, delete, func, or_, select
from sqlalchemy.orm import Session

from hubdock.core.collection import Identity
from hubdock.engine.database import BuildRow, Database, TaskRow, WorkspaceRow
from hubdock.engine.estimates import LAST
from hubdock.engine.usage import HeadRow, UseRow


class Records:
    """The rows of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def prune(self, max_age: float, kept: Collection[Identity]) -> int:
        """Remove rows of builds and tasks that ended more than ``max_age`` seconds ago (0: none), and return how many.

        Estimates keep their samples, and each repository the environment that the next one is explained by. Of uses and hypotheses go those that are as
        old, and whose keys (``kept``) and workspaces are not there any more.
        """
        if not max_age:
            return 0
        before = time.time() - max_age

        def work(session: Session) -> int:
            queries: list[Delete] = [delete(BuildRow).where(BuildRow.finished < before)]
            queries.append(delete(TaskRow).where(TaskRow.finished < before, TaskRow.id.not_in(self._find_samples(session))))
            count = sum(session.execute(query).rowcount for query in queries)  # type: ignore[attr-defined]
            for use in session.scalars(select(UseRow).where(UseRow.used < before)).all():
                if (use.kind, use.key) not in kept:
                    session.delete(use)
                    count += 1
            opened = {(row.repo, row.branch) for row in session.scalars(select(WorkspaceRow))}
            for head in session.scalars(select(HeadRow).where(HeadRow.used < before)).all():
                if (head.repo, head.branch) not in opened and ("image", head.image) not in kept:
                    session.delete(head)
                    count += 1
            return count

        return self.database.write(work)

    def _find_samples(self, session: Session) -> list[str]:
        """Return the tasks that estimates and explanations are made from."""
        found: list[str] = []
        for kind in session.scalars(select(TaskRow.kind).distinct()):
            query = select(TaskRow.id).where(TaskRow.kind == kind, TaskRow.status == "ready")
            found += session.scalars(query.order_by(TaskRow.finished.desc()).limit(LAST))
        newest = (
            select(TaskRow.repo, func.max(TaskRow.finished).label("last")).where(TaskRow.kind == "environment", TaskRow.status == "ready").group_by(TaskRow.repo).subquery()
        )
        last = and_(TaskRow.repo == newest.c.repo, TaskRow.finished == newest.c.last)
        found += session.scalars(select(TaskRow.id).join(newest, or_(last)).where(TaskRow.kind == "environment"))
        return found
