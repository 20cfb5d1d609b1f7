"""A Docker Engine of the tests' own, which they may kill and fill up: its data lies in a small file with a file system in it, and no other engine notices."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import psutil

MIB = 1024 * 1024
LEFT_OUT = (
    "opt/conda/lib/python3*/site-packages/tensorflow*", "opt/conda/lib/python3*/site-packages/keras*", "opt/conda/lib/python3*/site-packages/clang*",
    "opt/conda/lib/python3*/site-packages/libclang*", "opt/conda/lib/python3*/site-packages/numpy*", "opt/conda/lib/python3*/site-packages/pandas*",
    "opt/conda/lib/python3*/site-packages/matplotlib", "opt/conda/lib/python3*/site-packages/matplotlib-*", "opt/conda/lib/python3*/site-packages/h5py*", "opt/conda/lib/python3*/site-packages/fontTools*",
    "opt/conda/lib/python3*/site-packages/grpc*", "opt/conda/lib/python3*/site-packages/PIL*", "opt/conda/lib/python3*/site-packages/pillow*",
    "opt/conda/lib/python3*/site-packages/debugpy*", "opt/conda/lib/python3*/site-packages/jedi/third_party", "opt/conda/lib/python3*/site-packages/babel/locale-data/[a-df-qs-z]*",
    "opt/conda/share/jupyterhub/static", "opt/dvc/lib/python3*/site-packages/botocore/data", "usr/lib/gcc", "usr/libexec/gcc", "usr/share/doc", "usr/share/locale", "usr/share/man", "usr/include", "var/lib/apt", "var/cache", "proc", "sys", "dev",
)  # fmt: skip


class NotHere(Exception):
    """This machine can't give what is asked for; the text says why."""


def run(*argv: str, **kwargs: object) -> str:
    """Run a program to its end, and return what it prints."""
    done = subprocess.run(argv, capture_output=True, text=True, **kwargs)  # type: ignore[call-overload]
    if done.returncode:
        raise NotHere(f"{' '.join(argv[:4])}: {(done.stderr or done.stdout).strip()[-300:]}")
    return str(done.stdout)


