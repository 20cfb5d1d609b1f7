"""Build contexts, as tar streams: sorted or in git's order, time 0, explicit modes, so that the same content is the same bytes.

A tar on stdin is always read whole; BuildKit compares a directory it has seen before by size and time only, and then serves stale code.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hubdock.core.errors import RecipeError

if TYPE_CHECKING:
    from hubdock.core.tree import Tree, TreeEntry
    from hubdock.drivers.mirror import Mirror

DIRECTORY, FILE, PROGRAM = 0o755, 0o644, 0o755


class Context:
    """A tar stream that is being written. Parents are made once, as directories of mode 755. ``owner`` is (uid, gid) of all that is in it.

    A slash at the start of a path is dropped. A name that is not UTF-8 goes into a PAX header as the bytes that it is (``hdrcharset=BINARY``).
    """

    def __init__(self, target: IO[bytes], owner: tuple[int, int] = (0, 0)) -> None:
        self._owner = owner
        self._tar = tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape")  # noqa: SIM115 (closed by close)
        self._made: set[str] = set()

    def add_directory(self, path: str) -> None:
        """Add a directory and its parents, unless they are there."""
        path = path.strip("/")
        if not path or path in self._made:
            return
        self.add_directory(path.rpartition("/")[0])
        self._made.add(path)
        self._add(path, tarfile.DIRTYPE, DIRECTORY)

    def add_bytes(self, path: str, content: bytes, mode: int = FILE) -> None:
        """Add a file."""
        self.add_stream(path, len(content), io.BytesIO(content), mode)

    def add_stream(self, path: str, size: int, stream: IO[bytes], mode: int = FILE) -> None:
        """Add a file of a known size."""
        self.add_directory(path.rpartition("/")[0])
        self._add(path, tarfile.REGTYPE, mode, size, stream)

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.add_directory(path.rpartition("/")[0])
        self._add(path, tarfile.SYMTYPE, 0o777, link=target)

    def _add(self, path: str, kind: bytes, mode: int, size: int = 0, stream: IO[bytes] | None = None, link: str = "") -> None:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.mode, info.mtime, info.size, info.linkname = kind, mode, 0, size, link
        info.uid, info.gid = self._owner
        self._tar.addfile(info, stream)

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()


def add_tree(context: Context, mirror: Mirror, entries: Iterable[TreeEntry], places: Mapping[str, list[str]] | None = None, prefix: str = "") -> int:
    """Write entries of a tree, whose blobs are in the mirror, below ``prefix``, and return the bytes of their files.

    ``places`` maps a path to further places in the context, whole. Submodules become empty directories, as a plain clone leaves them. Raises
    RecipeError for names that a layer can't hold (``.wh.`` means "deleted" in one), and for ``.git``, which only a tree that no git made can have: what
    is in it would act on whoever looks at the workspace.
    """
    blobs, total = [], 0
    for entry in entries:
        _check_name(entry.path, entry.path)
        if any(part.lower() == ".git" for part in entry.path.split("/")):
            raise RecipeError("The repository holds a path in “.git”, which git itself would refuse. It can't be started.", file=entry.path)
        if entry.kind == "blob":
            blobs.append(entry)
        else:
            context.add_directory(prefix + entry.path)
    for entry, (_, size, stream) in zip(blobs, mirror.stream_blobs(entry.oid for entry in blobs), strict=True):
        targets = [prefix + entry.path, *(places or {}).get(entry.path, [])]
        total += size
        if len(targets) == 1 and entry.mode != "120000":
            context.add_stream(targets[0], size, stream, PROGRAM if entry.mode == "100755" else FILE)
            continue
        content = stream.read()
        for target in targets:
            if entry.mode == "120000":
                context.add_link(target, content.decode("utf-8", "surrogateescape"))
            else:
                context.add_bytes(target, content, PROGRAM if entry.mode == "100755" else FILE)
    return total


def _check_name(path: str, file: str) -> None:
    if any(part.startswith(".wh.") for part in path.split("/")):
        raise RecipeError("A name that starts with “.wh.” can't be part of an image. Rename it.", file=file)


def find_copies(tree: Tree, copies: Iterable[tuple[str, str]], root: str) -> dict[str, list[str]]:
    """Return ``{path in the tree: [places in the context]}`` of the ``copy`` pairs of ``.hubdock.yml``; ``root`` is where ``/`` is.

    Raises RecipeError for a source that the tree does not have, and for a target that a layer can't hold.
    """
    places: dict[str, list[str]] = {}
    for source, target in copies:
        _check_name(target, ".hubdock.yml")
        found = tree.find(source or ".")
        if found is None:
            raise RecipeError(f"“copy” names {source}, which this branch does not have.", file=".hubdock.yml")
        if found.kind == "blob":
            places.setdefault(source, []).append(root + target)
            continue
        prefix = f"{source}/" if source else ""
        for entry in tree.entries():
            if entry.kind == "blob" and entry.path.startswith(prefix):
                places.setdefault(entry.path, []).append(f"{root}{target}/{entry.path[len(prefix) :]}")
    return places


def add_directory_tree(context: Context, source: Path, prefix: str) -> None:
    """Add the Python files of a directory of hubdock itself, sorted."""
    for path in sorted(source.glob("*.py")):
        context.add_bytes(f"{prefix}{path.name}", path.read_bytes())
