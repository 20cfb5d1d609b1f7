"""Work in a server: all of git on an attached history, and nothing of the user's ever overwritten."""

from __future__ import annotations

import pytest

from tests.kit.hub import Hub, Server
from tests.kit.repos import Project

NOTE = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@pytest.fixture
def project_with_history(project: Project) -> Project:
    """Three commits, no requirements: the base image as it is."""
    for number in range(3):
        project.write_all({f"file{number}.txt": f"{number}\n", "shared.txt": "".join(f"line {n} of {number}\n" for n in range(20))}).commit(f"commit {number}")
    return project


def start(hub: Hub, project: Project, name: str, user: str = "alice", **options: str) -> Server:
    return hub.start_server(user, name, {"repo": project.url, "ref": "main", **options})


def test_all_of_git_against_older_commits(hub: Hub, project_with_history: Project) -> None:
    """Diff, log, blame, merge and rebase reach contents that the workspace was not seeded with."""
    project = project_with_history
    project.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    project.write_all({"side.txt": "side\n"}).commit("side work")
    server = start(hub, project, "git")
    assert server.run("git log --format=%s") == "commit 2\ncommit 1\ncommit 0"
    assert "-line 0 of 0" in server.run("git diff HEAD~2 -- shared.txt")
    assert server.run("git blame file0.txt | wc -l") == "1"
    assert server.run("git merge-base HEAD origin/side") == server.run("git rev-parse HEAD~1")
    server.run("git merge --no-edit -q origin/side && test -f side.txt")
    assert server.run("git status --short") == ""
    server.run("git checkout -q -b topic HEAD~2 && echo t > topic.txt && git add . && git commit -qm topic && git rebase -q main")
    assert server.run("git log --format=%s -1 && git fsck --connectivity-only 2>&1 | grep -c error || true").startswith("topic")
    server.run("git gc -q && git stash list && git fetch -q && git checkout -q HEAD~3 && git checkout -q main")
    server.run("echo edit >> file1.txt && git stash -q && git stash pop -q && git checkout -q -- file1.txt")
    assert server.run("git status --short") == ""
    server.stop()


def test_diff_and_checkout_ask_nobody(hub: Hub, project_with_history: Project) -> None:
    """The contents of the branch itself are objects soon after the start: `git diff` needs no remote, and no credential."""
    server = start(hub, project_with_history, "offline")
    count = "git cat-file --batch-all-objects --batch-check='%(objecttype)' 2>/dev/null | grep -c blob"
    hub.wait_for(lambda: server.run(count, check=False) == "4", 20, "the contents of HEAD are objects")
    offline = "git -c remote.origin.url=http://127.0.0.1:1/none.git"
    server.run("echo edit >> file1.txt")
    assert "+edit" in server.run(f"{offline} diff")
    server.run(f"{offline} checkout -q -- file1.txt && {offline} status")
    server.stop()


def test_work_survives_stop_and_start(hub: Hub, project_with_history: Project) -> None:
    """Edits, new files, commits and an untracked notebook are there after a stop and a start, also onto a newer commit and a new image."""
    project = project_with_history
    server = start(hub, project, "kept")
    server.run(f"echo edit >> file1.txt; echo new > new.txt; echo '{NOTE}' > scratch.ipynb; git add new.txt; git commit -qm 'my commit'; echo h > ~/.my_setting")
    mine = server.run("git rev-parse HEAD")
    server.stop()
    project.write_all({"upstream.txt": "theirs\n", "apt.txt": "# a new image\n"}).commit("upstream moved")
    server = start(hub, project, "kept")
    assert server.run("git rev-parse HEAD") == mine
    assert server.run("tail -1 file1.txt && cat new.txt && cat ~/.my_setting") == "edit\nnew\nh"
    assert "scratch.ipynb" in server.run("git status --short")
    assert "It was left as it is" in server.run("cat HUBDOCK.md")
    assert "HUBDOCK.md" not in server.run("git status --short")
    assert server.run("git log --format=%s origin/main -1") == "upstream moved"
    assert "left as it is" in server.container.logs().decode()
    server.run("git stash -q -u && git pull -q --rebase && git stash pop -q && test -f upstream.txt")
    server.stop()


