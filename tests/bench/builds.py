"""Builds beside the talk's Dockerfile, and plans, in turn in one run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import docker

from config.demo.server import Server
from hubdock.core.asker import LOCAL
from hubdock.core.events import Phase
from hubdock.core.options import parse_options
from hubdock.engine.config import HubDock
from hubdock.engine.engine import Engine
from tests.bench.report import Figure, describe, median
from tests.kit.builder import Builder
from tests.kit.hub import find_base
from tests.kit.repos import Project

# Eight lines of a machine-learning team: about a hundred wheels, 0.7 GB.
PACKAGES = [
    "lightgbm==4.6.0", "mlflow-skinny==3.4.0", "opencv-python-headless==4.12.0.88", "plotly==6.3.0", "scikit-learn==1.7.2", "seaborn==0.13.2", "transformers==4.56.2",
    "xgboost==3.0.5",
]  # fmt: skip
DATA = 60 * 1024 * 1024


def make_requirements() -> str:
    return "\n".join([f"# {uuid.uuid4().hex}", *PACKAGES]) + "\n"


def make_project(server: Server, work: Path) -> Project:
    """Return 100 files of code, four requirements, 60 MB of data in 60 files."""
    project = Project(server, work, "talk").init_dvc()
    project.write_all({"requirements.txt": make_requirements(), **{f"src/module{n}.py": f"VALUE = {n}\n" for n in range(100)}})
    project.add_data("images", {f"{n}.bin": os.urandom(DATA // 60) for n in range(60)}).commit("first")
    return project


def build_talk(project: Project) -> float:
    """Return the seconds of the talk's Dockerfile, without Docker's own cache, which would serve stale code."""
    tag = f"hubdock-bench:{uuid.uuid4().hex}"
    argv = [
        "docker", "buildx", "build", "--builder", "default", "--no-cache", "--provenance=false", "--quiet", "--tag", tag, "--build-arg", f"BASE={find_base()}",
        "--build-arg", f"REPO={project.url}", "--build-arg", "BRANCH=main", "-",
    ]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(argv, input=Path(__file__).with_name("talk.Dockerfile").read_bytes(), check=True, capture_output=True)
    seconds = time.perf_counter() - began
    docker.from_env().images.remove(tag, force=True)
    return seconds


async def time_build(engine: Engine, project: Project) -> float:
    """Return the seconds from the question until everything but the launch is done."""
    began = time.perf_counter()
    build = await engine.ensure(await engine.plan(parse_options({"repo": project.url, "ref": "main"}), LOCAL), "bench")
    await build.done.wait()
    assert build.phase is Phase.READY, f"{build.error} {build.error.detail if build.error else ''}"
    return time.perf_counter() - began


def change(project: Project, **files: str | Callable[[], str]) -> None:
    project.write_all({name.replace("__", "."): content() if callable(content) else content for name, content in files.items()}).commit("change")


def measure_builds(work: Path, server: Server, rounds: int) -> list[Figure]:
    project = make_project(server, work)
    builder = Builder(work / "state-bench", allowed_hosts=[server.url])
    password = work / "nobody"
    password.touch(mode=0o600)
    password.write_text("nothing")
    times: dict[str, list[float]] = {"talk": [], "code": [], "warm": [], "cold": []}
    moved = 0

    async def measure() -> None:
        nonlocal moved
        engine = Engine(builder.settings)
        await time_build(engine, project)
        for number in range(rounds):
            times["talk"].append(build_talk(project))
            change(project, README__md=f"round {number}\n")
            times["code"].append(await time_build(engine, project))
            change(project, requirements__txt=make_requirements)
            server.requests.clear()
            times["warm"].append(await time_build(engine, project))
            moved += sum(path.startswith("/dvc/") for _, path in server.requests)
            change(project, requirements__txt=make_requirements)
            cold = make_cold(builder.settings, password, number)
            times["cold"].append(await time_build(cold, project))
            await cold.close()
            await time_build(engine, project)  # so that the next code change finds its environment
        await engine.close()

    try:
        asyncio.run(measure())
    finally:
        builder.clean()
    talk = median(times["talk"])
    return [
        Figure("code-only change: seconds before the launch", median(times["code"]), 1.2, "lower", rounds, describe(hubdock=times["code"])),
        Figure("code-only change: the talk's Dockerfile / hubdock", talk / median(times["code"]), 50, "higher", rounds, describe(talk=times["talk"])),
        Figure("new environment, warm packages: the talk's / hubdock", talk / median(times["warm"]), 5, "higher", rounds, describe(hubdock=times["warm"])),
        Figure("new environment, cold packages: the talk's / hubdock", talk / median(times["cold"]), 2, "higher", rounds, describe(hubdock=times["cold"])),
        Figure("new requirements, same data: requests to the data remote", moved, 0, "lower", rounds),
    ]


def make_cold(settings: HubDock, password: Path, number: int) -> Engine:
    """Return an engine whose package cache nobody has used: the scope of an index that needs a credential has one of its own."""
    values = {name: getattr(settings, name) for name in ("state_dir", "base_image", "gpu_base_image", "volume_prefix", "allowed_hosts")}
    origin = f"https://cold-{uuid.uuid4().hex[:12]}-{number}.example.org"
    return Engine(HubDock(index_credentials=[{"origin": origin, "username": "nobody", "password_file": str(password)}], **values))


def measure_plans(work: Path, server: Server, rounds: int) -> list[Figure]:
    """A known commit, and commits of a small and a large repository that are new each time."""
    small, large = make_files(server, work, 1_000), make_files(server, work, 100_000)
    times: dict[str, list[float]] = {"known": [], "1,000 files": [], "100,000 files": []}
    requests: list[int] = []

    async def measure() -> None:
        for number in range(rounds):
            for name, project in (("1,000 files", small), ("100,000 files", large)):
                builder = Builder(work / f"state-plan{number}{len(name)}", allowed_hosts=[server.url])  # nothing is known: no copy, no record
                engine = Engine(builder.settings)
                project.write_all({"README.md": f"round {number}\n"}).commit("new")
                times[name].append(await time_plan(engine, project))
                if project is small:
                    server.requests.clear()
                    times["known"].append(await time_plan(engine, project))
                    requests.append(len(server.requests))
                await engine.close()

    asyncio.run(measure())
    ratio = median(times["100,000 files"]) / median(times["1,000 files"])
    shown = "; ".join(f"{name} {median(values):.2f} s ({min(values):.2f}-{max(values):.2f})" for name, values in times.items() if name != "known")
    return [
        Figure("plan of a known commit: requests over the network (one ls-remote is 2)", max(requests), 2, "lower", rounds, describe(known=times["known"])),
        Figure("plan of an unknown commit: 100,000 files / 1,000 files", ratio, 2, "lower", rounds, shown),
    ]


def make_files(server: Server, work: Path, count: int) -> Project:
    project = Project(server, work, f"files{count}")
    project.write_all({"requirements.txt": "tabulate==0.9.0\n", **{f"d{n // 1000}/e{n // 100 % 10}/f{n}.py": f"VALUE = {n}\n" for n in range(count)}}).commit()
    return project


async def time_plan(engine: Engine, project: Project) -> float:
    began = time.perf_counter()
    await engine.plan(parse_options({"repo": project.url, "ref": "main"}), LOCAL)
    return time.perf_counter() - began
