"""The programs that run in a server: links to the data, and what DVC is told of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubdock.guest import data, later, start

FILE, TREE, OLD = "a" * 32, "b" * 32 + ".dir", "c" * 32


def view(oid: str) -> str:
    return f"{oid[:2]}/{oid[2:]}"


@pytest.fixture
def mount(tmp_path: Path) -> str:
    """A data key as the store has it. It was fetched for a commit with one project; the manifest of an older store says so."""
    outs = [
        {"path": "top", "root": ".", "oid": FILE, "hash_name": "md5", "files": [["", view(FILE), False]]},
        {"path": "a/tree", "root": ".", "oid": TREE, "hash_name": "md5", "files": [["x/y", view(FILE), False]]},
        {"path": "a/b/old", "root": ".", "oid": OLD, "hash_name": "md5-dos2unix", "files": [["", f"l/{view(OLD)}", False]]},
        {"path": "ab", "root": ".", "oid": FILE, "hash_name": "md5", "files": [["", view(FILE), False]]},
    ]
    mount = tmp_path / "store"
    mount.mkdir()
    (mount / "manifest.json").write_text(json.dumps({"outs": outs}))
    return str(mount)


def make_document(mount: str, roots: list[str]) -> dict[str, Any]:
    return {"dvc_roots": roots, "data": {"current": "k", "mounts": {"k": mount}}}


def find_links(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): os.readlink(path) for path in place.rglob("*") if path.is_symlink()}


@pytest.mark.parametrize(
    ("roots", "caches"),
    [
        (["."], {".": [FILE, TREE, OLD]}),
        ([".", "a"], {".": [FILE], "a": [FILE, TREE, OLD]}),
        ([".", "a", "a/b"], {".": [FILE], "a": [FILE, TREE], "a/b": [OLD]}),
    ],
)
def test_an_output_is_in_the_cache_of_the_project_around_it(tmp_path: Path, mount: str, roots: list[str], caches: dict[str, list[str]]) -> None:
    """The same data with other projects is the same data key: what a manifest says of projects may be another commit's."""
    workspace = tmp_path / "work"
    data.link(str(workspace), make_document(mount, roots), None)
    places = {OLD: (view(OLD), f"l/{view(OLD)}")}
    for root, oids in caches.items():
        wanted = {place: f"{mount}/{target}" for place, target in (places.get(oid, (f"files/md5/{view(oid)}", view(oid))) for oid in oids)}
        assert find_links(workspace / root / ".dvc" / "cache") == wanted
        assert "type = symlink" in (workspace / root / ".dvc" / "config.local").read_text()
    linked = {path: target for path, target in find_links(workspace).items() if ".dvc/" not in path}
    assert linked == {"top": f"{mount}/{view(FILE)}", "a/tree/x/y": f"{mount}/{view(FILE)}", "a/b/old": f"{mount}/l/{view(OLD)}", "ab": f"{mount}/{view(FILE)}"}


