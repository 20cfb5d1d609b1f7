"""What the engine remembers, in SQLite or any database that SQLAlchemy speaks to. Nothing here is a secret, and nothing is the only proof that
an image exists: the engine asks the Docker Engine for that."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Float, Index, Integer, String, Text, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from hubdock.core.errors import BackendError, OutOfSpace
from hubdock.engine.connection import is_full, is_lost_race, migrate, open_engine

SAMPLES = 10
RETRIES = 30
T = TypeVar("T")


class Base(DeclarativeBase):
    """The tables."""


class SourceRow(Base):
    """What a commit says (`hubdock.core.source.Source`), for ever: ``version`` is that of the reading."""

    __tablename__ = "sources"
    repo: Mapped[str] = mapped_column(String(2100), primary_key=True)
    commit: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[str] = mapped_column(String(80), primary_key=True)
    text: Mapped[str] = mapped_column(Text)


class BaseRow(Base):
    """A base image that was looked into; ``prepared`` is the local tag that environments start from, and ``key`` says by which settings it was made.
    ``checked`` is when that was, or when its registry confirmed it since, in seconds since the epoch."""

    __tablename__ = "bases"
    reference: Mapped[str] = mapped_column(String(600), primary_key=True)
    key: Mapped[str] = mapped_column(String(64))
    prepared: Mapped[str] = mapped_column(String(200))
    text: Mapped[str] = mapped_column(Text)
    checked: Mapped[float] = mapped_column(Float)


class EpochRow(Base):
    """How often an environment that is not pinned was renewed. ``key`` is its key without an epoch."""

    __tablename__ = "epochs"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer)
    since: Mapped[float] = mapped_column(Float)


class TaskRow(Base):
    """One finished task: the history that estimates and progress come from. ``steps`` is JSON, seconds by step."""

    __tablename__ = "tasks"
    __table_args__ = (Index("tasks_by_kind", "kind", "status", "finished"),)
    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(64))
    repo: Mapped[str] = mapped_column(String(2100))
    status: Mapped[str] = mapped_column(String(20))
    finished: Mapped[float] = mapped_column(Float)
    seconds: Mapped[float] = mapped_column(Float)
    steps: Mapped[str] = mapped_column(Text)
    inputs: Mapped[str] = mapped_column(Text)


class BuildRow(Base):
    """One build: what was asked, by whom, and how it ended. ``options``, ``users`` and ``asker`` are JSON; ``home`` is the hubdock that has it (`HubDock.identity`)."""

    __tablename__ = "builds"
    __table_args__ = (Index("builds_by_time", "created"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    created: Mapped[float] = mapped_column(Float)
    finished: Mapped[float | None] = mapped_column(Float, nullable=True)
    status: Mapped[str] = mapped_column(String(20))
    repo: Mapped[str] = mapped_column(String(2100))
    ref: Mapped[str] = mapped_column(String(600))
    commit: Mapped[str] = mapped_column(String(64))
    image: Mapped[str] = mapped_column(String(64))
    options: Mapped[str] = mapped_column(Text)
    users: Mapped[str] = mapped_column(Text)
    asker: Mapped[str] = mapped_column(Text)
    tasks: Mapped[str] = mapped_column(Text)
    error: Mapped[str] = mapped_column(Text)
    home: Mapped[str] = mapped_column(String(40), default="")


class WorkspaceRow(Base):
    """One workspace: whose, of what, which data keys its links may point into (JSON, newest first), and since when it is in the trash."""

    __tablename__ = "workspaces"
    volume: Mapped[str] = mapped_column(String(200), primary_key=True)
    user: Mapped[str] = mapped_column(String(300))
    server: Mapped[str] = mapped_column(String(300))
    repo: Mapped[str] = mapped_column(String(2100))
    branch: Mapped[str] = mapped_column(String(600))
    data: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)
    used: Mapped[float] = mapped_column(Float)
    size: Mapped[int | None] = mapped_column(BigInteger, nullable=True)
    trashed: Mapped[float | None] = mapped_column(Float, nullable=True)


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLAlchemy's exceptions into BackendError."""
    try:
        yield
    except SQLAlchemyError as error:
        if is_full(error):
            raise OutOfSpace.on("the hub", str(error)) from error
        raise BackendError("hubdock's database does not answer. Tell an administrator; the hub's log has the details.", str(error)) from error


