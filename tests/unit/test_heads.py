"""The newest commits of all branches, from a real git HTTP server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from config.demo.server import Server, make_repository
from hubdock.core.errors import RefNotFound
from hubdock.core.repo import parse_repo_url
from hubdock.drivers.git import Remote, list_branches
from hubdock.drivers.heads import Heads, Tip
from tests.unit.conftest import Repository

NEW_YEAR = 1_767_225_600


@pytest.fixture
def work(server: Server, tmp_path: Path) -> Repository:
    """Three branches with one file each, of three people."""
    bare = make_repository(server.root, "x")
    work = Repository(tmp_path / "work")
    for day, (name, author) in enumerate({"main": "Ada", "vgg19": "Grace", "try/\u2028odd": "<b>Eve</b>"}.items()):
        if name != "main":
            work.git("checkout", "--quiet", "-b", name)
        work.commit({"name.txt": name}, f"work on {name}\n\nmore", author, f"{NEW_YEAR + 86400 * day} +0000")
    work.git("push", "--quiet", str(bare), "--all")
    return work


@pytest.fixture
def heads(server: Server, work: Repository, tmp_path: Path) -> Heads:
    return Heads(tmp_path / "state", Remote(parse_repo_url(f"{server.url}/git/x.git"), timeout=10.0, trusted=True), 64 * 1024**2)


def count_fetches(server: Server) -> int:
    """Return the packs that were asked for; a fetch asks for the refs before, with the same path."""
    return sum(path.endswith("/git-upload-pack") for _, path in server.requests) // 2


def test_one_fetch_tells_of_every_branch(heads: Heads, server: Server) -> None:
    refs = list_branches(heads.remote)
    assert sorted(refs.heads) == ["main", "try/\u2028odd", "vgg19"] and refs.default == "main"
    assert heads.read_tips(refs.heads.values()) == {}
    server.requests.clear()
    heads.fetch_tips(refs.heads["main"])
    assert count_fetches(server) == 1
    tips = heads.read_tips([*refs.heads.values(), "1" * 40])
    assert tips[refs.heads["vgg19"]] == Tip(refs.heads["vgg19"], "Grace", NEW_YEAR + 86400, NEW_YEAR + 86400, "work on vgg19")
    assert tips[refs.heads["try/\u2028odd"]].author == "bEve/b"  # git itself drops the signs
    assert len(tips) == 3 and count_fetches(server) == 1


def test_the_trees_of_several_branches_come_in_one_fetch(heads: Heads, server: Server) -> None:
    refs = list_branches(heads.remote)
    server.requests.clear()
    assert heads.ensure_commits(refs.heads) == set(refs.heads.values())
    assert count_fetches(server) == 1
    assert [heads.read_tree(commit).find("name.txt") is not None for commit in refs.heads.values()] == [True] * 3
    assert heads.ensure_commits(refs.heads) == set(refs.heads.values()) and count_fetches(server) == 1


def test_a_branch_below_the_name_of_one_that_is_gone(heads: Heads, server: Server, work: Repository) -> None:
    """git can't hold “vgg19” and “vgg19/more” at once."""
    before = list_branches(heads.remote)
    heads.fetch_tips(before.heads["main"])
    heads.ensure_commits(before.heads)
    bare = server.root / "git" / "x.git"
    work.git("push", "--quiet", str(bare), ":refs/heads/vgg19")
    work.commit({"more.txt": "1"}, "more")
    work.git("push", "--quiet", str(bare), "HEAD:refs/heads/vgg19/more")
    after = list_branches(heads.remote)
    heads.fetch_tips(after.heads["main"])
    assert heads.read_tips([after.heads["vgg19/more"]])[after.heads["vgg19/more"]].subject == "more"
    assert after.heads["vgg19/more"] in heads.ensure_commits(after.heads)


def test_a_branch_that_is_gone_meanwhile(heads: Heads, server: Server) -> None:
    refs = list_branches(heads.remote)
    subprocess.run(["git", "-C", str(server.root / "git" / "x.git"), "branch", "-D", "vgg19"], check=True, capture_output=True)
    with pytest.raises(RefNotFound):
        heads.ensure_commits(refs.heads)
    assert heads.ensure_commits(list_branches(heads.remote).heads)
