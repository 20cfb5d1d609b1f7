"""Layers without a builder: the same content is the same bytes, wherever, whenever and by whichever Python."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.errors import OutOfSpace, RecipeError
from hubdock.core.tree import Tree, TreeEntry
from hubdock.drivers.context import Context, add_tree, find_copies
from hubdock.drivers.layer import spool_layer


class Mirror:
    """Blobs by their id."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs

    def stream_blobs(self, oids: Any) -> Iterator[tuple[str, int, io.BytesIO]]:
        return ((oid, len(self.blobs[oid]), io.BytesIO(self.blobs[oid])) for oid in oids)


FILES: dict[str, tuple[str, bytes]] = {
    "README.md": ("100644", b"hello\n"), "run.sh": ("100755", b"#!/bin/sh\n"), "link": ("120000", b"README.md"), "raw-\udcff": ("100644", b""),
    "ünïcode": ("100644", b"u"), "new\nline": ("100644", b"n"), "x" * 200: ("100644", b"long"), "to raw": ("120000", b"raw-\xff"), "to far": ("120000", b"y" * 150),
}  # fmt: skip


def make_tree(files: dict[str, tuple[str, bytes]]) -> tuple[Any, list[TreeEntry]]:
    entries = [TreeEntry(path, mode, "blob", f"{n:040x}") for n, (path, (mode, _)) in enumerate(files.items())]
    return Mirror({entry.oid: files[entry.path][1] for entry in entries}), entries


def spool(files: dict[str, tuple[str, bytes]]) -> tuple[str, str, bytes]:
    """Return (diff_id, digest, tar) of a layer of these files."""
    mirror, entries = make_tree(files)
    with spool_layer(lambda context: add_tree(context, mirror, entries, prefix="/hubdock/code/"), (1000, 100), "the code") as spooled:
        blob = spooled.file.read()
        assert len(blob) == spooled.layer.descriptor.size
        assert spooled.layer.descriptor.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(blob)
        assert spooled.layer.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
        return spooled.layer.diff_id, spooled.layer.descriptor.digest, plain


def test_the_layer_is_for_ever() -> None:
    """Were this another, every image in every registry would be made anew: raise LAYER_VERSION with it, if it must be."""
    assert spool(FILES)[0] == "sha256:3fcc103e383e1e8a28469b854119804f555febf0a9c81b64a96a9ad036f813de"


def test_neither_clock_nor_umask_is_in_it() -> None:
    before = spool(FILES)
    mask = os.umask(0o077)
    try:
        time.sleep(1.1)
        assert spool(FILES) == before
    finally:
        os.umask(mask)


def test_what_is_in_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(spool(FILES)[2]), errors="surrogateescape") as tar:
        found = {member.name: member for member in tar.getmembers()}
        assert all((member.uid, member.gid, member.mtime, member.uname, member.gname) == (1000, 100, 0, "", "") for member in found.values())
        assert [found[name].mode for name in ("hubdock", "hubdock/code")] == [0o755, 0o755]
        for path, (mode, content) in FILES.items():
            member = found[f"hubdock/code/{path}"]
            if mode == "120000":
                assert member.issym() and os.fsencode(member.linkname) == content
            else:
                assert member.mode == int(mode[-3:], 8) and tar.extractfile(member).read() == content  # type: ignore[union-attr]
        assert len(found) == len(FILES) + 2


names = st.binary(min_size=1, max_size=40).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"x").replace(b"/", b"_"))).filter(lambda name: name not in {".", ".."})


@given(st.dictionaries(names, st.binary(max_size=20), max_size=6))
def test_every_name_that_git_can_hold_arrives(files: dict[str, bytes]) -> None:
    if any(name.startswith(".wh.") or name.lower() == ".git" for name in files):
        return
    diff_id, _, plain = spool({name: ("100644", content) for name, content in files.items()})
    with tarfile.open(fileobj=io.BytesIO(plain), errors="surrogateescape") as tar:
        found = {member.name.removeprefix("hubdock/code/"): tar.extractfile(member).read() for member in tar.getmembers() if member.isfile()}  # type: ignore[union-attr]
    assert {os.fsencode(name): content for name, content in found.items()} == {os.fsencode(name): content for name, content in files.items()}
    assert spool({name: ("100644", content) for name, content in files.items()})[0] == diff_id


@pytest.mark.parametrize("path", [".wh.x", ".wh..wh..opq", "a/.wh.b", ".wh.d/x"])
def test_whiteouts_are_refused(path: str) -> None:
    """In a layer they delete what lies below."""
    with pytest.raises(RecipeError, match="can't be part of an image") as caught:
        spool({path: ("100644", b"")})
    assert caught.value.file == path


def test_whiteouts_are_refused_as_targets_too() -> None:
    tree = Tree("0" * 40, f"100644 blob {'1' * 40}\tx\0".encode())
    with pytest.raises(RecipeError, match="can't be part of an image") as caught:
        find_copies(tree, [("x", "/opt/.wh.conda")], "")
    assert caught.value.file == ".hubdock.yml"


def test_memory_does_not_grow_with_the_layer() -> None:
    size = 64 * 1024 * 1024

    def write(context: Context) -> None:
        with open("/dev/zero", "rb") as zeros:
            context.add_stream("big", size, zeros)

    tracemalloc.start()
    with spool_layer(write, (0, 0), "big"):
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    tracemalloc.stop()


def test_a_full_disk_is_told() -> None:
    def write(context: Context) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutOfSpace, match="hubdock gc"), spool_layer(write, (0, 0), "x"):
        pass
