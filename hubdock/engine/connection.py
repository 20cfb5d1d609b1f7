"""How the database is reached: SQLite, which one machine's processes share, or a PostgreSQL that several hubdocks share."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from hubdock.core.errors import ConfigError

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0005"
WRITING: dict[str, Any] = {"writing": True}
CONNECT = 5  # seconds
_LOCK = 0x6875_6264_6F63_6B  # "hubdock": the number of the lock under which PostgreSQL's schema is brought up to date
_AGAIN = {"40001", "40P01"}  # serialization_failure, deadlock_detected: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
_FULL = {"53100"}  # disk_full


def open_engine(url: str) -> tuple[Engine, Engine]:
    """Return (what reads, what writes) of one database. Raises ConfigError for what is no URL, or names a driver that is not there."""
    try:
        parsed = _choose_driver(make_url(url))
        postgres = parsed.get_backend_name() == "postgresql"
        given = {"connect_timeout": CONNECT} if postgres and "connect_timeout" not in parsed.query else {}
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite", connect_args=given)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError("HubDock.db_url is no URL of a database, or its driver is not installed.", str(error)) from error
    if engine.dialect.name == "sqlite":
        _configure_sqlite(engine)
        return engine, engine.execution_options(**WRITING)
    # What is read and then written must not have changed meanwhile. SQLite has one writer at a time; others are told, and do it again.
    return engine, engine.execution_options(isolation_level="SERIALIZABLE")


def _choose_driver(url: URL) -> URL:
    """Return the URL with the driver that `hubdock[postgresql]` brings, unless it names one or that is not here."""
    if url.drivername not in {"postgresql", "postgres"}:
        return url
    return url.set(drivername="postgresql+psycopg" if find_spec("psycopg") else "postgresql")


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        # https://sqlite.org/wal.html: readers don't wait for writers; two processes (service and CLI) may write.
        for pragma in ("busy_timeout=15000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.isolation_level = None  # the driver's own BEGIN is deferred

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A deferred transaction that reads and then writes fails at once, however long the timeout, if another wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")


def migrate(engine: Engine) -> None:
    """Bring the schema to `HEAD`. Asking costs one query; Alembic is imported only where there is something to do."""
    if inspect(engine).has_table("alembic_version"):
        with engine.connect() as connection:
            if connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD:
                return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.execution_options(**WRITING).begin() as connection:  # a second process that starts now waits here, and finds it done
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_lost_race(error: SQLAlchemyError) -> bool:
    """True if somebody else wrote the same rows at the same time: what was refused may be done again, as if it came a moment later."""
    return isinstance(error, IntegrityError) or _find_state(error) in _AGAIN


def is_full(error: SQLAlchemyError) -> bool:
    """True if there was no room to write."""
    return "disk is full" in str(error) or _find_state(error) in _FULL


def _find_state(error: SQLAlchemyError) -> str:
    """Return PostgreSQL's code of an error, empty where there is none."""
    return str(getattr(error.orig, "sqlstate", None) or "") if isinstance(error, DBAPIError) else ""
