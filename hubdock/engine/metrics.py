"""Metrics and parameters of commits, from git alone: no server and no DVC is needed. What was read of a commit is remembered for ever.

Whoever calls this has found out, a moment ago, that the person who asks may read the repository. Everything here asks remotes: call it in
their threads (`RemoteThreads.ask`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hubdock.core.errors import RecipeError
from hubdock.core.metrics import MAX_FILE, Measured, Values, load_measured, parse_values
from hubdock.core.pipeline import Declared, find_declared, find_pipelines
from hubdock.core.tree import Tree
from hubdock.drivers.git import Remote
from hubdock.drivers.heads import Heads
from hubdock.drivers.mirror import Mirror, find_directory
from hubdock.engine.reading import Reader

MAX_TOTAL = 16 * 1024**2  # bytes that are read at a time, and held in memory
TOO_LARGE = f"is not read: it is over {MAX_FILE // 1024**2} MiB, or the files that are read with it are over {MAX_TOTAL // 1024**2} MiB together."
VERSION = "metrics-1"
"""Version of the reading: raised whenever the same commit would be read differently."""


def read_metrics(reader: Reader, remote: Remote, heads: Mapping[str, str]) -> dict[str, Measured]:
    """Return what the commits of branches (``{branch: commit}``) say, by commit. One of a branch that moved a moment ago may be left out.

    A commit that was read before costs one query; all others together cost three fetches, however many they are. Raises ResolveError's
    children; a file that can't be read is a notice.
    """
    reader.usage.record([("repository", find_directory(reader.settings.state, remote.repo).name)])
    repo = remote.repo.canonical
    known = {commit: reader.database.read_source(repo, commit, VERSION) for commit in set(heads.values())}
    found = {commit: load_measured(text) for commit, text in known.items() if text is not None}
    missing = {branch: commit for branch, commit in heads.items() if commit not in found}
    if not missing:
        return found
    mirror = Heads(reader.settings.state, remote, reader.settings.max_repo_size)
    trees = {commit: mirror.read_tree(commit) for commit in sorted(mirror.ensure_commits(missing))}
    mirror.ensure_blobs(oid for tree in trees.values() for oid in find_blobs(tree, find_pipelines(tree)).values())
    declared = {commit: read_declared(mirror, tree) for commit, tree in trees.items()}
    mirror.ensure_blobs(oid for commit, said in declared.items() for oid in find_blobs(trees[commit], [*said.metrics, *said.params]).values())
    for commit, tree in trees.items():
        found[commit] = _measure(mirror, tree, declared[commit])
        reader.database.write_source(repo, commit, VERSION, found[commit].dump())
    return found


def read_declared(mirror: Mirror, tree: Tree) -> Declared:
    """Return what the dvc.yaml files of a tree declare."""
    contents, large = read_small(mirror, tree, find_pipelines(tree))
    declared = find_declared(tree, contents)
    declared.notices += [f"{path} {TOO_LARGE}" for path in large]
    return declared


def _measure(mirror: Mirror, tree: Tree, declared: Declared) -> Measured:
    contents, large = read_small(mirror, tree, [*declared.metrics, *declared.params])
    notices = [*declared.notices, *(f"{path} {TOO_LARGE}" for path in large)]
    for path in declared.metrics:
        entry = tree.find(path)
        if entry is None:
            notices.append(_tell_absent(path, declared))
        elif not entry.is_file:
            notices.append(f"{path} is no regular file, so it is not read.")
    metrics = _parse_all(declared.metrics, contents, notices, lists=False)
    params = _parse_all([path for path in declared.params if path not in metrics], contents, notices, lists=True)
    return Measured(metrics, params, tuple(dict.fromkeys(notices)))


def _tell_absent(path: str, declared: Declared) -> str:
    if path in declared.cached:
        return f"{path} is kept by DVC, not by git, so it is not read here. With `cache: false` in dvc.yaml, and the file committed, it is."
    return f"{path} is declared in dvc.yaml, but not committed."


def _parse_all(paths: Sequence[str], contents: Mapping[str, bytes], notices: list[str], *, lists: bool) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for path in paths:
        if path in contents:
            try:
                found[path], more = parse_values(path, contents[path], lists=lists)
            except RecipeError as error:
                notices.append(str(error))
                continue
            if more:
                notices.append(f"{path} holds more values than are read: the first {len(found[path])} are shown.")
    return found


def find_blobs(tree: Tree, paths: Sequence[str]) -> dict[str, str]:
    """Return ``{path: blob id}`` of those paths that are files of the tree."""
    return {path: entry.oid for path in paths if (entry := tree.find(path)) is not None and entry.is_file}


def read_small(mirror: Mirror, tree: Tree, paths: Sequence[str], limit: int = MAX_FILE) -> tuple[dict[str, bytes], list[str]]:
    """Return the contents of those paths that are files of the tree, fetched in one go, and which of them are over ``limit`` bytes (and left out)."""
    oids = find_blobs(tree, paths)
    contents = read_bounded(mirror, list(oids.values()), limit)
    return {path: contents[oid] for path, oid in oids.items() if oid in contents}, [path for path, oid in oids.items() if oid not in contents]


def read_bounded(mirror: Mirror, oids: Sequence[str], limit: int = MAX_FILE) -> dict[str, bytes]:
    """Return the contents of those blobs that are at most ``limit`` bytes, fetched in one go, until they are `MAX_TOTAL` bytes together."""
    wanted = sorted(set(oids))
    mirror.ensure_blobs(wanted)
    found: dict[str, bytes] = {}
    left = MAX_TOTAL
    for oid, size, stream in mirror.stream_blobs(wanted) if wanted else ():
        if size <= min(limit, left):
            found[oid] = stream.read()
            left -= size
    return found
