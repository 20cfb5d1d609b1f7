"""A log of 100 MB: the page stays small and quick, and so do hub and service, with fifty viewers and somebody who reads all of it."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import Browser, Page, expect

from hubdock.core.events import Event, Kind
from tests.browser.conftest import log_in
from tests.browser.test_watch import start
from tests.faults.conftest import make_slow
from tests.kit.hub import Hub
from tests.kit.repos import Project

MIB = 1024 * 1024
VIEWERS = 50


def pour(path: Path, size: int, seconds: float) -> None:
    """Write output into a running task's log, as its worker does."""
    text = "".join(Event(Kind.LOG, time.time(), "environment", message=f"{number} " + "flood " * 30).as_line() for number in range(4000))
    pieces = size // len(text)
    for _ in range(pieces):
        with path.open("ab", buffering=0) as file:
            file.write(text.encode())
        time.sleep(seconds / pieces)


class Latency:
    """How long hub and service take to answer, asked again and again."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.seconds, self.stop = hub, {"hub": [0.0], "service": [0.0]}, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self.stop.wait(0.05):
                for name, path in (("hub", "/hub/api/"), ("service", "/services/hubdock/api/")):
                    began = time.monotonic()
                    assert client.get(self.hub.url + path).status_code == 200
                    self.seconds[name].append(time.monotonic() - began)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


@contextmanager
def measured(hub: Hub) -> Iterator[Latency]:
    latency = Latency(hub)
    latency.thread.start()
    yield latency
    latency.stop.set()
    latency.thread.join(30)


async def view(hub: Hub, build: str, seconds: float) -> list[int]:
    """Have many look at a build for some time, and return how often each was told how it is."""

    async def one(client: httpx.AsyncClient) -> int:
        told = 0
        try:
            async with asyncio.timeout(seconds):
                async with client.stream("GET", f"{hub.url}/services/hubdock/api/builds/{build}/events?view=page") as answer:
                    async for line in answer.aiter_lines():
                        told += line.startswith("event: state")
        except TimeoutError:
            return told
        return told

    limits = httpx.Limits(max_connections=VIEWERS)
    async with httpx.AsyncClient(headers={"Authorization": f"token {hub.token}"}, limits=limits, timeout=60) as client:
        return list(await asyncio.gather(*(one(client) for _ in range(VIEWERS))))


def find_renderer(chromium: Browser) -> psutil.Process:
    """Return the renderer that holds most memory: no tab of the test is larger."""
    infos = chromium.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [psutil.Process(info["id"]) for info in infos if info["type"] == "renderer"]
    return max(renderers, key=lambda process: process.memory_full_info().uss)


def test_a_hundred_megabytes(page: Page, chromium: Browser, hub: Hub, project: Project) -> None:
    project.write_all(make_slow(240)).commit()
    log_in(page, hub, "erin")
    build = start(page, project)
    expect(page.locator("#stages")).to_contain_text("build packages from source", timeout=60_000)
    kind, key, number = hub.service("GET", f"builds/{build}").json()["tasks"]["environment"].split("-")
    log = hub.state / "tasks" / kind / key / number / "events.jsonl"
    service = psutil.Process(hub.service_pid)
    before = service.memory_info().rss
    with measured(hub) as latency:
        pouring = threading.Thread(target=pour, args=(log, 100 * MIB, 12))
        viewing = threading.Thread(target=lambda: told.extend(asyncio.run(view(hub, build, 14))))
        told: list[int] = []
        pouring.start()
        viewing.start()
        answers = []
        while pouring.is_alive():
            began = time.monotonic()
            page.click("#follow")
            page.click("#follow")
            answers.append(time.monotonic() - began)
            page.wait_for_timeout(300)
        pouring.join()
        expect(page.locator("#log")).to_contain_text("3999 flood", timeout=10_000)
        viewing.join()
        size = 0
        with httpx.stream("GET", f"{hub.url}/services/hubdock/api/builds/{build}/log", headers={"Authorization": f"token {hub.token}"}, timeout=60) as whole:
            for piece in whole.iter_bytes():
                size += len(piece)
    assert log.stat().st_size > 95 * MIB and size > 60 * MIB, "all of it is there, for who asks"
    assert len(told) == VIEWERS and min(told) >= 5, told
    assert statistics.median(answers) < 1 and max(answers) < 3, answers
    shown = page.evaluate("() => [document.getElementById('log').textContent.length, document.getElementById('log').textContent.split('\\n').length]")
    assert shown[0] <= 200_000 and shown[1] <= 501, shown
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    memory = find_renderer(chromium).memory_full_info().uss
    print(f"heap {metrics['JSHeapTotalSize'] / MIB:.0f} MiB, tab {memory / MIB:.0f} MiB, service +{(service.memory_info().rss - before) / MIB:.0f} MiB, "
          f"hub {latency.median('hub') * 1000:.0f} ms (at most {max(latency.seconds['hub']) * 1000:.0f}), service {latency.median('service') * 1000:.0f} ms "
          f"(at most {max(latency.seconds['service']) * 1000:.0f}), clicks {statistics.median(answers) * 1000:.0f} ms")  # fmt: skip
    assert metrics["JSHeapTotalSize"] < 50 * MIB and memory < 200 * MIB
    assert latency.median("hub") < 0.1 and max(latency.seconds["hub"]) < 2, sorted(latency.seconds["hub"])[-5:]
    assert latency.median("service") < 0.3 and max(latency.seconds["service"]) < 3, sorted(latency.seconds["service"])[-5:]
    assert service.memory_info().rss - before < 150 * MIB
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#repo")).to_have_value(project.url)
    hub.wait_for(lambda: hub.service("GET", f"builds/{build}").json()["phase"] == "cancelled", 20, "it is cancelled")
