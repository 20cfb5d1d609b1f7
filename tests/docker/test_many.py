"""Many people at once: what they need alike is made once, and nobody's hub stands still meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from config.demo.server import Server
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub, run_hub
from tests.kit.repos import Project, make_own_backend, make_requirements

MANY = tuple(f"user{number:02}" for number in range(20))
# How late the hub's event loop is, every 10 ms.
LAGS = """
import asyncio, time
async def measure():
    with open("lags", "w", buffering=1) as file:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            file.write(f"{time.perf_counter() - began - 0.01:.6f}\\n")
measuring = asyncio.get_running_loop().create_task(measure())
"""
# A package whose building talks until it is cancelled, and costs nothing. uv keeps what a package prints, so it goes to the step's own output.
TALKING = """
import itertools, time

def build_wheel(*arguments):
    with open("/proc/1/fd/1", "w") as log:
        for number in itertools.count():
            print("\\n".join(f"line {number} {n}" for n in range(20)), file=log, flush=True)
            time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def crowd(docker_engine: docker.DockerClient, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub of its own for twenty users, with ten places to build."""
    settings = {"HubDock": {"allowed_hosts": [server.url], "max_parallel_builds": 10, "cancel_grace": 0.5, "smoke_test": False}}
    with run_hub(tmp_path_factory.mktemp("crowd"), settings, users=MANY, more=LAGS) as running:
        yield running


def at_once(work: Callable[[str], Any], users: tuple[str, ...] = MANY) -> list[Any]:
    """Do something for each user, all in the same moment."""
    barrier = threading.Barrier(len(users))

    def do(user: str) -> Any:
        barrier.wait()
        return work(user)

    with ThreadPoolExecutor(len(users)) as pool:
        return list(pool.map(do, users))


def count_attempts(hub: Hub) -> Counter[str]:
    """Return how many attempts at tasks of each kind this hub's service has made."""
    return Counter(path.parent.parent.name for path in (hub.state / "tasks").glob("*/*/[0-9]*"))


def test_twenty_starts_of_one_hypothesis(crowd: Hub, server: Server, project: Project) -> None:
    """20 access checks, one environment, one code layer, 20 servers."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "README.md": "many"}).commit()
    options = {"repo": project.url, "ref": "main"}
    assert crowd.service("POST", "plan", options).status_code == 200
    server.requests.clear()
    before, solves = count_attempts(crowd), SolveCounter()
    answers = at_once(lambda user: crowd.api("POST", f"users/{user}/servers/one", options))
    assert {answer.status_code for answer in answers} <= {201, 202}, [answer.text for answer in answers]
    servers = [crowd.wait_ready(user, "one", 300) for user in MANY]
    made = count_attempts(crowd) - before
    assert (made["environment"], made["image"]) == (1, 1)
    labels = [running.container.labels for running in servers]
    images = {running.container.attrs["Image"] for running in servers}
    assert len(images) == 1 and {label["hubdock.user"] for label in labels} == set(MANY)
    assert solves.new("image", labels[0]["hubdock.image"]) == 1
    asked = [path for method, path in server.requests if method == "GET" and path.endswith("/info/refs")]
    fetches = 2  # the commit's files for the code layer, and its history for the workspaces
    assert len(asked) == len(MANY) + fetches
    at_once(lambda user: crowd.stop_server(user, "one"))


def test_streams_leave_the_hub_its_time(crowd: Hub, server: Server, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Ten builds with 2,000 lines of log a second among them, each shown on the hub's pending page: its event loop is never late (p99 of 50 ms)."""
    users = MANY[:10]
    projects = {user: Project(server, tmp_path, user) for user in users}
    for made in projects.values():
        made.write_all({"requirements.txt": make_requirements("./talking"), "talking/backend.py": TALKING, "talking/pyproject.toml": make_own_backend("talking")}).commit()
    answers = at_once(lambda user: crowd.api("POST", f"users/{user}/servers/talk", {"repo": projects[user].url, "ref": "main"}), users)  # the hub answers after 10 s
    assert [answer.status_code for answer in answers] == [202] * len(users)
    readers = [threading.Thread(target=read_some, args=(crowd, user), daemon=True) for user in users]
    for reader in readers:
        reader.start()
    crowd.wait_for(lambda: count_talking(crowd) >= len(users), 120, "ten builds talk", 0.5)
    begun = len(read_lags(crowd))
    time.sleep(8)
    lags = sorted(read_lags(crowd)[begun:])
    talking = count_talking(crowd)
    at_once(lambda user: crowd.api("DELETE", f"users/{user}/servers/talk"), users)
    p99 = lags[int(len(lags) * 0.99)]
    record_property("lag_p99_ms", round(1000 * p99, 1))
    assert talking >= len(users) - 2 and len(lags) > 300, (talking, len(lags))
    assert p99 <= 0.05, f"p99 {1000 * p99:.0f} ms, most {1000 * lags[-1]:.0f} ms"


def read_some(hub: Hub, user: str) -> None:
    """Read the hub's progress stream of a start, as its pending page does."""
    try:
        hub.read_progress(user, "talk")
    except httpx.HTTPError:
        return


def read_lags(hub: Hub) -> list[float]:
    return [float(line) for line in (hub.directory / "lags").read_text().split("\n")[:-1]]


def count_talking(hub: Hub) -> int:
    """Return how many environments are being built whose package talks."""
    found = 0
    for path in (hub.state / "tasks" / "environment").glob("*/*/events.jsonl"):
        found += "line " in path.read_text(errors="replace")[-4000:] and not (path.parent / "result.json").exists()
    return found
