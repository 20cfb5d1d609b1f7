"""DVC's files, read without DVC (its import alone takes over a second): which outputs a tree tracks, and where they are kept.

The formats are DVC's own: https://doc.dvc.org/user-guide/project-structure. DVC itself is the oracle of the tests
(``Repo.index.data_tree``).
"""

from __future__ import annotations

import configparser
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hubdock.core.errors import RecipeError
from hubdock.core.requirements import decode_text
from hubdock.core.tree import Tree

FILES = rb"(?:[^\0]*/)?(?:[^\0/]+\.dvc|dvc\.lock|dvc\.yaml|\.dvc/config)"
MAX_OUTS = 100_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, order=True)
class DataOut:
    """One tracked output.

    ``path`` is relative to the git root, ``root`` the DVC project's directory (``.`` at the top). ``hash_name`` is ``md5`` or
    ``md5-dos2unix`` (DVC 2): the two have different places in a cache. ``oid`` ends in ``.dir`` for a directory. ``size`` is bytes, or None.
    """

    path: str
    hash_name: str
    oid: str
    is_exec: bool = False
    root: str = "."
    remote: str = ""
    size: int | None = None
    source: str = ""


@dataclass(frozen=True)
class DataRemote:
    """A remote of ``.dvc/config``. ``ignored`` are the options that a repository may not set here."""

    name: str
    url: str
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataProject:
    """One DVC project: its directory, its remotes, and the name of its default remote."""

    root: str
    remotes: tuple[DataRemote, ...] = ()
    default: str = ""


