"""The four keys: what changes each, what never does, and their exact values for ever."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.contract import BaseImage
from hubdock.core.dvcfiles import DataFiles, find_data_files, parse_data_files
from hubdock.core.keys import CodeInputs, DataInputs, EnvironmentInputs, ImageInputs, make_canonical, make_digest
from hubdock.core.recipe import make_recipe
from hubdock.core.repo import make_policy
from hubdock.core.source import Source, load_source
from hubdock.engine.assembly import make_code_inputs, make_environment_inputs
from hubdock.engine.config import HubDock
from hubdock.engine.datasets import make_dataset
from tests.unit.conftest import Repository, read

BASE = BaseImage(
    "base:1", "sha256:" + "a" * 64,
    {"diff_ids": ["sha256:" + "1" * 64], "Env": ["PATH=/opt/conda/bin"], "User": "1000:100", "Entrypoint": None, "Cmd": ["start"], "WorkingDir": "/home/jovyan"},
    "3.12.1", {"jupyterlab": "4.4.0"}, ("git",), 1000, 100, "/home/jovyan", 1000,
)  # fmt: skip
WORKSPACE = "/home/jovyan/project"
FILES = {
    "requirements.txt": "six==1.16\n-r env/more.txt\n", "env/more.txt": "numpy==1.26\n", "apt.txt": "git\n", "README.md": "one\n", "train.py": "print(1)\n",
    ".hubdock.yml": "env: {A: '1'}\n", ".dvc/config": "[core]\nremote = r\n['remote \"r\"']\nurl = https://dvc.example.org/x\n", "params.yaml": "lr: 1\n",
    "data.dvc": yaml.safe_dump({"outs": [{"md5": "a" * 32 + ".dir", "hash": "md5", "path": "data"}]}),
}  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """The keys of one commit."""

    environment: str
    code: str
    data: str
    image: str


def read_source(repository: Repository) -> Source:
    tree, contents = read(repository)
    data = parse_data_files(tree, contents) if find_data_files(tree) else DataFiles()
    subject, author, stamp = repository.git("log", "-1", "--format=%s%n%an%n%at").decode().splitlines()
    return Source(repository.git("rev-parse", "HEAD").decode().strip(), tree.oid, subject, author, int(stamp), len(tree), make_recipe(tree, contents), data)


def make_keys(source: Source, base: BaseImage = BASE, prepared: str = "hubdock/base:b", scope: str = "", epoch: int = 0, sources: Any = (), **settings: Any) -> Keys:
    options = HubDock(allowed_hosts=["dvc.example.org"], **settings)
    environment = make_environment_inputs(options, source, WORKSPACE, base, prepared, sources, epoch)
    code = make_code_inputs(source, WORKSPACE, scope)
    dataset = make_dataset(source.data, options.policy, options.dvc_remotes)
    image = ImageInputs(environment.key, code.key, "", "guest")
    return Keys(environment.key, code.key, dataset.inputs.key if dataset else "", image.key)


def keys_of(repository: Repository, **more: Any) -> Keys:
    return make_keys(read_source(repository), **more)


@pytest.fixture
def project(repository: Repository) -> Repository:
    repository.commit(FILES)
    return repository


def changed(before: Keys, after: Keys) -> set[str]:
    return {name for name in ("environment", "code", "data", "image") if getattr(before, name) != getattr(after, name)}


def test_the_same_requirements_on_two_branches_are_one_environment(project: Repository) -> None:
    before = keys_of(project)
    project.git("checkout", "--quiet", "-b", "vgg19")
    project.commit({"train.py": "print(19)\n"}, "another model")
    assert changed(before, keys_of(project)) == {"code", "image"}


def test_history_has_no_say(project: Repository) -> None:
    before, commit = keys_of(project), project.git("rev-parse", "HEAD")
    project.git("commit", "--quiet", "--amend", "--allow-empty", "-m", "other words", author="Bob", when="2030-01-01T00:00:00Z")
    assert project.git("rev-parse", "HEAD") != commit
    assert changed(before, keys_of(project)) == set()
    project.commit({"README.md": "two\n"})
    project.commit({"README.md": "one\n"}, "back again")
    assert changed(before, keys_of(project)) == set()


def test_the_name_of_a_branch_has_no_say(project: Repository) -> None:
    before = keys_of(project)
    project.git("branch", "--move", "main", "renamed")
    assert changed(before, keys_of(project)) == set()


CHANGES: dict[str, tuple[dict[str, str], set[str]]] = {
    "README": ({"README.md": "two\n"}, {"code", "image"}),
    "code of the same size": ({"train.py": "print(2)\n"}, {"code", "image"}),
    "a new file": ({"new.py": ""}, {"code", "image"}),
    "params": ({"params.yaml": "lr: 2\n"}, {"code", "image"}),
    "one requirement": ({"requirements.txt": "six==1.17\n-r env/more.txt\n"}, {"environment", "code", "image"}),
    "a nested file": ({"env/more.txt": "numpy==2.0\n"}, {"environment", "code", "image"}),
    "a comment in it": ({"env/more.txt": "numpy==1.26 # pinned\n"}, {"environment", "code", "image"}),
    "apt.txt": ({"apt.txt": "git\nvim\n"}, {"environment", "code", "image"}),
    "env": ({".hubdock.yml": "env: {A: '2'}\n"}, {"environment", "code", "image"}),
    "labels": ({".hubdock.yml": "env: {A: '1'}\nlabels: {a: b}\n"}, {"environment", "code", "image"}),
    "command": ({".hubdock.yml": "env: {A: '1'}\ncommand: [x]\n"}, {"environment", "code", "image"}),
    "base": ({".hubdock.yml": "env: {A: '1'}\nbase: torch\n"}, {"environment", "code", "image"}),
    "copy": ({".hubdock.yml": "env: {A: '1'}\ncopy: [{from: README.md, to: /srv/x}]\n"}, {"code", "image"}),
    "a comment in .hubdock.yml": ({".hubdock.yml": "env: {A: '1'} # x\n"}, {"code", "image"}),
    "an out": ({"data.dvc": yaml.safe_dump({"outs": [{"md5": "b" * 32 + ".dir", "hash": "md5", "path": "data"}]})}, {"code", "data", "image"}),
    "an out's place": ({"data.dvc": yaml.safe_dump({"outs": [{"md5": "a" * 32 + ".dir", "hash": "md5", "path": "other"}]})}, {"code", "data", "image"}),
    "an out's kind of hash": ({"data.dvc": yaml.safe_dump({"outs": [{"md5": "a" * 32 + ".dir", "path": "data"}]})}, {"code", "data", "image"}),
    "an out's mode": ({"data.dvc": yaml.safe_dump({"outs": [{"md5": "a" * 32 + ".dir", "hash": "md5", "path": "data", "isexec": True}]})}, {"code", "data", "image"}),
    "an out's description": ({"data.dvc": yaml.safe_dump({"desc": "x", "outs": [{"md5": "a" * 32 + ".dir", "hash": "md5", "path": "data", "size": 3}]})}, {"code", "image"}),
    "the remote": ({".dvc/config": "[core]\nremote = s\n['remote \"s\"']\nurl = s3://bucket/elsewhere\n"}, {"code", "image"}),
    "a cache: false out": (
        {"dvc.yaml": "stages: {s: {cmd: x, metrics: [{m.json: {cache: false}}]}}", "dvc.lock": yaml.safe_dump({"stages": {"s": {"outs": [{"path": "m.json", "md5": "c" * 32}]}}})},
        {"code", "image"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), CHANGES.values(), ids=CHANGES)
def test_what_a_change_changes(project: Repository, files: dict[str, str], expected: set[str]) -> None:
    before = keys_of(project)
    project.commit(files)
    assert changed(before, keys_of(project)) == expected


def test_a_mode_is_content(project: Repository) -> None:
    before = keys_of(project)
    (project.path / "train.py").chmod(0o755)
    project.commit()
    assert changed(before, keys_of(project)) == {"code", "image"}


def test_a_rename_of_the_requirements_is_an_environment(project: Repository) -> None:
    before = keys_of(project)
    project.git("mv", "requirements.txt", "dev.txt")
    project.commit({".hubdock.yml": "env: {A: '1'}\nrequirements: dev.txt\n"})
    assert "environment" in changed(before, keys_of(project))


@pytest.mark.parametrize(
    "identity",
    [
        {"diff_ids": ["sha256:" + "2" * 64]}, {"Env": ["PATH=/opt/conda/bin", "X=1"]}, {"User": "root"}, {"Entrypoint": ["tini"]}, {"Cmd": ["x"]}, {"WorkingDir": "/srv"},
    ],
    ids=lambda value: next(iter(value)),
)  # fmt: skip
def test_the_base_is_what_it_holds(project: Repository, identity: dict[str, Any]) -> None:
    source = read_source(project)
    assert changed(make_keys(source), make_keys(source, replace(BASE, identity=BASE.identity | identity))) == {"environment", "image"}
    assert changed(make_keys(source), make_keys(source, replace(BASE, reference="other:2", image_id="sha256:" + "b" * 64))) == set()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"prepared": "hubdock/base:c"}, {"environment", "image"}),
        ({"epoch": 1}, {"environment", "image"}),
        ({"sources": (("https://a.org/x@main", "1" * 40),)}, {"environment", "image"}),
        ({"index_url": "https://packages.example.org/simple"}, {"environment", "image"}),
        ({"extra_index_urls": ["https://packages.example.org/simple"]}, {"environment", "image"}),
        ({"scope": "https://git.example.org/secret"}, {"code", "image"}),
        ({"index_credentials": [{"origin": "https://packages.example.org", "password_file": "/etc/x"}]}, {"environment", "image"}),
        ({"dvc_remotes": {"https://dvc.example.org/x": {"password_file": "/etc/x"}}}, {"data"}),
        ({"dvc_remotes": {"https://dvc.example.org/x": {}}}, set()),
        ({"dvc_remotes": {"https://dvc.example.org/other": {"password_file": "/etc/x"}}}, set()),
        ({"git_timeout": 5.0, "build_timeout": 99.0, "smoke_test": False, "proxies": {"http_proxy": "http://p"}}, set()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_the_admin_changes(project: Repository, more: dict[str, Any], expected: set[str]) -> None:
    source = read_source(project)
    assert changed(make_keys(source), make_keys(source, **more)) == expected


def test_whose_credential_reads_a_scope_has_no_say(project: Repository) -> None:
    source = read_source(project)
    keys = [
        make_keys(source, dvc_remotes={"https://dvc.example.org/x": {"user": user, "password_file": f"/etc/{user}"}}, index_credentials=[
            {"origin": "https://packages.example.org", "username": user, "password_file": f"/etc/{user}"}
        ])
        for user in ("alice", "bob")
    ]  # fmt: skip
    assert keys[0] == keys[1]


def test_without_requirements_the_installer_has_no_say(repository: Repository) -> None:
    repository.commit({"README.md": "x"})
    source = read_source(repository)
    assert make_keys(source) == make_keys(source, index_url="https://packages.example.org/simple")
    inputs = make_environment_inputs(HubDock(), source, WORKSPACE, BASE, "hubdock/base:b", (), 0)
    assert (inputs.installer, inputs.files) == ("", ())


def test_a_package_of_the_repository_itself_makes_every_edit_an_environment(repository: Repository) -> None:
    repository.commit({"requirements.txt": "-e .\n", "setup.py": "", "README.md": "one"})
    before = keys_of(repository)
    repository.commit({"README.md": "two"})
    assert changed(before, keys_of(repository)) == {"environment", "code", "image"}


# --- exactness ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (1, "1"), (-(10**30), "-1000000000000000000000000000000"), ("é\u2028\udc80\"", '"\\u00e9\\u2028\\udc80\\""'),
        ({"b": 1, "a": [1, (2, None)], "ä": {}}, '{"a":[1,[2,null]],"b":1,"\\u00e4":{}}'), ((), "[]"), ([], "[]"), ({"2": 0, "10": 0}, '{"10":0,"2":0}'),
    ],
)  # fmt: skip
def test_canonical_json(value: Any, text: str) -> None:
    assert make_canonical(value) == text
    assert text.isascii()


@pytest.mark.parametrize("value", [1.0, float("nan"), {"a": [0.5]}, {1: "a"}, {None: 1}, {True: 1}, {"a", "b"}, b"x", object(), {"a": {1: 2}}, 1j, [frozenset()]])
def test_what_has_no_exact_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no canonical form"):
        make_canonical(value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


@given(VALUES, VALUES)
def test_equal_texts_are_equal_values(one: Any, two: Any) -> None:
    assert json.loads(make_canonical(one)) == one
    assert (make_canonical(one) == make_canonical(two)) == (json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True))


def test_true_is_not_one() -> None:
    assert make_digest("x", [True]) != make_digest("x", [1]) != make_digest("x", ["1"])


def test_kinds_do_not_meet() -> None:
    assert make_digest("environment", {}) != make_digest("code", {})


ENVIRONMENT = EnvironmentInputs(
    base={"diff_ids": ["sha256:" + "1" * 64], "Env": ["PATH=/opt/conda/bin"], "User": "jovyan", "Entrypoint": None, "Cmd": None, "WorkingDir": "/home/jovyan", "prepared": "b" * 64},
    installer="uv 0.13.9", recipe=1, files=(("apt.txt", "100644", "2" * 40), ("requirements.txt", "100644", "3" * 40)),
    settings={"base": "", "env": {"A": "é"}, "labels": {}, "command": [], "main": "requirements.txt", "workspace": ""},
    sources=(("https://a.org/x@main", "4" * 40),), indexes=("https://packages.example.org/simple",), uid=1000, gid=100, epoch=0, scope="",
)  # fmt: skip
DATA = DataInputs((("data", "md5", "a" * 32 + ".dir", False), ("model", "md5-dos2unix", "b" * 32, True)), "")
CODE = CodeInputs("5" * 40, "/home/jovyan/x", "1000:100", 1, "submodules left out, LFS pointers kept", (("a", "/srv/a"),), "")
IMAGE = ImageInputs("6" * 64, "7" * 64, "", "8" * 16)
# If one of these changes, every image and data set of every hub is made again. Do that on purpose alone: raise SCHEMA, and say so in CHANGELOG.md.
GOLDEN = {
    "environment": (ENVIRONMENT, "ba411f1fb26016f915901131b487760faeef68816f2b8ee199adfa73732f9b69"),
    "data": (DATA, "1d046427d12eb5a5eb36a3b5c59e52700261902a941dfec233c627f3272ca955"),
    "code": (CODE, "c10dca06e739f9c8c737fe7e3d2236a210a0fff05ba4dce275105af1c1077a09"),
    "image": (IMAGE, "e0f4fd723b8d7e0105b50a67828331f8e0545e72f2838314565e9dd77d86306d"),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_keys_stay_what_they_are(kind: str) -> None:
    inputs, key = GOLDEN[kind]
    assert inputs.key == key
    assert make_digest(kind, json.loads(inputs.canonical)) == key  # what is kept beside an image proves its key


def test_inputs_survive_the_label_they_are_kept_in() -> None:
    assert json.loads(ENVIRONMENT.canonical) == ENVIRONMENT.as_dict()
    assert ENVIRONMENT.as_dict()["files"] == [["apt.txt", "100644", "2" * 40], ["requirements.txt", "100644", "3" * 40]]


# --- what is remembered of a commit ---


def test_a_source_is_remembered_whole(repository: Repository) -> None:
    repository.commit(FILES | {
        ".hubdock.yml": "env: {A: x}\ncopy: [{from: README.md, to: /srv/x}]\ncommand: [a, b]\n", "env/more.txt": "x @ git+https://a.org/x@main\n-i https://a.org/simple\n",
        "uv.lock": "", "pyproject.toml": "",
    }, "subject — ünï", "Ada Lovelace")  # fmt: skip
    source = read_source(repository)
    assert source.recipe.notices and source.data.outs and source.recipe.project.copy
    assert load_source(source.dump()) == source
    assert make_keys(load_source(source.dump())) == make_keys(source)


def test_names_that_are_not_utf8_are_remembered_too(repository: Repository) -> None:
    repository.commit({".dvc/config": FILES[".dvc/config"], os.fsdecode(b"\xe9.dvc"): FILES["data.dvc"]})
    source = read_source(repository)
    assert "\udce9.dvc" in source.data.files
    assert load_source(source.dump()) == source


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"commit": "x"}'])
def test_what_is_no_source(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        load_source(text)


def test_policy_is_not_asked_for_what_the_admin_lists(project: Repository) -> None:
    source = read_source(project)
    assert make_dataset(source.data, make_policy(["github.com"]), {"https://dvc.example.org": {}}) is not None


def test_what_an_image_says_of_its_data_is_never_too_long() -> None:
    """It goes through a variable of the environment, and must tell data sets apart all the same."""
    few, many, others = (DataInputs(tuple((f"{name}/{number}", "md5", "a" * 32, False) for number in range(count)), "") for name, count in (("a", 3), ("a", 2000), ("b", 2000)))
    assert few.label == few.canonical and len(many.label) == 64 and many.label != others.label
