"""What the engine remembers, in a real SQLite file."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from hubdock.core.errors import BackendError, ConfigError
from hubdock.engine import database as module
from hubdock.engine.connection import HEAD, MIGRATIONS
from hubdock.engine.database import Base, BuildRow, Database, TaskRow
from hubdock.engine.usage import HeadRow, UseRow
from tests.kit.postgres import Postgres, run_postgres

WORKSPACE = {"volume": "v", "user": "alice", "server": "s", "repo": "r", "branch": "main"}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with run_postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is empty yet, of each kind that hubdock knows."""
    return f"sqlite:///{tmp_path}/x.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres").make_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.engine.dispose()


def task(number: int, seconds: float = 1.0, kind: str = "environment", status: str = "ready", repo: str = "r") -> TaskRow:
    return TaskRow(id=f"t{number}", kind=kind, key="k", repo=repo, status=status, finished=float(number), seconds=seconds, steps="{}", inputs="{}")


def test_the_migrations_make_what_the_models_say(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert {UseRow.__table__, HeadRow.__table__} <= set(Base.metadata.tables.values())
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == HEAD


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_a_database_is_opened_again_as_it_is(url: str, tmp_path: Path) -> None:
    Database(url).write_source("r", "c", "1", "text")
    assert Database(url).read_source("r", "c", "1") == "text"
    if url.startswith("sqlite"):
        assert sqlite3.connect(tmp_path / "x.sqlite").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def open_database(url: str, answers: multiprocessing.Queue[str]) -> None:
    try:
        Database(url)
        answers.put("ok")
    except Exception as error:
        answers.put(repr(error))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_open_a_new_one_at_once_wait_for_each_other(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    context = multiprocessing.get_context("fork")
    for round_ in range(3):
        answers: multiprocessing.Queue[str] = context.Queue()
        url = f"sqlite:///{tmp_path}/{round_}.sqlite" if kind == "sqlite" else request.getfixturevalue("postgres").make_database()
        processes = [context.Process(target=open_database, args=(url, answers)) for _ in range(4)]
        for process in processes:
            process.start()
        assert [answers.get(timeout=30) for _ in processes] == ["ok"] * 4
        for process in processes:
            process.join()


@pytest.mark.parametrize("url", ["nonsense", "", "nodriver://x", "postgresql+nodriver://x"])
def test_a_wrong_address_is_the_admin_s_to_mend(url: str) -> None:
    with pytest.raises(ConfigError, match=r"HubDock\.db_url"):
        Database(url)


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="does not answer"):
        Database("postgresql://nobody@127.0.0.1:9/hubdock")
    with pytest.raises(BackendError, match="does not answer"):
        Database(f"sqlite:///{tmp_path}/no/such/directory/x.sqlite")
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.engine.dispose()
    (tmp_path / "x.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(BackendError, match="does not answer"):
        database.read_source("r", "c", "1")


def test_sources(database: Database) -> None:
    database.write_source("r", "c", "1", "one")
    database.write_source("r", "c", "1", "again")
    database.write_source("r", "c", "2", "two")
    assert [database.read_source("r", "c", version) for version in ("1", "2", "3")] == ["again", "two", None]
    assert database.read_source("other", "c", "1") is None


def test_bases(database: Database) -> None:
    assert database.read_base("b") is None
    database.write_base("b", "k1", "tag:1", "{}")
    database.write_base("b", "k2", "tag:2", "{}")
    row = database.read_base("b")
    assert row is not None and (row.key, row.prepared) == ("k2", "tag:2") and abs(row.checked - time.time()) < 60


def test_a_base_that_was_confirmed_is_the_same_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 1000.0)
    database.write_base("b", "k", "tag:1", "{}")
    monkeypatch.setattr(module.time, "time", lambda: 2000.0)
    database.confirm_base("b")
    database.confirm_base("unknown")
    row = database.read_base("b")
    assert row is not None and (row.key, row.prepared, row.checked) == ("k", "tag:1", 2000.0)
    assert database.read_base("unknown") is None


def test_epochs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "time", lambda: now)
    assert database.read_epoch("k") is None
    database.write_epoch("k", 0)
    now = 1061.0
    database.write_epoch("k", 0)
    assert database.read_epoch("k") == (0, 1000.0), "it began when it was first made"
    database.write_epoch("k", 2)
    database.write_epoch("k", 1)
    assert database.read_epoch("k") == (2, 1061.0) and database.read_epoch("other") is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], (None, 0)),
        ([task(1, 3.0)], (3.0, 1)),
        ([task(1, 1.0), task(2, 9.0), task(3, 2.0)], (2.0, 3)),
        ([task(1, 1.0), task(2, 2.0)], (1.5, 2)),
        ([task(1, 5.0), task(2, 500.0, status="failed"), task(3, 700.0, kind="data")], (5.0, 1)),
        ([task(n, 100.0) for n in range(5)] + [task(n, 1.0) for n in range(5, 15)], (1.0, 10)),  # only the last ten count
    ],
)
def test_estimates(database: Database, rows: list[TaskRow], expected: tuple[float | None, int]) -> None:
    for row in rows:
        database.record_task(row)
    assert database.estimate("environment") == expected


