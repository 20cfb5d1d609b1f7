"""A real container registry on a free port of this machine, and small images to put into it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import httpx

from tests.kit.hub import ROOT, find_base
from tests.kit.ports import find_port

_PROBED = {
    "python": "3.12.1", "packages": {"jupyterhub": "5.4.6", "jupyterlab": "4.4.0", "jupyter-server": "2.16", "ipykernel": "6.29"},
    "programs": ["start.sh", "tini", "jupyterhub-singleuser", "git", "git-lfs"], "uid": 1000, "gid": 100, "home": "/home/jovyan", "owner": 1000, "dvc": True,
}  # fmt: skip
_DOCKERFILE = """
FROM {base} AS all
USER 0:0
RUN mkdir /out && cp --parents -L $(for path in /bin/sh $(command -v cat) $(command -v mkdir) $(command -v install) $(command -v rm); do \
    echo $path; ldd $path | grep -o '/[^ ]*'; done | sort -u) /out && mkdir -p -m 1777 /out/tmp && install -d -o 1000 -g 100 /out/opt/conda/bin /out/home/jovyan
COPY --chmod=755 <<'PROBED' /out/opt/conda/bin/python
#!/bin/sh
echo 'hubdock {probed}'
PROBED
FROM scratch
COPY --from=all /out /
ENV PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/jovyan MARK={mark}
LABEL hubdock.test={label}
USER 1000:100
"""


def find_program() -> str | None:
    """Return Debian's docker-registry, which `make test` fetches."""
    local = ROOT / "build/registry/usr/bin/docker-registry"
    return str(local) if local.exists() else shutil.which("docker-registry")


def build_small_base(tag: str, mark: str, label: str, **probed: object) -> None:
    """Build an image of a few megabytes that says of itself what a base says that has everything (or ``probed``). ``mark`` makes it another."""
    dockerfile = _DOCKERFILE.format(base=find_base(), probed=json.dumps({**_PROBED, **probed}), mark=mark, label=label)
    command = ["docker", "buildx", "build", "--builder", "default", "--provenance=false", "--quiet", "--tag", tag, "-"]
    subprocess.run(command, input=dockerfile.encode(), check=True, capture_output=True)


def write_htpasswd(directory: Path) -> dict[str, object]:
    """Return the setting of a registry that wants ``team`` and ``only-for-tests``."""
    path = directory / "htpasswd"
    path.write_text("team:$2b$04$QEXXbfPXJh.u3ROhna4MzuU.CnXEur1HnwAFPfKPqTUVL7PhGynTO\n")
    return {"htpasswd": {"realm": "hubdock tests", "path": str(path)}}


class Registry:
    """One registry with its files in ``directory``, at an address that the Docker Engine trusts without TLS (127.0.0.0/8)."""

    def __init__(self, directory: Path, auth: dict[str, object] | None = None, delete: bool = True, tls: dict[str, object] | None = None) -> None:
        """``auth`` is the registry's own setting: ``{"htpasswd": …}`` (`write_htpasswd`) or ``{"token": …}`` (tests.kit.tokens); so is ``tls``."""
        self.host = f"127.0.0.1:{find_port()}"
        self.log = directory / "registry.log"
        self.files = directory / "registry"
        storage = {"filesystem": {"rootdirectory": str(self.files)}, "delete": {"enabled": delete}}
        config = {"version": 0.1, "storage": storage, "http": {"addr": self.host, **({"tls": tls} if tls else {})}, **({"auth": auth} if auth else {})}
        (directory / "registry.json").write_text(json.dumps(config))
        self.config = directory / "registry.json"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Registry:
        program = find_program()
        assert program
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([program, "serve", str(self.config)], stdout=log, stderr=log, start_new_session=True)
        for _ in range(100):
            try:
                if httpx.get(f"{self.url}/v2/", verify=False).status_code in {200, 401}:
                    return self
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    @property
    def asked(self) -> int:
        """How many requests were made for manifests and blobs so far."""
        return self.log.read_text(errors="replace").count("/manifests/") + self.log.read_text(errors="replace").count("/blobs/")
