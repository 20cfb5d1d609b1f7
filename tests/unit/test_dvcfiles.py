"""DVC's files, with DVC itself as the oracle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from configobj import ConfigObj, ConfigObjError
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.dvcconfig import DataProject, DataRemote, parse_config
from hubdock.core.dvcfiles import DataFiles, DataOut, find_data_files, parse_data_files
from hubdock.core.errors import RecipeError
from hubdock.core.tree import Tree
from tests.unit.conftest import Repository, read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

PIPELINE = """
vars:
  - where: sub
  - names: [p, q]
stages:
  one:
    cmd: >-
      mkdir -p out/deep && echo 1 > out/1 && echo 2 > out/deep/2 && echo m > metrics.json && echo m > kept.json && echo '[{"a": 1}]' > plot.json
      && echo u > uncached.txt && echo z > unpushed.txt && echo d > ./dotted.txt
    params: [lr]
    outs:
      - out
      - ./dotted.txt
      - uncached.txt: {cache: false}
      - unpushed.txt: {push: false}
    metrics:
      - metrics.json: {cache: false}
      - kept.json
    plots:
      - plot.json
  elsewhere:
    wdir: sub
    cmd: echo w > w.txt && mkdir -p deep && echo wd > deep/wd.txt
    outs:
      - w.txt: {remote: Other}
      - deep/wd.txt
  many:
    foreach: [a, b, 3]
    do:
      wdir: sub
      cmd: echo ${item} > f_${item}.txt && echo ${item} > m_${item}.json
      outs: ["f_${item}.txt"]
      metrics: [{"m_${item}.json": {cache: false}}]
  named:
    foreach: {x: {v: 1}, y: {v: 2}}
    do:
      cmd: echo ${item.v} > n_${key}.txt
      outs: ["n_${key}.txt"]
  listed:
    foreach: ${names}
    do:
      cmd: echo ${item} > l_${item}.txt
      outs: ["l_${item}.txt"]
  table:
    matrix: {a: [1, 2], b: [x]}
    cmd: echo ${item.a} > t_${item.a}.txt
    outs: ["t_${item.a}.txt"]
  gone:
    cmd: echo gone > gone.txt
    outs: [gone.txt]
"""
CONFIG = """
[core]
    remote = Store
['remote "Store"']
    url = https://dvc.example.org/team
['remote "other"']
    url = s3://bucket/x
