"""A repository that only some may read: what others find out about it, which is nothing, however ready its image is."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.demo.server import Server as Remote
from tests.kit.hub import Hub
from tests.kit.repos import Project


@pytest.fixture
def hidden(locked: Remote, tmp_path: Path) -> Project:
    project = Project(locked, tmp_path, "hidden", push_as="team:only-for-tests")
    project.write_all({"README.md": "for carol and the vision people"}).commit()
    return project


def test_who_may_read_it_is_asked_anew_each_time(hub: Hub, hidden: Project) -> None:
    """Carol starts it. Dave, by API, page and REST, gets the answer of a repository that is not there; so too for her build. As one of her group he hits her image."""
    options = {"repo": hidden.url, "ref": "main"}
    carol, dave = hub.make_token("carol"), hub.make_token("dave")
    server = hub.start_server("carol", "hidden", options)
    assert "README.md" in {entry["name"] for entry in server.ask("contents").json()["content"]}
    build = hub.service("POST", "builds", options, token=carol).json()
    assert build["phase"] == "ready"

    nothing = {"repo": f"{hidden.url.rpartition('/')[0]}/nothing.git", "ref": "main"}
    for path in ("plan", "builds"):
        answers = [hub.service("POST", path, body, token=dave) for body in (options, nothing)]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.json()["error"]["message"].replace(hidden.remote_name, "nothing") for answer in answers}) == 1
    assert hub.service("GET", f"branches?repo={hidden.url}", token=dave).status_code == 404
    assert [hub.service("GET", f"builds/{build['id']}{rest}", token=dave).status_code for rest in ("", "/log", "/events")] == [404, 404, 404]
    refused = hub.api("POST", "users/dave/servers/hidden", options)
    assert refused.status_code == 404 and "or you may not read it" in refused.text

    assert hub.api("POST", "groups/vision").status_code == 201
    assert hub.api("POST", "groups/vision/users", {"users": ["dave"]}).status_code == 200
    joined = hub.service("POST", "plan", options, token=hub.make_token("dave"))  # a new token: the hub's word on an old one is believed for five minutes
    assert joined.json()["ready"] is True, joined.text
    started = hub.start_server("dave", "hidden", options)
    assert "README.md" in {entry["name"] for entry in started.ask("contents").json()["content"]}
    started.stop()
    server.stop()
    hub.api("DELETE", "groups/vision")


def test_the_restart_of_a_server_is_asked_too(hub: Hub, hidden: Project) -> None:
    """What was opened to a group is closed to its former members at their next start; the image that is there helps them nothing."""
    options = {"repo": hidden.url, "ref": "main"}
    hub.api("POST", "groups/vision")
    hub.api("POST", "groups/vision/users", {"users": ["dave"]})
    hub.start_server("dave", "closing", options).stop()
    hub.api("DELETE", "groups/vision")
    refused = hub.api("POST", "users/dave/servers/closing", options)
    assert refused.status_code == 404 and "or you may not read it" in refused.text
