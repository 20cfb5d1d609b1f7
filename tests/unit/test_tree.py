"""A tree is read as git prints it, whatever its files are called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hubdock.core.tree import Tree, TreeEntry
from tests.unit.conftest import Repository

NAMES = [
    "plain.txt", "with space.txt", "with\ttab.txt", "with\nnewline.txt", "\ttab first", "tab last\t", "quote\"s'.txt", "back\\slash", "ünï.txt", "-option",
    "Case.txt", "case.txt", "dir/plain.txt", "dir/deep/er/x", "dir.txt", "#hash", "*glob?", "100644 blob x", "latin-\udce9.txt", "💥", " ", "a\x01b",
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    repository = Repository(tmp_path_factory.mktemp("tree") / "repository")
    for name in NAMES:
        path = os.fsencode(f"{repository.path}/{name}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content of " + os.fsencode(name))
    os.chmod(repository.path / "plain.txt", 0o755)
    os.symlink("plain.txt", repository.path / "link")
    other = Repository(repository.path.parent / "other")
    other.commit({"x": "x"})
    for name in ("module", "dir/module two"):
        repository.git("submodule", "--quiet", "add", str(other.path), name)
    return repository.tree()


def blob_id(content: bytes) -> str:
    return subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True).stdout.decode().strip()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_each_name_is_found(tree: Tree, name: str) -> None:
    mode = "100755" if name == "plain.txt" else "100644"
    entry = tree.find(name)
    assert entry == TreeEntry(name, mode, "blob", blob_id(b"content of " + os.fsencode(name)))
    assert entry is not None and entry.is_file


def test_all_entries_directories_first(tree: Tree) -> None:
    paths = [entry.path for entry in tree.entries()]
    assert sorted(paths) == sorted([*NAMES, "link", ".gitmodules", "module", "dir/module two", "dir", "dir/deep", "dir/deep/er"])
    assert len(tree) == len(paths)
    assert all(paths.index(os.path.dirname(path)) < paths.index(path) for path in paths if "/" in path)


def test_links_directories_and_submodules_are_no_files(tree: Tree) -> None:
    kinds = {path: (entry.mode, entry.kind, entry.is_file) for path in ("link", "dir", "module") if (entry := tree.find(path))}
    assert kinds == {"link": ("120000", "blob", False), "dir": ("040000", "tree", False), "module": ("160000", "commit", False)}
    assert sorted(tree.submodules()) == ["dir/module two", "module"]


@pytest.mark.parametrize("path", ["", "x", "plain", "tab.txt", "txt", "dir/", "plain.txt/", "/plain.txt", "./plain.txt", "newline.txt", "CASE.txt", "dir//plain.txt", "..", "deep"])
def test_what_is_not_there(tree: Tree, path: str) -> None:
    assert tree.find(path) is None


def test_the_root(tree: Tree) -> None:
    assert tree.find(".") == TreeEntry(".", "040000", "tree", tree.oid)


def test_matching_whole_paths(tree: Tree) -> None:
    assert [entry.path for entry in tree.matching(rb"(?:[^\0]*/)?plain\.txt")] == ["dir/plain.txt", "plain.txt"]
    assert list(tree.matching(rb"lain")) == []


def test_an_empty_tree(repository: Repository) -> None:
    tree = repository.tree()
    assert (len(tree), list(tree.entries()), tree.find("x"), tree.submodules()) == (0, [], None, [])
    assert tree.oid == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_sha256(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(tmp_path)], check=True)
    (tmp_path / "x").write_text("x")
    subprocess.run(["git", "-C", str(tmp_path), "add", "x"], check=True)
    oid = subprocess.run(["git", "-C", str(tmp_path), "write-tree"], check=True, capture_output=True, text=True).stdout.strip()
    tree = Tree(oid, subprocess.run(["git", "-C", str(tmp_path), "ls-tree", "-rtz", oid], check=True, capture_output=True).stdout)
    entry = tree.find("x")
    assert entry is not None and len(entry.oid) == 64 and [found.path for found in tree.entries()] == ["x"]
