"""One git tree, as ``git ls-tree -r -t -z`` prints it, searched without making an object of each of its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(rb"^(\d{6}) (blob|tree|commit) ([0-9a-f]{40}|[0-9a-f]{64})$")
_GITLINK = re.compile(rb"(?:^|\0)160000 commit [0-9a-f]+\t([^\0]+)")


@dataclass(frozen=True)
class TreeEntry:
    """One entry. ``mode`` is git's six digits, ``kind`` is ``blob``, ``tree`` or ``commit`` (a submodule), ``oid`` the object id."""

    path: str
    mode: str
    kind: str
    oid: str

    @property
    def is_file(self) -> bool:
        """True for a regular file: no link, directory or submodule."""
        return self.mode in {"100644", "100755"}


class Tree:
    """A whole tree: ``oid`` is its id; paths are text, undecodable bytes as in `os.fsdecode`."""

    def __init__(self, oid: str, listing: bytes) -> None:
        self.oid = oid
        self._listing = listing

    def __len__(self) -> int:
        return self._listing.count(b"\0")

    def find(self, path: str) -> TreeEntry | None:
        """Return the entry at a path, or None. ``.`` is the root."""
        if path == ".":
            return TreeEntry(".", "040000", "tree", self.oid)
        wanted = b"\t" + path.encode("utf-8", "surrogateescape") + b"\0"
        at = self._listing.find(wanted)
        while at != -1:
            start = self._listing.rfind(b"\0", 0, at) + 1
            header = _HEADER.match(self._listing[start:at])
            if header:
                return TreeEntry(path, header[1].decode(), header[2].decode(), header[3].decode())
            at = self._listing.find(wanted, at + 1)
        return None

    def matching(self, pattern: bytes) -> Iterator[TreeEntry]:
        """Yield the entries whose whole path matches a regular expression (one that never matches a NUL)."""
        for match in re.finditer(rb"(?:^|\0)(\d{6}) (blob|tree|commit) ([0-9a-f]+)\t(" + pattern + rb")(?=\0)", self._listing):
            yield TreeEntry(match[4].decode("utf-8", "surrogateescape"), match[1].decode(), match[2].decode(), match[3].decode())

    def entries(self) -> Iterator[TreeEntry]:
        """Yield every entry, directories before what they hold."""
        return self.matching(rb"[^\0]+")

    def submodules(self) -> list[str]:
        """Return the paths of submodules."""
        return [match[1].decode("utf-8", "surrogateescape") for match in _GITLINK.finditer(self._listing)]
