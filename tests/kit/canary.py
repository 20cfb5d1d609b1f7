"""Looks for a secret where none may be: in files and databases of a hub, in processes while they run, in the layers of images."""

from __future__ import annotations

import base64
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

CHUNK = 1 << 22


def spell(secrets: Iterable[tuple[str, str]]) -> list[bytes]:
    """Return the ways in which (user, password) pairs could stand somewhere: as they are, and as HTTP's basic authentication has them."""
    return [word for user, password in secrets for word in (password.encode(), base64.b64encode(f"{user}:{password}".encode()))]


def find_in_files(directory: Path, words: Sequence[bytes]) -> list[str]:
    """Return the files below a directory that hold a word; of a database what it says, and not what its free pages may still hold."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found += [str(path)] if any(word in read_content(path) for word in words) else []
    return found


def read_content(path: Path) -> bytes:
    if path.suffix == ".sqlite":
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as database:
            return "\n".join(database.iterdump()).encode()
    try:
        return path.read_bytes()
    except FileNotFoundError:  # it was somebody's temporary file
        return b""


def find_in_images(engine: Any, references: Sequence[str], base: str, words: Sequence[bytes], proofs: Collection[bytes]) -> set[bytes]:
    """Read the layers that images have above their base, with the settings and history of each, and return which ``proofs`` stand there; fails at a word."""
    longest, total, rest = max(map(len, [*words, *proofs])), 0, b""
    seen: set[bytes] = set()
    with subprocess.Popen(_choose_reader(engine, references, base), stdout=subprocess.PIPE) as child:
        assert child.stdout
        while chunk := child.stdout.read(CHUNK):
            total += len(chunk)
            text = rest + chunk
            assert not any(word in text for word in words), f"a secret is in an image, about {total} bytes into {references}"
            seen |= {proof for proof in proofs if proof in text}
            rest = text[-longest:]
    assert child.returncode == 0
    return seen


def _choose_reader(engine: Any, references: Sequence[str], base: str) -> list[str]:
    """Return the command that writes the images out: from the engine's own directories where they can be read, for ``docker save`` writes gigabytes of the base too."""
    images, root = [engine.images.get(reference) for reference in references], Path(engine.info()["DockerRootDir"])
    if engine.info()["Driver"] == "overlay2" and os.access(root, os.R_OK | os.X_OK):
        layers = {path for image in images for path in _list_layers(image)} - set(_list_layers(engine.images.get(base)))
        settings = {str(root / "image/overlay2/imagedb/content" / image.id.replace(":", "/")) for image in images}
        return ["tar", "-P", "-c", "--xattrs", *sorted(layers | settings)]
    return ["docker", "save", *references]


def _list_layers(image: Any) -> list[str]:
    data = image.attrs["GraphDriver"]["Data"]
    return [data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))]


class ProcessWatch:
    """Reads the command lines of all processes of this machine, those in containers too, and the settings of all containers, until it is left."""

    def __init__(self, engine: Any, words: Sequence[bytes], pause: float = 0.05) -> None:
        self.engine, self.words, self.pause = engine, words, pause
        self.lines: set[bytes] = set()
        self.containers: set[str] = set()
        self.found: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(look, pause), daemon=True) for look, pause in ((self._look_at_processes, pause), (self._look_at_containers, 5 * pause))]

    def __enter__(self) -> ProcessWatch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _run(self, look: Any, pause: float) -> None:
        while not self._over.is_set():
            look()
            time.sleep(pause)

    def _look_at_processes(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if line not in self.lines:
                self.lines.add(line)
                self.found += [f"process: {line[:60]!r}…"] if any(word in line for word in self.words) else []

    def _look_at_containers(self) -> None:
        for entry in self.engine.api.containers(all=True):
            if entry["Id"] not in self.containers:
                self.containers.add(entry["Id"])
                try:
                    text = str(self.engine.api.inspect_container(entry["Id"])).encode()
                except Exception:  # it is gone already
                    continue
                self.found += [f"container: {entry['Image']}"] if any(word in text for word in self.words) else []
