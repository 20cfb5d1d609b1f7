"""The page that watches, drawn: every state of a start, every kind of error, and nothing of strangers as markup."""

from __future__ import annotations

from typing import Any

import pytest

from hubdock.core.account import Account
from hubdock.core.errors import BuildError, OutOfSpace, RecipeError
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.explain import explain
from hubdock.core.stages import Stage
from hubdock.service.pages import _environment
from hubdock.service.watch import show_option

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31mred\u202e"


def draw(told: dict[str, Any], error: BuildError | RecipeError | None = None, **more: Any) -> str:
    values = error.as_dict() if error else None
    build = {"id": "b" * 32, "new_branch": "", "ref": HOSTILE, "repo": HOSTILE, "commit": "c" * 40, "notices": []}
    common = {"prefix": "/services/hubdock/", "hub_prefix": "/hub/", "base_url": "/", "user": HOSTILE, "path": "/", "hub_admin": False, "admin": False, "xsrf": "x"}
    page = {
        "build": build, "told": {**told, "url": ""}, "error": values, "explained": explain(values) if values else None, "lines": [f"[environment] {HOSTILE}", "[environment] error: no"],
        "failing": 1 if error else None, "quoted": ["error: no", HOSTILE] if error else [], "skipped": False, "position": "", "live": True, "again": "/services/hubdock/?ref=x",
    }  # fmt: skip
    return _environment.get_template("watch.html").render(**common, **page | more)


def make_told(phase: Phase | None = None) -> dict[str, Any]:
    account = Account()
    account.plan([{"name": "environment", "state": "build"}])
    account.take(Event(Kind.PHASE, 1.0, "environment", Phase.BUILDING, HOSTILE))
    account.take(Event(Kind.STEP, 1.0, "environment", Phase.BUILDING, HOSTILE))
    account.take(Event(Kind.NOTICE, 1.0, "environment", message=HOSTILE))
    if phase:
        account.take(Event(Kind.PHASE, 3.0, "", phase))
    return account.as_dict(5.0, Stage("launch"))


@pytest.mark.parametrize("phase", [None, Phase.READY, Phase.FAILED, Phase.CANCELLED])
def test_every_state_is_drawn_and_nothing_is_markup(phase: Phase | None) -> None:
    text = draw(make_told(phase))
    assert "<img src=x" not in text and "\x1b" not in text and "\u202e" not in text and "&lt;img src=x onerror" in text
    assert ('id="cancel"' in text) == (phase in {None, Phase.READY}) and ("Back to the choice" in text) == (phase in {Phase.FAILED, Phase.CANCELLED})
    assert text.count("<noscript><meta") == (0 if phase in {Phase.FAILED, Phase.CANCELLED} else 1)


@pytest.mark.parametrize("error", [BuildError(HOSTILE), RecipeError(HOSTILE, file=HOSTILE), RecipeError("x", file="a.txt", line=3), OutOfSpace.on("the hub")])
def test_every_error_is_drawn(error: Any) -> None:
    text = draw(make_told(Phase.FAILED), error)
    assert 'id="error"' in text and '<mark id="failing">[environment] error: no</mark>' in text and "<img src=x" not in text
    assert ("a.txt:3" in text) == (error.line == 3)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("memory", "1073741824", "1G"), ("memory", "1073741825", "1073741825"), ("shm", "100", "100"), ("cpu", 1.0, "1"), ("cpu", 0.5, "0.5"), ("gpu", 2, "2"), ("ref", "main", "main")],
)
def test_values_come_back_as_somebody_would_type_them(name: str, value: Any, shown: str) -> None:
    assert show_option(name, value) == shown
