"""DVC in a server: everything a team does with it, and a shared store that nobody can change."""

from __future__ import annotations

import hashlib

import pytest

from config.demo.server import Server as Remote
from tests.kit.hub import Hub, Server
from tests.kit.repos import Project

STORE = "cd /store && find . -type f -printf '%p %m ' -exec md5sum {} \\; | sort"


@pytest.fixture
def tracked(project: Project) -> Project:
    """A directory, a file, and on the branch ``other`` more of both."""
    project.init_dvc()
    project.add_data("images", {f"{n}.txt": f"image {n}" for n in range(30)} | {"deep/er/x.txt": "x", "run.sh": "#!/bin/sh\necho ran\n"})
    project.write_all({"model.bin": b"\0" * 1000})
    project.dvc("add", "--quiet", "model.bin")
    project.dvc("push", "--quiet")
    project.commit("data")
    project.git("checkout", "--quiet", "-b", "other")
    project.add_data("images", {"only-other.txt": "other"}).commit("more data")
    project.git("checkout", "--quiet", "main")
    return project


def read_store(hub: Hub) -> str:
    """Return every path, mode and hash of the shared store."""
    volume = f"{hub.prefix}-data"
    text = hub.engine.containers.run(hub.settings["HubDock"]["base_image"], ["bash", "-c", STORE], entrypoint=[], remove=True, volumes={volume: {"bind": "/store", "mode": "ro"}})
    return hashlib.sha256(text).hexdigest()


def start(hub: Hub, project: Project, name: str, ref: str = "main") -> Server:
    return hub.start_server("alice", name, {"repo": project.url, "ref": ref})


def test_everything_dvc_does(hub: Hub, tracked: Project) -> None:
    server = start(hub, tracked, "dvc")
    before = read_store(hub)
    assert server.run("dvc status") == "Data and pipelines are up to date."
    assert server.run("dvc status --cloud 2>&1 | tail -1") == "Cache and remote 'storage' are in sync."
    assert server.run("cat images/3.txt images/deep/er/x.txt && ls images | wc -l") == "image 3x32"
    # add and push
    server.run("echo mine > mine.txt && dvc add -q mine.txt && git add . && git commit -qm mine && dvc push -q && git push -q")
    # change one tracked file, revert it
    server.run("dvc unprotect images/3.txt && echo changed > images/3.txt && dvc status | grep -q modified")
    server.run("dvc checkout -q --force images.dvc")
    assert server.run("cat images/3.txt; dvc status") == "image 3Data and pipelines are up to date."
    # change for good
    server.run("rm images/4.txt && echo four > images/4.txt && dvc add -q images && git commit -qam 'four' && dvc push -q")
    assert server.run("dvc status; cat images/4.txt") == "Data and pipelines are up to date.\nfour"
    # another branch, and back
    server.run("git checkout -q other && dvc pull -q && test -f images/only-other.txt && git checkout -q main && dvc checkout -q")
    assert server.run("cat images/4.txt; ls images/only-other.txt 2>/dev/null || echo none") == "four\nnone"
    # gc keeps what the workspace uses
    server.run("dvc gc -q -w -f && dvc checkout -q && dvc status | grep -q 'up to date'")
    assert server.run("cat images/3.txt") == "image 3"
    # nobody writes through a link
    assert "Read-only file system" in server.run("echo broken > images/5.txt 2>&1 || true")
    assert "Read-only file system" in server.run("chmod u+w images/5.txt 2>&1 || true")
    assert read_store(hub) == before
    server.stop()
    tracked.git("pull", "--quiet", "origin", "main")
    tracked.dvc("pull", "--quiet")
    assert (tracked.path / "mine.txt").read_text() == "mine\n"


