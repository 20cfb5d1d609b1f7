"""The output of one pod, read in a thread while it is written, each line once however often the connection is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from hubdock.core.errors import BackendError
from hubdock.drivers.kube import Cluster

_PAUSE = 0.5
_LAST_WORDS = 10.0


class PodLog(threading.Thread):
    """Reads a container's output. Its lines carry the kubelet's own times, by which those that were read are known again."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, container: str, feed: Callable[[bytes], None]) -> None:
        super().__init__(daemon=True)
        self.pod = pod
        self._cluster, self._namespace, self._container, self._feed = cluster, namespace, container, feed
        self._over = threading.Event()
        self._last = ""

    def run(self) -> None:
        """Read until the container has ended and all is read."""
        while True:
            over = self._over.is_set()  # asked before: once the end was said, what is left is read
            with suppress(BackendError):
                self._read()
            if over:
                return
            self._over.wait(_PAUSE)

    def _read(self) -> None:
        seen = self._last
        for stamp, line in self._cluster.stream_log(self._namespace, self.pod, self._container, self._last):
            if stamp > seen:
                self._last = stamp
                self._feed(f"{line}\n".encode())

    def finish(self) -> None:
        """The container has ended: read what there is, and return."""
        self._over.set()
        self.join(_LAST_WORDS)
