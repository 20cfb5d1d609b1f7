"""Repository addresses: what is one, what is refused and with which words, and what the admin's lists say of it."""

# ruff: noqa: RUF001, RUF003 (letters that look like others are what is tested)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.errors import ConfigError, HubDockError, InvalidRepoURL, RepoNotAllowed
from hubdock.core.repo import MAX_URL, RepoPolicy, RepoURL, drop_credentials, is_private_address, make_policy, parse_repo_url

GOOD = [
    ("https://github.com/team/project", RepoURL("https", "github.com", 443, "team/project")),
    ("https://github.com/team/project.git", RepoURL("https", "github.com", 443, "team/project", suffix=".git")),
    ("  https://github.com/team/project/ ", RepoURL("https", "github.com", 443, "team/project")),
    ("https://git.example.org:8443/a/b/c", RepoURL("https", "git.example.org", 8443, "a/b/c")),
    ("http://10.0.0.5:3000/team/project", RepoURL("http", "10.0.0.5", 3000, "team/project")),
    ("ssh://git@git.example.org:2222/team/project.git", RepoURL("ssh", "git.example.org", 2222, "team/project", "git", ".git")),
    ("ssh://git.example.org/~alice/project", RepoURL("ssh", "git.example.org", 22, "~alice/project")),
    ("git@github.com:team/project.git", RepoURL("ssh", "github.com", 22, "team/project", "git", ".git")),
    ("https://[2001:DB8::1]/team/project", RepoURL("https", "2001:db8::1", 443, "team/project")),
    ("https://127.0.0.1/x", RepoURL("https", "127.0.0.1", 443, "x")),
    ("https://example.org/my%20team/caf%C3%A9", RepoURL("https", "example.org", 443, "my%20team/caf%C3%A9")),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_accepted(text: str, expected: RepoURL) -> None:
    assert parse_repo_url(text) == expected


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_url_is_read_back_as_itself(text: str, expected: RepoURL) -> None:
    assert parse_repo_url(expected.url) == expected


BAD = {
    "": "Give the address",
    "   ": "Give the address",
    "https://exa mple.org/x": "a space",
    "https://example.org/a b": "a space",
    "https://example.org/x\n": "a line break",
    "https://example.org/x\r\nHost: evil": "a line break",
    "https://example.org/\0x": "control character",
    "https://example.org/" + "a" * MAX_URL: f"at most {MAX_URL}",
    "file:///etc": "https:// or ssh://",
    "/etc": "path on a disk",
    "../repo": "path on a disk",
    "~/repo": "path on a disk",
    "ext::x": "https:// or ssh://",
    "ext::sh -c id": "space",
    "git://example.org/x": "https:// or ssh://",
    "ftp://example.org/x": "https:// or ssh://",
    "--upload-pack=x": "can't start with",
    "-oProxyCommand=x": "can't start with",
    "ssh://-oProxyCommand=x/y": "not a valid name",
    "ssh://git@-oProxyCommand=x/y": "not a valid name",
    "ssh://-x@example.org/y": "user name",
    "git@-oProxyCommand:x": "not a valid name",
    "git@example.org:-x": "starts with “-”",
    "github.com/team/project": "must start with https://",
    "team/project": "must start with https://",
    "https:/example.org/x": "must start with https://",
    "https://": "names no host",
    "https:///x": "names no host",
    "https://example.org": "no repository",
    "https://example.org/": "no repository",
    "https://example.org/.git": "no repository",
    "https://example.org/x#frag": "Remove “?…” and “#…”",
    "https://example.org/x?q=1": "Remove “?…” and “#…”",
    "https://example.org/x?": "Remove “?…” and “#…”",
    "https://example.org/x#": "Remove “?…” and “#…”",
    "https://0x7f000001/x": "address in disguise",
    "https://0x7f.0.0.1/x": "address in disguise",
    "https://127.1/x": "address in disguise",
    "https://2130706433/x": "address in disguise",
    "https://017700000001/x": "address in disguise",
    "https://1.2.3.4.5/x": "address in disguise",
    "https://[::1%25eth0]/x": "IPv6",
    "https://[::1/x": "can't be read",
    "https://[::g]/x": "can't be read",
    "https://example.org:0/x": "between 1 and 65535",
    "https://example.org:99999/x": "can't be read",
    "https://example.org:abc/x": "can't be read",
    "https://-a.example.org/x": "not a valid name",
    "https://a..b/x": "not a valid name",
    "https://" + "a" * 64 + ".org/x": "not a valid name",
    "https://ex℀mple.org/x": "can't be read",
    "https://example.org/a//b": "empty part",
    "https://example.org/a/../b": "“..”",
    "https://example.org/a/%2e%2e/b": "“..”",
    "https://example.org/a/.%2E/b": "“..”",
    "https://example.org/a/..%2fb": "not accepted",
    "https://example.org/a/..%5cb": "not accepted",
    "https://example.org/a%00b": "not accepted",
    "https://example.org/a%0ab": "not accepted",
    "https://example.org/a%zz": "not accepted",
    "https://example.org/a\\b": "not accepted",
    "https://example.org/a/-b": "starts with “-”",
    "https://example.org/<script>": "not accepted",
    "https://example.org/\u202ecod": "not accepted",
}


@pytest.mark.parametrize(("text", "words"), BAD.items(), ids=[repr(text)[:40] for text in BAD])
def test_refused_with_what_to_do(text: str, words: str) -> None:
    with pytest.raises(InvalidRepoURL) as caught:
        parse_repo_url(text)
    assert words in caught.value.message
    assert (caught.value.field, caught.value.status) == ("repo", 400)


@pytest.mark.parametrize("value", [None, 3, 2.5, True, [], ["https://example.org/x"], {}, {"repo": "x"}, b"https://example.org/x"])
def test_refused_unless_text(value: object) -> None:
    with pytest.raises(InvalidRepoURL, match="must be text"):
        parse_repo_url(value)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:t0ksecret@example.org/x", "https://t0ksecret@example.org/x", "https://:t0ksecret@example.org/x", "http://u:t0ksecret@example.org/x",
        "ssh://git:t0ksecret@example.org/x", "user:t0ksecret@example.org", "user:t0ksecret@example.org:x", "https://user:t0ksecret#@example.org/x",
        "https://user:t0ksecret?@example.org/x", "https://user:t0ksecret/@example.org:x/y",
    ],
)  # fmt: skip
def test_a_password_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(InvalidRepoURL) as caught:
        parse_repo_url(text)
    error = caught.value
    chain = [error, error.__cause__]
    assert not any("t0ksecret" in str(link) for link in chain)
    assert "t0ksecret" not in error.detail + str(error.as_dict())


