"""Bare copies of a remote: one that is shallow and without file contents, to plan with and to take code from; one with the whole history but
without file contents, which workspaces get.

Both hold only what was asked for. Writers take a lock in the directory; readers need none, for git's objects never change and nothing here is
ever repacked or pruned while in use. No credential is written to either.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hubdock.core.errors import BackendError, HubDockError, OutOfSpace, RefNotFound
from hubdock.core.naming import make_hash, make_slug
from hubdock.core.refs import ResolvedRef
from hubdock.core.repo import RepoURL
from hubdock.core.tree import Tree
from hubdock.drivers import git, process
from hubdock.drivers.git import Remote

_QUIET = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance"]
LOCAL_TIMEOUT = 300.0


def find_directory(state: Path, repo: RepoURL) -> Path:
    """Return the directory of one remote's copies under ``state``."""
    return state / "git" / f"{make_slug(repo.name, 32)}-{make_hash(repo.canonical, length=24)}"


def find_format(commit: str) -> str:
    """Return the object format of a repository, which the length of its ids tells."""
    return "sha256" if len(commit) == 64 else "sha1"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, waiting for it. The kernel drops it with the process, so none is ever left behind."""
    with _take(path):
        yield


def _take(path: Path) -> IO[str]:
    """Return a locked file; not one that was removed with its directory while it was waited for."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            file = path.open("a")
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
            file.close()


