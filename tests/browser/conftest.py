"""Headless Chromium on a hub like that of the Docker suite; `Windows` opens a browser's windows, `check_axe` looks for what shuts people out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from config.demo.server import Server
from tests.kit.hub import PASSWORD, ROOT, Hub, run_hub
from tests.kit.repos import Project

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
expect.set_options(timeout=15_000)  # the machine may be busy
WIDE, SMALL = (1200, 800), (400, 800)
LOOKS = ((WIDE, "light"), (WIDE, "dark"), ((800, 800), "light"), (SMALL, "light"), (SMALL, "dark"))


class Windows:
    """Browser windows that a test opens. ``faults`` are errors in a page's own scripts, what its Content-Security-Policy forbade, dialogs, and calls of
    ``hurt()``, which hostile text tries; ``foreign`` are requests to other hosts than the pages' own. A test with any of them fails."""

    def __init__(self, chromium: Browser) -> None:
        self.chromium = chromium
        self.contexts: list[BrowserContext] = []
        self.faults: list[str] = []
        self.foreign: list[str] = []

    def open(self, size: tuple[int, int] = WIDE, theme: str = "light", javascript: bool = True) -> Page:
        """Return a window of a fresh browser, nobody logged in; ``page.context.new_page()`` is a second tab of it."""
        context = self.chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme, java_script_enabled=javascript, reduced_motion="reduce")  # type: ignore[arg-type]
        self.contexts.append(context)
        context.on("page", self._watch)
        if javascript:
            context.expose_function("hurt", lambda *given: self.faults.append(f"hurt{given} ran"))
        return context.new_page()

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._hear)
        page.on("dialog", lambda dialog: (self.faults.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._see(page, request))

    def _hear(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text and "/services/hubdock/" in str(message.location.get("url", "")):
            self.faults.append(message.text)

    def _see(self, page: Page, request: Request) -> None:
        host = request.url.partition("://")[2].partition("/")[0]
        if "/services/hubdock/" in page.url and host not in page.url and not request.url.startswith(("data:", "blob:", "about:")):
            self.foreign.append(request.url)

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        assert not self.faults, self.faults
        assert not self.foreign, self.foreign


@pytest.fixture(scope="session")
def server(docker_remote: Server) -> Server:
    return docker_remote


@pytest.fixture(scope="session")
def hub(docker_engine: docker.DockerClient, hub_settings: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub where nobody has been yet."""
    with run_hub(tmp_path_factory.mktemp("hub"), hub_settings) as running:
        yield running
    shutil.rmtree(running.state, ignore_errors=True)


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    return Project(server, tmp_path, "project")


@pytest.fixture
def windows(chromium: Browser) -> Iterator[Windows]:
    """Opens windows of any size, light or dark, with or without JavaScript."""
    made = Windows(chromium)
    yield made
    made.close()


@pytest.fixture
def page(windows: Windows) -> Page:
    """A fresh browser window; any error in a page's own scripts fails the test."""
    return windows.open()


@pytest.fixture
def plain_page(windows: Windows) -> Page:
    """A fresh browser window without JavaScript."""
    return windows.open(javascript=False)


@pytest.fixture
def small_page(windows: Windows) -> Page:
    """A fresh browser window of a telephone's size."""
    return windows.open(SMALL)


def log_in(page: Page, hub: Hub, user: str) -> None:
    page.goto(f"{hub.url}/hub/login")
    page.fill("#username_input", user)
    page.fill("#password_input", PASSWORD)
    page.click("#login_submit")
    page.wait_for_url("**/services/hubdock/")


def take_picture(page: Page, name: str) -> None:
    """Keep a screenshot for the documentation, where HUBDOCK_PICTURES names a directory."""
    directory = os.environ.get("HUBDOCK_PICTURES")
    if directory:
        Path(directory).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(directory) / f"{name}.png"))


def check_axe(page: Page, *without: str, within: str = "html") -> None:
    """Fail with a list if axe-core finds a serious or critical violation on the page as it is now, in what a selector names.

    ``without`` are ids of rules to leave out.

    The debugger runs axe: the page's Content-Security-Policy holds for its own scripts, and stays as strict as it is.
    """
    if not AXE.exists():
        pytest.skip("axe-core is not installed; .ci/node-proxy installs it")
    options = {"resultTypes": ["violations"], "rules": {rule: {"enabled": False} for rule in without}}
    debugger = page.context.new_cdp_session(page)

    def run(script: str) -> Any:
        answer = debugger.send("Runtime.evaluate", {"expression": script, "awaitPromise": True, "returnByValue": True})
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    run(AXE.read_text(encoding="utf-8") + "\n;0")
    found = run(f"axe.run({json.dumps(within)}, {json.dumps(options)}).then((all) => all.violations)")
    debugger.detach()
    serious = [
        f"{rule['impact']} {rule['id']}: {rule['help']}\n    {node['html'][:300]}\n    {' '.join(node.get('failureSummary', '').split())[:400]}"
        for rule in found if rule["impact"] in {"serious", "critical"} for node in rule["nodes"]
    ]  # fmt: skip
    assert not serious, f"{page.url}\n" + "\n".join(serious)


def each_look(page: Page) -> Iterator[str]:
    """Show the page light and dark, on wide and small screens, one look after the other."""
    for size, theme in LOOKS:
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        yield f"{size[0]} {theme}"
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    page.emulate_media(color_scheme="light")


def check_width(page: Page) -> None:
    """Fail if the page is wider than its window, which names what sticks out."""
    wide = page.evaluate(
        """() => {
          const root = document.documentElement;
          if (root.scrollWidth <= root.clientWidth) return [];
          const out = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1);
          return [`${root.scrollWidth} > ${root.clientWidth}`, ...out.slice(0, 5).map((e) => e.outerHTML.slice(0, 200))];
        }"""
    )
    assert not wide, f"{page.url}: {wide}"
