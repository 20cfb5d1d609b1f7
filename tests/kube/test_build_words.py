"""Why a build waits, in plain words and within seconds: on a real scheduler, a real kubelet and real admission."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server
from hubdock.core.asker import LOCAL
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.options import parse_options
from hubdock.engine.build import Build
from hubdock.engine.engine import Engine
from tests.kit.kube import kubectl
from tests.kit.kubebuild import KubeBuilder, Namespace, wait_until
from tests.kit.repos import Project, make_requirements

SOON = 5.0  # seconds from the Job's being made


def hear(builder: KubeBuilder, project: Project, words: str) -> tuple[str, float]:
    """Build what can't be built; return the message with these words, and the seconds until it came. The build is cancelled then."""

    async def work() -> tuple[str, float]:
        engine = Engine(builder.settings)
        build = await engine.ensure(await engine.plan(parse_options({"repo": project.url, "ref": "main"}), LOCAL), "tester")
        try:
            until = time.monotonic() + 60
            while (told := find_told(build, words)) is None:
                assert time.monotonic() < until and not build.done.is_set(), (build.error, [event.message for event in list_phases(build)])
                await asyncio.sleep(0.1)
            return told.message, told.time - next(event.time for event in list_phases(build) if event.phase is Phase.FETCHING)
        finally:
            await engine.builds.cancel(build)
            await engine.builds.runner.settle()
            await engine.close()

    return asyncio.run(work())


def list_phases(build: Build) -> list[Event]:
    attempt = build.attempts.get("environment")
    return [event for _, event in attempt.read_events() if event.kind is Kind.PHASE] if attempt else []


def find_told(build: Build, words: str) -> Event | None:
    return next((event for event in list_phases(build) if words in event.message), None)


@contextmanager
def full_quota(namespace: Namespace) -> Iterator[None]:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}}
    kubectl("apply", "-n", namespace.name, "-f", "-", stdin=json.dumps(quota))
    try:
        wait_until(lambda: "hard" in json.loads(kubectl("get", "resourcequota", "-n", namespace.name, "full", "-o", "json")).get("status", {}))
        yield
    finally:
        kubectl("delete", "resourcequota", "-n", namespace.name, "full")


@contextmanager
def closed_nodes() -> Iterator[None]:
    nodes = kubectl("get", "nodes", "-o", "name").split()
    kubectl("cordon", *nodes)
    try:
        yield
    finally:
        kubectl("uncordon", *nodes)


@pytest.mark.parametrize(
    ("why", "settings", "words"),
    [
        ("cpu", {"kube_build_resources": {"requests": {"cpu": "1000"}}}, "There is no room for 1000 CPU on the only node now"),
        ("selector", {"kube_build_pod": {"nodeSelector": {"pool": "none"}}}, "not meant for builds (labels)"),
        ("image", {"kube_buildkit_image": "gone:none"}, "gone:none: it is not in its registry"),
        ("quota", {}, "The quota of the builds' namespace is full"),
        ("closed", {}, "closed for maintenance (cordoned)"),
    ],
    ids=["cpu", "selector", "image", "quota", "closed"],
)
def test_a_build_says_why_it_waits(namespace: Namespace, server: Server, project: Project, tmp_path: Path, why: str, settings: dict[str, Any], words: str) -> None:
    if "kube_buildkit_image" in settings:
        settings = {"kube_buildkit_image": f"{namespace.registry}/{settings['kube_buildkit_image']}"}
    builder = namespace.make_builder(tmp_path / "state", allowed_hosts=[server.url], cancel_grace=0.0, **settings)
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit("one")
    with full_quota(namespace) if why == "quota" else closed_nodes() if why == "closed" else nullcontext():
        message, seconds = hear(builder, project, words)
    assert seconds < SOON, f"{message} after {seconds:.1f} s"
