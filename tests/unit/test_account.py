"""The account of a start: stages and their times, a percentage that never goes back, what is left in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.account import Account, describe_left
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.stages import Clock, Stage, StageState

PAST = {"environment": {"resolve and install packages": 8.0, "try Jupyter and a kernel": 4.0, "write the image": 4.0}, "image": {"copy files": 0.5, "write the image": 0.5}}
PARTS = [
    {"name": "base", "state": "ready"}, {"name": "environment", "state": "build", "seconds": 20.0}, {"name": "image", "state": "build", "seconds": 2.0},
    {"name": "data", "state": "none"},
]  # fmt: skip


def phase(time: float, part: str, phase: Phase, message: str = "") -> Event:
    return Event(Kind.PHASE, time, part, phase, message)


def step(time: float, part: str, name: str, phase: Phase) -> Event:
    return Event(Kind.STEP, time, part, phase, name)


def make_account() -> Account:
    account = Account(PAST)
    account.plan(PARTS)
    return account


def stage(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(stage for stage in told["stages"] if stage["name"] == name)


def test_a_start_from_queue_to_server() -> None:
    account, launch = make_account(), Stage("launch", expected=5.0)
    account.take(phase(100, "", Phase.BUILDING))
    account.take(phase(100, "environment", Phase.QUEUED, "number 2 in the queue, about 3 min"))
    told = account.as_dict(110, launch)
    assert told["words"] == "Waiting for a free place: number 2 in the queue, about 3 min" and told["percent"] == 0
    assert [(s["name"], s["state"]) for s in told["stages"]] == [("queue", "running"), ("base", "ready"), ("environment", "waiting"), ("image", "waiting"), ("launch", "waiting")]
    assert stage(told, "queue")["seconds"] == 10
    account.take(phase(120, "environment", Phase.BUILDING))
    account.take(step(121, "environment", "resolve and install packages", Phase.BUILDING))
    told = account.as_dict(125, launch)
    assert told["words"] == "Making the environment: resolve and install packages"
    assert stage(told, "queue") == {"name": "queue", "title": "Place in the queue", "state": "done", "message": "", "seconds": 20, "steps": []}
    assert 10 < told["percent"] < 30 and told["left"].startswith("about ")
    account.take(step(129, "environment", "resolve and install packages", Phase.READY))
    account.take(step(129, "environment", "try Jupyter and a kernel", Phase.BUILDING))
    account.take(step(133, "environment", "try Jupyter and a kernel", Phase.READY))
    account.take(phase(138, "environment", Phase.READY))
    told = account.as_dict(138, launch)
    assert [(s["title"], s["state"], s["seconds"]) for s in stage(told, "environment")["steps"]] == [("resolve and install packages", "done", 8), ("try Jupyter and a kernel", "done", 4)]
    assert stage(told, "environment")["seconds"] == 18 and told["percent"] == int(100 * 20 / 27)
    account.take(phase(138, "image", Phase.BUILDING, "code layer"))
    account.take(phase(140, "image", Phase.READY))
    account.take(phase(140, "", Phase.READY))
    told = account.as_dict(140, launch)
    assert not told["over"] and told["phase"] == "launching" and told["percent"] < 100
    launch.begin(140, "container")
    assert account.as_dict(142, launch)["words"] == "Starting the server: container"
    assert account.as_dict(160, launch)["percent"] == 99, "100 only when the server is ready"
    launch.end(161, StageState.DONE)
    told = account.as_dict(161, launch)
    assert (told["over"], told["percent"], told["words"], told["left"]) == (True, 100, "Ready", "")


def test_what_is_ready_needs_no_time() -> None:
    account, launch = Account(), Stage("launch", expected=4.0)
    account.plan([{"name": "environment", "state": "ready"}, {"name": "image", "state": "ready"}])
    account.take(phase(1, "", Phase.READY))
    assert account.as_dict(1, launch)["percent"] == 0
    assert account.as_dict(1)["percent"] == 100, "for who asked for the image alone"


def test_words_about_what_is_left_are_honest() -> None:
    account = make_account()
    account.take(phase(0, "environment", Phase.BUILDING))
    assert account.as_dict(2)["left"] == "about 20 s left"
    assert account.as_dict(34)["left"] == "about 2 s left" or account.as_dict(34)["left"] == "a few seconds left"
    told = account.as_dict(60)
    assert told["late"] and told["left"] == "longer than usual: 60 s so far, 20 s before"
    unknown = Account()
    unknown.plan([{"name": "environment", "state": "build"}])
    unknown.take(phase(0, "environment", Phase.BUILDING))
    assert "not known yet" in unknown.as_dict(5)["left"]


def test_what_ran_already_is_expected_from_its_beginning() -> None:
    account = Account()
    account.plan([{"name": "environment", "state": "running", "seconds": 12.0}], now=100.0)
    account.take(phase(90, "environment", Phase.BUILDING))
    assert account.as_dict(100)["left"] == "about 12 s left"
    assert account.as_dict(118)["left"] == "about 0 s left" or account.as_dict(118)["left"] == "a few seconds left"
    assert account.stages["environment"].expected == 22


def test_data_is_told_by_its_bytes() -> None:
    account = Account()
    account.plan([{"name": "data", "state": "build"}])
    account.take(phase(0, "data", Phase.FETCHING, "data, 10M"))
    account.take(Event(Kind.PROGRESS, 5, "data", message="4M of 10M, 12 files, 1M/s", percent=40))
    told = account.as_dict(8)
    assert told["percent"] == 40 and told["left"] == "about 12 s left"
    assert told["words"] == "Fetching the data: 4M of 10M, 12 files, 1M/s"


def test_a_second_attempt_never_lowers_the_percentage() -> None:
    account = make_account()
    account.take(phase(0, "environment", Phase.BUILDING))
    account.take(step(0, "environment", "resolve and install packages", Phase.BUILDING))
    before = account.as_dict(7.5)["percent"]
    account.take(step(8, "environment", "resolve and install packages", Phase.FAILED))
    account.take(step(8, "environment", "resolve versions", Phase.BUILDING))
    assert account.as_dict(8.1)["percent"] >= before > 20
    account.take(phase(9, "environment", Phase.FAILED))
    account.take(phase(9, "environment", Phase.BUILDING))
    assert account.as_dict(9.1)["percent"] >= before
    assert stage(account.as_dict(9.1), "environment")["state"] == "running"


def test_a_failure_marks_stage_and_step() -> None:
    account = make_account()
    account.take(phase(0, "environment", Phase.BUILDING))
    account.take(step(1, "environment", "resolve and install packages", Phase.BUILDING))
    account.take(phase(3, "environment", Phase.FAILED, "no"))
    account.take(phase(3, "", Phase.FAILED, "no"))
    told = account.as_dict(99, Stage("launch"))
    assert told["over"] and told["phase"] == "failed" and told["percent"] < 99
    found = stage(told, "environment")
    assert (found["state"], found["seconds"], found["steps"][0]["state"]) == ("failed", 3, "failed")
    assert stage(told, "image")["state"] == "cancelled"


def test_a_server_that_does_not_start() -> None:
    account, launch = make_account(), Stage("launch", expected=5.0)
    account.take(phase(1, "", Phase.READY))
    launch.begin(1)
    launch.end(3, StageState.FAILED, "no room")
    told = account.as_dict(4, launch, failed=True)
    assert (told["phase"], told["over"], told["words"]) == ("failed", True, "It failed") and told["percent"] < 100


EVENTS = st.lists(
    st.builds(
        lambda kind, part, at, message, percent: Event(kind, 0.0, part, at if kind in {Kind.PHASE, Kind.STEP} else None, message, percent),
        st.sampled_from(Kind), st.sampled_from(["", "base", "environment", "data", "image", "other"]), st.sampled_from(Phase),
        st.sampled_from(["", "a", "resolve and install packages"]), st.none() | st.floats(0, 100),
    ),
    max_size=30,
)  # fmt: skip


@given(EVENTS, st.lists(st.floats(0, 60), min_size=30, max_size=30))
def test_the_percentage_never_goes_back_whatever_is_told(events: list[Event], pauses: list[float]) -> None:
    account, launch, now, before = make_account(), Stage("launch"), 0.0, (0, 0)
    for event, pause in zip(events, pauses, strict=False):
        now += pause
        account.take(Event(event.kind, now, event.part, event.phase, event.message, event.percent))
        told, whole = account.as_dict(now), account.as_dict(now, launch)
        assert before <= (told["percent"], whole["percent"]) <= (100, 99)
        assert before[1] <= whole["percent"], "nor of the whole"
        assert told["percent"] < 100 or told["phase"] == "ready"
        before = told["percent"], whole["percent"]
        assert all(stage["seconds"] >= 0 and all(step["seconds"] >= 0 for step in stage["steps"]) for stage in told["stages"])


@pytest.mark.parametrize(("seconds", "words"), [(0, "a few seconds left"), (4.4, "about 4 s left"), (41, "about 40 s left"), (120, "about 2 min left"), (7200, "about 2.0 h left")])
def test_seconds_left_in_words(seconds: float, words: str) -> None:
    assert describe_left(seconds) == words


def test_a_clock_runs_in_spans() -> None:
    clock = Clock()
    clock.start(1)
    clock.start(2)
    clock.stop(4)
    clock.stop(9)
    clock.start(10)
    assert clock.seconds(12) == 5
