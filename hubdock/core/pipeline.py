"""What ``dvc.yaml`` declares to be compared: metrics, parameters and plots, of its stages and of its top level.

The format is DVC's own: https://doc.dvc.org/user-guide/project-structure/dvcyaml-files. Of a templated path (``${item}``) whatever the tree has
in its place is taken: DVC would resolve it with values that stand anywhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from hubdock.core.dvcfiles import TEMPLATE, fits
from hubdock.core.errors import RecipeError
from hubdock.core.text import make_plain
from hubdock.core.tree import Tree
from hubdock.core.yamlfile import load_yaml

MAX_PIPELINES, MAX_FILES, MAX_NAMED, MAX_PATH = 50, 50, 500, 1000
METRICS = ("metrics.json", "dvclive/metrics.json")
PARAMS = "params.yaml"
_IMAGES = (".png", ".jpg", ".jpeg", ".svg", ".gif")
_PLOTS = (".csv", ".tsv", ".json", ".yaml", ".yml")


@dataclass(frozen=True)
class PlotLine:
    """One line of a plot: a column ``y`` of a file (empty: its last one) over ``x`` (empty: the number of the row), which may be in ``x_file``."""

    file: str
    x: str = ""
    y: str = ""
    x_file: str = ""


@dataclass(frozen=True)
class Plot:
    """One plot as declared. ``title`` and labels may be empty."""

    name: str
    lines: tuple[PlotLine, ...]
    title: str = ""
    x_label: str = ""
    y_label: str = ""


@dataclass
class Declared:
    """What a tree's pipelines declare, each path once, in their order. ``cached`` are the metrics that DVC keeps instead of git."""

    metrics: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    plots: dict[str, Plot] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    named: int = 0


def find_pipelines(tree: Tree) -> list[str]:
    """Return the paths of the first dvc.yaml files of a tree, the root's own first."""
    found = [entry.path for entry in tree.ending_with(b"\tdvc.yaml", b"/dvc.yaml") if entry.is_file]
    return sorted(found, key=lambda path: (path.count("/"), path))[:MAX_PIPELINES]


def find_declared(tree: Tree, pipelines: Mapping[str, bytes]) -> Declared:
    """Return what the contents of `find_pipelines` declare; where they name no metrics, the files that are usual. Never raises: notices say what is wrong."""
    declared = Declared()
    for path, content in pipelines.items():
        try:
            values = load_yaml(path, content)
        except RecipeError as error:
            declared.notices.append(str(error))
            continue
        if isinstance(values, dict):
            _Pipeline(tree, posixpath.dirname(path), declared).read(values)
        _add(declared.params, tree, posixpath.join(posixpath.dirname(path), PARAMS))
    if not declared.metrics:
        for path in METRICS:
            _add(declared.metrics, tree, path)
    _add(declared.params, tree, PARAMS)
    for files, what in ((declared.metrics, "metrics"), (declared.params, "parameter")):
        if len(files) > MAX_FILES:
            declared.notices.append(f"{len(files)} {what} files are declared; the first {MAX_FILES} are read.")
            del files[MAX_FILES:]
    if declared.named > MAX_NAMED:
        declared.notices.append(f"dvc.yaml names over {MAX_NAMED} metrics, parameters and plots; the rest is left out.")
    return declared


def _add(files: list[str], tree: Tree, path: str) -> None:
    entry = tree.find(path)
    if entry is not None and entry.is_file and path not in files:
        files.append(path)


def _items(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, options) of a list of names and one-entry mappings, or of a mapping."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield from ((str(name), options if isinstance(options, dict) else {}) for name, options in item.items())
        elif isinstance(item, str):
            yield item, {}


