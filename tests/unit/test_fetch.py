"""The program that fetches data: with DVC itself, from remotes that lie."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server
from hubdock.guest import fetch
from tests.unit.conftest import serve


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


SECRET = md5(b"secret")


class Store:
    """A store, and a remote to fill it from."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.monkeypatch, self.runs = path, monkeypatch, 0
        self.server = serve(Server(path / "server"))
        monkeypatch.setattr(fetch, "STORE", str(path / "store"))
        monkeypatch.setattr(fetch, "DVC", str(Path(sys.executable).parent / "dvc"))
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(path / "site"))

    def offer(self, remote: str, oid: str, content: bytes) -> str:
        """Put an object on a remote, under any name."""
        place = self.path / "server" / "dvc" / remote / "files" / "md5" / oid[:2] / oid[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return oid

    def offer_list(self, remote: str, entries: Any) -> str:
        content = json.dumps(entries).encode()
        return self.offer(remote, f"{md5(content)}.dir", content)

    def fetch(self, key: str, oids: dict[str, str], remote: str = "good", scope: str = "public") -> int:
        """Fetch outs, by path, and return the program's exit code."""
        self.runs += 1
        self.monkeypatch.setattr(fetch, "WORK", str(self.path / f"work{self.runs}"))
        outs = [{"path": path, "oid": oid, "hash_name": "md5", "is_exec": False, "remote": "r0", "source": "x.dvc"} for path, oid in oids.items()]
        request = self.path / "request.json"
        request.write_text(json.dumps({"key": key, "scope": scope, "outs": outs, "silence": 600, "remotes": {"r0": {"url": f"{self.server.url}/dvc/{remote}"}}}))
        self.monkeypatch.setattr(sys, "argv", ["fetch.py", str(request)])
        try:
            return fetch.main()
        except SystemExit as ended:
            return 0 if ended.code in {None, 0} else 1

    def files(self) -> dict[str, bytes]:
        """Return all that the store holds but manifests."""
        root = self.path / "store"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "manifest.json"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store(tmp_path, monkeypatch)
    yield store
    store.server.shutdown()


@pytest.mark.parametrize("left", [0, 1])
def test_a_view_that_lost_its_manifest_is_mended_where_it_is(store: Store, left: int) -> None:
    """For whoever mounts it. Nothing is downloaded again."""
    one, two = store.offer("good", md5(b"one"), b"one"), store.offer("good", md5(b"two"), b"two")
    assert store.fetch("k" * 64, {"one": one, "two": two}) == 0
    view = store.path / "store/views" / ("k" * 64)
    before, place = store.files(), view.stat().st_ino
    store.server.requests.clear()
    for path in [view / "manifest.json", *[path for path in sorted(view.rglob("*")) if path.is_file() and path.name != "manifest.json"][left:]]:
        path.unlink()
    assert store.fetch("k" * 64, {"one": one, "two": two}) == 0
    assert (store.files(), view.stat().st_ino) == (before, place) and not store.server.requests
    assert len(json.loads((view / "manifest.json").read_text())["outs"]) == 2 and [path.name for path in view.parent.iterdir()] == ["k" * 64]


def test_files_and_directories(store: Store) -> None:
    one, two = store.offer("good", md5(b"one"), b"one"), store.offer("good", md5(b"two"), b"two")
    tree = store.offer_list("good", [{"md5": one, "relpath": "a/one"}, {"md5": two, "relpath": "two"}])
    assert store.fetch("k" * 64, {"tree": tree, "file": one}) == 0
    view = {name.removeprefix(f"views/{'k' * 64}/"): content for name, content in store.files().items() if name.startswith("views/")}
    assert view == {f"{one[:2]}/{one[2:]}": b"one", f"{two[:2]}/{two[2:]}": b"two", f"{tree[:2]}/{tree[2:]}": (store.path / "server/dvc/good/files/md5" / tree[:2] / tree[2:]).read_bytes()}


def test_a_list_that_is_not_there_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.fetch("k" * 64, {"tree": f"{SECRET}.dir"}) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("hubdock "))
    assert told == {"missing": ["tree"], "count": 1, "code": 1} and store.files() == {}


def test_an_object_under_a_false_name_is_nobody_s(store: Store) -> None:
    """All repositories with public remotes share a pool: who offers other content under the hash of their data must not fill it."""
    wanted = md5(b"the model of the team")
    store.offer("evil", wanted, b"a model that runs code")
    assert store.fetch("a" * 64, {"model": wanted}, "evil") == 1
    assert store.files() == {}
    store.offer("good", wanted, b"the model of the team")
    assert store.fetch("b" * 64, {"model": wanted}) == 0
    assert set(store.files().values()) == {b"the model of the team"}


def test_a_list_under_a_false_name_is_nobody_s(store: Store) -> None:
    evil = store.offer("evil", md5(b"evil"), b"evil")
    wanted = f"{md5(b'[]')}.dir"
    store.offer("evil", wanted, json.dumps([{"md5": evil, "relpath": "x"}]).encode())
    assert store.fetch("a" * 64, {"tree": wanted}, "evil") == 1
    assert store.files() == {}


@pytest.mark.parametrize(
    "entry",
    [
        {"md5": f"../../../other/files/md5/{SECRET[:2]}/{SECRET[2:]}", "relpath": "x"},
        {"md5": f"aa/../../../../other/files/md5/{SECRET[:2]}/{SECRET[2:]}", "relpath": "x"},
        {"md5": "../STORE/pool/other/files/md5/" + f"{SECRET[:2]}/{SECRET[2:]}", "relpath": "x"},
        {"md5": "../STORE/views/" + "k" * 64 + "/manifest.json", "relpath": "x"},
        {"md5": SECRET.upper(), "relpath": "x"}, {"md5": SECRET + "\n", "relpath": "x"}, {"md5": 5, "relpath": "x"}, {"relpath": "x"}, "x",
        {"md5": SECRET, "relpath": "../x"}, {"md5": SECRET, "relpath": "/x"}, {"md5": SECRET, "relpath": "a/../../x"}, {"md5": SECRET, "relpath": ""}, {"md5": SECRET},
    ],
)  # fmt: skip
def test_a_list_can_t_name_what_is_no_object_of_its_own(store: Store, entry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The names in a list are its author's. Those that lead elsewhere would read, plant or delete what belongs to others."""
    secret, manifest = store.path / "store/pool/other/files/md5" / SECRET[:2] / SECRET[2:], store.path / "store/views" / ("k" * 64) / "manifest.json"
    for path, content in ((secret, "secret"), (manifest, "{}")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    before = store.files()
    if isinstance(entry, dict) and isinstance(entry.get("md5"), str):
        entry = {**entry, "md5": entry["md5"].replace("STORE", str(store.path / "store"))}
    tree = store.offer_list("evil", [entry])
    capsys.readouterr()
    assert store.fetch("e" * 64, {"tree": tree}, "evil") == 1
    assert store.files() == before and manifest.exists()
    assert "is no list of files" in capsys.readouterr().out
