"""What the panel says a start takes, against what it took: within twice the time, whichever way, in eight of ten."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Error, Page

from hubdock.engine.estimates import LAUNCH
from tests.browser.conftest import log_in
from tests.kit.hub import Hub
from tests.kit.repos import Project, make_requirements

RUNS, KNOWN = 10, 4


def read_seconds(page: Page) -> float | None:
    """Return the estimate that the panel shows."""
    page.wait_for_selector("#plan-panel", timeout=30_000)
    found = re.search(r"About (\d+) (s|min)", page.inner_text("#plan-sum"))
    return float(found[1]) * {"s": 1, "min": 60}[found[2]] if found else None


def count_launches(hub: Hub, project: Project) -> int:
    """Return how many launches of a project are written down for later estimates."""
    with contextlib.closing(sqlite3.connect(f"file:{hub.state}/hubdock.sqlite?mode=ro", uri=True, timeout=10)) as database:
        return int(database.execute("SELECT count(*) FROM tasks WHERE kind = ? AND repo LIKE ?", (LAUNCH, f"%{project.remote_name}%")).fetchone()[0])


def leave(page: Page) -> None:
    """Go away from a page that goes on to the server by itself, in this moment or the next."""
    page.wait_for_url(re.compile("/user/"), wait_until="commit", timeout=20_000)
    for left in reversed(range(5)):
        try:
            page.goto("about:blank")
            return
        except Error:  # it was on its way from one page to the next
            if not left:
                raise
            page.wait_for_timeout(300)


@pytest.mark.slow
def test_estimates_are_right_within_twice(page: Page, hub: Hub, project: Project, record_property: Callable[[str, object], None]) -> None:
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "train.py": "print(0)\n"}).commit()
    changes: list[Callable[[int], object]] = [
        lambda n: project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit(f"environment {n}"),
        lambda n: project.write_all({"train.py": f"print({n})\n"}).commit(f"code {n}"),
        lambda n: None,
    ]
    log_in(page, hub, "erin")
    found: list[tuple[float | None, float]] = []
    for number in range(KNOWN + RUNS):
        changes[number % 3](number)
        new = f"&new_branch=try{number}" if number % 3 == 2 else ""
        page.goto(f"{hub.url}/services/hubdock/?repo={project.url}&ref=main{new}")
        told = read_seconds(page)
        known, began = count_launches(hub, project), time.monotonic()
        page.click("#start")
        server = hub.wait_for(lambda: next((name for name, server in hub.api("GET", "users/erin").json()["servers"].items() if server["ready"]), None), 180, "it is ready", pause=0.05)
        found.append((told, time.monotonic() - began))
        written = time.monotonic() + 1.5  # the launch is written down
        while count_launches(hub, project) == known and time.monotonic() < written:
            page.wait_for_timeout(100)
        leave(page)
        hub.stop_server("erin", server)
    judged = found[KNOWN:]
    right = [told is not None and 0.5 <= told / took <= 2 for told, took in judged]
    record_property("number", f"estimate and seconds: {', '.join(f'{told:g} and {took:.1f}' if told else f'none and {took:.1f}' for told, took in found)}")
    assert sum(right) >= 0.8 * RUNS, judged
