"""A cluster's API server, through the official client: its configuration, certificates and credentials; objects are plain JSON, as the API has them.

"Not there" is an answer (None), and so is "there already". An API server that does not answer is BuilderUnavailable and never means "not there".
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode

from hubdock.core.errors import BackendError, BuilderUnavailable, ConfigError

CONNECT, ANSWER = 5.0, 30.0
MERGE = "application/merge-patch+json"
_PATHS = {
    "Job": "/apis/batch/v1/namespaces/{}/jobs", "Pod": "/api/v1/namespaces/{}/pods", "Secret": "/api/v1/namespaces/{}/secrets",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims", "Event": "/api/v1/namespaces/{}/events",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
}  # fmt: skip


class Conflict(Exception):
    """The object changed meanwhile, or there is one of that name."""


class Cluster:
    """The cluster that the environment names: the one that this process runs in, or the current context of ``KUBECONFIG``. For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._configuration: Any = None
        self._pool: Any = None

    def _connect(self) -> tuple[Any, Any]:
        """Return the client's configuration and its connections. Raises ConfigError where neither a cluster nor a kubeconfig is found."""
        with self._lock:
            if self._pool is None:
                self._configuration, self._pool = _open_client()
            return self._configuration, self._pool

    def _send(self, method: str, path: str, query: Mapping[str, Any], body: Any, content_type: str, timeout: float | None) -> Any:
        import urllib3

        configuration, pool = self._connect()
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "hubdock"}
        headers |= {entry["key"]: entry["value"] for entry in configuration.auth_settings().values() if entry["in"] == "header" and entry["value"]}
        url = f"{configuration.host}{path}{'?' + urlencode(query) if query else ''}"
        content = None if body is None else json.dumps(body)
        try:
            return pool.request(
                method, url, body=content, headers=headers, preload_content=False, retries=False, timeout=urllib3.Timeout(connect=CONNECT, read=timeout)
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise make_unavailable(str(error)) from error

    def request(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None, content_type: str = "application/json") -> dict[str, Any] | None:
        """Send a request and return the answer; None for what is not there. Raises Conflict, BackendError with the API server's words, BuilderUnavailable."""
        import urllib3

        try:
            with closing(self._send(method, path, query or {}, body, content_type, ANSWER)) as answer:
                status, content = int(answer.status), bytes(answer.data)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise make_unavailable(str(error)) from error
        if status < 300:
            values: dict[str, Any] = json.loads(content)
            return values
        if status == 404:
            return None
        text = _find_message(content)
        if status == 409:
            raise Conflict(text)
        if status in {401, 403, 422}:
            raise BackendError(f"The cluster refused a request: {text[:300]}", text)
        raise make_unavailable(f"{status}: {text}")

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None."""
        return self.request("GET", f"{_find_path(kind, namespace)}/{quote(name)}")

    def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind that fit the selectors."""
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        found = self.request("GET", _find_path(kind, namespace), query)
        return list((found or {}).get("items") or ())

    def create(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make an object and return it; None if there is one of its name."""
        path = _find_path(body["kind"], body["metadata"]["namespace"])
        try:
            made = self.request("POST", path, body=body)
        except Conflict:
            return None
        if made is None:
            raise BackendError(f"The cluster has no namespace {body['metadata']['namespace']}. An administrator has to make it.", path)
        return made

    def patch(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Merge values into an object and return it, or None. With a ``resourceVersion`` among them, Conflict if it changed meanwhile."""
        return self.request("PATCH", f"{_find_path(kind, namespace)}/{quote(name)}", body=body, content_type=MERGE)

    def delete(self, kind: str, namespace: str, name: str, *, grace: int | None = None, version: str = "", uid: str = "") -> bool:
        """Delete an object and what belongs to it; return whether there was one. Raises Conflict if it is not the one of ``version`` or ``uid`` any more."""
        preconditions = {field: value for field, value in (("resourceVersion", version), ("uid", uid)) if value}
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        body |= {"preconditions": preconditions} if preconditions else {}
        body |= {"gracePeriodSeconds": grace} if grace is not None else {}
        return self.request("DELETE", f"{_find_path(kind, namespace)}/{quote(name)}", body=body) is not None

    def stream_log(self, namespace: str, pod: str, container: str, since: str = "") -> Iterator[tuple[str, str]]:
        """Yield (time stamp, line) of a container's output until it ends, from a time stamp on (which then comes again). Raises BuilderUnavailable."""
        import urllib3

        query = {"container": container, "follow": "true", "timestamps": "true", **({"sinceTime": since} if since else {})}
        answer = self._send("GET", f"{_find_path('Pod', namespace)}/{quote(pod)}/log", query, None, "application/json", None)
        with closing(answer):
            if answer.status >= 300:
                return
            rest = b""
            try:
                for chunk in answer.stream(1 << 16, decode_content=False):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield _split_line(line)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise make_unavailable(str(error)) from error
            if rest:
                yield _split_line(rest)


def _open_client() -> tuple[Any, Any]:
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ConfigError("HubDock.backend is “kubernetes”, which needs the package of that name. Run `pip install 'hubdock[kubernetes]'`.") from error
    configuration = client.Configuration()
    inside = os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG")
    load: Any = config.load_incluster_config if inside else config.load_config
    try:
        load(client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ConfigError(f"No cluster is configured: hubdock runs outside of one, and KUBECONFIG names none. {error}") from error
    return configuration, client.ApiClient(configuration).rest_client.pool_manager


def _find_path(kind: str, namespace: str) -> str:
    return _PATHS[kind].format(quote(namespace))


def _find_message(content: bytes) -> str:
    """Return the words of a Status object (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/)."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content[:300].decode("utf-8", "replace")


def _split_line(line: bytes) -> tuple[str, str]:
    stamp, _, text = line.decode("utf-8", "replace").partition(" ")
    return stamp, text


def make_unavailable(detail: str) -> BuilderUnavailable:
    """Return the error for an API server that does not answer."""
    return BuilderUnavailable("The Kubernetes API server does not answer. Running servers are not affected; try again in a moment.", detail)
