"""The programs that run in a server: links to the data, and what DVC is told of them."""

from __future__ import annotations

import json
import os
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


def test_a_boot_leaves_out_what_only_a_hub_needs() -> None:
    """And whoever asks for it in the server gets the real one."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(start.__file__).parent)!r})
import server
server.trim()
import jupyterhub.singleuser.app
assert not {{"sqlalchemy.orm", "alembic", "jupyterhub.handlers.base", "rfc3987_syntax.syntax"}} & sys.modules.keys()
from jupyterhub.handlers.pages import HomeHandler
from jupyterhub.handlers import BaseHandler
from jupyterhub import orm, roles
import sqlalchemy
assert issubclass(HomeHandler, BaseHandler)
assert orm.User.__tablename__ == "users" and roles.get_default_roles() and sqlalchemy.create_engine
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "JUPYTERHUB_API_TOKEN": "x"}, timeout=60)
    assert done.returncode == 0, done.stderr
