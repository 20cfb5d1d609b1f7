"""Workspaces: whose they are, the trash, and what a start opens. The engine's word is given by the tests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hubdock.cli_disk import describe_state
from hubdock.core.errors import AccessDenied, WorkspaceInUse, WorkspaceNotFound
from hubdock.core.repo import RepoURL, parse_repo_url
from hubdock.drivers import disk, git
from hubdock.drivers.git import Remote, RemoteRefs
from hubdock.drivers.stock import Container
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database, WorkspaceRow
from hubdock.engine.usage import HeadRow, Usage
from hubdock.engine.workspaces import Workspaces, make_address
from hubdock.service.disk import describe_row

REPO = parse_repo_url("https://a.org/team/digits")


class Shelf:
    """Workspaces over volumes that are only said to be there."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = HubDock(state_dir=str(directory))
        self.database = Database(self.settings.database_url)
        self.workspaces = Workspaces(self.settings, self.database, Usage(self.database))
        self.volumes: set[str] = set()
        self.containers: list[Container] = []
        monkeypatch.setattr(disk, "list_volumes", lambda prefix: {name: 5.0 for name in self.volumes if name.startswith(prefix)})
        monkeypatch.setattr(disk, "list_containers", lambda: self.containers)
        monkeypatch.setattr(disk, "remove_volume", lambda name: name not in {v for c in self.containers for v in c.volumes} and (self.volumes.discard(name) or True))
        monkeypatch.setattr(disk, "measure_volumes", lambda: {name: len(name) for name in self.volumes})

    def open(self, user: str = "alice", branch: str = "main", ago: float = 3600.0, data: str = "") -> str:
        volume = self.workspaces.find_volume(user, "s", REPO, branch)
        self.database.use_workspace({"volume": volume, "user": user, "server": "s", "repo": REPO.canonical, "branch": branch}, data)
        self.volumes.add(volume)
        self.change(volume, used=time.time() - ago)
        return volume

    def change(self, volume: str, **values: Any) -> None:
        def work(session: Any) -> None:
            for name, value in values.items():
                setattr(session.get(WorkspaceRow, volume), name, value)

        self.database.write(work)

    def run(self, volume: str, state: str = "running") -> None:
        self.containers = [Container("c", state, "sha256:1", {}, (volume,))]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf(tmp_path, monkeypatch)


def test_each_sees_their_own_and_administrators_all(shelf: Shelf) -> None:
    mine, other = shelf.open("alice", ago=50), shelf.open("bob", ago=100)
    shelf.volumes.add("hubdock-work-carol-x")
    assert [w.volume for w in shelf.workspaces.list("alice")] == [mine]
    everybody = shelf.workspaces.list()
    assert [(w.volume, w.known) for w in everybody] == [(mine, True), (other, True), ("hubdock-work-carol-x", False)]
    assert {w.size for w in everybody} == {None}
    shelf.workspaces.measure()
    assert shelf.workspaces.list("bob")[0].size == len(other)
    for change in (shelf.workspaces.delete, shelf.workspaces.restore):
        for volume in (other, "hubdock-work-carol-x", "no such"):
            with pytest.raises(WorkspaceNotFound, match="somebody else's"):
                change(volume, "alice")


def test_the_trash(shelf: Shelf) -> None:
    volume = shelf.open()
    trashed = shelf.workspaces.delete(volume, "alice")
    assert trashed.trashed and trashed.expires == trashed.trashed + 14 * 24 * 3600
    assert shelf.workspaces.delete(volume).trashed == trashed.trashed, "the time does not begin anew"
    assert not shelf.workspaces.destroy(volume) and volume in shelf.volumes
    assert shelf.workspaces.restore(volume, "alice").trashed is None and shelf.open() == volume
    shelf.workspaces.delete(volume)
    shelf.change(volume, trashed=time.time() - 15 * 24 * 3600)
    shelf.run(volume, "exited")
    assert not shelf.workspaces.destroy(volume), "a container has it still"
    shelf.containers = []
    assert shelf.workspaces.destroy(volume) and shelf.volumes == set() and shelf.workspaces.list() == []