def test_user_part_is_refused_with_the_mend() -> None:
    with pytest.raises(InvalidRepoURL, match=r"Remove everything before “@”"):
        parse_repo_url("https://me@github.com/team/project")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://münchen.example/x", "xn--mnchen-3ya.example"),
        ("https://exаmple.org/x", "xn--exmple-4nf.org"),  # the а is Cyrillic
        ("https://ＧｉｔＨｕｂ.com/x", "github.com"),
        ("https://a。example。org/x", "a.example.org"),
        ("https://１２７.0.0.1/x", "127.0.0.1"),
    ],
)
def test_international_hosts_are_shown_in_punycode(text: str, host: str) -> None:
    repo = parse_repo_url(text)
    assert repo.host == host
    assert str(repo) == f"https://{host}/x"


@pytest.mark.parametrize(
    "spellings",
    [
        ["https://GitHub.com/team/x", "https://github.com/team/x.git", "https://github.com/team/x/", "HTTPS://github.com.:443/team/x", "https://github.com//team/x"],
        ["git@github.com:team/x.git", "ssh://git@github.com/team/x", "ssh://github.com:22/team/x.git", "git@github.com:/team/x"],
        ["https://example.org/t%65am/x", "https://example.org/team/x", "https://example.org/%74eam/%78"],
        ["https://example.org/a%c3%a9", "https://example.org/a%C3%A9"],
        ["https://[::1]/x", "https://[0:0:0:0:0:0:0:1]/x"],
    ],
)
def test_spellings_of_one_address_have_one_identity(spellings: list[str]) -> None:
    assert len({parse_repo_url(text).canonical for text in spellings}) == 1


