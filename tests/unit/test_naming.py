"""Names: valid where they are used, readable, and different for different things however near."""

# ruff: noqa: RUF001 (letters that look like others are what is tested)

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.naming import (
    make_directory,
    make_hash,
    make_home_volume,
    make_scope_name,
    make_server_name,
    make_slug,
    make_tag,
    make_workspace_volume,
    shorten,
)
from hubdock.core.repo import RepoURL, parse_repo_url

SERVER = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){0,28}[a-z0-9]")
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # Docker's own rule
REPO = parse_repo_url("https://github.com/team/image-classifier")

PARTS = st.text(alphabet="abAB019._-~%+@", min_size=1, max_size=40).filter(lambda text: text not in {".", ".."})
REPOS = st.builds(lambda host, parts: RepoURL("https", host, 443, "/".join(parts)), st.sampled_from(["a.org", "b.org"]), st.lists(PARTS, min_size=1, max_size=4))
BRANCHES = st.text(min_size=1, max_size=60) | st.sampled_from(["a/b", "a-b", "a.b", "A-b", "a--b", "a-b-", "main", "Main", "ma/in", "é", "e", "日本", "1", "-1", "x" * 255, "x" * 254])


@given(REPOS, BRANCHES)
def test_server_names_are_valid_in_every_hub(repo: RepoURL, branch: str) -> None:
    name = make_server_name(repo, branch)
    assert SERVER.fullmatch(name), name
    assert name == make_server_name(repo, branch)


@given(REPOS, REPOS, BRANCHES, BRANCHES)
def test_different_hypotheses_have_different_names(repo: RepoURL, other: RepoURL, branch: str, another: str) -> None:
    pairs = {(r.canonical, b) for r in (repo, other) for b in (branch, another)}
    for make in (make_server_name, lambda r, b: make_workspace_volume("hubdock", "u", "s", r, b)):
        assert len({make(r, b) for r in (repo, other) for b in (branch, another)}) == len(pairs)


NEAR = ["a/b", "a-b", "a.b", "a_b", "A/b", "a/b/", "a//b", "ab", "a-b-", "-a-b", "a/b\0", "а/b", "x" * 255, "x" * 254 + "y", "x" * 100]


def test_near_inputs_do_not_meet() -> None:
    assert len({make_server_name(REPO, branch) for branch in NEAR}) == len(NEAR)
    assert len({make_workspace_volume("hubdock", "u", "s", REPO, branch) for branch in NEAR}) == len(NEAR)
    assert len({make_home_volume("hubdock", user) for user in NEAR}) == len(NEAR)
    repos = [parse_repo_url(f"https://example.org/{path}") for path in ("a/b", "a-b", "a.b", "A/b", "a/b/c", "b", "a/b.d")]
    assert len({make_server_name(repo, "main") for repo in repos}) == len(repos)


def test_the_parts_of_a_name_do_not_run_into_each_other() -> None:
    names = {make_workspace_volume("hubdock", user, server, REPO, "main") for user, server in (("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"))}
    assert len(names) == 4
    assert make_hash("a", "b") != make_hash("a\0001:b") != make_hash("ab")


@pytest.mark.parametrize(
    ("path", "branch", "readable"),
    [
        ("team/image-classifier", "vgg19", "image-classifier-vgg19-"),
        ("team/image-classifier", "main", "image-classifier-main-"),
        ("a/b", "feature/new-optimizer", "b-feature-new-optimizer-"),
        ("team/a-very-long-repository-name", "a-very-long-branch-name", "a-very-long-a-very-long-"),
        ("team/1", "2", "x-1-x-2-"),
        ("team/Übung", "日本", "bung-x-"),
    ],
)
def test_server_names_can_be_read(path: str, branch: str, readable: str) -> None:
    name = make_server_name(RepoURL("https", "example.org", 443, path), branch)
    assert re.fullmatch(re.escape(readable) + "[0-9a-f]{6}", name), name


@given(st.text(max_size=80), REPOS, BRANCHES)
def test_volumes_are_valid_and_bounded(user: str, repo: RepoURL, branch: str) -> None:
    for name in (make_workspace_volume("hubdock", user, "s", repo, branch), make_home_volume("hubdock", user)):
        assert VOLUME.fullmatch(name) and len(name) <= 128, name


def test_names_stay_what_they_are() -> None:
    """A name that changes loses its workspace: these are for ever."""
    assert make_server_name(REPO, "vgg19") == "image-classifier-vgg19-373e76"
    assert make_workspace_volume("hubdock", "alice", "s", REPO, "vgg19") == "hubdock-work-alice-image-classifier-vgg19-dac3a1215aec6a6d"
    assert make_home_volume("hubdock", "alice@example.org") == "hubdock-home-alice-example-org-98d89c193405"


@given(REPOS)
def test_directories_need_no_quoting(repo: RepoURL) -> None:
    name = make_directory(repo)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", name), name
    assert not name.endswith((".", "-"))


@pytest.mark.parametrize(
    ("path", "name"),
    [("team/project", "project"), ("a/b/c.d", "c.d"), ("a/%20", "20"), ("a/...", "work"), ("a/.github", "github"), ("a/x%20y", "x-20y"), ("a/" + "x" * 63 + "-y", "x" * 63), ("a/_x", "_x")],
)
def test_directories(path: str, name: str) -> None:
    assert make_directory(RepoURL("https", "example.org", 443, path)) == name


@given(st.text(max_size=60), st.integers(1, 40))
def test_slugs(text: str, limit: int) -> None:
    slug = make_slug(text, limit)
    assert len(slug) <= limit and SERVER.fullmatch(slug + "x") and re.fullmatch("[a-z0-9-]+", slug)


def test_tags_and_scopes() -> None:
    assert make_tag("environment", "f" * 64) == f"hubdock/environment:{'f' * 64}"
    assert make_scope_name("") == "public"
    assert re.fullmatch("[0-9a-f]{24}", make_scope_name("https://git.example.org/secret-project"))
    assert make_scope_name("a") != make_scope_name("b")
    assert shorten("0123456789abcdef") == "0123456789ab"
