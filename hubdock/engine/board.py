"""What the board says of branches: read in threads, many branches at a time, and remembered for as long as the process lives.

Everything here is of commits, which never change. Who may see it is not decided here: the commits are to come from what a remote answered a moment
ago to whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import select

from hubdock.core.contract import BaseImage
from hubdock.core.errors import RecipeError
from hubdock.core.metrics import Scalar
from hubdock.core.naming import make_directory
from hubdock.core.project import HOME
from hubdock.core.refs import ResolvedRef
from hubdock.core.repo import RepoURL
from hubdock.core.source import Source
from hubdock.drivers.git import Remote
from hubdock.drivers.heads import Heads, Tip
from hubdock.drivers.mirror import find_directory
from hubdock.engine.assembly import make_environment_inputs
from hubdock.engine.database import BuildRow, Database
from hubdock.engine.memory import Memory
from hubdock.engine.metrics import read_metrics
from hubdock.engine.reading import Reader, find_files

MOST = 50_000  # commits that are remembered
METRICS = 40  # of a commit
RECORDS = 2000  # records of builds that are looked through


@dataclass(frozen=True)
class Details:
    """What the files of a commit say (`hubdock.core.board.Row`)."""

    environment: str = ""
    problem: str = ""
    metrics: tuple[tuple[str, Scalar], ...] = ()


class BoardReader:
    """Reads the branches of repositories. Its methods block, and may be called from any thread."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.database = reader.database
        self.tips = Memory[tuple[str, str], Tip](MOST)  # by repository and id
        self.details = Memory[tuple[str, str], Details](MOST)

    def find_tips(self, repo: RepoURL, commits: Iterable[str]) -> dict[str, Tip]:
        """Return what is known of commits. It blocks on nothing."""
        return {commit: tip for commit in commits if (tip := self.tips.get((repo.canonical, commit))) is not None}

    def find_details(self, repo: RepoURL, commits: Iterable[str]) -> dict[str, Details]:
        """Return what is known of the files of commits. It blocks on nothing."""
        return {commit: known for commit in commits if (known := self.details.get((repo.canonical, commit))) is not None}

    def _make_heads(self, remote: Remote) -> Heads:
        settings = self.reader.settings
        self.reader.usage.record([("repository", find_directory(settings.state, remote.repo).name)])
        return Heads(settings.state, remote, settings.max_repo_size)

    def read_tips(self, remote: Remote, heads: Mapping[str, str]) -> None:
        """Learn of the newest commits of all branches (name to commit): from the copies here, else with one fetch. Raises ResolveError's children."""
        copies, repo = self._make_heads(remote), remote.repo.canonical
        wanted = [commit for commit in heads.values() if (repo, commit) not in self.tips]
        found = copies.read_tips(wanted)
        if any(commit not in found for commit in wanted):
            copies.fetch_tips(wanted[0])
            found = copies.read_tips(wanted)
        for commit, tip in found.items():
            self.tips[repo, commit] = tip

    def read_details(self, remote: Remote, heads: Mapping[str, str]) -> None:
        """Learn of the files of these branches (name to commit): a few fetches for all of them together.

        A branch that moved meanwhile is passed over. Raises ResolveError's children.
        """
        repo = remote.repo.canonical
        wanted = {name: commit for name, commit in heads.items() if (repo, commit) not in self.details}
        copies = self._make_heads(remote)
        here = copies.ensure_commits(wanted)
        copies.ensure_blobs(self._find_oids(copies, here))
        measured = read_metrics(self.reader, remote, {name: commit for name, commit in wanted.items() if commit in here})
        for name, commit in wanted.items():
            if commit in measured and (repo, commit) not in self.details:
                self.details[repo, commit] = replace(self._read(remote, ResolvedRef(name, "branch", commit)), metrics=tuple(measured[commit].list_metrics(METRICS)))

    def _find_oids(self, copies: Heads, commits: Iterable[str]) -> set[str]:
        """Return the files that will be read of commits which were not read before, so that they come in one fetch."""
        oids: set[str] = set()
        for commit in commits:
            if self.database.read_source(copies.remote.repo.canonical, commit, self.reader.version) is None:
                tree = copies.read_tree(commit)
                oids |= {entry.oid for path in find_files(tree, self.reader.settings.requirements_paths) if (entry := tree.find(path)) is not None}
        return oids

    def _read(self, remote: Remote, ref: ResolvedRef) -> Details:
        try:
            _, source = self.reader.read(remote, ref)
            return Details(self.find_environment(remote.repo, source))
        except RecipeError as error:
            return Details(problem=f"{error.file}: {error.message}" if error.file else error.message)

    def find_environment(self, repo: RepoURL, source: Source) -> str:
        """Return a text that is equal for commits that a start would give the same environment now. Raises RecipeError.

        It is the key of the environment with the name of its base in place of what is in it, and before what follows from the rest is looked up:
        the commits of its git requirements, and its epoch.
        """
        reference = self.reader.find_base_reference(source.recipe, 0)
        base = BaseImage(reference, "", {"reference": reference}, "", {}, (), 0, 0, "", 0)
        lines = tuple((line.value, "") for line in source.recipe.sources)
        return make_environment_inputs(self.reader.settings, source, f"{HOME}/{make_directory(repo)}", base, "", lines, 0).key


def find_makers(database: Database, repos: Iterable[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return who made the hypotheses of repositories (`RepoURL.canonical`) here, by repository and branch, as far as builds are remembered."""
    query = select(BuildRow.repo, BuildRow.options, BuildRow.users).where(BuildRow.repo.in_(sorted(set(repos))), BuildRow.options.contains('"new_branch"'))
    with database.reading() as session:
        rows = list(session.execute(query.order_by(BuildRow.created).limit(RECORDS)))
    makers: dict[tuple[str, str], tuple[str, ...]] = {}
    for repo, options, users in rows:
        names = tuple(dict.fromkeys(str(user) for user, _ in json.loads(users)))
        key = (str(repo), str(json.loads(options).get("new_branch", "")))
        makers[key] = tuple(dict.fromkeys((*makers.get(key, ()), *names)))
    return makers


def find_repositories(database: Database, user: str) -> list[str]:
    """Return the addresses of the repositories that a user started something of, the latest first."""
    query = select(BuildRow.options, BuildRow.users).where(BuildRow.users.contains(json.dumps(user), autoescape=True))
    with database.reading() as session:
        rows = list(session.execute(query.order_by(BuildRow.created.desc()).limit(RECORDS)))
    mine = [json.loads(options).get("repo", "") for options, users in rows if any(name == user for name, _ in json.loads(users))]
    return [str(repo) for repo in dict.fromkeys(mine) if repo]


