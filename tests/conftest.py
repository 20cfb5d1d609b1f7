"""Every suite (a directory of tests/): their order, and the seconds that each took."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.kit.fixtures import (  # noqa: F401 (of several suites)
    cluster,
    docker_engine,
    docker_hub,
    docker_remote,
    gpus,
    hub_settings,
    kube_builds,
    kube_hub,
    kube_plain,
    kube_remote,
    kube_road,
    locked,
)

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# A cluster may be built beside the first ones (.ci/run). Playwright's loop goes on to the end: no asyncio.run after it.
ORDER = ("unit", "faults", "docker", "contract", "kube", "browser", "demo")
seconds: dict[str, float] = defaultdict(float)
counts: dict[str, int] = defaultdict(int)
numbers: list[str] = []


def find_suite(nodeid: str) -> str:
    """Return the directory below tests/ that a test is in."""
    return nodeid.split("/")[1] if nodeid.startswith("tests/") and nodeid.count("/") > 1 else "."


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(suite) if (suite := find_suite(item.nodeid)) in ORDER else len(ORDER))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    suite = find_suite(report.nodeid)
    seconds[suite] += report.duration  # fixtures included
    counts[suite] += report.when == "call" or report.skipped
    if report.when == "call":
        numbers.extend(f"{report.nodeid.partition('::')[2]}: {value}" for name, value in report.user_properties if name == "number")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if numbers:
        terminalreporter.section("numbers")
        for line in numbers:
            terminalreporter.write_line(line)
    terminalreporter.section("time of each suite")
    for suite, taken in seconds.items():
        terminalreporter.write_line(f"{suite:<10} {taken:8.1f} s  {counts[suite]:5d} tests")
    terminalreporter.write_line(f"{'all':<10} {sum(seconds.values()):8.1f} s  {sum(counts.values()):5d} tests")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Headless Chromium, one for all suites: Playwright's loop can't run twice in a process."""
    path = os.environ.get("HUBDOCK_TEST_CHROMIUM") or next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed; .ci/browser installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
