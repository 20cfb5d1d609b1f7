"""What the pages for people say is true: their links lead somewhere, and the settings, commands, files and examples that they name are there."""

from __future__ import annotations

import ast
import re
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerspawner import DockerSpawner
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub.spawner import Spawner
from kubespawner import KubeSpawner
from traitlets.config import Config
from typer.main import get_command

import hubdock
from hubdock.cli import app
from hubdock.core import project
from hubdock.core.errors import ConfigError, RecipeError
from hubdock.docs import GROUPS, make_pages
from hubdock.engine.config import HubDock, load_config, make_settings
from hubdock.spawner.docker import HubDockSpawner
from hubdock.spawner.kubernetes import HubDockKubeSpawner

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MADE = [ROOT / "docs/reference" / name for name in make_pages()]
CONFIGS = sorted(ROOT.glob("config/**/*.py"))
CLASSES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        HubDock, HubDockSpawner, DockerSpawner, HubDockKubeSpawner, KubeSpawner, Spawner, JupyterHub, Authenticator, SharedPasswordAuthenticator,
        ConfigurableHTTPProxy,
    )
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
WIDTH = 150


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read_prose(path: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", read(path))


def find_blocks(path: Path, *languages: str) -> list[str]:
    """Return the code blocks of a page in these languages; the empty string is a block without one."""
    return [textwrap.dedent(match[3]) for match in FENCE.finditer(read(path)) if match[2] in languages]


def find_anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as git hosts make them."""
    anchors: set[str] = set()
    for title in re.findall(r"^#+ +(.*?) *$", read_prose(path), re.M):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        anchors.add(next(name for name in (slug, *(f"{slug}-{n}" for n in range(1, 100))) if name not in anchors))
    return anchors


def find_targets(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield (file, anchor) of each link within the repository."""
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "``", read_prose(path))):
        if "://" in target:
            assert target.startswith("https://"), target
            continue
        file, _, anchor = target.partition("#")
        yield (path.parent / file).resolve() if file else path, anchor


# --- pages and links ---


@pytest.mark.parametrize("name", make_pages())
def test_the_reference_is_the_one_of_this_code(name: str) -> None:
    assert read(ROOT / "docs/reference" / name) == make_pages()[name], "run `make docs`"


def test_every_setting_has_its_place_in_the_reference() -> None:
    assert sorted(HubDock.class_trait_names(config=True)) == sorted(name for names in GROUPS.values() for name in names), "see GROUPS of hubdock/docs.py"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for file, anchor in find_targets(path):
        assert file.is_relative_to(ROOT) and file.exists(), f"{name_of(path)} links to {file}"
        assert not anchor or anchor in find_anchors(file), f"{name_of(path)} links to #{anchor} of {name_of(file)}"


def test_every_page_and_picture_is_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in seen:
            seen.add(page)
            todo += [file for file, _ in find_targets(page)] if page.suffix == ".md" else []
    assert {*PAGES, *ROOT.glob("docs/images/*")} <= seen


@pytest.mark.parametrize("path", [path for path in PAGES if path not in MADE], ids=name_of)
def test_lines_are_wrapped_and_pages_short(path: Path) -> None:
    lines = read_prose(path).split("\n")
    assert not [line for line in lines if len(line) > WIDTH and not line.startswith("|")]
    assert len(lines) <= 300


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS, ROOT / "pyproject.toml", ROOT / ".pre-commit-config.yaml"], ids=name_of)
def test_no_package_registry_and_no_machine_is_named(path: Path) -> None:
    words = ("pypi" + ".org", "registry.npmjs" + ".org", "/" + "root/", "/" + "work/main")
    assert not [word for word in words if word in read(path)]


# --- what the pages name ---


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=name_of)
def test_the_settings_that_are_named_exist(path: Path) -> None:
    for kind, name in re.findall(r"\bc\.([A-Z]\w+)\.([a-z]\w*)", read(path)):
        assert kind in CLASSES, f"c.{kind}.{name}"
        assert name in CLASSES[kind].class_trait_names(config=True), f"c.{kind}.{name}"


