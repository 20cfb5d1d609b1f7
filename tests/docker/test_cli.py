"""The command line on a real engine, git server and DVC data, without a hub."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from config.demo.server import Server
from tests.kit.cli import CLI, HUBDOCK, read_until
from tests.kit.gate import Gate
from tests.kit.hub import find_base
from tests.kit.repos import Project, make_requirements

PREFIX = f"hubdock-cli-{os.getpid()}"


@pytest.fixture(scope="module")
def project(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with data, whose branches are right, wrong in a line, and impossible."""
    made = Project(server, tmp_path_factory.mktemp("work"), "digits")
    made.write_all({"README.md": "# digits\n", "requirements.txt": make_requirements("cowsay==6.1")})
    made.track_directory("data", {f"{n}.txt": f"number {n}\n" for n in range(3)}).commit("Use digits")
    for branch, lines in (("wrong", ["cowsay==6.1", "not a requirement!"]), ("impossible", ["cowsay==6.1", "cowsay<5"])):
        made.git("checkout", "--quiet", "-B", branch, "main")
        made.write_all({"requirements.txt": make_requirements(*lines)}).commit(branch)
    made.git("checkout", "--quiet", "main")
    return made


@pytest.fixture(scope="module")
def cli(docker_engine: docker.DockerClient, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CLI]:
    directory = tmp_path_factory.mktemp("cli")
    settings = {
        "state_dir": str(directory / "state"), "base_image": find_base(), "gpu_base_image": "", "gpu_limit": 2, "allowed_hosts": [server.url],
        "volume_prefix": PREFIX, "smoke_test": False,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps({"HubDock": settings}))
    made = CLI(directory / "config.json", docker_engine, PREFIX)
    yield made
    made.clean()


@pytest.fixture(scope="module")
def built(cli: CLI, project: Project) -> dict[str, Any]:
    """The branch ``main``, built: what ``build --json`` prints."""
    return cli.read("build", project.url, "main")


def test_help_imports_little() -> None:
    heavy = {"sqlalchemy", "docker", "rich", "traitlets", "asyncio", "tornado", "jupyterhub"}
    code = f"import sys, hubdock.cli; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_help_names_commands_and_exit_codes() -> None:
    shown = subprocess.run([HUBDOCK, "--help"], capture_output=True, text=True).stdout
    assert all(re.search(rf"^  {name} ", shown, re.M) for name in ("plan", "build", "run", "images", "logs", "doctor"))
    assert "Exit codes: 0" in shown and "HUBDOCK_CONFIG" in shown


# --- plan and build ---


def test_plan_makes_nothing(cli: CLI, project: Project) -> None:
    plan = cli.read("plan", project.url, "main", "--new-branch", "idea")
    assert set(plan) == {"repo", "ref", "ref_kind", "commit", "tree", "new_branch", "ready", "seconds", "launch_seconds", "total_seconds", "parts", "notices", "source"}
    assert (plan["commit"], plan["new_branch"], plan["ready"]) == (project.git("rev-parse", "main"), "idea", False)
    assert {part["name"]: part["state"] for part in plan["parts"]} == dict.fromkeys(("base", "environment", "image", "data"), "build")
    assert plan["source"]["subject"] == "Use digits"
    assert not cli.list_volumes()


def test_plan_in_words(cli: CLI, project: Project) -> None:
    shown = cli("plan", project.url, "main").stdout
    assert re.search(r"commit [0-9a-f]{12} “Use digits”, Ada, (just now|\d+ minutes? ago)", shown)
    assert re.search(r"^data +to be made +not in the store +no past build to go by +27 bytes$", shown, re.M)


def test_build(cli: CLI, built: dict[str, Any], project: Project) -> None:
    assert cli.engine.images.get(built["image"]["tag"]).id == built["image"]["id"]
    again = cli("build", project.url, "main")
    assert again.returncode == 0
    assert again.stdout.splitlines()[-2:] == [built["image"]["tag"], built["image"]["id"]]
    assert cli.read("plan", project.url, "main")["ready"]


def test_build_shows_lines_in_a_pipe(cli: CLI, built: dict[str, Any], project: Project) -> None:
    project.write_all({"README.md": "# changed\n"}).commit("Say more")
    plan = cli.read("plan", project.url, "main")
    assert [(part["name"], part["state"]) for part in plan["parts"] if part["state"] != "ready"] == [("image", "build")]
    done = cli("build", project.url, "main")
    assert done.returncode == 0 and done.stderr == ""
    assert "[image] building: code layer" in done.stdout and re.search(r"^\[image\] ready in \d+\.\d s$", done.stdout, re.M)
    assert "\x1b" not in done.stdout


def test_rebuild_of_pinned_packages_says_so(cli: CLI, built: dict[str, Any], project: Project) -> None:
    plan = cli.read("plan", project.url, "main", "--rebuild")
    assert "Every package is pinned to one version: there is nothing to renew." in plan["notices"]


