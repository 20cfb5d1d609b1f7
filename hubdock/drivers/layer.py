"""Layers that no builder made: a deterministic tar, written through a hash and zstd into a file that is gone with its last user.

The same content is the same ``diff_id`` everywhere. The blob's own digest, which registries go by, also stays the same for as long as zstd does.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from hubdock.core.errors import OutOfSpace
from hubdock.core.oci import LAYER, Descriptor, NewLayer
from hubdock.drivers.context import Context

LEVEL = 3


@dataclass(frozen=True)
class SpooledLayer:
    """A layer and the file of its blob."""

    layer: NewLayer
    file: IO[bytes]


@contextmanager
def spool_layer(write: Callable[[Context], object], owner: tuple[int, int], made_by: str, directory: Path | None = None) -> Iterator[SpooledLayer]:
    """Yield the layer of all that ``write`` puts into a context: paths from the root, (uid, gid) ``owner``.

    Memory does not grow with its size; the blob is in a nameless file in ``directory`` (default: the system's). Raises OutOfSpace, and what ``write`` raises.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        sink = _Sink(file)
        try:
            context = Context(sink, owner)  # type: ignore[arg-type]  # a tar stream only writes
            write(context)
            context.close()
            descriptor, diff_id = sink.finish()
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise OutOfSpace.on("the hub", str(error)) from error
            raise
        file.seek(0)
        yield SpooledLayer(NewLayer(descriptor, diff_id, made_by), file)


class _Sink:
    """Takes a tar's bytes: hashed as they are, compressed, hashed and counted again, written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = 0
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self._compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()

    def write(self, content: bytes) -> int:
        self._plain.update(content)
        self._put(self._compressor.compress(content))
        return len(content)

    def _put(self, packed: bytes) -> None:
        self._packed.update(packed)
        self._size += len(packed)
        self._file.write(packed)

    def finish(self) -> tuple[Descriptor, str]:
        self._put(self._compressor.flush())
        self._file.flush()
        descriptor = Descriptor(f"{LAYER}+zstd", f"sha256:{self._packed.hexdigest()}", self._size)
        return descriptor, f"sha256:{self._plain.hexdigest()}"
