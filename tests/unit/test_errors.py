"""Errors: what is shown, what is logged, and what travels between processes."""

from __future__ import annotations

import json
import re

import pytest

from hubdock.core import errors
from hubdock.core.errors import HubDockError, RecipeError, from_dict


def all_kinds(root: type[HubDockError] = HubDockError) -> list[type[HubDockError]]:
    return [root, *(kind for child in root.__subclasses__() if child.__module__ == errors.__name__ for kind in all_kinds(child))]


KINDS = all_kinds()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_travels_whole_but_for_its_detail(kind: type[HubDockError]) -> None:
    error = kind("Say what to do.", "for the log: pa55word", field="repo", file="env/dev.txt", line=3, near=["main"])
    values = json.loads(json.dumps(error.as_dict()))
    assert values == {
        "code": kind.code, "status": kind.status, "message": "Say what to do.", "field": "repo", "file": "env/dev.txt", "line": 3, "near": ["main"],
    }  # fmt: skip
    back = from_dict(values)
    assert type(back) is kind
    assert (back.message, back.detail, back.field, back.file, back.line, back.near, back.as_dict()) == ("Say what to do.", "", "repo", "env/dev.txt", 3, ("main",), values)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_empty_fields_are_left_out(kind: type[HubDockError]) -> None:
    assert kind("x").as_dict() == {"code": kind.code, "status": kind.status, "message": "x"}


def test_codes_are_unique_and_stable_words() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)
    assert all(400 <= kind.status < 600 for kind in KINDS)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"^ *[│├└─ ]*(\w+(?:Error|Failed|Timeout|Cancelled|Denied|Found|Full|Gone|InUse|URL|Ref|Option|Allowed|Unreachable|OfSpace|OfMemory|Unavailable))\b *(\d{3})?", errors.__doc__ or "", re.M)
    assert sorted(name for name, _ in drawn) == sorted(kind.__name__ for kind in KINDS)
    stated = {name: int(status) for name, status in drawn if status}
    for kind in KINDS:
        nearest = next(parent.__name__ for parent in kind.__mro__ if parent.__name__ in stated)
        assert kind.status == stated[nearest], kind


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RecipeError("Wrong.", file="requirements.txt", line=3), "requirements.txt:3: Wrong."),
        (RecipeError("Wrong.", file="requirements.txt"), "requirements.txt: Wrong."),
        (RecipeError("Wrong.", "secret detail"), "Wrong."),
    ],
)
def test_text_names_the_place(error: HubDockError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    "values",
    [{}, {"code": "no_such_code", "message": "x"}, {"code": None}, {"code": ["x"]}, {"code": "recipe_error", "line": "3"}, {"message": None, "status": "x"}],
)
def test_unknown_forms_become_an_error_all_the_same(values: dict[str, object]) -> None:
    error = from_dict(values)
    assert isinstance(error, HubDockError)
    assert error.line is None
