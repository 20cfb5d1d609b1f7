"""What one commit says: everything that keys and plans need of it, small enough to be remembered for ever."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from hubdock.core.dvcconfig import DataProject, DataRemote
from hubdock.core.dvcfiles import DataFiles, DataOut
from hubdock.core.project import Project
from hubdock.core.recipe import Recipe
from hubdock.core.requirements import LineKind, RequirementLine
from hubdock.core.tree import TreeEntry

VERSION = 3
"""Version of the reading: raised whenever the same commit would be read differently, so that nothing remembered is wrong."""


@dataclass(frozen=True)
class Source:
    """One commit of one repository, read. ``author_time`` is seconds since the epoch, ``files`` the number of entries of the tree."""

    commit: str
    tree: str
    subject: str
    author: str
    author_time: int
    files: int
    recipe: Recipe
    data: DataFiles

    def dump(self) -> str:
        """Return the JSON text that `load_source` reads."""
        return json.dumps(asdict(self), separators=(",", ":"))


def load_source(text: str) -> Source:
    """Return what `Source.dump` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    values = json.loads(text)
    return Source(**(values | {"recipe": _load_recipe(values["recipe"]), "data": _load_data(values["data"])}))


def _load_recipe(values: dict[str, Any]) -> Recipe:
    project = Project(**values["project"])
    project = replace(project, copy=tuple((pair[0], pair[1]) for pair in project.copy), command=tuple(project.command))
    lines = tuple(RequirementLine(**(line | {"kind": LineKind(line["kind"])})) for line in values["lines"])
    files = tuple(TreeEntry(**entry) for entry in values["files"])
    return Recipe(values["kind"], values["main"], files, lines, tuple(values["apt"]), project, tuple(values["notices"]))


def _load_data(values: dict[str, Any]) -> DataFiles:
    projects = tuple(
        DataProject(p["root"], tuple(DataRemote(r["name"], r["url"], tuple(r["ignored"])) for r in p["remotes"]), p["default"])
        for p in values["projects"]
    )
    outs = tuple(DataOut(**out) for out in values["outs"])
    return DataFiles(outs, projects, tuple(values["files"]), tuple(values["notices"]))
