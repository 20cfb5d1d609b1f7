"""Repository addresses: which text is one, which one it is, and which ones the admin allows.

Accepted: ``https://host[:port]/path``, ``ssh://[user@]host[:port]/path``, git's short form ``user@host:path``, and ``http://…`` where the
admin lists that origin. Refused before any process starts: other transports (``ext::``, ``file:``, ``git:``), options, passwords in the
address, query and fragment, control characters, and addresses that are numbers in disguise (``0x7f000001``). See the threats in
BinderHub's CVE-2021-39159 and git's own `git-clone(1)`, "GIT URLS".
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from hubdock.core.errors import ConfigError, InvalidRepoURL, RepoNotAllowed

MAX_URL = 2048
_DEFAULT_PORT = {"https": 443, "http": 80, "ssh": 22}
_SHORT_SSH = re.compile(r"^(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9._-]+):(?P<path>[^:].*)$")
_LABEL = re.compile(r"^(?!-)[a-z0-9_-]{1,63}(?<!-)$")
_PATH = re.compile(r"^(?:[A-Za-z0-9._~+@!$&'()*,;=:/-]|%[0-9A-Fa-f]{2})+$")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_USER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
_EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))  # RFC 6052 (NAT64), RFC 4291 2.5.5.1
_EXAMPLE = "for example https://github.com/team/project"


@dataclass(frozen=True)
class RepoURL:
    """The address of one repository.

    ``host`` is lower case, punycode where it is international, and without brackets where it is IPv6. ``port`` is the one in use.
    ``path`` has no slash at either end and no ``.git``; ``suffix`` is the ``.git`` that the user typed, or empty.
    """

    scheme: str
    host: str
    port: int
    path: str
    user: str = ""
    suffix: str = ""

    @property
    def origin(self) -> str:
        """``scheme://host[:port]``, exact: what a credential is bound to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}")

    @property
    def url(self) -> str:
        """What git is given. It never holds a password."""
        scheme, _, rest = self.origin.partition("://")
        return f"{scheme}://{self.user + '@' if self.user else ''}{rest}/{self.path}{self.suffix}"

    @property
    def canonical(self) -> str:
        """The identity of the repository: equal for the spellings of one address, different across transports and ports."""
        return f"{self.origin}/{self.path}"

    @property
    def short(self) -> str:
        """``host[:port]/path``: what the admin's ``allowed_repos`` patterns are matched against and what pages show."""
        return self.canonical.partition("://")[2]

    @property
    def name(self) -> str:
        """The last part of the path, as ``git clone`` would name the directory."""
        return self.path.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.url


def parse_repo_url(text: object) -> RepoURL:
    """Return the repository that a user's text names.

    Raises InvalidRepoURL, whose message never repeats a password.
    """
    if not isinstance(text, str):
        raise _invalid("The repository must be text, " + _EXAMPLE + ".")
    text = text.strip(" \t")
    if not text:
        raise _invalid("Give the address of a repository, " + _EXAMPLE + ".")
    if len(text) > MAX_URL:
        raise _invalid(f"The repository's address is {len(text)} characters long; at most {MAX_URL} are accepted.")
    if any(ord(c) < 33 or ord(c) == 127 for c in text):
        raise _invalid("The repository's address holds a space, a line break or a control character. Remove it.")
    if text.startswith("-"):
        raise _invalid("A repository's address can't start with “-”.")
    if "://" not in text:
        return _parse_short(text)
    return _parse_full(text)


def drop_credentials(text: str) -> str:
    """Return what was typed as an address without the user name and password in it: forms show it again, and remember it."""
    scheme, mark, rest = text.partition("://") if "://" in text else ("", "", text)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if at and (":" in user.partition("@")[0] or scheme.strip().lower() in {"http", "https"}):
        return f"{scheme}{mark}{rest[len(user) + 1 :]}"
    if re.match(r"[^/@]*:(?!\d*(?:/|$))[^@]*/", rest) and "@" in rest:  # a password with a slash in it
        return f"{scheme}{mark}{rest.rpartition('@')[2]}"
    return text


def _parse_short(text: str) -> RepoURL:
    if "::" in text:
        raise _invalid("This transport is not accepted. Use https:// or ssh://, " + _EXAMPLE + ".")
    match = _SHORT_SSH.fullmatch(text)
    if match:
        return _make("ssh", match["host"], None, match["path"].lstrip("/"), match["user"])
    if text.startswith(("/", ".", "~")):
        raise _invalid("A path on a disk is no repository that a hub can reach. Use its https:// or ssh:// address.")
    raise _invalid("The address must start with https:// or ssh://, " + _EXAMPLE + ".")


def _parse_full(text: str) -> RepoURL:
    scheme = text.partition("://")[0].lower()
    if scheme not in _DEFAULT_PORT:
        raise _invalid("This transport is not accepted. Use https:// or ssh://, " + _EXAMPLE + ".")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # its text may repeat a part of a password
        raise _invalid("The host or port of the repository's address can't be read. Check it.") from None
    if parts.password is not None or (parts.username is not None and scheme != "ssh"):
        raise _invalid("The address holds a user name or a password. Remove everything before “@”: credentials are never taken from an address.")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise _invalid("Remove “?…” and “#…” from the repository's address; the branch has a field of its own.")
    return _make(scheme, parts.hostname or "", port, parts.path.lstrip("/"), parts.username or "")


def _make(scheme: str, host: str, port: int | None, path: str, user: str) -> RepoURL:
    if user and not _USER.fullmatch(user):
        raise _invalid("The user name in the repository's address holds characters that are not accepted.")
    if port is not None and not 1 <= port <= 65535:
        raise _invalid("The port in the repository's address must be between 1 and 65535.")
    host = _parse_host(host)
    path, suffix = _parse_path(path)
    return RepoURL(scheme, host, port or _DEFAULT_PORT[scheme], path, user, suffix)


