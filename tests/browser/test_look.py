"""Every page as people see it: axe-core finds nothing that shuts anybody out, light and dark, wide and small; the headers of each are strict."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from config.demo.server import Server
from tests.browser.conftest import Windows, check_axe, check_width, each_look, log_in, take_picture
from tests.kit.hub import Hub
from tests.kit.repos import Project, make_requirements

REQUIREMENTS = make_requirements("tabulate==0.9.0")
SLOW = "import time; time.sleep(120)\n"
# Name, address below /services/hubdock/, and what is there once the page is drawn. `{repo}` and builds' ids are filled in.
PAGES = [
    ("choose-empty", "", "#repo"),
    ("choose", "?repo={repo}&ref=vgg19", "#plan-panel"),
    ("choose-problem", "?repo=ext%3A%3Ax&ref=main", "#repo-problem"),
    ("board", "board?repo={repo}", "main th:text('accuracy')"),
    ("compare", "compare?repo={repo}&refs=main&refs=vgg19&refs=slow-rate", "main table"),
    ("notebook", "compare/notebook?repo={repo}&before=main&after=vgg19&path=baseline.ipynb", ".cell"),
    ("workspaces", "workspaces", "#workspaces"),
    ("admin", "admin", "#ended"),
    ("watch", "builds/{slow}", "#log"),
    ("watch-failed", "builds/{failed}", "#error"),
    ("error", "builds/00000000000000000000000000000000", "[role=alert]"),
]


def make_notebook(title: str, rate: float) -> str:
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {title}"},
        {"cell_type": "code", "id": "train", "metadata": {}, "execution_count": 1, "source": f"fit(rate={rate})", "outputs": [{"output_type": "stream", "name": "stdout", "text": f"rate {rate}\n"}]},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def write_hypothesis(project: Project, branch: str, rate: float, accuracy: float, message: str, *more: str) -> None:
    losses = [{"step": step, "loss": round(1 / (1 + rate * step * 40), 4)} for step in range(20)]
    project.write_all({
        "params.yaml": f"train:\n  rate: {rate}\n  epochs: 20\n", "metrics.json": json.dumps({"accuracy": accuracy, "loss": losses[-1]["loss"]}),
        "plots/loss.json": json.dumps(losses), "baseline.ipynb": make_notebook(f"Digits: {branch}", rate), "requirements.txt": REQUIREMENTS + "".join(f"{line}\n" for line in more),
        "dvc.yaml": "metrics:\n- metrics.json\nparams:\n- params.yaml\nplots:\n- plots/loss.json:\n    x: step\n    y: loss\n",
    }).commit(message, branch=branch)  # fmt: skip


@pytest.fixture(scope="module")
def digits(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three hypotheses with metrics, params, plots and a notebook each."""
    project = Project(server, tmp_path_factory.mktemp("look"), "digits")
    project.write_all({"README.md": "# digits\n", "train.py": "print(1)\n", "requirements.txt": REQUIREMENTS})
    write_hypothesis(project, "main", 0.01, 0.917, "Train the baseline on all digits")
    write_hypothesis(project, "vgg19", 0.02, 0.964, "Try VGG19, frozen up to the last block", "humanize==4.9.0")
    write_hypothesis(project, "slow-rate", 0.001, 0.889, "Learn ten times slower")
    project.write_all({"requirements.txt": make_requirements("./slow"), "slow/setup.py": SLOW}).commit("Rotate the digits by up to ten degrees", branch="augment/rotate")
    project.write_all({"requirements.txt": make_requirements("tornado==4.5.3")}).commit("Double the width of each layer", branch="wider-network")
    return project