def test_status_reads_almost_nothing(hub: Hub, tracked: Project) -> None:
    """The first `dvc status` hashes no linked file: their hashes were told to DVC while Jupyter booted."""
    server = start(hub, tracked, "quick")
    hub.wait_for(lambda: server.run("ls .dvc/tmp/site 2>/dev/null | wc -l", check=False) != "0" and "later.py" not in server.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), 20, "told")
    counting = (
        "import dvc_data.hashfile.hash as h, dvc.cli, sys\ncalls=[]\nold=h.fobj_md5\n"
        "def new(*a, **k):\n    calls.append(1)\n    return old(*a, **k)\n"
        "h.fobj_md5=new\ncode=dvc.cli.main(['status','-q'])\nprint(len(calls), code)"
    )
    calls, code = server.run(f'/opt/dvc/bin/python - <<"EOF"\n{counting}\nEOF').split()
    assert code == "0" and int(calls) <= 1, f"{calls} files were hashed"
    server.stop()


def test_second_user_fetches_nothing(hub: Hub, tracked: Project, server: Remote) -> None:
    start(hub, tracked, "first").stop()
    server.requests.clear()
    second = hub.start_server("bob", "second", {"repo": tracked.url, "ref": "main"})
    assert not [path for _, path in server.requests if path.startswith("/dvc/")]
    assert second.run("dvc status") == "Data and pipelines are up to date."
    second.stop()


def test_an_emptied_view_is_mended_by_the_next_start(hub: Hub, tracked: Project, server: Remote) -> None:
    """Whoever emptied it: the start fetches it anew, without a download, and a server that runs on it has its data again."""
    first = start(hub, tracked, "runs")
    server.requests.clear()
    hub.engine.containers.run(
        hub.settings["HubDock"]["base_image"], ["bash", "-c", "rm -r /store/views/*/*"], entrypoint=[], user="0", remove=True, volumes={f"{hub.prefix}-data": {"bind": "/store"}}
    )
    assert first.run("cat images/3.txt", check=False) != "image 3"
    second = hub.start_server("bob", "anew", {"repo": tracked.url, "ref": "main"})
    assert not [path for _, path in server.requests if path.startswith("/dvc/")]
    for each in (first, second):
        assert each.run("cat images/3.txt; dvc status") == "image 3Data and pipelines are up to date."
        each.stop()


def test_moved_data_moves_clean_workspaces_and_keeps_others(hub: Hub, tracked: Project) -> None:
    """A clean workspace gets the newer data; one with work keeps the data that its own .dvc files name."""
    clean, busy = start(hub, tracked, "clean"), hub.start_server("bob", "busy", {"repo": tracked.url, "ref": "main"})
    busy.run("echo note > note.txt && git add note.txt && git commit -qm mine")
    for each in (clean, busy):
        each.stop()
    (tracked.path / "images/0.txt").unlink()
    tracked.add_data("images", {"1.txt": "newer 1", "added.txt": "added"}).commit("newer data")
    clean, busy = start(hub, tracked, "clean"), hub.start_server("bob", "busy", {"repo": tracked.url, "ref": "main"})
    assert clean.run("cat images/1.txt images/added.txt; ls images/0.txt 2>/dev/null || echo gone; dvc status") == "newer 1addedgone\nData and pipelines are up to date."
    assert busy.run("cat images/1.txt images/0.txt; ls images/added.txt 2>/dev/null || echo none; dvc status") == "image 1image 0none\nData and pipelines are up to date."
    for each in (clean, busy):
        each.stop()


def test_missing_file_is_named(hub: Hub, tracked: Project, server: Remote) -> None:
    """A file that was never pushed: the failing start names it; afterwards nothing half-fetched is a hit."""
    tracked.write_all({"images/lost.txt": "never pushed"})
    tracked.dvc("add", "--quiet", "images")
    tracked.commit("forgot dvc push")
    answer = hub.service("POST", "builds", {"repo": tracked.url, "ref": "main"}).json()
    build = hub.wait_for(lambda: (b := hub.service("GET", f"builds/{answer['id']}").json())["phase"] in {"failed", "ready"} and b, 60, "the build ends")
    assert build["phase"] == "failed" and build["error"]["code"] == "data_not_found"
    assert "dvc push" in build["error"]["message"] and build["error"]["file"] == "images.dvc"
    plan = hub.service("POST", "plan", {"repo": tracked.url, "ref": "main"}).json()
    assert next(part for part in plan["parts"] if part["name"] == "data")["state"] == "build"
    tracked.dvc("push", "--quiet")
    done = start(hub, tracked, "found")
    assert done.run("cat images/lost.txt") == "never pushed"
    done.stop()
