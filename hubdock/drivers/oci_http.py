"""Requests to one registry: quick to fail, with the credential for exactly its origin, and with every failure told apart from “missing”."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import httpx

from hubdock.core.errors import ImageGone, RegistryUnavailable
from hubdock.core.reference import DOCKER_HUB
from hubdock.drivers.oci_auth import Answer, Authorizer, Logins

CONNECT, ANSWER, TRANSFER = 3.0, 10.0, 300.0  # seconds: to connect, to say something, and to say it once a blob was sent
LONGEST = 8 * 1024 * 1024  # bytes of an answer that is no blob
_PAUSE = 0.2
_MAX_REDIRECTS = 5
_BUSY = {429, 500, 502, 503, 504}
_MISSING = {"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND"}
_NONE: frozenset[str] = frozenset()

Content = Callable[[], bytes | Iterator[bytes]]
"""Makes the body of a request; called again if the request has to be sent again."""


class Connection:
    """One registry. It may be used by several threads; `close` it in the end.

    ``insecure``: the hosts (``host:port``) that are asked by plain HTTP. ``certificates``: a PEM file of authorities to trust beside the system's.
    Proxies are those of hubdock's environment.
    """

    def __init__(self, host: str, logins: Logins, insecure: Collection[str] = (), certificates: str = "") -> None:
        self.host = host
        address = "registry-1.docker.io" if host == DOCKER_HUB else host
        self.origin = f"{'http' if host in insecure else 'https'}://{address}"
        trusted = ssl.create_default_context()
        if certificates:
            trusted.load_verify_locations(certificates)
        self._http = httpx.Client(verify=trusted, timeout=httpx.Timeout(ANSWER, connect=CONNECT))
        self._authorizer = Authorizer(self.origin, logins, lambda url, headers: self._exchange("GET", url, _NONE, headers))

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def request(
        self, method: str, url: str, scopes: frozenset[str], accept: Collection[int], *, headers: Mapping[str, str] | None = None, content: Content | None = None
    ) -> Answer:
        """Return a whole answer with one of the accepted states. ``url`` is a path, or where the registry sent us.

        An accepted 404 means missing, in the registry's own words: what stands before a registry that is away says 404 too. Raises
        RegistryUnavailable for everything else. What asks only is asked twice at most, a moment apart.
        """
        url = self.settle(url)
        answer = self._exchange(method, url, scopes, headers or {}, content)
        if answer.status in _BUSY and method in {"GET", "HEAD"}:
            time.sleep(_PAUSE)
            answer = self._exchange(method, url, scopes, headers or {}, content)
        if answer.status not in accept or (answer.status == 404 and not self._says_missing(method, url, scopes, headers or {}, answer)):
            raise self._make_error(method, url, answer)
        return answer

    @contextmanager
    def stream(self, path: str, scopes: frozenset[str]) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of a blob, from wherever the registry keeps it: storage hosts never see the credential. Raises ImageGone if
        the registry says that it is missing, RegistryUnavailable."""
        url = self.settle(path)
        for _ in range(_MAX_REDIRECTS):
            with self._sent("GET", url, scopes, {}, None) as response:
                if response.has_redirect_location:
                    url = self.settle(response.headers["location"], url)
                    continue
                if response.status_code != 200:
                    answer = self._read(response)
                    if answer.status == 404 and self._says_missing("GET", url, scopes, {}, answer):
                        raise make_part_gone(f"{strip_query(url)}: {answer.text}")
                    raise self._make_error("GET", url, answer)
                with self._translated("GET", url):
                    yield response.iter_raw(1 << 20)
                return
        raise RegistryUnavailable(f"The registry {self.host} sends us from one address to the next. An administrator has to look at it.", url)

    def _exchange(self, method: str, url: str, scopes: frozenset[str], headers: Mapping[str, str], content: Content | None = None) -> Answer:
        with self._sent(method, url, scopes, headers, content) as response:
            return self._read(response)

    @contextmanager
    def _sent(self, method: str, url: str, scopes: frozenset[str], headers: Mapping[str, str], content: Content | None) -> Iterator[httpx.Response]:
        """Yield an open answer. The credential goes to the registry's own origin alone, and a challenge of that origin is answered once."""
        own = urlsplit(url)[:2] == urlsplit(self.origin)[:2] and bool(scopes)
        response = self._send(method, url, {**headers, **(self._authorizer.make_headers(scopes) if own else {})}, content)
        if own and response.status_code == 401:
            self._read(response)
            response.close()
            self._authorizer.learn(response.headers.get("www-authenticate", ""), scopes)
            response = self._send(method, url, {**headers, **self._authorizer.make_headers(scopes)}, content)
        try:
            yield response
        finally:
            response.close()

    def _send(self, method: str, url: str, headers: Mapping[str, str], content: Content | None) -> httpx.Response:
        """Send one request, once more if the connection was one that had been ended meanwhile."""
        wait = httpx.Timeout(TRANSFER if content else ANSWER, connect=CONNECT)
        with self._translated(method, url):
            for last in (False, True):
                request = self._http.build_request(method, url, headers=headers, content=content() if content else None, timeout=wait)
                try:
                    return self._http.send(request, stream=True)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    if last or method == "PATCH":
                        raise
        raise AssertionError("unreachable")

    def _read(self, response: httpx.Response) -> Answer:
        """Return the whole of an answer that is no blob."""
        url, content = str(response.request.url), bytearray()
        with self._translated(response.request.method, url):
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > LONGEST:
                    raise httpx.ReadError("the answer is too long")
        return Answer(response.status_code, response.headers, bytes(content), url)

    @contextmanager
    def _translated(self, method: str, url: str) -> Iterator[None]:
        try:
            yield
        except httpx.InvalidURL as error:
            raise RegistryUnavailable(f"The registry {self.host} answers with an address that is none. An administrator has to look at it.", str(error)) from error
        except httpx.HTTPError as error:
            told = f"The registry {self.host} does not answer. What was made before is not lost; try again in a moment."
            raise RegistryUnavailable(told, f"{method} {strip_query(url)}: {type(error).__name__} {error}") from error

    def settle(self, url: str, base: str = "") -> str:
        """Return the whole address of a path or of where the registry sent us: on its own host always by its own scheme, elsewhere never less safe."""
        ours = urlsplit(self.origin)
        unsafe = f"The registry {self.host} sends us to an address that is not safe. An administrator has to look at it."
        try:
            found = urlsplit(urljoin(base or f"{self.origin}/", url))
            if found.netloc == ours.netloc:
                found = found._replace(scheme=ours.scheme)
            if found.scheme in {"https", ours.scheme} and found.hostname and found.username is None:
                return found.geturl()
        except ValueError as error:
            raise RegistryUnavailable(unsafe, strip_query(url)) from error
        raise RegistryUnavailable(unsafe, strip_query(found.geturl()))

    def _says_missing(self, method: str, url: str, scopes: frozenset[str], headers: Mapping[str, str], answer: Answer) -> bool:
        if "docker-distribution-api-version" in answer.headers:
            return True
        if method == "HEAD":  # no words come with it
            answer = self._exchange("GET", url, scopes, headers)
        return answer.status == 404 and bool(_MISSING & set(find_codes(answer.content)))

    def _make_error(self, method: str, url: str, answer: Answer) -> RegistryUnavailable:
        detail = f"{method} {strip_query(url)}: {answer.status} {answer.text}"
        if answer.status in {401, 403}:
            return self._authorizer.refuse(detail)
        return RegistryUnavailable(f"The registry {self.host} answers with an error ({answer.status}). Try again in a moment.", detail)


def make_part_gone(detail: str) -> ImageGone:
    """Return the error for a blob that is missing where a manifest names it."""
    return ImageGone("A part of the image was removed from the registry. Start again: it is made anew.", detail)


def strip_query(url: str) -> str:
    """Return an address without what storage hosts sign it with."""
    return url.partition("?")[0]


def find_codes(content: bytes) -> list[str]:
    """Return the codes of a registry's error (``{"errors": [{"code": "NAME_UNKNOWN", …}]}``), empty if it is none."""
    try:
        return [str(error["code"]) for error in json.loads(content)["errors"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