def test_ctrl_c_ends_a_build(cli: CLI, project: Project) -> None:
    project.git("checkout", "--quiet", "-B", "large", "main")
    project.write_all({"requirements.txt": make_requirements("scipy")}).commit("Use more")
    project.git("checkout", "--quiet", "main")
    process = cli.start("build", project.url, "large")
    read_until(process, "▸")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (130, "hubdock: Stopped.\n") and time.monotonic() - began < 10
    key = next(part["key"] for part in cli.read("plan", project.url, "large")["parts"] if part["name"] == "environment")
    task = cli.config.parent / "state" / "tasks" / "environment" / key / "1"
    assert json.loads((task / "result.json").read_text())["status"] == "cancelled"
    assert not find_workers(cli)
    assert cli.read("logs")[0]["phase"] == "cancelled"


def test_a_closed_pipe_ends_a_build(cli: CLI, project: Project) -> None:
    process = cli.start("build", project.url, "large")
    read_until(process, "▸")
    assert process.stdout
    process.stdout.close()
    assert process.wait(timeout=20) == 1
    assert not find_workers(cli)


def find_workers(cli: CLI) -> list[str]:
    """Return the processes of this state directory's tasks, by the mark in their environment."""
    mark, found = f"HUBDOCK_TASK={cli.config.parent}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if mark in path.read_bytes() else []
    return found


def test_a_task_that_another_command_waits_for_goes_on(cli: CLI, project: Project, server: Server) -> None:
    gate = Gate(server)
    project.git("checkout", "--quiet", "-B", "slow", "main")
    gate.put_into(project)
    project.git("checkout", "--quiet", "main")
    first = cli.start("build", project.url, "slow")
    read_until(first, "▸")
    gate.wait_for_knock()
    second = cli.start("build", project.url, "slow")
    read_until(second, "▸")
    stop(first)
    gate.open()
    shown, error = second.communicate(timeout=90)
    assert (first.returncode, second.returncode) == (130, 0), shown + error


# --- run ---


