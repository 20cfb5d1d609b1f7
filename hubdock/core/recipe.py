"""Which files make the environment, and what they say.

Looked for, first found wins: what ``.hubdock.yml`` names, what the admin names, then in ``binder/``, ``.binder/`` and the root:
``requirements.txt``, else ``pyproject.toml`` with ``uv.lock``. ``apt.txt`` is read from the same directory. A repository with none of them runs
in the base image as it is, and the plan says so. What another tool reads (``environment.yml``, ``Pipfile`` …) is an error with the mend.
"""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hubdock.core import project as project_file
from hubdock.core.apt import parse_apt
from hubdock.core.errors import RecipeError
from hubdock.core.project import Project, parse_project
from hubdock.core.refs import is_commit
from hubdock.core.requirements import LineKind, RequirementLine, decode_text, parse_requirements
from hubdock.core.tree import Tree, TreeEntry

PLACES = ("binder", ".binder", "")
MAX_FILE = 4 * 1024 * 1024
MAX_FILES = 200
_UNSUPPORTED = {
    "environment.yml": "Conda environments are not supported. List the packages in requirements.txt (for example with `pip list --format=freeze`).",
    "environment.yaml": "Conda environments are not supported. List the packages in requirements.txt (for example with `pip list --format=freeze`).",
    "Pipfile": "Pipfile is not supported. Run `pipenv requirements > requirements.txt` and commit the file.",
    "poetry.lock": "poetry.lock is not supported. Run `poetry export -o requirements.txt` and commit the file.",
    "conda-lock.yml": "conda-lock.yml is not supported. List the packages in requirements.txt.",
    "setup.py": "setup.py alone is not supported. Commit a requirements.txt with the line `-e .`.",
}
_IGNORED = ("Dockerfile", "postBuild", "start", "runtime.txt", "install.R", "Project.toml", "default.nix")


class MissingBlobs(Exception):
    """The contents of these paths are needed to go on."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(", ".join(paths))
        self.paths = tuple(paths)


@dataclass(frozen=True)
class Recipe:
    """What makes the environment of one tree.

    ``kind`` is ``none``, ``requirements`` or ``uv``; ``main`` the file it starts from. ``files`` is the closure, ``(path, mode, id)`` sorted by
    path: files, and the trees of local packages. ``lines`` are the parsed requirements of the closure. ``notices`` are told in the plan.
    """

    kind: str
    main: str = ""
    files: tuple[TreeEntry, ...] = ()
    lines: tuple[RequirementLine, ...] = ()
    apt: tuple[str, ...] = ()
    project: Project = field(default_factory=Project)
    notices: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """True if the same files install the same packages for ever, as far as can be read from them."""
        if self.kind != "requirements":
            return True
        constrained = {line.name for line in self.lines if line.kind is LineKind.PACKAGE and line.pinned}
        kinds = {LineKind.PACKAGE, LineKind.URL}
        return all(line.pinned or line.name in constrained for line in self.lines if line.kind in kinds and not line.constrains)

    @property
    def sources(self) -> tuple[RequirementLine, ...]:
        """The packages that come from git repositories."""
        return tuple(line for line in self.lines if line.kind is LineKind.GIT)

    @property
    def local(self) -> bool:
        """True if a package is built from the repository itself."""
        trees = {entry.path for entry in self.files if entry.kind == "tree"}
        return any(line.kind is LineKind.LOCAL and line.value in trees for line in self.lines)


def find_first_files(tree: Tree, extra: Sequence[str] = ()) -> list[str]:
    """Return the paths that `make_recipe` will want at once, so that they can be fetched in one go. ``extra`` are the admin's places."""
    names = ("requirements.txt", "apt.txt", "pyproject.toml", "uv.lock")
    wanted = [project_file.FILE, *extra, *(posixpath.join(place, name) for place in PLACES for name in names)]
    found = (tree.find(path) for path in wanted)
    return [entry.path for entry in found if entry is not None and entry.is_file]