class SmallDisk:
    """A file system of its own on a file. ``fill`` leaves so many bytes free on it."""

    def __init__(self, directory: Path, size: int) -> None:
        if os.geteuid() != 0:
            raise NotHere("mounting a small file system needs root")
        self.file, self.path = directory / "disk.img", directory / "disk"
        self.path.mkdir(parents=True)
        with self.file.open("wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(self.file))
        run("mount", "-o", "loop", str(self.file), str(self.path))

    @property
    def free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int) -> None:
        """Take all space but ``leave`` bytes, or a little more than those."""
        step = 512 * MIB
        with (self.path / "filler").open("ab") as file:
            while step >= 4096 and (over := self.free - leave) > 0:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), min(over, step))
                except OSError:  # the file system needs some of it for itself
                    step //= 2

    def clear(self) -> None:
        """Give back what `fill` took."""
        (self.path / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        for _ in range(20):
            if subprocess.run(["umount", str(self.path)], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", str(self.path)], capture_output=True)
        self.file.unlink(missing_ok=True)


class PrivateEngine:
    """One dockerd with its own containerd, bridge and data. Running containers outlive it (``live-restore``), as they should on a hub's host."""

    def __init__(self, size: int) -> None:
        for program in ("dockerd", "containerd", "ip", "mkfs.ext4", "docker"):
            if shutil.which(program) is None:
                raise NotHere(f"{program} is not installed")
        self.directory = Path(tempfile.mkdtemp(prefix="hdengine-", dir="/tmp"))  # sockets' paths are short
        self.host = f"unix://{self.directory}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.bridge, self.address = f"hd{os.getpid() % 10**8}", ""
        try:
            self.disk = SmallDisk(self.directory, size)
            self._make_bridge()
            self.start()
        except BaseException:
            self.close()
            raise

    # --- the network: a bridge whose rules are ours, for two engines that write the same chains would undo each other ---

    def _make_bridge(self) -> None:
        net = next(n for n in range(200, 250) if f"10.231.{n}." not in run("ip", "-4", "addr"))
        self.address = f"10.231.{net}.1"
        (self.directory / "bridge").write_text(self.bridge)
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "link", "set", self.bridge, "address", f"02:42:0a:e7:{net:02x}:01")  # of its own accord it takes the lowest of its ports', anew with each
        run("ip", "addr", "add", f"{self.address}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for rule in (
            ["FORWARD", "-i", self.bridge, "-j", "ACCEPT"], ["FORWARD", "-o", self.bridge, "-j", "ACCEPT"],
            ["POSTROUTING", "-t", "nat", "-s", f"10.231.{net}.0/24", "!", "-o", self.bridge, "-j", "MASQUERADE"],
        ):  # fmt: skip
            with (self.directory / "rules").open("a") as file:
                file.write(json.dumps(rule) + "\n")
            run("iptables", "-w", "-I", *rule)

    # --- life ---

    def start(self) -> PrivateEngine:
        """Start the engine, and wait until it answers."""
        argv = [
            "dockerd", "--config-file", str(self.directory / "daemon.json"), "--host", self.host, "--data-root", str(self.disk.path / "docker"),
            "--exec-root", str(self.directory / "run"), "--pidfile", str(self.directory / "pid"), "--bridge", self.bridge, "--iptables=false",
            "--ip6tables=false", "--ip-masq=false", "--live-restore", "--containerd-namespace", self.bridge, "--containerd-plugins-namespace",
            f"{self.bridge}-plugins", "--shutdown-timeout", "5",
        ]  # fmt: skip
        (self.directory / "daemon.json").write_text("{}")
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 40
        while time.monotonic() < until and self.process.poll() is None:
            if self.answers():
                return self
            time.sleep(0.1)
        raise NotHere(f"a second dockerd does not start here: {(self.directory / 'log').read_text(errors='replace')[-600:]}")

    def answers(self) -> bool:
        try:
            with contextlib.closing(docker.APIClient(self.host, version="1.45", timeout=5)) as client:
                return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the engine with a signal; its containers run on."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)
        (self.directory / "pid").unlink(missing_ok=True)

    def restart(self, number: int = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    def close(self) -> None:
        """End everything that was started, unmount, and remove all of it."""
        if self.process is not None and self.answers():
            with contextlib.suppress(docker.errors.DockerException, OSError), contextlib.closing(docker.DockerClient(self.host)) as client:
                for container in client.containers.list(all=True):
                    container.remove(force=True)
        self.stop()
        sweep(self.directory)

    # --- contents ---

    def import_base(self, source: str, name: str) -> None:
        """Give this engine a base image of the main one, without what makes it large and no test here needs."""
        root = self.directory / "base"
        root.mkdir()
        import_small(source, name, root, "--host", self.host)


def import_small(source: str, name: str, root: Path, *options: str) -> None:
    """Make a smaller base image of the main engine's on an engine. ``root`` is an empty directory to mount the image on."""
    with contextlib.closing(docker.from_env()) as main:
        found = main.images.get(source).attrs
    config, driver = found["Config"], found["GraphDriver"]
    changes = [f"ENV {name}={json.dumps(value)}" for name, _, value in (pair.partition("=") for pair in config["Env"])]
    changes += [f"USER {config['User']}", f"WORKDIR {config['WorkingDir']}"]
    changes += [f"{word.upper()} {json.dumps(config[word] or [])}" for word in ("Entrypoint", "Cmd")]
    given = [word for change in changes for word in ("--change", change)]
    if driver["Name"] != "overlay2":
        raise NotHere(f"the main engine stores images with {driver['Name']}, whose layers can't be read from outside")
    layers = ":".join(path for path in (driver["Data"]["UpperDir"], driver["Data"].get("LowerDir")) if path)
    run("mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={layers}", str(root))
    try:
        with subprocess.Popen(["tar", "-C", str(root), "-c", *(f"--exclude=./{path}" for path in LEFT_OUT), "."], stdout=subprocess.PIPE) as packer:
            run("docker", *options, "import", *given, "-", name, stdin=packer.stdout)
    finally:
        run("umount", str(root))


def sweep(directory: Path) -> None:
    """End what runs of an engine (its daemons, shims of containers), unmount and remove all of it, from its directory's own notes alone."""
    for process in psutil.process_iter(["cmdline"]):
        if any(f"{directory}/" in word for word in process.info["cmdline"] or ()) and process.pid != os.getpid():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(5)
    rules, bridge = directory / "rules", directory / "bridge"
    for line in rules.read_text().splitlines() if rules.exists() else ():
        subprocess.run(["iptables", "-w", "-D", *json.loads(line)], capture_output=True)
    if bridge.exists():
        subprocess.run(["ip", "link", "del", bridge.read_text()], capture_output=True)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def private_engine(size: int) -> Iterator[PrivateEngine]:
    """Hold an engine, and make ``DOCKER_HOST`` name it meanwhile. One at a time on a machine: they would choose the same addresses."""
    with Path("/tmp/hdengine.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in Path("/tmp").glob("hdengine-*"):  # of a run that was killed: nobody else holds the lock
            sweep(left)
        engine = PrivateEngine(size)
        before = os.environ.get("DOCKER_HOST")
        try:
            yield engine
        finally:
            os.environ.pop("DOCKER_HOST", None)
            if before is not None:
                os.environ["DOCKER_HOST"] = before
            engine.close()
