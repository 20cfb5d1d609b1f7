"""A plan: per part, whether it is ready, or what would be done and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hubdock.core.estimate import Estimate
from hubdock.core.recipe import Recipe
from hubdock.core.requirements import LineKind

TENSORFLOW = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-rocm", "tf-nightly", "tf-nightly-cpu", "intel-tensorflow")


class State(StrEnum):
    """What a part of a plan is."""

    READY = "ready"
    BUILD = "build"
    RUNNING = "running"
    NONE = "none"


@dataclass(frozen=True)
class Part:
    """One part: ``base``, ``environment``, ``data`` or ``image``.

    ``key`` is the whole key. ``reasons`` say why it is to be made. ``seconds`` is an estimate from ``samples`` past builds, None without any.
    ``size`` is bytes to fetch, where known.
    """

    name: str
    state: State
    key: str = ""
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    samples: int = 0
    size: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        values: dict[str, Any] = {"name": self.name, "state": str(self.state), "key": self.key, "reasons": list(self.reasons)}
        optional = {"seconds": self.seconds, "samples": self.samples or None, "size": self.size}
        return values | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True)
class Plan:
    """What a start would do. ``ref_kind`` is ``branch`` or ``tag``. ``launch`` is what the launch alone takes, once everything is ready."""

    repo: str
    ref: str
    ref_kind: str
    commit: str
    tree: str
    new_branch: str = ""
    parts: tuple[Part, ...] = ()
    notices: tuple[str, ...] = field(default_factory=tuple)
    launch: Estimate = field(default_factory=Estimate)

    @property
    def ready(self) -> bool:
        """True if nothing is left to do but the launch."""
        return all(part.state in {State.READY, State.NONE} for part in self.parts)

    @property
    def seconds(self) -> float | None:
        """Estimated seconds: the image waits for the base and environment; data comes beside them. None if a part is not known."""
        waiting = [part for part in self.parts if part.state in {State.BUILD, State.RUNNING}]
        if any(part.seconds is None for part in waiting):
            return None
        chain = sum(part.seconds or 0.0 for part in waiting if part.name != "data")
        return max([chain, *(part.seconds or 0.0 for part in waiting if part.name == "data")], default=0.0)

    @property
    def total(self) -> Estimate:
        """The whole start, launch included; from as many samples as the part that takes longest. Without seconds if a part is not known."""
        if self.seconds is None or (self.ready and self.launch.seconds is None):
            return Estimate()
        waiting = [(part.seconds or 0.0, part.samples) for part in self.parts if part.state in {State.BUILD, State.RUNNING}]
        samples = max(waiting)[1] if waiting else self.launch.samples
        return Estimate(round(self.seconds + (self.launch.seconds or 0.0), 1), samples)

    def part(self, name: str) -> Part:
        """Return a part by name. Raises KeyError."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of the API and of ``hubdock plan --json``."""
        return {
            "repo": self.repo, "ref": self.ref, "ref_kind": self.ref_kind, "commit": self.commit, "tree": self.tree, "new_branch": self.new_branch,
            "ready": self.ready, "seconds": self.seconds, "launch_seconds": self.launch.seconds, "total_seconds": self.total.seconds, "parts": [part.as_dict() for part in self.parts], "notices": list(self.notices),
        }  # fmt: skip


def find_tensorflow_notice(recipe: Recipe, installed: Mapping[str, str]) -> str:
    """Return the sentence that says which TensorFlow of the base a requirement replaces, or the empty string.

    The wheels of the variants hold the same files, so two can't be installed beside each other.
    """
    present = [name for name in TENSORFLOW if name in installed]
    for line in recipe.lines:
        if line.kind is LineKind.PACKAGE and not line.constrains and line.name in TENSORFLOW and present and line.name not in present:
            return f"{line.name} ({line.file}:{line.line}) replaces the base image's {present[0]} {installed[present[0]]}."
    return ""


def explain_change(before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return which files of an environment's closure were added, changed or removed: ``requirements.txt changed``.

    Each is ``(path, mode, id)`` as in `EnvironmentInputs.files`.
    """
    old, new = ({entry[0]: tuple(entry[1:]) for entry in side} for side in (before, after))
    added = [f"{path} added" for path in sorted(new.keys() - old.keys())]
    changed = [f"{path} changed" for path in sorted(new.keys() & old.keys()) if new[path] != old[path]]
    return tuple(added + changed + [f"{path} removed" for path in sorted(old.keys() - new.keys())])
