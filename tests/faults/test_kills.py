"""kill -9 of the service, of the hub and of workers at each second of a build: six builds are started a second apart, and one kill hits each at another age."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil

from tests.faults.conftest import make_slow
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub
from tests.kit.orphans import find_orphans
from tests.kit.repos import Project

AGES = 6
SECONDS = 3.0


def push_branches(project: Project) -> list[str]:
    """Push as many branches as there are ages, each with an environment of its own."""
    for number in range(AGES):
        project.write_all(make_slow(SECONDS)).commit(push=False)
        project.push(f"age{number}")
    return [f"age{number}" for number in range(AGES)]


def start_apart(hub: Hub, project: Project, branches: list[str]) -> dict[str, str]:
    """Begin a build each second, and return ``{branch: build}``."""
    builds, began = {}, time.monotonic()
    for number, branch in enumerate(branches):
        time.sleep(max(0.0, began + number - time.monotonic()))
        builds[branch] = ask(hub, "POST", "builds", {"repo": project.url, "ref": branch})["id"]
    time.sleep(max(0.0, began + len(branches) - time.monotonic()))
    return builds


def ask(hub: Hub, method: str, path: str, body: Any = None) -> Any:
    """Ask the service, again while one is taking the place of another."""
    return hub.wait_for(lambda: (answer := hub.service(method, path, body)).status_code < 500 and answer, 45, f"the service answers {path}").json()


def find_phases(hub: Hub, builds: dict[str, str]) -> dict[str, str]:
    return {branch: ask(hub, "GET", f"builds/{build}")["phase"] for branch, build in builds.items()}


def finish(hub: Hub, project: Project, branches: list[str]) -> None:
    """Start each build once more, and wait until all are ready."""
    builds = {branch: ask(hub, "POST", "builds", {"repo": project.url, "ref": branch})["id"] for branch in branches}
    hub.wait_for(lambda: set(find_phases(hub, builds).values()) == {"ready"}, 90, "all builds end well", 0.3)


def find_service(hub: Hub) -> psutil.Process:
    (found,) = [p for p in psutil.process_iter(["cmdline"]) if "hubdock.service" in (p.info["cmdline"] or []) and str(hub.state / "config.json") in p.info["cmdline"]]
    return found  # type: ignore[no-any-return]


def count_attempts(hub: Hub, kind: str) -> int:
    return len(list((hub.state / "tasks" / kind).glob("*/*/spec.json")))


def count(hub: Hub, counter: SolveCounter) -> dict[str, Any]:
    """Return the numbers of a round."""
    steps = Counter(step for step in counter.steps(SECONDS) if "install.py source" in step)
    return {
        "environments": counter.new("environment"), "images": counter.new("image"), "slow steps": sum(steps.values()),
        "attempts": count_attempts(hub, "environment"), "image attempts": count_attempts(hub, "image"),
        "tags": sum(tag.startswith("hubdock/image:") for image in hub.engine.images.list() for tag in image.tags),
    }  # fmt: skip


def check_round(hub: Hub, project: Project, kill: Callable[[], None], tell: Callable[[str], None], back: Callable[[], None]) -> dict[str, Any]:
    """Run one round beside a running server, and return its numbers. Whatever is killed, each environment is solved once and the server lives on."""
    project.write_all({"README.md": "x"}).commit(push=False)
    project.push("kept")
    kept = hub.start_server("alice", "kept", {"repo": project.url, "ref": "kept"})
    identity, started = kept.container.id, kept.container.attrs["State"]["StartedAt"]
    branches = push_branches(project)
    before = count(hub, SolveCounter())
    counter = SolveCounter()
    builds = start_apart(hub, project, branches)
    phases = Counter(find_phases(hub, builds).values())
    kill()
    killed = time.monotonic()
    back()
    answered = time.monotonic() - killed
    finish(hub, project, branches)
    numbers = count(hub, counter)
    numbers |= {name: numbers[name] - before[name] for name in ("attempts", "image attempts", "tags")}
    tell(f"killed while {dict(phases)}; answers again after {answered:.1f} s, all ready after {time.monotonic() - killed:.1f} s; {numbers}")
    found = hub.wait_ready("alice", "kept").container
    assert (found.id, found.attrs["State"]["StartedAt"]) == (identity, started) and kept.ask("contents").status_code == 200
    hub.wait_for(lambda: not find_orphans(hub, {identity}), 10, f"nothing is left behind: {find_orphans(hub, {identity})}")
    server = hub.start_server("bob", "after", {"repo": project.url, "ref": branches[-1]})
    assert server.run("python -c 'import slow'") == ""
    server.stop()
    kept.stop()
    assert numbers["tags"] == AGES, "one image for each"
    return numbers


def test_service(hub: Hub, project: Project, tell: Callable[[str], None]) -> None:
    """The workers go on, and are adopted by the service that the hub starts next (it looks every 30 seconds). A start that waits at the hub waits on."""

    def kill() -> None:
        options = {"repo": project.url, "ref": "age1"}
        threading.Thread(target=hub.api, args=("POST", "users/carol/servers/waiting", options)).start()
        hub.wait_for(lambda: hub.read_server("carol", "waiting").get("pending"), 10, "carol waits", 0.02)
        find_service(hub).kill()

    def back() -> None:
        hub.wait_for(hub.service_answers, 45, "a new service answers")
        hub.wait_ready("carol", "waiting").stop()

    found = check_round(hub, project, kill, tell, back)
    assert found["environments"] == found["images"] == found["slow steps"] == found["attempts"] == AGES, "no step is done twice, no worker started twice"


def test_hub(hub: Hub, project: Project, tell: Callable[[str], None]) -> None:
    """The service lives on, and the next hub's takes its place."""
    found = check_round(hub, project, hub.kill, tell, lambda: hub.start() and None)
    assert found["environments"] == found["images"] == found["slow steps"] == found["attempts"] == AGES


def test_workers(hub: Hub, project: Project, tell: Callable[[str], None]) -> None:
    """Steps that were done are found in BuildKit's cache; only what was interrupted is done again."""

    def kill() -> None:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "hubdock.engine.worker" in words and words[-1].startswith(f"{hub.state}/"):
                process.kill()

    found = check_round(hub, project, kill, tell, lambda: None)
    assert found["slow steps"] <= AGES, "what was done to its end is not done again"  # of a solve that was killed at its end BuildKit keeps no record
    assert found["attempts"] > AGES, "some were killed in the middle"
    assert AGES <= found["images"] <= found["image attempts"], "one that was killed after BuildKit had written its image, before it told so, has it written again"
