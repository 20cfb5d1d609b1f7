"""BuildKit's progress stream: objects over many lines in chunks of any size, and what is made of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hubdock.core.dockerfile import render_base, render_environment, render_image
from hubdock.core.progress import MAX_OBJECT, JSONStream, Solve, Step, name_step, name_steps

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=8), JSON, max_size=5), max_size=5)


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


def feed(chunks: Iterable[bytes]) -> list[dict[str, Any] | str]:
    stream = JSONStream()
    found = [value for chunk in chunks for value in stream.feed(chunk)]
    assert stream.close() == ""
    return found


@given(OBJECTS, st.sampled_from([None, 0, 2, 24]), st.booleans(), st.lists(st.integers(0, 40), max_size=60))
@example([{"a": True}, {"b": [-1.5e-7, None]}], 24, True, [1] * 200)
@settings(max_examples=300)
def test_objects_in_chunks_of_any_size(objects: list[dict[str, Any]], indent: int | None, ascii_only: bool, sizes: list[int]) -> None:
    text = "\n".join(json.dumps(value, indent=indent, ensure_ascii=ascii_only) for value in objects) + "\n"
    assert feed(cut(text.encode("utf-8", "surrogatepass"), sizes)) == [json.loads(json.dumps(value)) for value in objects]


LINES = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3) | st.from_regex(r"[A-Za-z#][ -z]{0,20}[a-z]", fullmatch=True), max_size=6)


@given(LINES, st.lists(st.integers(0, 15), max_size=40))
def test_text_between_objects_comes_out_as_lines(values: list[dict[str, Any] | str], sizes: list[int]) -> None:
    text = "".join((value if isinstance(value, str) else json.dumps(value, indent=2)) + "\n" for value in values)
    assert feed(cut(text.encode(), sizes)) == values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        ("WARNING: no output\r\n{}\n", ["WARNING: no output", {}]),
        ('{oops}\n{"a": 1}\n', ["{oops}", {"a": 1}]),  # a line of text that only looks like an object's start
        ('{"a" is missing\n{"a": 1}\n', ['{"a" is missing', {"a": 1}]),
        ('{"a\n{"a": 1}\n', ['{"a', {"a": 1}]),
        ("{\n", []),
    ],
)
def test_text_that_is_no_json(text: str, expected: list[dict[str, Any] | str]) -> None:
    for size in (1, 3, 1000):
        stream = JSONStream()
        assert [value for chunk in cut(text.encode(), [size] * len(text)) for value in stream.feed(chunk)] == expected


def test_a_cut_stream_says_what_was_left() -> None:
    stream = JSONStream()
    assert list(stream.feed(b'{"a": [1,\n 2')) == []
    assert stream.close() == '{"a": [1,\n 2'
    assert stream.close() == ""


def test_an_endless_object_does_not_fill_the_memory() -> None:
    stream = JSONStream()
    chunk = b'{"logs": "' + b"x" * (MAX_OBJECT // 2)
    assert list(stream.feed(chunk)) == []
    assert list(stream.feed(chunk)) == []
    assert list(stream.feed(chunk)) == []
    assert len(stream.close()) <= MAX_OBJECT
    assert list(stream.feed(b'{"a": 1}\n')) == [{"a": 1}]


# --- solves ---

T0, T1, T3 = "2026-07-01T10:00:00.5Z", "2026-07-01T10:00:01.75Z", "2026-07-01T12:00:03.500000001+02:00"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def vertex(digest: str, name: str, **values: Any) -> dict[str, Any]:
    return {"vertexes": [{"digest": digest, "name": name, **values}]}


def test_a_solve_from_start_to_end() -> None:
    solve = Solve()
    told = []
    for status in (
        {"vertexes": [{"digest": "a", "name": "FROM base"}, {"digest": "b", "name": "RUN x"}, {"digest": "c", "name": "COPY y"}]},
        vertex("a", "FROM base", started=T0, completed=T0, cached=True),
        vertex("b", "RUN x", started=T0),
        {"logs": [{"vertex": "b", "stream": 1, "data": b64("hello\n")}, {"vertex": "b", "data": "not base64!"}, {"vertex": "b"}]},
        vertex("b", "RUN x", started=T0, completed=T3),
        vertex("c", "COPY y", started=T3),
        {"warnings": [{"short": b64("old syntax")}, {"short": "hello"}, {"short": None}, "x"]},
    ):
        told += list(solve.feed(status))
    assert told == [
        ("step", "RUN x"), ("log", "hello\n"), ("log", ""), ("done", "RUN x"), ("step", "COPY y"), ("log", "warning: old syntax\n"), ("log", "warning: hello\n"),
    ]  # fmt: skip
    found = {digest: (step.name, step.started, step.completed, step.cached, step.error) for digest, step in solve.steps.items()}
    assert found == {"a": ("FROM base", T0, T0, True, ""), "b": ("RUN x", T0, T3, False, ""), "c": ("COPY y", T3, "", False, "")}
    assert solve.durations == {"RUN x": 3.0}
    assert solve.failed is None


def test_a_step_is_told_once() -> None:
    solve = Solve()
    told = [*solve.feed(vertex("a", "RUN", started=T0)), *solve.feed(vertex("a", "RUN", started=T0)), *solve.feed(vertex("a", "RUN", completed=T1))]
    assert told == [("step", "RUN"), ("done", "RUN")]
    assert list(solve.feed(vertex("a", "RUN", completed=T1))) == []
    assert solve.steps["a"].seconds == 1.25


def test_percent_is_weighed_by_the_last_time() -> None:
    solve = Solve(past={"long": 9.0, "short": 1.0})
    assert solve.percent == 0.0
    list(solve.feed({"vertexes": [{"digest": "l", "name": "long", "started": T0}, {"digest": "s", "name": "short", "started": T0, "completed": T1}]}))
    assert solve.percent == pytest.approx(10.0)
    list(solve.feed(vertex("l", "long", started=T0, completed=T1)))
    assert solve.percent == pytest.approx(100.0)


def test_steps_are_weighed_by_what_they_do_where_their_text_changes() -> None:
    past = {"[packages 1/1] RUN --mount=id=hubdock-source-aaa install.py source /x": 9.0, "exporting to image": 1.0, "[internal] load": 5.0}
    assert name_steps(past) == {"build packages from source": 9.0, "write the image": 1.0}
    solve = Solve(past=past)
    list(solve.feed(vertex("a", "[packages 1/1] RUN --mount=id=hubdock-source-bbb install.py source /x", started=T0)))
    list(solve.feed(vertex("b", "exporting to image", started=T0, completed=T1)))
    assert solve.percent == pytest.approx(10.0)


def test_every_step_that_people_wait_for_has_a_name() -> None:
    common = {"user": "1000", "workdir": "/x", "install": True, "cache": "c", "private_cache": "p", "secrets": [], "env": {}, "labels": {}}
    texts = [
        render_environment("b", apt=["gcc"], from_source=True, smoke=True, project="/x", **common), render_environment("b", apt=[], from_source=False, **common),
        render_base("b", user="u", dvc=["dvc"], apt=["git-lfs"], certificates=True, labels={}), render_image("e", workspace="/w", labels={}),
    ]  # fmt: skip
    steps = [line for text in texts for line in text.split("\n") if line.startswith(("RUN --", "COPY --link"))]
    assert {name_step(step) for step in steps} == {
        "install Debian packages", "resolve versions", "install packages", "build packages from source", "resolve and install packages", "try Jupyter and a kernel",
        "add certificates", "install DVC", "copy files",
    }  # fmt: skip


def test_cached_steps_count_for_almost_nothing() -> None:
    solve = Solve()
    list(solve.feed(vertex("c", "FROM", started=T0, completed=T0, cached=True)))
    list(solve.feed(vertex("r", "RUN", started=T0)))
    assert solve.percent < 2


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans(), st.booleans()), max_size=20))
def test_percent_stays_a_percent(updates: list[tuple[str, bool, bool, bool]]) -> None:
    solve = Solve(past={"a": 100.0, "b": 0.0})
    for name, started, completed, cached in updates:
        list(solve.feed(vertex(name, name, started=T0 if started else None, completed=T1 if completed else None, cached=cached)))
        assert 0 <= solve.percent <= 100


def test_the_step_that_failed_is_not_one_that_was_cancelled_with_it() -> None:
    solve = Solve()
    told = list(solve.feed({"vertexes": [
        {"digest": "a", "name": "RUN slow", "started": T0, "error": "process … : context canceled"},
        {"digest": "b", "name": "RUN bad", "started": T0, "completed": T1, "error": "exit code: 1"},
    ]}))  # fmt: skip
    assert ("failed", "RUN bad") in told
    assert [text for kind, text in told if kind == "error"] == ["process … : context canceled", "exit code: 1"]
    assert solve.failed is not None and solve.failed.name == "RUN bad"
    assert solve.durations == {}


@pytest.mark.parametrize(
    ("started", "completed", "seconds"),
    [(T0, T1, 1.25), (T0, T3, 3.0), (T1, T0, 0.0), (T0, "", 0.0), ("", T0, 0.0), ("yesterday", "today", 0.0)],
)
def test_seconds_of_a_step(started: str, completed: str, seconds: float) -> None:
    assert Step("x", started, completed).seconds == seconds
