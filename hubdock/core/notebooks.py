"""Notebooks (https://nbformat.readthedocs.io/en/latest/format_description.html), read for comparing: cells, and what they put out.

They are strangers', whatever they hold. Sources are shown as text. Outputs may be HTML: `make_outputs_page` makes a page of them which is
only ever shown in a sandboxed frame, with a policy under which nothing in it runs or asks for anything.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hubdock.core.errors import RecipeError
from hubdock.core.text import make_lines, make_plain

MAX_FILE = 8 * 1024**2  # bytes
MAX_CELLS, MAX_LINES, MAX_ALL, MAX_OUTPUTS = 500, 400, 20_000, 100
MAX_TEXT = 100_000
MAX_HTML = 4 * 1024**2
CONTEXT = 3
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*")
# What has no place in an output and could ask for something before any policy is looked at (a connection made ahead), or leave the frame.
_SCRIPT = re.compile(r"<script\b.*?(?:</script[^>]*>|\Z)", re.I | re.S)
_ACTIVE = re.compile(r"<(?=/?(?:script|link|meta|base|iframe|frame|frameset|object|embed|applet|form|portal|fencedframe)\b)", re.I)


@dataclass(frozen=True)
class NotebookCell:
    """One cell. ``outputs`` tells outputs apart: empty if it has none."""

    kind: str
    source: str
    outputs: str


@dataclass(frozen=True)
class CellDifference:
    """One cell on both sides: ``change`` is ``same``, ``changed``, ``added`` or ``removed``, ``before`` and ``after`` its number on each side (from 0).

    ``lines`` are (mark, text), with ``+``, ``-`` or a space, and ``…`` where lines are left out. ``outputs`` says on which sides there are outputs:
    ``""``, ``before``, ``after``, ``both`` (they differ) or ``same``.
    """

    change: str
    kind: str
    before: int | None
    after: int | None
    lines: tuple[tuple[str, str], ...]
    outputs: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form that `load_difference` reads."""
        return asdict(self)


def load_difference(values: Mapping[str, Any]) -> CellDifference:
    """Return what `CellDifference.as_dict` gave."""
    return CellDifference(**{**values, "lines": tuple((str(mark), str(text)) for mark, text in values["lines"])})


def parse_notebook(path: str, content: bytes) -> dict[str, Any]:
    """Return a notebook of format 4. Raises RecipeError with the file."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecipeError("This is no notebook: it is not valid JSON.", str(error)[:200], file=path) from error
    if not isinstance(values, dict) or values.get("nbformat") != 4 or not isinstance(values.get("cells"), list):
        raise RecipeError("Only notebooks of format 4 are compared. Open it in JupyterLab and save it.", file=path)
    return values


def read_cells(notebook: Mapping[str, Any]) -> list[NotebookCell]:
    """Return the first `MAX_CELLS` cells of a parsed notebook."""
    found = []
    for cell in notebook["cells"][:MAX_CELLS]:
        cell = cell if isinstance(cell, dict) else {}
        outputs = cell.get("outputs")
        mark = hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest() if isinstance(outputs, list) and outputs else ""
        kind = cell.get("cell_type")
        found.append(NotebookCell(kind if kind in ("code", "markdown", "raw") else "unknown", join_text(cell.get("source")).removesuffix("\n"), mark))
    return found


def join_text(value: Any) -> str:
    """Return a multi-line string of a notebook, which is a text or a list of them."""
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def make_bare(cells: Sequence[NotebookCell]) -> dict[str, Any]:
    """Return cells as a notebook without anything but kinds and sources: what nbdime matches them by."""
    more: dict[str, dict[str, Any]] = {"code": {"outputs": [], "execution_count": None}}
    bare = [{"cell_type": cell.kind, "metadata": {}, "source": cell.source, **more.get(cell.kind, {})} for cell in cells]
    return {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": bare}


def match_cells(operations: Sequence[Mapping[str, Any]], before: int, after: int) -> list[tuple[int | None, int | None]]:
    """Return (number before, number after) of each cell in reading order, of nbdime's operations on the list of cells (its ``diff_format``)."""
    pairs: list[tuple[int | None, int | None]] = []
    old = new = 0
    for operation in sorted(operations, key=lambda one: (one["key"], one["op"] != "removerange")):  # what went before what came, as in any difference
        while old < operation["key"]:
            pairs.append((old, new))
            old, new = old + 1, new + 1
        if operation["op"] == "addrange":
            count = len(operation["valuelist"])
            pairs += [(None, new + n) for n in range(count)]
            new += count
        elif operation["op"] == "removerange":
            pairs += [(old + n, None) for n in range(operation["length"])]
            old += operation["length"]
    pairs += [(old + n, new + n) for n in range(before - old)]
    if new + before - old != after:
        raise ValueError("the operations do not fit the notebooks")
    return pairs


def describe_cells(pairs: Sequence[tuple[int | None, int | None]], before: Sequence[NotebookCell], after: Sequence[NotebookCell]) -> list[CellDifference]:
    """Return how the matched cells differ. Of the cells after the first `MAX_ALL` lines only the number of lines is told."""
    found, left = [], MAX_ALL
    for old, new in pairs:
        one = _describe(before[old] if old is not None else None, after[new] if new is not None else None, old, new)
        left -= len(one.lines)
        found.append(one if left >= 0 else replace(one, lines=(("…", f"{len(one.lines)} lines"),)))
    return found


