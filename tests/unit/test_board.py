"""The rows of the board: which are shown, in which order, and what they share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hubdock.core.board import Row, Runs, Wanted, add_shared, choose_columns, format_value, make_page, parse_wanted

REPO, OTHER = "https://a.org/team/digits", "https://a.org/team/faces"
MAIN = Row(REPO, "main", "1" * 40, True, "first", "Ada", 100, True, "e1", metrics=(("accuracy", 0.9), ("loss", 0.1)))
VGG = Row(REPO, "vgg19", "2" * 40, subject="deeper", author="Grace", time=300, detailed=True, environment="e1", metrics=(("accuracy", 0.95),), makers=("bob",))
NEW = Row(OTHER, "new", "3" * 40, servers=(Runs("alice", "s1", ""), Runs("alice", "s2", "/user/alice/s2/"), Runs("bob", "s3", "/user/bob/s3/")))
FACES = Row(OTHER, "main", "4" * 40, time=200, detailed=True, environment="e1")
ROWS = [MAIN, VGG, NEW, FACES]


def names(wanted: Wanted, user: str = "alice", size: int = 50) -> list[str]:
    return [f"{row.repo.rpartition('/')[2]} {row.branch}" for row in make_page(ROWS, wanted, user, size).rows]


def test_the_newest_comes_first_and_the_unread_last() -> None:
    assert names(Wanted()) == ["digits vgg19", "faces main", "digits main", "faces new"]


@pytest.mark.parametrize(
    ("wanted", "user", "found"),
    [
        (Wanted("GRACE"), "alice", ["digits vgg19"]),
        (Wanted("faces  main"), "alice", ["faces main"]),
        (Wanted("2222222"), "alice", ["digits vgg19"]),
        (Wanted("bob"), "alice", ["digits vgg19"]),
        (Wanted("none such"), "alice", []),
        (Wanted(mine=True), "alice", ["faces new"]),
        (Wanted(mine=True), "bob", ["digits vgg19", "faces new"]),
        (Wanted(mine=True), "ada", ["digits main"]),
        (Wanted(running=True), "carol", ["faces new"]),
        (Wanted(running=True, mine=True), "carol", []),
    ],
)
def test_filters(wanted: Wanted, user: str, found: list[str]) -> None:
    assert names(wanted, user) == found


def test_pages() -> None:
    assert names(Wanted(page=2), size=3) == ["faces new"]
    page = make_page(ROWS, Wanted(page=9), "alice", 3)
    assert (page.number, page.pages, page.total, len(page.rows)) == (2, 2, 4, 1)
    assert make_page([], Wanted(page=3), "alice").pages == 1


def test_an_address_that_makes_no_sense_is_the_first_page() -> None:
    assert parse_wanted({"q": "x", "mine": "1", "page": "2"}) == Wanted("x", True, False, 2)
    assert [parse_wanted({"page": page}).page for page in ("", "-1", "x", "\u0663", "9" * 30)] == [1] * 5


def test_an_environment_is_shared_with_the_same_repository_first() -> None:
    main, vgg, new, faces = add_shared(ROWS, ROWS)
    assert main.shared == ((REPO, "vgg19"), (OTHER, "main")) and vgg.shared == ((REPO, "main"), (OTHER, "main"))
    assert faces.shared == ((REPO, "main"), (REPO, "vgg19")) and new.shared == ()
    assert add_shared([replace(MAIN, environment="")], ROWS)[0].shared == ()


def test_the_metrics_of_most_branches_are_columns() -> None:
    assert choose_columns(ROWS) == ["accuracy", "loss"]
    assert choose_columns([MAIN, VGG], 1) == ["accuracy"] and choose_columns([NEW]) == []


def test_my_server_is_the_one_that_is_ready() -> None:
    assert NEW.runs_of("alice") == Runs("alice", "s2", "/user/alice/s2/") and NEW.runs_of("carol") is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456789, "0.123457"), (97, "97"), (10**20, "1e+20"), (True, "True"), (None, ""), ("fast", "fast"), (1.0, "1")]
)
def test_values(value: object, text: str) -> None:
    assert format_value(value) == text  # type: ignore[arg-type]
