"""Plans of real repositories, without a Docker Engine that has anything."""

from __future__ import annotations

import asyncio
import http.server
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server, make_repository
from hubdock.cli_plan import make_plan
from hubdock.core.asker import LOCAL
from hubdock.core.contract import BaseImage
from hubdock.core.errors import (
    AccessDenied,
    BuildError,
    BuilderUnavailable,
    ConfigError,
    HubDockError,
    InvalidOption,
    InvalidRef,
    RecipeError,
    RegistryUnavailable,
    RepoNotAllowed,
)
from hubdock.core.events import Phase
from hubdock.core.naming import make_server_name, make_workspace_volume
from hubdock.core.options import parse_options
from hubdock.core.plan import Part, State
from hubdock.engine.assembly import Assembly, describe_recipe, find_tensorflow
from hubdock.engine.builds import Builds
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database, TaskRow
from hubdock.engine.launch import make_start
from hubdock.engine.planner import Planner, make_base_key, matches_index
from hubdock.engine.tasks import Reporter, TaskStore
from tests.unit.conftest import Repository, serve

BASE = BaseImage(
    "base:1", "sha256:" + "a" * 64, {"diff_ids": ["sha256:" + "1" * 64], "User": "1000:100"}, "3.12.1",
    {"jupyterhub": "5.4.6", "jupyterlab": "4.4.0", "jupyter-server": "2.16", "ipykernel": "6.29", "tensorflow-cpu": "2.21"}, ("git",), 1000, 100, "/home/jovyan", 1000,
)  # fmt: skip
PREPARED = "hubdock/base:" + "b" * 64
DVC = {
    ".dvc/config": "[core]\nremote = r\n['remote \"r\"']\nurl = s3://bucket/x\n", "data.dvc": "outs:\n- {md5: " + "a" * 32 + ".dir, hash: md5, path: data, size: 5}\n",
}  # fmt: skip