def test_many_at_once_neither_fail_nor_count_twice(database: Database) -> None:
    """Fifty people start one branch: the same rows are read, made and changed by all of them at the same time."""
    others = Database(database.engine.url.render_as_string(hide_password=False))  # as another process would: the command line beside the service

    def work(number: int) -> None:
        db = (database, others)[number % 2]
        db.record_task(task(1, 4.0))
        db.write_source("r", "c", "1", "text")
        db.use_workspace(WORKSPACE, f"d{number % 3}")
        db.write_epoch("k", number)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(48)))
    epoch = database.read_epoch("k")
    assert epoch is not None and epoch[0] == 47
    assert database.estimate("environment") == (4.0, 1)
    assert sorted(database.use_workspace(WORKSPACE, "d0")) == ["d0", "d1", "d2"]


def test_the_last_task(database: Database) -> None:
    for row in (task(1, repo="a"), task(3, repo="b"), task(2, repo="a"), task(9, repo="a", status="failed"), task(8, repo="a", kind="image")):
        database.record_task(row)
    found = [database.last_task("environment"), database.last_task("environment", "a"), database.last_task("environment", "c"), database.last_task("data")]
    assert [row and row.id for row in found] == ["t3", "t2", None, None]


def build(number: int, finished: float | None, home: str = "") -> BuildRow:
    return BuildRow(
        id=f"b{number}", created=float(number), finished=finished, status="queued", repo="r", ref="main", commit="c", image="", options="{}", users="[]", asker="{}", tasks="{}", error="", home=home
    )


def test_builds(database: Database) -> None:
    for number in range(5):
        database.write_build(build(number, 1.0 if number % 2 else None))
    database.write_build(build(0, 7.0))
    assert [row.id for row in database.list_builds(3)] == ["b4", "b3", "b2"]
    for number, home in ((6, "mine"), (8, "theirs")):
        database.write_build(build(number, None, home))
    assert [row.id for row in database.list_left("mine")] == ["b6", "b4", "b2"], "what others have under way is theirs"
    found = database.read_build("b0")
    assert found is not None and found.finished == 7.0
    assert database.read_build("b9") is None


def test_a_workspace_keeps_the_data_that_its_links_may_point_into(database: Database) -> None:
    used = [database.use_workspace(WORKSPACE, key, keep=3) for key in ("a", "b", "", "a", "c", "d")]
    assert used == [["a"], ["b", "a"], ["b", "a"], ["a", "b"], ["c", "a", "b"], ["d", "c", "a"]]
    assert database.use_workspace(WORKSPACE | {"volume": "w"}, "") == []