def _describe(one: NotebookCell | None, other: NotebookCell | None, old: int | None, new: int | None) -> CellDifference:
    kind = (other or one or NotebookCell("", "", "")).kind
    if one is None or other is None:
        only, mark = (other, "+") if one is None else (one, "-")
        lines = [(mark, line) for line in make_lines(only.source if only else "")]
        side = "after" if one is None else "before"
        return CellDifference("added" if one is None else "removed", kind, old, new, _cut(lines), side if only and only.outputs else "")
    alike = one.source == other.source and one.kind == other.kind
    outputs = "same" if one.outputs == other.outputs else "both" if one.outputs and other.outputs else "before" if one.outputs else "after"
    outputs = outputs if one.outputs or other.outputs else ""
    lines = [(" ", line) for line in make_lines(one.source)] if alike else diff_lines(one.source, other.source)
    return CellDifference("same" if alike and outputs in {"", "same"} else "changed", kind, old, new, _cut(lines), outputs)


def diff_lines(before: str, after: str) -> list[tuple[str, str]]:
    """Return the lines of two texts as a unified difference, (mark, line)."""
    old, new = make_lines(before), make_lines(after)
    if old == new:
        return [(" ", line) for line in old]
    lines: list[tuple[str, str]] = []
    for line in list(difflib.unified_diff(old, new, lineterm="", n=CONTEXT))[2:]:
        if line.startswith("@@"):
            lines += [("…", "")] if lines or not line.startswith("@@ -1") else []
        else:
            lines.append((line[0], line[1:]))
    return lines


def _cut(lines: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(lines) if len(lines) <= MAX_LINES else (*lines[:MAX_LINES], ("…", f"{len(lines) - MAX_LINES} more lines"))


# --- outputs ---


def make_outputs_page(notebook: Mapping[str, Any], cell: int, title: str) -> str:
    """Return the HTML of one cell's outputs. It holds the notebook's own HTML: to be answered with a policy under which nothing runs, in a sandbox."""
    cells = notebook["cells"]
    outputs = cells[cell].get("outputs") if cell < len(cells) and isinstance(cells[cell], dict) else None
    parts: list[str] = []
    left = MAX_HTML
    for number, output in enumerate(outputs if isinstance(outputs, list) else []):
        part = _show_output(output) if isinstance(output, dict) else ""
        left -= len(part)
        if number >= MAX_OUTPUTS or left < 0:
            parts.append("<p>There is more, which is not shown here.</p>")
            break
        parts.append(f"<div>{part}</div>")
    body = "\n".join(parts) or "<p>This cell has no outputs.</p>"
    body = body.encode("utf-8", "replace").decode()
    return f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n'


_STYLE = (
    ":root{color-scheme:light}body{margin:.5rem;font:14px/1.4 system-ui,sans-serif;background:#fff;color:#1f2328;overflow-wrap:anywhere}pre{margin:0;white-space:pre-wrap}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .4rem;text-align:right}.error{color:#a40e26}.note{color:#57606a}"
)


def _show_output(output: Mapping[str, Any]) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        return _pre(join_text(output.get("text")), "error" if output.get("name") == "stderr" else "")
    if kind == "error":
        trace = output.get("traceback")
        lines = "\n".join(line for line in trace if isinstance(line, str)) if isinstance(trace, list) else ""
        return _pre((lines or f"{output.get('ename')}: {output.get('evalue')}")[:MAX_TEXT], "error")
    data = output.get("data")
    return _show_data(data) if isinstance(data, dict) else ""


def _show_data(data: Mapping[str, Any]) -> str:
    """Return the richest form of an output that can be shown without running anything."""
    if "text/html" in data:
        return _ACTIVE.sub("&lt;", _SCRIPT.sub("<em>A script is left out.</em>", _join_all(data["text/html"])))
    for media in ("image/png", "image/jpeg", "image/gif"):
        coded = _join_all(data.get(media))
        if coded and _BASE64.fullmatch(coded):
            return f'<img alt="{media}" src="data:{media};base64,{"".join(coded.split())}">'
    if "image/svg+xml" in data:
        coded = base64.b64encode(_join_all(data["image/svg+xml"]).encode("utf-8", "replace")).decode()
        return f'<img alt="image/svg+xml" src="data:image/svg+xml;base64,{coded}">'  # as a picture an SVG runs no script and loads nothing
    for media, note in (("text/markdown", "Markdown, as text:"), ("text/latex", "LaTeX, as text:"), ("text/plain", ""), ("application/javascript", "JavaScript, which is not run:"), ("application/json", "JSON:")):
        if media in data and not (media == "text/plain" and "application/javascript" in data):
            value = data[media]
            return _pre(join_text(value) if isinstance(value, (str, list)) and media != "application/json" else _dump(value), note=note)
    return _pre(f"An output of the kind {make_plain(', '.join(map(str, data)), 200)} is not shown here.", note="")


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)[:MAX_TEXT]
    except RecursionError:
        return "It nests too deep to be shown."


def _join_all(value: Any) -> str:
    value = "".join(part for part in value if isinstance(part, str)) if isinstance(value, list) else value
    return value if isinstance(value, str) and len(value) <= MAX_HTML else ""


def _pre(text: str, style: str = "", note: str = "") -> str:
    shown = html.escape("\n".join(make_lines(text)))
    return (f'<p class="note">{note}</p>' if note else "") + f'<pre class="{style}">{shown}</pre>'
