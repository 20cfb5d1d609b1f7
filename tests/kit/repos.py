"""Real git repositories with real DVC data on a real server, small and quick to change."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

from config.demo.server import Server, make_repository

AUTHOR = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
DVC = [str(Path(sys.executable).with_name("dvc"))]


class Project:
    """A working copy on this machine, and its repository on the server. ``push_as`` is ``user:password`` where the server wants one."""

    def __init__(self, server: Server, root: Path, name: str, push_as: str = "") -> None:
        self.server, self.name = server, name
        self.path = root / f"{name}-{uuid.uuid4().hex[:6]}"
        self.remote_name = self.path.name
        self.bare = make_repository(server.root, self.remote_name)
        self.url = f"{server.url}/git/{self.remote_name}.git"
        self.path.mkdir(parents=True)
        self.git("init", "--quiet", "-b", "main")
        self.git("remote", "add", "origin", self.url.replace("://", f"://{push_as}@") if push_as else self.url)

    def run(self, *argv: str) -> str:
        """Run a program in the working copy, and return what it prints."""
        env = {**os.environ, **AUTHOR, "GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.path.parent / "site")}
        done = subprocess.run(argv, cwd=self.path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self.run(*DVC, *arguments)

    def write(self, **files: str | bytes) -> Project:
        """Write files; ``__`` in a name stands for ``/`` and ``_dot_`` for ``.`` would be ugly: use `write_all` for such."""
        return self.write_all(files)

    def write_all(self, files: dict[str, str | bytes]) -> Project:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def commit(self, message: str = "change", push: bool = True, branch: str | None = None) -> str:
        """Commit all and push; return the commit."""
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        if push:
            self.push(branch)
        return self.git("rev-parse", "HEAD")

    def push(self, branch: str | None = None, force: bool = False) -> None:
        branch = branch or self.git("branch", "--show-current")
        self.git("push", "--quiet", *(["--force"] if force else []), "origin", f"HEAD:refs/heads/{branch}")

    def init_dvc(self) -> Project:
        """Make it a DVC project with the server's HTTP remote."""
        self.dvc("init", "--quiet")
        self.dvc("remote", "add", "--quiet", "--default", "storage", f"{self.server.url}/dvc/{self.remote_name}")
        self.dvc("remote", "modify", "storage", "method", "PUT")
        return self

    def track(self, name: str, content: str) -> Project:
        """Track a file with DVC and push it, as DVC does it but without DVC, whose every command takes seconds. The server keeps the object."""
        digest = hashlib.md5(content.encode()).hexdigest()
        kept = self.server.root / "dvc" / self.remote_name / "files/md5" / digest[:2] / digest[2:]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(content)
        config = f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {self.server.url}/dvc/{self.remote_name}\n"
        return self.write_all({".dvc/config": config, f"{name}.dvc": f"outs:\n- md5: {digest}\n  size: {len(content)}\n  hash: md5\n  path: {name}\n"})

    def add_data(self, name: str, files: dict[str, str | bytes]) -> Project:
        """Track a directory with DVC and push it; commit follows."""
        self.write_all({f"{name}/{path}": content for path, content in files.items()})
        self.dvc("add", "--quiet", name)
        self.dvc("push", "--quiet")
        return self


def make_requirements(*lines: str) -> str:
    """Return a requirements file that no other test run has: its environment is new."""
    return "\n".join([f"# {uuid.uuid4().hex}", *lines]) + "\n"
