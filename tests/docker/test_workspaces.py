"""Workspaces on a real hub: listed, deleted, restored; kept when their server or branch is gone."""

from __future__ import annotations

import re
import sqlite3
import time
from typing import Any

import pytest

from hubdock.core.naming import make_server_name
from hubdock.core.repo import parse_repo_url
from tests.docker.test_service import check
from tests.kit.cli import CLI
from tests.kit.hub import Hub, Server
from tests.kit.repos import Project

PAGE = "/services/hubdock/workspaces"


@pytest.fixture
def project(project: Project) -> Project:
    project.write_all({"README.md": "plain"}).commit()
    return project


def start(hub: Hub, project: Project, user: str = "alice", **options: str) -> Server:
    given = {"repo": project.url, "ref": "main", **options}
    return hub.start_server(user, make_server_name(parse_repo_url(project.url), given.get("new_branch", given["ref"])), given)


def find(hub: Hub, project: Project, token: str = "") -> list[dict[str, Any]]:
    """Return the workspaces of a project, by the API's own description."""
    found: Any = check(hub, "/api/workspaces", "get", hub.service("GET", "workspaces", token=token))["workspaces"]
    return [workspace for workspace in found if project.remote_name in workspace["repo"]]


def age(hub: Hub, volume: str) -> None:
    """A minute has passed since the workspace was opened."""
    with sqlite3.connect(hub.state / "hubdock.sqlite", timeout=30) as connection:
        connection.execute("UPDATE workspaces SET used = used - 120 WHERE volume = ?", (volume,))


def test_delete_and_restore_on_the_page(hub: Hub, project: Project) -> None:
    server = start(hub, project)
    server.run("echo mine > work.txt")
    (workspace,) = find(hub, project, hub.make_token("alice"))
    volume = workspace["volume"]
    assert (workspace["user"], workspace["branch"], workspace["running"], workspace["there"], workspace["on_remote"]) == ("alice", "main", True, True, True)
    assert workspace["trashed"] is None
    hub.wait_for(lambda: find(hub, project)[0]["size"], 60, "it is measured")
    refused = hub.service("DELETE", f"workspaces/{volume}", token=hub.make_token("alice"))
    assert refused.status_code == 409 and "Stop the server first" in refused.json()["error"]["message"]
    with hub.browser("alice") as browser:
        assert 'href="/services/hubdock/workspaces"' in browser.landing.text
        page = browser.get(PAGE)
        assert volume not in page.text.replace(f'value="{volume}"', "") or "a server runs on it" in page.text
        assert "a server runs on it" in page.text and f"Delete the workspace {volume}" not in page.text
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text), "no inline script or style"
        server.stop()
        age(hub, volume)
        page = browser.get(PAGE)
        assert f"Delete the workspace {volume}" in page.text
        assert browser.client.post(PAGE, data={"volume": volume, "action": "delete"}).status_code == 403, "another site's form"
        page = browser.submit(page, PAGE, volume=volume, action="delete")
        assert page.status_code == 200 and "is in the trash" in page.text and f"Restore the workspace {volume}" in page.text
        assert browser.submit(page, PAGE, volume=volume, action="burn").status_code == 400
        page = browser.submit(page, PAGE, volume=volume, action="restore")
        assert "is restored" in page.text and f"Delete the workspace {volume}" in page.text
    assert start(hub, project).run("cat work.txt") == "mine"


def test_each_their_own(hub: Hub, project: Project) -> None:
    server = start(hub, project)
    server.stop()
    alice, bob = hub.make_token("alice"), hub.make_token("bob")
    (workspace,) = find(hub, project, alice)
    volume = workspace["volume"]
    age(hub, volume)
    assert find(hub, project, bob) == [] and [w["volume"] for w in find(hub, project)] == [volume], "administrators see all"
    for method, path in (("DELETE", f"workspaces/{volume}"), ("POST", f"workspaces/{volume}/restore")):
        answer = hub.service(method, path, token=bob)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "workspace_not_found"
    with hub.browser("bob") as browser:
        page = browser.get(PAGE)
        assert volume not in page.text
        page = browser.submit(page if 'name="_xsrf"' in page.text else browser.landing, PAGE, volume=volume, action="delete")
        assert page.status_code == 404 and "somebody else" in page.text
    trashed = check(hub, "/api/workspaces/{id}", "delete", hub.service("DELETE", f"workspaces/{volume}", token=alice))
    assert trashed["trashed"]
    restored = check(hub, "/api/workspaces/{id}/restore", "post", hub.service("POST", f"workspaces/{volume}/restore", token=alice))
    assert restored["trashed"] is None


