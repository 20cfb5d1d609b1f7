"""What somebody sees on the board: real repositories on a git server, one of which only a team may read."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.demo.server import Server, make_repository
from hubdock.core.asker import Asker
from hubdock.core.board import Row, Runs, Wanted
from hubdock.core.errors import AccessDenied, RepoUnreachable
from hubdock.core.repo import RepoURL, parse_repo_url
from hubdock.engine.board import find_makers, find_repositories
from hubdock.engine.config import HubDock
from hubdock.engine.database import BuildRow
from hubdock.engine.engine import Engine
from hubdock.service import boards
from hubdock.service.boards import Boards, View
from hubdock.service.servers import RunningServer
from tests.kit.remotes import MoodyServer
from tests.unit.conftest import Repository, serve

ALICE, BOB = Asker("alice"), Asker("bob", frozenset({"others"}))
PASSWORD = "team:only-for-tests"
EVERYTHING = Wanted()


class FakeServers:
    """Stands for what the hub says."""

    def __init__(self) -> None:
        self.running: list[RunningServer] = []

    async def find(self) -> list[RunningServer]:
        return self.running


class Team:
    """An open and a locked git server, and the boards of a hub whose credential for the second is Alice's alone."""

    def __init__(self, root: Path) -> None:
        self.open = serve(MoodyServer(root / "open", "127.0.0.1"))
        self.locked = serve(Server(root / "locked", password=PASSWORD))
        secret = root / "secret"
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD.partition(":")[2])
        credential = {"origin": self.locked.url, "username": "team", "password_file": str(secret), "users": ["alice"]}
        self.settings = HubDock(state_dir=str(root / "state"), allowed_hosts=[self.open.url, self.locked.url], git_credentials=[credential], base_image="base:1")
        self.root = root
        self.servers = FakeServers()
        self.engine = Engine(self.settings)
        self.boards = Boards(self.engine, self.servers)  # type: ignore[arg-type]

    def make(self, server: Server, name: str, branches: dict[str, dict[str, str]]) -> RepoURL:
        """Make a repository with these files on each branch, and return its address."""
        bare = make_repository(server.root, name)
        work = Repository(self.root / f"work-{name}")
        for number, (branch, files) in enumerate(branches.items()):
            work.git("checkout", "--quiet", "-B", branch)
            work.commit(files, f"work on {branch}", when=f"{1_767_225_600 + number * 86400} +0000")
        work.git("push", "--quiet", str(bare), "--all")
        return parse_repo_url(f"{server.url}/git/{name}.git")

    def started(self, repo: RepoURL, user: str, **options: str) -> None:
        """Remember that somebody started something of a repository."""
        row = {"finished": None, "status": "ready", "ref": "main", "commit": "", "image": "", "tasks": "{}", "error": "", "asker": "{}"}
        values = {"repo": repo.url, "ref": "main", **options}
        self.engine.database.write_build(
            BuildRow(id=f"{time.time_ns()}", created=time.time(), repo=repo.canonical, options=json.dumps(values), users=json.dumps([[user, "s"]]), **row)
        )

    async def look(self, asker: Asker, wanted: Wanted = EVERYTHING, only: RepoURL | None = None) -> View:
        """Return a board once everything on it was read."""
        for _ in range(20):
            view = await self.boards.look(asker, wanted, only)
            if not view.waiting:
                break
        return view


@pytest.fixture
async def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    monkeypatch.setattr(boards, "ASK", 2.0)
    made = Team(tmp_path)
    yield made
    await made.engine.close()
    made.open.please()
    made.open.shutdown()
    made.locked.shutdown()


def branches(view: View) -> list[str]:
    return [f"{row.repo.rpartition('/')[2]} {row.branch}" for row in view.page.rows]


def row_of(view: View, branch: str) -> Row:
    return next(row for row in view.page.rows if row.branch == branch)


DIGITS = {
    "main": {"requirements.txt": "numpy==1.26\n", "metrics.json": '{"accuracy": 0.9}'},
    "vgg19": {"metrics.json": '{"accuracy": 0.95, "loss": 0.1}'},
    "torch": {"requirements.txt": "torch==2.9\n", "metrics.json": '{"accuracy": 0.97}'},
}


async def test_everything_about_three_branches(team: Team) -> None:
    repo = team.make(team.open, "digits", DIGITS)
    team.started(repo, "alice")
    team.started(repo, "bob", new_branch="torch")
    team.servers.running = [RunningServer("bob", "s1", repo.canonical, "vgg19", "/user/bob/s1/", True, False, "")]
    view = await team.look(ALICE)
    assert branches(view) == ["digits torch", "digits vgg19", "digits main"]
    main, vgg, torch = (row_of(view, name) for name in ("main", "vgg19", "torch"))
    assert (vgg.subject, vgg.author, vgg.time) == ("work on vgg19", "Ada", 1_767_225_600 + 86400)
    assert main.default and not vgg.default and torch.makers == ("bob",) and vgg.servers == (Runs("bob", "s1", "/user/bob/s1/"),)
    assert main.shared == ((repo.canonical, "vgg19"),) and torch.shared == ()
    assert [dict(row.metrics)["accuracy"] for row in (main, vgg, torch)] == [0.9, 0.95, 0.97]


