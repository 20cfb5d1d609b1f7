"""The oldest JupyterHub that hubdock supports, in a Python environment of its own: start by REST, form and page, errors, stop."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.hub import Hub
from tests.kit.repos import Project


@pytest.fixture(scope="module")
def old_hub(docker_engine: object, hub_settings: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    python = os.environ.get("HUBDOCK_TEST_OLDEST", str(Path(__file__).parents[2] / ".venv-oldest/bin/python"))
    if not Path(python).exists():
        pytest.skip("no environment with the oldest JupyterHub; `make test` makes .venv-oldest")
    version = subprocess.run([python, "-c", "import jupyterhub; print(jupyterhub.__version__)"], capture_output=True, text=True).stdout.strip()
    assert version.startswith("5.4."), version
    hub = Hub(tmp_path_factory.mktemp("old"), hub_settings, python)
    try:
        yield hub.start()
    finally:
        hub.stop()
        hub.clean()


@pytest.fixture
def plain(project: Project) -> Project:
    project.write_all({"README.md": "plain"}).commit()
    return project


def test_rest(old_hub: Hub, plain: Project) -> None:
    server = old_hub.start_server("alice", "rest", {"repo": plain.url, "ref": "main", "memory": "512M"})
    assert server.run("git status --short && cat README.md") == "plain"
    server.stop()
    wrong = old_hub.api("POST", "users/alice/servers/wrong", {"repo": plain.url, "ref": "mian"})
    assert wrong.status_code == 404 and "Did you mean main?" in wrong.json()["message"]


def test_form(old_hub: Hub, plain: Project) -> None:
    with old_hub.browser("bob") as browser:
        page = browser.get("/hub/spawn")
        wrong = browser.submit(page, "/hub/spawn", repo=plain.url, ref="-x")
        assert "starts with" in wrong.text and plain.url in wrong.text
        browser.submit(wrong, "/hub/spawn", repo=plain.url, ref="main")
        old_hub.wait_ready("bob", "")
        assert plain.url in browser.get("/hub/spawn/bob/other", params={"repo": plain.url, "ref": "main"}).text, "a link only fills the form"
    old_hub.api("DELETE", "users/bob/server")


def test_page(old_hub: Hub, plain: Project) -> None:
    with old_hub.browser("carol") as browser:
        page = browser.submit(browser.landing, "/services/hubdock/", repo=plain.url, ref="main")
        until = time.monotonic() + 60
        while not page.url.path.startswith("/user/carol/") and time.monotonic() < until:
            page = browser.get(str(page.url))
            time.sleep(0.3)
    (name,) = old_hub.api("GET", "users/carol").json()["servers"]
    assert "README.md" in {entry["name"] for entry in old_hub.wait_ready("carol", name).ask("contents").json()["content"]}
    old_hub.stop_server("carol", name)
