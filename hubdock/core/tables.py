"""Tables that plots are drawn from: CSV, TSV, JSON and YAML as DVC reads them, bounded, of strangers."""

from __future__ import annotations

import csv
import math
import posixpath
from typing import Any

from hubdock.core.errors import RecipeError
from hubdock.core.metrics import is_number, make_scalar, parse_file
from hubdock.core.pipeline import PlotLine
from hubdock.core.requirements import decode_text

MAX_ROWS, MAX_COLUMNS, MAX_DEPTH = 10_000, 100, 10
Point = tuple[float, float]
Table = list[dict[str, Any]]


def parse_table(path: str, content: bytes) -> Table:
    """Return the rows of a file by column, at most `MAX_ROWS` of them. Raises RecipeError with the file."""
    ending = posixpath.splitext(path)[1].lower()
    if ending in {".csv", ".tsv"}:
        return _parse_csv(path, decode_text(path, content), "\t" if ending == ".tsv" else ",")
    rows = _find_rows(parse_file(path, content), 0)
    if rows is None:
        raise RecipeError("It holds no list of rows to draw.", file=path)
    return [dict(list(row.items())[:MAX_COLUMNS]) for row in rows[:MAX_ROWS]]


def _parse_csv(path: str, text: str, delimiter: str) -> Table:
    try:
        reader = csv.reader(text.splitlines(), delimiter=delimiter)
        names = [name.strip() for name in next(reader, [])[:MAX_COLUMNS]]
        return [dict(zip(names, row, strict=False)) for row, _ in zip(reader, range(MAX_ROWS), strict=False) if row]
    except csv.Error as error:
        raise RecipeError(f"This table can't be read: {str(error)[:120]}.", file=path) from error


def _find_rows(value: Any, depth: int) -> Table | None:
    """Return the first list of rows of a value: the value itself, or what lies in it, as in DVC."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value[:MAX_ROWS]):
        return value
    if isinstance(value, dict) and depth < MAX_DEPTH:
        for inner in list(value.values())[:MAX_COLUMNS]:
            found = _find_rows(inner, depth + 1) if isinstance(inner, (list, dict)) else None
            if found is not None:
                return found
    return None


def make_points(line: PlotLine, table: Table, x_table: Table) -> tuple[str, list[Point]]:
    """Return (the name of the column, its points) of one line. Without a y it is the last column, without an x the number of the row, as in DVC.

    Rows without numbers are left out.
    """
    y = line.y or (str(list(table[-1])[-1]) if table and table[-1] else "")
    points = []
    for number, row in enumerate(table):
        x_row = x_table[number] if number < len(x_table) else {}
        x_value = _read_number(x_row.get(line.x)) if line.x else float(number)
        y_value = _read_number(row.get(y))
        if x_value is not None and y_value is not None:
            points.append((x_value, y_value))
    return y, points


def _read_number(value: Any) -> float | None:
    """Return a finite number that is written as one, or None."""
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < 64 else None
        except ValueError:
            return None
    found = make_scalar(value) if is_number(value) else None
    return float(found) if isinstance(found, (int, float)) and math.isfinite(found) and abs(found) < 1e300 else None