class EmptyEngine(http.server.ThreadingHTTPServer):
    """A Docker Engine that has no volume, and no image but the prepared base."""

    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
            found = self.server.images.get(self.path.partition("/images/")[2].removesuffix("/json"))  # type: ignore[attr-defined]
            answer = json.dumps(found or {"message": f"No such object: {self.path}"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            return

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.asked: list[str] = []
        self.images: dict[str, dict[str, Any]] = {PREPARED: {"Id": "sha256:" + "b" * 64}}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmptyEngine]:
    monkeypatch.setattr("hubdock.drivers.docker._local", threading.local())
    engine = serve(EmptyEngine())
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine.server_address[1]}")
    yield engine
    engine.shutdown()


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubdock.drivers.docker._local", threading.local())
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each test begins with, made once: an empty repository on a server, its clone, and a new database."""
    path = tmp_path_factory.mktemp("template")
    make_repository(path / "server", "project")
    Repository(path / "work")
    Database(f"sqlite:///{path}/hubdock.sqlite").engine.dispose()
    return path


class Team:
    """A git server with one repository, and planners over state directories of their own."""

    def __init__(self, path: Path, template: Path) -> None:
        self.path, self.template = path, template
        shutil.copytree(template, path, dirs_exist_ok=True)
        self.bare = path / "server" / "git" / "project.git"
        self.work = Repository(path / "work", new=False)
        self.server = serve(Server(path / "server"))
        self.url = f"{self.server.url}/git/project.git"
        self.planners = 0

    def push(self, files: dict[str, str | bytes], branch: str = "main") -> None:
        self.work.git("checkout", "--quiet", "-B", branch)
        self.work.commit(files)
        self.work.git("push", "--quiet", "--force", str(self.bare), f"refs/heads/{branch}")

    def make_planner(self, base: BaseImage | None = BASE, **settings: Any) -> Planner:
        self.planners += 1
        state = self.path / f"state{self.planners}"
        state.mkdir()
        shutil.copy(self.template / "hubdock.sqlite", state)
        options = HubDock(**{"state_dir": str(state), "allowed_hosts": [self.server.url], "base_image": "base:1", **settings})
        database = Database(options.database_url)
        if base is not None:
            database.write_base(base.reference, make_base_key(options, base.reference), PREPARED, json.dumps(asdict(base)))
        return Planner(options, database, TaskStore(options.state))

    def plan(self, planner: Planner, ref: str = "main", **more: Any) -> Assembly:
        return planner.plan(parse_options({"repo": self.url, "ref": ref, **more}), LOCAL)


@pytest.fixture
def team(tmp_path: Path, template: Path) -> Iterator[Team]:
    team = Team(tmp_path, template)
    yield team
    team.server.shutdown()


def test_a_whole_plan(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1.16\n", "environment.yml": "", **DVC})
    a = team.plan(team.make_planner())
    assert a.environment and a.code and a.image and a.dataset
    assert a.plan.parts == (
        Part("base", State.READY, "b" * 64),
        Part("environment", State.BUILD, a.environment.key, ("the first environment of this repository",)),
        Part("image", State.BUILD, a.image.key, ("the environment is new",)),
        Part("data", State.BUILD, a.dataset.inputs.key, ("not in the store",), size=5),
    )
    assert a.plan.notices == ("requirements.txt is used; environment.yml is not.",)
    assert (a.plan.ref_kind, a.plan.commit, a.plan.ready) == ("branch", team.work.git("rev-parse", "HEAD").decode().strip(), False)


def test_before_the_base_was_looked_into_no_engine_is_needed(team: Team, no_engine: None) -> None:
    team.push({"requirements.txt": "six\n"})
    a = team.plan(team.make_planner(base=None))
    assert [(part.name, part.state, part.reasons) for part in a.plan.parts] == [
        ("base", State.BUILD, ("base:1 is new here, or changed",)),
        ("environment", State.BUILD, ("the base image was not looked into yet",)),
        ("image", State.BUILD, ("the base image was not looked into yet",)),
        ("data", State.NONE, ()),
    ]
    assert a.environment is None and a.image is None


def give_image(engine: EmptyEngine, kind: str, inputs: Any) -> None:
    labels = {f"hubdock.{kind}": inputs.key, f"hubdock.{kind}.inputs": inputs.canonical}
    engine.images[f"hubdock/{kind}:{inputs.key}"] = {"Id": "sha256:" + "c" * 64, "Config": {"Labels": labels}}


def test_a_prepared_base_that_was_removed_is_made_again_where_it_is_needed(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1.16\n"})
    planner = team.make_planner()
    before = team.plan(planner)
    del engine.images[PREPARED]
    a = team.plan(planner)
    assert a.plan.part("base") == Part("base", State.BUILD, a.base_key, ("not here any more",)) and a.needs("base")
    assert (a.environment, a.image) == (before.environment, before.image), "the keys are known all the same"
    give_image(engine, "environment", a.environment)
    assert team.plan(planner).plan.part("base").state is State.READY, "new code stands on the environment"
    give_image(engine, "image", a.image)
    engine.asked.clear()
    assert team.plan(planner).plan.ready
    assert not [path for path in engine.asked if "hubdock/base" in path], "what is ready asks for no base"


def test_of_a_crowd_that_looks_one_asks_the_engine(team: Team, engine: EmptyEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only looks may be told what was so half a second ago, if all was ready; who starts never is."""
    team.push({"requirements.txt": "six==1.16\n"})
    planner, options = team.make_planner(), parse_options({"repo": team.url, "ref": "main"})

    def look() -> tuple[bool, bool]:
        """Return whether all is ready, and whether the engine was asked for it."""
        engine.asked.clear()
        return planner.plan(options, LOCAL, preview=True).plan.ready, any("/hubdock/image:" in path for path in engine.asked)

    image = team.plan(planner).image
    give_image(engine, "image", image)
    monkeypatch.setattr("hubdock.engine.planner.MOMENT", 60)
    assert look() == (True, True), "what was missing is looked for again"
    assert look() == (True, False)
    engine.images.clear()
    assert look() == (True, False) and not team.plan(planner).plan.ready
    assert look() == (False, True), "what a start saw is known to those who look"
    give_image(engine, "image", image)
    monkeypatch.setattr("hubdock.engine.planner.MOMENT", 0)
    assert [look(), look()] == [(True, True)] * 2, "the moment is over"


def test_data_needs_the_prepared_base_too(team: Team, engine: EmptyEngine) -> None:
    team.push(DVC)
    planner = team.make_planner()
    a = team.plan(planner)
    give_image(engine, "image", a.image)
    del engine.images[PREPARED]
    assert [(part.name, part.state) for part in team.plan(planner).plan.parts] == [
        ("base", State.BUILD), ("environment", State.READY), ("image", State.READY), ("data", State.BUILD)
    ]  # fmt: skip