def test_other_addresses_have_other_identities() -> None:
    texts = [
        "https://github.com/team/x", "ssh://github.com/team/x", "http://github.com/team/x", "https://github.com:8443/team/x", "https://github.com/Team/x",
        "https://github.com/team/x/y", "https://github.com/team%2Bx", "https://gitlab.com/team/x",
    ]  # fmt: skip
    assert len({parse_repo_url(text).canonical for text in texts}) == len(texts)


def test_properties_of_an_address() -> None:
    repo = parse_repo_url("ssh://git@[2001:db8::1]:2222/team/project.git")
    assert (repo.origin, repo.url, repo.canonical, repo.short, repo.name) == (
        "ssh://[2001:db8::1]:2222", "ssh://git@[2001:db8::1]:2222/team/project.git", "ssh://[2001:db8::1]:2222/team/project",
        "[2001:db8::1]:2222/team/project", "project",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("https://user:tok@host/a", "https://host/a"), ("https://tok@host/a", "https://host/a"), ("HTTP://u:p@ss@host:8080/a", "HTTP://host:8080/a"),
        ("ssh://git:tok@host/a", "ssh://host/a"), ("ssh://git@host/a", "ssh://git@host/a"), ("git@host:team/a", "git@host:team/a"), ("git@host:a@b", "git@host:a@b"),
        ("git:tok@host:team/a", "host:team/a"), ("user:tok@host/a", "host/a"), ("https://user:t/k@host/a", "https://host/a"), ("https://host:8443/a@b", "https://host:8443/a@b"),
        ("https://host/a@b:c", "https://host/a@b:c"), ("main", "main"), ("", ""), ("a@b", "a@b"),
    ],
)  # fmt: skip
def test_a_form_keeps_an_address_without_its_password(typed: str, kept: str) -> None:
    assert drop_credentials(typed) == kept == drop_credentials(kept)


@given(st.text(max_size=80) | st.text(alphabet="https://ab.@:-%2eE\\[]~?#\n\0 ", max_size=40).map(lambda tail: "https://h/" + tail))
def test_any_text_is_an_address_or_a_clear_refusal(text: str) -> None:
    try:
        repo = parse_repo_url(text)
    except InvalidRepoURL:
        return
    assert parse_repo_url(repo.url) == repo
    assert not any(c.isspace() or ord(c) < 33 or ord(c) > 126 for c in repo.url)
    assert not repo.url.startswith("-") and "@" not in repo.url.partition("://")[2].partition("/")[0].removeprefix(f"{repo.user}@")
    assert not any(part in {"", ".", ".."} for part in repo.path.split("/"))


