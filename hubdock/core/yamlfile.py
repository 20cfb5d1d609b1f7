"""YAML of strangers, read with libyaml: bounded in depth and size, for its composer would otherwise crash the process or fill its memory."""

from __future__ import annotations

import re
from typing import Any

import yaml

from hubdock.core.errors import RecipeError
from hubdock.core.requirements import decode_text

MAX_FILE = 32 * 1024 * 1024
MAX_DEPTH = 100
MAX_MERGED = 10_000
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEP = re.compile(r"(?:[-?:]\s){25}|\n {100}")  # nested in one line, or by indentation; brackets are counted


class _Loader(_BASE):  # type: ignore[misc]
    """A safe loader whose merge keys (``<<``) can't multiply without end."""

    def flatten_mapping(self, node: Any) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_MERGED:
            raise yaml.constructor.ConstructorError(None, None, "too many entries come from “<<”", node.start_mark)


def load_yaml(path: str, content: bytes) -> Any:
    """Return the value of a YAML file of the repository, None if it is empty. Raises RecipeError with file and line."""
    if len(content) > MAX_FILE:
        raise RecipeError(f"The file is {len(content) // 1024**2} MiB; at most {MAX_FILE // 1024**2} MiB are read.", file=path)
    text = decode_text(path, content)
    try:
        if text.count("[") + text.count("{") > MAX_DEPTH or _DEEP.search(text):
            _check_depth(path, text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # the later ones: ``!!bool x`` and the like
        mark = getattr(error, "problem_mark", None)
        raise RecipeError("This is not valid YAML.", str(error)[:500], file=path, line=mark.line + 1 if mark else None) from error


def _check_depth(path: str, text: str) -> None:
    """Raise RecipeError if the file nests deeper than `MAX_DEPTH`. Events come one by one, so that no depth of them can overflow anything."""
    depth = 0
    for event in yaml.parse(text, Loader=_BASE):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise RecipeError(f"The file nests deeper than {MAX_DEPTH} levels.", file=path)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