def test_each_project_learns_the_hashes_of_its_own(tmp_path: Path, mount: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, document = str(tmp_path / "work"), make_document(mount, [".", "a"])
    data.link(workspace, document, None)
    os.unlink(f"{workspace}/ab")
    Path(f"{workspace}/ab").write_text("the user's own")
    monkeypatch.setitem(sys.modules, "data", data)
    assert later.find_hashes(workspace, document) == {
        ".": [[f"{workspace}/top", "md5", FILE]],
        "a": [[f"{workspace}/a/tree/x/y", "md5", FILE], [f"{workspace}/a/b/old", "md5-dos2unix", OLD]],
    }


# --- data that is part of the image ---


class Baked:
    """A workspace that is opened again and again, with data in images and in the store."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.work = path, path / "work"
        monkeypatch.setattr(data, "STORE", f"{path}/store/")

    def start(self, key: str, files: dict[str, str], baked: bool = True) -> dict[str, Any]:
        """Open the workspace with data under a key, mounted nowhere else but in this start."""
        shutil.rmtree(self.path / "store", ignore_errors=True)
        mount = self.path / "store" / key
        outs = [{"path": "d", "oid": hashlib.md5(key.encode()).hexdigest() + ".dir", "hash_name": "md5", "files": []}]
        for name, content in files.items():
            oid = hashlib.md5(content.encode()).hexdigest()
            outs[0]["files"].append([name, view(oid), False])  # type: ignore[attr-defined]
            (mount / oid[:2]).mkdir(parents=True, exist_ok=True)
            (mount / view(oid)).write_text(content)
        listed = mount / view(str(outs[0]["oid"]))
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("[]")
        (mount / "manifest.json").write_text(json.dumps({"outs": outs}))
        document = make_document(str(mount), ["."])
        document["data"]["baked"] = baked
        data.link(str(self.work), document, None)
        return document

    @property
    def files(self) -> dict[str, str]:
        """What one reads in the workspace; fails at a link that leads nowhere."""
        return {str(path.relative_to(self.work / "d")): path.read_text() for path in (self.work / "d").rglob("*") if path.is_symlink() or path.is_file()}

    @property
    def dangling(self) -> list[Path]:
        return [path for path in self.work.rglob("*") if path.is_symlink() and not path.exists()]


@pytest.fixture
def baked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Baked:
    return Baked(tmp_path, monkeypatch)


def test_a_workspace_outlives_the_image_that_brought_its_data(baked: Baked, monkeypatch: pytest.MonkeyPatch) -> None:
    document = baked.start("one", {"a": "first", "sub/b": "kept", "old": "old"})
    shutil.rmtree(baked.path / "store/one/" / view(hashlib.md5(b"kept").hexdigest())[:2])
    assert baked.files == {"a": "first", "sub/b": "kept", "old": "old"}
    cache = baked.work / ".dvc/cache/files/md5"
    assert not [path for path in cache.rglob("*") if path.is_symlink()] and {path.stat().st_mode & 0o777 for path in cache.rglob("*") if path.is_file()} == {0o444}
    assert {os.readlink(path) for path in (baked.work / "d").rglob("*") if path.is_symlink()} <= {str(path) for path in cache.rglob("*")}
    monkeypatch.setitem(sys.modules, "data", data)
    (hashed,) = later.find_hashes(str(baked.work), document).values()
    assert len(hashed) == 3 and hashed[0] == [f"{baked.work}/d/a", "md5", hashlib.md5(b"first").hexdigest()]
    baked.start("two", {"a": "second", "sub/b": "kept"})
    assert baked.files == {"a": "second", "sub/b": "kept"} and baked.dangling == []


def test_an_object_is_copied_once(baked: Baked) -> None:
    baked.start("one", {"a": "first"})
    place = baked.work / ".dvc/cache/files/md5" / view(hashlib.md5(b"first").hexdigest())
    before = place.stat().st_ino
    baked.start("two", {"a": "first", "b": "second"})
    assert place.stat().st_ino == before


def test_links_that_the_user_made_into_the_same_cache_stay(baked: Baked) -> None:
    """``dvc add`` makes links of the same form; and what a user put in the place of ours is theirs."""
    baked.start("one", {"a": "first", "b": "second", "c": "third"})
    mine = baked.work / ".dvc/cache/files/md5/aa/mine"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    (baked.work / "d/mine").symlink_to(mine)
    (baked.work / "d/b").unlink()
    (baked.work / "d/b").write_text("changed")
    (baked.work / "d/c").unlink()
    (baked.work / "d/c").symlink_to(mine)
    baked.start("two", {"a": "newer"})
    assert baked.files == {"a": "newer", "mine": "mine", "b": "changed", "c": "mine"}


@pytest.mark.parametrize("key", ["one", "two"])
def test_a_workspace_changes_between_the_store_and_images(baked: Baked, key: str) -> None:
    first, second = {"a": "first", "old": "old"}, {"a": "first"} if key == "two" else {"a": "first", "old": "old"}
    baked.start("one", first, baked=False)
    baked.start(key, second)
    assert baked.files == second and baked.dangling == []
    assert not [path for path in baked.work.rglob("*") if path.is_symlink() and os.readlink(path).startswith(str(baked.path / "store"))]
    baked.start("one", first, baked=False)
    assert baked.files == first and baked.dangling == []
    assert os.readlink(baked.work / "d/a").startswith(str(baked.path / "store/one"))


def test_killed_while_it_links_the_next_start_puts_it_right(baked: Baked, monkeypatch: pytest.MonkeyPatch) -> None:
    baked.start("one", {"a": "first", "old": "old"})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(data, "make_empty", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        baked.start("two", {"a": "second", "new": "new"})
    baked.start("three", {"a": "third"})
    assert baked.files == {"a": "third"} and baked.dangling == []


def test_a_copy_that_fails_leaves_no_half_object(baked: Baked, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(source: str, place: str) -> None:
        Path(place).write_text("hal")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(shutil, "copyfile", fill)
        baked.start("one", {"a": "first"})
    assert not [path for path in baked.work.rglob("*") if path.is_file() and path.read_text() == "hal"]
    baked.start("one", {"a": "first"})
    assert baked.files == {"a": "first"}


def test_a_home_is_given_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its user did to it, the server starts."""
    seed, home = tmp_path / "seed", tmp_path / "home"
    for name in ("a/run.sh", "b/x", "c/x", "d"):
        (seed / name).parent.mkdir(parents=True, exist_ok=True)
        (seed / name).write_text("new")
    (seed / "a/run.sh").chmod(0o755)
    (seed / "e").symlink_to("nowhere")
    (home / "c").mkdir(parents=True)
    (home / "c/x").write_text("mine")
    (home / "b").write_text("a file where a directory is wanted")
    start.seed_home(str(home), str(seed))
    assert {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()} == {
        "a/run.sh": "new", "b": "a file where a directory is wanted", "c/x": "mine", "d": "new",
    }  # fmt: skip
    assert os.access(home / "a/run.sh", os.X_OK)
    said = capsys.readouterr().err
    assert f"{home}/b/x could not be put into the home" in said and f"{home}/e could not be put" in said


@pytest.mark.parametrize(
    "asked",
    ["from jupyterhub.handlers.pages import HomeHandler", "import jupyterhub.handlers.base", "from jupyterhub.orm import User", "import sqlalchemy.orm",
     "from sqlalchemy.exc import OperationalError", "import sqlalchemy; sqlalchemy.create_engine"],
)  # fmt: skip
def test_a_boot_leaves_out_what_only_a_hub_needs(asked: str) -> None:
    """And whoever asks for it in the server gets the real one, and so does everybody then."""
    script = f"""
import gc, importlib.util, sys
sys.path.insert(0, {str(Path(start.__file__).parent)!r})
import server
server.trim()
import jupyterhub.singleuser.app
assert not {{"sqlalchemy.exc", "sqlalchemy.orm", "alembic", "jupyterhub.handlers.base", "rfc3987_syntax.syntax"}} & sys.modules.keys()
assert importlib.util.find_spec("sqlalchemy").origin.endswith("__init__.py") and not gc.isenabled()
{asked}
from jupyterhub.handlers.pages import HomeHandler
from jupyterhub.handlers import BaseHandler
from jupyterhub import orm, roles
import sqlalchemy, sqlalchemy.exc, sqlalchemy.orm
assert issubclass(HomeHandler, BaseHandler) and issubclass(sqlalchemy.exc.OperationalError, sqlalchemy.exc.SQLAlchemyError)
assert orm.User.__tablename__ == "users" and roles.get_default_roles() and sqlalchemy.create_engine
assert not [name for name, module in sys.modules.items() if isinstance(module, server.Standing)]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "JUPYTERHUB_API_TOKEN": "x"}, timeout=60)
    assert done.returncode == 0, done.stderr