@dataclass(frozen=True)
class DataFiles:
    """What the DVC files of a tree say. ``files`` are the paths that were read: what ``dvc fetch`` needs."""

    outs: tuple[DataOut, ...] = ()
    projects: tuple[DataProject, ...] = ()
    files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Known bytes of all outs."""
        return sum(out.size or 0 for out in self.outs)


def find_data_files(tree: Tree) -> list[str]:
    """Return the paths of the DVC files of a tree, sorted; empty if it has no DVC project."""
    paths = sorted(entry.path for entry in tree.matching(FILES) if entry.is_file)
    return paths if any(path == ".dvc/config" or path.endswith("/.dvc/config") for path in paths) else []


def parse_data_files(tree: Tree, blobs: Mapping[str, bytes]) -> DataFiles:
    """Return the outputs and remotes that the DVC files in ``blobs`` (all of `find_data_files`) declare.

    Raises RecipeError with the file for what can't be read and for paths that leave the project.
    """
    paths = find_data_files(tree)
    roots = sorted(posixpath.dirname(posixpath.dirname(path)) or "." for path in paths if posixpath.basename(path) == "config")
    notices: list[str] = []
    outs: dict[str, DataOut] = {}
    for path in paths:
        root = _find_root(path, roots)
        if root is None or posixpath.basename(path) in {"config", "dvc.yaml"}:
            continue
        found = _parse_lock(path, blobs, notices) if posixpath.basename(path) == "dvc.lock" else _parse_dvc(path, blobs[path], notices)
        for raw in found:
            out = _make_out(path, root, raw)
            if tree.find(out.path) is None:  # what git holds, DVC does not cache (``cache: false``)
                outs[out.path] = out
    if len(outs) > MAX_OUTS:
        raise RecipeError(f"The branch tracks {len(outs)} DVC outputs; at most {MAX_OUTS} are accepted. Track directories instead of files.")
    projects = tuple(_parse_config(root, blobs[posixpath.join(root, ".dvc/config").removeprefix("./")], notices) for root in roots)
    return DataFiles(tuple(sorted(outs.values())), projects, tuple(paths), tuple(notices))


def _find_root(path: str, roots: list[str]) -> str | None:
    holding = [root for root in roots if root == "." or path.startswith(root + "/")]
    return max(holding, key=len) if holding else None


def _load(path: str, content: bytes) -> Any:
    try:
        return yaml.load(decode_text(path, content), Loader=_LOADER)  # noqa: S506 (a safe loader either way)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise RecipeError("This is not valid YAML.", str(error), file=path, line=mark.line + 1 if mark else None) from error


def _parse_dvc(path: str, content: bytes, notices: list[str]) -> list[dict[str, Any]]:
    values = _load(path, content) or {}
    if not isinstance(values, dict):
        raise RecipeError("This is no .dvc file.", file=path)
    deps = values.get("deps") or []
    imported = any(isinstance(dep, dict) and "repo" in dep for dep in deps) if isinstance(deps, list) else False
    if imported:
        notices.append(f"{path} imports from another repository, which is not fetched. Run `dvc update` or `dvc pull {path}` in the server.")
        return []
    wdir = str(values.get("wdir") or ".")
    outs = values.get("outs") or []
    if not isinstance(outs, list):
        raise RecipeError("“outs” must be a list.", file=path)
    return [{**out, "path": posixpath.join(wdir, str(out.get("path", "")))} for out in outs if isinstance(out, dict) and _is_cached(path, out, notices)]


def _parse_lock(path: str, blobs: Mapping[str, bytes], notices: list[str]) -> list[dict[str, Any]]:
    """Return the outs of a lock's stages that dvc.yaml still has; a matrix stage's name is ``name@item``."""
    lock = _load(path, blobs[path]) or {}
    pipeline_path = posixpath.join(posixpath.dirname(path), "dvc.yaml")
    pipeline = _load(pipeline_path, blobs[pipeline_path]) if pipeline_path in blobs else {}
    stages = lock.get("stages") if isinstance(lock, dict) else {}
    declared = (pipeline.get("stages") if isinstance(pipeline, dict) else None) or {}
    kept: list[dict[str, Any]] = []
    for name, stage in (stages or {}).items():
        definition = declared.get(name, declared.get(str(name).partition("@")[0])) if isinstance(declared, dict) else None
        if definition is None or not isinstance(stage, dict):
            continue
        unpushed = _find_unpushed(definition)
        outs = [out for out in stage.get("outs") or [] if isinstance(out, dict)]
        kept += [out for out in outs if str(out.get("path")) not in unpushed and _is_cached(path, out, notices)]
    return kept


def _find_unpushed(definition: Any) -> set[str]:
    """Return the outs that a stage does not cache or never pushes (``cache: false``, ``push: false``)."""
    found = set()
    for group in ("outs", "metrics", "plots"):
        items = definition.get(group) if isinstance(definition, dict) else None
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict):
                found |= {str(p) for p, o in item.items() if isinstance(o, dict) and (o.get("cache") is False or o.get("push") is False)}
    return found


def _is_cached(path: str, out: dict[str, Any], notices: list[str]) -> bool:
    if out.get("cache") is False or out.get("push") is False:
        return False
    if not out.get("md5"):
        if "files" in out or "etag" in out or "checksum" in out:
            notices.append(f"{path}: outputs that a cloud versions itself are not fetched. Run `dvc pull` in the server.")
        return False
    return True


def _make_out(path: str, root: str, raw: dict[str, Any]) -> DataOut:
    oid = str(raw["md5"]).lower()
    digest = oid.removesuffix(".dir")
    if len(digest) != 32 or any(c not in "0123456789abcdef" for c in digest):
        raise RecipeError("An output's md5 is not 32 hexadecimal digits.", file=path)
    target = str(raw.get("path", ""))
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    inside = joined if root == "." else posixpath.relpath(joined, root)
    if not target or target.startswith(("/", "~")) or "://" in target or inside in {".", ".."} or inside.startswith("../"):
        raise RecipeError(f"The output “{target[:120]}” does not lie inside the project. Only outputs inside it can be fetched.", file=path)
    if any(part in {".git", ".dvc"} for part in joined.split("/")) or "\0" in joined:
        raise RecipeError(f"The output “{target[:120]}” lies in a directory of git or DVC itself.", file=path)
    size = raw.get("size")
    hash_name = "md5" if raw.get("hash") == "md5" else "md5-dos2unix"
    return DataOut(joined, hash_name, oid, raw.get("isexec") is True, root, str(raw.get("remote") or ""), size if isinstance(size, int) else None, path)


def _parse_config(root: str, content: bytes, notices: list[str]) -> DataProject:
    """Return a project of its ``.dvc/config``. Only a remote's ``url`` is taken: options such as ``endpointurl`` or ``credentialpath``
    would send the team's credentials where the repository says, or read files of the machine that fetches."""
    path = posixpath.join(root, ".dvc/config").removeprefix("./")
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(decode_text(path, content))
    except configparser.Error as error:
        raise RecipeError("This is no valid DVC configuration.", str(error), file=path) from error
    remotes = []
    for section in parser.sections():
        kind, _, name = section.strip().strip("'").partition(" ")
        if kind != "remote":
            continue
        name = name.strip().strip('"')
        ignored = tuple(sorted(option for option in parser[section] if option != "url"))
        remotes.append(DataRemote(name, parser[section].get("url", ""), ignored))
    blocked = sorted({option for remote in remotes for option in remote.ignored} & {"configpath", "credentialpath", "endpointurl", "keyfile", "gdrive_service_account_json_file_path"})
    if blocked:
        notices.append(f"{path}: {', '.join(blocked)} ignored while fetching; an administrator sets them in HubDock.dvc_remotes.")
    default = parser.get("core", "remote", fallback="") if parser.has_section("core") else ""
    return DataProject(root, tuple(remotes), default)
