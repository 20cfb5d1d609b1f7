"""Files on their way into a container that was made but not started."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make_archive(files: Mapping[str, bytes | Path], owner: tuple[int, int] = (1000, 100)) -> bytes:
    """Return a tar of files by absolute path, with their directories, as `put_files` sends it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        made: set[str] = set()
        for path, content in sorted(files.items()):
            parts = path.strip("/").split("/")
            for depth in range(2, len(parts)):
                directory = "/".join(parts[:depth])
                if directory not in made:
                    made.add(directory)
                    info = tarfile.TarInfo(directory)
                    info.type, info.mode, (info.uid, info.gid) = tarfile.DIRTYPE, 0o755, owner
                    tar.addfile(info)
            data = content if isinstance(content, bytes) else content.read_bytes()
            info = tarfile.TarInfo("/".join(parts))
            info.size, info.mode, (info.uid, info.gid) = len(data), 0o600, owner
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def put_files(connection: Any, container: str, files: Mapping[str, bytes | Path], owner: tuple[int, int] = (1000, 100)) -> None:
    """Put files into a container that was made but not started. ``connection`` is a docker-py APIClient."""
    connection.put_archive(container, "/", make_archive(files, owner))
