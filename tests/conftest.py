"""Every suite (a directory of tests/): their order, the quick ones first, and the seconds that each took."""

from __future__ import annotations

from collections import defaultdict

import pytest

ORDER = ("unit", "contract", "docker", "kube", "browser", "demo", "faults")
seconds: dict[str, float] = defaultdict(float)
counts: dict[str, int] = defaultdict(int)


def find_suite(nodeid: str) -> str:
    """Return the directory below tests/ that a test is in."""
    return nodeid.split("/")[1] if nodeid.startswith("tests/") and nodeid.count("/") > 1 else "."


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(suite) if (suite := find_suite(item.nodeid)) in ORDER else len(ORDER))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    suite = find_suite(report.nodeid)
    seconds[suite] += report.duration  # fixtures included
    counts[suite] += report.when == "call" or report.skipped


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("time of each suite")
    for suite, taken in seconds.items():
        terminalreporter.write_line(f"{suite:<10} {taken:8.1f} s  {counts[suite]:5d} tests")
    terminalreporter.write_line(f"{'all':<10} {sum(seconds.values()):8.1f} s  {sum(counts.values()):5d} tests")
