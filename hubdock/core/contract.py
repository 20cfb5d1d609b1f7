"""What a base image must be: the contract of the Jupyter docker-stacks, and what hubdock keeps of it in every environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from hubdock.core.errors import RecipeError
from hubdock.core.recipe import Recipe
from hubdock.core.requirements import LineKind

# Never the whole of Jupyter's packages (that refuses most lock files): the roots, within the major version that the base was made with.
_ROOTS = ("jupyterhub", "jupyterlab", "jupyter-server")
_MINIMUM = {"ipykernel": 6}


@dataclass(frozen=True)
class BaseImage:
    """A base image that was looked into.

    ``reference`` is what the admin wrote, ``image_id`` the local id, ``identity`` what goes into environment keys, ``python`` its version,
    ``packages`` the installed versions by canonical name, ``programs`` the programs found (``git``, ``git-lfs``, ``tini``, ``start.sh`` …).
    """

    reference: str
    image_id: str
    identity: dict[str, Any]
    python: str
    packages: Mapping[str, str]
    programs: tuple[str, ...]
    uid: int
    gid: int
    home: str
    owner: int

    @property
    def user(self) -> str:
        """The User of the image, as an environment ends with it."""
        return str(self.identity.get("User") or "1000:100")

    @property
    def roots(self) -> tuple[str, ...]:
        """The requirements that are installed beside the user's, so that pins that break Jupyter fail when they are resolved."""
        return make_roots(self.packages)

    def find_problems(self) -> list[str]:
        """Return each part of the contract that the image breaks, with its mend; empty if it can be used."""
        problems = []
        if (self.uid, self.gid) != (1000, 100):
            problems.append(f"It runs as {self.uid}:{self.gid}; hubdock needs jovyan, 1000:100. End its Dockerfile with USER 1000:100.")
        if self.home != "/home/jovyan":
            problems.append(f"HOME is {self.home or 'not set'}; it must be /home/jovyan.")
        if not self.python:
            problems.append("/opt/conda/bin/python does not run. Python must be installed under /opt/conda.")
        if self.owner != 1000:
            problems.append("/opt/conda does not belong to jovyan (1000). Change its owner in the same step that makes it; later it would be copied whole.")
        for name in ("start.sh", "jupyterhub-singleuser", "git"):
            if name not in self.programs:
                problems.append(f"{name} is not on its PATH. Install it in the image.")
        problems += [f"The package {name} is missing. Install it in /opt/conda." for name in (*_ROOTS, "ipykernel") if name not in self.packages]
        return problems


def make_roots(packages: Mapping[str, str]) -> tuple[str, ...]:
    """Return the root requirements for the versions that a base has: ``jupyterlab>=4,<5`` for 4.6.6."""
    roots = []
    for name in _ROOTS:
        major = _major(packages.get(name, ""))
        if major is not None:
            roots.append(f"{name}>={major},<{major + 1}")
    return (*roots, *(f"{name}>={major}" for name, major in _MINIMUM.items()))


def _major(version: str) -> int | None:
    try:
        return Version(version).major
    except InvalidVersion:
        return None


def _is_within(version: str, wanted: SpecifierSet) -> bool:
    try:
        return wanted.contains(Version(version), prereleases=True)
    except InvalidVersion:  # ``===`` takes any text
        return False


def check_roots(recipe: Recipe, roots: tuple[str, ...]) -> None:
    """Raise RecipeError for a requirement that pins one of the roots outside its range: no resolver is needed to see that.

    A line with an environment marker is left to the resolver, which knows whether it counts.
    """
    wanted = {root.partition(">")[0]: SpecifierSet(root[len(root.partition(">")[0]) :]) for root in roots}
    for line in recipe.lines:
        if line.kind is not LineKind.PACKAGE or line.name not in wanted or not line.pinned or ";" in line.text:
            continue
        exact = line.value.replace("===", "==").split(",")
        version = next(part.strip()[2:] for part in exact if part.strip().startswith("=="))
        if not _is_within(version, wanted[line.name]):
            raise RecipeError(
                f"{line.text} breaks Jupyter on this hub, which needs {line.name}{wanted[line.name]}. Loosen or remove the line.",
                file=line.file, line=line.line,
            )  # fmt: skip
