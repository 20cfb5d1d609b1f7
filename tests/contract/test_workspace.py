"""Work in a server, the same on Docker and on Kubernetes: all of git on an attached history, and nothing of the user's ever overwritten."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.hub import Hub
from tests.kit.repos import HOSTILE, Project, make_hostile, make_requirements
from tests.kit.terminal import run_in_terminal

NOTE = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
SETTINGS = "env: {GREETING: 'it is $HOME \"quoted\" $(HOME)'}\ncopy: [{from: conf, to: ~/.myconf}, {from: conf/a.txt, to: /srv/a.txt}]\n"
CGROUP = """
if [ -f /sys/fs/cgroup/memory.max ]; then cat /sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/cpu.max
else cat /sys/fs/cgroup/memory/memory.limit_in_bytes; echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us) $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us); fi
df --block-size=1 --output=size /dev/shm | tail -1
"""


@pytest.fixture
def history(project: Project) -> Project:
    """Three commits, no requirements: the base image as it is."""
    for number in range(3):
        project.write_all({f"file{number}.txt": f"{number}\n", "shared.txt": "".join(f"line {n} of {number}\n" for n in range(20))}).commit(f"commit {number}")
    return project


def want(project: Project, **options: str) -> dict[str, Any]:
    return {"repo": project.url, "ref": "main", **options}


def test_two_hypotheses_at_once(hub: Hub, project: Project) -> None:
    """Two servers of one user: code, data, packages, settings and git are each branch's own; what is committed there is pushed as the user's."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "train.py": "print('main')\n", ".hubdock.yml": SETTINGS, "conf/a.txt": "A", "conf/b/c.txt": "C"})
    project.track_directory("images", {f"{n}.txt": f"image {n}" for n in range(20)}).commit("first")
    project.git("checkout", "--quiet", "-b", "vgg19")
    project.write_all({"train.py": "print('vgg19')\n"}).commit("a deeper network")
    servers = hub.start_all(*(("alice", f"two-{branch}", want(project, ref=branch)) for branch in ("main", "vgg19")))
    assert len({server.workspace for server in servers}) == 1, "each has one of its own at the same path"
    for server, branch in zip(servers, ("main", "vgg19"), strict=True):
        assert {"images", "train.py", "requirements.txt"} <= {entry["name"] for entry in server.ask("contents").json()["content"]}
        assert len(server.ask("contents/images").json()["content"]) == 20
        assert server.run("git status --porcelain=v1 --branch") == f"## {branch}...origin/{branch}"
        assert server.run("cat images/7.txt && python train.py") == f"image 7{branch}"
        assert server.run("python -c 'import tabulate, jupyterlab; print(tabulate.__version__)'") == "0.9.0"
    assert server.run("dvc status") == "Data and pipelines are up to date."
    assert server.run("echo $GREETING; cat /srv/a.txt ~/.myconf/b/c.txt") == 'it is $HOME "quoted" $(HOME)\nAC'
    shown = run_in_terminal(server, "pwd; git config user.name; which dvc; id -u; git status --short; echo all-$((1+1))", until="all-2")
    assert server.workspace in shown and "alice" in shown and "/dvc" in shown and "1000" in shown, "a terminal is in the workspace, knows who commits, and finds dvc"
    server.run("echo more >> train.py && git commit -qam 'from the server' && git push -q")
    assert project.git("ls-remote", project.url, "refs/heads/vgg19").split()[0] == server.run("git rev-parse HEAD")
    project.git("fetch", "--quiet")
    assert project.git("log", "-1", "--format=%an: %s", "origin/vgg19") == "alice: from the server"
    assert servers[0].run("tail -1 train.py; git log -1 --format=%s") == "print('main')\nfirst"
    hub.stop_all(*servers)


def test_all_of_git_against_older_commits(hub: Hub, history: Project) -> None:
    """Diff, log, blame, merge and rebase reach contents that the workspace was not seeded with. Those of the branch itself are objects soon after the start:
    `git diff` needs no remote for them, and no credential."""
    project = history
    project.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    project.write_all({"side.txt": "side\n"}).commit("side work")
    server = hub.start_server("alice", "git", want(project))
    count = "git cat-file --batch-all-objects --batch-check='%(objecttype)' 2>/dev/null | grep -c blob"
    hub.wait_for(lambda: server.run(count, check=False) == "4", 20, "the contents of HEAD are objects")
    offline = "git -c remote.origin.url=http://127.0.0.1:1/none.git"
    assert "+edit" in server.run(f"echo edit >> file1.txt; {offline} diff; {offline} checkout -q -- file1.txt && {offline} status")
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


WORK = {
    "untracked": "echo u > untracked.txt", "dirty": f"echo edit >> file1.txt; echo '{NOTE}' > scratch.ipynb; echo h > ~/.my_setting",
    "ahead": "echo new > new.txt && git add . && git commit -qm mine", "elsewhere": "git checkout -q -b elsewhere", "in-the-way": "echo mine > upstream.txt",
}  # fmt: skip