def find_commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of each call of ``hubdock`` in a page, from its name on."""
    spans = re.findall(r"`(hubdock [a-z-][^`\n]*)`", read_prose(path).replace("\n", " "))
    lines = [line for block in find_blocks(path, "") for line in block.split("\n")]
    calls = [match[1] for line in lines if (match := re.search(r"(?:^|(?<!helm)/|\$\()(hubdock +[a-z-].*)", line.partition(" #")[0]))]
    for call in [*spans, *calls]:
        yield re.split(r"[)|;]", call)[0].split()[1:]


@pytest.mark.parametrize("path", [path for path in PAGES if path not in MADE], ids=name_of)
def test_the_commands_that_are_named_exist(path: Path) -> None:
    group: Any = get_command(app)
    shared = {option for parameter in group.params for option in parameter.opts}
    for words in find_commands(path):
        chosen = next((group.commands[word] for word in words if word in group.commands), None)
        known = shared | {option for parameter in (chosen.params if chosen else ()) for option in parameter.opts}
        assert chosen or words[0].startswith("--"), words
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, words


@pytest.mark.parametrize("path", [path for path in PAGES if path not in MADE], ids=name_of)
def test_the_files_and_targets_that_are_named_exist(path: Path) -> None:
    for word in re.findall(r"`([^`\n]+)`", read_prose(path)):
        if re.fullmatch(r"(config|docs|hubdock|tests|\.ci)/[\w./-]*", word):
            assert (ROOT / word).exists(), word
    targets = re.findall(r"^(\w+):", read(ROOT / "Makefile"), re.M)
    called = re.findall(r"`make (\w+)", read_prose(path)) + re.findall(r"^make (\w+)", "\n".join(find_blocks(path, "")), re.M)
    assert set(called) <= set(targets)


def test_the_messages_that_are_explained_are_those_of_the_code() -> None:
    source = " ".join(ast.unparse(ast.parse(read(path))) for path in ROOT.glob("hubdock/**/*.py"))  # joins texts that are written in pieces
    quoted = re.findall(r'\*\*"(.*?)"\*\*', " ".join(read(ROOT / "docs/howto/troubleshooting.md").split()))
    assert len(quoted) > 15
    for piece in (piece.strip(" ,") for message in quoted for piece in message.split("…")):
        assert piece.replace("'", "\\'") in source or piece in source, piece


def test_the_changes_name_this_version() -> None:
    assert hubdock.__version__ in read(ROOT / "CHANGELOG.md")


# --- examples ---

EXAMPLES = [(path, number) for path in PAGES if path not in MADE for number in range(len(find_blocks(path, "python")))]


@pytest.mark.parametrize(("path", "number"), EXAMPLES, ids=[f"{name_of(path)}-{number}" for path, number in EXAMPLES])
def test_configurations_are_accepted(path: Path, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the machine goes: files of secrets are taken for there."""
    code = compile(find_blocks(path, "python")[number], f"{name_of(path)}-{number}", "exec")
    if "HubDock" not in code.co_names and "HubDockSpawner" not in code.co_names:
        return
    monkeypatch.setattr("hubdock.engine.config.read_secret", lambda path: "x")
    monkeypatch.setattr("hubdock.engine.checks.read_secret", lambda path: "x")
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setattr(hubdock, "configure", lambda c, port=9000: None)
    config = Config()
    exec(code, {"c": config})
    config.HubDock.state_dir = str(tmp_path)
    make_settings(config)
    HubDockSpawner(_mock=True, config=config)


def test_the_example_configuration_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubdock.drivers.docker._local", threading.local())
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")  # no engine: nothing is found, and nothing fails
    monkeypatch.setenv("HUBDOCK_STATE", str(tmp_path / "state"))
    config = load_config(str(ROOT / "config/jupyterhub_config_docker.py"))
    assert config.JupyterHub.spawner_class == "hubdock" and config.JupyterHub.services[-1]["name"] == "hubdock"
    assert config.HubDock.state_dir == str(tmp_path / "state/engine") and (tmp_path / "state/engine/config.json").exists()
    HubDockSpawner(_mock=True, config=config)
    JupyterHub(config=config)


async def test_the_example_configuration_for_kubernetes_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*args: object, **kwargs: object) -> None:
        pass

    monkeypatch.setattr("kubernetes_asyncio.config.load_kube_config", nothing)  # no cluster: none is asked
    with pytest.raises(ConfigError, match="needs the token of the service"):
        load_config(str(ROOT / "config/jupyterhub_config_kubernetes.py"))
    monkeypatch.setenv("HUBDOCK_SERVICE_TOKEN", "secret")
    config = load_config(str(ROOT / "config/jupyterhub_config_kubernetes.py"))
    (service,) = config.JupyterHub.services
    assert (service["name"], service["url"], service["api_token"]) == ("hubdock", "http://hubdock:9000", "secret") and "command" not in service
    spawner = HubDockKubeSpawner(_mock=True, config=config)
    assert (spawner.service_url, spawner.storage_capacity, spawner.mem_guarantee) == ("http://hubdock:9000/services/hubdock/", "20Gi", 1024**3)
    assert spawner.client_of_service.client.headers["Authorization"] == "token secret"
    assert config.JupyterHub.spawner_class == "hubdock-kubernetes"
    config.JupyterHub.spawner_class = HubDockKubeSpawner  # the name is known once the package is installed anew
    JupyterHub(config=config)


YML = ROOT / "docs/reference/hubdock-yml.md"


def test_every_setting_of_a_repository_has_its_part() -> None:
    assert re.findall(r"^## (.*)", read(YML), re.M) == list(project._KEYS)


def test_the_examples_of_a_repository_s_settings_are_accepted() -> None:
    whole, *parts = (project.parse_project(block.encode()) for block in find_blocks(YML, "yaml"))
    empty = project.Project()
    assert len(parts) == len(project._KEYS)
    for name, part in zip(project._KEYS, parts, strict=True):
        assert getattr(whole, name) != getattr(empty, name), name
        assert [key for key in project._KEYS if getattr(part, key) != getattr(empty, key)] == [name]


def test_what_a_repository_may_not_set_is_told() -> None:
    text = " ".join(read(YML).split())
    reserved = project._RESERVED_ENV.pattern.strip("^$()").replace(".*", "*").split("|")
    assert re.findall(r"`([^`]+)`", text.partition("can't be changed: ")[2].partition(". Never")[0]) == reserved
    for name in (name.replace("*", "X") for name in reserved):
        with pytest.raises(RecipeError, match="can't be changed"):
            project.parse_project(f"env: {{{name}: x}}".encode())
    roots = re.findall(r"`([^`]+)`", text.partition("beside the workspace: below ")[2].partition(". The content")[0])
    assert roots == ["~/", *project._COPY_ROOTS]
    for prefix in re.findall(r"`([^`]+)`", text.partition("Names that start with ")[2].partition(" are reserved")[0]):
        with pytest.raises(RecipeError, match="reserved prefixes"):
            project.parse_project(f"labels: {{{prefix}: x}}".encode())
    assert f"at most {project.MAX_TEXT} characters" in text
