"""``hubdock doctor``: a machine that is fine, and each thing that can be wrong with one or with a base image."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from hubdock.doctor import GIB, find_filesystem, judge_space, parse_version
from tests.kit.cli import HUBDOCK
from tests.kit.hub import find_base


def run_doctor(*arguments: str, **env: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Return the exit code, and the checks by name."""
    done = subprocess.run([HUBDOCK, "doctor", "--json", *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
    checks: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(done.stdout)["checks"]:
        checks.setdefault(check["name"], []).append(check)
    return done.returncode, checks


def write_config(directory: Path, **settings: object) -> list[str]:
    path = directory / "config.json"
    path.write_text(json.dumps({"HubDock": {"state_dir": str(directory / "state"), "base_image": find_base(), **settings}}))
    return ["--config", str(path)]


@pytest.fixture
def empty_image(docker_engine: docker.DockerClient) -> Iterator[str]:
    """An image with nothing in it, not even a shell."""
    name = f"hubdock-test-empty:{os.getpid()}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        pass
    repository, _, tag = name.partition(":")
    docker_engine.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)
    yield name
    docker_engine.images.remove(name, force=True)


def test_a_machine_that_is_fine(docker_engine: docker.DockerClient, tmp_path: Path) -> None:
    code, checks = run_doctor(*write_config(tmp_path))
    failed = [check for found in checks.values() for check in found if check["status"] == "fail"]
    assert code == 0, failed
    assert {"configuration", "docker engine", "buildx", "git", "uv", "state directory", "disk of the state directory", "certificates", "base image"} <= set(checks)
    assert not (tmp_path / "state").exists()


def test_each_line_says_how_to_mend(docker_engine: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    arguments = write_config(tmp_path, base_image="localhost:1/missing:1", extra_ca_certificates=str(tmp_path / "bad.pem"))
    code, checks = run_doctor(*arguments, DOCKER_HOST="unix:///nowhere.sock")
    assert code == 1
    for name in ("docker engine", "certificates", "base image"):
        assert [check["status"] for check in checks[name]] == ["fail"] and checks[name][0]["mend"]


def test_a_base_that_no_registry_has(docker_engine: docker.DockerClient, tmp_path: Path) -> None:
    _, checks = run_doctor(*write_config(tmp_path, base_image="localhost:1/missing:1"))
    assert checks["base image"][0]["status"] == "fail" and "config/base-image/make-base" in checks["base image"][0]["mend"]


def test_a_configuration_that_is_wrong(docker_engine: docker.DockerClient, tmp_path: Path) -> None:
    code, checks = run_doctor(*write_config(tmp_path, basse_image="x"))
    assert code == 1 and "HubDock.basse_image is not a setting" in checks["configuration"][0]["message"]
    assert checks["git"][0]["status"] == "ok"


def test_a_good_base(docker_engine: docker.DockerClient) -> None:
    code, checks = run_doctor("--base", find_base())
    assert code == 0 and checks["kernel"][0]["message"].startswith("Jupyter serves, a kernel answers")


def test_a_base_that_breaks_the_contract(empty_image: str) -> None:
    code, checks = run_doctor("--base", empty_image)
    said = " ".join(check["message"] for check in checks["contract"])
    assert code == 1 and "kernel" not in checks
    for problem in ("runs as 0:0", "HOME is not set", "/opt/conda/bin/python does not run", "start.sh is not on its PATH", "The package jupyterlab is missing"):
        assert problem in said


def test_a_base_that_is_not_here(docker_engine: docker.DockerClient) -> None:
    code, checks = run_doctor("--base", "hubdock-test-missing:1")
    assert code == 1 and checks["hubdock-test-missing:1"][0]["mend"].startswith("Run `docker pull")


@pytest.mark.parametrize(("free", "status"), [(GIB - 1, "fail"), (GIB, "warn"), (10 * GIB - 1, "warn"), (10 * GIB, "ok")])
def test_disk_space(free: int, status: str) -> None:
    assert judge_space("disk", "/", free).status == status


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3", (0, 13)), ("github.com/docker/buildx v0.21.2 1360a9e8", (0, 21)),
        ("git version 2.39.5", (2, 39)), ("git version 2.39.3 (Apple Git-146)", (2, 39)), ("26.1.5+dfsg1", (26, 1)), ("none", ()),
    ],
)  # fmt: skip
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_file_systems() -> None:
    assert find_filesystem(Path("/proc/self")) == "proc"
    assert find_filesystem(Path("/"))
