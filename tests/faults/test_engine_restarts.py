"""dockerd killed and restarted in each phase of a start, and while servers run. Containers outlive it (``live-restore``)."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import make_slow
from tests.kit.engine import PrivateEngine
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub
from tests.kit.orphans import find_orphans
from tests.kit.repos import Project

SECONDS = 2.5
KILL, TERM = signal.SIGKILL, signal.SIGTERM
DATA = {f"{n:02}.bin": f"{n:02}" * 100_000 for n in range(20)}
PHASES = (("base", KILL), ("environment", KILL), ("environment", TERM), ("data", TERM), ("image", KILL))


@pytest.fixture
def phased(project: Project) -> Project:
    """A repository whose start has every phase."""
    return project.track_directory("data", DATA)


def push_new(project: Project, phase: str) -> None:
    """Make what the next start needs new: environment and code, and the data where it is about them."""
    project.write_all(make_slow(SECONDS))
    if phase == "data":
        project.track_directory("data", {**DATA, "new.txt": "new"})
    project.commit()


def wait_for_phase(hub: Hub, build: str, phase: str) -> None:
    """Return in the middle of a phase."""
    marks = {"base": "[base] building", "environment": "install.py source", "data": "[data] fetching", "image": "[image] building"}
    hub.wait_for(lambda: marks[phase] in hub.service("GET", f"builds/{build}/log").text, 60, f"the build is in the phase {phase}", 0.02)
    time.sleep(1.0 if phase in {"environment", "data"} else 0.0)


def finish(hub: Hub, options: dict[str, str], build: str) -> tuple[str, int]:
    """Wait until a build ends, start again until it is ready, and return (how the first ended, how many starts it took)."""
    first, starts = "", 1
    while True:
        ended: dict[str, Any] = hub.wait_for(lambda build=build: (b := hub.service("GET", f"builds/{build}").json())["finished"] and b, 90, "the build ends", 0.2)
        first = first or (ended["phase"] if ended["phase"] == "ready" else ended["error"]["message"])
        if ended["phase"] == "ready":
            return first, starts
        assert ended["error"]["code"] in {"builder_unavailable", "backend_unavailable"}, ended["error"]
        starts += 1
        assert starts < 4
        hub.wait_for(hub.service_answers, 20, "the service finds the engine again")
        build = hub.service("POST", "builds", options).json()["id"]


def test_each_phase(hub: Hub, engine: PrivateEngine, phased: Project, tell: Callable[[str], None]) -> None:
    """The build goes on by itself once the engine answers again, or the next start finishes it. Finished steps are found in BuildKit's cache."""
    options = {"repo": phased.url, "ref": "main"}
    for phase, number in PHASES:
        push_new(phased, phase)
        build = hub.service("POST", "builds", options).json()["id"]
        wait_for_phase(hub, build, phase)
        engine.restart(number)
        counter, began = SolveCounter(), time.monotonic()
        first, starts = finish(hub, options, build)
        seconds, steps = time.monotonic() - began, counter.steps(0.02)
        again = [step for step in steps if phase == "environment" and ("install.py resolve" in step or "install.py pinned" in step)]
        again += [step for step in steps if phase == "image" and "install.py" in step]
        tell(f"{number.name} in {phase}: {first}; ready {seconds:.1f} s later, {starts} start(s), {len(steps)} steps done after it, {len(again)} of them again")
        assert not again
        hub.wait_for(lambda: not find_orphans(hub), 10, f"nothing is left behind: {find_orphans(hub)}")
    check_launch(hub, engine, options, KILL, tell)


def check_launch(hub: Hub, engine: PrivateEngine, options: dict[str, str], number: signal.Signals, tell: Callable[[str], None]) -> None:
    """Restart the engine while a server is launched. That start may fail; the next one does not, and one container is left."""
    asked = threading.Thread(target=hub.api, args=("POST", "users/bob/servers/launch", options))
    asked.start()
    hub.wait_for(lambda: is_being_started(hub, engine), 30, "the container is being started", 0.002)
    engine.restart(number)
    asked.join()
    time.sleep(0.5)
    hub.wait_for(lambda: not hub.read_server("bob", "launch").get("pending"), 60, "the start ends")
    ready = bool(hub.read_server("bob", "launch").get("ready"))
    server = hub.wait_ready("bob", "launch") if ready else hub.start_server("bob", "launch", options)
    assert server.run("cat data/new.txt && git status --porcelain") == "new"
    tell(f"{number.name} in launch: {'that start' if ready else 'the next start'} is ready")
    assert not find_orphans(hub, {server.container.id})
    server.stop()


def is_being_started(hub: Hub, engine: PrivateEngine) -> bool:
    """True once the container is made, and a part of a volume is mounted for it, as an engine does while it starts one; or it runs already."""
    found = hub.engine.containers.list(all=True, filters={"label": ["hubdock.user=bob", "hubdock.server=launch"]})
    return bool(found) and (f"{engine.disk.path}/docker/tmp/" in Path("/proc/mounts").read_text() or found[0].status == "running")


def test_servers_outlive_the_engine(hub: Hub, engine: PrivateEngine, project: Project) -> None:
    """While the engine is away nobody is told that a server ended, however often the hub looks; what needs the engine says so."""
    project.write_all({"README.md": "x"}).commit()
    server = hub.start_server("alice", "kept", {"repo": project.url, "ref": "main"})
    container = server.container
    engine.stop(KILL)
    try:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert server.ask("contents").status_code == 200 and hub.read_server("alice", "kept")["ready"]
            time.sleep(0.3)
        refused = hub.service("POST", "plan", {"repo": project.url, "ref": "main"})
        assert refused.status_code == 502 and refused.json()["error"]["code"] == "builder_unavailable"
        assert hub.service("GET", "health").status_code == 503
    finally:
        engine.start()
    hub.wait_for(hub.service_answers, 20, "the service finds the engine again")
    found = hub.wait_ready("alice", "kept").container
    assert (found.id, found.attrs["State"]["StartedAt"]) == (container.id, container.attrs["State"]["StartedAt"])
    server.stop()
