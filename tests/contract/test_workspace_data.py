"""DVC in a server, the same on Docker and on Kubernetes: everything a team does with it, and a shared store that nobody can change."""

from __future__ import annotations

from typing import Any

import pytest

from config.demo.server import Server as Remote
from tests.kit.hub import Hub, Server
from tests.kit.repos import Project

STORE = "find /hubdock/data -type f -printf '%p %m ' -exec md5sum {} \\; | sort"
IMAGES = {f"{n}.txt": f"image {n}" for n in range(30)} | {"deep/er/x.txt": "x", "run.sh": "#!/bin/sh\necho ran\n"}

# In one process: DVC is imported once, which takes seconds.
EVERYTHING = """
import contextlib, io, subprocess
from pathlib import Path
from dvc.cli import main

def dvc(words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(words.split()) == 0, words
    return said.getvalue().strip()

def git(words):
    subprocess.run(["git", *words.split()], check=True)

images, clean = Path("images"), "Data and pipelines are up to date."
# add and push
Path("mine.txt").write_text("mine\\n")
dvc("add -q mine.txt")
git("add .")
git("commit -qm mine")
dvc("push -q")
git("push -q")
assert (said := dvc("status --cloud")).splitlines()[-1:] == ["Cache and remote 'storage' are in sync."], said
# change one tracked file, revert it
dvc("unprotect images/3.txt")
(images / "3.txt").write_text("changed")
assert "modified" in (said := dvc("status")), said
dvc("checkout -q --force images.dvc")
assert (images / "3.txt").read_text() == "image 3" and (said := dvc("status")) == clean, said
# change for good
(images / "4.txt").unlink()
(images / "4.txt").write_text("four\\n")
dvc("add -q images")
git("commit -qam four")
dvc("push -q")
assert (said := dvc("status")) == clean and (images / "4.txt").read_text() == "four\\n", said
# another branch, and back
git("checkout -q other")
dvc("pull -q")
assert (images / "only-other.txt").exists()
git("checkout -q main")
dvc("checkout -q")
assert (images / "4.txt").read_text() == "four\\n" and not (images / "only-other.txt").exists()
# gc keeps what the workspace uses
dvc("gc -q -w -f")
dvc("checkout -q")
assert "up to date" in (said := dvc("status")) and (images / "3.txt").read_text() == "image 3", said
"""


@pytest.fixture
def tracked(project: Project) -> Project:
    """A directory and a file, and on the branch ``other`` more of the first."""
    project.track_directory("images", IMAGES).track("model.bin", "0" * 1000).commit("data")
    project.git("checkout", "--quiet", "-b", "other")
    project.track_directory("images", {**IMAGES, "only-other.txt": "other"}).commit("more data")
    project.git("checkout", "--quiet", "main")
    return project


def want(project: Project) -> dict[str, Any]:
    return {"repo": project.url, "ref": "main"}


def test_everything_dvc_does(hub: Hub, tracked: Project) -> None:
    server = hub.start_server("alice", "dvc", want(tracked))
    before = server.run(STORE)
    assert before.count("/hubdock/data/") == 2 * len(IMAGES) + 2 * 3, "the files, the list of the directory, model.bin, and what the data is made of"
    check_status(hub, server)
    assert server.run("git status --short; cat images/3.txt images/deep/er/x.txt && ls images | wc -l") == "image 3x32"
    server.run(f"/opt/dvc/bin/python - <<'EOF'\n{EVERYTHING}\nEOF")
    assert tracked.find_object("mine\n").read_text() == "mine\n" and tracked.find_object("four\n").exists()
    # nobody writes through a link
    assert "Read-only file system" in server.run("echo broken > images/5.txt 2>&1 || true")
    assert "Read-only file system" in server.run("chmod u+w images/5.txt 2>&1 || true")
    assert server.run(STORE) == before
    server.stop()


def check_status(hub: Hub, server: Server) -> None:
    """The first `dvc status` hashes no linked file: their hashes were told to DVC while Jupyter booted."""
    told = "ls .dvc/tmp/site 2>/dev/null | wc -l; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '[l]ater.py'"
    hub.wait_for(lambda: server.run(told, check=False).split()[0] != "0" and server.run(told, check=False).split()[1] == "0", 20, "told")
    counting = (
        "import dvc_data.hashfile.hash as h, dvc.cli, sys\ncalls=[]\nold=h.fobj_md5\n"
        "def new(*a, **k):\n    calls.append(1)\n    return old(*a, **k)\n"
        "h.fobj_md5=new\ncode=dvc.cli.main(['status'])\nprint(len(calls), code)"
    )
    said, _, numbers = server.run(f'/opt/dvc/bin/python - <<"EOF"\n{counting}\nEOF').rpartition("\n")
    calls, code = numbers.split()
    assert said == "Data and pipelines are up to date." and code == "0" and int(calls) <= 1, f"{calls} files were hashed"


def test_moved_data_moves_clean_workspaces_and_keeps_others(hub: Hub, tracked: Project, remote: Remote) -> None:
    """A clean workspace gets the newer data; one with work keeps the data that its own .dvc files name. What was fetched for one user is there for the next."""
    clean = hub.start_server("alice", "clean", want(tracked))
    remote.requests.clear()
    busy = hub.start_server("bob", "busy", want(tracked))
    assert not [path for _, path in remote.requests if path.startswith("/dvc/")]
    busy.run("echo note > note.txt && git add note.txt && git commit -qm mine")
    hub.stop_all(clean, busy)
    newer = {**IMAGES, "1.txt": "newer 1", "added.txt": "added"}
    del newer["0.txt"]
    tracked.track_directory("images", newer).commit("newer data")
    clean, busy = hub.start_all(("alice", "clean", want(tracked)), ("bob", "busy", want(tracked)))
    assert clean.run("cat images/1.txt images/added.txt; ls images/0.txt 2>/dev/null || echo gone; dvc status") == "newer 1addedgone\nData and pipelines are up to date."
    assert busy.run("cat images/1.txt images/0.txt; ls images/added.txt 2>/dev/null || echo none; dvc status") == "image 1image 0none\nData and pipelines are up to date."
    hub.stop_all(clean, busy)


def test_missing_file_is_named(hub: Hub, tracked: Project) -> None:
    """A file that was never pushed: the failing build names it; afterwards nothing half-fetched is a hit."""
    tracked.track_directory("images", {**IMAGES, "lost.txt": "never pushed"}).commit("forgot dvc push")
    tracked.find_object("never pushed").unlink()
    answer = hub.service("POST", "builds", want(tracked)).json()
    build = hub.wait_for(lambda: (b := hub.service("GET", f"builds/{answer['id']}").json())["phase"] in {"failed", "ready"} and b, 60, "the build ends")
    assert build["phase"] == "failed" and build["error"]["code"] == "data_not_found"
    assert "dvc push" in build["error"]["message"] and build["error"]["file"] == "images.dvc"
    plan = hub.service("POST", "plan", want(tracked)).json()
    assert next(part for part in plan["parts"] if part["name"] == "data")["state"] == "build"
    tracked.push_object("never pushed")
    done = hub.start_server("alice", "found", want(tracked))
    assert done.run("cat images/lost.txt") == "never pushed"
    done.stop()