POLICY = make_policy(["github.com", "*.example.org", "http://10.0.0.5:3000", "https://git.closed.example:8443", "ssh://build.example.net"])


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/team/x", "git@github.com:team/x", "https://a.example.org/x", "https://a.b.example.org/x", "http://10.0.0.5:3000/x",
        "https://git.closed.example:8443/x", "ssh://git@build.example.net/x",
    ],
)  # fmt: skip
def test_allowed_hosts(text: str) -> None:
    POLICY.check(parse_repo_url(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://gitlab.com/x", "gitlab.com"),
        ("http://github.com/x", "http://github.com"),  # a plain name never allows plain HTTP
        ("https://github.com:8443/x", "https://github.com:8443"),
        ("https://example.org/x", "example.org"),
        ("https://github.com.evil.net/x", "github.com.evil.net"),
        ("https://10.0.0.5:3000/x", "https://10.0.0.5:3000"),
        ("http://10.0.0.5/x", "http://10.0.0.5"),
        ("https://git.closed.example/x", "git.closed.example"),
        ("https://build.example.net/x", "build.example.net"),
        ("http://a.example.org/x", "http://a.example.org"),
        ("https://exаmple.org/x", "xn--exmple-4nf.org"),
    ],
)
def test_other_hosts_are_refused_and_the_allowed_ones_named(text: str, shown: str) -> None:
    with pytest.raises(RepoNotAllowed) as caught:
        POLICY.check(parse_repo_url(text))
    assert caught.value.message.startswith(f"Repositories on {shown} are not allowed on this hub. Allowed: github.com, *.example.org")
    assert "HubDock.allowed_hosts" in caught.value.message
    assert (caught.value.status, caught.value.field) == (403, "repo")


def test_every_host_is_still_https_and_the_usual_port() -> None:
    policy = make_policy(["*"])
    policy.check(parse_repo_url("https://anything.example/x"))
    for text in ("http://anything.example/x", "https://anything.example:8443/x"):
        with pytest.raises(RepoNotAllowed):
            policy.check(parse_repo_url(text))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("https://github.com/team/x", True), ("https://github.com/team/x.git", True), ("git@github.com:team/x.git", True),
        ("https://github.com/team/deep/x", True), ("https://github.com/other/x", False), ("https://github.com/Team/x", False),
        ("https://github.com/teammate/x", False), ("https://github.com/shared/one", True), ("https://github.com/shared/two", False),
        ("https://github.com/shared/o%6Ee", True),
    ],
)  # fmt: skip
def test_allowed_repos(text: str, allowed: bool) -> None:
    policy = make_policy(["github.com"], ["github.com/team/*", "github.com/shared/one"])
    if allowed:
        policy.check(parse_repo_url(text))
        return
    with pytest.raises(RepoNotAllowed, match=r"is not in this hub's list.*HubDock\.allowed_repos"):
        policy.check(parse_repo_url(text))


@pytest.mark.parametrize(
    ("text", "trusted"),
    [("http://10.0.0.5:3000/x", True), ("https://github.com/x", True), ("https://a.example.org/x", False), ("ssh://git@build.example.net/x", True)],
)
def test_a_private_address_is_meant_only_where_the_host_is_written_down(text: str, trusted: bool) -> None:
    assert POLICY.trusts_address(parse_repo_url(text)) is trusted


@pytest.mark.parametrize(
    ("hosts", "repos", "words"),
    [
        (["GitHub.com"], [], "in lower case"),
        (["github.com/team"], [], "neither a host"),
        ([""], [], "neither a host"),
        (["https://"], [], "neither a host"),
        (["github.com "], [], "neither a host"),
        (["git.example.org:8443"], [], "“https://git.example.org:8443”"),
        (["github.com"], ["https://github.com/team/*"], "without scheme"),
        (["github.com"], ["github.com/team/x.git"], "“.git”"),
    ],
)
def test_lists_that_could_never_match_are_refused_at_startup(hosts: list[str], repos: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_policy(hosts, repos)
    assert words in caught.value.message
    assert caught.value.message.startswith("HubDock.allowed_")


def test_no_hosts_allow_nothing() -> None:
    with pytest.raises(RepoNotAllowed, match="Allowed: none"):
        RepoPolicy(()).check(parse_repo_url("https://github.com/x"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255",
        "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
        "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    ],
)  # fmt: skip
def test_private(address: str) -> None:
    assert is_private_address(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "140.82.121.4", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2a00:1450:4001:80b::200e"])
def test_public(address: str) -> None:
    assert not is_private_address(address)


def test_every_refusal_says_something() -> None:
    for text in BAD:
        with pytest.raises(HubDockError) as caught:
            parse_repo_url(text)
        assert caught.value.message.endswith((".", "project."))
