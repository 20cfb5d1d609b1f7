"""Names of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.errors import ConfigError
from hubdock.core.reference import Reference, names_host, parse_reference
from hubdock.drivers.registry import find_digests

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("base", ("docker.io", "library/base", "latest", "")),
        ("team/base:1.2-x_Y", ("docker.io", "team/base", "1.2-x_Y", "")),
        ("docker.io/base", ("docker.io", "library/base", "latest", "")),
        ("index.docker.io/team/base", ("docker.io", "team/base", "latest", "")),
        ("localhost/base", ("localhost", "base", "latest", "")),
        ("127.0.0.1:5000/team/a/b__c.d-e:1", ("127.0.0.1:5000", "team/a/b__c.d-e", "1", "")),
        ("[::1]:5000/base", ("[::1]:5000", "base", "latest", "")),
        ("quay.io/jupyter/base@" + DIGEST, ("quay.io", "jupyter/base", "", DIGEST)),
        ("quay.io/jupyter/base:1@" + DIGEST, ("quay.io", "jupyter/base", "1", DIGEST)),
    ],
)
def test_names(text: str, parts: tuple[str, str, str, str]) -> None:
    found = parse_reference(text)
    assert (found.host, found.repository, found.tag, found.digest) == parts
    assert parse_reference(str(found)) == found
    assert found.manifest == (DIGEST if "@" in text else parts[2])


@pytest.mark.parametrize(
    "text",
    ["", " ", "/", "Team/base", "team/Base", "a//b", "../x", "quay.io/../x", "quay.io/x/", "quay.io/", "x:", "x@sha256:1", "x@sha512:" + "a" * 128, "x:-a", "x: y", "x\n", "http://quay.io/x",
     "user@quay.io/x", "quay.io/x?y", "quay.io/x#y", "quay.io/" + "a" * 300, "x:" + "t" * 129],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ConfigError, match="is no name of an image"):
        parse_reference(text)


@given(st.text(alphabet="aA0.:/@_-[] \n%", max_size=24))
def test_a_name_never_leaves_its_place_in_a_url(text: str) -> None:
    try:
        found = parse_reference(text)
    except ConfigError:
        return
    assert isinstance(found, Reference) and parse_reference(str(found)) == found
    assert not set(found.repository) & set(" ?#%@:\\\n") and not {"", ".", ".."} & set(found.repository.split("/"))
    assert not set(found.host) & set("/@ \n")


def test_an_image_is_known_by_its_own_repository_alone() -> None:
    inspection = {"Id": OTHER, "RepoDigests": [f"quay.io/team/base@{DIGEST}", f"base@{OTHER}", f"team/base@{OTHER}"]}
    assert find_digests(inspection, "quay.io/team/base:1") == {DIGEST}
    assert find_digests(inspection, "quay.io/team/other:1") == set()
    assert find_digests(inspection, "base") == find_digests(inspection, "team/base:2") == set(), "the engine's own invention"
    assert find_digests({**inspection, "Id": DIGEST}, "docker.io/library/base") == {OTHER}
    assert names_host("localhost/x") and not names_host("team/x") and not names_host("x:1")
