"""The queue as users meet it: who waits is told where, a full queue is a clear 503 that the page turns into waiting, and no start of the hub's waits in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from config.demo.server import Server
from tests.kit.hub import Hub, run_hub
from tests.kit.repos import Project, make_requirements

SLOW = "import time, setuptools\ntime.sleep(300)\nsetuptools.setup(name='slow', version='1')\n"


@pytest.fixture(scope="module")
def narrow(docker_engine: docker.DockerClient, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with one place to build, and room for one to wait."""
    settings = {"allowed_hosts": [server.url], "max_parallel_builds": 1, "max_queued_builds": 1, "cancel_grace": 0.1, "smoke_test": False}
    with run_hub(tmp_path_factory.mktemp("narrow"), {"HubDock": settings, "HubDockSpawner": {"queue_patience": 1.0}}) as running:
        yield running


@pytest.fixture(scope="module")
def projects(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """Three whose environments take for ever, and one that needs none."""
    work, made = tmp_path_factory.mktemp("projects"), {}
    for name in ("first", "second", "third"):
        made[name] = Project(server, work, name)
        made[name].write_all({"requirements.txt": make_requirements("./slow"), "slow/setup.py": SLOW}).commit()
    made["plain"] = Project(server, work, "plain")
    made["plain"].write_all({"README.md": "nothing to install"}).commit()
    return made


def begin(hub: Hub, project: Project, user: str) -> dict[str, Any]:
    answer = hub.service("POST", "builds", {"repo": project.url, "ref": "main"}, token=hub.make_token(user))
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def read(hub: Hub, build: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = hub.service("GET", f"builds/{build['id']}").json()
    return found


def test_who_waits_is_told_and_takes_no_place_from_others(narrow: Hub, projects: dict[str, Project]) -> None:
    """One builds, one waits, a third is refused; a start by REST gives its place among the hub's starts back; what needs no environment just starts."""
    plain = {"repo": projects["plain"].url, "ref": "main"}
    narrow.start_server("erin", "before", plain).stop()
    first = begin(narrow, projects["first"], "alice")
    narrow.wait_for(lambda: "environment" in read(narrow, first)["tasks"], 60, "the first has its place")
    second = begin(narrow, projects["second"], "bob")
    place = narrow.wait_for(lambda: read(narrow, second)["queue"].get("environment"), 30, "the second waits")
    assert place["position"] == 1

    options = {"repo": projects["third"].url, "ref": "main"}
    refused = narrow.service("POST", "builds", options, token=narrow.make_token("carol"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
    assert "What is ready starts at once" in refused.json()["error"]["message"] and refused.headers["Retry-After"]
    with narrow.browser("carol") as browser:
        page = browser.submit(browser.landing, "/services/hubdock/", repo=options["repo"], ref="main")
        assert page.status_code == 503 and 'data-retry="' in page.text and f'value="{options["repo"]}"' in page.text

    waiting = narrow.api("POST", "users/bob/servers/second", {"repo": projects["second"].url, "ref": "main"})
    assert waiting.status_code == 503 and "number 1 in the queue" in waiting.json()["message"], waiting.text
    assert read(narrow, second)["queue"]["environment"]["position"] == 1, "its build goes on waiting"
    narrow.start_server("carol", "plain", plain).stop()

    narrow.service("DELETE", f"builds/{first['id']}", token=narrow.make_token("alice"))
    narrow.wait_for(lambda: "environment" in read(narrow, second)["tasks"], 30, "the second has its turn")
    assert narrow.service("DELETE", f"builds/{second['id']}", token=narrow.make_token("bob")).status_code == 204
    narrow.service("DELETE", f"builds/{second['id']}?server=second", token=narrow.make_token("bob"))
    narrow.wait_for(lambda: read(narrow, second)["finished"], 30, "the second ends when nobody waits for it")


def test_page_waits_for_its_turn(narrow: Hub, projects: dict[str, Project]) -> None:
    """The page shows the place in the queue; a start from it holds none of the hub's."""
    first = begin(narrow, projects["first"], "alice")
    narrow.wait_for(lambda: "environment" in read(narrow, first)["tasks"], 60, "the first has its place")
    with narrow.browser("bob") as browser:
        page = browser.submit(browser.landing, "/services/hubdock/", repo=projects["second"].url, ref="main")
        assert page.status_code == 200 and "/builds/" in str(page.url)
        narrow.wait_for(lambda: "number 1 in the queue" in browser.get(str(page.url)).text, 30, "the page tells the place")
        assert not [server for server in narrow.api("GET", "users/bob?include_stopped_servers").json()["servers"].values() if server["pending"]]
        browser.submit(page, str(page.url))  # Cancel
    narrow.service("DELETE", f"builds/{first['id']}", token=narrow.make_token("alice"))
    narrow.wait_for(lambda: read(narrow, first)["finished"] and not list_unfinished(narrow), 30, "nothing is left")


def list_unfinished(hub: Hub) -> list[Path]:
    """Return the tasks whose worker has not written how it ended."""
    return [path.parent for path in Path(hub.state).glob("tasks/*/*/*/pid") if not (path.parent / "result.json").exists()]
