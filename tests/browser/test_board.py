"""The board in a real browser: what it tells, what its buttons do, and to whom it tells nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from config.demo.server import Server
from tests.browser.conftest import SMALL, Windows, check_axe, log_in, take_picture
from tests.kit.hub import Hub
from tests.kit.repos import Project

HOSTILE = "<img src=x onerror=alert(1)> \u202egnp.exe"


@pytest.fixture
def hypotheses(project: Project) -> Project:
    """Three branches: two share an environment, each has metrics of its own."""
    project.write_all({"README.md": "# digits\n", "metrics.json": '{"accuracy": 0.9, "loss": 0.31}', "params.yaml": "depth: 3\n"}).commit("A first try")
    for branch, accuracy, more in (("vgg19", 0.953, {}), ("xgboost", 0.97, {"requirements.txt": "xgboost==3.2\n"})):
        project.git("checkout", "--quiet", "-b", branch, "main")
        project.write_all({"metrics.json": f'{{"accuracy": {accuracy}, "loss": 0.12}}', **more}).commit(f"Try {branch}")
    return project


def row(page: Page, branch: str) -> Locator:
    return page.locator(f'tr[data-row="{branch}"]')


def open_board(page: Page, hub: Hub, query: str = "") -> None:
    page.goto(f"{hub.url}/services/hubdock/board{query}")
    expect(page.locator("#board")).to_have_attribute("data-waiting", "0", timeout=30_000)


def test_three_branches_on_one_page(windows: Windows, hub: Hub, hypotheses: Project) -> None:
    """Metrics, environments and commits of all of them, without a server; the server that runs, and whose it is."""
    page = windows.open()
    log_in(page, hub, "alice")
    open_board(page, hub, f"?repo={hypotheses.url}")
    expect(page.locator("tr[data-row]")).to_have_count(3)
    expect(page.get_by_role("columnheader", name="accuracy")).to_be_visible()
    expect(row(page, "main")).to_contain_text("A first try")
    expect(row(page, "main")).to_contain_text("shared with vgg19")
    expect(row(page, "xgboost")).to_contain_text("its own")
    for branch, accuracy in (("main", "0.9"), ("vgg19", "0.953"), ("xgboost", "0.97")):
        expect(row(page, branch).get_by_role("cell", name=accuracy, exact=True)).to_be_visible()
    check_axe(page)
    take_picture(page, "board")
    page.fill("#q", "vgg")
    expect(page.locator("tr[data-row]:visible")).to_have_count(1)
    page.fill("#q", "")
    page.get_by_role("checkbox", name="Compare main").check()
    page.get_by_role("checkbox", name="Compare xgboost").check()
    page.get_by_role("button", name="Compare selected").click()
    page.wait_for_url(re.compile(r"/compare\?repo=[^&]+(?=.*&refs=main)(?=.*&refs=xgboost)(?!.*&refs=vgg19)"))
    expect(page.get_by_role("main")).to_contain_text("accuracy")
    open_board(page, hub, f"?repo={hypotheses.url}")
    row(page, "vgg19").get_by_role("link", name="New branch from vgg19").click()
    expect(page.locator("#new_branch")).to_be_focused()
    expect(page.locator("#repo")).to_have_value(hypotheses.url)
    expect(page.locator("#ref")).to_have_value("vgg19")


def test_start_open_and_stop_from_the_board(windows: Windows, hub: Hub, hypotheses: Project) -> None:
    """One button starts with the defaults and leads to the page that watches; everybody who may read the repository sees whose server runs."""
    page = windows.open(javascript=False)
    log_in(page, hub, "alice")
    open_board(page, hub, f"?repo={hypotheses.url}")
    row(page, "vgg19").get_by_role("button", name="Start vgg19").click()
    page.wait_for_url(re.compile(r"/builds/[0-9a-f]{32}|/spawn-pending/|/user/"))
    hub.wait_for(lambda: [server for server in hub.api("GET", "users/alice").json()["servers"].values() if server["ready"] and server["user_options"]["repo"] == hypotheses.url], 120, "it runs")
    other = windows.open(SMALL, "dark")
    log_in(other, hub, "bob")
    open_board(other, hub, f"?repo={hypotheses.url}")
    expect(row(other, "vgg19")).to_contain_text("alice")
    expect(row(other, "vgg19").get_by_role("button", name="Start vgg19")).to_be_visible()
    check_axe(other)
    take_picture(other, "board-small")
    page.wait_for_url(re.compile("/user/alice/"), timeout=60_000)  # it leads there by itself, and would again while another page is opened
    open_board(page, hub, "?running=1&mine=1&fresh=1")  # the repository is known by now: it is one of her own
    mine = row(page, "vgg19")
    expect(mine.get_by_role("link", name="Open vgg19")).to_have_attribute("href", re.compile("^/user/alice/"))
    mine.get_by_role("button", name="Stop your server on vgg19").click()
    page.wait_for_url(re.compile(r"/board\?mine=1&running=1$"))
    hub.wait_for(lambda: not [server for server in hub.api("GET", "users/alice").json()["servers"].values() if server["user_options"]["repo"] == hypotheses.url], 60, "it is stopped")


def test_without_javascript_details_come_with_the_next_look(windows: Windows, hub: Hub, hypotheses: Project) -> None:
    page = windows.open(javascript=False)
    log_in(page, hub, "erin")
    page.goto(f"{hub.url}/services/hubdock/board?repo={hypotheses.url}")
    expect(page.locator("tr[data-row]")).to_have_count(3)
    for _ in range(10):
        more = page.get_by_role("link", name="Load details")
        if not more.count():
            break
        more.click()
    expect(row(page, "xgboost")).to_contain_text("0.97")
    page.fill("#q", "xgboost")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tr[data-row]")).to_have_count(1)
    page.fill("#repo", f"{hypotheses.url}-not")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#repo-problem")).to_contain_text("There is no repository")
    expect(page.locator("#repo")).to_be_focused()
    assert page.input_value("#q") == "xgboost"


def test_a_repository_that_i_may_not_read_is_not_there(windows: Windows, hub: Hub, locked: Server, tmp_path: Path) -> None:
    """Whoever starts it sees it; to all others it is like one that does not exist, on the page, in the page's source and in the API."""
    secret = Project(locked, tmp_path, "secret-project", push_as="team:only-for-tests")
    secret.write_all({"metrics.json": '{"hidden": 1}'}).commit("A secret")
    page = windows.open()
    log_in(page, hub, "carol")
    open_board(page, hub, f"?repo={secret.url}")
    expect(row(page, "main")).to_contain_text("A secret")
    hub.service("POST", "builds", {"repo": secret.url, "ref": "main"}, token=hub.make_token("carol"))
    open_board(page, hub)
    expect(page.get_by_role("heading", name=re.compile("secret-project"))).to_be_visible()
    other = windows.open()
    log_in(other, hub, "bob")
    hub.service("POST", "builds", {"repo": secret.url, "ref": "main"}, token=hub.make_token("bob"))
    open_board(other, hub, "?fresh=1")
    assert "secret" not in other.content() and locked.url not in other.content()
    assert "secret" not in hub.service("GET", "board", token=hub.make_token("bob")).text
    told = []
    for name in (secret.remote_name, "nothing-here"):
        other.goto(f"{hub.url}/services/hubdock/board?repo={locked.url}/git/{name}.git")
        told.append(other.locator("#repo-problem").inner_text().replace(name, "x"))
    assert told[0] == told[1]


