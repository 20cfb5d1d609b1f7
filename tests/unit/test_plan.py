"""Plans: what is ready, how long the rest takes, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hubdock.core.estimate import Estimate
from hubdock.core.plan import Part, Plan, State, explain_change, find_tensorflow_notice
from hubdock.core.recipe import Recipe
from hubdock.core.requirements import parse_requirements


def plan(*parts: Part) -> Plan:
    return Plan("https://a.org/x", "main", "branch", "c" * 40, "t" * 40, "", parts)


def part(name: str, state: State = State.BUILD, seconds: float | None = None) -> Part:
    return Part(name, state, "k", seconds=seconds)


@pytest.mark.parametrize(
    ("parts", "ready", "seconds"),
    [
        ([], True, 0.0),
        ([part("base", State.READY), part("data", State.NONE)], True, 0.0),
        ([part("environment", State.BUILD, 30), part("image", State.BUILD, 2), part("data", State.NONE)], False, 32),
        ([part("environment", State.BUILD, 30), part("image", State.BUILD, 2), part("data", State.BUILD, 100)], False, 100),
        ([part("base", State.BUILD, 9), part("environment", State.RUNNING, 30), part("image", State.BUILD, 2), part("data", State.BUILD, 10)], False, 41),
        ([part("environment", State.READY, 30), part("image", State.BUILD, 2)], False, 2),
        ([part("environment", State.BUILD), part("image", State.BUILD, 2)], False, None),
        ([part("data", State.RUNNING)], False, None),
        ([part("data", State.RUNNING, 0.0)], False, 0.0),
    ],
)
def test_ready_and_seconds(parts: list[Part], ready: bool, seconds: float | None) -> None:
    made = plan(*parts)
    assert (made.ready, made.seconds) == (ready, seconds)


@pytest.mark.parametrize(
    ("parts", "launch", "total"),
    [
        ([], Estimate(4.0, 7), Estimate(4.0, 7)),
        ([], Estimate(), Estimate()),
        ([Part("environment", State.BUILD, "k", (), 30.0, 3), Part("image", State.BUILD, "k", (), 2.0, 9)], Estimate(4.0, 7), Estimate(36.0, 3)),
        ([Part("image", State.BUILD, "k", (), 2.0, 9)], Estimate(), Estimate(2.0, 9)),
        ([Part("environment", State.BUILD, "k"), Part("image", State.BUILD, "k", (), 2.0, 9)], Estimate(4.0, 7), Estimate()),
    ],
)
def test_the_whole_start(parts: list[Part], launch: Estimate, total: Estimate) -> None:
    assert replace(plan(*parts), launch=launch).total == total


def test_json_form() -> None:
    made = Plan(
        "https://a.org/x", "main", "branch", "c" * 40, "t" * 40, "try",
        (Part("environment", State.BUILD, "k", ("requirements.txt: + six",), 12.5, 3), Part("data", State.BUILD, "d", ("not in the store",), size=0), Part("image", State.READY, "i")),
        ("a notice",),
    )  # fmt: skip
    assert json.loads(json.dumps(made.as_dict())) == {
        "repo": "https://a.org/x", "ref": "main", "ref_kind": "branch", "commit": "c" * 40, "tree": "t" * 40, "new_branch": "try", "ready": False, "seconds": None, "launch_seconds": None, "total_seconds": None,
        "parts": [
            {"name": "environment", "state": "build", "key": "k", "reasons": ["requirements.txt: + six"], "seconds": 12.5, "samples": 3},
            {"name": "data", "state": "build", "key": "d", "reasons": ["not in the store"], "size": 0},
            {"name": "image", "state": "ready", "key": "i", "reasons": []},
        ],
        "notices": ["a notice"],
    }  # fmt: skip


def test_parts_by_name() -> None:
    made = plan(part("image"))
    assert made.part("image") == part("image")
    with pytest.raises(KeyError):
        made.part("data")


@pytest.mark.parametrize(
    ("text", "installed", "notice"),
    [
        ("six\ntensorflow==2.20\n", {"tensorflow-cpu": "2.21.0"}, "tensorflow (requirements.txt:2) replaces the base image's tensorflow-cpu 2.21.0."),
        ("TensorFlow-GPU\n", {"tensorflow": "2.21"}, "tensorflow-gpu (requirements.txt:1) replaces the base image's tensorflow 2.21."),
        ("tf_nightly\n", {"tensorflow-cpu": "2.21"}, "tf-nightly (requirements.txt:1) replaces the base image's tensorflow-cpu 2.21."),
        ("tensorflow-cpu==2.20\n", {"tensorflow-cpu": "2.21"}, ""),
        ("tensorflow\n", {"numpy": "2"}, ""),
        ("tensorflow-probability\n", {"tensorflow-cpu": "2.21"}, ""),
        ("-c pins.txt\n", {"tensorflow-cpu": "2.21"}, ""),
    ],
)
def test_tensorflow_replaces_the_one_of_the_base(text: str, installed: dict[str, str], notice: str) -> None:
    lines = tuple(parse_requirements("requirements.txt", text.encode()))
    assert find_tensorflow_notice(Recipe("requirements", lines=lines), installed) == notice


A, B = ["a.txt", "100644", "1"], ["b.txt", "100644", "2"]


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ([A], [A], ()),
        ([A], [A, B], ("b.txt added",)),
        ([A, B], [A], ("b.txt removed",)),
        ([A], [["a.txt", "100644", "9"]], ("a.txt changed",)),
        ([A], [["a.txt", "100755", "1"]], ("a.txt changed",)),
        ([A], [B], ("b.txt added", "a.txt removed")),
        ([], [], ()),
    ],
)
def test_changed_files(before: Any, after: Any, reasons: tuple[str, ...]) -> None:
    assert explain_change(before, after) == reasons
    assert explain_change(tuple(map(tuple, before)), tuple(map(tuple, after))) == reasons
