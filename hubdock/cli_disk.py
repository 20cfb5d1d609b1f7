"""What ``hubdock gc`` and ``hubdock workspaces`` do and print."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from hubdock.cli_output import format_age, print_json, print_table
from hubdock.core.collection import sum_sizes
from hubdock.core.errors import InvalidOption
from hubdock.core.resources import format_bytes
from hubdock.core.text import make_plain
from hubdock.engine.collect import Collector, Report, describe_key
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.tasks import TaskStore
from hubdock.engine.workspaces import Workspace

ACTIONS = ("list", "delete", "restore")


def make_collector(settings: HubDock) -> Collector:
    """Return a collector over the settings' state directory."""
    return Collector(settings, Database(settings.database_url), TaskStore(settings.state))


def collect(settings: HubDock, console: Console, budget: str | None, dry_run: bool, as_json: bool) -> None:
    """Collect, or say what a collection would remove, and print the report."""
    collector = make_collector(settings)
    report = collector.look(budget) if dry_run else collector.collect(budget)
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(console, report)


def print_report(console: Console, report: Report) -> None:
    """Print what went and why, what there is by kind, and how the budget stands."""
    removals = [removal for removal in report.removals if removal.item.kind != "cache"]
    if removals:
        rows = ((r.item.kind, describe_key(r.item), format_bytes(r.item.size), make_plain(r.item.name, 80), r.reason) for r in removals)
        print_table(console, ("kind", "key", "size", "of", "why"), rows)
    cache = [removal.item for removal in report.removals if removal.item.kind == "cache"]
    if cache:
        console.print(f"and {len(cache)} records of BuildKit's cache, {format_bytes(sum(item.size for item in cache))}")
    for removal in report.stayed:
        console.print(f"- {removal.item.kind} {describe_key(removal.item)} stayed: it came into use, or could not be removed (the log says why)", soft_wrap=True)
    for problem in report.missing:
        console.print(f"- not looked at: {problem}", soft_wrap=True)
    verb = "would be freed" if report.dry else "freed"
    console.print(f"{format_bytes(sum(report.freed.values()))} {verb}{f', {report.rows} old records removed' if report.rows else ''}.")
    held = sum_sizes(item for item in report.kept if item.held)
    sizes = sorted(sum_sizes(report.kept).items())
    print_table(console, ("left", "size", "in use or pinned"), ((kind, format_bytes(size), format_bytes(held.get(kind, 0))) for kind, size in sizes))
    if report.budget is not None:
        over = f", {format_bytes(report.over)} too much: the rest is in use, pinned, or was used a moment ago" if report.over else ""
        console.print(f"{format_bytes(report.left)} of the budget of {format_bytes(report.budget)} is taken{over}.", soft_wrap=True)


def manage_workspaces(settings: HubDock, console: Console, action: str, volumes: Sequence[str], as_json: bool) -> None:
    """List workspaces, or delete or restore some. Raises InvalidOption for an unknown action."""
    if action not in ACTIONS:
        raise InvalidOption(f"{action!r} is not one of list, delete and restore.")
    if (action == "list") == bool(volumes):
        raise InvalidOption("Name the workspaces to delete or restore, as `hubdock workspaces` lists them; `list` takes no names.")
    workspaces = make_collector(settings).workspaces
    if action == "list":
        workspaces.measure()
        found = workspaces.list()
    else:
        found = [workspaces.delete(volume) if action == "delete" else workspaces.restore(volume) for volume in volumes]
    if as_json:
        print_json([workspace.as_dict() for workspace in found])
    elif action == "list":
        print_workspaces(console, found)
    else:
        print_change(console, action, found)


def print_workspaces(console: Console, found: Sequence[Workspace]) -> None:
    """Print the table of workspaces."""
    if not found:
        console.print("There is no workspace yet.")
        return
    rows = (
        (
            w.volume, w.user, make_plain(w.repo.partition("://")[2]), make_plain(w.branch), format_bytes(w.size) if w.size is not None else "",
            format_age(w.used) if w.used else "", describe_state(vars(w)),
        )
        for w in found
    )  # fmt: skip
    print_table(console, ("workspace", "user", "repository", "branch", "size", "used", "state"), rows)


def describe_state(w: Mapping[str, Any], now: float | None = None) -> str:
    """Return a workspace's state in words."""
    said = []
    if w["trashed"] is not None:
        left = w["expires"] - (time.time() if now is None else now)
        said.append(f"in the trash, for {left / 86400:.0f} more days" if left > 86400 else "in the trash, to be removed soon")
    said += ["a server runs on it"] if w["running"] else []
    said += ["its volume is gone"] if not w["there"] else []
    said += ["its branch is not on the remote"] if w["on_remote"] is False else []
    said += ["hubdock has no record of it"] if not w["known"] else []
    return "; ".join(said)


def print_change(console: Console, action: str, found: Sequence[Workspace]) -> None:
    """Print what was deleted or restored."""
    for w in found:
        if action == "delete":
            days = ((w.expires or 0) - time.time()) / 86400
            console.print(f"{w.volume} is in the trash. `hubdock workspaces restore {w.volume}` brings it back, for {max(days, 0):.0f} days.", soft_wrap=True)
        else:
            console.print(f"{w.volume} is restored. The next start of {make_plain(w.branch)} opens it.", soft_wrap=True)
