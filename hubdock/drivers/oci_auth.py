"""Who hubdock is to a registry: the admin's credentials, bound to exact hosts, and the tokens that they buy.

Basic and bearer, as https://distribution.github.io/distribution/spec/auth/token/ has it. Files are read when they are needed, so that a password that changed,
as cloud registries' do, counts at once.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from hubdock.core.errors import ConfigError, RegistryUnavailable
from hubdock.core.reference import normalise_host
from hubdock.drivers.secrets import read_secret

_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_LIFE = 60.0  # seconds that a token lives which does not say so
_MARGIN = 10.0


@dataclass(frozen=True)
class Login:
    """A username and a password."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The header's value."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Logins:
    """The admin's credentials. ``entries`` are ``{"origin": "https://registry.example.org", "username": …, "password_file": …}``, ``docker_config`` the path of a
    ``config.json`` such as docker writes and a Secret of type ``kubernetes.io/dockerconfigjson`` holds. An entry goes before the file.
    """

    def __init__(self, entries: Sequence[Mapping[str, str]] = (), docker_config: str = "") -> None:
        self._entries = tuple(entries)
        self._docker_config = docker_config

    def find(self, origin: str) -> Login | None:
        """Return the login of exactly this origin (``https://host[:port]``), or None. Raises ConfigError for a file that can't be used."""
        for entry in self._entries:
            if entry["origin"] == origin:
                return Login(entry["username"], read_secret(entry["password_file"]))
        return self._find_in_file(origin) if self._docker_config else None

    def _find_in_file(self, origin: str) -> Login | None:
        wanted = normalise_host(urlsplit(origin).netloc)
        try:
            auths = json.loads(read_secret(self._docker_config))["auths"]
            found = next((auth for name, auth in auths.items() if _find_host(name) == wanted), None)
            if found is None:
                return None
            username, password = found.get("username", ""), found.get("password", "")
            if found.get("auth"):
                username, _, password = base64.b64decode(found["auth"], validate=True).decode().partition(":")
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise ConfigError(f"The registries' credentials in {self._docker_config} can't be read: it must be a docker config.json with “auths”.") from error
        if not username or not password:
            raise ConfigError(f"{self._docker_config} has no username and password for {wanted}: credential helpers and identity tokens can't be used.")
        return Login(username, password)


def _find_host(name: str) -> str:
    """Return the host of an entry of a config.json: ``host``, ``https://host`` or ``https://index.docker.io/v1/``."""
    return normalise_host(name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0])


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """Return (scheme in lower case, parameters) of a WWW-Authenticate header with one challenge (RFC 7235)."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain for name, quoted, plain in _PARAMETER.findall(rest)}


@dataclass(frozen=True)
class Answer:
    """A whole answer of a registry."""

    status: int
    headers: httpx.Headers
    content: bytes
    url: str

    @property
    def text(self) -> str:
        """The start of it, for a log."""
        return self.content[:300].decode("utf-8", "replace")


class Authorizer:
    """Answers one registry's challenges. It may be used by several threads."""

    def __init__(self, origin: str, logins: Logins, fetch: Callable[[str, dict[str, str]], Answer]) -> None:
        """``fetch(url, headers)`` asks a token service, and raises RegistryUnavailable if that does not answer."""
        self.origin, self.logins, self._fetch = origin, logins, fetch
        self._scheme = ""
        self._parameters: dict[str, str] = {}
        self._tokens: dict[frozenset[str], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def make_headers(self, scopes: frozenset[str]) -> dict[str, str]:
        """Return what the registry wants for these scopes (``repository:team/x:pull``), as far as it said so. May ask for a token."""
        if self._scheme == "basic":
            login = self.logins.find(self.origin)
            return {"Authorization": login.basic} if login else {}
        return {"Authorization": f"Bearer {self._ensure_token(scopes)}"} if self._scheme == "bearer" else {}

    def learn(self, challenge: str, scopes: frozenset[str]) -> None:
        """Take in the challenge of a 401: what is wanted, and that the token of these scopes is not. Raises RegistryUnavailable for what can't be answered."""
        scheme, parameters = parse_challenge(challenge)
        if scheme == "bearer":
            self._check_realm(parameters.get("realm", ""))
        elif scheme != "basic" or self.logins.find(self.origin) is None:
            raise self.refuse(f"it wants {scheme or 'nothing that it names'}, and there is no credential for {self.origin}")
        with self._lock:
            self._scheme, self._parameters = scheme, parameters
            self._tokens.pop(scopes, None)

    def refuse(self, detail: str) -> RegistryUnavailable:
        """Return the error for a registry that does not let us in."""
        host = urlsplit(self.origin).netloc
        return RegistryUnavailable(f"The registry {host} does not let hubdock in. An administrator has to check its credential and its rights there.", detail)

    def _check_realm(self, realm: str) -> None:
        """A credential goes to the token service that the registry names; never in plain text where the registry itself is not."""
        if not realm.startswith("https://") and not (realm.startswith("http://") and self.origin.startswith("http://")):
            raise self.refuse(f"it sends us for a token to {realm[:200]!r}")

    def _ensure_token(self, scopes: frozenset[str]) -> str:
        with self._lock:
            token, until = self._tokens.get(scopes, ("", 0.0))
            if time.monotonic() >= until:
                token, life = self._ask_token(scopes)
                self._tokens[scopes] = (token, time.monotonic() + max(life - _MARGIN, life / 2))
            return token

    def _ask_token(self, scopes: Iterable[str]) -> tuple[str, float]:
        login = self.logins.find(self.origin)
        query = [("service", self._parameters["service"])] if self._parameters.get("service") else []
        url = httpx.URL(self._parameters["realm"]).copy_merge_params([*query, *(("scope", scope) for scope in sorted(scopes))])
        answer = self._fetch(str(url), {"Authorization": login.basic} if login else {})
        if answer.status in {401, 403}:
            raise self.refuse(f"the token service answers {answer.status}: {answer.text}")
        try:
            values = json.loads(answer.content) if answer.status == 200 else {}
            return str(values.get("token") or values["access_token"]), float(values.get("expires_in") or _LIFE)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            host = urlsplit(self.origin).netloc
            detail = f"{answer.status}: {error}"
            raise RegistryUnavailable(f"The registry {host} can't be used: its token service answers with an error. Try again in a moment.", detail) from error
