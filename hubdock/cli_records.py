"""What the command line reads of the past: builds, their logs, and what images are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hubdock.core.errors import InvalidOption
from hubdock.core.events import Event
from hubdock.engine.backend import open_backend
from hubdock.engine.config import HubDock
from hubdock.engine.database import BuildRow, Database
from hubdock.engine.engine import describe_end, describe_row
from hubdock.engine.images import list_made_images
from hubdock.engine.tasks import TaskStore

RECENT = 30


def open_database(settings: HubDock) -> Database | None:
    """Return the database, None if nothing was ever remembered: reading makes no files."""
    known = settings.db_url or (Path(settings.state_dir) / "hubdock.sqlite").exists()
    return Database(settings.database_url) if known else None


def describe_images(settings: HubDock) -> list[dict[str, Any]]:
    """Return the images that hubdock made, with the repository and ref that each was last built for, as far as that is remembered."""
    database = open_database(settings)
    rows = database.list_builds(2000) if database else []
    used = {row.image: row for row in reversed(rows)}
    described = []
    for image in list_made_images(open_backend(settings.backend_values)):
        row = used.get(image.key)
        described.append({**image.as_dict(), "repo": row.repo if row else "", "ref": row.ref if row else ""})
    return described


def list_builds(settings: HubDock) -> list[dict[str, Any]]:
    """Return the recent builds, newest first."""
    database = open_database(settings)
    return [describe_row(row) for row in database.list_builds(RECENT)] if database else []


def find_build(settings: HubDock, start: str) -> BuildRow:
    """Return the build whose id starts like this. Raises InvalidOption if there is none, or more than one."""
    database = open_database(settings)
    found = [row for row in database.list_builds(5000) if row.id.startswith(start)] if database else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidOption(f"No build is known whose id starts with {start!r}. `hubdock logs` lists the recent ones.")
    raise InvalidOption(f"{len(found)} builds have an id that starts with {start!r}. Give more of it.")


def read_log(settings: HubDock, row: BuildRow) -> list[Event]:
    """Return the whole log of a build: the events of its tasks, then its end."""
    tasks = TaskStore(settings.state)
    attempts = [tasks.find(*map(str, place)) for place in json.loads(row.tasks).values()]
    return [event for attempt in attempts if attempt for _, event in attempt.read_events()] + describe_end(row)