async def test_a_known_repository_costs_one_question(team: Team) -> None:
    repo = team.make(team.open, "digits", {f"branch-{n}": {"requirements.txt": f"numpy==1.{n % 3}\n", "n.txt": str(n)} for n in range(40)})
    await team.look(ALICE, only=repo)
    team.boards.readable.forget(ALICE)
    team.open.requests.clear()
    began = time.monotonic()
    view = await team.boards.look(ALICE, Wanted(), repo)
    assert time.monotonic() - began < 1 and view.waiting == 0 and view.page.total == 40
    assert [path.rpartition("/")[2] for _, path in team.open.requests] == ["refs", "git-upload-pack"]  # one ls-remote
    assert len(row_of(view, "branch-1").shared) == 12


async def test_an_unknown_repository_costs_a_few_fetches(team: Team) -> None:
    repo = team.make(team.open, "digits", {f"branch-{n}": {"requirements.txt": f"numpy==1.{n}\n", "metrics.json": f'{{"n": {n}}}'} for n in range(30)})
    await team.look(ALICE, only=repo)
    assert sum(method == "GET" for method, _ in team.open.requests) <= 6


async def test_who_may_not_read_a_repository_sees_no_trace_of_it(team: Team) -> None:
    """Its branches, environments and servers are nobody else's business, and asking for it is like asking for one that is not there."""
    secret = team.make(team.locked, "secret", DIGITS)
    digits = team.make(team.open, "digits", DIGITS)
    for user in ("alice", "bob"):
        team.started(secret, user)
        team.started(digits, user)
    team.servers.running = [RunningServer("alice", "s1", secret.canonical, "main", "/user/alice/s1/", True, False, "")]
    seen = await team.look(ALICE)
    assert len(seen.repositories) == 2 and len(row_of(seen, "main").shared) == 3
    view = await team.look(BOB)
    assert "secret" not in str(view) and team.locked.url not in str(view)
    assert branches(view) == ["digits torch", "digits vgg19", "digits main"]
    assert row_of(view, "main").shared == ((digits.canonical, "vgg19"),)
    answers = []
    for name in ("secret", "nothing"):
        with pytest.raises(AccessDenied) as caught:
            await team.boards.look(BOB, Wanted(), parse_repo_url(f"{team.locked.url}/git/{name}.git"))
        answers.append(str(caught.value).replace(name, "x"))
    assert answers[0] == answers[1]


async def test_the_catalogue_is_shown_as_far_as_each_may_read_it(team: Team) -> None:
    secret, digits = team.make(team.locked, "secret", DIGITS), team.make(team.open, "digits", {"main": {"a": "b"}})
    nothing = f"{team.open.url}/git/nothing"
    team.settings.catalogue = [secret.url, {"url": digits.url, "title": "Handwritten digits"}, nothing]
    view = await team.look(BOB)
    assert [(known.repo, known.title) for known in view.repositories] == [(digits, "Handwritten digits")] and branches(view) == ["digits main"]
    assert "secret" not in str(view) and "nothing" not in str(view)
    assert [known.repo for known in (await team.look(ALICE)).repositories] == [secret, digits]


async def test_a_repository_that_can_not_be_reached_is_named_only_to_its_readers(team: Team) -> None:
    repo, other = team.make(team.open, "digits", DIGITS), team.make(team.open, "faces", {"main": {"a": "b"}})
    for user in ("alice", "bob"):
        team.started(repo, user)
        team.started(other, user)
    await team.look(ALICE)
    team.boards.readable.forget(ALICE)
    team.open.moods["/git/digits"] = "502"
    view = await team.look(ALICE)
    assert branches(view) == ["faces main"]
    assert [(known.repo.name, bool(known.message)) for known in view.repositories] == [("faces", False), ("digits", True)]
    assert "digits" not in str(await team.look(BOB))
    with pytest.raises(RepoUnreachable):
        await team.boards.look(ALICE, Wanted(), repo)


async def test_a_remote_that_hangs_keeps_nobody(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "ASK", 0.5)
    repo, other = team.make(team.open, "digits", DIGITS), team.make(team.open, "faces", {"main": {"a": "b"}})
    for asked in (repo, other):
        team.started(asked, "alice")
    team.open.moods["/git/digits"] = "silent"
    began = time.monotonic()
    view = await team.boards.look(ALICE, Wanted())
    assert time.monotonic() - began < 3 and branches(view) == ["faces main"]
    team.open.please()


async def test_a_repository_that_was_taken_from_somebody_is_gone(team: Team) -> None:
    secret = team.make(team.locked, "secret", DIGITS)
    team.started(secret, "alice")
    assert len((await team.look(ALICE)).repositories) == 1
    team.settings.git_credentials = []
    team.boards.readable.forget(ALICE)
    view = await team.look(ALICE)
    assert view.repositories == () and view.page.total == 0


async def test_a_broken_requirements_file_is_told_and_hides_nothing_else(team: Team) -> None:
    repo = team.make(team.open, "digits", {"main": {"requirements.txt": "numpy\n"}, "broken": {"requirements.txt": "-r ../../etc/passwd\n"}})
    view = await team.look(ALICE, only=repo)
    assert "requirements.txt" in row_of(view, "broken").problem and row_of(view, "broken").subject == "work on broken"
    assert row_of(view, "main").problem == "" and row_of(view, "main").environment


async def test_records(team: Team) -> None:
    repo = team.make(team.open, "digits", DIGITS)
    odd = 'a%"_\u00fc'
    team.started(repo, odd, new_branch="try")
    team.started(repo, "bob", new_branch="try")
    assert find_repositories(team.engine.database, odd) == [repo.url]
    assert find_repositories(team.engine.database, "a%") == [] == find_repositories(team.engine.database, "bo")
    assert find_makers(team.engine.database, [repo.canonical]) == {(repo.canonical, "try"): (odd, "bob")}
