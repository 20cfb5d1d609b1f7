"""The workspace: what is made of an image's code and a pack of history, and what is left alone of a user's work."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubdock.guest import data, gitdir
from tests.unit.conftest import Repository

MD5 = "a" * 32


class Server:
    """One user's server on one branch, started again and again as the remote moves."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.monkeypatch = path, monkeypatch
        self.remote, self.work = Repository(path / "remote"), path / "work"
        self.work.mkdir()
        for name, module in (("data", data), ("gitdir", gitdir)):
            monkeypatch.setitem(sys.modules, name, module)
        self.workspace = importlib.import_module("hubdock.guest.workspace")
        self.said: list[str] = []
        monkeypatch.setattr(self.workspace, "say", self.said.append)
        monkeypatch.setattr(self.workspace, "run_later", lambda *_: None)
        monkeypatch.setattr(self.workspace, "CODE", str(path / "code"))
        monkeypatch.setattr(gitdir, "RUN", str(path / "run"))
        monkeypatch.setattr(data, "STORE", f"{path}/store/")

    def prepare(self, key: str = "", **more: Any) -> None:
        """Start on what the remote's branch is at now. ``key`` names the data."""
        commit = self.remote.git("rev-parse", "HEAD").decode().strip()
        self.remote.git("checkout-index", "--all", "--force", f"--prefix={self.path}/code/")
        (self.path / "run").mkdir(exist_ok=True)
        (self.path / "run" / "history.pack").write_bytes(self.remote.git("pack-objects", "--quiet", "--revs", "--filter=blob:none", "--stdout", stdin=b"HEAD\n"))
        self.remote.git("index-pack", str(self.path / "run" / "history.pack"))
        (self.path / "run" / "refs").write_text(f"{commit} refs/heads/main\n")
        store = self.path / "store" / key
        mounts = {path.name: str(path) for path in (self.path / "store").glob("*")} if key else {}
        if key and not store.exists():
            store.mkdir(parents=True)
            (store / "manifest.json").write_text(json.dumps({"outs": [{"path": "d", "oid": f"{MD5}.dir", "hash_name": "md5", "files": [["sub/x", "aa/x", False]]}]}))
            mounts[key] = str(store)
        found = {"current": key, "mounts": mounts} if key else None
        values = {"workspace": str(self.work), "url": "https://a.org/x", "commit": commit, "ref": "main", "branch": "main", "dvc_roots": ["."] if key else [], "data": found}
        assert self.workspace.prepare({**values, **more}) == 0

    def git(self, *arguments: str) -> str:
        return Repository(self.work, new=False).git("-c", "safe.directory=*", *arguments).decode().strip()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(tmp_path, monkeypatch)


def test_a_new_workspace_is_clean(server: Server) -> None:
    server.remote.commit({"README.md": "one", "sub/tool": "x"})
    server.prepare()
    assert (server.git("status", "--short"), server.git("branch", "--show-current")) == ("", "main")
    assert sorted(os.listdir(server.work / ".git" / "hubdock")) == ["state.json"]


def test_no_file_of_a_repository_means_that_seeding_was_interrupted(server: Server) -> None:
    server.remote.commit({".hubdock-seeding": "", "hubdock/seeding": "", "x": "1"})
    server.prepare()
    (server.work / "mine.txt").write_text("work")
    server.prepare()
    assert (server.work / "mine.txt").read_text() == "work" and server.git("status", "--short") == "?? mine.txt"


def test_an_interrupted_seeding_is_done_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.remote.commit({"README.md": "one", "sub/tool": "x"})
    make = gitdir.make

    def die(*_: Any) -> None:
        make(*_)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(gitdir, "make", die)
        with pytest.raises(KeyboardInterrupt):
            server.prepare()
    (server.work / "README.md").unlink()
    (server.work / "half").write_text("")
    server.prepare()
    assert server.git("status", "--short") == "" and (server.work / "README.md").read_text() == "one" and not (server.work / "half").exists()
    assert not (server.work / ".git/hubdock/seeding").exists()


def test_a_file_of_the_repository_named_like_the_notice_stays(server: Server) -> None:
    server.remote.commit({"HUBDOCK.md": "# How we use hubdock\n", "x": "1"})
    server.prepare()
    server.prepare()
    assert server.git("status", "--short") == ""
    (server.work / "x").write_text("mine")
    server.remote.commit({"x": "2"})
    server.prepare()
    assert server.git("status", "--short") == "M x" and "files are changed here" in " ".join(server.said)


def test_the_notice_goes_when_there_is_nothing_to_say(server: Server) -> None:
    server.remote.commit({"x": "1"})
    server.prepare()
    (server.work / "x").write_text("mine")
    server.remote.commit({"x": "2"})
    server.prepare()
    assert "files are changed here" in (server.work / "HUBDOCK.md").read_text() and server.git("status", "--short") == "M x"
    (server.work / "x").write_text("1")
    server.prepare()
    assert not (server.work / "HUBDOCK.md").exists() and (server.work / "x").read_text() == "2"


def read_link(server: Server) -> str:
    return os.path.relpath(os.readlink(server.work / "d/sub/x"), server.path / "store")


