"""The four keys: sha256 over canonical JSON with a schema version (design.md, "The four keys").

A key is never truncated where it identifies, only where it is shown. What a key is made of is kept whole beside what it names, and a hit is
checked against it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

SCHEMA = 1
LONGEST_LABEL = 50_000  # Linux takes 128 KiB for one variable of the environment (MAX_ARG_STRLEN), where a Dockerfile goes


def make_canonical(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, ASCII.

    Raises TypeError for what has no exact JSON form: floats, sets, non-text keys.
    """
    _check_exact(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _check_exact(value: Any) -> None:
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_exact(item)
        return
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        for item in value.values():
            _check_exact(item)
        return
    raise TypeError(f"{type(value).__name__} has no canonical form")


def make_digest(kind: str, value: Any) -> str:
    """Return the 64 hex digits of a kind of key ("environment", "data" …) over a value."""
    text = make_canonical({"hubdock": SCHEMA, "kind": kind, "inputs": value})
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class _Inputs:
    """The common part: a key's inputs are its fields. What follows from them is made once: a queue compares keys again and again."""

    def as_dict(self) -> dict[str, Any]:
        """Return the inputs as JSON values."""
        values: dict[str, Any] = json.loads(make_canonical({field.name: getattr(self, field.name) for field in fields(self)}))
        return values

    @cached_property
    def canonical(self) -> str:
        """What is kept beside the thing that the key names, and compared on a hit."""
        return make_canonical(self.as_dict())

    @cached_property
    def key(self) -> str:
        """The key: 64 hex digits."""
        kind = type(self).__name__.removesuffix("Inputs").lower()
        return make_digest(kind, self.as_dict())


@dataclass(frozen=True)
class EnvironmentInputs(_Inputs):
    """What makes an environment.

    ``base``: the base's ``rootfs.diff_ids``, Env, User, Entrypoint, Cmd and WorkingDir, for a local image has no manifest digest.
    ``installer``: its name and version. ``recipe``: version of the way packages are installed. ``files``: ``(path, mode, blob or tree id)``
    of the requirements' closure and apt.txt. ``settings``: what ``.hubdock.yml`` sets. ``sources``: git requirements, ``(url, commit)``.
    ``indexes``: index URLs less credentials. ``epoch`` counts renewals of what is not pinned. ``scope``: the non-public index, or empty.
    """

    base: dict[str, Any]
    installer: str
    recipe: int
    files: tuple[tuple[str, str, str], ...]
    settings: dict[str, Any]
    sources: tuple[tuple[str, str], ...]
    indexes: tuple[str, ...]
    uid: int
    gid: int
    epoch: int
    scope: str


@dataclass(frozen=True)
class DataInputs(_Inputs):
    """What makes a data set: sorted ``(path, hash name, oid, is-exec)`` of the DVC outs, and the non-public remote, or empty."""

    outs: tuple[tuple[str, str, str, bool], ...]
    scope: str

    @property
    def label(self) -> str:
        """What an image of it says of its inputs: all, or their hash where they are longer than what can be handed to a build."""
        return self.canonical if len(self.canonical) <= LONGEST_LABEL else make_digest("data", self.as_dict())


@dataclass(frozen=True)
class CodeInputs(_Inputs):
    """What makes a code layer.

    ``tree`` is git's id of the tree, ``copy`` the ``(source, destination)`` pairs of ``.hubdock.yml``, ``layer`` the version of the way the
    layer is written, ``policy`` what is done about submodules and LFS, ``scope`` the repository where it is not public, or empty.
    """

    tree: str
    destination: str
    owner: str
    layer: int
    policy: str
    copy: tuple[tuple[str, str], ...]
    scope: str


@dataclass(frozen=True)
class ImageInputs(_Inputs):
    """What makes an image: the keys of its environment and code, of its data when baked, and the version of the guest programs."""

    environment: str
    code: str
    data: str
    guest: str
