"""The admin's settings for builds on a cluster, which are settings of `HubDock` too: ``c.HubDock.kube_…``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from traitlets import Dict, Enum, Int, List, Unicode
from traitlets.config import Configurable

from hubdock.core.errors import ConfigError
from hubdock.core.resources import parse_bytes
from hubdock.engine.backend import DOCKER

DEFAULT_BUILDKIT = "docker.io/moby/buildkit:v0.34.2-rootless"
_REGISTRY = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._/-][a-z0-9]+)*)?")


class KubeSettings(Configurable):
    """Settings of the back-end."""

    backend = Enum(
        ["docker", "kubernetes"],
        "docker",
        help="""Where images are made and kept: ``docker``, the Docker Engine of this machine, or ``kubernetes``, Jobs of a cluster and a registry.
        Default: docker.""",
    ).tag(config=True)
    registry = Unicode(
        "", help="""Registry of the images that are made on Kubernetes, ``host[:port][/path]``: ``registry.example.org/team``. Needed there; no default."""
    ).tag(config=True)
    registry_config = Unicode(
        "",
        help="""File with hubdock's credentials for registries, as docker writes them (``config.json``) and a Secret of type dockerconfigjson holds
        them. Default: none.""",
    ).tag(config=True)
    insecure_registries = List(
        Unicode(), help="""Registries (``host:port``) that are asked by plain HTTP, by hubdock and by builds on Kubernetes. Default: none."""
    ).tag(config=True)
    kube_namespace = Unicode(
        "hubdock-builds", help="""Namespace of the Jobs that build, and of nothing else: its pod security standard is *privileged*. Default: hubdock-builds."""
    ).tag(config=True)
    kube_registry_secret = Unicode(
        "", help="""Secret of type dockerconfigjson in `kube_namespace` with which builds pull and push. Default: none."""
    ).tag(config=True)
    kube_buildkit_image = Unicode(
        DEFAULT_BUILDKIT, help=f"""Image of BuildKit in rootless mode, 0.28.1 or newer. Default: {DEFAULT_BUILDKIT}."""
    ).tag(config=True)
    kube_cache_volumes = Int(
        2, min=0, help="""How many cache volumes the builds of one scope have: as many run at once on them. 0: none, and nothing is kept. Default: 2."""
    ).tag(config=True)
    kube_cache_size = Unicode("20G", help="""Size of a cache volume. Default: 20G.""").tag(config=True)
    kube_cache_class = Unicode("", help="""Storage class of cache volumes: local disks are best. Default: the cluster's own default.""").tag(config=True)
    kube_build_resources = Dict(
        {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "8Gi"}},
        help="""Requests and limits of a build's container, as a pod has them. Default: 1 CPU and 2Gi requested, 8Gi at most.""",
    ).tag(config=True)
    kube_build_pod = Dict(
        help="""Further fields of the pods of builds: ``{"nodeSelector": {"disk": "ssd"}, "tolerations": […]}``. Default: none."""
    ).tag(config=True)
    kube_data_namespace = Unicode(
        "default", help="""Namespace of the servers, where the claim of the data store is, and the programs that write to it. Default: default."""
    ).tag(config=True)
    kube_data_size = Unicode("100G", help="""Size of the data store's volume, which any number of nodes must be able to mount. Default: 100G.""").tag(config=True)
    kube_data_class = Unicode("", help="""Storage class of the data store. Default: the cluster's own default.""").tag(config=True)

    def make_backend_values(self, owner: str, limit: int, certificates: str) -> Mapping[str, Any]:
        """Return what `hubdock.engine.backend.open_backend` takes, in this process and in a worker's."""
        if self.backend == "docker":
            return DOCKER
        return {
            "name": "kubernetes", "namespace": self.kube_namespace, "registry": self.registry, "image": self.kube_buildkit_image, "owner": owner,
            "limit": limit, "insecure_registries": list(self.insecure_registries), "spool": "", "registry_secret": self.kube_registry_secret, "registry_config": self.registry_config,
            "certificates": certificates, "cache_volumes": self.kube_cache_volumes,
            "cache_bytes": parse_bytes(self.kube_cache_size, "kube_cache_size") or 0, "storage_class": self.kube_cache_class,
            "resources": dict(self.kube_build_resources), "pod": dict(self.kube_build_pod), "data_namespace": self.kube_data_namespace,
            "data_size": str(parse_bytes(self.kube_data_size, "kube_data_size") or 0), "data_class": self.kube_data_class,
        }  # fmt: skip

    def check_kube(self) -> None:
        """Raise ConfigError for what can't work."""
        if self.backend == "docker":
            return
        if not _REGISTRY.fullmatch(self.registry):
            raise ConfigError("HubDock.registry must name a registry, host[:port][/path] in lower case, where HubDock.backend is “kubernetes”.")
        for size in (self.kube_cache_size, self.kube_data_size):
            parse_bytes(size, "size")