def test_a_base_is_known_by_what_is_added_to_it(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1.16\n"})
    path = team.path / "ca.pem"
    path.write_text("one")
    planner = team.make_planner(extra_ca_certificates=str(path))

    def find_state(**settings: Any) -> State:
        same = {"state_dir": str(planner.settings.state), "allowed_hosts": [team.server.url], "base_image": "base:1", "extra_ca_certificates": str(path)}
        changed = HubDock(**{**same, **settings})
        return team.plan(Planner(changed, planner.database, planner.tasks)).plan.part("base").state

    assert find_state() is State.READY
    assert find_state(proxies={"https_proxy": "http://127.0.0.1:9"}) is State.READY, "a way to the packages is none of them"
    assert find_state(dvc_packages=["dvc[azure]"]) is State.BUILD
    assert find_state(extra_ca_certificates="") is State.BUILD
    path.write_text("two")
    assert find_state() is State.BUILD
    (team.path / "other.pem").write_text("one")
    assert find_state(extra_ca_certificates=str(team.path / "other.pem")) is State.READY, "the content counts, wherever it is"


def test_an_engine_that_is_away_is_no_answer(team: Team, no_engine: None) -> None:
    team.push({"README.md": ""})
    with pytest.raises(BuilderUnavailable):
        team.plan(team.make_planner())


def test_a_known_commit_costs_one_ls_remote(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "-r more.txt\n", "more.txt": "six==1\n", **DVC})
    planner = team.make_planner()
    first = team.plan(planner)
    team.server.requests.clear()
    assert team.plan(planner).plan == first.plan
    assert [method for method, _ in team.server.requests] == ["GET", "POST"]
    team.server.requests.clear()
    again = Planner(planner.settings, Database(planner.settings.database_url), planner.tasks)  # after a restart
    assert team.plan(again).plan == first.plan
    assert len(team.server.requests) == 2


