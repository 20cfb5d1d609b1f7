"""What a build needs, sent to the registry as an image of one layer: from inside a build, nothing else can be reached."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hubdock.core.errors import BackendError
from hubdock.core.oci import CONFIG, LAYER, Changes, Descriptor, NewLayer, make_config, make_digest, make_manifest
from hubdock.drivers.context import FILE, PROGRAM, Context
from hubdock.drivers.layer import SpooledLayer, spool_layer
from hubdock.drivers.oci import Registry

_NOTHING: Mapping[str, object] = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}


@dataclass(frozen=True)
class Parcel:
    """An image that holds files. ``dockerfile`` is the text of the one in a build context."""

    repository: str
    digest: str
    dockerfile: str = ""


def push_context(registry: Registry, repository: str, tag: str, write_context: Callable[[IO[bytes]], None]) -> Parcel:
    """Send a build context, which ``write_context`` writes as a tar with its Dockerfile first. The image is of this one build, whatever is in it."""
    with tempfile.TemporaryFile() as file:
        sink = _HashingFile(file)
        write_context(sink)  # type: ignore[arg-type]  # a tar stream only writes
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r|") as tar:
            first = tar.next()
            assert first is not None and first.name == "Dockerfile", first
            content = tar.extractfile(first)
            assert content is not None
            dockerfile = content.read().decode()
        layer = NewLayer(Descriptor(LAYER, sink.digest, sink.size), sink.digest, "hubdock: build context")
        digest = _push(registry, repository, tag, SpooledLayer(layer, file), {"hubdock.parcel": uuid.uuid4().hex})
    return Parcel(repository, digest, dockerfile)


def push_directory(registry: Registry, repository: str, path: Path) -> Parcel:
    """Send the files of a directory that is named by its content, unless they are there."""
    known = registry.find_digest(repository, path.name)
    if known is not None:
        return Parcel(repository, known)

    def write(context: Context) -> None:
        for entry in sorted(path.iterdir()):
            with entry.open("rb") as stream:
                mode = entry.stat().st_mode
                context.add_stream(entry.name, entry.stat().st_size, stream, PROGRAM if mode & 0o100 else FILE)

    with spool_layer(write, (0, 0), "hubdock: programs of a build") as spooled:
        return Parcel(repository, _push(registry, repository, path.name, spooled, {}))


def _push(registry: Registry, repository: str, tag: str, spooled: SpooledLayer, labels: Mapping[str, str]) -> str:
    config = make_config(_NOTHING, Changes(labels=labels), [spooled.layer])
    described = Descriptor(CONFIG, make_digest(config), len(config))
    for descriptor, file in ((spooled.layer.descriptor, spooled.file), (described, io.BytesIO(config))):
        if not registry.has_blob(repository, descriptor.digest):
            registry.upload_blob(repository, descriptor, file)
    return registry.put_manifest(repository, tag, make_manifest(config, [spooled.layer.descriptor]))


def remove_parcel(registry: Registry, parcel: Parcel) -> None:
    """Remove a parcel that is of no use any more. A registry that deletes nothing, or is away, keeps it."""
    with suppress(BackendError):
        registry.delete_manifest(parcel.repository, parcel.digest)


class _HashingFile:
    """A file that is only written, with the digest and the size of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        self.size += len(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
