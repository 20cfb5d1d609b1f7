"""The generated Dockerfiles: golden texts, and that no value of a user can become an instruction."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.dockerfile import make_pairs, quote, render_base, render_data, render_environment, render_image
from hubdock.core.errors import RecipeError
from hubdock.core.project import parse_project
from hubdock.engine.step_environment import prepare_tools
from tests.unit.conftest import check_golden

ENVIRONMENT: dict[str, Any] = {
    "user": "1000:100", "workdir": "/home/jovyan", "apt": [], "install": True, "from_source": False, "cache": "hubdock-wheels-public",
    "private_cache": "hubdock-source-abc", "secrets": [], "env": {"B": "2", "A": 'a $HOME "x" \\'}, "labels": {"team": "vision"},
}  # fmt: skip
CASES = {
    "base-as-it-is": render_base("hubdock/source:1", user="1000:100", dvc=[], apt=[], certificates=False, labels={"hubdock.base": "base:1"}),
    "base-with-all": render_base("hubdock/source:1", user="jovyan", dvc=["dvc[s3]>=3"], apt=["git-lfs"], certificates=True, labels={"hubdock.base": "base:1"}),
    "environment-none": render_environment("hubdock/base:1", **ENVIRONMENT | {"install": False, "workdir": ""}),
    "environment-wheels": render_environment("hubdock/base:1", **ENVIRONMENT | {"apt": ["ffmpeg", "git"], "secrets": ["netrc"]}),
    "environment-tried": render_environment("hubdock/base:1", **ENVIRONMENT | {"smoke": True}),
    "environment-source": render_environment("hubdock/base:1", **ENVIRONMENT | {"from_source": True, "secrets": ["netrc"], "project": "/home/jovyan/x"}),
    "data": render_data("hubdock/base:1", key="d" * 64, target="/hubdock/data/dddddddd", cache="hubdock-data-public", labels={"hubdock.data": "d", "hubdock.data.inputs": "{}"}),
    "image": render_image("hubdock/environment:1", workspace="/home/jovyan/project", labels={"hubdock.image": "k", "hubdock.image.inputs": '{"a":"$x\\"y"}'}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    check_golden(f"Dockerfile.{name}", CASES[name])


# --- a reader as BuildKit's (frontend/dockerfile/parser and shell/lex.go), for what is generated here ---


def parse(text: str) -> list[tuple[str, str]]:
    """Return (instruction, rest): lines joined at a backslash at their end, comments and blank lines left out."""
    found, pending = [], ""
    for line in text.split("\n"):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if re.search(r"\\[ \t]*$", line):
            pending += re.sub(r"\\[ \t]*$", "", line)
            continue
        instruction, _, rest = (pending + line).strip().partition(" ")
        found.append((instruction, rest))
        pending = ""
    assert not pending
    return found


def parse_pairs(rest: str) -> list[tuple[str, str]]:
    """Return the pairs of an ENV or LABEL: words in double quotes, in which a backslash stands before a quote, a dollar and itself."""
    pairs, at = [], 0
    while at < len(rest):
        match = re.compile(r'([^\s=]+)="((?:\\.|[^"\\])*)"\s*').match(rest, at)
        assert match, rest
        assert "$" not in re.sub(r"\\.", "", match[2])  # or it would be expanded
        pairs.append((match[1], re.sub(r'\\(["$\\])', r"\1", match[2])))
        at = match.end()
    return pairs


HOSTILE = [
    "", "plain", "with space", '"', '""', "\\", "\\\\", 'x\\"', "$HOME", "${HOME}", "$(id)", "`id`", "'", "#", "x # y", "x \\", "trailing\\", "<<EOF", "a=b c=d", '" X="y',
    '\\" RUN id "', "é\u2028\u0085💥", "x" * 4000, "%(x)s", "&& id", "{{.}}", "|", "  ", "=",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=[ascii(value)[:30] for value in HOSTILE])
def test_hostile_values_stay_values(value: str) -> None:
    text = render_environment("b", **ENVIRONMENT | {"env": {"A": value, "Z": "z"}, "labels": {"l": value}})
    lines = parse(text)
    assert [parse_pairs(rest) for name, rest in lines if name == "ENV"] == [[("A", value)], [("Z", "z")]]
    assert [parse_pairs(rest) for name, rest in lines if name == "LABEL"] == [[("l", value)]]
    harmless = parse(render_environment("b", **ENVIRONMENT | {"env": {"A": "a", "Z": "z"}, "labels": {"l": "l"}}))
    assert [pair for pair in lines if pair[0] not in {"ENV", "LABEL"}] == [pair for pair in harmless if pair[0] not in {"ENV", "LABEL"}]


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20), max_size=4))
def test_any_value_is_read_back(values: dict[str, str]) -> None:
    lines = parse("\n".join(["FROM x", *make_pairs("ENV", values), "USER 0"]))
    assert [pair for name, rest in lines if name == "ENV" for pair in parse_pairs(rest)] == sorted(values.items())
    assert len(lines) == len(values) + 2


@pytest.mark.parametrize("value", ["a\nb", "a\n", "\r", "\0", "\x1b[0m", "\x7f", "\ud800"])
def test_a_control_character_is_never_written(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        quote(value)


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_a_repository_can_set_is_refused_or_harmless(name: str, value: str) -> None:
    try:
        project = parse_project(f"env: {{{yaml_text(name)}: {yaml_text(value)}}}\nlabels: {{{yaml_text(name.lower())}: {yaml_text(value)}}}".encode("utf-8", "replace"))
    except RecipeError:
        return
    lines = parse(render_environment("b", **ENVIRONMENT | {"env": project.env, "labels": project.labels}))
    assert [instruction for instruction, _ in lines].count("ENV") == len(project.env)
    assert [pair for instruction, rest in lines if instruction == "ENV" for pair in parse_pairs(rest)] == list(project.env.items())
    assert len(lines) == len(parse(render_environment("b", **ENVIRONMENT | {"env": {}, "labels": {}}))) + len(project.env) + len(project.labels)


def yaml_text(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" if not c.isalnum() else c for c in text) + '"'


def test_package_code_sees_no_secret_and_no_shared_cache() -> None:
    """A setup.py can read what its step mounts, and poison what it can write to."""
    text = render_environment("b", **ENVIRONMENT | {"from_source": True, "secrets": ["netrc"]})
    runs = [rest for name, rest in parse(text) if name == "RUN"]
    steps = {rest.split("install.py ")[1].split()[0]: rest for rest in runs if "install.py " in rest}
    assert list(steps) == ["resolve", "pinned", "source"]
    for rest in runs:
        if rest != steps["pinned"]:
            assert "secret" not in rest and "hubdock-wheels" not in rest and "hubdock-bytecode" not in rest, rest
    assert "hubdock-wheels-public" in steps["pinned"] and "hubdock-source" not in steps["pinned"]


def test_the_settings_of_the_installer_are_not_the_repository_s() -> None:
    for name, rest in parse(CASES["environment-wheels"]):
        if name == "RUN" and "install.py" in rest:
            assert "source=settings,target=/tmp/hubdock/settings" in rest and "source=project,target=/tmp/hubdock/project" in rest


def test_an_image_keeps_no_part_of_its_environment_waiting() -> None:
    instructions = parse(CASES["image"])
    assert [rest for name, rest in instructions if name == "COPY"] == ["--link --chown=0:0 guest/ /", "--link --chown=1000:100 root/ /"]
    assert not [rest for name, rest in instructions if name == "RUN"]


@pytest.mark.parametrize("from_source", [False, True])
def test_what_was_not_tried_is_no_image(from_source: bool) -> None:
    """The trial has no network, secret or cache, leaves nothing of its own in the image, and without its mark there is no image."""
    lines = parse(render_environment("b", **ENVIRONMENT | {"from_source": from_source, "secrets": ["netrc"], "smoke": True}))
    (trial,) = (rest for name, rest in lines if name == "RUN" and "smoke.py" in rest)
    assert "--network=none" in trial and "secret" not in trial and "cache" not in trial
    last = lines[max(number for number, (name, _) in enumerate(lines) if name == "FROM") :]
    copies = [rest for name, rest in last if name == "COPY"]
    assert not any("smoke.py" in rest for _, rest in last) and copies == ["--from=tried /tmp/hubdock-tried /hubdock/tried"]
    assert ("COPY", copies[0]) not in parse(render_environment("b", **ENVIRONMENT))


def test_the_tools_are_whole_however_many_builds_make_them(tmp_path: Path) -> None:
    uv, many = tmp_path / "uv", 8
    uv.write_bytes(b"u" * 20_000_000)
    barrier = threading.Barrier(many)

    def prepare(_: int) -> Path:
        barrier.wait()
        made = prepare_tools(tmp_path, str(uv))
        assert (made / "uv").stat().st_size == 20_000_000 and {path.name for path in made.iterdir()} >= {"uv", "install.py", "smoke.py"}
        return made

    with ThreadPoolExecutor(many) as pool:
        (directory,) = set(pool.map(prepare, range(many)))
    assert [*directory.parent.iterdir()] == [directory]
