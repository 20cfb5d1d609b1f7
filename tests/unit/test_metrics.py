"""Metrics and parameters of commits: what dvc.yaml declares (DVC itself is the oracle), what the files say, and the differences."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.demo.server import Server, make_repository
from hubdock.core.asker import LOCAL
from hubdock.core.errors import RecipeError
from hubdock.core.metrics import (
    MAX_TEXT,
    MAX_VALUES,
    Measured,
    find_delta,
    flatten,
    format_delta,
    format_scalar,
    load_measured,
    parse_values,
)
from hubdock.core.pipeline import Declared, PlotLine, find_declared, find_pipelines
from hubdock.core.repo import parse_repo_url
from hubdock.drivers.git import list_branches
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.metrics import read_metrics
from hubdock.engine.reading import Reader
from tests.unit.conftest import Repository, read

PIPELINE = """
stages:
  train:
    cmd: python train.py
    params: [lr, net.depth, {other.json: [size]}, {whole.toml: null}]
    metrics:
    - metrics.json: {cache: false}
    - models/score.yaml:
        cache: false
    - kept.json
    plots:
    - logs.csv: {x: epoch, y: loss, title: "<b>Loss</b>", cache: false}
    outs: [model.bin]
  evaluate:
    cmd: python evaluate.py
    wdir: sub
    metrics: [here.json: {cache: false}]
  each:
    foreach: [a, b]
    do:
      cmd: echo ${item} > each/${item}.json
      metrics:
      - each/${item}.json: {cache: false}
metrics: [top.toml]
params: [more/p.yaml]
plots:
- curves
- picture.png
- both:
    x: {logs.csv: epoch}
    y: {logs.csv: [loss, acc], sub/other.tsv: f1}
    x_label: epochs
