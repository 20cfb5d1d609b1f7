"""The newest commits of all branches of a remote: what a board says of each, with one fetch for all of them.

A third bare copy beside those of `hubdock.drivers.mirror` holds the commits alone, without trees: a few hundred bytes for a branch. The trees of
the branches that are looked at closer come into the copy that plans are made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hubdock.drivers import git, process
from hubdock.drivers.mirror import LOCAL_TIMEOUT, Mirror, locked

_FORMAT = "%H%n%an%n%at%n%ct%n%s"
_TIPS = "refs/hubdock/tips"


@dataclass(frozen=True)
class Tip:
    """A commit as a board shows it. Times are seconds since the epoch: ``author_time`` when it was written, ``time`` when it came onto its branch."""

    commit: str
    author: str
    author_time: int
    time: int
    subject: str


class Heads(Mirror):
    """The copies of one remote, as far as its branches' newest commits go."""

    def fetch_tips(self, commit: str) -> None:
        """Fetch the newest commit of every branch, without its files. ``commit`` is any of them: it tells the kind of ids. Raises ResolveError's children."""
        path = self.directory / "heads.git"
        with locked(self.directory / "heads.lock"):
            self._ensure_repository(path, commit)
            self._fetch(path, ["--prune", "--depth=1", "--filter=tree:0", "origin", "+refs/heads/*:refs/heads/*"])

    def read_tips(self, commits: Iterable[str]) -> dict[str, Tip]:
        """Return those of these commits that are here, by id. Nothing is fetched."""
        env = git.make_environment() | {
            "GIT_DIR": str(self.directory / "empty.git"), "GIT_ALTERNATE_OBJECT_DIRECTORIES": f"{self.directory / 'heads.git' / 'objects'}:{self.plan / 'objects'}",
        }  # fmt: skip
        argv = ["git", "log", "--no-walk=unsorted", "--ignore-missing", "--no-show-signature", "-z", f"--format={_FORMAT}", "--stdin"]
        output = process.run(argv, env=env, timeout=LOCAL_TIMEOUT, stdin="".join(f"{commit}\n" for commit in sorted(set(commits))).encode())
        found = [entry.split("\n", 4) for entry in output.stdout.decode("utf-8", "replace").split("\0") if entry.count("\n") >= 4]
        return {entry[0]: Tip(entry[0], entry[1][:120], int(entry[2] or 0), int(entry[3] or 0), entry[4][:300]) for entry in found}

    def ensure_commits(self, heads: Mapping[str, str]) -> set[str]:
        """Fetch the trees of these branches (name to commit) in one go, and return the commits that are here now. Raises ResolveError's children."""
        # A name that is no valid text can't be asked for; it can't be started either.
        missing = {name: commit for name, commit in heads.items() if "\ufffd" not in name and not self.has_commit(commit)}
        if missing:
            # A hash for a name: a branch “a” that was once there would be in the way of “a/b”.
            local = {name: f"{_TIPS}/{hashlib.sha256(name.encode()).hexdigest()[:40]}" for name in missing}
            refspecs = "".join(f"+refs/heads/{name}:{ref}\n" for name, ref in local.items()).encode()
            with locked(self.directory / "plan.lock"):
                self._ensure_repository(self.plan, next(iter(missing.values())))
                self._fetch(self.plan, ["--depth=1", "--filter=blob:none", "--stdin", "origin"], refspecs)
                listing = self._local(["-C", str(self.plan), "for-each-ref", "--format=%(objectname) %(refname)", _TIPS]).decode()
                came = {ref: commit for commit, _, ref in (line.partition(" ") for line in listing.splitlines())}
                for ref in local.values():
                    self._mark(came[ref])
        return {commit for commit in heads.values() if self.has_commit(commit)}
