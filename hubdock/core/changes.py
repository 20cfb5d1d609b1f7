"""What changed between two readings of the requirements, as people write it: ``requirements.txt: + xgboost 3.2``, ``numpy 1.26 → 2.1``, ``- foo``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def explain_lines(before: Iterable[Sequence[str]], after: Iterable[Sequence[str]]) -> list[str]:
    """Return the changes between requirements, each ``(file, line)``: what was added, changed and removed, by file."""
    old, new = ({(entry[0], entry[1]) for entry in side} for side in (before, after))
    added, removed = sorted(new - old), sorted(old - new)
    moved = []
    for file, text in list(added):
        was = [other for other in removed if other[0] == file and _name(other[1]) and _name(other[1]) == _name(text)]
        if len(was) == 1 and sum(_name(other) == _name(text) for place, other in added if place == file) == 1:
            moved.append(f"{file}: {_show_move(was[0][1], text)}")
            added.remove((file, text))
            removed.remove(was[0])
    return [f"{file}: + {show(text)}" for file, text in added] + moved + [f"{file}: - {show(text)}" for file, text in removed]


def show(text: str) -> str:
    """Return a requirement as it is said: ``xgboost 3.2`` for ``xgboost==3.2``; whatever says more stays as it is."""
    requirement = _parse(text)
    if requirement is None or requirement.extras or requirement.marker or requirement.url:
        return text
    version = _show_version(requirement)
    return f"{requirement.name} {version}" if version and version[0].isdigit() else text


def _show_move(before: str, after: str) -> str:
    """Return one requirement's change; where more than the version changed, both lines whole."""
    old, new = _parse(before), _parse(after)
    if old is None or new is None or (old.extras, str(old.marker), old.url) != (new.extras, str(new.marker), new.url):
        return f"{before} → {after}"
    return f"{new.name} {_show_version(old) or 'any'} → {_show_version(new) or 'any'}"


def _show_version(requirement: Requirement) -> str:
    specifiers = list(requirement.specifier)
    exact = len(specifiers) == 1 and specifiers[0].operator in {"==", "==="}
    return specifiers[0].version if exact else str(requirement.specifier)


def _name(text: str) -> str:
    requirement = _parse(text)
    return canonicalize_name(requirement.name) if requirement else ""


def _parse(text: str) -> Requirement | None:
    try:
        return Requirement(text.partition(" --hash")[0])
    except InvalidRequirement:
        return None