"""
FILES = {
    "dvc.yaml": PIPELINE, ".dvc/config": "", "metrics.json": '{"acc": 0.9, "by": {"cat": 1, "dog": 2, "list": [1, 2]}, "name": "x"}', "models/score.yaml": "f1: 0.5\n",
    "sub/here.json": '{"r2": 0.1}', "each/a.json": '{"a": 1}', "each/b.json": '{"b": 2}', "top.toml": "top = 3\n", "params.yaml": "lr: 0.1\nnet: {depth: 3}\nunused: [1, 2]\n",
    "other.json": '{"size": 7, "rest": 8}', "whole.toml": "x = true\n", "more/p.yaml": "p: 1e-3\n", "logs.csv": "epoch,loss,acc\n0,1,0.1\n", "curves/train.tsv": "step\tloss\n0\t1\n",
    "curves/deep/eval.tsv": "step\tloss\n0\t1\n", "sub/other.tsv": "f1\n1\n", "picture.png": b"\x89PNG", "each/readme.txt": "no",
}  # fmt: skip


def declare(repository: Repository, files: dict[str, str | bytes]) -> Declared:
    tree, contents = read(repository, files)
    return find_declared(tree, {path: contents[path] for path in find_pipelines(tree)})


def test_every_documented_place_of_dvc_yaml_is_read(repository: Repository) -> None:
    found = declare(repository, FILES)
    assert sorted(found.metrics) == sorted(["metrics.json", "models/score.yaml", "kept.json", "sub/here.json", "each/a.json", "each/b.json", "top.toml"])
    assert sorted(found.params) == sorted(["params.yaml", "other.json", "whole.toml", "more/p.yaml"])
    assert found.cached == {"kept.json"}
    assert found.plots["logs.csv"].lines == (PlotLine("logs.csv", "epoch", "loss"),) and found.plots["logs.csv"].title == "<b>Loss</b>"
    assert sorted(found.plots) == ["both", "curves/deep/eval.tsv", "curves/train.tsv", "logs.csv"]
    assert found.plots["both"].lines == tuple(
        PlotLine(file, "epoch", y, "logs.csv") for file, y in (("logs.csv", "loss"), ("logs.csv", "acc"), ("sub/other.tsv", "f1"))
    )
    assert found.notices == ["picture.png is a picture. Only tables (CSV, TSV, JSON, YAML) are drawn."]


def test_dvc_reads_the_same(repository: Repository) -> None:
    """DVC's own `metrics show` and `params show` name the same files and the same values."""
    tree, contents = read(repository, FILES)
    found = find_declared(tree, {path: contents[path] for path in find_pipelines(tree)})
    repository.commit()

    def ask(kind: str) -> dict[str, Any]:
        env = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(repository.path.parent / "site")}
        script = f"import json; from dvc.repo import Repo; print(json.dumps(Repo('.').{kind}.show(), default=str))"
        done = subprocess.run([sys.executable, "-c", script], cwd=repository.path, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        (said,) = json.loads(done.stdout).values()
        return {path: flatten(file["data"], lists=True)[0] for path, file in said["data"].items() if "data" in file}

    ours = {path: parse_values(path, contents[path], lists=False)[0] for path in found.metrics if path in contents}
    assert ours == ask("metrics")
    ours = {path: parse_values(path, contents[path], lists=True)[0] for path in found.params}
    theirs = ask("params")
    assert sorted(ours) == sorted(theirs)
    for path, values in theirs.items():  # DVC shows only the keys that stages name
        assert {name: ours[path].get(name) for name in values} == values, path


def test_without_dvc_yaml_the_usual_files_are_read(repository: Repository) -> None:
    found = declare(repository, {"metrics.json": "{}", "params.yaml": "a: 1", "scores.json": "{}"})
    assert (found.metrics, found.params, found.notices) == (["metrics.json"], ["params.yaml"], [])


def test_a_subdirectory_s_pipeline_has_its_own_paths(repository: Repository) -> None:
    text = "metrics: [m.json, ../up.json, ../../out.json, /etc/passwd, 's3://x/y.json']\n"
    found = declare(repository, {"a/b/dvc.yaml": text, "a/b/m.json": "{}", "a/up.json": "{}", "a/b/params.yaml": "x: 1"})
    assert found.metrics == ["a/b/m.json", "a/up.json", "out.json"] and found.params == ["a/b/params.yaml"]


@pytest.mark.parametrize("text", ["- a", "stages: 3", "stages: {x: [1]}", "metrics: {a: {b: 1}}", "plots: {p: {y: {f: [1, {}]}}}", "params: 7", "stages: {x: {params: x, plots: 3}}", "x: ["])
def test_odd_pipelines_raise_nothing(repository: Repository, text: str) -> None:
    declare(repository, {"dvc.yaml": text})


def test_many_templates_end_soon(repository: Repository) -> None:
    names = "".join(f"- {'x${i}' * 40}{n}.json\n" for n in range(2000))
    found = declare(repository, {"dvc.yaml": f"metrics:\n{names}", **{f"{'x' * 100}{n}.json": "{}" for n in range(20)}})
    assert any("the rest is left out" in notice for notice in found.notices)


# --- values ---


def test_values_are_flattened_by_dots() -> None:
    assert parse_values("m.json", b'{"a": {"b": 1, "c": null}, "d": true, "e": [1, "x", {}]}', lists=True) == ({"a.b": 1, "a.c": None, "d": True, "e": "[1, x, \xe2\x80\xa6]".encode("latin-1").decode()}, False)
    assert parse_values("m.json", b'{"a": [1], "b": 2}', lists=False) == ({"b": 2}, False)
    assert parse_values("m.yaml", b"0.5", lists=False) == ({"value": 0.5}, False)
    assert parse_values("m.toml", b"[t]\nwhen = 2026-01-01\n", lists=True)[0] == {"t.when": "2026-01-01"}


def test_what_json_can_t_hold_becomes_text() -> None:
    values, _ = parse_values("m.json", b'{"a": NaN, "b": Infinity, "c": 1e999, "d": ' + b"9" * 100 + b"}", lists=False)
    assert values == {"a": "nan", "b": "inf", "c": "inf", "d": "about 2^333"}
    json.loads(json.dumps(values), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("path", "content"),
    [("m.json", b"{"), ("m.json", b"[" * 100_000), ("m.toml", b"="), ("m.yaml", b"a: [" * 200), ("m.json", b"\xff"), ("p.py", b"x = 1"), ("m.json", b"1" * 5000), ("m.json", b" " * 2**21)],
)  # fmt: skip
def test_what_can_t_be_read_is_said_with_its_file(path: str, content: bytes) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_values(path, content, lists=True)
    assert caught.value.file == path


def test_bombs_are_cut() -> None:
    aliases = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}, z: *a{n - 1}}}\n" for n in range(1, 30))
    values, more = parse_values("m.yaml", aliases.encode(), lists=True)
    assert more and len(values) <= MAX_VALUES
    empty = "a0: &a0 {}\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 15))
    assert parse_values("m.yaml", empty.encode(), lists=True)[0]["a14"].startswith("[…, …")  # type: ignore[union-attr]
    hollow = "a0: &a0 {}\n" + "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 18))
    assert parse_values("m.yaml", hollow.encode(), lists=True)[1]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_whatever_a_file_says_is_bounded_plain_and_kept_as_it_is(value: Any) -> None:
    values, _ = flatten(value, lists=True)
    for name, scalar in values.items():
        assert len(name) <= 201 and len(name.encode()) and "\x1b" not in name and "\n" not in name
        assert not isinstance(scalar, str) or len(scalar) <= MAX_TEXT + 1
        assert not isinstance(scalar, float) or math.isfinite(scalar)
    measured = Measured({"m": values}, {}, ("x",))
    assert load_measured(measured.dump()) == measured
    json.loads(measured.dump(), parse_constant=pytest.fail)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["m.json", "m.yaml", "m.toml"]))