def test_work_survives_a_newer_commit(hub: Hub, history: Project) -> None:
    """Servers of one user on one branch, stopped, and started on a newer commit and its new image: each has the work that was done in it. A clean workspace moves
    forward; anything of the user's leaves it where it is, and that is said."""
    show = "git rev-parse HEAD; git branch --show-current; git status --short; cat *.txt; ls -A; git log -1 --format=%an"
    wanted = [("bob", f"moves-{name}", want(history)) for name in WORK]
    servers = hub.start_all(*wanted)
    for server, work in zip(servers, WORK.values(), strict=True):
        server.run(work)
    before = [server.run(show) for server in servers]
    hub.stop_all(*servers)
    history.write_all({"upstream.txt": "theirs\n", "file0.txt": "changed\n"}).commit("upstream moved")
    history.git("rm", "--quiet", "file2.txt")
    newest = history.commit("and removed a file")
    moved, *left = hub.start_all(*wanted)
    found = moved.run("git rev-parse HEAD; cat file0.txt untracked.txt; ls file2.txt HUBDOCK.md 2>/dev/null; git status --short")
    assert found == f"{newest}\nchanged\nu\n?? untracked.txt"
    for server, was in zip(left, before[1:], strict=True):
        assert server.run(show).replace("HUBDOCK.md\n", "") == was, server.name
        assert "It was left as it is" in server.run("cat HUBDOCK.md"), server.name
    dirty = left[0]
    assert "left as it is" in dirty.log
    assert dirty.run("cat ~/.my_setting; git log --format=%s origin/main -1") == "h\nand removed a file"
    dirty.run("git stash -q -u && git pull -q --rebase && git stash pop -q && test -f upstream.txt -a -f scratch.ipynb")
    hub.stop_all(*servers)


def test_a_new_hypothesis(hub: Hub, history: Project) -> None:
    """A name is enough: a local branch at that commit; one push makes it a branch that a colleague starts."""
    server = hub.start_server("alice", "idea", want(history, new_branch="ideas/deeper"))
    assert server.run("git branch --show-current") == "ideas/deeper"
    assert server.run("git rev-parse HEAD") == history.git("rev-parse", "HEAD")
    server.run("echo deeper > model.txt && git add . && git commit -qm deeper && git push -q")
    assert server.run("git status --branch --short") == "## ideas/deeper...origin/ideas/deeper"
    server.stop()
    again, other = hub.start_all(("alice", "idea", want(history, new_branch="ideas/deeper")), ("bob", "idea", want(history, ref="ideas/deeper")))
    assert again.run("git log --format=%s -1") == "deeper"
    assert other.run("cat model.txt") == "deeper"
    hub.stop_all(again, other)
    taken = hub.service("POST", "plan", want(history, new_branch="ideas/deeper"))
    assert taken.status_code == 400 and taken.json()["error"]["field"] == "new_branch"


def test_a_tag_is_a_commit_and_an_interrupted_seeding_is_done_again(hub: Hub, history: Project) -> None:
    history.git("tag", "-a", "v1", "-m", "release")
    history.git("push", "--quiet", "origin", "v1")
    server = hub.start_server("carol", "tag", want(history, ref="v1"))
    assert server.run("git branch --show-current; git describe --tags") == "v1"
    server.run("rm -rf .git file1.txt; mkdir -p .git/hubdock; touch .git/hubdock/seeding")
    server.stop()
    server = hub.start_server("carol", "tag", want(history, ref="v1"))
    assert server.run("cat file1.txt; git status --short; ls -a | grep -c seeding || true") == "1\n0"
    server.stop()


def test_strange_names_and_limits(hub: Hub, project: Project) -> None:
    """Files and a branch whose names are full of what shells, templates and clusters make something of; and a server with limits of its own beside one without."""
    make_hostile(project)
    branch = "try-$(HOME)-{username}-$$-é"
    limited = want(project, cpu="1.5", memory="1G", shm="128M")
    server, plain = hub.start_all(("dave", "strange", {**limited, "new_branch": branch}), ("erin", "strange", want(project)))
    assert server.run("git status --porcelain=v1; git symbolic-ref --short HEAD") == branch
    assert server.run('printf %s "$HUBDOCK_BRANCH"') == branch
    listed = server.run("git ls-files -z | tr '\\0\\n' '\\n?' | cat -vT; ./run.sh; cat dirlink/Dockerfile; readlink absolute up broken")
    assert set(listed.splitlines()) >= {name.replace("\n", "?").replace("\t", "^I") for name in HOSTILE if name.isascii()} | {"raw-M-^?.txt", "ran", "FROM scratch", "/etc/hostname", "../outside", "nowhere"}
    memory, cpu, shm = server.run(CGROUP).splitlines()
    assert int(memory) == 1024**3 and cpu.split() == ["150000", "100000"] and int(shm) == 128 * 1024**2
    assert server.run("echo $MEM_LIMIT $CPU_LIMIT; grep NoNewPrivs /proc/1/status").split() == [str(1024**3), "1.5", "NoNewPrivs:", "1"]
    memory, cpu, _ = plain.run(CGROUP).splitlines()
    assert (int(memory), cpu.split()[0]) == (2 * 1024**3, "200000"), "who asks for nothing gets the admin's"
    hub.stop_all(server, plain)
