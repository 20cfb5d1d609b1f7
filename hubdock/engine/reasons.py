"""Why an environment is to be built, in the words of the repository: ``requirements.txt: + xgboost 3.2``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hubdock.core.changes import explain_lines
from hubdock.core.plan import explain_change
from hubdock.engine.assembly import describe_recipe

if TYPE_CHECKING:
    from hubdock.engine.assembly import Assembly
    from hubdock.engine.database import Database

MOST = 6


def explain_environment(database: Database, a: Assembly) -> tuple[str, ...]:
    """Return what changed since the last environment of this repository, at most `MOST` reasons."""
    row = database.last_task("environment", a.remote.repo.canonical)
    if row is None or a.environment is None:
        return ("the first environment of this repository",)
    try:
        before = json.loads(row.inputs)
        inputs, recipe = before["inputs"], before["recipe"]
    except (ValueError, KeyError):
        return ("other packages",)
    reasons = [*_explain_lines(recipe, describe_recipe(a.source))]
    current = a.environment.as_dict()
    if not reasons:
        reasons += explain_change(inputs["files"], current["files"])
    if inputs["base"] != current["base"]:
        reasons.append("another base image")
    reasons += [f"{what} changed" for name, what in (("installer", "the installer"), ("indexes", "the package index")) if inputs[name] != current[name]]
    if any(inputs["settings"].get(name) != current["settings"].get(name) for name in ("base", "env", "labels", "command")):
        reasons.append(".hubdock.yml changed")
    if inputs["epoch"] != current["epoch"]:
        reasons.append("packages are renewed")
    if len(reasons) > MOST:
        reasons = [*reasons[: MOST - 1], f"and {len(reasons) - MOST + 1} more"]
    return tuple(reasons) or ("not here any more",)


def _explain_lines(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    changes = explain_lines(before["lines"], after["lines"])
    apt_old, apt_new = set(before["apt"]), set(after["apt"])
    return changes + [f"apt.txt: + {name}" for name in sorted(apt_new - apt_old)] + [f"apt.txt: - {name}" for name in sorted(apt_old - apt_new)]
