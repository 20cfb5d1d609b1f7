"""Events: one JSON object a line, read back as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.errors import RecipeError
from hubdock.core.events import Event, Kind, Phase, parse_event

EVENTS = st.builds(
    Event,
    kind=st.sampled_from(Kind),
    time=st.integers(0, 2**33).map(lambda ms: ms / 1000),
    part=st.sampled_from(["", "base", "environment", "data", "image"]),
    phase=st.none() | st.sampled_from(Phase),
    message=st.text(max_size=40),
    percent=st.none() | st.floats(0, 100),
    error=st.none() | st.just(RecipeError("Wrong.", file="a.txt", line=1).as_dict()),
)


@given(EVENTS)
def test_round_trip(event: Event) -> None:
    line = event.as_line()
    assert line.count("\n") == 1 and line.endswith("\n")
    assert parse_event(line) == event
    assert parse_event(line.encode("utf-8", "surrogatepass")) == event


def test_the_json_form_has_no_empty_fields() -> None:
    event = Event(Kind.PROGRESS, 1751364000.12345, "image", percent=0.0)
    assert event.as_line() == '{"kind":"progress","time":1751364000.123,"part":"image","percent":0.0}\n'
    failed = Event(Kind.PHASE, 1.0, phase=Phase.FAILED, message="Wrong.", error={"code": "recipe_error"})
    assert failed.as_dict() == {"kind": "phase", "time": 1.0, "phase": "failed", "message": "Wrong.", "error": {"code": "recipe_error"}}


def test_which_phases_end() -> None:
    assert [phase for phase in Phase if phase.ended] == [Phase.READY, Phase.FAILED, Phase.CANCELLED]
    assert [str(phase) for phase in Phase] == ["queued", "resolving", "fetching", "building", "pushing", "launching", "ready", "failed", "cancelled"]


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[]", "null", "{}", '{"kind":"log"}', '{"time":1}', '{"kind":"other","time":1}', '{"kind":"log","time":null}', '{"kind":"log","time":"x"}',
        '{"kind":"log","time":[]}', '{"kind":"phase","time":1,"phase":"other"}', '{"kind":"log","time":1,"percent":"half"}',
        '{"kind":"log","time":1,"percent":[]}', '{"kind":"log","time":1,"error":"x"}', b"\xff\xfe", '{"kind":"log","ti',
    ],
)  # fmt: skip
def test_anything_else_is_a_value_error(line: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_event(line)
