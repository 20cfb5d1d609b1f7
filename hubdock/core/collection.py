"""What collection removes: a pure function of what there is, what holds it, and how much may stay.

What is held (in use, wanted by a build, pinned) stays, with all that it stands on. Of the rest goes first what is due (the trash after its time),
then what nobody used for too long, then the least recently used until the budget is met. What stands on something goes before it, and is as
recent as the most recent that stands on it: an environment outlives its images.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Identity = tuple[str, str]


@dataclass(frozen=True)
class Item:
    """One thing that takes space.

    ``kind`` and ``key`` name it, ``name`` is what people call it. ``size`` is the bytes that its removal frees once nothing stands on it; ``used`` its
    last use in seconds since the epoch. ``held`` says why it must stay, ``due`` why it goes whatever the budget; both are empty otherwise. ``needs``
    are the items it stands on. ``counts`` is False for what is not part of the budget.
    """

    kind: str
    key: str
    size: int
    used: float
    name: str = ""
    held: str = ""
    due: str = ""
    needs: tuple[Identity, ...] = ()
    counts: bool = True

    @property
    def identity(self) -> Identity:
        """Kind and key."""
        return self.kind, self.key


@dataclass(frozen=True)
class Removal:
    """One item that goes, and why."""

    item: Item
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        item = self.item
        return {"kind": item.kind, "key": item.key, "name": item.name, "size": item.size, "used": item.used, "reason": self.reason}


@dataclass(frozen=True)
class Selection:
    """What goes, in the order in which it must go, and what stays (``held`` filled in for what others need). Sizes are bytes; no budget: None."""

    removals: tuple[Removal, ...]
    kept: tuple[Item, ...]
    total: int
    budget: int | None

    @property
    def freed(self) -> int:
        """The bytes that the removals free."""
        return sum(removal.item.size for removal in self.removals)

    @property
    def left(self) -> int:
        """The bytes of the budget that are taken afterwards."""
        return sum(item.size for item in self.kept if item.counts)

    @property
    def over(self) -> int:
        """By how many bytes the budget is missed even so."""
        return max(0, self.left - self.budget) if self.budget is not None else 0


def select(items: Iterable[Item], *, now: float, budget: int | None = None, max_age: float = 0.0, grace: float = 0.0) -> Selection:
    """Return what is to be removed.

    ``budget`` is in bytes, None: no limit. ``max_age`` is seconds after which what nobody used goes, 0: never. What was used less than ``grace``
    seconds ago stays: a start may be about to launch it.
    """
    known = {item.identity: item for item in items}
    held, used, depth = _inherit(known)
    order = sorted((item for name, item in known.items() if not held[name] and now - used[name] >= grace), key=lambda item: (used[item.identity], -depth[item.identity]))
    left = sum(item.size for item in known.values() if item.counts)
    total, removed, standing = left, {}, _count_users(known)

    def remove(item: Item, reason: str) -> None:
        nonlocal left
        removed[item.identity] = Removal(item, reason)
        left -= item.size if item.counts else 0
        for need in item.needs:
            if need in standing:
                standing[need] -= 1

    for item in order:
        old = max_age and now - used[item.identity] > max_age
        if (item.due or old) and not standing[item.identity]:
            remove(item, item.due or f"not used for {_format_days(now - used[item.identity])}")
    for item in order if budget is not None else ():
        if left <= (budget or 0):
            break
        if item.identity not in removed and item.counts and not standing[item.identity]:
            remove(item, f"least recently used, {_format_days(now - used[item.identity])} ago")
    kept = tuple(_mark(item, held[name]) for name, item in known.items() if name not in removed)
    return Selection(tuple(removed.values()), kept, total, budget)


def _inherit(known: Mapping[Identity, Item]) -> tuple[dict[Identity, str], dict[Identity, float], dict[Identity, int]]:
    """Return by item why it is held, its last use, and how much it stands on; the first two are passed on to what an item stands on."""
    depth: dict[Identity, int] = {}

    def measure(name: Identity, above: frozenset[Identity]) -> int:
        if name not in depth:
            below = [need for need in known[name].needs if need in known and need not in above]
            depth[name] = 1 + max((measure(need, above | {name}) for need in below), default=0)
        return depth[name]

    for name in known:
        measure(name, frozenset({name}))
    held, used = {name: item.held for name, item in known.items()}, {name: item.used for name, item in known.items()}
    for name in sorted(known, key=lambda name: -depth[name]):
        for need in known[name].needs:
            if need in known:
                used[need] = max(used[need], used[name])
                held[need] = held[need] or (f"{held[name]} (needed by {describe(known[name])})" if held[name] else "")
    return held, used, depth


def _count_users(known: Mapping[Identity, Item]) -> dict[Identity, int]:
    """Return by item how many others stand on it."""
    users = dict.fromkeys(known, 0)
    for item in known.values():
        for need in item.needs:
            if need in users:
                users[need] += 1
    return users


def _mark(item: Item, held: str) -> Item:
    return item if item.held == held else Item(**{**asdict(item), "held": held, "needs": item.needs})


def describe(item: Item) -> str:
    """Return an item as it is told to people: ``image 0123456789ab (digits main)``."""
    key = item.key if len(item.key) != 64 else item.key[:12]
    return f"{item.kind} {key}{f' ({item.name})' if item.name and item.name != item.key else ''}"


def sum_sizes(items: Iterable[Item]) -> dict[str, int]:
    """Return the bytes by kind."""
    sums: dict[str, int] = {}
    for item in items:
        sums[item.kind] = sums.get(item.kind, 0) + item.size
    return sums


def matches_pin(repo: str, branch: str, patterns: Sequence[str]) -> bool:
    """True if a hypothesis fits one of the admin's patterns: ``host/path`` or ``host/path@branch``, ``*`` in both. ``repo`` has no scheme."""
    for pattern in patterns:
        wanted, _, branches = pattern.partition("@")
        if fnmatch.fnmatchcase(repo, wanted) and fnmatch.fnmatchcase(branch.removeprefix("tag:"), branches or "*"):
            return True
    return False


def _format_days(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} seconds"
