"""What several unit tests share: git repositories that are made by git itself."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server
from hubdock.core.tree import Tree

WHEN = "2026-01-02T03:04:05Z"


class Repository:
    """A git repository with a work tree, for trees and commits as git writes them."""

    def __init__(self, path: Path, new: bool = True) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        if new:
            self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, stdin: bytes = b"", author: str = "Ada", when: str = WHEN) -> bytes:
        """Run git here, and return what it prints. No configuration of the machine has a say."""
        people = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", author), ("EMAIL", "a@example.org"), ("DATE", when))}
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C.UTF-8", **people}
        done = subprocess.run(["git", "-C", str(self.path), "-c", "protocol.file.allow=always", *arguments], input=stdin, capture_output=True, env=env, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files; a value ``-> target`` makes a symbolic link."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and content.startswith("-> "):
                path.symlink_to(content.removeprefix("-> "))
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes] | None = None, message: str = "change", author: str = "Ada", when: str = WHEN) -> str:
        """Commit everything that is there, and return the commit."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message, author=author, when=when)
        return self.git("rev-parse", "HEAD").decode().strip()

    def tree(self) -> Tree:
        """Return the tree of everything that is there now."""
        self.git("add", "--all")
        oid = self.git("write-tree").decode().strip()
        return Tree(oid, self.git("ls-tree", "-r", "-t", "-z", "--full-tree", oid))

    def contents(self, tree: Tree) -> dict[str, bytes]:
        """Return the contents of all files of a tree that are text of ours (none is large)."""
        return {entry.path: self.git("cat-file", "blob", entry.oid) for entry in tree.entries() if entry.kind == "blob"}


def read(repository: Repository, files: Mapping[str, str | bytes] | None = None) -> tuple[Tree, dict[str, bytes]]:
    """Return the tree of a repository with these files, and the files' contents."""
    repository.write(files or {})
    tree = repository.tree()
    return tree, repository.contents(tree)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository(tmp_path / "repository")


def serve(server: Any) -> Any:
    """Serve in the background, and return the server. Its ``shutdown`` then takes no half second, as it does otherwise."""
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


GOLDEN = Path(__file__).parent.parent / "golden"


def check_golden(name: str, text: str) -> None:
    """Compare a text with tests/golden/NAME. ``UPDATE_GOLDEN=1`` writes it: look at the difference before you commit it."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A git and DVC server over a directory of the test's own."""
    server = serve(Server(tmp_path))
    yield server
    server.shutdown()
