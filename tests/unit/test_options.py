"""What a user chooses, from a form or from REST."""

from __future__ import annotations

from typing import Any

import pytest

from hubdock.core.errors import HubDockError, InvalidOption, InvalidRef, InvalidRepoURL
from hubdock.core.options import FIELDS, Options, describe, flatten_form, parse_options
from hubdock.core.repo import RepoURL
from hubdock.core.resources import Resources

G = 1024**3
REPO = "https://github.com/team/project"
URL = RepoURL("https", "github.com", 443, "team/project")


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        ({"repo": REPO, "ref": "main"}, Options(URL, "main")),
        ({"repo": REPO, "ref": "main", "new_branch": "", "cpu": None, "gpu": ""}, Options(URL, "main")),
        ({"repo": REPO, "ref": "main", "new_branch": "try-1"}, Options(URL, "main", "try-1")),
        ({"repo": REPO, "ref": "main", "new_branch": "refs/heads/try-1"}, Options(URL, "main", "try-1")),
        ({"repo": REPO, "ref": "refs/tags/v1", "new_branch": "v1"}, Options(URL, "refs/tags/v1", "v1")),
        ({"repo": REPO, "ref": "main", "cpu": 2, "memory": "4G", "shm": "1G", "gpu": 1}, Options(URL, "main", resources=Resources(2.0, 4 * G, G, 1))),
        ({"repo": REPO, "ref": "main", "cpu": "0.5", "memory": 4 * G, "gpu": "2"}, Options(URL, "main", resources=Resources(0.5, 4 * G, None, 2))),
    ],
)
def test_understood(raw: dict[str, Any], options: Options) -> None:
    assert parse_options(raw) == options


@pytest.mark.parametrize(
    "options",
    [
        Options(URL, "main"),
        Options(URL, "refs/tags/v1", "try", Resources(0.5, 4 * G, 0, 2)),
        Options(RepoURL("ssh", "git.example.org", 2222, "x", "git", ".git"), "a/b"),
    ],
)
def test_user_options_are_read_back_as_the_same_choice(options: Options) -> None:
    values = options.as_dict()
    assert parse_options(values) == options
    assert set(values) <= set(FIELDS) and all(type(value) in {str, int, float} for value in values.values())


def test_user_options_hold_only_what_was_chosen() -> None:
    assert parse_options({"repo": REPO, "ref": "main", "memory": "4G"}).as_dict() == {"repo": REPO, "ref": "main", "memory": str(4 * G)}


BAD: list[tuple[Any, type[HubDockError], str | None, str]] = [
    (None, InvalidOption, None, "must be an object"),
    ([], InvalidOption, None, "must be an object"),
    ("repo=x", InvalidOption, None, "must be an object"),
    ({}, InvalidRepoURL, "repo", "Give the address"),
    ({"repo": REPO}, InvalidRef, "ref", "Give the name of a branch"),
    ({"repo": None, "ref": None}, InvalidRepoURL, "repo", "Give the address"),
    ({"repo": [REPO], "ref": "main"}, InvalidRepoURL, "repo", "must be text"),
    ({"repo": {"url": REPO}, "ref": "main"}, InvalidRepoURL, "repo", "must be text"),
    ({"repo": 0, "ref": "main"}, InvalidRepoURL, "repo", "must be text"),
    ({"repo": REPO, "ref": 5}, InvalidRef, "ref", "given as text"),
    ({"repo": REPO, "ref": ["main"]}, InvalidRef, "ref", "given as text"),
    ({"repo": REPO, "ref": "main", "new_branch": ["x"]}, InvalidRef, "new_branch", "given as text"),
    ({"repo": REPO, "ref": "main", "new_branch": "-x"}, InvalidRef, "new_branch", "starts with"),
    ({"repo": REPO, "ref": "main", "new_branch": "main"}, InvalidRef, "new_branch", "Choose another name"),
    ({"repo": REPO, "ref": "refs/heads/main", "new_branch": "main"}, InvalidRef, "new_branch", "Choose another name"),
    ({"repo": REPO, "ref": "main", "new_branch": "refs/heads/main"}, InvalidRef, "new_branch", "Choose another name"),
    ({"repo": REPO, "ref": "main", "new_branch": "refs/tags/x"}, InvalidRef, "new_branch", "is a branch"),
    ({"repo": REPO, "ref": "main", "image": "evil:latest"}, InvalidOption, "image", "An image can't be chosen"),
    ({"repo": REPO, "ref": "main", "commit": "a" * 40}, InvalidOption, "commit", "A commit can't be chosen"),
    ({"repo": REPO, "ref": "main", "Repo": "x"}, InvalidOption, "Repo", "unknown. Known: repo, ref, new_branch, cpu, memory, shm, gpu"),
    ({"repo": REPO, "ref": "main", 3: "x"}, InvalidOption, "3", "unknown"),
    ({"repo": REPO, "ref": "main", "x" * 500: "x"}, InvalidOption, "x" * 60, "unknown"),
    ({"repo": REPO, "ref": "main", "gpu": -1}, InvalidOption, "gpu", "whole number"),
    ({"repo": REPO, "ref": "main", "gpu": [1]}, InvalidOption, "gpu", "whole number"),
    ({"repo": REPO, "ref": "main", "cpu": {"a": 1}}, InvalidOption, "cpu", "number of cores"),
    ({"repo": REPO, "ref": "main", "memory": True}, InvalidOption, "memory", "size such as"),
]


@pytest.mark.parametrize(("raw", "kind", "field", "words"), BAD)
def test_refused_with_the_field_at_fault(raw: Any, kind: type[HubDockError], field: str | None, words: str) -> None:
    with pytest.raises(kind) as caught:
        parse_options(raw)
    assert words in caught.value.message
    assert (caught.value.field, caught.value.status) == (field, 400)


@pytest.mark.parametrize(
    ("options", "branch"), [(Options(URL, "main"), "main"), (Options(URL, "refs/heads/a/b"), "a/b"), (Options(URL, "refs/tags/v1"), "v1"), (Options(URL, "main", "try"), "try")]
)
def test_the_branch_of_the_workspace(options: Options, branch: str) -> None:
    assert options.branch == branch


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ({"repo": [f" {REPO} "], "ref": ["main"]}, {"repo": REPO, "ref": "main"}),
        ({"repo": [REPO], "ref": ["main"], "_xsrf": ["t", "t"], "profile": ["x"]}, {"repo": REPO, "ref": "main"}),
        ({"repo": [], "ref": [""], "cpu": ["  "]}, {}),
        ({}, {}),
    ],
)
def test_forms(form: dict[str, list[str]], values: dict[str, str]) -> None:
    assert flatten_form(form) == values


@pytest.mark.parametrize("name", ["image", "commit"])
def test_what_no_form_may_choose(name: str) -> None:
    with pytest.raises(InvalidOption, match="can't be chosen") as caught:
        flatten_form({"repo": [REPO], "ref": ["main"], name: ["x"]})
    assert caught.value.field == name


@pytest.mark.parametrize("count", [2, 1000])
def test_repeated_fields_are_refused(count: int) -> None:
    with pytest.raises(InvalidOption, match=f"'ref' was sent {count} times") as caught:
        flatten_form({"repo": [REPO], "ref": ["main"] * count})
    assert caught.value.field == "ref"


@pytest.mark.parametrize(
    ("resources", "words"), [(Resources(), ""), (Resources(2, 4 * G, None, 1), "2 CPU, 4G memory, 1 GPU"), (Resources(0.5), "0.5 CPU")]
)
def test_described(resources: Resources, words: str) -> None:
    assert describe(resources) == words
