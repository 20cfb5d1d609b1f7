"""Branches compared: metrics, parameters, requirements, data, notebooks and plots, all from git. Call it in the threads of remotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hubdock.core.asker import Asker
from hubdock.core.charts import Chart
from hubdock.core.comparison import DataChange, Row, explain_requirements, list_data_changes, make_metric_rows, make_param_rows
from hubdock.core.dvcfiles import find_data_files
from hubdock.core.errors import HubDockError, InvalidOption, RefNotFound
from hubdock.core.metrics import Measured
from hubdock.core.recipe import find_first_files
from hubdock.core.refs import ResolvedRef, find_near
from hubdock.core.repo import RepoURL
from hubdock.core.source import Source
from hubdock.core.text import make_plain
from hubdock.core.tree import Tree
from hubdock.drivers import git
from hubdock.drivers.git import Remote, RemoteRefs
from hubdock.drivers.history import History
from hubdock.engine.drawing import draw_history, draw_plots
from hubdock.engine.metrics import find_blobs, read_metrics
from hubdock.engine.reading import Reader

MOST = 8
MAX_NOTEBOOKS = 200


@dataclass(frozen=True)
class Side:
    """One branch: what its commit says. ``source`` is None where the commit's recipe can't be read; ``problem`` then says why."""

    branch: str
    commit: str
    measured: Measured
    tree: Tree
    source: Source | None
    problem: str = ""


@dataclass(frozen=True)
class Difference:
    """What of the requirements and the data of a branch differs from the base's. ``notebooks`` are (path, added, removed or changed).

    ``readable`` is false where the requirements or the data of either can't be read: nothing is known of both then.
    """

    branch: str
    requirements: tuple[str, ...]
    data: tuple[DataChange, ...]
    notebooks: tuple[tuple[str, str], ...]
    readable: bool = True


@dataclass(frozen=True)
class Comparison:
    """Branches compared with one of them, the ``base``. ``notices`` are (branch, text): what was not read, and why."""

    base: int
    sides: tuple[Side, ...]
    metrics: tuple[Row, ...]
    params: tuple[Row, ...]
    differences: tuple[Difference, ...]
    plots: tuple[Chart, ...] = ()
    history: tuple[Chart, ...] = ()
    notices: tuple[tuple[str, str], ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "base": self.sides[self.base].branch,
            "branches": [
                {"branch": side.branch, "commit": side.commit, "subject": side.source.subject if side.source else "", "author": side.source.author if side.source else "",
                 "time": side.source.author_time if side.source else None} for side in self.sides
            ],
            "metrics": [_describe_row(row) for row in self.metrics], "params": [_describe_row(row) for row in self.params],
            "differences": [
                {"branch": one.branch, "readable": one.readable, "requirements": list(one.requirements), "data": [asdict(change) for change in one.data],
                 "notebooks": [{"path": path, "change": change} for path, change in one.notebooks]} for one in self.differences
            ],
            "plots": [chart.as_dict() for chart in self.plots], "history": [chart.as_dict() for chart in self.history],
            "notices": [{"branch": branch, "message": message} for branch, message in self.notices],
        }  # fmt: skip


def _describe_row(row: Row) -> dict[str, Any]:
    return {"file": row.file, "name": row.name, "differs": row.differs, "values": [asdict(cell) for cell in row.cells]}


def choose(refs: RemoteRefs, wanted: Sequence[str], base: str = "") -> tuple[dict[str, str], str]:
    """Return ``{branch: commit}`` of the wanted branches and which of them is the base: the given one, else the default branch, else the first.

    Raises InvalidOption and RefNotFound, which name the field.
    """
    names = list(dict.fromkeys(wanted))
    if len(names) < 2:
        raise InvalidOption("Choose two branches or more.", field="refs")
    if len(names) > MOST:
        raise InvalidOption(f"{len(names)} branches are chosen; at most {MOST} are compared at a time.", field="refs")
    for name in [*names, *([base] if base else [])]:
        if name not in refs.heads:
            near = find_near(name[:255], refs.branches)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise RefNotFound(f"There is no branch {make_plain(name, 255)}.{hint}", field="refs")
    chosen = base or (refs.default if refs.default in names else names[0])
    return {name: refs.heads[name] for name in (names if chosen in names else [chosen, *names][:MOST])}, chosen


def compare(reader: Reader, repo: RepoURL, asker: Asker, wanted: Sequence[str], base: str = "") -> tuple[RemoteRefs, Comparison]:
    """Return the branches of a repository as they are now, and some of them compared, as a person may read them.

    Raises ResolveError's children, InvalidOption, RepoNotAllowed.
    """
    reader.settings.check_choice(repo)
    remote = reader.make_remote(repo, asker)
    refs = git.list_branches(remote)  # whoever may not read the repository gets no further
    heads, chosen = choose(refs, wanted, base)
    return refs, compare_commits(reader, remote, heads, chosen)


def compare_commits(reader: Reader, remote: Remote, heads: Mapping[str, str], chosen: str) -> Comparison:
    """Return the commits of branches compared with the chosen one's."""
    sides = read_sides(reader, remote, heads)
    if chosen not in (side.branch for side in sides):
        raise RefNotFound(f"{make_plain(chosen, 255)} changed a moment ago. Load the page again.", field="refs")
    base = next(number for number, side in enumerate(sides) if side.branch == chosen)
    notices = [(side.branch, notice) for side in sides for notice in (*((side.problem,) if side.problem else ()), *side.measured.notices)]
    measured = [side.measured for side in sides]
    history = History(reader.settings.state, remote, reader.settings.max_repo_size)
    named = [(side.branch, side.commit, side.tree) for side in sides]
    plots = draw_plots(history, named, notices)
    drawn = draw_history(history, named, measured, notices)
    return Comparison(
        base, tuple(sides), tuple(make_metric_rows(measured, base)), tuple(make_param_rows(measured, base)),
        tuple(find_difference(sides[base], side) for number, side in enumerate(sides) if number != base), plots, drawn, tuple(dict.fromkeys(notices)),
    )  # fmt: skip


