"""What hubdock stands on, checked one by one, each with how to mend it: ``hubdock doctor``."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from traitlets.config import Config

from hubdock.core.errors import BackendError, BuilderUnavailable, ConfigError, HubDockError
from hubdock.core.resources import format_bytes
from hubdock.core.text import make_tail
from hubdock.drivers import docker, process
from hubdock.engine.config import HubDock, load_config, make_settings

GIB = 1024**3
ENGINE, API, BUILDX, GIT = (26, 0), (1, 45), (0, 13), (2, 37)
_NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "gpfs", "afs", "fuse.sshfs", "fuse.s3fs", "fuse.glusterfs"}
_REGISTRY_TIMEOUT = 20.0


@dataclass(frozen=True)
class Check:
    """One finding: ``status`` is ``ok``, ``warn`` or ``fail``; ``mend`` says what to do, empty for ok."""

    name: str
    status: str
    message: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def diagnose(config: Path | None, state_dir: Path | None) -> Iterator[Check]:
    """Yield every check of this machine as it is made. None raises; where the configuration is wrong, the rest is checked with the defaults."""
    try:
        settings = make_settings(_with_state(load_config(str(config) if config else None), state_dir))
        yield Check("configuration", "ok", f"{config or 'the defaults'}; repositories from {', '.join(settings.allowed_hosts)}")
    except ConfigError as error:
        yield Check("configuration", "fail", error.message, f"Correct {config}." if config else "")
        settings = make_settings(_with_state(Config(), state_dir))
    yield from find_checks(settings, settings.gpu_limit > 0)


def _with_state(loaded: Config, state_dir: Path | None) -> Config:
    if state_dir is not None:
        loaded.HubDock.state_dir = str(state_dir.absolute())
    return loaded


def find_checks(settings: HubDock, offers_gpu: bool) -> Iterator[Check]:
    """Yield the checks of what some settings name."""
    engine: list[tuple[str, Callable[[], Iterator[Check]]]] = [("docker engine", check_engine), ("buildx", check_buildx)]
    last: list[tuple[str, Callable[[], Iterator[Check]]]] = [("base image", lambda: check_bases(settings, offers_gpu))]
    if settings.backend == "kubernetes":
        from hubdock.doctor_kube import list_steps

        engine, last = [], list_steps(settings, offers_gpu)
    steps = [
        *engine, ("git", check_git), ("uv", check_uv), ("state directory", lambda: check_state(settings)), ("disk", lambda: check_disks(settings)),
        ("certificates", lambda: check_certificates(settings)), *last,
    ]  # fmt: skip
    for name, step in steps:
        try:
            yield from step()
        except HubDockError as error:
            yield Check(name, "fail", error.message, "Mend the Docker Engine first." if engine and isinstance(error, BackendError) and name != "docker engine" else "")
        except OSError as error:
            yield Check(name, "fail", f"it can't be looked at: {error}")


def parse_version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version in some text: ``v0.13.1+ds1`` is (0, 13). Empty if there is none."""
    found = re.search(r"(?<![\w.])v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else ()


def _ask(argv: list[str], timeout: float = 15.0) -> tuple[int, str]:
    """Return (exit code, output) of a program; 127 if it is not installed, 124 if it does not answer."""
    try:
        output = process.run(argv, env=dict(os.environ), timeout=timeout)
    except FileNotFoundError:
        return 127, f"{argv[0]} is not installed"
    except process.DeadlineExceeded:
        return 124, f"no answer within {timeout:g} s"
    return output.code, make_tail((output.stdout + b"\n" + output.stderr).decode("utf-8", "replace"), 3)


# --- programs ---


def check_engine() -> Iterator[Check]:
    """The Docker Engine: version, storage driver, control groups."""
    name = "docker engine"
    try:
        found = docker.describe_engine()
    except BuilderUnavailable as error:
        mend = "Start it (`systemctl start docker`), let this user reach its socket (group docker), or set DOCKER_HOST."
        yield Check(name, "fail", f"no engine answers at {os.environ.get('DOCKER_HOST', 'its usual socket')}: {make_tail(error.detail, 1)[:200]}", mend)
        return
    version, api, driver = str(found.get("Version")), str(found.get("ApiVersion")), str(found.get("Driver"))
    message = f"{version}, API {api}, storage {driver}, control groups v{found.get('CgroupVersion')} ({found.get('CgroupDriver')})"
    if parse_version(version) < ENGINE or parse_version(api) < API:
        yield Check(name, "fail", f"{message}; hubdock needs 26 with API 1.45 (parts of volumes as mounts)", "Install Docker Engine 26 or newer.")
        return
    yield Check(name, "ok", message)
    if driver == "vfs":
        yield Check(name, "warn", "the storage driver vfs copies every layer whole", 'Set "storage-driver": "overlay2" in /etc/docker/daemon.json.')
    if found.get("LiveRestoreEnabled") is False:
        yield Check(name, "warn", "a restart of this engine ends every running server", 'Set "live-restore": true in /etc/docker/daemon.json, then `systemctl reload docker`.')
    lacking = [what for key, what in (("MemoryLimit", "memory"), ("CpuCfsQuota", "CPU"), ("PidsLimit", "processes")) if found.get(key) is False]
    if lacking:
        mend = "Let the engine manage control groups (rootless: delegate them to its user)."
        yield Check(name, "warn", f"limits of {', '.join(lacking)} are not applied here", mend)


def check_buildx() -> Iterator[Check]:
    """The docker command with its BuildKit client."""
    code, text = _ask(["docker", "buildx", "version"])
    mend = "Install the docker command and its plugin buildx 0.13 or newer (package docker-buildx-plugin, in Debian docker-buildx)."
    yield _check_version("buildx", code, text, BUILDX, mend)


def check_git() -> Iterator[Check]:
    """git, with name resolution that can be pinned."""
    yield _check_version("git", *_ask(["git", "--version"]), GIT, "Install git 2.37 or newer.")


def check_uv() -> Iterator[Check]:
    """The installer that came with hubdock."""
    from hubdock.engine.assembly import find_installer

    mend = "Install hubdock again: `pip install --force-reinstall uv`."
    try:
        path = find_installer()[1]
    except FileNotFoundError:
        yield Check("uv", "fail", "it is not where hubdock was installed", mend)
        return
    yield _check_version("uv", *_ask([path, "--version"]), (0, 8), mend)


def _check_version(name: str, code: int, text: str, least: tuple[int, int], mend: str) -> Check:
    version, wanted = parse_version(text), f"{least[0]}.{least[1]}"
    if code or not version:
        return Check(name, "fail", text.splitlines()[-1] if text else f"exit code {code}", mend)
    if version < least:
        return Check(name, "fail", f"{text.splitlines()[0]}; hubdock needs {wanted} or newer", mend)
    return Check(name, "ok", text.splitlines()[0])


# --- places ---


def _find_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def check_state(settings: HubDock) -> Iterator[Check]:
    """The state directory: writable, on a disk of this machine, with a database that opens."""
    path, name = Path(settings.state_dir), "state directory"
    place = _find_existing(path)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Check(name, "fail", f"{place} can't be written to: {error.strerror}", "Change its owner, or choose another with HubDock.state_dir.")
        return
    kind = find_filesystem(place)
    if kind in _NETWORKED:
        mend = "Choose a local directory with HubDock.state_dir: locks and the database need one."
        yield Check(name, "fail", f"{path} is on a network file system ({kind})", mend)
    elif kind == "tmpfs":
        yield Check(name, "warn", f"{path} is in memory and gone after a restart", "Choose a directory on a disk with HubDock.state_dir.")
    else:
        yield Check(name, "ok", f"{path}, writable, on {kind or 'a local disk'}")
    if settings.db_url or (path / "hubdock.sqlite").exists():
        yield _check_database(settings)


def _check_database(settings: HubDock) -> Check:
    from hubdock.engine.database import Database

    try:
        Database(settings.database_url).list_builds(1)
    except HubDockError:
        return Check("database", "fail", "it does not open", "Check HubDock.db_url; an SQLite file that is damaged can be moved away: builds are then only not remembered.")
    return Check("database", "ok", "it opens")


def find_filesystem(path: Path) -> str:
    """Return the kind of file system that holds a path (proc(5), mountinfo), empty if that is not known."""
    best, kind = -1, ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    real = str(path.resolve())
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split(" ")[4].replace("\\040", " ")
        if len(mount) >= best and (real == mount or real.startswith(mount.rstrip("/") + "/")):
            best, kind = len(mount), after.split(" ")[0]
    return kind


def check_disks(settings: HubDock) -> Iterator[Check]:
    """Free space where the state is, and where the engine keeps images."""
    places = {"disk of the state directory": _find_existing(Path(settings.state_dir))}
    if settings.backend == "docker" and os.environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
        root = Path(str(docker.describe_engine().get("DockerRootDir") or "/var/lib/docker"))
        if root.exists():
            places["disk of the Docker Engine"] = root
    for name, place in places.items():
        yield judge_space(name, str(place), shutil.disk_usage(place).free)


def judge_space(name: str, place: str, free: int) -> Check:
    """Return the check of a disk with so many free bytes."""
    message = f"{format_bytes(free)} free at {place}"
    mend = "Free space: `hubdock gc`, `docker image prune`, or a larger disk."
    if free < GIB:
        return Check(name, "fail", f"{message}; builds need more than 1 GiB", mend)
    return Check(name, "warn", f"{message}; a new environment takes several GiB", mend) if free < 10 * GIB else Check(name, "ok", message)


def check_certificates(settings: HubDock) -> Iterator[Check]:
    """The file of further certificate authorities."""
    name, path = "certificates", settings.extra_ca_certificates
    if not path:
        yield Check(name, "ok", "none beside the usual ones")
        return
    mend = "Set HubDock.extra_ca_certificates to a PEM file of certificate authorities."
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
        found = context.get_ca_certs()
    except (OSError, ssl.SSLError) as error:
        yield Check(name, "fail", f"{path} can't be read as certificates: {error}", mend)
        return
    ended = [str(cert.get("subject")) for cert in found if ssl.cert_time_to_seconds(str(cert["notAfter"])) < time.time()]
    if not found or ended:
        yield Check(name, "warn", f"{path} holds {len(found)} authorities, {len(ended)} of them expired", mend)
    else:
        yield Check(name, "ok", f"{path} holds {len(found)} {'authority' if len(found) == 1 else 'authorities'}")


# --- base images ---


def check_bases(settings: HubDock, offers_gpu: bool) -> Iterator[Check]:
    """Each base image: here and as hubdock needs it, or to be had from its registry. Only the default one must be."""
    from hubdock.doctor_base import check_contract

    named = [("base image", settings.base_image, "fail")]
    named += [("base image for GPUs", settings.gpu_base_image, "warn")] if offers_gpu and settings.gpu_base_image else []
    named += [(f"base image {name}", reference, "warn") for name, reference in sorted(settings.base_images.items())]
    for name, reference, severity in named:
        if docker.inspect_image(reference) is not None:
            yield from check_contract(name, reference)
        else:
            yield _check_registry(name, reference, severity)


def _check_registry(name: str, reference: str, severity: str) -> Check:
    code, text = _ask(["docker", "buildx", "imagetools", "inspect", reference], _REGISTRY_TIMEOUT)
    if code == 0:
        return Check(name, "ok", f"{reference} is not here yet; its registry has it")
    mend = "Check the name and the network, set HubDock.base_image, or build one with config/base-image/make-base where no registry can be reached."
    reason = text.splitlines()[-1].removeprefix("ERROR: ")[:200] if text else f"exit code {code}"
    return Check(name, severity, f"{reference} is not here, and its registry can't be asked: {reason}", mend)
