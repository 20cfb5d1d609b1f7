"""The admin's list of repositories: what people choose from, and all that they may choose where free text is not allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hubdock.core.errors import ConfigError, HubDockError, RepoNotAllowed
from hubdock.core.repo import RepoPolicy, RepoURL, parse_repo_url

_KNOWN = {"url", "title", "description"}


@dataclass(frozen=True)
class Entry:
    """One repository of the list. ``title`` is its name unless the admin gave another."""

    repo: RepoURL
    title: str
    description: str = ""


def parse_catalogue(given: Sequence[object], policy: RepoPolicy) -> tuple[Entry, ...]:
    """Return the entries of ``HubDock.catalogue``, each a URL or ``{url, title, description}``. Raises ConfigError, which names the entry."""
    entries = [_parse_entry(value, policy) for value in given]
    seen: set[str] = set()
    for entry in entries:
        if entry.repo.canonical in seen:
            raise ConfigError(f"HubDock.catalogue lists {entry.repo.url} twice.")
        seen.add(entry.repo.canonical)
    return tuple(entries)


def _parse_entry(value: object, policy: RepoPolicy) -> Entry:
    values = {"url": value} if isinstance(value, str) else value
    if not isinstance(values, dict) or set(values) - _KNOWN or "url" not in values or not all(isinstance(text, str) for text in values.values()):
        raise ConfigError("HubDock.catalogue: each entry is an address, or has a “url” and perhaps “title” and “description”, all text.")
    try:
        repo = parse_repo_url(values["url"])
        policy.check(repo)
    except HubDockError as error:
        raise ConfigError(f"HubDock.catalogue: an entry can't be started. {error.message}") from error
    return Entry(repo, values.get("title") or repo.name, values.get("description", ""))


def check_choice(repo: RepoURL, entries: Sequence[Entry], free: bool) -> None:
    """Raise RepoNotAllowed for a repository that is not on the list, where only the list may be chosen. What is on it is not told: not everybody may read all."""
    if not free and all(entry.repo.canonical != repo.canonical for entry in entries):
        raise RepoNotAllowed("On this hub a repository is chosen from its list. Ask an administrator to add this one to HubDock.catalogue.", field="repo")
