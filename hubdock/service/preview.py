"""What the plan panel says: a plan in words, before anybody starts anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hubdock.core.estimate import Estimate
from hubdock.core.naming import shorten
from hubdock.core.plan import Part, Plan, State
from hubdock.core.refs import make_short
from hubdock.core.resources import format_bytes
from hubdock.core.text import format_passed, format_seconds
from hubdock.engine.assembly import Assembly
from hubdock.service.hub import read_time
from hubdock.service.servers import RunningServer

NAMES = {"base": "Base image", "environment": "Environment", "image": "Code", "data": "Data"}
_DOING = {"data": ("will be fetched", "is being fetched")}


@dataclass(frozen=True)
class Row:
    """One part as it is shown. ``state`` is `State`'s word for style, ``told`` the words; ``size`` and ``takes`` may be empty."""

    name: str
    title: str
    state: str
    told: str
    reasons: tuple[str, ...] = ()
    size: str = ""
    takes: str = ""


def make_preview(a: Assembly, queue: tuple[int, float | None], running: Sequence[RunningServer], user: str, rebuild: bool) -> dict[str, Any]:
    """Return the values of ``plan.html``: the commit, each part, what it all takes, who waits before and who runs it already."""
    position, wait = queue
    plan, source = a.plan, a.source
    return {
        "repo": a.options.repo.short, "kind": plan.ref_kind, "ref": make_short(plan.ref), "new_branch": plan.new_branch, "commit": shorten(plan.commit),
        "subject": source.subject, "author": source.author, "age": format_passed(time.time() - source.author_time),
        "ready": plan.ready, "rows": [make_row(part) for part in plan.parts if part.name != "base" or part.state is not State.READY],
        "sum": describe_sum(plan, wait), "queue": describe_queue(position, wait), "notices": plan.notices, "rebuild": rebuild,
        "running": [describe_server(server, user) for server in running if make_short(server.branch) == a.options.branch],
    }  # fmt: skip


def make_row(part: Part) -> Row:
    """Return a part in words."""
    title = NAMES.get(part.name, part.name)
    if part.state is State.NONE:
        return Row(part.name, title, "none", "none")
    if part.state is State.READY:
        return Row(part.name, title, "ready", "ready")
    later, now = _DOING.get(part.name, ("will be built", "is being built"))
    size = f"{format_bytes(part.size)} to fetch" if part.size else ""
    takes = "" if part.seconds is None else describe_estimate(Estimate(part.seconds, part.samples), "build")
    return Row(part.name, title, str(part.state), now if part.state is State.RUNNING else later, part.reasons, size, takes)


def describe_estimate(estimate: Estimate, of: str) -> str:
    """Return ``about 2 min, from 7 builds``."""
    counted = f", from {estimate.samples} {of}{'' if estimate.samples == 1 else 's'}" if estimate.samples else ""
    return f"about {format_seconds(estimate.seconds or 0.0)}{counted}"


def describe_sum(plan: Plan, wait: float | None) -> str:
    """Return what a start takes, launch and queue included, as far as it is known."""
    total = plan.total
    if plan.ready and total.seconds is None:
        return "Only the server has to start. How long that takes is not known yet: it would be the first."
    if total.seconds is None or wait is None:
        return "How long it takes is not known yet: there was no build like it here."
    words = describe_estimate(Estimate(total.seconds + wait, total.samples), "start" if plan.ready else "build")
    return words[0].upper() + words[1:] + ("." if plan.launch.seconds is not None else ", and the server's start.")


def describe_queue(position: int, wait: float | None) -> str:
    """Return where a start would be in the queue; empty if it would not wait."""
    if not position:
        return ""
    return f"Builds wait: yours would be number {position} in the queue{f', about {format_seconds(wait)}' if wait else ''}."


def describe_server(server: RunningServer, user: str) -> dict[str, Any]:
    """Return who runs a hypothesis, and since when; its address only for whose it is."""
    mine = server.user == user
    return {"user": server.user, "mine": mine, "ready": server.ready, "url": server.url if mine and server.ready else "", "since": _find_age(server.started)}


def _find_age(started: str) -> str:
    moment = read_time(started)
    return format_passed(time.time() - moment) if moment else ""
