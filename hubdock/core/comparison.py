"""Differences between commits, row by row: metrics with deltas, parameters, requirements, data. Nothing here guesses what is better."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from hubdock.core.changes import explain_lines
from hubdock.core.dvcfiles import DataOut
from hubdock.core.metrics import Measured, Scalar, Values, find_delta
from hubdock.core.source import Source
from hubdock.core.text import make_plain

MAX_ROWS = 1000
MAX_CHANGES = 200
ABSENT = object()


@dataclass(frozen=True)
class Cell:
    """One value of one branch. ``there`` is false where the branch does not have it; ``delta`` is the difference to the base, of numbers alone."""

    value: Scalar
    there: bool = True
    delta: float | int | None = None


@dataclass(frozen=True)
class Row:
    """One metric or parameter: a cell for each branch. ``differs`` says whether the branches' values are not all the same."""

    file: str
    name: str
    cells: tuple[Cell, ...]
    differs: bool


@dataclass(frozen=True)
class DataChange:
    """One DVC output that differs: ``change`` is ``added``, ``removed`` or ``changed``. Sizes are bytes, None where there is none or DVC does not say."""

    path: str
    change: str
    before: int | None = None
    after: int | None = None


def make_metric_rows(sides: Sequence[Measured], base: int) -> list[Row]:
    """Return a row for each metric that any side has, the differences against ``sides[base]``."""
    return _make_rows([side.metrics for side in sides], base)


def make_param_rows(sides: Sequence[Measured], base: int) -> list[Row]:
    """Return a row for each parameter that any side has."""
    return _make_rows([side.params for side in sides], base)


def _make_rows(sides: Sequence[dict[str, Values]], base: int) -> list[Row]:
    files = list(dict.fromkeys(file for side in sides for file in side))
    keys = [(file, name) for file in files for name in dict.fromkeys(name for side in sides for name in side.get(file, {}))]
    return [_make_row(file, name, [side.get(file, {}).get(name, _absent()) for side in sides], base) for file, name in keys[:MAX_ROWS]]


def _absent() -> Scalar:
    return ABSENT  # type: ignore[return-value]


def _make_row(file: str, name: str, values: Sequence[Scalar], base: int) -> Row:
    first = values[base]
    cells = []
    for number, value in enumerate(values):
        delta = None if number == base or first is ABSENT or value is ABSENT else find_delta(first, value)
        cells.append(Cell(None if value is ABSENT else value, value is not ABSENT, delta))
    return Row(file, name, tuple(cells), any(_tell_apart(first, value) for value in values))


def _tell_apart(one: Scalar, other: Scalar) -> bool:
    """True if two values differ: 1 and 1.0 do not, 1 and true do."""
    return one is not other and (isinstance(one, bool) != isinstance(other, bool) or one != other)


def explain_requirements(before: Source, after: Source) -> list[str]:
    """Return in words what changed of what is installed: by file and line, at most `MAX_CHANGES`."""
    old, new = before.recipe, after.recipe
    changes = explain_lines(*([(line.file, line.text) for line in recipe.lines] for recipe in (old, new)))
    changes += [f"apt.txt: + {name}" for name in sorted(set(new.apt) - set(old.apt))] + [f"apt.txt: - {name}" for name in sorted(set(old.apt) - set(new.apt))]
    if old.project != new.project:
        changes.append(".hubdock.yml: it says something else")
    told = {change.partition(":")[0] for change in changes}
    files = [{entry.path: entry.oid for entry in recipe.files if entry.kind == "blob"} for recipe in (old, new)]
    for path in sorted(files[0].keys() | files[1].keys()):
        if posixpath.basename(path) not in {posixpath.basename(file) for file in told} and files[0].get(path) != files[1].get(path):
            changes.append(f"{path}: {_name_change(path in files[0], path in files[1])}")
    return _cut([make_plain(change, 300) for change in changes])


def _name_change(before: bool, after: bool) -> str:
    return "changed" if before and after else "added" if after else "removed"


def _cut(changes: list[str]) -> list[str]:
    return changes if len(changes) <= MAX_CHANGES else [*changes[: MAX_CHANGES - 1], f"and {len(changes) - MAX_CHANGES + 1} more"]


def list_data_changes(before: Source, after: Source) -> list[DataChange]:
    """Return which DVC outputs were added, removed or changed, by path."""
    old, new = ({out.path: out for out in source.data.outs} for source in (before, after))
    changes = []
    for path in sorted(old.keys() | new.keys()):
        one, other = old.get(path), new.get(path)
        if one is None or other is None or _identify(one) != _identify(other):
            name = _name_change(one is not None, other is not None)
            changes.append(DataChange(make_plain(path, 300), name, one.size if one else None, other.size if other else None))
    return changes


def _identify(out: DataOut) -> tuple[str, str, bool]:
    return out.hash_name, out.oid, out.is_exec
