"""From DVC outputs to a data key and to what is asked where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.dvcconfig import DataProject, DataRemote
from hubdock.core.dvcfiles import DataFiles, DataOut
from hubdock.core.errors import RecipeError
from hubdock.core.keys import DataInputs
from hubdock.core.naming import make_scope_name
from hubdock.core.repo import make_policy
from hubdock.engine.datasets import Dataset, make_dataset
from hubdock.guest import fetch

POLICY = make_policy(["dvc.example.org", "http://10.0.0.5:9000", "*.wide.example"], ["github.com/team/*"])
MD5, OTHER = "a" * 32, "b" * 32 + ".dir"


def out(path: str = "x", oid: str = MD5, **values: Any) -> DataOut:
    return DataOut(path, "md5", oid, **{"source": f"{path}.dvc", **values})


def project(url: str = "https://dvc.example.org/x", default: str = "r", root: str = ".", **more: str) -> DataProject:
    return DataProject(root, (DataRemote("r", url), *(DataRemote(name, value) for name, value in more.items())), default)


def make(outs: list[DataOut] | None = None, projects: list[DataProject] | None = None, options: Any = None) -> Dataset:
    outs, projects = [out()] if outs is None else outs, [project()] if projects is None else projects
    dataset = make_dataset(DataFiles(tuple(outs), tuple(projects)), POLICY, options or {})
    assert dataset is not None
    return dataset


def test_without_outputs_there_is_no_data() -> None:
    assert make_dataset(DataFiles((), (project("nonsense"),)), POLICY, {}) is None


def test_a_whole_dataset() -> None:
    outs = [out("a", OTHER, size=10, is_exec=True), out("sub/b", root="sub", remote="other", size=5), out("c")]
    made = make(outs, [project(), project("s3://bucket/y", root="sub", other="s3://bucket/z")])
    assert made == Dataset(
        DataInputs((("a", "md5", OTHER, True), ("sub/b", "md5", MD5, False), ("c", "md5", MD5, False)), ""),
        (
            {"path": "a", "oid": OTHER, "hash_name": "md5", "is_exec": True, "remote": "r0", "source": "a.dvc"},
            {"path": "sub/b", "oid": MD5, "hash_name": "md5", "is_exec": False, "remote": "r1", "source": "sub/b.dvc"},
            {"path": "c", "oid": MD5, "hash_name": "md5", "is_exec": False, "remote": "r0", "source": "c.dvc"},
        ),
        {"r0": {"url": "https://dvc.example.org/x"}, "r1": {"url": "s3://bucket/z"}},
        15,
    )
    assert made.scope_directory == "public"


@pytest.mark.parametrize(
    "url",
    [
        "https://dvc.example.org/x", "https://DVC.example.org/x", "webdavs://dvc.example.org/x", "ssh://dvc.example.org/srv/x", "ssh://user@dvc.example.org/x",
        "http://10.0.0.5:9000/x", "webdav://10.0.0.5:9000/x", "https://a.wide.example/x", "s3://bucket/x", "gs://bucket", "azure://container/x", "oss://b/x",
        "gdrive://id/x", "https://dvc.example.org/with space/#1,2",
    ],
)  # fmt: skip
def test_remotes_that_are_asked(url: str) -> None:
    assert make(projects=[project(url)]).remotes == {"r0": {"url": url}}


BAD = [
    ("https://evil.example.net/x", "on a host that this hub does not ask"),
    ("http://dvc.example.org/x", "on a host that this hub does not ask"),
    ("https://dvc.example.org:8443/x", "on a host that this hub does not ask"),
    ("ssh://evil.example.net/x", "on a host that this hub does not ask"),
    ("https://dvc.example.org:99999/x", "on a host that this hub does not ask"),
    ("https:///x", "on a host that this hub does not ask"),
    ("https://[x/y", "can't be read"),
    ("https://user:pa55@dvc.example.org/x", "holds a password. Remove it, and change the password"),
    ("file:///srv/dvc", "can't be fetched from here"),
    ("hdfs://namenode/x", "can't be fetched from here"),
    ("local://x", "can't be fetched from here"),
    ("ext::sh", "a directory of somebody's machine"),
    ("/mnt/team/dvc", "a directory of somebody's machine (/mnt/team/dvc). Use one that servers can reach"),
    ("../storage", "a directory of somebody's machine (../storage)"),
    ("", "a directory of somebody's machine"),
    ("remote://gone/x", "a directory of somebody's machine"),
    ("https://dvc.example.org/../secret", "holds a quote"),
    ("https://dvc.example.org/%2E%2e/secret", "holds a quote"),
    ("https://dvc.example.org/%(password)s", "holds a quote"),
    ("https://dvc.example.org/x\nendpointurl = https://evil.example.net", "holds a quote"),
    ('https://dvc.example.org/"x', "holds a quote"),
    ("https://dvc.example.org\\@evil.example.net/x", "holds a quote"),
]


@pytest.mark.parametrize(("url", "words"), BAD, ids=[ascii(url) for url, _ in BAD])
def test_remotes_that_are_not_asked(url: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make(projects=[project(url)])
    assert words in caught.value.message and "pa55" not in caught.value.message
    assert caught.value.file in {"x.dvc", ".dvc/config"}


@pytest.mark.parametrize("url", ["https://169.254.169.254/x", "https://127.0.0.1/x", "https://[::1]/x", "ssh://10.0.0.5/x"])
def test_every_host_is_not_every_address(url: str) -> None:
    with pytest.raises(RecipeError, match="does not ask"):
        make_dataset(DataFiles((out(),), (project(url),)), make_policy(["*"]), {})
    assert make_dataset(DataFiles((out(),), (project(url),)), make_policy([url.rpartition("/")[0]]), {}) is not None


@pytest.mark.parametrize(
    ("outs", "projects", "words"),
    [
        ([out()], [project(default="")], "x is tracked by DVC, but no default remote says where it is. Run `dvc remote default NAME` and commit .dvc/config."),
        ([out(remote="gone")], [project(other="s3://b")], "x is on the remote 'gone', which is not declared. Declared: r, other."),
        ([out()], [DataProject(".", (), "gone")], "x is on the remote 'gone', which is not declared. Declared: none."),
    ],
)
def test_remotes_that_are_not_declared(outs: list[DataOut], projects: list[DataProject], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make(outs, projects)
    assert (caught.value.message, caught.value.file) == (words, ".dvc/config")


def test_the_file_of_a_nested_project_is_named() -> None:
    with pytest.raises(RecipeError) as caught:
        make([out("ml/x", root="ml")], [project(), project(root="ml", default="")])
    assert caught.value.file == "ml/.dvc/config"


def test_a_remote_of_a_remote() -> None:
    assert make(projects=[project("remote://Base/sub/dir", base="s3://bucket/")]).remotes == {"r0": {"url": "s3://bucket/sub/dir"}}


OPTIONS = {"s3://team/": {"profile": "team"}, "s3://team/secret": {"access_key_id_file": "/etc/x"}, "s3://open": {}, "https://intern.example.net": {"ssl_verify": False}}


@pytest.mark.parametrize(
    ("url", "chosen", "scope"),
    [
        ("s3://team/a", {"profile": "team"}, "s3://team/"),
        ("s3://team", {"profile": "team"}, "s3://team/"),
        ("s3://team/", {"profile": "team"}, "s3://team/"),
        ("s3://team-evil", {}, ""),
        ("s3://team-evil/a", {}, ""),
        ("s3://open", {}, ""),
        ("https://intern.example.net", {"ssl_verify": "False"}, "https://intern.example.net"),
        ("s3://team/secret", {"access_key_id_file": "/etc/x"}, "s3://team/secret"),
        ("s3://team/secret/b", {"access_key_id_file": "/etc/x"}, "s3://team/secret"),
        ("s3://team/secrets", {"profile": "team"}, "s3://team/"),
        ("s3://teammate/a", {}, ""),
        ("s3://open/a", {}, ""),
        ("https://intern.example.net/x", {"ssl_verify": "False"}, "https://intern.example.net"),
    ],
)
def test_the_longest_prefix_of_the_admin_gives_options_and_scope(url: str, chosen: dict[str, str], scope: str) -> None:
    made = make(projects=[project(url)], options=OPTIONS)
    assert made.remotes == {"r0": {"url": url, **chosen}}
    assert made.inputs.scope == scope
    assert made.scope_directory == make_scope_name(scope)


def test_a_prefix_is_no_part_of_a_host() -> None:
    with pytest.raises(RecipeError, match="does not ask"):
        make(projects=[project("https://intern.example.net.evil.org/x")], options=OPTIONS)


def test_scopes_of_several_remotes_are_joined() -> None:
    made = make([out("a"), out("b", remote="two"), out("c", remote="three")], [project("s3://team/secret", two="s3://team/x", three="s3://open/y")], OPTIONS)
    assert made.inputs.scope == "s3://team/ s3://team/secret"


def test_a_repository_s_options_never_reach_the_fetch() -> None:
    hostile = DataProject(".", (DataRemote("r", "s3://team/x", ("endpointurl", "configpath")),), "r")
    assert make(projects=[hostile], options=OPTIONS).remotes == {"r0": {"url": "s3://team/x", "profile": "team"}}


# --- the project that the fetching program writes, read back by DVC itself ---


def test_what_dvc_is_told_is_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.setattr(fetch, "WORK", str(tmp_path))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    options = {"https://dvc.example.org": {"user": "bot", "password": "a#b,c'd e", "auth": "basic"}}
    made = make([out("a", OTHER), out("b", remote="other"), out("l", is_exec=True)], [project("https://dvc.example.org/with #1, x", other="s3://bucket/z")], options)
    fetch.write_project({"outs": json.loads(json.dumps(made.outs)), "remotes": made.remotes}, "/store/pool/public")
    repo = Repo(str(tmp_path))
    expected = {"r0": {"url": "https://dvc.example.org/with #1, x", "user": "bot", "password": "a#b,c'd e", "auth": "basic"}, "r1": {"url": "s3://bucket/z"}}
    found = repo.config["remote"]  # with DVC's own defaults beside
    assert {name: {option: found[name][option] for option in options} for name, options in expected.items()} == expected and set(found) == set(expected)
    assert repo.config["cache"]["dir"] == "/store/pool/public" and repo.config["core"]["no_scm"]
    tree: Any = repo.index.data_tree
    assert {(info.name, info.value) for _, _, info in tree if info} == {("md5", OTHER), ("md5", MD5)}
    assert {o.remote for o in repo.index.outs} == {"r0", "r1"}


@pytest.mark.parametrize("value", ["plain", "a#b", "a,b", "a'b", 'a"b', "a'b\"c", "", " spaced ", "two\nlines", "'", '"', "\"'", "ends'\"", "=", "[x]", "\\"])
def test_any_secret_reaches_dvc_as_it_is(value: str) -> None:
    from configobj import ConfigObj

    text = f"[s]\n    key = {fetch.quote(value)}\n    next = 1\n"
    assert ConfigObj(text.splitlines())["s"].dict() == {"key": value, "next": "1"}
