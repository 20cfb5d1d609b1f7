"""Reading a commit: from a ref to what it says, with as little of the repository as that takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hubdock.core import source as source_module
from hubdock.core.asker import Asker
from hubdock.core.dvcfiles import DataFiles, find_data_files, parse_data_files
from hubdock.core.errors import ConfigError, RecipeError
from hubdock.core.naming import make_hash
from hubdock.core.recipe import MissingBlobs, Recipe, find_first_files, make_recipe
from hubdock.core.refs import ResolvedRef
from hubdock.core.repo import RepoURL
from hubdock.core.source import Source, load_source
from hubdock.core.tree import Tree
from hubdock.drivers.certificates import ensure_bundle
from hubdock.drivers.git import Remote
from hubdock.drivers.mirror import Mirror, find_directory
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.memory import Memory
from hubdock.engine.usage import Usage

MAX_DATA_FILES = 10_000
_KEPT, _KEPT_SIZE = 256, 64 * 1024  # commits in memory, and the characters of one


class Reader:
    """Reads commits, and remembers what they say for ever."""

    def __init__(self, settings: HubDock, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.usage = Usage(database)
        self.version = f"{source_module.VERSION}-{make_hash(*settings.requirements_paths)}"
        self._sources = Memory[tuple[str, str], Source](_KEPT)

    def make_remote(self, repo: RepoURL, asker: Asker) -> Remote:
        """Return how a person reaches a repository: with the credential that is theirs to use, or none. Raises RepoNotAllowed, and ConfigError if its credential can't be read."""
        policy = self.settings.policy
        policy.check(repo)
        settings = self.settings
        certificates = str(ensure_bundle(settings.state, settings.extra_ca_certificates)) if settings.extra_ca_certificates else ""
        return Remote(repo, settings.git_timeout, settings.find_credential(repo.origin, asker), policy.trusts_address(repo), dict(settings.proxies), certificates)

    def make_mirror(self, remote: Remote) -> Mirror:
        """Return the hub's own copies of a repository."""
        return Mirror(self.settings.state, remote, self.settings.max_repo_size)

    def read(self, remote: Remote, ref: ResolvedRef) -> tuple[ResolvedRef, Source]:
        """Return what a ref's commit says, and the ref (its commit is a newer one if the branch moved meanwhile).

        A commit that was read before costs one query at most, and nothing over the network. Raises ResolveError's children and RecipeError.
        """
        self.usage.record([("repository", find_directory(self.settings.state, remote.repo).name)])
        known = self._recall(remote.repo.canonical, ref.commit)
        if known is not None:
            return ref, known
        mirror = self.make_mirror(remote)
        commit = mirror.ensure_commit(ref)
        ref = replace(ref, commit=commit)
        source = self._read(mirror, commit)
        self.database.write_source(remote.repo.canonical, commit, self.version, source.dump())
        return ref, source

    def _recall(self, repo: str, commit: str) -> Source | None:
        """Return what is remembered of a commit: what it says never changes."""
        found = self._sources.get((repo, commit))
        if found is None:
            text = self.database.read_source(repo, commit, self.version)
            if text is None:
                return None
            found = load_source(text)
            if len(text) <= _KEPT_SIZE:
                self._sources[repo, commit] = found
        return found

    def _read(self, mirror: Mirror, commit: str) -> Source:
        tree = mirror.read_tree(commit)
        data_paths = find_data_files(tree)
        if len(data_paths) > MAX_DATA_FILES:
            raise RecipeError(f"The branch has {len(data_paths)} DVC files; at most {MAX_DATA_FILES} are read. Track directories instead of files.")
        extra = self.settings.requirements_paths
        blobs = read_paths(mirror, tree, find_files(tree, extra))
        recipe = self._make_recipe(mirror, tree, blobs, extra)
        if re.search(rb"filter=lfs", blobs.get(".gitattributes", b"")):
            recipe = replace(recipe, notices=(*recipe.notices, "Files kept by Git LFS are pointers at first. Run `git lfs pull` in the server."))
        data = parse_data_files(tree, blobs) if data_paths else DataFiles()
        subject, author, stamp = mirror.read_commit(commit)
        return Source(commit, tree.oid, subject[:300], author[:120], stamp, len(tree), recipe, data)

    def _make_recipe(self, mirror: Mirror, tree: Tree, blobs: dict[str, bytes], extra: Sequence[str]) -> Recipe:
        while True:
            try:
                return make_recipe(tree, blobs, extra)
            except MissingBlobs as missing:
                blobs |= read_paths(mirror, tree, missing.paths)

    def find_base_reference(self, recipe: Recipe, gpu: int) -> str:
        """Return the base image of a recipe: what it names in .hubdock.yml, else the admin's for CPU or GPU. Raises RecipeError."""
        chosen = recipe.project.base
        settings = self.settings
        if chosen:
            if chosen not in settings.base_images:
                offered = ", ".join(sorted(settings.base_images)) or "none"
                raise RecipeError(f"The base {chosen!r} is not offered on this hub. Offered: {offered} (HubDock.base_images).", file=".hubdock.yml")
            return str(settings.base_images[chosen])
        reference = str((gpu and settings.gpu_base_image) or settings.base_image)
        if not reference:
            raise ConfigError("HubDock.base_image is empty. An administrator must set it.")
        return reference


def find_files(tree: Tree, extra: Sequence[str]) -> list[str]:
    """Return the files of a tree that are read first: what may make its environment and its data. ``extra`` are the admin's places."""
    attributes = [".gitattributes"] if (entry := tree.find(".gitattributes")) and entry.is_file else []
    return [*find_first_files(tree, extra), *find_data_files(tree)[:MAX_DATA_FILES], *attributes]


def read_paths(mirror: Mirror, tree: Tree, paths: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of files of a tree, by path."""
    oids = {path: entry.oid for path in paths if (entry := tree.find(path)) is not None}
    contents = mirror.read_blobs(oids.values())
    return {path: contents[oid] for path, oid in oids.items()}