def test_a_start_after_deleting_is_a_fresh_one(hub: Hub, project: Project) -> None:
    server = start(hub, project)
    server.run("echo old > work.txt")
    server.stop()
    alice = hub.make_token("alice")
    (old,) = find(hub, project, alice)
    age(hub, old["volume"])
    hub.service("DELETE", f"workspaces/{old['volume']}", token=alice)
    server = start(hub, project)
    assert server.run("ls work.txt", check=False).startswith("ls:") and server.run("git status --porcelain") == ""
    answer = hub.service("POST", f"workspaces/{old['volume']}/restore", token=alice)
    assert answer.status_code == 409 and "newer workspace" in answer.json()["error"]["message"]
    server.stop()
    assert len(find(hub, project, alice)) == 2


def test_neither_server_nor_branch_takes_it_along(hub: Hub, project: Project) -> None:
    """A new branch is worked on; its server is deleted in the hub, its branch was never pushed. It is listed, and opened again."""
    server = start(hub, project, new_branch="idea")
    server.run("git commit --allow-empty -m kept && echo more > work.txt")
    (workspace,) = find(hub, project)
    assert workspace["branch"] == "idea" and workspace["on_remote"] is False
    assert hub.api("DELETE", f"users/alice/servers/{server.name}", {"remove": True}).status_code in {202, 204}
    hub.wait_for(lambda: not hub.read_server("alice", server.name), 30, "the server is deleted")
    hub.wait_for(lambda: not find(hub, project)[0]["running"], 30, "its container is gone")
    with hub.browser("alice") as browser:
        text = browser.get(PAGE).text
        row = next(part for part in text.split("<tr>") if workspace["volume"] in part)
        assert "its server is gone" in row and "never pushed, or deleted there" in row
        link = re.search(r'href="([^"]*new_branch=idea[^"]*)"', row)
        assert link
        form = browser.get(link[1].replace("&amp;", "&"))
        assert 'value="idea"' in form.text and project.url.removesuffix(".git") in form.text
    again = start(hub, project, new_branch="idea")
    assert again.run("cat work.txt && git log -1 --format=%s") == "more\nkept"
    assert [w["volume"] for w in find(hub, project)] == [workspace["volume"]]


def test_the_command_line(hub: Hub, project: Project) -> None:
    server = start(hub, project, "bob")
    cli = CLI(hub.state / "config.json", hub.engine, hub.prefix)
    volume = next(w for w in cli.read("workspaces") if project.remote_name in w["repo"])["volume"]
    assert "a server runs on it" in cli("workspaces", "list").stdout
    refused = cli("workspaces", "delete", volume)
    assert refused.returncode == 2 and "Stop the server first" in refused.stderr
    server.stop()
    age(hub, volume)
    assert "is in the trash" in cli("workspaces", "delete", volume).stdout
    time.sleep(0.01)
    assert "in the trash, for" in cli("workspaces").stdout
    assert cli.read("workspaces", "restore", volume)[0]["trashed"] is None
    for wrong in (["delete"], ["list", volume], ["burn", volume], ["delete", "hubdock-work-nobody"]):
        assert cli("workspaces", *wrong).returncode == 2, wrong


def test_home_is_the_users_own_across_hypotheses(hub: Hub, project: Project) -> None:
    options = {"repo": project.url, "ref": "main"}
    one, two, other = hub.start_all(("alice", "home-one", options), ("alice", "home-two", {**options, "new_branch": "two"}), ("erin", "home-one", options))
    one.run("git config --global alias.st status && echo 'c.x = 1' > ~/.jupyter-setting")
    assert two.run("git config alias.st; cat ~/.jupyter-setting") == "status\nc.x = 1"
    assert other.run("cat ~/.jupyter-setting 2>/dev/null || echo none") == "none"
    hub.stop_all(one, two, other)
