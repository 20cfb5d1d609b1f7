"""How files came about: the last commits of branches that changed them, from the copy with the whole history that workspaces get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubdock.core.errors import BackendError
from hubdock.drivers import git, process
from hubdock.drivers.heads import Heads
from hubdock.drivers.mirror import locked

LOG_TIMEOUT = 20.0
_FORMAT = "%x01%H%x00%ct%x00%s"


@dataclass(frozen=True)
class Change:
    """One commit that changed files: ``{path: blob id}`` of those it left there. ``time`` is seconds since the epoch."""

    commit: str
    time: int
    subject: str
    files: Mapping[str, str]


class History(Heads):
    """The copies of one remote, as far as its branches' histories go."""

    def ensure_branches(self, commits: Sequence[str]) -> None:
        """Fetch the histories of all branches in one go, unless these commits are here. Raises ResolveError's children."""
        if self._has_all(commits):
            return
        with locked(self.directory / "history.lock"):
            if not self._has_all(commits):
                self._ensure_repository(self.history, commits[0])
                self._fetch(self.history, ["--prune", "--filter=blob:none", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])

    def _has_all(self, commits: Sequence[str]) -> bool:
        text = "".join(f"{commit}\n" for commit in commits).encode()
        output = process.run(["git", "cat-file", "--batch-check"], env=self._history_only(), timeout=LOG_TIMEOUT, stdin=text)
        return output.code == 0 and not any(line.endswith(b" missing") for line in output.stdout.splitlines())

    def _history_only(self) -> dict[str, str]:
        """Return the environment in which git sees the history but no remote, so that it never fetches what is missing one by one."""
        return git.make_environment() | {"GIT_DIR": str(self.directory / "empty.git"), "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self.history / "objects")}

    def list_changes(self, commit: str, paths: Sequence[str], count: int) -> list[Change]:
        """Return the last ``count`` commits on the way to ``commit`` (first parents) that changed these files, newest first. Nothing is fetched.

        Raises BackendError if git can't tell within `LOG_TIMEOUT` seconds.
        """
        argv = ["git", "--literal-pathspecs", "log", f"--max-count={count}", "--first-parent", "-m", "--raw", "--no-abbrev", "--no-renames", "-z", "--no-show-signature"]
        try:
            output = process.run([*argv, f"--format={_FORMAT}", "--end-of-options", commit, "--", *paths], env=self._history_only(), timeout=LOG_TIMEOUT)
        except process.DeadlineExceeded as error:
            raise BackendError("The history is too long to be searched.", str(error)) from error
        if output.code:
            raise BackendError("git can't read the history in the hub's own copy. Try again.", output.error_text[-500:])
        entries = output.stdout.decode("utf-8", "surrogateescape").split("\x01")[1:]
        return [_parse_change(entry) for entry in entries]


def _parse_change(entry: str) -> Change:
    """Return a commit of the log: its own fields, then a ``:modes ids letter`` and a path for each file (git-diff-tree(1), “raw output format”)."""
    commit, time, subject, *rest = entry.split("\0")
    fields = [field.lstrip("\n") for field in rest if field]
    files = {}
    for header, path in zip(fields[::2], fields[1::2], strict=False):
        mode, oid = header.split(" ")[1], header.split(" ")[3]
        if mode in {"100644", "100755"}:
            files[path] = oid
    return Change(commit, int(time or 0), subject.encode("utf-8", "replace").decode("utf-8")[:300], files)
