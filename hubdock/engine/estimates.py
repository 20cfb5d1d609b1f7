"""Estimates of a plan's parts and of its launch, from the tasks that the database remembers."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from hubdock.core.estimate import Estimate, Sample, count_new, make_estimate
from hubdock.engine.assembly import Assembly
from hubdock.engine.database import Database, TaskRow

LAST = 50
LAUNCH = "launch"
_FLOORS = {"data": 8e6, "image": 500.0}
_FILE = 50_000  # bytes that take as long as one more file of data


class Estimates:
    """The history of one database. Every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def estimate(self, kind: str, a: Assembly) -> Estimate:
        """Return how long a part of a start takes: ``base``, ``environment``, ``image``, ``data``, or its `LAUNCH`."""
        past = self._read(kind)
        wanted = make_sample(kind, 0.0, a.remote.repo.canonical, describe_work(kind, a))
        known = frozenset(line for sample in past for line in sample.lines)
        new = len(wanted.lines - known)
        return make_estimate(Sample(0.0, wanted.repo, wanted.lines, new, wanted.work), past, _FLOORS.get(kind, 1.0))

    def _read(self, kind: str) -> list[Sample]:
        query = select(TaskRow).where(TaskRow.kind == kind, TaskRow.status == "ready").order_by(TaskRow.finished.desc()).limit(LAST)
        with self.database.reading() as session:
            rows = list(session.scalars(query))
        return count_new(make_sample(kind, row.seconds, row.repo, _load(row.inputs)) for row in reversed(rows))[::-1]


def describe_work(kind: str, a: Assembly) -> dict[str, Any]:
    """Return what is remembered beside a task's time, by which others are compared with it."""
    if kind == "environment":
        return {"recipe": {"lines": [[line.file, line.text] for line in a.source.recipe.lines], "apt": list(a.source.recipe.apt)}}
    if kind == "data" and a.dataset:
        return {"size": a.dataset.size, "files": len(a.dataset.outs)}
    return {"files": a.source.files} if kind == "image" else {}


def make_sample(kind: str, seconds: float, repo: str, work: dict[str, Any]) -> Sample:
    """Return a task as it is compared: what `describe_work` said of it."""
    recipe = work.get("recipe") or {}
    lines = [str(line[1]) for line in recipe.get("lines", ())] + [f"apt {name}" for name in recipe.get("apt", ())]
    moved = float(work.get("size") or 0) + _FILE * float(work.get("files") or 0) if kind == "data" else float(work.get("files") or 0)
    return Sample(seconds, repo, frozenset(lines), 0, moved)


def _load(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
