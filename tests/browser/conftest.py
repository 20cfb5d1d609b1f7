"""Headless Chromium on the hub that the Docker suite uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.docker.conftest import docker_engine, gpus, hub, hub_settings, locked, project, server  # noqa: F401 (the same fixtures)
from tests.kit.hub import PASSWORD, Hub


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A fresh browser window; any error in a page's own scripts fails the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 800})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors, errors


def log_in(page: Page, hub: Hub, user: str) -> None:  # noqa: F811
    page.goto(hub.url)
    page.fill("#username_input", user)
    page.fill("#password_input", PASSWORD)
    page.click("#login_submit")
    page.wait_for_url("**/services/hubdock/")


def take_picture(page: Page, name: str) -> None:
    """Keep a screenshot for the documentation, where HUBDOCK_PICTURES names a directory."""
    directory = os.environ.get("HUBDOCK_PICTURES")
    if directory:
        page.screenshot(path=str(Path(directory) / f"{name}.png"))