def test_an_unknown_commit_reads_only_what_makes_the_keys(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1\n", "big.bin": b"x" * 100_000, **{f"src/f{n}.py": f"{n}" for n in range(50)}})
    planner = team.make_planner()
    a = team.plan(planner)
    mirror = planner.reader.make_mirror(a.remote)
    blobs = [entry for entry in mirror.read_tree(a.ref.commit).entries() if entry.kind == "blob"]
    assert len(mirror.find_missing(entry.oid for entry in blobs)) == len(blobs) - 1


def test_two_branches_with_one_environment(team: Team, engine: EmptyEngine) -> None:
    planner = team.make_planner()
    team.push({"requirements.txt": "six==1\n", "model.py": "1"})
    one = team.plan(planner)
    team.push({"model.py": "2"}, "vgg19")
    two = team.plan(planner, "vgg19")
    assert one.environment == two.environment and one.code != two.code and one.image != two.image


def test_a_new_hypothesis_is_the_image_of_where_it_starts(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1\n"})
    planner = team.make_planner()
    here, new = team.plan(planner), team.plan(planner, new_branch="try-1")
    assert new.image == here.image and new.plan.new_branch == "try-1" and new.options.branch == "try-1"
    start = make_start(new, "alice", "", [])
    assert (start["branch"], start["new_branch"], start["ref"], start["commit"]) == ("try-1", True, "main", here.ref.commit)


def test_a_new_hypothesis_that_was_pushed_is_started_as_it_is(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1\n"})
    team.push({"model.py": "2"}, "try-1")
    team.work.git("tag", "try-1", "main")
    team.work.git("push", "--quiet", str(team.bare), "refs/tags/try-1")
    planner = team.make_planner()
    a = team.plan(planner, new_branch="try-1")
    assert (a.ref.full, a.options.ref, a.options.new_branch) == ("refs/heads/try-1", "try-1", "")
    assert a.plan.notices[0] == "The branch try-1 is on the remote already: it is started instead of a new one."
    with pytest.raises(InvalidRef, match="try-1 is on the remote already") as caught:
        planner.plan(parse_options({"repo": team.url, "ref": "main", "new_branch": "try-1"}), LOCAL, new_must_be_new=True)
    assert caught.value.field == "new_branch"


def test_a_tag_is_started_on_its_commit(team: Team, engine: EmptyEngine) -> None:
    team.push({"README.md": ""})
    team.work.git("tag", "v1")
    team.work.git("push", "--quiet", str(team.bare), "v1")
    a = team.plan(team.make_planner(), "v1")
    assert a.plan.ref_kind == "tag" and make_start(a, "alice@example.org", "", [])["branch"] is None
    assert make_start(a, "alice@example.org", "", [])["author"] == {"name": "alice@example.org", "email": "alice@example.org"}


def test_a_tag_and_a_branch_of_one_name_are_two_hypotheses(team: Team, engine: EmptyEngine) -> None:
    """Work on the one must never turn up under the other. A tag is the same however it is written; a branch is named as ever."""
    team.push({"README.md": "tag"}, "v1")
    team.work.git("tag", "v1")
    team.work.git("tag", "only-a-tag")
    team.work.git("push", "--quiet", str(team.bare), "refs/tags/v1", "refs/tags/only-a-tag")
    team.push({"README.md": "branch"}, "v1")
    planner = team.make_planner()
    branch, tag = team.plan(planner, "refs/heads/v1"), team.plan(planner, "refs/tags/v1")
    assert branch.hypothesis == "v1" and tag.hypothesis not in {"v1", "refs/tags/v1"}
    assert make_server_name(branch.remote.repo, branch.hypothesis) != make_server_name(tag.remote.repo, tag.hypothesis)
    volumes = {make_workspace_volume("hubdock", "alice", "", a.remote.repo, a.hypothesis) for a in (branch, tag)}
    assert len(volumes) == 2
    assert team.plan(planner, "only-a-tag").hypothesis == team.plan(planner, "refs/tags/only-a-tag").hypothesis
    assert team.plan(planner, "refs/tags/v1", new_branch="fix").hypothesis == "fix"


async def test_a_launch_is_of_what_its_user_chose(team: Team, engine: EmptyEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch, the repository's address and the limits are a build's own: whoever chose others waits for the same tasks in another build."""
    team.push({"README.md": ""})
    planner = team.make_planner()
    builds = Builds(planner.settings, planner.database, planner.tasks, planner)
    monkeypatch.setattr(builds, "_run", lambda build: build.done.wait())
    main = await builds.ensure(team.plan(planner), "alice")
    assert await builds.ensure(team.plan(planner), "bob") is main and main.users == {"alice", "bob"}
    others = [{"new_branch": "try-1"}, {"new_branch": "try-2"}, {"cpu": 1}]
    made = [await builds.ensure(team.plan(planner, **more), "carol") for more in others]
    assert [build.assembly.options.new_branch for build in made] == ["try-1", "try-2", ""] and made[2] is not main
    assert main.users == {"alice", "bob"} and {build.assembly.image for build in made} == {main.assembly.image}
    assert await builds.ensure(team.plan(planner), "alice", "named") is main
    await builds.leave(main, "alice", "named")
    await builds.leave(main, "bob")
    assert main.waiters == {("alice", "")} and not main.done.is_set(), "who cancels one server leaves the build to their other one"
    for build in builds.by_id.values():
        build.done.set()
    builds.runner.pool.shutdown()


REFUSED: list[tuple[dict[str, str | bytes], dict[str, Any], type[HubDockError], str]] = [
    ({"requirements.txt": "six\n-i https://evil.example.net/simple\n"}, {}, RecipeError, "requirements.txt:2: The package index https://evil.example.net/simple is not allowed"),
    ({"requirements.txt": "-f https://evil.example.net/\n"}, {}, RecipeError, "is not allowed on this hub"),
    ({"requirements.txt": "jupyterlab==3.0\n"}, {}, RecipeError, "requirements.txt:1: jupyterlab==3.0 breaks Jupyter on this hub"),
    ({"requirements.txt": "x @ git+https://evil.example.net/x@main\n"}, {}, RecipeError, "requirements.txt:1: x @ git+https://evil.example.net/x@main: Repositories on evil"),
    ({"requirements.txt": f"x @ git+https://evil.example.net/x@{'a' * 40}\n"}, {}, RecipeError, "Repositories on evil.example.net are not allowed"),
    ({"uv.lock": f'[[package]]\nname = "x"\nsource = {{ git = "https://evil.example.net/x#{"a" * 40}" }}\n', "pyproject.toml": ""}, {}, RecipeError, "uv.lock:3: x @ git+https://evil.example.net/x@"),
    ({"requirements.txt": "-e .\n"}, {"index_credentials": [{"origin": "https://a.org", "password_file": "/x"}]}, RecipeError, "requirements.txt:1: This package would be built"),
    ({".hubdock.yml": "base: torch\n"}, {"base_images": {"cpu": "base:2"}}, RecipeError, ".hubdock.yml: The base 'torch' is not offered on this hub. Offered: cpu"),
    ({**DVC, ".dvc/config": ""}, {}, RecipeError, ".dvc/config: data is tracked by DVC, but no default remote"),
    ({"environment.yml": ""}, {}, RecipeError, "environment.yml: Conda environments are not supported"),
    ({"requirements.txt": b"\xff\xfes"}, {}, RecipeError, "requirements.txt:1: Byte 1 of this line (0xff) is not UTF-8"),
    ({"README.md": ""}, {"base_image": ""}, ConfigError, "HubDock.base_image is empty"),
]


@pytest.mark.parametrize(("files", "settings", "kind", "words"), REFUSED, ids=[words[:40] for *_, words in REFUSED])
def test_refused_before_anything_is_built(team: Team, engine: EmptyEngine, files: Any, settings: Any, kind: type[HubDockError], words: str) -> None:
    team.push(files)
    with pytest.raises(kind) as caught:
        team.plan(team.make_planner(**settings))
    assert words in str(caught.value)


def test_data_is_not_looked_at_where_people_pull_themselves(team: Team, engine: EmptyEngine) -> None:
    team.push({**DVC, ".dvc/config": ""})
    assert team.plan(team.make_planner(data_mode="none")).plan.part("data") == Part("data", State.NONE)


def test_data_that_becomes_part_of_the_image(team: Team, engine: EmptyEngine) -> None:
    """It is in the image's key, and needed no more beside an image that is there."""
    team.push(DVC)
    stored, planner = team.plan(team.make_planner()), team.make_planner(data_mode="image")
    a = team.plan(planner)
    assert a.dataset and a.image and a.environment and stored.image
    assert a.image.data == a.dataset.inputs.key and stored.image.data == "" and a.environment == stored.environment and a.image.key != stored.image.key
    assert a.plan.part("data").state is State.BUILD and a.plan.part("data").reasons == ("not in the registry",)
    start = make_start(a, "ada", a.dataset.inputs.key, [a.dataset.inputs.key])["data"]
    short = a.dataset.inputs.key[:8]
    assert start == {"current": short, "mounts": {short: f"/hubdock/data/{short}"}, "baked": True}
    labels = {"hubdock.data": a.dataset.inputs.key, "hubdock.data.inputs": a.dataset.inputs.label}
    engine.images[f"hubdock/data:{a.dataset.inputs.key}"] = {"Id": "sha256:" + "d" * 64, "Config": {"Labels": labels}}
    assert [team.plan(planner).plan.part(name).state for name in ("data", "image")] == [State.READY, State.BUILD]
    engine.images = {f"hubdock/image:{a.image.key}": {"Id": "sha256:" + "e" * 64, "Config": {"Labels": {"hubdock.image": a.image.key, "hubdock.image.inputs": a.image.canonical}}}}
    assert team.plan(planner).plan.ready


def test_limits_are_applied(team: Team, engine: EmptyEngine) -> None:
    team.push({"README.md": ""})
    planner = team.make_planner(cpu_limit=2.0, mem_limit="4G")
    resources = team.plan(planner).options.resources
    assert (resources.cpu, resources.memory) == (2.0, 4 * 1024**3)
    with pytest.raises(InvalidOption, match="the limit is 2"):
        team.plan(planner, cpu=3)


def test_what_may_not_be_asked_is_not_asked(team: Team, engine: EmptyEngine) -> None:
    planner = team.make_planner(allowed_hosts=["github.com"])
    with pytest.raises(RepoNotAllowed):
        team.plan(planner)
    assert team.server.requests == []


def test_cached_but_forbidden_answers_like_missing(team: Team, engine: EmptyEngine) -> None:
    team.push({"README.md": ""})
    planner = team.make_planner()
    team.plan(planner)
    team.server.password = "bot:t0ken"
    with pytest.raises(AccessDenied) as forbidden:
        team.plan(planner)
    with pytest.raises(AccessDenied) as missing:
        planner.plan(parse_options({"repo": f"{team.server.url}/git/none", "ref": "main"}), LOCAL)
    assert forbidden.value.message == missing.value.message.replace("/git/none,", "/git/project,")


def test_gpu_servers_have_a_base_of_their_own(team: Team, engine: EmptyEngine) -> None:
    team.push({"README.md": ""})
    planner = team.make_planner(gpu_limit=1, gpu_base_image="base:cuda")
    assert [team.plan(planner, **more).base_reference for more in ({}, {"gpu": 1})] == ["base:1", "base:cuda"]
    assert team.plan(team.make_planner(gpu_limit=1, gpu_base_image=""), gpu=1).base_reference == "base:1"


def test_packages_that_are_not_pinned_are_renewed_on_demand(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six\n"})
    planner = team.make_planner()
    options = parse_options({"repo": team.url, "ref": "main"})
    first, again, renewed, other = (planner.plan(options, LOCAL, rebuild=rebuild) for rebuild in (False, False, True, True))
    assert first.environment == again.environment != renewed.environment == other.environment, "two who renew at once share one environment"
    assert planner.plan(options, LOCAL).environment == first.environment, "newer packages that were not made yet, or do not work, cost nobody theirs"
    remember_epoch(planner, renewed)
    assert planner.plan(options, LOCAL).environment == renewed.environment
    team.push({"requirements.txt": "six==1\n"})
    pinned = [planner.plan(options, LOCAL, rebuild=rebuild).environment.key for rebuild in (False, True)]  # type: ignore[union-attr]
    assert pinned[0] == pinned[1]


def test_what_plan_says_of_a_rebuild_is_what_build_does(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six\n"})
    planner = team.make_planner()
    options = parse_options({"repo": team.url, "ref": "main"})
    for number in (1, 2):
        now = team.plan(planner)
        said = make_plan(planner.settings, options, True)
        assert team.plan(planner).environment == now.environment  # asking renews nothing
        done = planner.plan(options, LOCAL, rebuild=True)
        assert said.plan == done.plan and done.environment and done.environment.epoch == number
        remember_epoch(planner, done)


def test_a_rebuild_takes_the_newest_base(team: Team, engine: EmptyEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned packages too stand on a base, which its registry may have renewed; a plan alone changes nothing."""
    team.push({"requirements.txt": "six==1\n"})
    planner = team.make_planner()
    options = parse_options({"repo": team.url, "ref": "main"})
    monkeypatch.setattr("hubdock.drivers.registry.find_newer", lambda reference, inspection: "sha256:" + "9" * 64)
    known, renewed = (planner.plan(options, LOCAL, rebuild=rebuild) for rebuild in (False, True))
    assert known.plan.part("base").state is State.READY
    assert (renewed.base_digest, renewed.plan.part("base").state, renewed.plan.part("base").reasons) == ("sha256:" + "9" * 64, State.BUILD, ("base:1 is another image by now",))
    assert renewed.plan.part("environment").state is State.BUILD
    assert planner.plan(options, LOCAL) == known


def test_a_rebuild_without_the_registry_says_so(team: Team, engine: EmptyEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reference: str, inspection: object) -> str:
        raise RegistryUnavailable("The registry does not say what base:1 stands for.")

    team.push({"requirements.txt": "six==1\n"})
    monkeypatch.setattr("hubdock.drivers.registry.find_newer", fail)
    told = team.make_planner().plan(parse_options({"repo": team.url, "ref": "main"}), LOCAL, rebuild=True).plan.notices
    assert told == (
        "Every package is pinned to one version: there is nothing to renew.", "The registry does not say what base:1 stands for. The base image is used as it is known.",
    )  # fmt: skip


def test_looking_at_a_plan_makes_no_hypothesis(team: Team, engine: EmptyEngine) -> None:
    """A half typed name of a new branch is remembered nowhere, but what the plan found is in use."""
    team.push({"requirements.txt": "six==1\n"})
    planner = team.make_planner()
    looked = planner.plan(parse_options({"repo": team.url, "ref": "main", "new_branch": "tr"}), LOCAL, preview=True)
    usage = planner.reader.usage
    assert looked.image and usage.list_heads() == {} and ("image", looked.image.key) in usage.read_all()
    planner.plan(parse_options({"repo": team.url, "ref": "main", "new_branch": "try"}), LOCAL)
    assert [branch for _, branch in usage.list_heads()] == ["try"]


def test_only_what_is_listed_where_that_alone_may_be_chosen(team: Team, engine: EmptyEngine) -> None:
    team.push({"README.md": "x"})
    assert team.plan(team.make_planner(catalogue=[team.url], free_choice=False)).plan.commit
    with pytest.raises(RepoNotAllowed, match="chosen from its list"):
        team.plan(team.make_planner(catalogue=[f"{team.server.url}/git/other"], free_choice=False))


def remember_epoch(planner: Planner, a: Assembly) -> None:
    """Do what the end of a build does."""
    assert a.renews and a.environment
    planner.database.write_epoch(a.renews, a.environment.epoch)


def test_packages_that_got_old_are_renewed_but_not_for_ever_in_vain(team: Team, engine: EmptyEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    team.push({"requirements.txt": "six\n"})
    planner = team.make_planner(package_max_age=60.0)
    first = team.plan(planner)
    remember_epoch(planner, first)
    assert team.plan(planner).environment == first.environment
    later = time.time() + 61
    monkeypatch.setattr("hubdock.engine.planner.time.time", lambda: later)
    newer = team.plan(planner)
    assert first.environment and newer.environment and newer.environment.epoch == first.environment.epoch + 1
    path = planner.tasks.root / "environment" / newer.environment.key / "1"
    path.mkdir(parents=True)
    Reporter(path).finish(Phase.FAILED, BuildError("They don't fit."))
    assert team.plan(planner).environment == first.environment, "what worked goes on"
    later += 3700
    assert team.plan(planner).environment == newer.environment


def test_a_rebuild_is_not_forgotten_while_the_base_is_looked_into(team: Team, engine: EmptyEngine) -> None:
    """An earlier life's images may be there, though the database knows neither them nor the base: a rebuild must not find one."""
    team.push({"requirements.txt": "six\n"})
    planner = team.make_planner(base=None)
    waiting = planner.plan(parse_options({"repo": team.url, "ref": "main"}), LOCAL, rebuild=True)
    planner.database.write_base(BASE.reference, make_base_key(planner.settings, BASE.reference), PREPARED, json.dumps(asdict(BASE)))
    known = planner.refresh(waiting)
    assert known.environment and known.environment.epoch == 1
    assert planner.refresh(known).environment == known.environment  # renewed once


def test_the_base_that_a_tensorflow_replaces_is_told(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "tensorflow==2.20\n"})
    assert team.plan(team.make_planner()).plan.notices == ("tensorflow (requirements.txt:1) replaces the base image's tensorflow-cpu 2.21.",)


def test_a_tensorflow_that_is_only_constrained_replaces_nothing(team: Team, engine: EmptyEngine) -> None:
    """A list of pins for everything, as teams share it, installs nothing by itself."""
    team.push({"requirements.txt": "six==1\n-c pins.txt\n", "pins.txt": "-r more.txt\n", "more.txt": "tensorflow==2.20\n"})
    a = team.plan(team.make_planner())
    assert a.plan.notices == () and not find_tensorflow(a.source.recipe, BASE.packages)
    team.push({"requirements.txt": "six==1\n-c pins.txt\ntensorflow\n"})
    a = team.plan(team.make_planner())
    assert a.plan.notices == ("tensorflow (requirements.txt:3) replaces the base image's tensorflow-cpu 2.21.",)
    assert find_tensorflow(a.source.recipe, BASE.packages)


# --- why an environment is to be built ---

REASONS: list[tuple[dict[str, str], dict[str, Any], tuple[str, ...]]] = [
    ({"requirements.txt": "six==1.16\nxgboost==3.2\n"}, {}, ("requirements.txt: + xgboost 3.2",)),
    ({"requirements.txt": "six==1.17\n"}, {}, ("requirements.txt: six 1.16 → 1.17",)),
    ({"requirements.txt": "six==1.16 # comment\n"}, {}, ("requirements.txt changed",)),
    ({"apt.txt": "git\n"}, {}, ("apt.txt: + git",)),
    ({".hubdock.yml": "env: {A: '1'}\n"}, {}, (".hubdock.yml changed",)),
    ({".hubdock.yml": "requirements: env/dev.txt\n", "env/dev.txt": "six==1.16\n"}, {}, ("env/dev.txt: + six 1.16", "requirements.txt: - six 1.16")),
    ({}, {"index_url": "https://packages.example.org/simple"}, ("the package index changed",)),
    ({}, {}, ("not here any more",)),
    ({"requirements.txt": "".join(f"p{n}==1\n" for n in range(9))}, {}, (
        "requirements.txt: + p0 1", "requirements.txt: + p1 1", "requirements.txt: + p2 1", "requirements.txt: + p3 1", "requirements.txt: + p4 1", "and 5 more",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("files", "settings", "reasons"), REASONS, ids=[reasons[0] for *_, reasons in REASONS])
def test_the_reason_is_what_changed(team: Team, engine: EmptyEngine, files: Any, settings: Any, reasons: tuple[str, ...]) -> None:
    team.push({"requirements.txt": "six==1.16\n"})
    planner = team.make_planner()
    remember(planner, team.plan(planner))
    team.push(files)
    changed = Planner(HubDock(**{"state_dir": str(planner.settings.state), "allowed_hosts": [team.server.url], "base_image": "base:1", **settings}), planner.database, planner.tasks)
    assert team.plan(changed).plan.part("environment").reasons == reasons


def remember(planner: Planner, a: Assembly) -> None:
    assert a.environment
    inputs = {"inputs": a.environment.as_dict(), "recipe": describe_recipe(a.source)}
    planner.database.record_task(
        TaskRow(
            id="t", kind="environment", key=a.environment.key, repo=a.remote.repo.canonical, status="ready", finished=1.0, seconds=12.0, steps="{}", inputs=json.dumps(inputs)
        )
    )


def test_estimates_come_from_past_builds(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1.16\n"})
    planner = team.make_planner()
    remember(planner, team.plan(planner))
    team.push({"requirements.txt": "six==1.17\n"})
    part = team.plan(planner).plan.part("environment")
    assert (part.seconds, part.samples) == (12.0, 1)


@pytest.mark.parametrize(
    ("url", "pattern", "within"),
    [
        ("https://a.org/simple", "https://a.org/simple", True),
        ("https://a.org/simple/", "https://a.org/simple", True),
        ("https://A.org/simple", "https://a.org/simple", True),
        ("https://a.org/team/simple", "https://a.org/*", True),
        ("https://x.a.org/simple", "https://*.a.org/simple", True),
        ("https://anything.example/x", "*", True),
        ("http://a.org/simple", "https://a.org/simple", False),
        ("https://a.org:8443/simple", "https://a.org/simple", False),
        ("https://evil.net/x.a.org/simple", "https://*.a.org/simple", False),
        ("https://a.org.evil.net/simple", "https://a.org/*", False),
        ("https://a.org/other", "https://a.org/simple", False),
        ("https://a.org/simple/x", "https://a.org/simple", False),
    ],
)
def test_which_indexes_a_requirements_file_may_name(url: str, pattern: str, within: bool) -> None:
    assert matches_index(url, pattern) is within


async def test_the_place_that_a_start_would_have_in_the_queue(team: Team, engine: EmptyEngine) -> None:
    team.push({"requirements.txt": "six==1.16\n"})
    planner = team.make_planner(max_parallel_builds=1)
    builds = Builds(planner.settings, planner.database, planner.tasks, planner)
    a = team.plan(planner)
    assert await builds.foresee(a, "ann") == (0, 0.0)
    queue, release = builds.runner.queues["environment"], asyncio.Event()

    async def hold() -> None:
        async with queue.place(lambda: ["bob"], lambda _: None):
            await release.wait()

    others = [asyncio.create_task(hold()) for _ in range(2)]
    await asyncio.sleep(0)
    assert await builds.foresee(a, "ann") == (1, None), "bob's second waits behind ann's first"
    remember(planner, a)
    assert await builds.foresee(a, "bob") == (2, 24.0)
    release.set()
    await asyncio.gather(*others)
    assert await builds.foresee(a, "ann") == (0, 0.0)