class Database:
    """The sessions over one database, brought to the newest schema when it is opened. Every method may be called from any thread."""

    def __init__(self, url: str) -> None:
        with translated():
            self.engine, writing = open_engine(url)
            migrate(self.engine)
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._writers = sessionmaker(writing, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Hold a session that only reads."""
        with translated(), self._readers() as session, session.begin():
            yield session

    def write(self, work: Callable[[Session], T]) -> T:
        """Return what ``work`` returns; its changes are committed. Done again where another process wrote the same rows at the same time."""
        with translated():
            for left in reversed(range(RETRIES)):
                try:
                    with self._writers() as session, session.begin():
                        return work(session)
                except SQLAlchemyError as error:
                    if not (left and is_lost_race(error)):
                        raise
                    time.sleep(random.uniform(0, 0.02))  # noqa: S311, not all at once again
        raise AssertionError("unreachable")

    def read_source(self, repo: str, commit: str, version: str) -> str | None:
        """Return what is remembered of a commit."""
        with self.reading() as session:
            row = session.get(SourceRow, (repo, commit, version))
            return row.text if row else None

    def write_source(self, repo: str, commit: str, version: str, text: str) -> None:
        """Remember what a commit says."""
        self.write(lambda session: session.merge(SourceRow(repo=repo, commit=commit, version=version, text=text)))

    def read_base(self, reference: str) -> BaseRow | None:
        """Return what is known of a base image."""
        with self.reading() as session:
            return session.get(BaseRow, reference)

    def write_base(self, reference: str, key: str, prepared: str, text: str) -> None:
        """Remember a base image, as seen now."""
        self.write(lambda session: session.merge(BaseRow(reference=reference, key=key, prepared=prepared, text=text, checked=time.time())))

    def confirm_base(self, reference: str) -> None:
        """Remember that a base image is still what its reference stands for, as seen now."""
        self.write(lambda session: session.execute(update(BaseRow).where(BaseRow.reference == reference).values(checked=time.time())))

    def read_epoch(self, key: str) -> tuple[int, float] | None:
        """Return (epoch, when it began) of an environment that is not pinned; None if it was never made."""
        with self.reading() as session:
            row = session.get(EpochRow, key)
            return (row.epoch, row.since) if row else None

    def write_epoch(self, key: str, epoch: int) -> None:
        """Remember that the environment of an epoch was made. An older one than the known is left behind."""

        def work(session: Session) -> None:
            row = session.get(EpochRow, key)
            if row is None or row.epoch < epoch:
                session.merge(EpochRow(key=key, epoch=epoch, since=time.time()))

        self.write(work)

    def record_task(self, row: TaskRow) -> None:
        """Remember how a task ended. The same task is remembered once, however many watched it."""
        self.write(lambda session: session.merge(row))

    def estimate(self, kind: str) -> tuple[float | None, int]:
        """Return (median seconds, number of samples) of the last successful tasks of a kind."""
        with self.reading() as session:
            query = select(TaskRow.seconds).where(TaskRow.kind == kind, TaskRow.status == "ready").order_by(TaskRow.finished.desc()).limit(SAMPLES)
            seconds = list(session.scalars(query))
        return (round(statistics.median(seconds), 1) if seconds else None), len(seconds)

    def last_task(self, kind: str, repo: str = "") -> TaskRow | None:
        """Return the last successful task of a kind, of one repository if that is given."""
        query = select(TaskRow).where(TaskRow.kind == kind, TaskRow.status == "ready")
        query = query.where(TaskRow.repo == repo) if repo else query
        with self.reading() as session:
            return session.scalars(query.order_by(TaskRow.finished.desc()).limit(1)).first()

    def write_build(self, row: BuildRow) -> None:
        """Remember a build, or its new state."""
        self.write(lambda session: session.merge(row))

    def read_build(self, identity: str) -> BuildRow | None:
        """Return a build."""
        with self.reading() as session:
            return session.get(BuildRow, identity)

    def list_builds(self, limit: int = 100) -> list[BuildRow]:
        """Return the newest builds first."""
        query = select(BuildRow).order_by(BuildRow.created.desc()).limit(limit)
        with self.reading() as session:
            return list(session.scalars(query))

    def list_left(self, home: str, limit: int = 200) -> list[BuildRow]:
        """Return the newest builds of a hubdock that have not ended, and those of nobody's."""
        query = select(BuildRow).where(BuildRow.finished.is_(None), or_(BuildRow.home == home, BuildRow.home == ""))
        query = query.order_by(BuildRow.created.desc()).limit(limit)
        with self.reading() as session:
            return list(session.scalars(query))

    def use_workspace(self, values: Mapping[str, str], data_key: str, keep: int = 8) -> list[str]:
        """Record that a workspace is launched with a data key (or none), and return the keys that its links may point into, newest first."""

        def work(session: Session) -> list[str]:
            row = session.get(WorkspaceRow, values["volume"])
            if row is None:
                row = WorkspaceRow(**dict(values), data="[]", created=time.time(), used=0.0)
                session.add(row)
            known: list[Any] = json.loads(row.data)
            keys = [key for key in dict.fromkeys([data_key, *known]) if key][:keep]
            row.data, row.used = json.dumps(keys), time.time()
            return keys

        return self.write(work)