@pytest.mark.parametrize(
    ("work", "moves"),
    [
        ("true", True),
        ("echo u > untracked.txt", True),
        ("echo edit >> file1.txt", False),
        ("git commit -q --allow-empty -m mine", False),
        ("git checkout -q -b elsewhere", False),
        ("echo theirs > upstream.txt", False),
    ],
    ids=["clean", "untracked", "dirty", "ahead", "other branch", "in the way"],
)
def test_a_newer_commit(hub: Hub, project_with_history: Project, work: str, moves: bool) -> None:
    """A clean workspace moves forward; anything of the user's leaves it where it is, and says so."""
    project = project_with_history
    server = start(hub, project, "moves", "bob")
    server.run(work)
    before = server.run("git rev-parse HEAD; git status --short; cat untracked.txt upstream.txt 2>/dev/null || true")
    server.stop()
    newest = project.write_all({"upstream.txt": "theirs\n", "file0.txt": "changed\n"}).commit("upstream moved")
    project.git("rm", "--quiet", "file2.txt")
    newest = project.commit("and removed a file")
    server = start(hub, project, "moves", "bob")
    if moves:
        assert server.run("git rev-parse HEAD") == newest
        assert server.run("cat file0.txt; ls file2.txt 2>&1 || true").startswith("changed\nls: cannot access")
        assert server.run("git status --short --untracked-files=no") == ""
        assert server.run("ls HUBDOCK.md 2>/dev/null || echo none") == "none"
    else:
        assert server.run("git rev-parse HEAD; git status --short; cat untracked.txt upstream.txt 2>/dev/null || true") == before
        assert "left as it is" in server.run("cat HUBDOCK.md")
    server.stop()


def test_a_new_hypothesis(hub: Hub, project_with_history: Project) -> None:
    """A name is enough: a local branch at that commit; one push makes it a branch that a colleague starts."""
    project = project_with_history
    server = start(hub, project, "idea", new_branch="ideas/deeper")
    assert server.run("git branch --show-current") == "ideas/deeper"
    assert server.run("git rev-parse HEAD") == project.git("rev-parse", "HEAD")
    server.run("echo deeper > model.txt && git add . && git commit -qm deeper && git push -q")
    assert server.run("git status --branch --short") == "## ideas/deeper...origin/ideas/deeper"
    server.stop()
    again = start(hub, project, "idea", new_branch="ideas/deeper")
    assert again.run("git log --format=%s -1") == "deeper"
    again.stop()
    other = hub.start_server("bob", "idea", {"repo": project.url, "ref": "ideas/deeper"})
    assert other.run("cat model.txt") == "deeper"
    other.stop()
    taken = hub.service("POST", "plan", {"repo": project.url, "ref": "main", "new_branch": "ideas/deeper"})
    assert taken.status_code == 400 and taken.json()["error"]["field"] == "new_branch"


def test_a_tag_is_a_commit_and_an_interrupted_seeding_is_done_again(hub: Hub, project_with_history: Project) -> None:
    project = project_with_history
    project.git("tag", "-a", "v1", "-m", "release")
    project.git("push", "--quiet", "origin", "v1")
    server = hub.start_server("carol", "tag", {"repo": project.url, "ref": "v1"})
    assert server.run("git branch --show-current; git describe --tags") == "v1"
    server.run("rm -rf .git file1.txt; mkdir -p .git/hubdock; touch .git/hubdock/seeding")
    server.stop()
    server = hub.start_server("carol", "tag", {"repo": project.url, "ref": "v1"})
    assert server.run("cat file1.txt; git status --short; ls -a | grep -c seeding || true") == "1\n0"
    server.stop()


def test_home_is_the_users_own_across_hypotheses(hub: Hub, project_with_history: Project) -> None:
    project = project_with_history
    one, two = start(hub, project, "home-one"), start(hub, project, "home-two", new_branch="two")
    one.run("git config --global alias.st status && echo 'c.x = 1' > ~/.jupyter-setting")
    assert two.run("git config alias.st; cat ~/.jupyter-setting") == "status\nc.x = 1"
    assert start(hub, project, "home-one", "erin").run("cat ~/.jupyter-setting 2>/dev/null || echo none") == "none"
    for user, name in (("alice", "home-one"), ("alice", "home-two"), ("erin", "home-one")):
        hub.stop_server(user, name)
