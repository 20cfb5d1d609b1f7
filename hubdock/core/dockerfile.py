"""The Dockerfiles that hubdock generates. A repository's own Dockerfile or frontend is never run.

Each is a pure function of its arguments. ``FROM`` names a local tag per key, for ``FROM sha256:…`` makes BuildKit ask a registry. The build
context is a tar on stdin, never a directory that was used before: BuildKit compares only size and time of files there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

UID, GID = 1000, 100
CONDA_PYTHON = "/opt/conda/bin/python"
ROOT = "/hubdock"
CODE = f"{ROOT}/code"
HOME_SEED = f"{ROOT}/home"
DATA = f"{ROOT}/data"
START = [CONDA_PYTHON, "-I", "-S", f"{ROOT}/guest/start.py"]
DVC = "/opt/dvc"
_TOOLS = "/tmp/hubdock/tools"  # noqa: S108 (a mount point inside a build)
_PROJECT = "/tmp/hubdock/project"  # noqa: S108
_SETTINGS = "/tmp/hubdock/settings"  # noqa: S108
_CACHE = "/tmp/hubdock/cache"  # noqa: S108
_BYTECODE = "/tmp/hubdock/bytecode"  # noqa: S108
_TRIED = "/tmp/hubdock-tried"  # noqa: S108
_PINS = "/tmp/hubdock-pins"  # noqa: S108
_FETCHED = "/tmp/hubdock-data"  # noqa: S108
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE")


def quote(text: str) -> str:
    """Return a value as a double-quoted word of a Dockerfile, with nothing expanded. Raises ValueError for control characters."""
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError("a Dockerfile's word can't hold a control character")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def make_pairs(instruction: str, pairs: Mapping[str, str]) -> list[str]:
    """Return one ``ENV`` or ``LABEL`` line for each pair, sorted by name."""
    return [f"{instruction} {name}={quote(value)}" for name, value in sorted(pairs.items())]


def render_base(reference: str, *, user: str, dvc: Sequence[str], apt: Sequence[str], certificates: bool, labels: Mapping[str, str]) -> str:
    """Return what makes a team's base of an image: certificates, missing tools, and DVC in an environment of its own.

    ``dvc`` are the requirements to install into ``/opt/dvc``, empty if the image has it; ``apt`` the missing Debian packages.
    """
    lines = [f"FROM {reference}", "USER 0:0"]
    if certificates:
        lines += [
            "RUN --mount=type=bind,source=certificates.pem,target=/tmp/certificates.pem"
            f" mkdir -p /etc/ssl/certs && {{ cat {CERTIFICATES} 2>/dev/null; echo; cat /tmp/certificates.pem; }} >/tmp/all.pem"
            f" && rm -f {CERTIFICATES} && install -m 644 /tmp/all.pem {CERTIFICATES} && rm /tmp/all.pem",
            *make_pairs("ENV", {name: CERTIFICATES for name in _CA_VARIABLES}),
        ]
    lines += _apt(apt)
    if dvc:
        lines += [f"RUN install -d -o {UID} -g {GID} {DVC} && ln -s {DVC}/bin/dvc /usr/local/bin/dvc", f"USER {UID}:{GID}", _run("dvc", ["hubdock-wheels"], shared=True)]
    lines += make_pairs("LABEL", labels)
    return "\n".join([*lines, f"USER {user}", ""])


def render_environment(
    base: str,
    *,
    user: str,
    workdir: str,
    apt: Sequence[str],
    install: bool,
    from_source: bool,
    cache: str,
    private_cache: str,
    secrets: Sequence[str],
    project: str = "",
    smoke: bool = False,
    env: Mapping[str, str],
    labels: Mapping[str, str],
) -> str:
    """Return what makes an environment.

    ``install`` is False for a repository without requirements. ``from_source`` False: wheels only, in one step that runs no package code, from
    the shared cache. True: resolve in a stage of its own, install the wheels from the shared cache before any package code has run, and build
    the rest with a cache of this environment alone (a ``setup.py`` can poison a shared one). ``secrets`` are ids of build secrets, which
    no step that runs package code ever sees. ``project`` is where the requirements are while packages are built: the workspace, so that an
    editable install points to what the user will edit. ``workdir`` is empty where the base has one: the step would make an empty layer, and BuildKit
    would unpack the whole base for it even if there is nothing to install.
    """
    lines = [f"FROM {base} AS system", "USER 0:0", *_apt(apt), f"USER {UID}:{GID}"]
    lines += ["FROM system AS resolve", _run("resolve", [private_cache], project=project)] if install and from_source else []
    lines += ["FROM system AS packages"]
    if install and from_source:
        lines += [_run("pinned", [cache], secrets, pins=True, shared=True), _run("source", [private_cache], project=project)]
    elif install:
        lines += [_run("wheels", [cache], secrets, shared=True)]
    lines += make_pairs("ENV", env)
    if smoke:
        lines += ["FROM packages AS tried", _run_smoke()]
    lines += ["FROM packages"]
    if smoke:
        lines += [f"COPY --from=tried {_TRIED} {ROOT}/tried"]  # there is no image if the trial fails
    lines += make_pairs("LABEL", labels)
    lines += [f"USER {user}", *([f"WORKDIR {quote(workdir)}"] if workdir else [])]
    return "\n".join([*lines, ""])


def _run_smoke() -> str:
    """Return the step that tries Jupyter and a kernel: without a network, in a stage of its own whose files are thrown away."""
    return f"RUN --network=none --mount=type=bind,from=tools,target={_TOOLS} {CONDA_PYTHON} {_TOOLS}/smoke.py && touch {_TRIED}"


def render_image(environment: str, *, workspace: str, labels: Mapping[str, str]) -> str:
    """Return what puts the guest programs and the code on an environment: two layers that no earlier step can reach (``COPY --link``)."""
    return "\n".join(
        [
            f"FROM {environment}",
            "COPY --link --chown=0:0 guest/ /",
            f"COPY --link --chown={UID}:{GID} root/ /",
            *make_pairs("LABEL", labels),
            f"WORKDIR {quote(workspace)}",
            f"CMD {json.dumps(START)}",
            "",
        ]
    )


def render_data(base: str, *, key: str, target: str, cache: str, labels: Mapping[str, str]) -> str:
    """Return what makes an image of nothing but the data of one key, as a view of the store is, in ``target``.

    What to fetch, and with which credentials, is a build secret (``request``), which no layer and no history has; so the key stands in the step itself, or
    another key's data would be taken from BuildKit's cache. The pool is a cache mount: what newer data shares with older is not fetched again.
    """
    view = f"/store/views/{key}"
    mounts = f"--mount=type=bind,source=fetch,target={_TOOLS} --mount=type=cache,id={cache},target=/store,uid={UID},gid={GID} --mount=type=secret,id=request,uid={UID}"
    fetch = f"AWS_EC2_METADATA_DISABLED=true {DVC}/bin/python -I {_TOOLS}/fetch.py /run/secrets/request"
    lines = [f"FROM {base} AS fetched", f"USER {UID}:{GID}", f"RUN {mounts} {fetch} && cp -r {view} {_FETCHED} && rm -rf {view}"]
    lines += ["FROM scratch", f"COPY --from=fetched --chown=0:0 {_FETCHED} {target}/", *make_pairs("LABEL", labels)]
    return "\n".join([*lines, ""])


def use_named_context(dockerfile: str, name: str) -> str:
    """Return a Dockerfile whose main context is a named one: where that is an image, nothing is ever compared by size and time."""
    lines = dockerfile.split("\n")
    return "\n".join(line.replace("type=bind,source=", f"type=bind,from={name},source=") if line.startswith("RUN --mount=") else line for line in lines)


def _apt(packages: Sequence[str]) -> list[str]:
    """Return the step that installs Debian packages; their lists and archives stay in caches, so that layers hold only files in use."""
    if not packages:
        return []
    mounts = "--mount=type=cache,id=hubdock-apt,target=/var/cache/apt,sharing=locked --mount=type=cache,id=hubdock-apt-lists,target=/var/lib/apt/lists,sharing=locked"
    words = " ".join(packages)
    return [
        f"RUN {mounts} rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update -qq"
        f" && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {words}"
    ]


def _run(step: str, caches: Sequence[str], secrets: Sequence[str] = (), pins: bool = False, project: str = "", shared: bool = False) -> str:
    """Return one step of guest/install.py with its mounts. ``python -I``: nothing of the project is imported.

    A ``project`` of its own may be written to, as build backends do; what they write is thrown away.
    """
    place = f"type=bind,source=project,target={project},rw" if project else f"type=bind,source=project,target={_PROJECT}"
    mounts = [f"type=bind,from=tools,target={_TOOLS}", f"type=bind,source=settings,target={_SETTINGS}", place]
    mounts += [f"type=cache,id={cache},target={_CACHE},uid={UID},gid={GID}" for cache in caches]
    mounts += [f"type=cache,id=hubdock-bytecode,target={_BYTECODE},uid={UID},gid={GID}"] if shared else []
    mounts += [f"type=secret,id={secret},uid={UID}" for secret in secrets]
    mounts += [f"type=bind,from=resolve,source={_PINS},target={_PINS}"] if pins else []
    words = " ".join(f"--mount={mount}" for mount in mounts)
    return f"RUN {words} {CONDA_PYTHON} -I {_TOOLS}/install.py {step} {project or _PROJECT}"
