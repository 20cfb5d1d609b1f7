"""When each key was used last: recorded before anything is looked up, so that a collection never removes what a start has just found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Float, String, Text, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hubdock.core.collection import Identity
from hubdock.engine.assembly import Assembly
from hubdock.engine.database import Base, Database

GRACE = 600.0  # a start that saw a key ready launches it within this time, or looks again
_QUIET = 60.0
_MOST_TOLD = 1000


class UseRow(Base):
    """One key that was used. ``needs`` is JSON: the ``[kind, key]`` pairs that it stands on."""

    __tablename__ = "uses"
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    used: Mapped[float] = mapped_column(Float)
    needs: Mapped[str] = mapped_column(Text)


class HeadRow(Base):
    """One hypothesis: the image that it was started with last, and since when its branch is known not to be on the remote."""

    __tablename__ = "heads"
    repo: Mapped[str] = mapped_column(String(2100), primary_key=True)
    branch: Mapped[str] = mapped_column(String(600), primary_key=True)
    image: Mapped[str] = mapped_column(String(64))
    used: Mapped[float] = mapped_column(Float)
    missing: Mapped[float | None] = mapped_column(Float, nullable=True)


@dataclass(frozen=True)
class Use:
    """When a key was used last, in seconds since the epoch, and what it stands on."""

    used: float
    needs: tuple[Identity, ...] = ()


def list_keys(a: Assembly) -> dict[Identity, tuple[Identity, ...]]:
    """Return the keys of a start, each with what it stands on."""
    found: dict[Identity, tuple[Identity, ...]] = {}
    data: tuple[Identity, ...] = (("data", a.dataset.inputs.key),) if a.dataset else ()
    found |= dict.fromkeys(data, ())
    if a.prepared:
        base = ("base", a.prepared.rpartition(":")[2])
        found[base] = ()
        if a.environment and a.image:
            environment = ("environment", a.environment.key)
            found[environment] = (base,)
            found["image", a.image.key] = (environment, *data)
    return found


class Usage:
    """The uses of one database. Every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._told: dict[object, float] = {}

    def record_start(self, a: Assembly, preview: bool = False) -> None:
        """Record that a start is about to look for its keys, or to launch them. Said twice within a minute it is written once.

        A ``preview`` uses the keys, but makes no hypothesis: its new branch's name may be half typed.
        """
        head = (a.remote.repo.canonical, a.hypothesis, a.image.key if a.image else "")
        if self._is_told((head, a.dataset and a.dataset.inputs.key, preview)):
            return
        keys = list_keys(a)
        now = time.time()

        def work(session: Session) -> None:
            for (kind, key), needs in keys.items():
                session.merge(UseRow(kind=kind, key=key, used=now, needs=json.dumps(needs)))
            if preview:
                return
            row = session.get(HeadRow, head[:2]) or HeadRow(repo=head[0], branch=head[1], image="", used=now, missing=None)
            row.image, row.used = head[2] or row.image, now
            row.missing = (row.missing or now) if a.options.new_branch else None  # the remote was asked a moment ago
            session.merge(row)

        self.database.write(work)
        self._told[(head, a.dataset and a.dataset.inputs.key, preview)] = time.monotonic()

    def record(self, keys: Iterable[Identity], when: float | None = None) -> None:
        """Record that keys are used, now or at another time; what they stand on stays as it was."""
        known = sorted(set(keys))
        if not known or (when is None and self._is_told(tuple(known))):
            return

        def work(session: Session) -> None:
            for kind, key in known:
                row = session.get(UseRow, (kind, key))
                if row is None:
                    session.add(UseRow(kind=kind, key=key, used=when or time.time(), needs="[]"))
                else:
                    row.used = max(row.used, when or time.time())

        self.database.write(work)
        self._told[tuple(known)] = time.monotonic()

    def _is_told(self, what: object) -> bool:
        now = time.monotonic()
        if len(self._told) > _MOST_TOLD:
            self._told = {known: moment for known, moment in list(self._told.items()) if now - moment < _QUIET}
        return now - self._told.get(what, -_QUIET) < _QUIET

    def read_all(self) -> dict[Identity, Use]:
        """Return every key that is known here."""
        with self.database.reading() as session:
            return {(row.kind, row.key): Use(row.used, tuple((kind, key) for kind, key in json.loads(row.needs))) for row in session.scalars(select(UseRow))}

    def is_recent(self, identity: Identity, grace: float) -> bool:
        """True if a key was used within the last ``grace`` seconds."""
        with self.database.reading() as session:
            row = session.get(UseRow, identity)
        return row is not None and time.time() - row.used < grace

    def forget(self, identity: Identity) -> None:
        """Forget a key that is not there any more, unless it was used meanwhile."""
        before = time.time() - GRACE
        query = delete(UseRow).where(UseRow.kind == identity[0], UseRow.key == identity[1], UseRow.used < before)
        self.database.write(lambda session: session.execute(query))

    def list_heads(self) -> dict[tuple[str, str], HeadRow]:
        """Return the hypotheses that were started here, by repository and branch."""
        with self.database.reading() as session:
            return {(row.repo, row.branch): row for row in session.scalars(select(HeadRow))}

    def mark_branches(self, repo: str, missing: Mapping[str, bool]) -> None:
        """Record of a repository's branches which are not on the remote; the time of the first time is kept."""

        def work(session: Session) -> None:
            for branch, gone in missing.items():
                row = session.get(HeadRow, (repo, branch))
                if row is not None:
                    row.missing = (row.missing or time.time()) if gone else None

        self.database.write(work)