def read_sides(reader: Reader, remote: Remote, heads: Mapping[str, str]) -> list[Side]:
    """Return what the branches' commits say, fetched together. One that moved away meanwhile is left out."""
    measured = read_metrics(reader, remote, heads)
    mirror = History(reader.settings.state, remote, reader.settings.max_repo_size)
    here = mirror.ensure_commits(heads)
    trees = {commit: mirror.read_tree(commit) for commit in sorted(here & measured.keys())}
    firsts = [find_blobs(tree, [*find_first_files(tree, reader.settings.requirements_paths), *find_data_files(tree)]) for tree in trees.values()]
    mirror.ensure_blobs(oid for found in firsts for oid in found.values())
    sides = []
    for branch, commit in heads.items():
        if commit in trees:
            source, problem = None, ""
            try:
                _, source = reader.read(remote, ResolvedRef(branch, "branch", commit))
            except HubDockError as error:
                problem = str(error)
            sides.append(Side(branch, commit, measured[commit], trees[commit], source, problem))
    return sides


def find_difference(base: Side, other: Side) -> Difference:
    """Return what differs between two branches beside their numbers."""
    requirements: list[str] = []
    data: list[DataChange] = []
    if base.source and other.source:
        requirements, data = explain_requirements(base.source, other.source), list_data_changes(base.source, other.source)
    readable = base.source is not None and other.source is not None
    return Difference(other.branch, tuple(requirements), tuple(data), tuple(list_notebooks(base.tree, other.tree)), readable)


def list_notebooks(before: Tree, after: Tree) -> list[tuple[str, str]]:
    """Return (path, added, removed or changed) of the notebooks that differ, by path."""
    old, new = ({entry.path: entry.oid for entry in tree.ending_with(b".ipynb") if entry.is_file} for tree in (before, after))
    paths = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path) and path == make_plain(path, 1000))
    return [(path, "changed" if path in old and path in new else "added" if path in new else "removed") for path in paths[:MAX_NOTEBOOKS]]
