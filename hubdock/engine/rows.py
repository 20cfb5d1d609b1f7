"""What the database keeps of builds and tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hubdock.engine.assembly import Assembly, describe_recipe
from hubdock.engine.database import BuildRow, TaskRow
from hubdock.engine.estimates import describe_work
from hubdock.engine.tasks import Attempt, Result

if TYPE_CHECKING:
    from hubdock.engine.build import Build, Waiter


def make_row(build: Build, home: str) -> BuildRow:
    """Return what is kept of a build of a hubdock's (`HubDock.identity`), as it is now: who waits for it, and once it has ended everybody who did."""
    a = build.assembly
    return BuildRow(
        id=build.identity, created=build.created, finished=build.finished, status=str(build.phase), repo=a.remote.repo.canonical, ref=a.options.ref,
        commit=a.ref.commit, image=a.image.key if a.image else "", options=json.dumps(a.options.as_dict()), users=json.dumps(sorted(build.waiters if build.finished is None else build.waiters | build.left)), asker=json.dumps(a.asker.as_dict()),
        tasks=json.dumps({part: [attempt.kind, attempt.key, attempt.path.name] for part, attempt in build.attempts.items()}),
        error=json.dumps(build.error.as_dict()) if build.error else "", home=home,
    )  # fmt: skip


def make_task_row(attempt: Attempt, result: Result, a: Assembly) -> TaskRow:
    """Return what is kept of a finished task: its duration for estimates, its inputs to explain the next one."""
    inputs: dict[str, Any] = describe_work(attempt.kind, a)
    if attempt.kind == "environment" and a.environment:
        inputs = {"inputs": a.environment.as_dict(), "recipe": describe_recipe(a.source)}
    return TaskRow(
        id=attempt.identity, kind=attempt.kind, key=attempt.key, repo=a.remote.repo.canonical, status=str(result.status), finished=result.finished,
        seconds=round(result.finished - result.started, 3), steps=json.dumps(result.steps), inputs=json.dumps(inputs),
    )  # fmt: skip


def read_waiters(row: BuildRow) -> set[Waiter]:
    """Return who waited for a build."""
    return {(str(user), str(server)) for user, server in json.loads(row.users)}
