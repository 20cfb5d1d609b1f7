"""Tasks: real detached workers, what they leave behind, and what is left of them when they are killed. No Docker: a socket that never answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubdock.core.errors import BuildCancelled, BuildError, RecipeError
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.repo import parse_repo_url
from hubdock.drivers.mirror import find_directory
from hubdock.engine import tasks
from hubdock.engine.tasks import Attempt, Reporter, Result, TaskStore, end_strays, write_whole

KEY = "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    store = TaskStore(tmp_path / "state")
    yield store
    for attempt in store.root.glob("*/*/[0-9]*"):
        kill(Attempt("x", "x", attempt))
        end_strays(attempt)


class Silence:
    """An address that takes connections and says nothing, until it is closed."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self.taken.append(self.listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        for end in (self.listener, *self.taken):
            end.close()


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    """A Docker Engine that never answers: a task on it runs until it is ended."""
    silence = Silence()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{silence.listener.getsockname()[1]}")
    monkeypatch.setattr("hubdock.drivers.docker.TIMEOUT", 0.5)  # for this process, which asks it what a killed worker left; a worker waits on
    yield silence
    silence.close()


BASE = {"reference": "base:1", "digest": ""}


def wait(attempt: Attempt, seconds: float = 20.0) -> Result:
    until = time.monotonic() + seconds
    while (result := attempt.result()) is None:
        assert time.monotonic() < until, "the worker does not end"
        time.sleep(0.01)
    tasks.reap()
    return result


def wait_until(condition: object, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.01)


def read_pid(attempt: Attempt) -> int:
    return int((attempt.path / "pid").read_text())


def kill(attempt: Attempt) -> None:
    if attempt.running():
        os.kill(read_pid(attempt), signal.SIGKILL)
        wait_until(lambda: not attempt.running())


def test_a_task_that_fails(store: TaskStore, tmp_path: Path) -> None:
    spec = {"state": str(tmp_path), "remote": {"url": "https://a.org/x", "timeout": 5, "trusted": False, "proxies": {}, "certificates": ""}, "max_size": 2**30, "commit": "c" * 40}
    mark = find_directory(tmp_path, parse_repo_url("https://a.org/x")) / "plan.git" / "hubdock-commits" / ("c" * 40)
    mark.parent.mkdir(parents=True)
    mark.touch()  # said to be here; it is not
    attempt = store.start("image", KEY, spec)
    result = wait(attempt)
    assert result.status is Phase.FAILED and isinstance(result.error, tasks.BackendError)
    assert result.error.message == "git failed on the hub's own copy of the repository. Try again."
    assert time.time() - 60 < result.started <= result.finished <= time.time()
    events = [event for _, event in attempt.read_events()]
    assert events[-1] == Event(Kind.PHASE, events[-1].time, "image", Phase.FAILED, result.error.message, error=result.error.as_dict())
    assert attempt.spec() == {**spec, "kind": "image", "key": KEY}
    assert (attempt.path.stat().st_mode & 0o777) == 0o700
    wait_until(lambda: not attempt.running())  # the result is there a moment before the worker is gone
    assert attempt.open_pid() is None
    assert "git failed" in (attempt.path / "worker.log").read_text()  # the detail is for the log


def test_an_unknown_failure_is_told_without_its_trace(store: TaskStore) -> None:
    attempt = store.start("image", KEY, {"state": 5})
    result = wait(attempt)
    assert result.status is Phase.FAILED and result.error is not None
    assert result.error.message == "The build failed for a reason that hubdock does not know. Tell an administrator."
    assert "Traceback" in (attempt.path / "worker.log").read_text()


