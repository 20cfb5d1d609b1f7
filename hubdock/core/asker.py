"""Who asks: the person in whose name repositories are read. Every question to a remote is asked with what this person may use, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asker:
    """A person by their name on the hub, with their groups there. ``trusted``: whoever may read the admin's files anyway."""

    name: str
    groups: frozenset[str] = frozenset()
    trusted: bool = False

    def may_use(self, entry: Mapping[str, Any]) -> bool:
        """True if an entry of the settings is for this person: it names them or one of their groups, or it names nobody and is for all."""
        users, groups = entry.get("users"), entry.get("groups")
        return self.trusted or (users is None and groups is None) or self.name in (users or ()) or not self.groups.isdisjoint(groups or ())

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"name": self.name, "groups": sorted(self.groups), "trusted": self.trusted}


LOCAL = Asker("", trusted=True)
"""The command line, the hub itself and the upkeep: they read the credentials' files themselves."""


def load_asker(values: Mapping[str, Any]) -> Asker:
    """Return what `Asker.as_dict` gave."""
    return Asker(str(values["name"]), frozenset(map(str, values["groups"])), bool(values["trusted"]))
