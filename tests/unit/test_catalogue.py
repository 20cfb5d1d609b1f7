"""The admin's list of repositories."""

from __future__ import annotations

from typing import Any

import pytest
from traitlets.config import Config

from hubdock.core.catalogue import check_choice, parse_catalogue
from hubdock.core.errors import ConfigError, RepoNotAllowed
from hubdock.core.repo import make_policy, parse_repo_url
from hubdock.engine.config import HubDock, make_settings

POLICY = make_policy(["github.com"], [])
DIGITS = "https://github.com/team/digits.git"


def test_entries() -> None:
    entries = parse_catalogue([DIGITS, {"url": "https://github.com/team/b", "title": "Second", "description": "With words"}], POLICY)
    assert [(entry.repo.url, entry.title, entry.description) for entry in entries] == [(DIGITS, "digits", ""), ("https://github.com/team/b", "Second", "With words")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([3], "“url”"),
        ([{"title": "x"}], "“url”"),
        ([{"url": DIGITS, "colour": "red"}], "“url”"),
        ([{"url": DIGITS, "title": 3}], "“url”"),
        (["/etc"], "can't be started"),
        (["https://elsewhere.org/a/b"], "elsewhere.org are not allowed"),
        ([DIGITS, "https://GitHub.com/team/digits"], "twice"),
    ],
)
def test_a_wrong_entry_stops_the_hub_at_its_start(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=r"HubDock\.catalogue") as told:
        make_settings(Config({"HubDock": {"catalogue": given}}))
    assert words in told.value.message


def test_an_empty_list_that_alone_may_be_chosen_from_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing could be started"):
        make_settings(Config({"HubDock": {"free_choice": False}}))


def test_only_what_is_listed_where_only_that_may_be_chosen() -> None:
    entries = parse_catalogue([DIGITS], POLICY)
    other = parse_repo_url("https://github.com/team/other")
    check_choice(parse_repo_url("https://github.com/team/digits"), entries, free=False)
    check_choice(other, entries, free=True)
    with pytest.raises(RepoNotAllowed) as told:
        check_choice(other, entries, free=False)
    assert (told.value.field, "digits" in told.value.message) == ("repo", False)


def test_settings_enforce_it() -> None:
    settings: HubDock = make_settings(Config({"HubDock": {"catalogue": [DIGITS], "free_choice": False}}))
    settings.check_choice(parse_repo_url(DIGITS))
    with pytest.raises(RepoNotAllowed):
        settings.check_choice(parse_repo_url("https://github.com/team/other"))