class Mirror:
    """The copies of one remote. ``max_size`` bounds what one fetch may bring, in bytes."""

    def __init__(self, state: Path, remote: Remote, max_size: int) -> None:
        self.remote = remote
        self.max_size = max_size
        self.directory = find_directory(state, remote.repo)
        self.plan = self.directory / "plan.git"
        self.history = self.directory / "history.git"

    def _ensure_repository(self, path: Path, commit: str) -> None:
        if (path / "hubdock-ready").exists():
            return
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        for made in (path, self.directory / "empty.git"):
            self._local(["init", "--quiet", "--bare", "--template=", f"--object-format={find_format(commit)}", str(made)])
        settings = {
            "remote.origin.url": self.remote.repo.url, "remote.origin.promisor": "true", "remote.origin.partialclonefilter": "blob:none",
            "extensions.partialClone": "origin", "core.repositoryformatversion": "1", "fetch.unpackLimit": "1", "gc.auto": "0",
        }  # fmt: skip
        with (path / "config").open("a", encoding="utf-8") as file:
            for name, value in settings.items():
                section, _, option = name.rpartition(".")
                head, _, sub = section.partition(".")
                file.write(f'[{head} "{sub}"]\n\t{option} = {value}\n' if sub else f"[{head}]\n\t{option} = {value}\n")
        (path / "hubdock-ready").touch()

    def _local(self, arguments: list[str], stdin: bytes = b"", target: Path | None = None) -> bytes:
        """Run git without a remote; what it prints goes into ``target``, if that is given."""
        output = process.run(["git", *arguments], env=git.make_environment(), timeout=LOCAL_TIMEOUT, stdin=stdin, stdout=target)
        if git.FULL.search(output.error_text):
            raise OutOfSpace.on("the hub", output.error_text[-500:])
        if output.code:
            raise BackendError("git failed on the hub's own copy of the repository. Try again.", f"git {arguments[:3]}: {output.error_text[-500:]}")
        return output.stdout

    def _fetch(self, path: Path, arguments: list[str], stdin: bytes = b"", options: Sequence[str] = ()) -> None:
        """Fetch into one of the copies, whose lock is held. What a fetch that was ended leaves behind is taken away: it may be large.

        A fetch that was killed with its process leaves git's own locks too. We hold ours, so nobody does.
        """
        for left in (*path.glob("*.lock"), *path.glob("refs/**/*.lock"), *path.glob("objects/pack/tmp_*")):
            left.unlink(missing_ok=True)
        try:
            git.run(self.remote, [*options, *_QUIET, *arguments], directory=path, stdin=stdin, max_file=self.max_size)
        except HubDockError:
            for left in (path / "objects" / "pack").glob("tmp_*"):
                left.unlink(missing_ok=True)
            raise

    # --- planning ---

    def has_commit(self, commit: str) -> bool:
        """True if this commit's trees were fetched whole (a mark is written after each fetch)."""
        return (self.plan / "hubdock-commits" / commit).exists()

    def ensure_commit(self, ref: ResolvedRef) -> str:
        """Fetch what a ref stands for, without history and file contents, and return the commit that came: the remote may have moved since.

        Raises ResolveError's children.
        """
        if self.has_commit(ref.commit):
            return ref.commit
        with locked(self.directory / "plan.lock"):
            if self.has_commit(ref.commit):
                return ref.commit
            self._ensure_repository(self.plan, ref.commit)
            local = f"refs/hubdock/{ref.full.removeprefix('refs/')}"
            self._fetch(self.plan, ["--depth=1", "--filter=blob:none", "origin", f"+{ref.full}:{local}"])
            commit = self._local(["-C", str(self.plan), "rev-parse", "--verify", "--end-of-options", f"{local}^{{commit}}"]).decode().strip()
            self._mark(commit)
        return commit

    def restore_commit(self, commit: str) -> None:
        """Fetch a commit by its id, unless it is here: collection may have removed the copy since it was planned."""
        if self.has_commit(commit):
            return
        with locked(self.directory / "plan.lock"):
            if not self.has_commit(commit):
                self._ensure_repository(self.plan, commit)
                self._fetch(self.plan, ["--depth=1", "--filter=blob:none", "origin", f"+{commit}:refs/hubdock/commits/{commit}"])
                self._mark(commit)

    def _mark(self, commit: str) -> None:
        """Write that a commit's trees are here whole."""
        marks = self.plan / "hubdock-commits"
        marks.mkdir(exist_ok=True)
        (marks / commit).touch()

    def read_tree(self, commit: str, subdirectory: str = "") -> Tree:
        """Return the whole tree of a commit that was ensured."""
        spec = f"{commit}:{subdirectory}" if subdirectory else f"{commit}^{{tree}}"
        oid = self._local(["-C", str(self.plan), "rev-parse", "--verify", "--end-of-options", spec]).decode().strip()
        return Tree(oid, self._local(["-C", str(self.plan), "ls-tree", "-r", "-t", "-z", "--full-tree", oid]))

    def read_commit(self, commit: str) -> tuple[str, str, int]:
        """Return (subject, author's name, author's time in seconds) of a commit."""
        text = self._local(["-C", str(self.plan), "log", "-1", "--no-show-signature", "--format=%s%x00%an%x00%at", "--end-of-options", commit]).decode("utf-8", "replace")
        subject, author, stamp = text.rstrip("\n").split("\0")
        return subject, author, int(stamp)

    def read_blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of blobs, fetched in one go if any is missing. For small files: all are held in memory."""
        wanted = sorted(set(oids))
        self.ensure_blobs(wanted)
        return {oid: stream.read() for oid, _, stream in self.stream_blobs(wanted)}

    def ensure_blobs(self, oids: Iterable[str]) -> int:
        """Fetch the blobs that are not here yet, and return how many those were."""
        missing = self.find_missing(oids)
        if not missing:
            return 0
        with locked(self.directory / "plan.lock"):
            missing = self.find_missing(missing)
            if missing:
                text = "".join(f"{oid}\n" for oid in missing).encode()
                # Without "noop" we would say that we have the commit, and the server would leave out all that the commit reaches.
                options = ["-c", "fetch.negotiationAlgorithm=noop"]
                self._fetch(self.plan, ["--filter=blob:none", "--stdin", "origin"], text, options)
        return len(missing)

    def find_missing(self, oids: Iterable[str]) -> list[str]:
        """Return which of these blobs are not here, without fetching any."""
        wanted = sorted(set(oids))
        if not wanted:
            return []
        text = "".join(f"{oid}\n" for oid in wanted).encode()
        output = process.run(["git", "cat-file", "--batch-check=%(objectname)"], env=self._objects_only(), timeout=LOCAL_TIMEOUT, stdin=text)
        return [line.split()[0].decode() for line in output.stdout.splitlines() if line.endswith(b" missing")]

    def _objects_only(self) -> dict[str, str]:
        """Return the environment in which git sees the objects but knows no remote: it would fetch a missing one by itself, a connection each."""
        return git.make_environment() | {"GIT_DIR": str(self.directory / "empty.git"), "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self.plan / "objects")}

    def stream_blobs(self, oids: Iterable[str]) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Yield (id, size, stream of exactly that many bytes) in the order asked for. Each stream must be read before the next is taken."""
        child = process.start(["git", "cat-file", "--batch", "--buffer"], env=self._objects_only())
        assert child.stdin and child.stdout
        feeder = threading.Thread(target=_feed, args=(child.stdin, list(oids)), daemon=True)
        feeder.start()
        try:
            while header := child.stdout.readline():
                oid, kind, size = [*header.decode().split(), "", ""][:3]
                if kind != "blob":
                    raise BackendError("A file of the repository is missing in the hub's copy. Try again.", header.decode("utf-8", "replace"))
                bounded = _Bounded(child.stdout, int(size))
                yield oid, int(size), bounded  # type: ignore[misc]
                bounded.drain()
                child.stdout.read(1)
        finally:
            process.end(child)

    # --- history ---

    def ensure_history(self, ref: ResolvedRef) -> Path:
        """Return a directory with ``history.pack``, ``history.idx`` and ``refs``: all commits and trees of the remote's branches, no contents.

        ``refs`` has a line ``commit name`` for each remote branch and tag. Made once for each commit.
        """
        target = self.directory / "packs" / ref.commit
        with suppress(FileNotFoundError):
            os.utime(target / "refs")  # so that collection sees that it is used
            return target
        with locked(self.directory / "history.lock"):
            if (target / "refs").exists():
                return target
            self._ensure_repository(self.history, ref.commit)
            self._fetch(self.history, ["--prune", "--filter=blob:none", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])
            self._write_pack(ref, target)
        return target

    def _write_pack(self, ref: ResolvedRef, target: Path) -> None:
        path = str(self.history)
        listing = self._local(["-C", path, "for-each-ref", "--format=%(objectname) %(refname)"]).decode("utf-8", "surrogateescape")
        if not self._holds(ref.commit):
            raise RefNotFound(f"{ref.name} changed on {self.remote.repo.host} a moment ago. Start again.", field="ref")
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(".new-*"):
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            revisions = "".join(f"{line.partition(' ')[0]}\n" for line in [*listing.rstrip("\n").split("\n"), ref.commit])
            pack = ["-C", path, "pack-objects", "--quiet", "--revs", "--filter=blob:none", "--missing=allow-any", "--stdout"]
            self._local(pack, revisions.encode(), work / "history.pack")
            self._local(["index-pack", "--no-rev-index", f"--object-format={find_format(ref.commit)}", str(work / "history.pack")])
            (work / "refs").write_text(listing, encoding="utf-8", errors="surrogateescape")
            shutil.rmtree(target, ignore_errors=True)
            work.chmod(0o755)
            work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _holds(self, commit: str) -> bool:
        output = process.run(
            ["git", "-C", str(self.history), "cat-file", "-e", f"{commit}^{{commit}}"], env=git.make_environment(), timeout=LOCAL_TIMEOUT
        )
        return output.code == 0


def _feed(pipe: IO[bytes], oids: list[str]) -> None:
    try:
        pipe.write("".join(f"{oid}\n" for oid in oids).encode())
        pipe.close()
    except (BrokenPipeError, ValueError):
        return


class _Bounded:
    """The next ``size`` bytes of a pipe, as a file."""

    def __init__(self, pipe: IO[bytes], size: int) -> None:
        self._pipe = pipe
        self._left = size

    def read(self, size: int = -1) -> bytes:
        chunk = self._pipe.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        if not chunk and self._left:
            raise BackendError("git stopped in the middle of a file. Try again.", f"{self._left} bytes missing")
        return chunk

    def drain(self) -> None:
        while self._left:
            self.read(min(self._left, 1 << 20))


def make_blob_map(entries: Mapping[str, str], contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return ``{path: content}`` of ``{path: blob id}``."""
    return {path: contents[oid] for path, oid in entries.items()}
