"""Branches compared, from a real git server: numbers, words, notebooks, plots and histories; and whoever may not read gets nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server, make_repository
from hubdock.core.asker import LOCAL
from hubdock.core.errors import AccessDenied, HubDockError, InvalidOption, RefNotFound, RepoNotAllowed
from hubdock.core.repo import RepoURL, parse_repo_url
from hubdock.engine.compare import Comparison, compare
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.reading import Reader
from tests.unit.conftest import Repository

DVC = {".dvc/config": "[core]\nremote = r\n['remote \"r\"']\nurl = s3://bucket/x\n"}
PIPELINE = "stages:\n  t:\n    cmd: x\n    metrics:\n    - metrics.json: {cache: false}\n    plots:\n    - loss.csv: {x: epoch, y: loss, title: Loss, cache: false}\n"


def make_out(name: str, digit: str, size: int) -> dict[str, str]:
    return {f"{name}.dvc": f"outs:\n- {{md5: {digit * 32}, hash: md5, path: {name}, size: {size}}}\n"}


def make_files(acc: float, **more: str) -> dict[str, str | bytes]:
    return {"metrics.json": json.dumps({"acc": acc, "n": 5}), "loss.csv": f"epoch,loss\n0,{1 - acc}\n1,{0.5 - acc / 4}\n", **more}


@pytest.fixture
def repo(server: Server, tmp_path: Path) -> RepoURL:
    bare = make_repository(server.root, "x")
    work = Repository(tmp_path / "work")
    base = {**DVC, **make_out("old.bin", "a", 10), **make_out("set", "b", 2048), "dvc.yaml": PIPELINE, "params.yaml": "lr: 1e-3\nseed: 1\n", "requirements.txt": "numpy==1.26\nscipy==1.11\n", "a.ipynb": "{}", "gone.ipynb": "{}"}
    work.commit({**base, **make_files(0.7)})
    work.commit(make_files(0.8))
    work.git("checkout", "--quiet", "-b", "deep")
    work.commit({**make_files(0.85), **make_out("set", "c", 4096), **make_out("new.bin", "d", 7), "params.yaml": "lr: 1e-4\nseed: 1\nlayers: 50\n", "requirements.txt": "numpy==2.1\nscipy==1.11\nxgboost==3.2\n", "a.ipynb": "{ }", "new.ipynb": "{}"})
    for name in ("old.bin.dvc", "gone.ipynb"):
        (work.path / name).unlink()
    work.commit(make_files(0.9))
    work.git("checkout", "--quiet", "-b", "odd", "main")
    work.commit({"metrics.json": '{"acc": "<b>n/a</b>", "extra": 1}', "requirements.txt": "-r /etc/passwd\n", "loss.csv": "epoch,loss\nx,y\n"})
    work.git("push", "--quiet", str(bare), "--all")
    return parse_repo_url(f"{server.url}/git/x.git")


@pytest.fixture
def reader(repo: RepoURL, tmp_path: Path) -> Reader:
    options = HubDock(state_dir=str(tmp_path / "state"), allowed_hosts=[repo.origin])
    return Reader(options, Database(options.database_url))


@pytest.fixture
def found(reader: Reader, repo: RepoURL) -> Comparison:
    return compare(reader, repo, LOCAL, ["odd", "deep", "main"])[1]


def values_of(rows: Any, branches: list[str]) -> dict[str, dict[str, tuple[Any, Any]]]:
    return {row.name: {branch: (cell.value if cell.there else "absent", cell.delta) for branch, cell in zip(branches, row.cells, strict=True)} for row in rows}


def test_numbers_stand_beside_each_other_with_their_differences(found: Comparison) -> None:
    branches = [side.branch for side in found.sides]
    assert branches[found.base] == "main", "the default branch, wherever it was chosen"
    assert values_of(found.metrics, branches) == {
        "acc": {"odd": ("<b>n/a</b>", None), "deep": (0.9, 0.1), "main": (0.8, None)},
        "extra": {"odd": (1, None), "deep": ("absent", None), "main": ("absent", None)},
        "n": {"odd": ("absent", None), "deep": (5, 0), "main": (5, None)},
    }
    params = {row.name: row.differs for row in found.params}
    assert params == {"lr": True, "seed": False, "layers": True}
    assert values_of(found.params, branches)["lr"]["deep"][0] == 1e-4


def test_packages_data_and_notebooks_are_told_in_words(found: Comparison) -> None:
    deep = next(one for one in found.differences if one.branch == "deep")
    assert deep.requirements == ("requirements.txt: + xgboost 3.2", "requirements.txt: numpy 1.26 → 2.1")
    assert [(change.path, change.change, change.before, change.after) for change in deep.data] == [
        ("new.bin", "added", None, 7), ("old.bin", "removed", 10, None), ("set", "changed", 2048, 4096),
    ]  # fmt: skip
    assert [one.readable for one in found.differences] == [False, True], "odd's requirements are no good: nothing is said of them"
    assert deep.notebooks == (("a.ipynb", "changed"), ("gone.ipynb", "removed"), ("new.ipynb", "added"))


def test_plots_and_histories_have_a_line_for_each_branch(found: Comparison) -> None:
    (plot,) = found.plots
    assert (plot.title, plot.x_label, plot.y_label, plot.columns) == ("Loss", "epoch", "loss", ("deep", "main"))
    (history,) = found.history
    series = {one.name: one.points for one in history.series}
    assert series["deep"] == ((-3, 0.7), (-2, 0.8), (-1, 0.85), (0, 0.9)) and series["main"] == ((-1, 0.7), (0, 0.8))


def test_what_can_t_be_read_is_a_notice_of_its_branch(found: Comparison) -> None:
    told = {branch: text for branch, text in found.notices}
    assert set(told) == {"odd"}
    texts = " ".join(text for _, text in found.notices)
    assert "requirements.txt:1" in texts and "loss.csv has no numbers in loss over epoch" in texts


def test_the_second_time_nothing_is_fetched(found: Comparison, reader: Reader, repo: RepoURL, server: Server) -> None:
    server.requests.clear()
    again = compare(reader, repo, LOCAL, ["odd", "deep", "main"])[1].as_dict()
    assert again == found.as_dict() and len(server.requests) == 2, "one ls-remote, and nothing else"
    json.dumps(again, allow_nan=False)


def test_another_base_may_be_chosen(reader: Reader, repo: RepoURL) -> None:
    _, found = compare(reader, repo, LOCAL, ["main", "deep"], "deep")
    assert found.sides[found.base].branch == "deep" and found.metrics[0].cells[0].delta == -0.1
    _, found = compare(reader, repo, LOCAL, ["main", "deep"], "odd")
    assert [side.branch for side in found.sides] == ["odd", "main", "deep"] and found.base == 0


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [(["main"], InvalidOption, "two branches or more"), (["main", "main"], InvalidOption, "two"), (["main", "dep"], RefNotFound, "Did you mean deep?"), ([str(n) for n in range(9)], InvalidOption, "at most 8")],
)  # fmt: skip
def test_a_wrong_choice_is_told_beside_the_branches(reader: Reader, repo: RepoURL, wanted: list[str], error: type[HubDockError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        compare(reader, repo, LOCAL, wanted)
    assert caught.value.field == "refs"


def test_only_the_catalogue_where_the_admin_wants_that(reader: Reader, repo: RepoURL) -> None:
    reader.settings.free_choice = False
    with pytest.raises(RepoNotAllowed):
        compare(reader, repo, LOCAL, ["main", "deep"])


def test_missing_and_unreadable_answer_alike_even_when_it_is_known_here(found: Comparison, reader: Reader, repo: RepoURL, server: Server) -> None:
    answers = []
    server.password = "team:secret"
    for url in (repo.url, f"{server.url}/git/none.git"):
        with pytest.raises(AccessDenied) as caught:
            compare(reader, parse_repo_url(url), LOCAL, ["main", "deep"])
        answers.append((caught.value.field, caught.value.message.replace("/none", "/x")))
    assert answers[0] == answers[1]
