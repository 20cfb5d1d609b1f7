"""Cancel, as one of twenty and as the last of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import make_slow
from tests.kit.engine import PrivateEngine
from tests.kit.hub import Hub
from tests.kit.orphans import find_orphans, find_steps
from tests.kit.repos import Project

USERS = [f"user{number}" for number in range(20)]
GRACE = 1.0


@pytest.fixture
def crowd(engine: PrivateEngine, settings: dict[str, Any], tmp_path: Path) -> Iterator[Hub]:
    """A hub of twenty users."""
    hub = Hub(tmp_path / "hub", {"HubDock": {**settings, "cancel_grace": GRACE}, "JupyterHub": {"tornado_settings": {"slow_spawn_timeout": 0}}}, users=USERS)
    try:
        yield hub.start()
    finally:
        hub.stop()
        hub.clean()


def cancel(hub: Hub, user: str) -> float:
    """Cancel a user's start, and return how many seconds pass until it is over for them."""
    began = time.monotonic()
    assert hub.api("DELETE", f"users/{user}/servers/wanted").status_code in {202, 204}
    hub.wait_for(lambda: not hub.read_server(user, "wanted").get("pending"), 20, "the start is over", 0.02)
    return time.monotonic() - began


def test_one_of_twenty_then_the_last(crowd: Hub, project: Project, tell: Callable[[str], None]) -> None:
    """The build lives while anybody waits, then for the grace time, then nothing of it is left. Default servers never notice."""
    hub = crowd
    project.write_all({"README.md": "x"}).commit(push=False)
    project.push("plain")
    default = hub.start_server(USERS[0], "", {"repo": project.url, "ref": "plain"})
    identity = default.container.id
    kept = {path.name for path in (hub.state / "tasks" / "environment").iterdir()}
    project.write_all(make_slow(300)).commit(push=False)
    project.push("slow")
    for user in USERS:
        assert hub.api("POST", f"users/{user}/servers/wanted", {"repo": project.url, "ref": "slow"}).status_code == 202
    hub.wait_for(lambda: find_steps(project.remote_name), 60, "the package is being built")
    (build,) = [b for b in hub.service("GET", "builds").json()["builds"] if b["phase"] == "building"]
    hub.wait_for(lambda: len(hub.service("GET", f"builds/{build['id']}").json()["users"]) == 20, 30, "all twenty wait for one build")
    seconds = cancel(hub, USERS[0])
    time.sleep(GRACE + 1)
    found = hub.service("GET", f"builds/{build['id']}").json()
    assert found["phase"] == "building" and len(found["users"]) == 19 and find_steps(project.remote_name), "it lives for the others"
    assert default.container.id == identity and default.ask("contents").status_code == 200
    tell(f"one of twenty was out after {seconds:.2f} s, and the build lives")
    with ThreadPoolExecutor(len(USERS)) as pool:
        slowest = max(pool.map(lambda user: cancel(hub, user), USERS[1:-1]))
    assert hub.service("GET", f"builds/{build['id']}").json()["phase"] == "building"
    last = cancel(hub, USERS[-1])
    left = time.monotonic()
    hub.wait_for(lambda: hub.service("GET", f"builds/{build['id']}").json()["phase"] == "cancelled", GRACE + 5, "it is cancelled", 0.02)
    hub.wait_for(lambda: not find_steps(project.remote_name) and not find_orphans(hub, {identity}), GRACE + 5, f"nothing is left: {find_orphans(hub, {identity})}", 0.05)
    gone = time.monotonic() - left
    tell(f"the others were out after {slowest:.2f} s at most, the last after {last:.2f} s, and the build was gone {gone:.2f} s later (grace {GRACE:g} s)")
    assert gone < GRACE + 5
    made = {tag.rpartition(":")[2] for image in hub.engine.images.list() for tag in image.tags if tag.startswith("hubdock/environment:")}
    assert not made & ({path.name for path in (hub.state / "tasks" / "environment").iterdir()} - kept), "no tag"
    assert default.container.id == identity and default.ask("contents").status_code == 200
    default.stop()