def test_a_start_after_deleting_makes_a_new_one(shelf: Shelf) -> None:
    first = shelf.open()
    shelf.workspaces.delete(first)
    second = shelf.open()
    assert second == f"{first}-2"
    with pytest.raises(WorkspaceInUse, match="has a newer workspace"):
        shelf.workspaces.restore(first)
    shelf.workspaces.delete(second)
    assert shelf.open() == f"{first}-3"
    shelf.workspaces.delete(f"{first}-3")
    shelf.workspaces.restore(second)
    assert shelf.open() == second


def test_one_that_is_used_is_not_deleted(shelf: Shelf) -> None:
    volume = shelf.open()
    shelf.run(volume)
    with pytest.raises(WorkspaceInUse, match="A server runs on this workspace"):
        shelf.workspaces.delete(volume)
    shelf.run(volume, "exited")
    assert not shelf.workspaces.list()[0].running
    shelf.change(volume, used=time.time() - 5)
    with pytest.raises(WorkspaceInUse, match="a moment ago"):
        shelf.workspaces.delete(volume)
    assert shelf.workspaces.list()[0].trashed is None


def test_a_volume_that_is_gone_is_said_and_not_restored(shelf: Shelf) -> None:
    volume = shelf.open()
    shelf.workspaces.delete(volume)
    shelf.volumes.clear()
    assert not shelf.workspaces.list()[0].there
    with pytest.raises(WorkspaceNotFound, match="gone"):
        shelf.workspaces.restore(volume)


def test_branches_that_are_not_on_the_remote(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for branch in ("main", "gone", "tag:v1", "tag:v2"):
        shelf.open(branch=branch)
    shelf.database.write(lambda session: [session.merge(HeadRow(repo=REPO.canonical, branch=b, image="", used=0.0, missing=None)) for b in ("main", "gone", "tag:v1", "tag:v2")])
    asked: list[str] = []

    def list_branches(remote: Remote) -> RemoteRefs:
        asked.append(remote.repo.canonical)
        return RemoteRefs(("main",), ("v1",), "main")

    monkeypatch.setattr(git, "list_branches", list_branches)
    shelf.workspaces.look_for_branches(lambda repo: Remote(repo))
    assert asked == [REPO.canonical], "each repository is asked once"
    assert {w.branch: w.on_remote for w in shelf.workspaces.list()} == {"main": True, "gone": False, "tag:v1": True, "tag:v2": False}

    def refuse(repo: RepoURL) -> Remote:
        raise AccessDenied("no")

    shelf.workspaces.look_for_branches(refuse)
    assert sum(w.on_remote is False for w in shelf.workspaces.list()) == 2, "what does not answer changes nothing"


def test_addresses() -> None:
    assert make_address("ssh://a.org:22/x") == "ssh://git@a.org:22/x" and make_address("https://a.org/x") == "https://a.org/x"


def test_what_the_page_says(shelf: Shelf) -> None:
    shelf.open()
    (workspace,) = shelf.workspaces.list()
    row = describe_row(workspace, "alice", {"s"}, "/p/")
    assert (row["said"], row["open"], row["repo"]) == ([], "/p/?repo=https%3A%2F%2Fa.org%2Fteam%2Fdigits&ref=main", "a.org/team/digits")
    assert describe_row(workspace, "alice", set(), "/p/")["said"] == ["its server is gone"]
    assert describe_row(workspace, "alice", None, "/p/")["said"] == []
    stranger = describe_row(workspace, "admin", {"x"}, "/p/")
    assert (stranger["said"], stranger["open"]) == ([], "")
    gone = describe_row(type(workspace)(**{**vars(workspace), "on_remote": False}), "alice", {"s"}, "/p/")
    assert "new_branch=main" in gone["open"] and "not on the remote" in gone["said"][0]
    tag = describe_row(type(workspace)(**{**vars(workspace), "branch": "tag:v1"}), "alice", {"s"}, "/p/")
    assert tag["open"].endswith("&ref=refs%2Ftags%2Fv1")


def test_what_the_command_line_says(shelf: Shelf) -> None:
    volume = shelf.open()
    workspace = shelf.workspaces.delete(volume)
    assert workspace.trashed
    assert describe_state(vars(workspace), workspace.trashed) == "in the trash, for 14 more days"
    assert describe_state(vars(workspace), workspace.trashed + 14 * 86400) == "in the trash, to be removed soon"
    assert describe_state(vars(shelf.workspaces.restore(volume))) == ""
