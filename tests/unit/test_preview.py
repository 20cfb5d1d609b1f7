"""What the plan panel says."""

from __future__ import annotations

import pytest

from hubdock.core.estimate import Estimate
from hubdock.core.plan import Part, Plan, State
from hubdock.service.hub import read_time
from hubdock.service.preview import describe_queue, describe_server, describe_sum, make_row
from hubdock.service.servers import RunningServer

LAUNCH = Estimate(4.0, 7)


def plan(*parts: Part, launch: Estimate = LAUNCH) -> Plan:
    return Plan("https://a.org/x", "main", "branch", "c" * 40, "t" * 40, "", parts, launch=launch)


def part(state: State, seconds: float | None = None, samples: int = 0, name: str = "environment") -> Part:
    return Part(name, state, "k", seconds=seconds, samples=samples)


@pytest.mark.parametrize(
    ("made", "wait", "told"),
    [
        (plan(), 0.0, "About 4 s, from 7 starts."),
        (plan(launch=Estimate(4.0, 1)), 0.0, "About 4 s, from 1 start."),
        (plan(launch=Estimate()), 0.0, "Only the server has to start. How long that takes is not known yet: it would be the first."),
        (plan(part(State.BUILD, 116.0, 7)), 0.0, "About 2 min, from 7 builds."),
        (plan(part(State.BUILD, 116.0, 7)), 180.0, "About 5 min, from 7 builds."),
        (plan(part(State.BUILD, 30.0, 1), launch=Estimate()), 0.0, "About 30 s, from 1 build, and the server's start."),
        (plan(part(State.BUILD)), 0.0, "How long it takes is not known yet: there was no build like it here."),
        (plan(part(State.BUILD, 30.0, 1)), None, "How long it takes is not known yet: there was no build like it here."),
    ],
)
def test_how_long(made: Plan, wait: float | None, told: str) -> None:
    assert describe_sum(made, wait) == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (part(State.READY), ("ready", "ready", "", "")),
        (part(State.NONE, name="data"), ("none", "none", "", "")),
        (part(State.BUILD, 12.0, 3), ("build", "will be built", "", "about 12 s, from 3 builds")),
        (part(State.RUNNING, 12.0, 3), ("running", "is being built", "", "about 12 s, from 3 builds")),
        (Part("data", State.BUILD, "k", size=3 * 1024**3), ("build", "will be fetched", "3G to fetch", "")),
    ],
)
def test_a_part(given: Part, told: tuple[str, ...]) -> None:
    row = make_row(given)
    assert (row.state, row.told, row.size, row.takes) == told


def test_the_queue() -> None:
    assert describe_queue(0, 0.0) == ""
    assert describe_queue(3, 120.0) == "Builds wait: yours would be number 3 in the queue, about 2 min."
    assert describe_queue(3, None) == "Builds wait: yours would be number 3 in the queue."


def test_only_one_s_own_server_can_be_opened() -> None:
    server = RunningServer("bob", "s", "https://a.org/x", "main", "/user/bob/s/", ready=True, pending=False, started="2026-11-23T06:00:00.000000Z")
    assert describe_server(server, "bob")["url"] == "/user/bob/s/"
    told = describe_server(server, "alice")
    assert (told["url"], told["mine"], told["user"]) == ("", False, "bob") and told["since"]


@pytest.mark.parametrize(("text", "seconds"), [("1970-01-01T00:01:00Z", 60.0), ("1970-01-01T00:01:00.5", 60.5), ("", 0.0), ("None", 0.0)])
def test_times_of_the_hub(text: str, seconds: float) -> None:
    assert read_time(text) == seconds