def test_hostile_text_is_text(windows: Windows, hub: Hub, project: Project) -> None:
    """Names, messages and metrics of strangers are shown as they are written, and run nothing."""
    project.write_all({"metrics.json": '{"<b>x</b>": "<script>alert(1)</script>", "y": "\\u001b[31mred"}', "requirements.txt": "<img/onerror=alert(1)>\n"})
    project.git("config", "user.name", HOSTILE)
    project.commit(HOSTILE + "x" * 10_000)
    project.push("<img/src=x/onerror=alert(1)>")
    page = windows.open()
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    log_in(page, hub, "dave")
    open_board(page, hub, f"?repo={project.url}")
    expect(row(page, "<img/src=x/onerror=alert(1)>")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.get_by_role("columnheader", name="<b>x</b>")).to_be_visible()
    assert page.locator("#board img, #board script, #board b").count() == 0
    assert "\u202e" not in page.content() and "\x1b" not in page.content()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    check_axe(page)


def test_the_administrators_page(windows: Windows, hub: Hub, hypotheses: Project) -> None:
    """Builds with their logs, the queue, and the disk; nobody else sees it."""
    build = hub.service("POST", "builds", {"repo": hypotheses.url, "ref": "main"}, token=hub.make_token("alice")).json()["id"]
    hub.wait_for(lambda: hub.service("GET", f"builds/{build}").json()["finished"], 60, "it has ended")
    page = windows.open()
    log_in(page, hub, "bob")
    expect(page.get_by_role("link", name="Builds and disk")).to_have_count(0)
    refused = page.goto(f"{hub.url}/services/hubdock/admin")
    assert refused and refused.status == 403
    page = windows.open()
    page.set_extra_http_headers({"Authorization": f"token {hub.token}"})  # of a service with the administrators' scope
    page.goto(f"{hub.url}/services/hubdock/admin")
    ended = page.locator("#ended tr").filter(has=page.locator(f'a[href$="/builds/{build}/log"]'))
    expect(ended).to_contain_text("alice")
    expect(ended).to_contain_text("ready after")
    check_axe(page)
    hub.wait_for(lambda: page.reload() and page.locator("#disk").count(), 60, "the disk is measured", 1)
    expect(page.locator("#disk")).to_contain_text("Images")
    take_picture(page, "admin")
    page.get_by_role("button", name="Collect now").click()
    expect(page.get_by_role("status")).to_be_visible(timeout=60_000)