def test_data_is_that_of_the_commit_that_the_workspace_is_on(server: Server) -> None:
    """A new hypothesis, and a branch with commits of its own, keep theirs when the branch on the remote gets other data."""
    server.remote.commit({"d.dvc": "1", ".gitignore": "/d\n/.dvc\n"})
    server.prepare("one", new_branch=True, branch="try-1")
    assert read_link(server) == "one/aa/x" and server.git("status", "--short") == ""
    server.remote.commit({"d.dvc": "2"})
    server.prepare("two", new_branch=True, branch="try-1")
    assert read_link(server) == "one/aa/x" and (server.work / "d.dvc").read_text() == "1"


def test_a_clean_workspace_gets_the_newer_data(server: Server) -> None:
    server.remote.commit({"d.dvc": "1", ".gitignore": "/d\n/.dvc\n"})
    server.prepare("one")
    server.remote.commit({"d.dvc": "2"})
    server.prepare("two")
    assert read_link(server) == "two/aa/x" and (server.work / "d.dvc").read_text() == "2"


def test_a_new_workspace_is_not_made_without_its_data(server: Server) -> None:
    """The store lost what it had: the start fails, and says what to do; the next one makes the workspace whole."""
    server.remote.commit({"d.dvc": "1", ".gitignore": "/d\n/.dvc\n"})
    (server.path / "store/one").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"The data is not in the store.*start it again"):
        server.prepare("one")
    (server.path / "store/one").rmdir()
    server.prepare("one")
    assert read_link(server) == "one/aa/x" and server.git("status", "--short") == ""


def test_a_workspace_with_work_opens_without_its_data_and_says_so(server: Server) -> None:
    """The next start links it, if it is there again."""
    server.remote.commit({"d.dvc": "1", ".gitignore": "/d\n/.dvc\n/HUBDOCK.md\n"})
    server.prepare("one")
    server.remote.commit({"d.dvc": "2"})
    (server.path / "store/two").mkdir()
    server.prepare("two")
    assert "The data is not in the store" in (server.work / "HUBDOCK.md").read_text() and "The data is not in the store" in " ".join(server.said)
    assert read_link(server) == "one/aa/x" and json.loads((server.work / ".git/hubdock/state.json").read_text())["data"] == "one"
    (server.path / "store/two").rmdir()
    server.prepare("two")
    assert read_link(server) == "two/aa/x" and not (server.work / "HUBDOCK.md").exists()


def test_data_of_an_older_commit_may_be_gone(server: Server) -> None:
    server.remote.commit({"d.dvc": "1", ".gitignore": "/d\n/.dvc\n"})
    server.prepare("one")
    (server.path / "store/one/manifest.json").unlink()
    server.remote.commit({"d.dvc": "2"})
    server.prepare("two")
    assert read_link(server) == "two/aa/x" and not (server.work / "HUBDOCK.md").exists()


def test_moving_forward_asks_nobody_for_what_git_reads_on_its_way(server: Server) -> None:
    """git takes .gitignore and .gitattributes from its objects. Without them it ended half-way, with files of both commits."""
    rules = {"sub/.gitignore": "*.o\n", ".gitattributes": "*.txt text\n", "sub/.gitattributes": "x -text\n"}
    server.remote.commit({".gitignore": "/d\n", "x": "1", "sub/x": "1", **rules})
    server.prepare()
    server.remote.commit({".gitignore": "/d\n/e\n", "x": "2", "sub/x": "2", "sub/.gitattributes": "x text\n", "new/.gitattributes": "y text\n", "new/y": ""})
    server.prepare()
    assert server.git("status", "--short") == "" and (server.work / "sub/x").read_text() == "2"


@pytest.mark.parametrize("spoil", ["rm -r d && echo mine > d", "rm -r d && ln -s /nowhere d", "rm -r .dvc && echo mine > .dvc", "chmod a-w ."])
def test_a_server_starts_whatever_its_user_did_to_the_data(server: Server, spoil: str) -> None:
    """Only inside can they mend it."""
    server.remote.commit({"d.dvc": "1", ".gitignore": "/d\n/.dvc\n"})
    server.prepare("one")
    subprocess.run(["sh", "-c", spoil], cwd=server.work, check=True)
    before = sorted(os.listdir(server.work))
    server.prepare("two")
    assert sorted(os.listdir(server.work)) == before
    subprocess.run(["chmod", "u+w", str(server.work)], check=True)


def test_a_disk_that_is_full_stops_no_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.remote.commit({"x": "1"})
    server.prepare()
    server.remote.commit({"x": "2"})

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gitdir, "add_pack", fail)
    server.prepare()
    assert (server.work / "x").read_text() == "1" and "No space left on device" in " ".join(server.said)


@pytest.mark.parametrize("name", ["exp #1, a", "it's", "plain", 'quo"te', "per%(cent"])
def test_a_project_s_name_is_no_configuration(tmp_path: Path, name: str) -> None:
    from configobj import ConfigObj

    data.configure(str(tmp_path), [name])
    read = ConfigObj(str(tmp_path / name / ".dvc" / "config.local"))
    assert read["cache"].dict() == {"dir": "cache", "type": "symlink"}
    assert read["core"].get("site_cache_dir") in {None, f"{tmp_path}/{name}/.dvc/tmp/site"}
    assert ("site_cache_dir" in read["core"]) == (name not in {'quo"te', "per%(cent"})
