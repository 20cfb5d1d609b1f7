"""Names of branches and tags."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubdock.core.errors import InvalidRef
from hubdock.core.refs import ResolvedRef, find_near, is_commit, looks_like_commit, make_short, parse_new_branch, parse_ref


@pytest.mark.parametrize(
    "name",
    ["main", "vgg19", "feature/new-thing", "v1.0.2", "refs/heads/main", "refs/tags/v1", "a@b", "ünïcode", "日本", "a.b", "x-", "deadbeef", "#1", "<script>", "a'b", 'a"b', "a" * 255],
)
def test_accepted_as_it_is(name: str) -> None:
    assert parse_ref(name) == name


def test_surrounding_blanks_are_dropped() -> None:
    assert parse_ref(" \tmain ") == "main"


BAD = {
    "": "Give the name of a branch",
    "  ": "Give the name of a branch",
    "-x": "starts with “-”",
    "--upload-pack=x": "starts with “-”",
    "refs/heads/-x": "starts with “-”",
    "a..b": "it holds '..'",
    "a@{1}": "it holds '@{'",
    "@{": "it holds '@{'",
    "*": "it holds '*'",
    "feature/*": "it holds '*'",
    "a b": "a space or control character",
    "a\nb": "a space or control character",
    "main\n": "a space or control character",
    "a\0b": "a space or control character",
    "a~1": "it holds '~'",
    "a^": "it holds '^'",
    "a:b": "it holds ':'",
    "+refs/heads/a:b": "it holds ':'",
    "a?": "it holds '?'",
    "a[b": "it holds '['",
    "a\\b": "it holds",
    "a//b": "it holds '//'",
    "/a": "starts or ends with “/”",
    "a/": "starts or ends with “/”",
    "refs/heads/": "starts or ends with “/”",
    "a.": "ends with “.”",
    "@": "is a pointer",
    ".a": "starts with “.”",
    "a/.b": "starts with “.”",
    "a.lock": "ends with “.lock”",
    "a.lock/b": "ends with “.lock”",
    "HEAD": "name the branch itself",
    "refs/heads/HEAD": "name the branch itself",
    "refs/remotes/origin/main": "only branches and tags",
    "refs/pull/1/head": "only branches and tags",
    "a" * 256: "longer than 255 bytes",
    "ü" * 128: "longer than 255 bytes",
    "a\udc80": "not valid text",
}


@pytest.mark.parametrize(("text", "words"), BAD.items(), ids=[repr(text)[:30] for text in BAD])
def test_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(InvalidRef) as caught:
        parse_ref(text)
    assert words in caught.value.message
    assert (caught.value.field, caught.value.status) == ("ref", 400)


@pytest.mark.parametrize("value", [None, 1, True, ["main"], {"ref": "main"}, b"main"])
def test_refused_unless_text(value: object) -> None:
    with pytest.raises(InvalidRef, match="given as text"):
        parse_ref(value)


@given(st.text(alphabet="ab/.-@{}~^:?*[\\ \x00\x7f\u00e9", max_size=10) | st.text(max_size=10))
@settings(max_examples=40, deadline=None)
def test_what_is_accepted_is_a_branch_to_git_too(text: str) -> None:
    try:
        name = parse_ref(text)
    except InvalidRef:
        return
    full = name if name.startswith("refs/") else f"refs/heads/{name}"
    assert subprocess.run(["git", "check-ref-format", full], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "name"), [("try-1", "try-1"), ("refs/heads/try-1", "try-1"), ("team/x", "team/x")]
)
def test_a_new_branch_has_a_short_name(text: str, name: str) -> None:
    assert parse_new_branch(text) == name


@pytest.mark.parametrize("text", ["refs/tags/v1", "refs/heads/refs/x", "-x", "a b", "", 3])
def test_what_can_not_be_a_new_branch(text: object) -> None:
    with pytest.raises(InvalidRef) as caught:
        parse_new_branch(text)
    assert caught.value.field == "new_branch"


@pytest.mark.parametrize(
    ("name", "short"),
    [("main", "main"), ("refs/heads/main", "main"), ("refs/tags/v1", "v1"), ("refs/heads/refs/tags/v1", "refs/tags/v1"), ("a/refs/heads/b", "a/refs/heads/b")],
)
def test_short_names(name: str, short: str) -> None:
    assert make_short(name) == short


def test_full_names() -> None:
    assert ResolvedRef("a/b", "branch", "0" * 40).full == "refs/heads/a/b"
    assert ResolvedRef("v1", "tag", "0" * 40).full == "refs/tags/v1"


@pytest.mark.parametrize(
    ("text", "whole", "maybe"),
    [("a" * 40, True, True), ("0" * 64, True, True), ("deadbee", False, True), ("dead", False, False), ("A" * 40, False, False), ("a" * 40 + "\n", False, False), ("main", False, False)],
)
def test_commits(text: str, whole: bool, maybe: bool) -> None:
    assert (is_commit(text), looks_like_commit(text)) == (whole, maybe)


KNOWN = ["main", "Vgg19", "vgg16", "feature/vgg19", "develop", "release-1.0"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mian", ["main"]),
        ("MAIN", ["main"]),
        ("vgg19", ["Vgg19", "vgg16", "feature/vgg19"]),
        ("vgg", ["Vgg19", "vgg16", "feature/vgg19"]),
        ("release", ["release-1.0"]),
        ("xyzzy", []),
        ("", []),
    ],
)
def test_near_names(name: str, near: list[str]) -> None:
    assert find_near(name, KNOWN) == near