def make_recipe(tree: Tree, blobs: Mapping[str, bytes], extra: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a tree, whose needed contents are in ``blobs`` (path to bytes).

    Raises MissingBlobs for what else must be read first, and RecipeError with file and line for what is wrong.
    """
    settings = _read(tree, blobs, project_file.FILE)
    project = parse_project(settings) if settings is not None else Project()
    main = _find_main(tree, project, extra)
    notices = _find_notices(tree, main)
    if main is None:
        _refuse_unsupported(tree, blobs)
        apt_path = next((path for place in PLACES if tree.find(path := posixpath.join(place, "apt.txt")) is not None), None)
    else:
        apt_path = posixpath.join(posixpath.dirname(main), "apt.txt")
    apt = _read(tree, blobs, apt_path) if apt_path else None
    closure: dict[str, TreeEntry] = {}
    if apt_path and apt is not None:
        _add(tree, closure, apt_path)
    lines: list[RequirementLine] = []
    kind = "none"
    if main is not None and posixpath.basename(main) == "uv.lock":
        kind = "uv"
        lines = _follow_lock(tree, blobs, main, closure)
    elif main is not None:
        kind = "requirements"
        lines = _follow(tree, blobs, main, closure)
    files = tuple(sorted(closure.values(), key=lambda entry: entry.path))
    return Recipe(kind, main or "", files, tuple(lines), parse_apt(apt_path, apt) if apt_path and apt else (), project, tuple(notices))


def _find_main(tree: Tree, project: Project, extra: Sequence[str]) -> str | None:
    if project.requirements:
        entry = tree.find(project.requirements)
        if entry is None:
            raise RecipeError(f"“requirements” names {project.requirements}, which this branch does not have.", file=project_file.FILE)
        _require_file(entry)
        if not project.requirements.endswith((".txt", ".in")) and posixpath.basename(project.requirements) != "uv.lock":
            raise RecipeError("“requirements” must name a .txt or .in file, or a uv.lock.", file=project_file.FILE)
        return project.requirements
    for path in extra:
        if tree.find(path) is not None:
            return path
    for place in PLACES:
        for name in ("requirements.txt", "uv.lock"):
            path = posixpath.join(place, name)
            if tree.find(path) is not None:
                return path
    return None


def _find_notices(tree: Tree, main: str | None) -> list[str]:
    notices = []
    if main and posixpath.basename(main) != "uv.lock" and _is_file(tree, posixpath.join(posixpath.dirname(main), "uv.lock")):
        notices.append(f"{main} is used; uv.lock beside it is not.")
    beside = [name for name in ("environment.yml", "environment.yaml", "Pipfile") if main and _is_file(tree, name)]
    notices += [f"{main} is used; {name} is not." for name in beside]
    ignored = [posixpath.join(place, name) for place in PLACES[:2] for name in _IGNORED if _is_file(tree, posixpath.join(place, name))]
    if ignored:
        notices.append(f"Not used by hubdock: {', '.join(ignored)}.")
    if tree.submodules():
        notices.append(f"Submodules are left out: {', '.join(tree.submodules()[:5])}. Run `git submodule update --init` in the server.")
    return notices


def _refuse_unsupported(tree: Tree, blobs: Mapping[str, bytes]) -> None:
    for place in PLACES:
        for name, mend in _UNSUPPORTED.items():
            path = posixpath.join(place, name)
            if _is_file(tree, path):
                raise RecipeError(mend, file=path)
    content = _read(tree, blobs, "pyproject.toml")
    if content is None:
        return
    values = _parse_toml("pyproject.toml", content)
    if _dig(values, "project", "dependencies") or _dig(values, "tool", "poetry", "dependencies"):
        raise RecipeError("It has dependencies but no uv.lock stands beside it. Run `uv lock` and commit uv.lock, or add a requirements.txt.", file="pyproject.toml")


def _dig(values: Any, *names: str) -> Any:
    """Return a value that lies some tables deep, None if it is not there."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _parse_toml(path: str, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(decode_text(path, content))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"This is not valid TOML: {str(error)[:200]}.", file=path) from error


def _follow_lock(tree: Tree, blobs: Mapping[str, bytes], main: str, closure: dict[str, TreeEntry]) -> list[RequirementLine]:
    """Put a lock and its manifest into ``closure``, and return the packages that come from git, which are held to the admin's lists as elsewhere."""
    manifest = posixpath.join(posixpath.dirname(main), "pyproject.toml")
    lock, content = _read(tree, blobs, main), _read(tree, blobs, manifest)
    if content is None:
        raise RecipeError("uv.lock needs the pyproject.toml that it was made from beside it. Commit that file too.", file=main)
    packages = _parse_toml(main, lock or b"").get("package", [])
    _parse_toml(manifest, content)
    _add(tree, closure, main)
    _add(tree, closure, manifest)
    lines: list[RequirementLine] = []
    for package in packages if isinstance(packages, list) else ():
        source = package.get("source", {}) if isinstance(package, dict) else {}
        if not isinstance(source, dict):
            continue
        for name in ("path", "directory", "editable", "virtual"):
            if isinstance(source.get(name), str) and source[name] != ".":
                raise RecipeError(f"The local package {package.get('name')} ({source[name]}) is not supported with uv.lock. Use requirements.txt.", file=main)
        if isinstance(source.get("git"), str):
            lines += _read_git_source(main, decode_text(main, lock or b""), str(package.get("name")), source["git"])
    return lines


def _read_git_source(main: str, text: str, name: str, source: str) -> list[RequirementLine]:
    """Return the requirement that a lock's ``git = "https://host/repo?rev=main#<commit>"`` is, at its line. Raises RecipeError as for any other."""
    address, _, commit = source.partition("#")
    address, _, query = address.partition("?")
    before = text.count("\n", 0, max(text.find(source), 0))
    if not is_commit(commit):
        raise RecipeError("This names no commit. Run `uv lock` and commit uv.lock.", file=main, line=before + 1)
    subdirectory = next((part.partition("=")[2] for part in query.split("&") if part.startswith("subdirectory=")), "")
    written = f"{name} @ git+{address}@{commit}{'#subdirectory=' + subdirectory if subdirectory else ''}"
    return parse_requirements(main, ("\n" * before + " ".join(written.split())).encode("utf-8", "replace"))


def _follow(tree: Tree, blobs: Mapping[str, bytes], main: str, closure: dict[str, TreeEntry]) -> list[RequirementLine]:
    """Return the lines of a file and of all that it includes, and put their entries into ``closure``."""
    todo: list[tuple[str, RequirementLine | None]] = [(main, None)]
    seen: set[tuple[str, bool]] = set()
    missing: list[str] = []
    lines: list[RequirementLine] = []
    while todo:
        path, origin = todo.pop(0)
        constrains = origin is not None and (origin.constrains or origin.kind is LineKind.CONSTRAINT)
        if (path, constrains) in seen:
            continue
        seen.add((path, constrains))
        if len(seen) > MAX_FILES:
            raise RecipeError(f"The requirements include more than {MAX_FILES} files.", file=main)
        _add(tree, closure, path, origin)
        if path not in blobs:
            missing.append(path)
            continue
        for line in parse_requirements(path, _bounded(path, blobs[path])):
            line = replace(line, constrains=constrains)
            lines.append(line)
            if line.kind in {LineKind.INCLUDE, LineKind.CONSTRAINT}:
                todo.append((line.value, line))
            elif line.kind in {LineKind.LOCAL, LineKind.LINKS} and "://" not in line.value:
                _add_local(tree, closure, line)
    if missing:
        raise MissingBlobs(missing)
    return lines


def _add_local(tree: Tree, closure: dict[str, TreeEntry], line: RequirementLine) -> None:
    entry = tree.find(line.value)
    if entry is None or entry.kind not in {"tree", "blob"} or entry.mode == "120000":
        raise RecipeError(f"“{line.value}” is not a file or directory of this branch.", file=line.file, line=line.line)
    closure[entry.path] = entry


def _add(tree: Tree, closure: dict[str, TreeEntry], path: str, origin: RequirementLine | None = None) -> None:
    entry = tree.find(path)
    if entry is None and origin is not None:
        raise RecipeError(f"This names {path}, which this branch does not have.", file=origin.file, line=origin.line)
    if entry is not None:
        _require_file(entry, origin)
        closure[path] = entry


def _require_file(entry: TreeEntry, origin: RequirementLine | None = None) -> None:
    if entry.is_file:
        return
    what = {"120000": "a symbolic link", "040000": "a directory", "160000": "a submodule"}.get(entry.mode, "no regular file")
    if origin is not None:
        raise RecipeError(f"This names {entry.path}, which is {what}; a regular file is needed here.", file=origin.file, line=origin.line)
    raise RecipeError(f"It is {what}; a regular file is needed here.", file=entry.path)


def _is_file(tree: Tree, path: str) -> bool:
    entry = tree.find(path)
    return entry is not None and entry.is_file


def _read(tree: Tree, blobs: Mapping[str, bytes], path: str) -> bytes | None:
    """Return a file's content, None if the tree has no such path. Raises MissingBlobs, and RecipeError for links and directories."""
    entry = tree.find(path)
    if entry is None:
        return None
    _require_file(entry)
    if path not in blobs:
        raise MissingBlobs([path])
    return _bounded(path, blobs[path])


def _bounded(path: str, content: bytes) -> bytes:
    if len(content) > MAX_FILE:
        raise RecipeError(f"The file is {-(-len(content) // 1024)} KiB; at most {MAX_FILE // 1024} KiB are read.", file=path)
    return content