@pytest.fixture(scope="module")
def filled(hub: Hub, digits: Project) -> Iterator[dict[str, str]]:
    """What the addresses of the pages are filled in with: a server that runs, a build that goes on, one that failed."""
    token = hub.make_token("alice")
    slow, failed = (hub.service("POST", "builds", {"repo": digits.url, "ref": ref}, token=token).json()["id"] for ref in ("augment/rotate", "wider-network"))
    running = hub.start_server("alice", "look", {"repo": digits.url, "ref": "main"})
    hub.wait_for(lambda: hub.service("GET", f"builds/{failed}").json()["phase"] == "failed", 120, "it fails", pause=1)
    yield {"repo": quote(digits.url, safe=""), "slow": slow, "failed": failed}
    hub.service("DELETE", f"builds/{slow}", token=token)
    running.stop()


def test_every_page_can_be_read_by_all(windows: Windows, hub: Hub, filled: dict[str, str]) -> None:
    """axe-core finds no serious violation, and no page is wider than its window."""
    page = windows.open()
    log_in(page, hub, "alice")
    found = []
    for name, path, there in PAGES:
        page.set_extra_http_headers({"Authorization": f"token {hub.token}"} if name == "admin" else {})  # that of who administrates
        page.goto(f"{hub.url}/services/hubdock/{path.format(**filled)}")
        expect(page.locator(there).first).to_be_visible(timeout=20_000)
        page.wait_for_timeout(500)  # what scripts still draw
        if name == "compare":
            page.locator("main h2").first.evaluate("(heading) => heading.scrollIntoView()")
        take_picture(page, name)
        for look in each_look(page):
            take_picture(page, f"{name} {look}")
            try:
                check_axe(page)
                check_width(page)
            except AssertionError as error:
                found.append(f"{name}, {look}: {error}")
    page.goto(f"{hub.url}/hub/home")
    check_axe(page, within="#hubdock")
    assert not found, "\n".join(found)


def test_pages_and_hub_are_light_or_dark_together(windows: Windows, hub: Hub) -> None:
    """The button is the hub's: what is chosen on one page holds on the others, and without JavaScript the browser's own wish holds."""
    page = windows.open(theme="dark")
    log_in(page, hub, "alice")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.get_by_role("button", name="Light or dark").click()
    light = page.evaluate(colour)
    assert light != dark
    page.goto(f"{hub.url}/hub/home")
    assert page.evaluate(colour) == light
    page.click("#dark-theme-toggle")
    page.goto(f"{hub.url}/services/hubdock/workspaces")
    assert page.evaluate(colour) == dark
    for theme, expected in (("light", light), ("dark", dark)):
        plain = windows.open(theme=theme, javascript=False)
        log_in(plain, hub, "alice")
        assert plain.evaluate(colour) == expected
        expect(plain.get_by_role("button", name="Light or dark")).to_be_hidden()


def test_the_keyboard_reaches_the_content_first(page: Page, hub: Hub) -> None:
    """A link that is seen once it has the focus leads past the navigation, which says where one is."""
    log_in(page, hub, "alice")
    page.goto(f"{hub.url}/services/hubdock/workspaces")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("nav [aria-current=page]")).to_have_text("Workspaces")


def test_headers_of_all_pages_are_strict(hub: Hub, filled: dict[str, str]) -> None:
    """Nothing inline and no other host, on every page and whatever a page links to below the service."""
    prefix = "/services/hubdock/"
    with hub.browser("alice") as browser:
        waiting, seen = [prefix + path.format(**filled) for _, path, _ in PAGES], set()
        while waiting and len(seen) < 60:
            path = waiting.pop(0)
            if path in seen or path.endswith("/events"):
                continue
            seen.add(path)
            answer = browser.client.get(path, follow_redirects=False)
            policy = answer.headers.get("Content-Security-Policy", "")
            assert "default-src 'none'" in policy, (path, answer.status_code, policy)
            assert not re.search(r"unsafe-eval|https?:|\*|script-src[^;]*unsafe|(?<!style-src )'unsafe-inline'", policy), (path, policy)
            assert "'unsafe-inline'" not in policy or "sandbox" in policy, (path, policy)
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                waiting += [link.partition("#")[0].replace("&amp;", "&") for link in re.findall(rf'(?:href|src)="({prefix}[^"]*)"', answer.text)]
    assert len(seen) >= len(PAGES)
