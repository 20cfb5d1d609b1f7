"""The objects of a build on a cluster, compared whole with files that a person can read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubdock.core.dockerfile import use_named_context
from hubdock.core.kubeobjects import (
    BuildJob,
    CacheClaim,
    double_dollars,
    make_build_job,
    make_build_secret,
    make_builder_config,
    make_cache_claim,
    make_cache_name,
    make_job_name,
)
from hubdock.core.kubeprogram import ProgramJob, make_program_job, make_program_secret, make_store_claim
from hubdock.core.kubescript import SCRIPT
from tests.unit.conftest import check_golden

KEY = "0123456789abcdef" * 4
BUILD = BuildJob(
    make_job_name("environment", KEY), "hubdock-builds", "environment", KEY, "moby/buildkit:rootless", f"registry:5000/team/hubdock/environment:{KEY}",
    "FROM registry:5000/team/hubdock/base:1\n", make_builder_config(("registry:5000",), 16 * 1024**3), "0011223344556677",
)  # fmt: skip
WHOLE = BuildJob(
    make_job_name("environment", KEY, "source"), "hubdock-builds", "environment", KEY, "moby/buildkit:rootless", f"registry:5000/team/hubdock/environment:{KEY}",
    "FROM base\nENV A=\"$(HOME)\"\n", make_builder_config((), 0), "0011223344556677", "team/hubdock/context@sha256:1",
    (("hubdock-context", "registry:5000/team/hubdock/context@sha256:1"), ("tools", "registry:5000/team/hubdock/tools@sha256:2")), ("netrc",), ("https_proxy",),
    make_cache_name("public", 1), "public", "push", 600.0, {"limits": {"memory": "8Gi"}}, {"nodeSelector": {"disk": "ssd"}, "restartPolicy": "Always"},
)  # fmt: skip
PROGRAM = ProgramJob(
    "run-1", "hubdock", "registry:5000/hubdock/base@sha256:1", ("/opt/dvc/bin/python", "-I", "/hubdock-fetch/fetch.py"), "/state/tasks/data/1/1",
    {"/hubdock-fetch/fetch.py": b"print(1)\n"}, (("hubdock-data", "/store", "", False),), {"A": "$(B)"}, True, 600.0, 2**30, "pull",
)  # fmt: skip
OBJECTS = {
    "kube-build-least": make_build_job(BUILD), "kube-build-whole": make_build_job(WHOLE),
    "kube-build-secret": make_build_secret(WHOLE, {"netrc": "machine x", "https_proxy": "http://proxy"}, "uid-1"),
    "kube-cache": make_cache_claim(CacheClaim(make_cache_name("public", 0), "hubdock-builds", "public", "20Gi", "fast")),
    "kube-program": make_program_job(PROGRAM), "kube-program-secret": make_program_secret(PROGRAM),
    "kube-store": make_store_claim("hubdock-data", "hubdock", "100Gi", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_as_written(name: str) -> None:
    check_golden(f"{name}.json", json.dumps(OBJECTS[name], indent=2).replace(json.dumps(SCRIPT), '"(the script)"') + "\n")


def test_a_job_is_named_by_its_key_and_by_nothing_else() -> None:
    names = {make_job_name("environment", key, variant) for key in ("a" * 64, "b" * 64, "a" * 30 + "b" * 34) for variant in ("", "source", "other-source")}
    assert len(names) == 9 and all(len(name) <= 63 for name in names)


def test_no_secret_is_in_a_job() -> None:
    assert "machine x" not in json.dumps(make_build_job(WHOLE)) and "http://proxy" not in json.dumps(make_build_job(WHOLE))


def test_the_admins_fields_never_loosen_a_pod() -> None:
    pod = make_build_job(WHOLE)["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"disk": "ssd"} and pod["restartPolicy"] == "Never" and pod["automountServiceAccountToken"] is False


def test_dollars_are_the_repositorys_own() -> None:
    assert double_dollars("a $(HOME) $HOME $$(X)") == "a $$(HOME) $HOME $$$(X)"


def test_programs_pass_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    pod: dict[str, Any] = make_program_job(PROGRAM)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert all(set(volume) & {"emptyDir", "secret", "persistentVolumeClaim"} for volume in pod["volumes"])


def test_the_main_context_becomes_an_image() -> None:
    given = 'FROM base\nENV A="RUN --mount=type=bind,source=x"\nRUN --mount=type=bind,from=tools,target=/t --mount=type=bind,source=project,target=/p,rw x\n'
    assert use_named_context(given, "ctx") == given.replace("type=bind,source=project", "type=bind,from=ctx,source=project")
