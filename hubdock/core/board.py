"""The board: one row for each branch of the repositories that somebody may read, what they share, and which of them are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hubdock.core.metrics import Scalar

PAGE = 50
COLUMNS = 4


@dataclass(frozen=True)
class Runs:
    """A server on a branch: whose, its name, and the path that opens it, empty while it only starts."""

    user: str
    server: str
    url: str


@dataclass(frozen=True)
class Row:
    """One branch. ``repo`` is the identity of its repository; ``time`` (seconds since the epoch, 0: not read yet) when its last commit was made.

    ``detailed`` says that environment and metrics were looked at: ``environment`` is equal for branches that run in the same one, and empty where
    ``problem`` says why there is none. ``makers`` are the users who made the hypothesis here. ``shared`` are (repo, branch) of the other rows with
    its environment.
    """

    repo: str
    branch: str
    commit: str
    default: bool = False
    subject: str = ""
    author: str = ""
    time: int = 0
    detailed: bool = False
    environment: str = ""
    problem: str = ""
    metrics: tuple[tuple[str, Scalar], ...] = ()
    makers: tuple[str, ...] = ()
    servers: tuple[Runs, ...] = ()
    shared: tuple[tuple[str, str], ...] = ()

    def runs_of(self, user: str) -> Runs | None:
        """Return this user's server on the branch: one that is ready, if there are several."""
        return min((server for server in self.servers if server.user == user), key=lambda server: (not server.url, server.server), default=None)


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to see: rows with a text, their own, those with servers; and which page, from 1."""

    text: str = ""
    mine: bool = False
    running: bool = False
    page: int = 1

    def holds(self, row: Row, user: str) -> bool:
        """True if a row is to be shown to this user."""
        words = f"{row.repo}\n{row.branch}\n{row.subject}\n{row.author}\n{row.commit}\n{' '.join(row.makers)}".lower()
        mine = row.runs_of(user) is not None or user in row.makers or row.author.lower() == user.lower()
        return all(word in words for word in self.text.lower().split()) and (mine or not self.mine) and (bool(row.servers) or not self.running)


@dataclass(frozen=True)
class Page:
    """A page of rows, the newest first. ``total`` counts all rows that were wanted."""

    rows: tuple[Row, ...]
    number: int
    pages: int
    total: int


def make_page(rows: Iterable[Row], wanted: Wanted, user: str, size: int = PAGE) -> Page:
    """Return the wanted page, or the last one before it."""
    kept = sorted((row for row in rows if wanted.holds(row, user)), key=lambda row: (-row.time, row.repo, row.branch))
    pages = max(1, math.ceil(len(kept) / size))
    number = min(max(1, wanted.page), pages)
    return Page(tuple(kept[(number - 1) * size : number * size]), number, pages, len(kept))


def add_shared(shown: Iterable[Row], rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the shown rows with those of all rows that share their environment: the same repository's first."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row.environment:
            groups.setdefault(row.environment, []).append((row.repo, row.branch))
    for group in groups.values():
        group.sort()
    return tuple(replace(row, shared=_find_others((row.repo, row.branch), groups.get(row.environment, []))) for row in shown)


def _find_others(own: tuple[str, str], group: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return (*(other for other in group if other[0] == own[0] and other != own), *(other for other in group if other[0] != own[0]))


def choose_columns(rows: Iterable[Row], most: int = COLUMNS) -> list[str]:
    """Return the names of the metrics that become columns: those of the most branches, in the order of their files."""
    counts: dict[str, int] = {}
    for row in rows:
        for name, _ in row.metrics:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])[:most]


def format_value(value: Scalar) -> str:
    """Return a metric as it is shown: numbers with four digits at least, and no more than they need."""
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:.6g}" if isinstance(value, float) or abs(value) >= 10**15 else str(value)


def as_dict(row: Row) -> dict[str, Any]:
    """Return the JSON form of a row."""
    return {
        "repo": row.repo, "branch": row.branch, "commit": row.commit, "default": row.default, "subject": row.subject, "author": row.author,
        "time": row.time or None, "detailed": row.detailed, "problem": row.problem, "metrics": dict(row.metrics), "makers": list(row.makers),
        "servers": [{"user": server.user, "server": server.server, "ready": bool(server.url)} for server in row.servers],
        "shared": [{"repo": repo, "branch": branch} for repo, branch in row.shared],
    }  # fmt: skip


def parse_wanted(values: Mapping[str, str]) -> Wanted:
    """Return what a page's address asks for. What is no number is the first page."""
    page = values.get("page", "")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1
    return Wanted(values.get("q", "")[:200], bool(values.get("mine")), bool(values.get("running")), number)