"""
LEGACY = "outs:\n- md5: 6137cde4893c59f76f005a8123d8e8e6\n  size: 12\n  path: legacy.txt\n"


def make_project(path: Path) -> Repository:
    """Make a DVC project with the library: files, a directory, a pipeline, and a stage that is gone from dvc.yaml but not from dvc.lock."""
    from dvc.repo import Repo

    repository = Repository(path)
    repository.write({"data/a": "a", "data/deep/b": "b", "model.bin": "m", "sub/deep/tool": "t", "wd/x.bin": "x", "dvc.yaml": PIPELINE, "params.yaml": "lr: 0.1\n"})
    os.chmod(path / "sub/deep/tool", 0o755)
    repo = Repo.init(str(path))
    (path / ".dvc/config").write_text(CONFIG)
    repo.config.load()
    repo.add([str(path / name) for name in ("data", "model.bin", "sub/deep/tool")])
    repo.add([str(path / "wd/x.bin")])
    repo.reproduce()
    repo.close()
    moved = yaml.safe_load((path / "wd/x.bin.dvc").read_text())
    moved["wdir"] = "../wd"
    repository.write({
        "elsewhere.dvc": yaml.safe_dump({**moved, "wdir": "wd"}), "legacy.txt.dvc": LEGACY, ".gitignore": (path / ".gitignore").read_text() + "/legacy.txt\n",
        "unhashed.dvc": "outs:\n- path: unhashed.txt\n", "frozen.txt.dvc": "frozen: true\nouts:\n- md5: " + "a" * 32 + "\n  hash: md5\n  path: frozen.txt\n",
    })  # fmt: skip
    (path / "wd/x.bin.dvc").unlink()
    stages = yaml.safe_load((path / "dvc.yaml").read_text())
    del stages["stages"]["gone"]
    stages["stages"]["many"]["foreach"] = ["a", "b"]
    (path / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    return repository


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with pytest.MonkeyPatch.context() as patch:
        base = tmp_path_factory.mktemp("dvc")
        patch.setenv("DVC_SITE_CACHE_DIR", str(base / "site"))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        (base / "project").mkdir()
        patch.chdir(base / "project")
        yield make_project(base / "project")


def ask_dvc(path: Path) -> dict[str, tuple[str, str, bool]]:
    """Return {path: (hash name, oid, is-exec)} of what DVC itself tracks."""
    from dvc.repo import Repo

    tree: Any = Repo(str(path)).index.data_tree
    return {"/".join(key[1:]): (info.name, info.value, meta.isexec) for key, meta, info in tree if info}


def parse(repository: Repository, files: dict[str, str] | None = None) -> DataFiles:
    tree, contents = read(repository, files)
    return parse_data_files(tree, {path: contents[path] for path in find_data_files(tree)})


def test_the_outputs_are_those_that_dvc_tracks(project: Repository) -> None:
    found = {out.path: (out.hash_name, out.oid, out.is_exec) for out in parse(project).outs}
    expected = ask_dvc(project.path)
    expected.pop("unpushed.txt")  # tracked, but no remote ever has it
    assert found == expected
    assert len(found) >= 20


def test_what_stands_in_the_oracle(project: Repository) -> None:
    """The comparison above is worth something only if DVC sees each kind."""
    expected = ask_dvc(project.path)
    assert {"data", "model.bin", "out", "sub/w.txt", "sub/deep/wd.txt", "sub/f_a.txt", "n_x.txt", "l_p.txt", "t_1.txt", "wd/x.bin", "legacy.txt", "kept.json", "dotted.txt"} <= set(expected)
    assert not {"gone.txt", "uncached.txt", "metrics.json", "sub/m_a.json", "sub/f_3.txt", "unhashed.txt"} & set(expected)
    assert expected["sub/deep/tool"][2] and expected["legacy.txt"][0] == "md5-dos2unix" and expected["data"][1].endswith(".dir")


def test_details(project: Repository) -> None:
    data = parse(project)
    outs = {out.path: out for out in data.outs}
    assert outs["model.bin"] == DataOut("model.bin", "md5", "6f8f57715090da2632453988d9a1501b", size=1, source="model.bin.dvc")
    assert (outs["sub/w.txt"].remote, outs["sub/w.txt"].source, outs["model.bin"].remote) == ("other", "dvc.lock", "")
    assert outs["legacy.txt"].size == 12
    assert data.projects == (DataProject(".", (DataRemote("store", "https://dvc.example.org/team"), DataRemote("other", "s3://bucket/x")), "store"),)
    assert data.size == sum(out.size or 0 for out in data.outs) > 12
    assert data.notices == ()
    assert ".dvc/config" in data.files and "dvc.lock" in data.files and ".dvc/.gitignore" not in data.files


# --- small projects ---

MD5, OTHER = "a" * 32, "b" * 32
MAIN = {".dvc/config": "[core]\nremote = r\n['remote \"r\"']\nurl = https://a.org/x\n"}


def out(path: str = "x", **values: Any) -> dict[str, Any]:
    return {"md5": MD5, "hash": "md5", "path": path, **values}


def dvc(*outs: dict[str, Any], **values: Any) -> str:
    return yaml.safe_dump({"outs": list(outs), **values})


def paths(data: DataFiles) -> list[str]:
    return [found.path for found in data.outs]


def test_without_a_project_nothing_is_looked_at(repository: Repository) -> None:
    tree, _ = read(repository, {"x.dvc": dvc(out()), "dvc.lock": "x", "config": "x", ".dvcx/config": "x", "a.dvc/config": "x"})
    assert find_data_files(tree) == []


def test_nested_projects(repository: Repository) -> None:
    config = "[core]\nremote = mine\n['remote \"mine\"']\nurl = s3://b\n"
    data = parse(repository, MAIN | {"x.dvc": dvc(out()), "sub/p/.dvc/config": config, "sub/p/d/y.dvc": dvc(out("y")), "sub/z.dvc": dvc(out("z"))})
    assert [(found.path, found.root) for found in data.outs] == [("sub/p/d/y", "sub/p"), ("sub/z", "."), ("x", ".")]
    assert [(p.root, p.default) for p in data.projects] == [(".", "r"), ("sub/p", "mine")]


def test_a_project_whose_name_is_as_short_as_the_root(repository: Repository) -> None:
    data = parse(repository, MAIN | {"a/.dvc/config": "", "a/x.dvc": dvc(out()), "ab/x.dvc": dvc(out())})
    assert [(found.path, found.root) for found in data.outs] == [("a/x", "a"), ("ab/x", ".")]


def test_a_project_below_the_root_alone(repository: Repository) -> None:
    data = parse(repository, {"ml/.dvc/config": "", "ml/x.dvc": dvc(out()), "y.dvc": dvc(out("y"))})
    assert (paths(data), data.projects) == (["ml/x"], (DataProject("ml"),))


def test_what_git_holds_is_not_cached(repository: Repository) -> None:
    pipeline = "stages: {s: {cmd: x, outs: [x, y]}}"
    data = parse(repository, MAIN | {"dvc.yaml": pipeline, "dvc.lock": yaml.safe_dump({"stages": {"s": {"outs": [out("x"), out("y")]}}}), "x": "in git"})
    assert paths(data) == ["y"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (dvc(out(), deps=[{"path": "d", "repo": {"url": "https://evil.example.org/x", "rev_lock": "1"}}]), "imports from another repository"),
        (dvc({"path": "x", "files": [{"relpath": "a", "version_id": "1"}]}), "a cloud versions itself"),
        (dvc({"path": "x", "etag": "1", "version_id": "2"}), "a cloud versions itself"),
    ],
)
def test_what_is_not_fetched_is_told(repository: Repository, content: str, words: str) -> None:
    data = parse(repository, MAIN | {"x.dvc": content})
    assert paths(data) == []
    assert len(data.notices) == 1 and words in data.notices[0] and "x.dvc" in data.notices[0] and "dvc" in data.notices[0]


def test_a_template_as_working_directory_is_told(repository: Repository) -> None:
    lock = yaml.safe_dump({"schema": "2.0", "stages": {"s": {"cmd": "x", "outs": [out()]}}})
    data = parse(repository, MAIN | {"p/dvc.yaml": "stages: {s: {cmd: x, wdir: '${w}', outs: [x]}}", "p/dvc.lock": lock})
    assert data.outs == () and "p/dvc.yaml: the outputs of s are not fetched" in data.notices[0]


def test_imports_from_an_address_are_data_like_any(repository: Repository) -> None:
    assert paths(parse(repository, MAIN | {"x.dvc": dvc(out(), deps=[{"path": "https://a.org/x", "etag": "1"}])})) == ["x"]


@pytest.mark.parametrize(
    ("item", "kept"),
    [
        ("x", True), ({"x": None}, True), ({"x": {"persist": True}}, True), ({"x": {"cache": True, "push": True}}, True), ({"x": {"cache": False}}, False),
        ({"x": {"push": False}}, False), ({"./x": {"cache": False}}, False), ({"${a}": {"cache": False}}, False), ({"${a}y": {"cache": False}}, True),
    ],
)  # fmt: skip
def test_flags_stand_in_dvc_yaml_alone(repository: Repository, item: Any, kept: bool) -> None:
    lock = yaml.safe_dump({"schema": "2.0", "stages": {"s": {"cmd": "x", "outs": [out()]}}})
    data = parse(repository, MAIN | {"dvc.yaml": yaml.safe_dump({"stages": {"s": {"cmd": "x", "outs": [item]}}}), "dvc.lock": lock})
    assert paths(data) == (["x"] if kept else [])


def test_a_path_with_many_templates_costs_nothing(repository: Repository) -> None:
    lock = yaml.safe_dump({"stages": {"s": {"outs": [out("a" * 5000 + "b")]}}})
    pipeline = yaml.safe_dump({"stages": {"s": {"outs": [{"${x}a" * 400: {"cache": False}}]}}})
    assert len(parse(repository, MAIN | {"dvc.yaml": pipeline, "dvc.lock": lock}).outs) == 1


BAD = [
    (dvc(out("/etc/passwd")), "does not lie inside"),
    (dvc(out("../x")), "does not lie inside"),
    (dvc(out("a/../../x")), "does not lie inside"),
    (dvc(out("x"), wdir=".."), "does not lie inside"),
    (dvc(out("x"), wdir="/srv"), "does not lie inside"),
    (dvc(out("s3://b/x")), "does not lie inside"),
    (dvc(out("")), "does not lie inside"),
    (dvc(out(".")), "does not lie inside"),
    (dvc(out("a/..")), "does not lie inside"),
    (dvc(out(".git/hooks")), "directory of git or DVC"),
    (dvc(out("sub/.git/config")), "directory of git or DVC"),
    (dvc(out(".dvc/config.local")), "directory of git or DVC"),
    (dvc(out("x\x00y")), "directory of git or DVC"),
    (dvc(out(md5="abc")), "not 32 hexadecimal digits"),
    (dvc(out(md5="../" + "a" * 29)), "not 32 hexadecimal digits"),
    (dvc(out(md5="a" * 32 + "\n")), "not 32 hexadecimal digits"),
    (dvc(out(md5=12)), "not 32 hexadecimal digits"),
    ("[1]", "This is no .dvc file"),
    ("text", "This is no .dvc file"),
    ("outs: x", "“outs” must be a list"),
    ("outs: [", "not valid YAML"),
    ("a: !!python/object/apply:os.system [id]", "not valid YAML"),
    ("a: !!bool x", "not valid YAML"),
    ("\t", "not valid YAML"),
    ("[" * 100_000, "nests deeper than 100 levels"),
    ("{a: " * 5_000, "nests deeper than 100 levels"),
    ("- " * 50_000, "nests deeper than 100 levels"),
    ("".join(" " * n + "a:\n" for n in range(200)), "nests deeper than 100 levels"),
    ("a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)), "not valid YAML"),
]


@pytest.mark.parametrize(("content", "words"), BAD, ids=[content[:30] for content, _ in BAD])
def test_refused_with_the_file(repository: Repository, content: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(repository, MAIN | {"x.dvc": content})
    assert words in caught.value.message
    assert caught.value.file == "x.dvc"


def test_a_lock_is_held_to_the_same_rules(repository: Repository) -> None:
    lock = yaml.safe_dump({"stages": {"s": {"outs": [out("../x")]}}})
    with pytest.raises(RecipeError, match="does not lie inside") as caught:
        parse(repository, MAIN | {"dvc.yaml": "stages: {s: {cmd: x}}", "dvc.lock": lock})
    assert caught.value.file == "dvc.lock"


@pytest.mark.parametrize("lock", ["", "x", "[]", "stages: x", "stages: {s: x}", "stages: {s: {outs: x}}", "stages: {s: {outs: [x, 1, null]}}", "stages: {s: null}", "schema: '2.0'"])
@pytest.mark.parametrize("pipeline", ["", "x", "stages: x", "stages: {s: x}", "stages: {s: {outs: {a: b}}}", "stages: {s: {foreach: [s], do: x}}", "stages: {s: {outs: [1, null, {x: y}]}}"])
def test_odd_shapes_are_no_data(lock: str, pipeline: str) -> None:
    contents = {".dvc/config": MAIN[".dvc/config"].encode(), "dvc.lock": lock.encode(), "dvc.yaml": pipeline.encode()}
    tree = Tree("0" * 40, b"".join(b"100644 blob %s\t%s\0" % (b"0" * 40, path.encode()) for path in contents))
    assert parse_data_files(tree, contents).outs == ()


def test_sizes(repository: Repository) -> None:
    data = parse(repository, MAIN | {"x.dvc": dvc(out("x", size=7), out("y"), out("z", size="9"), out("w", size=-1))})
    assert {found.path: found.size for found in data.outs} == {"x": 7, "y": None, "z": None, "w": None}
    assert data.size == 7


# --- .dvc/config, with DVC's own reader as the oracle ---

CONFIGS = [
    "", "# nothing\n\n", "[core]\n    remote = store\n    autostage = true\n['remote \"store\"']\n    url = https://a.org/x\n",
    "[core]\nremote=a # comment\n['remote \"a\"']\nurl = \"https://a.org/x#y\" # c\n", "['remote \"a\"']\nurl = https://a.org/x#y\n",
    "['remote \"A b\"']\nURL = 's3://b/x'\nEndpointURL = https://evil.org\n", "[ 'remote \"a\"' ] # c\n\"url\" = s3://x\n", "[\"remote \\\"a\\\"\"]\nurl = x\n",
    "[remote \"a\"]\nurl = s3://x\n", "[x]\n[[remote]]\nurl = x\n[core]\nremote = b\n", "['remote \"a\"']\nurl = s3://x\n    credentialpath = /etc/x\n",
    "[core]\nremote = \"Store\"\n", "[cache]\ntype = symlink\n[core]\nno_scm = true\n", "['remote \"a\"']\nurl =\n", "[DEFAULT]\nurl = evil\n['remote \"a\"']\nurl = x\n",
    "[core]\r\nremote = a\r\n", "['remote \"a\"']\nurl = a\x0bpassword = x\n",
]  # fmt: skip


@pytest.mark.parametrize("text", CONFIGS, ids=ascii)
def test_config_as_dvc_reads_it(text: str, tmp_path: Path) -> None:
    from dvc.config import Config

    (tmp_path / "config").write_bytes(text.encode())
    oracle: dict[str, Any] = Config.load_file(str(tmp_path / "config"))
    found = parse_config(".", ".dvc/config", text.encode(), [])
    assert {remote.name: (remote.url, remote.ignored) for remote in found.remotes} == {
        name: (values.get("url", ""), tuple(sorted(set(values) - {"url"}))) for name, values in oracle["remote"].items()
    }
    assert found.default == oracle.get("core", {}).get("remote", "").lower()


@pytest.mark.parametrize("text", ["url = \"a", "[core]\nremote", "[core\nremote = a", "[core]\nurl : x", "[core]\nurl = '''a\nb'''", "[core]\n= x", "; c", "[core]\nurl = \"a\"b"])
def test_no_config(text: str) -> None:
    with pytest.raises(RecipeError, match="no valid DVC configuration") as caught:
        parse_config("sub", "sub/.dvc/config", text.encode(), [])
    assert caught.value.file == "sub/.dvc/config" and caught.value.line is not None


@given(st.text(alphabet="[]\"'=#ab \n\t\\;", max_size=40))
def test_any_config_is_read_as_configobj_does_or_refused(text: str) -> None:
    try:
        found = parse_config(".", ".dvc/config", f"['remote \"r\"']\n{text}".encode(), [])
    except RecipeError:
        return
    try:
        oracle = ConfigObj(["['remote \"r\"']", *text.splitlines()], interpolation=False)
    except ConfigObjError:  # it refuses a little more, such as an option that is there twice
        return
    urls = {name: values.get("url", "") for name, values in oracle.items() if isinstance(values, dict)}
    assert [remote.url for remote in found.remotes] == [urls[f'remote "{remote.name}"'] for remote in found.remotes]


def test_hostile_config_is_told_and_has_no_say() -> None:
    notices: list[str] = []
    text = "['remote \"store\"']\nurl = s3://team/x\nendpointurl = https://evil.example.org\nconfigpath = /etc/shadow\ncredentialpath = ../x\nprofile = p\n"
    found = parse_config(".", ".dvc/config", text.encode(), notices)
    assert found == DataProject(".", (DataRemote("store", "s3://team/x", ("configpath", "credentialpath", "endpointurl", "profile")),), "")
    assert notices == [".dvc/config: configpath, credentialpath, endpointurl ignored while fetching; an administrator sets them in HubDock.dvc_remotes."]


def test_too_many_outputs(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubdock.core.dvcfiles.MAX_OUTS", 2)
    with pytest.raises(RecipeError, match="tracks 3 DVC outputs; at most 2 are accepted"):
        parse(repository, MAIN | {"x.dvc": dvc(out("x"), out("y"), out("z"))})
