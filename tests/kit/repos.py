"""Real git repositories with real DVC data on a real server, small and quick to change."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from config.demo.server import Server, make_repository

AUTHOR = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
HOSTILE = {
    "plain.txt": "x", "with space.txt": "x", "new\nline.txt": "x", "tab\there.txt": "x", "Case.txt": "upper", "case.txt": "lower", "ünïcode.txt": "x",
    "Dockerfile": "FROM scratch\n", ".dockerignore": "*\n", "sub/Dockerfile": "FROM scratch\n", "sub/.dockerignore": "*\n", "run.sh": "#!/bin/sh\necho ran\n",
}  # fmt: skip
ADD_AND_PUSH = "import sys; from dvc.cli import main; sys.exit(main(['add', '--quiet', sys.argv[1]]) or main(['push', '--quiet']))"  # DVC is imported once: that takes seconds
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
        """Make it a DVC project with the server's HTTP remote, as `dvc init` and `dvc remote` do it."""
        return self._configure().write_all({".dvcignore": "# Add patterns of files dvc should ignore, which could improve\n# the performance. Learn more at\n# https://dvc.org/doc/user-guide/dvcignore\n"})

    def _configure(self) -> Project:
        remote = f"['remote \"storage\"']\n    url = {self.server.url}/dvc/{self.remote_name}\n    method = PUT\n"
        return self.write_all({".dvc/config": f"[core]\n    remote = storage\n{remote}", ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n"})

    def track(self, name: str, content: str) -> Project:
        """Track a file with DVC and push it, as DVC does it but without DVC, whose every command takes seconds. The server keeps the object."""
        return self._write_out(name, self.push_object(content), f"  size: {len(content)}\n")

    def track_directory(self, name: str, files: dict[str, str]) -> Project:
        """Track a directory so. What was tracked of it before is not part of it any more."""
        listed = [{"md5": self.push_object(files[path]), "relpath": path} for path in sorted(files)]
        digest = self.push_object(json.dumps(listed), ".dir")
        return self._write_out(name, digest, f"  size: {sum(map(len, files.values()))}\n  nfiles: {len(files)}\n")

    def find_object(self, content: str, suffix: str = "") -> Path:
        """Return where the server keeps what `dvc push` sends of a content."""
        digest = hashlib.md5(content.encode()).hexdigest()
        return self.server.root / "dvc" / self.remote_name / "files/md5" / digest[:2] / f"{digest[2:]}{suffix}"

    def push_object(self, content: str, suffix: str = "") -> str:
        """Have the server keep a content, and return its hash."""
        kept = self.find_object(content, suffix)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(content)
        return kept.parent.name + kept.name

    def _write_out(self, name: str, digest: str, more: str) -> Project:
        tracked = {str(path.relative_to(self.path).with_suffix("")) for path in self.path.rglob("*.dvc") if path.is_file()} | {name}
        return self._configure().write_all({
            ".gitignore": "".join(f"/{path}\n" for path in sorted(tracked)), f"{name}.dvc": f"outs:\n- md5: {digest}\n{more}  hash: md5\n  path: {name}\n",
        })  # fmt: skip

    def add_data(self, name: str, files: dict[str, str | bytes]) -> Project:
        """Track a directory with DVC and push it; commit follows."""
        self.write_all({f"{name}/{path}": content for path, content in files.items()})
        self.run(sys.executable, "-c", ADD_AND_PUSH, name)
        return self


def make_package(name: str) -> str:
    """Return the pyproject.toml of a package that setuptools builds, newer than any other of its name."""
    return f"""
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "99.0"
[tool.setuptools]
packages = ["{name}"]
"""


def make_own_backend(name: str) -> str:
    """Return the pyproject.toml of a package that its own ``backend.py`` builds, without an index."""
    return f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "{name}"\nversion = "1"\n'


def make_requirements(*lines: str) -> str:
    """Return a requirements file that no other test run has: its environment is new."""
    return "\n".join([f"# {uuid.uuid4().hex}", *lines]) + "\n"


def make_hostile(project: Project, requirements: str = "") -> None:
    """Commit executables, links of all kinds, strange names, and a Dockerfile and .dockerignore that are only files."""
    project.write_all({**({"requirements.txt": requirements} if requirements else {}), **HOSTILE})
    (project.path / "run.sh").chmod(0o755)
    for name, target in {"link": "plain.txt", "broken": "nowhere", "absolute": "/etc/hostname", "dirlink": "sub", "up": "../outside"}.items():
        os.symlink(target, project.path / name)
    with open(os.fsencode(project.path) + b"/raw-\xff.txt", "w") as file:
        file.write("x")
    project.commit("all kinds of names")