def start_server(cli: CLI, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Return ``hubdock run --json`` and what it printed once the server answered."""
    process = cli.start("run", *arguments, "--json")
    return process, json.loads(read_until(process, "}"))


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def ask(running: dict[str, Any], path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{running['port']}{path}?token={running['token']}", timeout=20) as answer:
        return json.load(answer)


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM])
def test_run_serves_until_it_is_stopped(cli: CLI, built: dict[str, Any], project: Project, order: signal.Signals) -> None:
    limits = ("--cpu", "1.5", "--memory", "1G", "--shm", "128M")
    process, running = start_server(cli, project.url, "main", *limits)
    assert running["url"] == f"http://127.0.0.1:{running['port']}/lab?token={running['token']}"
    assert {entry["name"] for entry in ask(running, "/api/contents")["content"]} >= {"README.md", "requirements.txt", "data"}
    assert ask(running, "/api/contents/data/1.txt")["content"] == "number 1\n"
    container = cli.engine.containers.get(running["container"])
    assert [container.attrs["HostConfig"][name] for name in ("CpuQuota", "Memory", "ShmSize")] == [150_000, 1024**3, 128 * 1024**2]
    assert container.exec_run("git -C /home/jovyan/" + project.remote_name + " status --porcelain").output == b""
    assert running["token"] not in str(container.attrs["Config"]["Cmd"]) + str(container.attrs["Args"])
    process.send_signal(order)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0 and "Stopped." in error
    assert not cli.list_containers()
    assert running["volume"] in cli.list_volumes()


def test_run_prints_an_address_and_where_the_work_is(cli: CLI, built: dict[str, Any], project: Project) -> None:
    process = cli.start("run", project.url, "main", "--new-branch", "idea")
    shown = read_until(process, "Ctrl-C")
    stop(process)
    assert re.search(r"JupyterLab is at http://127\.0\.0\.1:\d+/lab\?token=[\w-]{20,}", shown)
    assert re.search(rf"kept in the Docker volume {PREFIX}-work-\S+-idea-[0-9a-f]+\.", shown)


def test_a_server_that_ends_by_itself(cli: CLI, built: dict[str, Any], project: Project) -> None:
    process, running = start_server(cli, project.url, "main")
    second = cli("run", project.url, "main")
    assert second.returncode == 1 and "is open already" in second.stderr
    third = cli("run", project.url, "main", "--new-branch", "other", "--port", str(running["port"]))
    assert third.returncode == 1 and f"Port {running['port']} of this machine is taken" in third.stderr
    cli.engine.containers.get(running["container"]).kill()
    shown, _ = process.communicate(timeout=30)
    error = json.loads(shown)["error"]
    assert process.returncode == 1 and error["code"] == "launch_failed"
    assert "ended by itself (exit code 137)" in error["message"] and "Serving notebooks" in error["message"]
    assert not cli.list_containers()


def test_run_gives_devices_that_nobody_holds(cli: CLI, built: dict[str, Any], project: Project, leased: list[str]) -> None:
    named = [word for device in leased for word in ("--gpu-device", device)]
    first, running = start_server(cli, project.url, "main", "--gpu", "1", *named)
    container = cli.engine.containers.get(running["container"])
    assert container.labels["hubdock.gpus"] == leased[0]
    assert [name for name in container.exec_run("ls /dev").output.decode().split() if "gpu" in name] == ["hubdock-gpu0"]
    second = cli("run", project.url, "main", "--new-branch", "second", *named)
    assert second.returncode == 5 and "2 GPUs were asked for; 1 of 2 is free" in second.stderr
    stop(first)
    assert first.returncode == 0 and not cli.list_containers()


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "file:///etc", "main"], 2, "This transport is not accepted"),
        (["plan", "https://user:hunter2@github.com/a/b", "main"], 2, "The address holds a user name or a password"),
        (["plan", "https://elsewhere.example/a/b", "main"], 2, "are not allowed"),
        (["plan", "URL", "--memory"], 2, "No such option"),
        (["plan"], 2, "Missing argument 'REPO'"),
        (["plan", "URL", "../x"], 2, "This is no name of a branch"),
        (["plan", "URL", "mian"], 3, "Did you mean main"),
        (["plan", "URL/nothing", "main"], 3, "There is no repository"),
        (["plan", "URL", "wrong"], 4, "requirements.txt:3: "),
        (["run", "URL", "main", "--memory", "1"], 2, "Memory must be at least 64M"),
        (["run", "URL", "main", "--gpu", "3"], 2, "3 GPUs were asked for; "),
        (["--config", "/nowhere.json", "images"], 2, "The configuration /nowhere.json can't be read"),
        (["logs", "zzz"], 2, "No build is known"),
    ],
)
def test_errors_have_words_and_codes(cli: CLI, project: Project, arguments: list[str], code: int, said: str) -> None:
    given = [word.replace("URL", project.url) for word in arguments]
    done = cli(*given)
    assert (done.returncode, done.stdout) == (code, "") and said in done.stderr
    assert "hunter2" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["plan", "URL", "wrong"], {"code": "recipe_error", "file": "requirements.txt", "line": 3}), (["plan", "URL"], {"code": "bad_request", "status": 400})],
)
def test_errors_as_json(cli: CLI, project: Project, arguments: list[str], error: dict[str, Any]) -> None:
    done = cli(*(word.replace("URL", project.url) for word in arguments), "--json")
    assert done.returncode and done.stderr == ""
    assert json.loads(done.stdout)["error"].items() >= error.items()


def test_an_engine_that_is_away(cli: CLI, built: dict[str, Any], project: Project) -> None:
    done = cli("plan", project.url, "main", DOCKER_HOST="unix:///nowhere.sock")
    assert done.returncode == 5 and "The Docker Engine does not answer" in done.stderr


def test_a_failed_build_shows_its_end_and_its_log(cli: CLI, built: dict[str, Any], project: Project) -> None:
    done = cli("build", project.url, "impossible")
    assert done.returncode == 1
    assert "requirements.txt:2: The requirements can't be installed together." in done.stderr
    assert "cowsay==6.1 and cowsay<5" in done.stderr.splitlines()[-3]
    log = re.search(r"The whole log: (\S+) \(`hubdock logs ([0-9a-f]{8})`\)", done.stderr)
    assert log and Path(log[1]).is_file()
    whole = cli("logs", log[2])
    assert whole.returncode == 0 and "[environment] failed: The requirements can't be installed together." in whole.stdout


# --- what was made ---


def test_images(cli: CLI, built: dict[str, Any], project: Project) -> None:
    found = {image["key"]: image for image in cli.read("images")}
    mine = found[built["image"]["key"]]
    assert (mine["kind"], mine["id"], mine["ref"]) == ("image", built["image"]["id"], "main")
    assert mine["size"] > 1e6 and abs(mine["created"] - time.time()) < 600
    assert re.search(rf"^image +{built['image']['key'][:12]} .* {re.escape(project.url.removesuffix('.git'))} main$", cli("images").stdout, re.M)


def test_logs(cli: CLI, built: dict[str, Any]) -> None:
    listed = cli("logs").stdout
    assert re.search(rf"^{built['build'][:8]} .* main +ready$", listed, re.M)
    whole = cli("logs", built["build"][:10]).stdout
    assert "[environment] ready" in whole and whole.endswith("[start] ready\n")
    assert cli.read("logs", built["build"])[-1]["phase"] == "ready"
