"""One git tree, as ``git ls-tree -r -t -z`` prints it, searched without making an object of each of its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(rb"^(\d{6}) (blob|tree|commit) ([0-9a-f]{40}|[0-9a-f]{64})$")
_GITLINK = b"160000 commit "


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
        self._found: dict[str, TreeEntry | None] = {}

    def __len__(self) -> int:
        return self._listing.count(b"\0")

    def find(self, path: str) -> TreeEntry | None:
        """Return the entry at a path, or None. ``.`` is the root. What was asked once is known: a large listing takes milliseconds to search."""
        if path == ".":
            return TreeEntry(".", "040000", "tree", self.oid)
        if path not in self._found:
            parent = path.rpartition("/")[0]
            self._found[path] = None if parent and self.find(parent) is None else self._search(path)
        return self._found[path]

    def _search(self, path: str) -> TreeEntry | None:
        return next((entry for entry in self.ending_with(b"\t" + path.encode("utf-8", "surrogateescape")) if entry.path == path), None)

    def ending_with(self, *endings: bytes) -> Iterator[TreeEntry]:
        """Yield the entries whose line ends with one of these bytes; a tab stands before the path. One quick search each, not a pattern."""
        for ending in endings:
            wanted = ending + b"\0"
            at = self._listing.find(wanted)
            while at != -1:
                start, end = self._listing.rfind(b"\0", 0, at) + 1, at + len(ending)
                header, tab, path = self._listing[start:end].partition(b"\t")
                match = _HEADER.match(header)
                if match and tab and path:
                    yield TreeEntry(path.decode("utf-8", "surrogateescape"), match[1].decode(), match[2].decode(), match[3].decode())
                at = self._listing.find(wanted, end)

    def matching(self, pattern: bytes) -> Iterator[TreeEntry]:
        """Yield the entries whose whole path matches a regular expression (one that never matches a NUL)."""
        for match in re.finditer(rb"(?:^|\0)(\d{6}) (blob|tree|commit) ([0-9a-f]+)\t(" + pattern + rb")(?=\0)", self._listing):
            yield TreeEntry(match[4].decode("utf-8", "surrogateescape"), match[1].decode(), match[2].decode(), match[3].decode())

    def entries(self) -> Iterator[TreeEntry]:
        """Yield every entry, directories before what they hold."""
        return self.matching(rb"[^\0]+")

    def submodules(self) -> list[str]:
        """Return the paths of submodules."""
        found = []
        at = self._listing.find(_GITLINK)
        while at != -1:
            if at == 0 or self._listing[at - 1] == 0:  # at the start of a line, not part of a name
                line = self._listing[at : self._listing.index(b"\0", at)]
                found.append(line.partition(b"\t")[2].decode("utf-8", "surrogateescape"))
            at = self._listing.find(_GITLINK, at + 1)
        return found