def _parse_path(path: str) -> tuple[str, str]:
    path = _ENCODED.sub(_decode, path.rstrip("/"))
    suffix = ".git" if path.endswith(".git") and not path.endswith("/.git") else ""
    path = path.removesuffix(".git") if suffix else path
    if not path:
        raise _invalid("The address names a host but no repository on it, " + _EXAMPLE + ".")
    if not _PATH.fullmatch(path) or any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for code in _ENCODED.findall(path) for c in unquote(code, "latin-1")):
        raise _invalid("The path of the repository's address holds characters that are not accepted.")
    if any(part in {"", ".", ".."} or part.startswith("-") for part in path.split("/")):
        raise _invalid("The path of the repository's address holds an empty part, “..” or a part that starts with “-”.")
    return path, suffix


def _decode(code: re.Match[str]) -> str:
    """Return a percent-encoded character in its normal form (RFC 3986, 6.2.2), so that “%2e%2e” is seen and spellings meet."""
    character = unquote(code[0], "latin-1")
    return character if _UNRESERVED.match(character) else code[0].upper()


def _parse_host(host: str) -> str:
    if not host:
        raise _invalid("The address names no host, " + _EXAMPLE + ".")
    if ":" in host:
        try:
            if "%" in host:
                raise ValueError("a zone names an interface of one machine")
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise _invalid("The host of the repository's address is no valid IPv6 address.") from error
    try:
        host = host.rstrip(".").lower().encode("idna").decode("ascii")
    except UnicodeError as error:
        raise _invalid("The host of the repository's address is not a valid name.") from error
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(host) > 253:
        raise _invalid("The host of the repository's address is not a valid name.")
    if re.fullmatch(r"(0x[0-9a-f]+|[0-9]+)", labels[-1]):
        # Everything that inet_aton reads as an address but that is not written as one: 0x7f000001, 017700000001, 127.1
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise _invalid("The host is an address in disguise. Write it as a name, or as four decimal numbers.") from error
    return host


def _invalid(message: str) -> InvalidRepoURL:
    return InvalidRepoURL(message, field="repo")


@dataclass(frozen=True)
class RepoPolicy:
    """The admin's lists.

    ``hosts``: a name (``github.com``), a pattern (``*.example.org``, ``*``), or an exact origin (``http://10.0.0.5:3000``), which alone
    allows plain HTTP and a port other than the scheme's. ``repos``: patterns over ``host/path``; empty allows every repository of the hosts.
    """

    hosts: tuple[str, ...]
    repos: tuple[str, ...] = ()

    def check(self, repo: RepoURL) -> None:
        """Raise RepoNotAllowed unless both lists hold this repository."""
        if not self._holds_host(repo):
            shown = repo.origin if repo.scheme == "http" or repo.port != _DEFAULT_PORT[repo.scheme] else repo.host
            raise RepoNotAllowed(
                f"Repositories on {shown} are not allowed on this hub. Allowed: {', '.join(self.hosts) or 'none'}. "
                "An administrator can add it to HubDock.allowed_hosts.",
                field="repo",
            )
        if self.repos and not any(fnmatch.fnmatchcase(repo.short, pattern) for pattern in self.repos):
            raise RepoNotAllowed(
                f"The repository {repo.short} is not in this hub's list. An administrator can add it to HubDock.allowed_repos.", field="repo"
            )

    def _holds_host(self, repo: RepoURL) -> bool:
        if repo.origin in self.hosts:
            return True
        if repo.scheme == "http" or repo.port != _DEFAULT_PORT[repo.scheme]:
            return False
        return any(fnmatch.fnmatchcase(repo.host, pattern) for pattern in self.hosts if "://" not in pattern)

    def trusts_address(self, repo: RepoURL) -> bool:
        """True if the admin wrote this very host down, so that a private address behind it is meant."""
        return repo.origin in self.hosts or repo.host in self.hosts


def make_policy(hosts: Sequence[str], repos: Sequence[str] = ()) -> RepoPolicy:
    """Return the policy of two lists of the configuration. Raises ConfigError for an entry that could never match."""
    for entry in hosts:
        bare = entry.partition("://")[2] if "://" in entry else entry
        if not bare or "/" in bare or any(c.isspace() for c in entry) or entry != entry.lower():
            raise ConfigError(
                f"HubDock.allowed_hosts: {entry!r} is neither a host (“github.com”), a pattern (“*.example.org”) nor an origin "
                "(“https://git.example.org:8443”) in lower case."
            )
        if "://" not in entry and ":" in entry:
            raise ConfigError(f"HubDock.allowed_hosts: write {entry!r} with its scheme, for example “https://{entry}”.")
    for entry in repos:
        if "://" in entry or entry.endswith(".git"):
            raise ConfigError(f"HubDock.allowed_repos: write {entry!r} as “host/path”, without scheme and “.git”; “*” matches anything.")
    return RepoPolicy(tuple(hosts), tuple(repos))


def is_private_address(address: str) -> bool:
    """True for addresses that a repository of the open internet never has: loopback, private, link-local (metadata), multicast, reserved.

    The same for IPv6 addresses that stand for such an IPv4 one (mapped, 6to4, Teredo, NAT64).
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        return any(is_private_address(str(inner)) for inner in _find_inner(ip)) or (ip.ipv4_mapped is None and (not ip.is_global or ip.is_multicast))
    return not ip.is_global or ip.is_multicast


def _find_inner(ip: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that a connection to an IPv6 one may end at."""
    found = [ip.ipv4_mapped, ip.sixtofour, ip.teredo[1] if ip.teredo else None]
    if any(ip in network for network in _EMBEDDING):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]
