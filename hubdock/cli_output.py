"""What the command line prints: tables, and times and sizes in plain words. Nothing of it is read as markup: names come from strangers."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hubdock.core.events import Event
from hubdock.core.naming import shorten
from hubdock.core.plan import Part, Plan, State
from hubdock.core.resources import format_bytes
from hubdock.core.text import format_passed, format_seconds, make_plain

_STATES = {State.READY: ("ready", "green"), State.BUILD: ("to be made", "yellow"), State.RUNNING: ("being made", "cyan"), State.NONE: ("none", "dim")}
_PHASES = {"ready": "green", "failed": "red", "cancelled": "yellow"}
_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}
_PIPE_WIDTH = 1000


class _Console(Console):
    """A console whose broken pipe is an error like any other: rich would end the process before what is under way has been ended."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


def make_console(stderr: bool = False) -> Console:
    """Return a console that neither highlights nor reads markup. In a pipe nothing is cut to a width."""
    console = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = _Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=_PIPE_WIDTH)
    return console


def print_json(values: Any) -> None:
    """Print one JSON document on stdout."""
    json.dump(values, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def print_table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print a table; in a pipe without lines around it, and without spaces at the ends of lines."""
    plain = not console.is_terminal
    table = Table(box=None if plain else SIMPLE, pad_edge=False, header_style="" if plain else "bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    if not plain:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


# --- words ---


def format_estimate(part: Part) -> str:
    """Return ``about 4 s, from 7 builds``; empty for what needs no time."""
    if part.state in {State.READY, State.NONE}:
        return ""
    if part.seconds is None:
        return "no past build to go by"
    samples = f", from {part.samples} {'build' if part.samples == 1 else 'builds'}" if part.samples else ""
    return f"about {format_seconds(part.seconds)}{samples}"


def format_age(moment: float, now: float | None = None) -> str:
    """Return ``3 days ago`` for seconds since the epoch."""
    return format_passed((time.time() if now is None else now) - moment)


def format_time(moment: float) -> str:
    """Return a local time to the minute."""
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def format_event(event: Event) -> str:
    """Return an event of a log as one line."""
    head = f"[{event.part or 'start'}] " + (f"{event.phase}: " if event.phase else "")
    return f"{head}{make_plain(event.message)}".rstrip(": ")


# --- what the commands show ---


def print_plan(console: Console, plan: Plan, source: Mapping[str, Any]) -> None:
    """Print a plan: what it is of, each part, notices, and the sum."""
    start = f"{plan.ref_kind} {plan.ref}"
    console.print(Text(f"{plan.repo}, {f'new branch {plan.new_branch} from {start}' if plan.new_branch else start}", style="bold"))
    console.print(f"commit {shorten(plan.commit)} “{make_plain(source['subject'], 80)}”, {make_plain(source['author'], 60)}, {format_age(source['time'])}\n")
    print_table(console, ("part", "state", "why", "takes", "to fetch"), (_make_row(part) for part in plan.parts))
    for notice in plan.notices:
        console.print(f"- {make_plain(notice)}", soft_wrap=True)
    console.print(_describe_sum(plan), style="green" if plan.ready else "")


def _make_row(part: Part) -> tuple[str | Text, ...]:
    return part.name, Text(*_STATES[part.state]), "; ".join(part.reasons), format_estimate(part), format_bytes(part.size) if part.size else ""


def _describe_sum(plan: Plan) -> str:
    if plan.ready:
        return "Everything is ready: a start takes as long as the launch."
    if plan.seconds is None:
        return "How long it takes is not known yet."
    return f"It takes about {format_seconds(plan.seconds)}, then the launch."


def print_images(console: Console, images: Sequence[Mapping[str, Any]]) -> None:
    """Print the table of images."""
    if not images:
        console.print("hubdock has made no image here yet.")
        return
    rows = (
        (image["kind"], shorten(image["key"]), format_bytes(image["size"]), format_age(image["created"]) if image["created"] else "", _describe_use(image))
        for image in images
    )
    print_table(console, ("kind", "key", "size", "created", "of"), rows)
    console.print("Sizes count layers that images share once for each.")


def _describe_use(image: Mapping[str, Any]) -> str:
    return make_plain(f"{image['repo']} {image['ref']}".strip())


def print_builds(console: Console, builds: Sequence[Mapping[str, Any]]) -> None:
    """Print the table of recent builds."""
    if not builds:
        console.print("There was no build yet.")
        return
    rows = (
        (build["id"][:8], format_time(build["created"]), make_plain(build["repo"]), build["ref"], Text(build["phase"], _PHASES.get(build["phase"], "")))
        for build in builds
    )
    print_table(console, ("build", "when", "repository", "ref", "phase"), rows)


def print_checks(console: Console, checks: Iterable[Any]) -> None:
    """Print the doctor's checks as they come, each with its mend."""
    for check in checks:
        line = Text.assemble((f"{_MARKS[check.status][0]:<5}", _MARKS[check.status][1]), f"{check.name}: {check.message}")
        console.print(line, soft_wrap=True)
        if check.mend:
            console.print(f"      → {check.mend}", soft_wrap=True)
