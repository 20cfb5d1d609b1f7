"""Where on a cluster builds run, and where their images go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BuildPlace:
    """Where builds run, as the admin set it. ``registry`` is ``host[:port][/path]``, ``owner`` who this hubdock is among several, ``limit`` how many run at once.

    ``cache_volumes`` is how many cache volumes each scope has (0: none), ``cache_bytes`` the size of one. Programs that use the data
    store run where it is, in ``data_namespace``, which is the servers'.
    """

    namespace: str
    registry: str
    image: str
    owner: str
    limit: int = 4
    insecure: tuple[str, ...] = ()
    registry_secret: str = ""
    cache_volumes: int = 0
    cache_bytes: int = 0
    storage_class: str = ""
    data_namespace: str = "default"
    data_size: str = "100Gi"
    data_class: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The registry's ``host[:port]``."""
        return self.registry.partition("/")[0]

    def find_repository(self, name: str) -> str:
        """Return the path of one of hubdock's repositories, without the host."""
        path = self.registry.partition("/")[2]
        return f"{path}/{name}" if path else name
