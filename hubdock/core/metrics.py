"""Metrics and parameters of a commit: what its files say, flattened to names and plain values, and the differences between two commits.

The files are strangers': their values are bounded in number, depth and length, and every text is made safe to show.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hubdock.core.errors import RecipeError
from hubdock.core.requirements import decode_text
from hubdock.core.text import make_plain
from hubdock.core.yamlfile import load_yaml

Scalar = bool | int | float | str | None
Values = dict[str, Scalar]

MAX_FILE = 1024**2  # bytes of one file
MAX_VALUES = 500  # of one file
MAX_DEPTH = 20
MAX_NODES = 10_000
MAX_NAME, MAX_TEXT = 200, 200
_MAX_NUMBER = 2**63
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d{1,3}")


@dataclass(frozen=True)
class Measured:
    """What a commit's own files say: ``{file: {dotted name: value}}`` for metrics and for parameters. ``notices`` say what was not read and why."""

    metrics: dict[str, Values]
    params: dict[str, Values]
    notices: tuple[str, ...] = ()

    def dump(self) -> str:
        """Return the JSON text that `load_measured` reads."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def list_metrics(self, most: int = MAX_VALUES) -> list[tuple[str, Scalar]]:
        """Return (short name, value) of the first metrics, in the files' own order. A name that two files share is told apart by its file."""
        names = [name for values in self.metrics.values() for name in values]
        shown = [(name if names.count(name) == 1 else f"{file}: {name}", value) for file, values in self.metrics.items() for name, value in values.items()]
        return shown[:most]


def load_measured(text: str) -> Measured:
    """Return what `Measured.dump` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    values = json.loads(text)
    return Measured(values["metrics"], values["params"], tuple(values["notices"]))


def parse_values(path: str, content: bytes, *, lists: bool) -> tuple[Values, bool]:
    """Return the values of a JSON, YAML or TOML file by dotted name, and whether it had more than are kept.

    ``lists`` keeps lists as text, as they stand for one parameter; of metrics DVC shows none. Raises RecipeError with the file.
    """
    if len(content) > MAX_FILE:
        raise RecipeError(f"The file is over {MAX_FILE // 1024**2} MiB, and is not read.", file=path)
    values, more = flatten(parse_file(path, content), lists=lists)
    if not path.lower().endswith((".json", ".toml")):  # PyYAML reads YAML 1.1, for which 1e-3 is text; DVC reads 1.2
        values = {name: make_scalar(float(value)) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value for name, value in values.items()}
    return values, more


def parse_file(path: str, content: bytes) -> Any:
    """Return the value of a JSON, TOML or YAML file, which its ending tells (YAML if none of them, as in DVC). Raises RecipeError with the file."""
    ending = posixpath.splitext(path)[1].lower()
    if ending == ".py":
        raise RecipeError("Parameters in Python files are not read. Keep them in a YAML, JSON or TOML file.", file=path)
    if ending not in {".json", ".toml"}:
        return load_yaml(path, content)
    text = decode_text(path, content)
    try:
        return json.loads(text) if ending == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"This is not valid {ending[1:].upper()}: {make_plain(str(error), 120)}.", file=path) from error


def flatten(value: Any, *, lists: bool) -> tuple[Values, bool]:
    """Return ``{dotted name: scalar}`` of nested mappings, and whether there was more than `MAX_VALUES` or deeper than `MAX_DEPTH`."""
    found: Values = {}
    for leaf in _walk(value, lists):
        if leaf is None or len(found) >= MAX_VALUES:
            return found, True
        found[leaf[0]] = leaf[1]
    return found, False


def _walk(value: Any, lists: bool) -> Iterator[tuple[str, Scalar] | None]:
    """Yield the leaves in their order, and None in place of what is too deep or too much: with aliases a small YAML file stands for an endless tree."""
    waiting = [("", 0, value)]
    for _ in range(MAX_NODES):
        if not waiting:
            return
        name, depth, value = waiting.pop()
        if isinstance(value, Mapping) and depth < MAX_DEPTH and len(value) <= MAX_NODES:
            parts = [(make_plain(str(key), MAX_NAME), inner) for key, inner in value.items()]
            waiting += [(f"{name}.{part}"[:MAX_NAME] if name else part, depth + 1, inner) for part, inner in reversed(parts)]
        elif isinstance(value, Mapping):
            yield None
        elif isinstance(value, (list, tuple, set)):
            if lists:
                yield name or "list", _show_list(value)
        elif name or value is not None:
            yield name or "value", make_scalar(value)
    yield None


def _show_list(values: Any) -> str:
    """Return a list as text. What lies deeper in it is left out."""
    shown = ", ".join("…" if isinstance(v, (Mapping, list, tuple, set)) else str(make_scalar(v)) for v, _ in zip(values, range(50), strict=False))
    return make_plain(f"[{shown}{', …' if len(values) > 50 else ''}]", MAX_TEXT)


def make_scalar(value: Any) -> Scalar:
    """Return a value that JSON can hold and a page can show: numbers beyond any use, dates and the like become text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < _MAX_NUMBER else f"about 2^{value.bit_length()}"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return make_plain(str(value), MAX_TEXT)


def is_number(value: object) -> bool:
    """True for what can be subtracted and drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def format_scalar(value: Scalar) -> str:
    """Return a value as people read it: six digits are enough to compare."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def find_delta(before: Scalar, after: Scalar) -> float | int | None:
    """Return ``after - before`` of two numbers, without the noise of binary fractions; None where one is no number."""
    if not (is_number(before) and is_number(after)):
        return None
    assert isinstance(before, (int, float)) and isinstance(after, (int, float))
    if isinstance(before, int) and isinstance(after, int):
        return after - before
    delta = float(after) - float(before)
    if not math.isfinite(delta):
        return None
    largest = max(abs(before), abs(after))
    return 0.0 if abs(delta) <= largest * 1e-12 else float(f"{delta:.6g}")


def format_delta(delta: float | int | None) -> str:
    """Return ``+0.02``, ``-3``, ``0``, or nothing. Whether more is better, only the reader knows."""
    if delta is None:
        return ""
    return f"{delta:+.4g}" if isinstance(delta, float) and delta else f"{delta:+d}" if isinstance(delta, int) and delta else "0"
