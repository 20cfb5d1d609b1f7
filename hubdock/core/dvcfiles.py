"""DVC's files, read without DVC (its import alone takes over a second): which outputs a tree tracks, and where they are kept.

The formats are DVC's own: https://doc.dvc.org/user-guide/project-structure. DVC itself is the oracle of the tests
(``Repo.index.data_tree``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubdock.core.dvcconfig import DataProject, parse_config
from hubdock.core.errors import RecipeError
from hubdock.core.tree import Tree
from hubdock.core.yamlfile import load_yaml

_ENDINGS = (b".dvc", b"\tdvc.lock", b"/dvc.lock", b"\tdvc.yaml", b"/dvc.yaml", b"\t.dvc/config", b"/.dvc/config")
MAX_OUTS = 100_000
TEMPLATE = re.compile(r"\$\{[^}]*\}")


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
    found = (entry for entry in tree.ending_with(*_ENDINGS) if entry.is_file)
    paths = sorted({entry.path for entry in found if not entry.path.endswith("/.dvc") and entry.path != ".dvc"})
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
    configs = {root: posixpath.normpath(posixpath.join(root, ".dvc/config")) for root in roots}
    projects = tuple(parse_config(root, path, blobs[path], notices) for root, path in configs.items())
    return DataFiles(tuple(sorted(outs.values())), projects, tuple(paths), tuple(notices))


def _find_root(path: str, roots: list[str]) -> str | None:
    holding = [root for root in roots if path.startswith(root + "/")]
    return max(holding, key=len) if holding else "." if "." in roots else None


def _parse_dvc(path: str, content: bytes, notices: list[str]) -> list[dict[str, Any]]:
    values = load_yaml(path, content) or {}
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
    """Return the outs of a lock's stages that dvc.yaml still has, with their paths as seen from the lock's directory.

    The lock holds hashes alone: where a stage works (``wdir``), and what of its outs is cached, pushed and where, stands in dvc.yaml.
    """
    lock = load_yaml(path, blobs[path])
    pipeline_path = posixpath.join(posixpath.dirname(path), "dvc.yaml")
    pipeline = load_yaml(pipeline_path, blobs[pipeline_path]) if pipeline_path in blobs else None
    stages = lock.get("stages") if isinstance(lock, dict) else None
    declared = pipeline.get("stages") if isinstance(pipeline, dict) else None
    if not isinstance(stages, dict) or not isinstance(declared, dict):
        return []
    kept: list[dict[str, Any]] = []
    for name, stage in stages.items():
        definition = _find_definition(declared, str(name))
        outs = stage.get("outs") if isinstance(stage, dict) else None
        if definition is None or not isinstance(outs, list):
            continue
        wdir = str(definition.get("wdir") or ".")
        if TEMPLATE.search(wdir):
            notices.append(f"{pipeline_path}: the outputs of {name} are not fetched, for its wdir is a template. Run `dvc pull` in the server.")
            continue
        options = _find_options(definition)
        for out in (out for out in outs if isinstance(out, dict)):
            target = str(out.get("path", ""))
            whole = {**next((said for parts, said in options if fits(parts, posixpath.normpath(target))), {}), **out}
            if _is_cached(path, whole, notices):
                kept.append({**whole, "path": posixpath.join(wdir, target)})
    return kept


def _find_definition(declared: dict[Any, Any], name: str) -> dict[str, Any] | None:
    """Return a stage of dvc.yaml; ``name@item`` is one of a ``foreach`` or ``matrix``, gone if a list of plain values has no such item."""
    base, _, item = name.partition("@")
    definition = declared.get(name, declared.get(base))
    if not isinstance(definition, dict):
        return None
    items = definition.get("foreach")
    if items is None:
        return definition
    plain = isinstance(items, (list, dict)) and all(type(i) in {str, int} and not TEMPLATE.search(str(i)) for i in items)
    if plain and item not in {str(i) for i in items}:
        return None
    inner = definition.get("do")
    return inner if isinstance(inner, dict) else None


def _find_options(definition: dict[str, Any]) -> list[tuple[list[str], dict[str, Any]]]:
    """Return what a stage says of its outs (``cache``, ``push``, ``remote``), each with its path, cut where templates stand for anything."""
    found = []
    for group in ("outs", "metrics", "plots"):
        items = definition.get(group)
        for item in items if isinstance(items, list) else []:
            for path, options in item.items() if isinstance(item, dict) else ():
                kept = {name: options[name] for name in ("cache", "push", "remote") if name in options} if isinstance(options, dict) else {}
                found.append((TEMPLATE.split(posixpath.normpath(str(path))), kept))
    return sorted(found, key=lambda pair: len(pair[0]))


def fits(parts: list[str], path: str) -> bool:
    """True if a path consists of these parts with anything between them."""
    if len(parts) == 1:
        return path == parts[0]
    at = len(parts[0])
    for part in parts[1:-1]:
        found = path.find(part, at)
        if found == -1:
            return False
        at = found + len(part)
    return path.startswith(parts[0]) and path.endswith(parts[-1]) and len(path) - len(parts[-1]) >= at


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
    if not target or target.startswith("/") or "://" in target or inside in {".", ".."} or inside.startswith("../"):
        raise RecipeError(f"The output “{target[:120]}” does not lie inside the project. Only outputs inside it can be fetched.", file=path)
    if any(part in {".git", ".dvc"} for part in joined.split("/")) or "\0" in joined:
        raise RecipeError(f"The output “{target[:120]}” lies in a directory of git or DVC itself.", file=path)
    size = raw.get("size")
    hash_name = "md5" if raw.get("hash") == "md5" else "md5-dos2unix"
    return DataOut(joined, hash_name, oid, raw.get("isexec") is True, root, str(raw.get("remote") or "").lower(), size if isinstance(size, int) and size >= 0 else None, path)