def test_everybody_who_asks_joins_the_one_worker(store: TaskStore, silence: Silence) -> None:
    found: list[Attempt] = []
    threads = [threading.Thread(target=lambda: found.append(TaskStore(store.root.parent).start("base", KEY, BASE))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({attempt.path for attempt in found}) == 1
    attempt = found[0]
    assert attempt.running() and attempt.result() is None
    assert store.latest("base", KEY) == attempt == store.find("base", KEY, "1")
    descriptor = attempt.open_pid()
    assert descriptor is not None
    os.close(descriptor)


def test_another_process_sees_that_it_runs(store: TaskStore, silence: Silence) -> None:
    attempt = store.start("base", KEY, BASE)
    code = f"from hubdock.engine.tasks import *; a = Attempt('base', '{KEY}', Path('{attempt.path}')); print(a.running(), a.result())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True None"


def test_the_worker_outlives_who_started_it(store: TaskStore, silence: Silence) -> None:
    code = f"from hubdock.engine.tasks import *; TaskStore(Path('{store.root.parent}')).start('base', '{KEY}', {BASE!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    attempt = store.latest("base", KEY)
    assert attempt is not None and attempt.running()
    assert os.getsid(read_pid(attempt)) == read_pid(attempt)  # a session of its own: no terminal's Ctrl-C reaches it


def test_a_killed_worker_is_a_failure_that_another_attempt_may_mend(store: TaskStore, silence: Silence) -> None:
    attempt = store.start("base", KEY, BASE)
    (attempt.path / "worker.log").open("a").write("last words\n")
    kill(attempt)
    result = attempt.result()
    assert result is not None and isinstance(result.error, BuildError)
    assert result.status is Phase.FAILED and "Start again" in result.error.message and "last words" in result.error.detail
    again = store.start("base", KEY, BASE)
    assert again.path == attempt.path.parent / "2" and again.running()
    assert store.latest("base", KEY) == again


def test_a_cancelled_worker_ends_in_order(store: TaskStore, silence: Silence) -> None:
    attempt = store.start("base", KEY, BASE)
    wait_until(lambda: silence.taken)
    assert attempt.cancel()
    silence.close()  # whatever it then fails with, it was cancelled
    result = wait(attempt)
    assert result.status is Phase.CANCELLED and isinstance(result.error, BuildCancelled)


def test_nothing_is_cancelled_that_somebody_holds(store: TaskStore, silence: Silence) -> None:
    attempt = store.start("base", KEY, BASE)
    with attempt.hold(), attempt.hold():
        assert not attempt.cancel()
    time.sleep(0.05)
    assert attempt.running()


def test_cancelling_what_has_ended_is_nothing(store: TaskStore) -> None:
    attempt = store.start("image", KEY, {})
    wait(attempt)
    assert attempt.cancel()


def test_what_a_killed_worker_left_running_is_ended(store: TaskStore, silence: Silence) -> None:
    """Its child (git, docker) is found by the mark that it carries, and no other process is."""
    attempt = store.start("base", KEY, BASE)
    code = "from hubdock.drivers import process; import sys; c = process.start(['sleep', '300'], env={'PATH': '/usr/bin:/bin'}); print(c.pid, flush=True)"
    ours = subprocess.run([sys.executable, "-c", code], env={**os.environ, tasks.MARK: str(attempt.path)}, capture_output=True, text=True, check=True)
    other = subprocess.Popen(["sleep", "300"], env={**os.environ, tasks.MARK: str(attempt.path) + "0"})
    stray = int(ours.stdout)
    try:
        kill(attempt)
        assert Path(f"/proc/{stray}").exists()
        store.start("base", KEY, BASE)
        wait_until(lambda: not is_alive(stray))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_attempts_are_numbered(store: TaskStore) -> None:
    assert store.latest("image", KEY) is None
    numbers = []
    for _ in range(2):
        attempt = store.start("image", KEY, {})
        wait(attempt)
        numbers.append(attempt.path.name)
    (store.root / "image" / KEY / "10").mkdir()
    assert numbers == ["1", "2"]
    latest = store.latest("image", KEY)
    assert latest is not None and latest.path.name == "10" and latest.identity == f"image-{KEY}-10"


@pytest.mark.parametrize("number", ["", "3", "x", "..", "../1", "1/..", "²"])
def test_no_such_attempt(store: TaskStore, number: str) -> None:
    (store.root / "image" / KEY / "1").mkdir(parents=True)
    assert store.find("image", KEY, number) is None


# --- what is written ---


def test_results_are_read_back(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path)
    reporter.finish(Phase.FAILED, RecipeError("Wrong.", "detail", file="a", line=1), {"step": 1.5}, {"bytes": 3})
    result = Attempt("image", KEY, tmp_path).result()
    assert result is not None and result.error is not None
    assert (result.status, result.error.as_dict(), result.steps, result.data) == (
        Phase.FAILED, RecipeError("Wrong.", file="a", line=1).as_dict(), {"step": 1.5}, {"bytes": 3},
    )  # fmt: skip
    assert "detail" not in (tmp_path / "result.json").read_text()


def test_events_from_an_offset(tmp_path: Path) -> None:
    reporter, attempt = Reporter(tmp_path), Attempt("image", KEY, tmp_path)
    assert list(attempt.read_events()) == [] and attempt.tail_offset(10) == 0
    events = [Event(Kind.LOG, float(n), "image", message=f"line {n} é \ud800"[: 7 + n]) for n in range(3)]
    for event in events:
        reporter.write(event)
    found = list(attempt.read_events())
    assert [event for _, event in found] == events
    assert [event for _, event in attempt.read_events(found[0][0])] == events[1:]
    assert list(attempt.read_events(found[-1][0])) == []


def test_half_a_line_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    reporter, attempt = Reporter(tmp_path), Attempt("image", KEY, tmp_path)
    reporter.write(Event(Kind.LOG, 1.0, message="whole"))
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'not json\n{"kind":"log","time":null}\n\xff\n{"kind":"log","ti')
    assert [event.message for _, event in attempt.read_events()] == ["whole"]
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'me":2.0,"message":"now whole"}\n')
    assert [event.message for _, event in attempt.read_events()] == ["whole", "now whole"]


@pytest.mark.parametrize(("size", "first"), [(10**6, 0), (0, 10), (15, 10), (16, 9), (40, 8)])
def test_the_tail_begins_at_a_whole_line(tmp_path: Path, size: int, first: int) -> None:
    lines = [b"%015d\n" % number for number in range(10)]
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines))
    assert Attempt("image", KEY, tmp_path).tail_offset(size) == 16 * first


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "x.json", json.dumps({"a": "é"}))
    write_whole(tmp_path / "x.json", "2")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.json", "2")]
