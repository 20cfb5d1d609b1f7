"""nbdime, which compares two notebooks cell by cell, in a process of its own with bounded time and memory: notebooks are strangers'.

``python -m hubdock.drivers.cells`` is that process: two notebooks come on its input, and the differences go to its output, as JSON. It imports
little beside nbdime, for each page waits for it.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import sys
from typing import Any

from hubdock.core.errors import CapacityError, RecipeError
from hubdock.core.notebooks import CellDifference, describe_cells, load_difference, make_bare, match_cells, parse_notebook, read_cells
from hubdock.drivers import process

TIMEOUT = 20.0
MEMORY = 1024**3


def diff_notebooks(path: str, before: bytes, after: bytes, timeout: float = TIMEOUT) -> list[CellDifference]:
    """Return how two notebooks differ, cell by cell, in reading order. Raises RecipeError with the file, and CapacityError if it takes too long."""
    given = json.dumps({"path": path, "before": base64.b64encode(before).decode(), "after": base64.b64encode(after).decode()}).encode()
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        output = process.run([sys.executable, "-m", "hubdock.drivers.cells"], env=env, timeout=timeout, stdin=given)
    except process.DeadlineExceeded as error:
        raise CapacityError("These notebooks take too long to compare. Open both in JupyterLab instead.", str(error)) from error
    if output.code == 2:
        raise RecipeError(output.stdout.decode("utf-8", "replace")[:500], file=path)
    if output.code:
        raise CapacityError("These notebooks can't be compared here: they are too large, or not what they say. Open both in JupyterLab instead.", output.error_text[-500:])
    return [load_difference(values) for values in json.loads(output.stdout)]


def main() -> int:
    """Compare what comes on the input. Return 2, with the message on the output, for what is no notebook."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(TIMEOUT), int(TIMEOUT)))
    given = json.load(sys.stdin)
    try:
        before, after = (read_cells(parse_notebook(given["path"], base64.b64decode(given[side]))) for side in ("before", "after"))
    except RecipeError as error:
        sys.stdout.write(error.message)
        return 2
    pairs = match_cells(_find_operations(make_bare(before), make_bare(after)), len(before), len(after))
    json.dump([one.as_dict() for one in describe_cells(pairs, before, after)], sys.stdout)
    return 0


def _find_operations(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Return nbdime's operations on the list of cells. Imported here alone, for it takes long."""
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # jsonschema's; it compiles a grammar for a second, and goes without it
    from nbdime import diffing

    found = diffing.diff_notebooks(before, after)
    return next((operation["diff"] for operation in found if operation["key"] == "cells"), [])


if __name__ == "__main__":
    sys.exit(main())
