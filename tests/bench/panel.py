"""The plan panel in a real browser: from the last key to what it says."""

from __future__ import annotations

import os
import shutil
import statistics
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from config.demo.server import Server
from tests.bench.report import Figure
from tests.conftest import CHROMIUM_ARGUMENTS
from tests.kit.hub import PASSWORD, Hub
from tests.kit.repos import Project

KEYS = 10  # at least so many last keys
# The clock starts in the page at the key itself, and stops when the panel says the branch that was typed.
CLOCK = """(() => {
  const ref = document.getElementById("ref"), plan = document.getElementById("plan");
  ref.addEventListener("input", () => (window.lastKey = performance.now()), true);
  new MutationObserver(() => {
    const title = document.getElementById("plan-title");
    if (title && title.textContent.endsWith(ref.value)) window.told = performance.now() - window.lastKey;
  }).observe(plan, { childList: true });
})()"""


def measure_panel(work: Path, server: Server, rounds: int) -> list[Figure]:
    """Type the last key of one of two branches, whose commits are known, and wait for the panel."""
    project = Project(server, work, "panel")
    project.write_all({"requirements.txt": "tabulate==0.9.0\n", **{f"src/module{n}.py": f"VALUE = {n}\n" for n in range(100)}}).commit()
    project.push("vgg16")
    project.push("vgg19")
    hub = Hub(work / "panel", {"HubDock": {"allowed_hosts": [server.url]}})
    path = os.environ.get("HUBDOCK_TEST_CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    try:
        hub.start().start_server("alice", "warm", {"repo": project.url, "ref": "main"}).stop()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
            page = open_page(browser.new_page(), hub, project)
            times = [time_key(page, "vgg16" if number % 2 else "vgg19") for number in range(max(KEYS, 2 * rounds) + 2)][2:]
            browser.close()
    finally:
        hub.stop()
        hub.clean()
    p90 = statistics.quantiles(times, n=10)[-1]
    shown = f"median {statistics.median(times):.0f} ms, 90th percentile {p90:.0f} ms ({min(times):.0f}-{max(times):.0f})"
    return [Figure("plan panel, known commit: ms from the last key to the answer, 90th percentile", p90, 300, "lower", len(times), shown)]


def open_page(page: Page, hub: Hub, project: Project) -> Page:
    page.goto(hub.url)
    page.fill("#username_input", "alice")
    page.fill("#password_input", PASSWORD)
    page.click("#login_submit")
    page.wait_for_url("**/services/hubdock/")
    page.goto(f"{hub.url}/services/hubdock/?repo={project.url}&ref=main")
    page.wait_for_selector("#plan-panel")
    page.evaluate(CLOCK)
    return page


def time_key(page: Page, ref: str) -> float:
    """Return milliseconds from the last key of a branch's name to the panel that says it."""
    page.fill("#ref", ref[:-1])
    page.wait_for_timeout(1500)
    page.evaluate("window.told = null")
    page.locator("#ref").press_sequentially(ref[-1])
    for _ in range(1000):
        if (told := page.evaluate("window.told")) is not None:  # the page's own policy forbids wait_for_function
            return float(told)
        page.wait_for_timeout(30)
    raise AssertionError(f"the panel says nothing of {ref}")