def test_any_bytes_are_values_or_an_error_with_the_file(content: bytes, path: str) -> None:
    try:
        parse_values(path, content, lists=True)
    except RecipeError as error:
        assert error.file == path


def test_deltas_have_a_sign_and_no_noise() -> None:
    assert [format_delta(find_delta(a, b)) for a, b in ((0.8, 0.9), (0.9, 0.8), (3, 5), (0.1 + 0.2, 0.3), (1, 1), (True, 2), ("x", 1), (None, 1), (1e308, -1e308))] == [
        "+0.1", "-0.1", "+2", "0", "0", "", "", "", "",
    ]  # fmt: skip
    assert [format_scalar(v) for v in (0.1234567, 3, True, None, "x", 1e-9)] == ["0.123457", "3", "true", "null", "x", "1e-09"]


@given(st.floats() | st.integers(), st.floats() | st.integers())
def test_any_two_numbers_have_a_delta_or_none(before: float, after: float) -> None:
    format_delta(find_delta(before, after))
    format_scalar(before)


def test_names_that_two_files_share_are_told_apart() -> None:
    assert Measured({"a.json": {"x": 1, "y": 2}, "b.json": {"x": 3}}, {}).list_metrics() == [("a.json: x", 1), ("y", 2), ("b.json: x", 3)]


# --- commits ---


def test_the_metrics_of_branches_are_read_from_git_and_remembered(server: Server, tmp_path: Path) -> None:
    bare = make_repository(server.root, "x")
    work = Repository(tmp_path / "work")
    work.commit({"dvc.yaml": "stages: {t: {cmd: x, metrics: [kept.json, big.json: {cache: false}, metrics.json: {cache: false}]}}\n", "metrics.json": '{"acc": 0.8}', "params.yaml": "lr: 1\n", "big.json": " " * 2**21})
    for branch, content in (("better", '{"acc": 0.9}'), ("broken", "{")):
        work.git("checkout", "--quiet", "-b", branch, "main")
        work.commit({"metrics.json": content})
    work.git("push", "--quiet", str(bare), "--all")
    repo = parse_repo_url(f"{server.url}/git/x.git")
    options = HubDock(state_dir=str(tmp_path / "state"), allowed_hosts=[repo.origin])
    reader = Reader(options, Database(options.database_url))
    remote = reader.make_remote(repo, LOCAL)
    heads = list_branches(remote).heads
    server.requests.clear()
    found = read_metrics(reader, remote, heads)
    assert sum(path.endswith("/git-upload-pack") for _, path in server.requests) <= 6, "three fetches for three branches"
    assert {branch: found[commit].metrics for branch, commit in heads.items()} == {"main": {"metrics.json": {"acc": 0.8}}, "better": {"metrics.json": {"acc": 0.9}}, "broken": {}}
    assert found[heads["main"]].params == {"params.yaml": {"lr": 1}}
    told = " ".join(found[heads["main"]].notices)
    assert "kept.json is kept by DVC" in told and "big.json is not read: it is over 1 MiB" in told
    assert "metrics.json: This is not valid JSON" in " ".join(found[heads["broken"]].notices)
    server.requests.clear()
    assert read_metrics(reader, remote, heads) == found and not server.requests