class _Pipeline:
    """One dvc.yaml in ``directory``."""

    def __init__(self, tree: Tree, directory: str, declared: Declared) -> None:
        self.tree, self.directory, self.declared = tree, directory, declared

    def read(self, values: dict[Any, Any]) -> None:
        stages = values.get("stages")
        for stage in stages.values() if isinstance(stages, dict) else ():
            inner = stage.get("do", stage) if isinstance(stage, dict) else None
            if isinstance(inner, dict):
                self._read_stage(inner)
        for name, _ in _items(values.get("metrics")):
            self.declared.metrics += self._expand(self.directory, name, self.declared.metrics)
        for name, _ in _items(values.get("params")):
            self.declared.params += self._expand(self.directory, name, self.declared.params)
        for name, options in _items(values.get("plots")):
            self._read_plot(self.directory, name, options)

    def _read_stage(self, stage: dict[Any, Any]) -> None:
        wdir = posixpath.join(self.directory, str(stage.get("wdir") or "."))
        declared = self.declared
        for name, options in _items(stage.get("metrics")):
            found = self._expand(wdir, name, declared.metrics)
            declared.metrics += found
            if options.get("cache") is not False:
                declared.cached |= set(found)
        for item in stage["params"] if isinstance(stage.get("params"), list) else ():  # a plain name is a value in params.yaml
            names = item if isinstance(item, dict) else [PARAMS]
            for name in names:
                declared.params += self._expand(wdir, str(name), declared.params)
        for name, options in _items(stage.get("plots")):
            self._read_plot(wdir, name, options)

    def _expand(self, directory: str, name: str, known: list[str]) -> list[str]:
        """Return the files that a path stands for which are not known yet: itself, whether it is in the tree or not, or what fits a template."""
        path = posixpath.normpath(posixpath.join(directory, name))
        if "://" in name or path.startswith(("/", "../")) or path in {".", ".."} or "\0" in path:
            return []
        self.declared.named += 1
        if self.declared.named > MAX_NAMED:
            return []
        found = self._match(path) if TEMPLATE.search(path) else self._list(path) or [path]
        return [file for file in dict.fromkeys(found) if file not in known and file == make_plain(file, MAX_PATH)]

    def _match(self, path: str) -> list[str]:
        """Return the files that a templated path may stand for."""
        parts, depth = TEMPLATE.split(path), TEMPLATE.sub("", path).count("/")
        inside = self.tree.ending_with(parts[-1].encode("utf-8", "surrogateescape")) if parts[-1] else self.tree.entries()
        fitting = (entry.path for entry in inside if entry.is_file and entry.path.count("/") == depth and fits(parts, entry.path))
        return sorted(islice(fitting, MAX_FILES))

    def _list(self, path: str) -> list[str]:
        """Return the files in a directory of the tree; none if it is none."""
        entry = self.tree.find(path)
        if entry is None or entry.kind != "tree":
            return []
        inside = self.tree.matching(re.escape(path.encode("utf-8", "surrogateescape")) + rb"/[^\0]+")
        return sorted(islice((entry.path for entry in inside if entry.is_file), 10 * MAX_FILES))

    def _read_plot(self, directory: str, name: str, options: dict[str, Any]) -> None:
        """Put one declaration into ``plots``: a file, each file of a directory, or lines from several files under a name of their own."""
        if isinstance(options.get("y"), dict):
            self._add_plot(make_plain(name, 200), self._read_lines(directory, options), options)
            return
        for path in self._expand(directory, name, []):
            if path.lower().endswith(_IMAGES):
                self.declared.notices.append(f"{make_plain(path, 200)} is a picture. Only tables (CSV, TSV, JSON, YAML) are drawn.")
            elif path.lower().endswith(_PLOTS):
                x = options.get("x")
                columns = _list_columns(options.get("y")) or [""]
                self._add_plot(make_plain(path, 200), [PlotLine(path, x if isinstance(x, str) else "", y) for y in columns], options)

    def _read_lines(self, directory: str, options: dict[str, Any]) -> list[PlotLine]:
        x, lines = options.get("x"), []
        x_file, x_column = "", x if isinstance(x, str) else ""
        if isinstance(x, dict) and x:
            first = next(iter(x))
            x_file, x_column = next(iter(self._expand(directory, str(first), [])), ""), next(iter(_list_columns(x[first])), "")
        for file, columns in options["y"].items():
            lines += [PlotLine(path, x_column, y, x_file) for path in self._expand(directory, str(file), []) for y in _list_columns(columns) or [""]]
        return lines

    def _add_plot(self, name: str, lines: list[PlotLine], options: dict[str, Any]) -> None:
        if not lines or (len(self.declared.plots) >= MAX_FILES and name not in self.declared.plots):
            return
        title, x_label, y_label = (make_plain(str(options.get(option) or ""), 120) for option in ("title", "x_label", "y_label"))
        known = self.declared.plots.get(name)
        if known is None or any(line.y for line in lines):  # a top-level definition says more than the stage's mere output
            self.declared.plots[name] = Plot(name, tuple(lines[:MAX_FILES]), title, x_label, y_label)


def _list_columns(value: Any) -> list[str]:
    columns = value if isinstance(value, list) else [value]
    return [column for column in columns if isinstance(column, str) and column][:MAX_FILES]
