"""The sample project of the demo and the tests: a git repository "digits" with the branches `main` and `vgg19`, and 1,797 images under DVC.

Everything in it is real: commits, `dvc add`, a baseline trained by `dvc repro`, `dvc push` to the remote, `git push`. It is the same each time for one
address (the remote's URL is in its `.dvc/config`), down to the ids of the commits.

    server = Server(root, host).start()
    url = make_project(root, server.url)     # …/git/digits.git
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from config.demo.server import make_repository

HERE = Path(__file__).parent / "digits"
NAME = "digits"
SIZE, SCALE = 8, 4  # scikit-learn's images are 8 by 8; 32 by 32 can be looked at, and is the least that a VGG takes
TEST_EVERY = 5
# What `dvc repro` on the branch vgg19 makes in one of its own servers: TensorFlow is in the base image, not here.
VGG19_METRICS = {"accuracy": 0.989, "loss": 0.04}


def make_project(root: Path, url: str, tell: Callable[[str], None] = lambda line: None) -> str:
    """Make repository and data below a server's root, unless they are there, and return the repository's address.

    ``url`` is the address of the server, which must be serving. What people have pushed meanwhile stays. Raises CalledProcessError.
    """
    address, stamp = f"{url}/git/{NAME}.git", root / f"{NAME}.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == {"url": url}:
        return address
    for old in (root / "git" / f"{NAME}.git", root / "dvc" / NAME, root / "work"):
        shutil.rmtree(old, ignore_errors=True)
    make_repository(root, NAME)
    work = Work(root / "work", tell)
    work.write_history(f"{url}/dvc/{NAME}")
    work.git("push", "--quiet", address, "main", "vgg19")
    shutil.rmtree(work.path)
    stamp.write_text(json.dumps({"url": url}))
    return address


class Work:
    """The clone in which the history is written, commit by commit."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self.path, self.tell = path, tell
        self.commits = 0
        here = str(Path(sys.executable).parent)  # `dvc repro` runs `python`
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))}
        self.env = kept | {
            "PATH": f"{here}:{os.environ['PATH']}", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TERMINAL_PROMPT": "0",
            "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(path / ".dvc" / "tmp" / "site"), "DVC_GLOBAL_CONFIG_DIR": str(path / ".dvc" / "tmp"),
            "DVC_SYSTEM_CONFIG_DIR": str(path / ".dvc" / "tmp"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def run(self, *argv: str) -> None:
        done = subprocess.run(argv, cwd=self.path, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, f"{done.stdout}{done.stderr}"[-2000:])

    def git(self, *argv: str) -> None:
        self.run("git", *argv)

    def dvc(self, *argv: str) -> None:
        self.run(sys.executable, "-m", "dvc", *argv)

    def copy(self, branch: str, *names: str) -> None:
        for name in names:
            shutil.copyfile(HERE / branch / name, self.path / (".gitignore" if name == "gitignore" else name))

    def commit(self, message: str) -> None:
        """Commit everything: one commit a day, by one person."""
        self.commits += 1
        self.env |= {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in [("NAME", "Dana"), ("EMAIL", "dana@example.org")]
        }
        self.env |= {f"GIT_{who}_DATE": f"2026-03-{self.commits + 1:02d}T09:30:00+0000" for who in ("AUTHOR", "COMMITTER")}
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def write_history(self, remote: str) -> None:
        """Write both branches, and push the data."""
        self.copy("main", "README.md", "gitignore", "requirements.txt")
        self.commit("Start the project")
        self.tell("1,797 images under DVC")
        self.dvc("init")
        (self.path / ".dvc" / "config").write_text(
            f"[core]\n    remote = team\n['remote \"team\"']\n    url = {remote}\n    method = PUT\n"
        )
        write_images(self.path / "data")
        self.dvc("add", "data/train", "data/test")
        self.commit("Track the digits with DVC")
        self.tell("pushing them to the DVC remote")
        self.dvc("push")
        self.tell("training the baseline of main")
        self.copy("main", "digits.py", "train.py", "params.yaml", "dvc.yaml")
        self.dvc("repro")
        self.commit("Train a baseline: logistic regression")
        self.copy("main", "baseline.ipynb")
        self.commit("Show data and baseline in a notebook")
        self._write_vgg19()
        self.git("checkout", "--quiet", "main")
        with (self.path / "README.md").open("a") as file:
            file.write("\n`git diff origin/main -- metrics.json` says what a branch gains over the baseline.\n")
        self.commit("Say how to compare hypotheses")

    def _write_vgg19(self) -> None:
        self.tell("the branch vgg19")
        self.git("checkout", "--quiet", "-b", "vgg19")
        self.copy("vgg19", "vgg.py", "requirements.txt", "vgg.ipynb")
        self.commit("Try a small network in the manner of VGG-19")
        self.copy("vgg19", "train.py", "params.yaml", "dvc.yaml")
        (self.path / "metrics.json").write_text(json.dumps(VGG19_METRICS, indent=2) + "\n")
        self.dvc("commit", "--force")
        self.commit("Train it: better than the baseline")


def write_images(directory: Path) -> None:
    """Write scikit-learn's digits as PART/LABEL/NUMBER.png, every fifth for the test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "train" if number % TEST_EVERY else "test"
        path = directory / part / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_png([[min(int(value) * 16, 255) for value in row] for row in image]))


def make_png(pixels: list[list[int]]) -> bytes:
    """Return a grey image, each pixel drawn SCALE by SCALE. It is stored without compression: each zlib compresses in a way of its own."""
    rows = b"".join(b"\0" + bytes(value for value in row for _ in range(SCALE)) for row in pixels for _ in range(SCALE))
    side = SIZE * SCALE
    chunks = [(b"IHDR", struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
