"""``.hubdock.yml``: every setting, and every refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.errors import RecipeError
from hubdock.core.project import Project, parse_project

WHOLE = """
# what the team agreed on
base: torch
requirements: ./env/dev.txt
env:
  PYTHONHASHSEED: 0
  GREETING: "a $HOME \\"quoted\\" \\\\ value"
  RATE: 0.5
labels: {team: vision, org.example.cost-centre: 42}
copy:
  - {from: jupyter/, to: ~/.jupyter}
  - {from: ./data/names.csv, to: /srv/names.csv}
command: [python, -m, app, 8888]
"""


def test_every_setting() -> None:
    assert parse_project(WHOLE.encode()) == Project(
        base="torch",
        requirements="env/dev.txt",
        env={"GREETING": 'a $HOME "quoted" \\ value', "PYTHONHASHSEED": "0", "RATE": "0.5"},
        labels={"org.example.cost-centre": "42", "team": "vision"},
        copy=(("jupyter", "/home/jovyan/.jupyter"), ("data/names.csv", "/srv/names.csv")),
        command=("python", "-m", "app", "8888"),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null", "~", "{}", "env:\nlabels:\ncopy:\ncommand:\n", "base: ''"])
def test_nothing_set(text: str) -> None:
    assert parse_project(text.encode()) == Project()


def test_the_order_of_settings_does_not_matter() -> None:
    one, two = parse_project(b"env: {A: x, B: y}\nlabels: {b: '1', a: '2'}"), parse_project(b"labels: {a: '2', b: '1'}\nenv: {B: y, A: x}")
    assert one == two and list(one.env) == list(two.env) == ["A", "B"]


def test_what_goes_into_the_environment_key() -> None:
    settings = parse_project(WHOLE.encode()).environment_settings
    assert settings == {
        "base": "torch", "env": {"GREETING": 'a $HOME "quoted" \\ value', "PYTHONHASHSEED": "0", "RATE": "0.5"},
        "labels": {"org.example.cost-centre": "42", "team": "vision"}, "command": ["python", "-m", "app", "8888"],
    }  # fmt: skip


BAD = [
    ("bass: x", 1, "'bass' is unknown. Known: base, requirements, env, labels, copy, command"),
    ("base: x\nimage: y", 2, "'image' is unknown"),
    ("3: x", None, "'3' is unknown"),
    ("[base]", None, "settings of the form"),
    ("text", None, "settings of the form"),
    ("base: [", 1, "not valid YAML"),
    ("base: x\n\tenv: y", 2, "not valid YAML"),
    ("base: x\nbase: y", 2, "'base' stands here twice"),
    ("env: {A: x, A: y}", 1, "'A' stands here twice"),
    ("base: &a x\nrequirements: *a", 2, "aliases are not accepted"),
    ("env: &a [*a]", 1, "aliases are not accepted"),
    ("base: !!python/object/apply:os.system [id]", 1, "not valid YAML"),
    ("base: !!bool x", None, "not valid YAML"),
    ("base: !!timestamp x", None, "not valid YAML"),
    ("? {a: b}\n: c", 1, "not valid YAML"),
    ("[" * 5000, None, "not valid YAML"),
    ("a: " + "{b: " * 3000, None, "not valid YAML"),
    ("base: [x]", 1, "“base” must be text"),
    ("base: true", 1, "“base” must be text"),
    ("base: 2026-01-01", 1, "“base” must be text"),
    ('base: "a\\nb"', 1, "a line break or control character"),
    ("base: " + "x" * 5000, 1, "longer than 4096"),
    ("base: 0x" + "f" * 5000, 1, "longer than 4096"),
    ("requirements: /etc/passwd", 1, "a path inside the repository"),
    ("requirements: ../x.txt", 1, "a path inside the repository"),
    ("requirements: a/../../x.txt", 1, "a path inside the repository"),
    ("requirements: ~/x.txt", 1, "a path inside the repository"),
    ("requirements: a//b.txt", 1, "a path inside the repository"),
    ("env: [A]", 1, "“env” must hold"),
    ("env: {A: [x]}", 1, "“env.A” must be text"),
    ("env: {A: yes}", 1, "“env.A” must be text"),
    ("env: {A: }", 1, "“env.A” must be text"),
    ('env: {A: "x\\ny"}', 1, "line break or control character"),
    ('env: {A: "x\\0y"}', 1, "line break or control character"),
    ('env: {A: "x\\ud800y"}', 1, "line break or control character"),
    ("env: {1A: x}", 1, "no name of an environment variable"),
    ("env: {A-B: x}", 1, "no name of an environment variable"),
    ("env: {'A B': x}", 1, "no name of an environment variable"),
    ('env: {"A\\n": x}', 1, "no name of an environment variable"),
    ('env: {"A\\nRUN id\\n#": x}', 1, "no name of an environment variable"),
    ("env: {ä: x}", 1, "no name of an environment variable"),
    ("env: {" + "A" * 200 + ": x}", 1, "no name of an environment variable"),
    *((f"env: {{{name}: x}}", 1, "is set by the hub or the image") for name in (
        "PATH", "HOME", "LD_PRELOAD", "PYTHONPATH", "JUPYTERHUB_API_TOKEN", "JPY_PARENT_PID", "HUBDOCK_TRIM", "GIT_SSH_COMMAND", "SSL_CERT_FILE",
        "PIP_INDEX_URL", "UV_INDEX", "http_proxy", "HTTPS_PROXY", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "NB_UID", "CONDA_PREFIX",
    )),
    ("env: {" + ", ".join(f"A{n}: x" for n in range(101)) + "}", 1, "at most 100 entries"),
    ("labels: {Team: x}", 1, "can't be a label"),
    ("labels: {'a b': x}", 1, "can't be a label"),
    ('labels: {"a\\n": x}', 1, "can't be a label"),
    *((f"labels: {{{name}: x}}", 1, "can't be a label") for name in ("hubdock.image", "com.docker.x", "io.docker.x", "org.opencontainers.image.title")),
    ("copy: x", 1, "“copy” must be a list"),
    ("copy: [x]", 1, "has a “from”"),
    ("copy: [{from: a}]", 1, "has a “from”"),
    ("copy: [{from: a, to: /srv/a, mode: 1}]", 1, "has a “from”"),
    *((f"copy: [{{from: a, to: {target}}}]", 1, "“copy.to” must lie in") for target in (
        "/etc/passwd", "/hubdock/code", "/opt/../etc/x", "/srv/../hubdock", "'~'", "~/", "~/../x", "~/a//b", "relative", "/srv", "/opt", "~other/x", "/usr/local/bin/x",
    )),
    ("copy: [{from: ../a, to: /srv/a}]", 1, "“copy.from” must be a path inside"),
    ("copy: [{from: /a, to: /srv/a}]", 1, "“copy.from” must be a path inside"),
    ("command: python app.py", 1, "“command” must be a list"),
    ("command: [[x]]", 1, "“command” must be text"),
    ('command: ["a\\nb"]', 1, "line break or control character"),
    ("command: [" + "x, " * 101 + "]", 1, "at most 100 entries"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), BAD, ids=[text[:50] for text, _, _ in BAD])
def test_refused_with_the_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_project(text.encode())
    assert words in caught.value.message
    assert caught.value.file == ".hubdock.yml"
    assert line is None or caught.value.line == line


def test_the_line_is_that_of_the_setting() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_project(b"# first\nbase: x\n\nenv:\n  PATH: /evil\n")
    assert caught.value.place == ".hubdock.yml:4"


def test_not_utf8() -> None:
    with pytest.raises(RecipeError, match="not UTF-8") as caught:
        parse_project(b"base: x\n# \xff")
    assert caught.value.place == ".hubdock.yml:2"


@given(st.text(alphabet="abeno:{}[]&*!-'\"\\ \n#.,?|>01~<", max_size=60))
def test_any_file_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_project(text.encode()), Project)
    except RecipeError as error:
        assert error.file == ".hubdock.yml" and error.message
