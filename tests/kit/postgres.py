"""A PostgreSQL of Debian's package, in a temporary directory and without any service manager."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.ports import find_port

QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200", "ssl": "off"}  # it need not outlive the machine


def find_programs() -> Path | None:
    """Return the directory of the newest PostgreSQL's programs, as Debian has them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A running server with one empty database for whoever asks for one."""

    def __init__(self, directory: Path, port: int, run: list[str], programs: Path) -> None:
        self.directory, self.port, self._run, self._programs = directory, port, run, programs

    def make_database(self) -> str:
        """Return the URL of a new database, as an admin would write it."""
        name = f"hubdock_{secrets.token_hex(4)}"
        subprocess.run([*self._run, str(self._programs / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), name], check=True, capture_output=True, cwd="/")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"


@contextmanager
def run_postgres() -> Iterator[Postgres]:
    """Hold a server that listens on this machine alone. Skips where there is none."""
    programs = find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL here: Debian's package `postgresql` has it")
    directory = Path(tempfile.mkdtemp(prefix="hubdock-postgres-"))
    run: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(directory, user.pw_uid, user.pw_gid)
        run = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    files, port, log = str(directory / "files"), find_port(), directory / "log"
    settings = " ".join(f"-c {name}={value}" for name, value in {**QUICK, "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": directory}.items())
    pg_ctl = [*run, str(programs / "pg_ctl"), "-D", files, "-w", "-s"]
    try:
        for words in ([*run, str(programs / "initdb"), "-D", files, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"], [*pg_ctl, "-l", str(log), "-o", settings, "start"]):
            done = subprocess.run(words, capture_output=True, text=True, cwd="/", timeout=60)
            assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
        yield Postgres(directory, port, run, programs)
    finally:
        subprocess.run([*pg_ctl, "-m", "immediate", "stop"], capture_output=True, cwd="/", timeout=60)
        shutil.rmtree(directory, ignore_errors=True)
